"""The bank's business clock: real time plus an offset that only grows.

It decides expiry, acceptance and the day a movement is booked on. What proves freshness (``iat``, message
timestamps, ``created`` of a signature) stays on real time, else moving this clock would make every shop refuse
every message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

from deposit_token_sdk.sandbox.problems import Refused


def real_now() -> datetime:
    """The real time, aware, in UTC."""
    return datetime.now(UTC)


def day(text: str) -> tuple[datetime, datetime]:
    """The beginning of a day in UTC, and that of the next. Raises Refused (``malformed``)."""
    try:
        start = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        return start, start + timedelta(days=1)
    except (ValueError, OverflowError):
        raise Refused("malformed", f"{text[:20]!r} is no day: write 2026-11-24.") from None


_FARTHEST = timedelta(days=36_500)


class BusinessClock:
    """Tells business time; `advance` moves it on. Never goes backwards, even if the machine's clock does."""

    def __init__(self, offset: timedelta = timedelta(0), real: Callable[[], datetime] = real_now) -> None:
        self._offset = offset
        self._real = real
        self._lock = threading.Lock()
        self._latest = real() + offset

    @property
    def offset(self) -> timedelta:
        """How far business time is ahead of real time."""
        return self._offset

    def now(self) -> datetime:
        """Business time, at or after every time told before."""
        with self._lock:
            self._latest = max(self._latest, self._real() + self._offset)
            return self._latest

    def advance(self, by: timedelta) -> datetime:
        """Move business time on and return it. Raises Refused (``malformed``) if it would go backwards or too far."""
        if by < timedelta(0):
            raise Refused("malformed", "The business clock never goes backwards: advance by zero or more seconds.")
        with self._lock:
            if by > _FARTHEST - self._offset:
                raise Refused("malformed", "The business clock moves a hundred years at most.")
            self._offset += by
        return self.now()
