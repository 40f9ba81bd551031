"""The bank's public keys, fetched from one configured address or file and from nowhere else.

No message can name another place. A fetch is single-flight, happens at most once a minute, and a key that was not
found stays not found until then. A set older than ten minutes is fetched anew, so that a revoked key is not trusted
for longer; while the bank does not answer, the last set serves on and is asked for once a minute. Where no set was had
yet, nothing can be checked, which is no word on whether it is genuine: after a fetch that failed the next waits a few
seconds, and who comes meanwhile is told so at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from deposit_token_sdk.errors import BankRefused, BankUnavailable, ConfigurationError, NotGenuine, Unreadable
from deposit_token_sdk.exchange import Exchange, Request, pause
from deposit_token_sdk.retry import Retry, persist
from deposit_token_sdk.signing.keys import KeySet

T = TypeVar("T")

FETCH_INTERVAL: Final = 60.0
MAX_AGE: Final = 600.0
HOLD_OFF: Final = 5.0
"""Seconds after a failed fetch in which no other is begun, while there are no keys at all: not every message waits for
as long as a fetch takes, and a bank that has come up meanwhile is found by its next delivery."""
_WAIT: Final = 0.02


class BankKeys:
    """The key set of one bank. Times are seconds since 1970, told by the edge."""

    def __init__(
        self,
        url: str,
        file: str,
        thumbprints: frozenset[str],
        policy: Retry,
        parse: Callable[[bytes], KeySet] = KeySet.from_jwks,
    ) -> None:
        self._parse = parse
        self._url = url
        self._thumbprints = thumbprints
        self._policy = policy
        self._flights: dict[int, object] = {}  # by process: a fork in mid-flight must not keep the child waiting
        self._tried_at: float | None = None
        self._failed_at: float | None = None  # when the last fetch ended without keys, not when it began
        self._fetched_at: float | None = None
        self._keys: KeySet | None = None
        self._fixed = bool(file)
        if file:
            self._keys = self._read(_contents(file))

    def with_keys(self, check: Callable[[KeySet], T], now: float) -> Exchange[T]:
        """`check` with the keys known; if it meets an unknown one, once more with the keys fetched anew."""
        keys = self._keys
        if keys is None or self._is_stale(now):
            keys = yield from self._current(keys, now)
        try:
            return check(keys)
        except NotGenuine as error:
            if error.reason != "key_unknown" or (keys is self._keys and not self._may_fetch(now)):
                raise
        return check((yield from self._newer(keys, now)))

    def _current(self, known: KeySet | None, now: float) -> Exchange[KeySet]:
        try:
            return (yield from self._newer(known, now))
        except (BankUnavailable, BankRefused, Unreadable):
            if known is None:
                raise
            return known

    def _is_stale(self, now: float) -> bool:
        return self._fetched_at is not None and now - self._fetched_at > MAX_AGE and self._may_fetch(now)

    def _may_fetch(self, now: float) -> bool:
        if self._keys is None:
            return self._failed_at is None or abs(now - self._failed_at) >= HOLD_OFF
        return not self._fixed and (self._tried_at is None or abs(now - self._tried_at) >= FETCH_INTERVAL)

    def _newer(self, seen: KeySet | None, now: float) -> Exchange[KeySet]:
        """Newer keys than those seen, where there are any: one caller fetches, the others wait for what it gets."""
        process, mine = os.getpid(), object()
        flight = self._flights.setdefault(process, mine)
        if flight is mine:
            try:
                if self._keys is seen and self._may_fetch(now):
                    yield from self._fetch(now)
            finally:
                self._flights.pop(process, None)
        else:
            yield from self._landing(process, flight)
        if self._keys is None:
            raise BankUnavailable(
                "keys_unavailable",
                f"The bank's keys could not be fetched a moment ago, and are asked for again after {HOLD_OFF:g} s: try "
                f"again then. If that goes on, look at {self._url} from this machine: a JSON object is due there.",
            )
        return self._keys

    def _landing(self, process: int, flight: object) -> Exchange[None]:
        for _ in range(int(self._policy.deadline / _WAIT)):
            if self._flights.get(process) is not flight:
                return
            yield from pause(_WAIT)
        raise BankUnavailable("keys_unavailable", "The bank's keys are still being fetched: try again later.")

    def _fetch(self, now: float) -> Exchange[None]:
        self._tried_at = now
        try:
            self._keys = yield from self._download()
        except BankUnavailable:
            self._failed_at = (yield from pause(0.0)).at  # no time passes: it is asked for
            raise
        self._fetched_at = now

    def _download(self) -> Exchange[KeySet]:
        response = yield from persist(self._request, self._policy, idempotent=True)
        if response.status != 200:
            raise BankUnavailable(
                "keys_unavailable",
                f"The bank's key set answered {response.status} at {self._url}: check DEPOSIT_TOKEN_JWKS_URL.",
            )
        try:
            return self._read(response.body)
        except Unreadable as error:
            raise BankUnavailable(
                "keys_unavailable", f"What stands at {self._url} is no key set ({error}): check DEPOSIT_TOKEN_JWKS_URL."
            ) from None

    def _request(self, timeout: float) -> Request:
        return Request("GET", self._url, "GET jwks", {"accept": "application/json"}, timeout=timeout)

    def _read(self, content: bytes) -> KeySet:
        keys = self._parse(content)
        return keys.pinned(self._thumbprints) if self._thumbprints else keys


def _contents(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "setting_invalid", f"DEPOSIT_TOKEN_JWKS_FILE cannot be read ({type(error).__name__})."
        ) from None
