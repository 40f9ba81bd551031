"""The bank's public keys, fetched from one configured address or file and from nowhere else.

No message can name another place. A fetch is single-flight, happens at most once a minute, and a key that was not
found stays not found until then. A set older than ten minutes is fetched anew, so that a revoked key is not trusted
for longer; while the bank does not answer, the last set serves on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Final, TypeVar

from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    ConfigurationError,
    DepositTokenError,
    NotGenuine,
    Unreadable,
)
from deposit_token_sdk.exchange import Exchange, Request, pause
from deposit_token_sdk.retry import Retry, persist
from deposit_token_sdk.signing.keys import KeySet

T = TypeVar("T")

FETCH_INTERVAL: Final = 60.0
MAX_AGE: Final = 600.0
_WAIT: Final = 0.02
_WAITS: Final = 500


class BankKeys:
    """The key set of one bank. Times are seconds since 1970, told by the edge."""

    def __init__(self, url: str, file: str, thumbprints: frozenset[str], policy: Retry) -> None:
        self._url = url
        self._thumbprints = thumbprints
        self._policy = policy
        self._lock = Lock()
        self._fetching = False
        self._fetched_at: float | None = None
        self._keys: KeySet | None = None
        self._fixed = bool(file)
        if file:
            self._keys = self._read(_contents(file))

    def with_keys(self, check: Callable[[KeySet], T], now: float) -> Exchange[T]:
        """`check` with the keys known; if it meets an unknown one, once more with the keys fetched anew."""
        keys = yield from self._current(now)
        try:
            return check(keys)
        except NotGenuine as error:
            if error.reason != "key_unknown" or not self._may_fetch(now):
                raise
        keys = yield from self._fetched(now)
        return check(keys)

    def _current(self, now: float) -> Exchange[KeySet]:
        if self._keys is None:
            return (yield from self._fetched(now))
        if self._fetched_at is not None and now - self._fetched_at > MAX_AGE and self._may_fetch(now):
            try:
                return (yield from self._fetched(now))
            except (BankUnavailable, BankRefused, Unreadable):
                return self._keys
        return self._keys

    def _may_fetch(self, now: float) -> bool:
        return not self._fixed and (self._fetched_at is None or abs(now - self._fetched_at) >= FETCH_INTERVAL)

    def _fetched(self, now: float) -> Exchange[KeySet]:
        """The keys as the bank has them now: one caller fetches, the others wait for it."""
        for _ in range(_WAITS):
            with self._lock:
                mine = not self._fetching
                self._fetching = True
            if mine:
                return (yield from self._fetch(now))
            yield from pause(_WAIT)
            with self._lock:
                if not self._fetching and self._keys is not None:
                    return self._keys
        raise BankUnavailable("keys_unavailable", "The bank's keys are still being fetched: try again later.")

    def _fetch(self, now: float) -> Exchange[KeySet]:
        try:
            keys = yield from self._download()
        except DepositTokenError:
            if self._keys is not None:
                self._fetched_at = now
            raise
        else:
            self._fetched_at = now
            self._keys = keys
        finally:
            with self._lock:
                self._fetching = False
        return keys

    def _download(self) -> Exchange[KeySet]:
        response = yield from persist(self._request, self._policy, idempotent=True)
        if response.status != 200:
            raise BankUnavailable(
                "keys_unavailable",
                f"The bank's key set answered {response.status} at {self._url}: check DEPOSIT_TOKEN_JWKS_URL.",
            )
        return self._read(response.body)

    def _request(self, timeout: float) -> Request:
        return Request("GET", self._url, "GET jwks", {"accept": "application/json"}, timeout=timeout)

    def _read(self, content: bytes) -> KeySet:
        keys = KeySet.from_jwks(content)
        return keys.pinned(self._thumbprints) if self._thumbprints else keys


def _contents(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            "setting_invalid", f"DEPOSIT_TOKEN_JWKS_FILE cannot be read ({type(error).__name__})."
        ) from None
