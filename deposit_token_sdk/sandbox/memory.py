"""What the bank remembers of requests: the nonces it has seen, and the answer it gave under each idempotency key.

The answer is kept in the transaction that does the work, so that a bank killed at any moment has done it and
remembers, or neither. Keys live for a day of business time, so that a test can let one expire.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from hashlib import sha256

from attrs import frozen
from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import Moment, add, answers, nonces, rows

KEY_LIFE = timedelta(hours=24)
NONCE_LIFE = timedelta(minutes=15)


@frozen
class Kept:
    """An answer as it was given."""

    status: int
    body: str


def fingerprint(method: str, target: str, body: bytes) -> str:
    """What a request comes to: another one under the same key is refused."""
    return sha256(f"{method}\n{target}\n".encode() + body).hexdigest()


_OLD_ANSWERS = delete(answers).where(answers.c.at < bindparam("before"))


def recall(db: Connection, merchant: str, key: str, asked: str, now: datetime) -> Kept | None:
    """The answer given under this key. Raises Refused (``idempotency_key_reused``)."""
    named = {"merchant": merchant, "key": key}
    row = db.execute(rows(answers, *named), named).one_or_none()
    if row is None:
        return None
    if row.at < now - KEY_LIFE:
        db.execute(_OLD_ANSWERS, {"before": now - KEY_LIFE})
        return None
    if row.fingerprint != asked:
        raise Refused("idempotency_key_reused", "This Idempotency-Key came with another method, path or body.")
    return Kept(row.status, row.body)


def keep(db: Connection, merchant: str, key: str, asked: str, kept: Kept, now: datetime) -> None:
    """Remember the answer given under this key."""
    row = {"merchant": merchant, "key": key, "fingerprint": asked, "status": kept.status, "body": kept.body, "at": now}
    db.execute(add(answers), row)


_OLD_NONCES = delete(nonces).where(nonces.c.at < bindparam("before"))
_SPEND = (
    insert(nonces)
    .from_select(
        ["kid", "nonce", "at"],
        select(bindparam("key_id"), bindparam("number"), bindparam("moment", type_=Moment)).where(
            ~exists().where(nonces.c.kid == bindparam("key_id"), nonces.c.nonce == bindparam("number"))
        ),
    )
    .returning(nonces.c.kid)
)


def nonce_seen(db: Connection, kid: str, nonce: str, real: datetime) -> bool:
    """Whether this nonce came before; if not, it is remembered now."""
    return db.execute(_SPEND, {"key_id": kid, "number": nonce, "moment": real}).first() is None


def nonce_spent(db: Connection, kid: str, nonce: str) -> bool:
    """Whether this nonce came before, as committed last; nothing is remembered."""
    named = {"kid": kid, "nonce": nonce}
    return db.execute(rows(nonces, *named), named).first() is not None


def forget(db: Connection, now: datetime, real: datetime) -> None:
    """Throw away what has outlived its use: answers by business time, nonces by real time."""
    db.execute(_OLD_ANSWERS, {"before": now - KEY_LIFE})
    db.execute(_OLD_NONCES, {"before": real - NONCE_LIFE})


class InHand:
    """What is being worked on in this process: idempotency keys, and the nonces of requests on their way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[tuple[str, ...]] = set()

    def take(self, *what: str) -> bool:
        """Take it in hand; False if somebody has it."""
        with self._lock:
            free = what not in self._taken
            self._taken.add(what)
            return free

    def leave(self, *what: str) -> None:
        """Whoever took it is done with it."""
        with self._lock:
            self._taken.discard(what)

    @contextmanager
    def only(self, merchant: str, key: str) -> Iterator[None]:
        """Work on this key alone. Raises Refused (``idempotency_key_in_use``)."""
        if not self.take(merchant, key):
            raise Refused("idempotency_key_in_use", "A request with this Idempotency-Key is being worked on.")
        try:
            yield
        finally:
            self.leave(merchant, key)
