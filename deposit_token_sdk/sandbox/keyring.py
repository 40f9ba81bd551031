"""The bank's own keys, the merchants' public keys, and the webhook keys of each merchant's endpoint.

Statements, answers and webhook envelopes are signed with different keys. A rotated key stays in the published set;
a retired one carries the time it retired, a revoked one says so. These are keys of a toy bank: they lie in its
database as they are.
"""

from __future__ import annotations

import json
import secrets
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import Connection, Row, bindparam, insert, select, update

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, bank_keys, change, merchant_keys, rows, webhook_keys
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey, VerificationKey
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner

STATEMENT, ANSWER = "statement", "answer"
_ALGORITHMS = {STATEMENT: Algorithm.ES256, ANSWER: Algorithm.ED25519}


_NEWEST = (
    select(bank_keys.c.kid, bank_keys.c.algorithm, bank_keys.c.pem)
    .where(bank_keys.c.purpose == bindparam("purpose"))
    .where(bank_keys.c.retired_at.is_(None), bank_keys.c.revoked_at.is_(None))
    .order_by(bank_keys.c.seq.desc())
    .limit(1)
)
_OF_ENDPOINT = (
    select(webhook_keys.c.seq, webhook_keys.c.secret)
    .where(webhook_keys.c.merchant == bindparam("merchant"))
    .order_by(webhook_keys.c.seq.desc())
)
"""Asked at every request or message, and so written once."""


@lru_cache(maxsize=256)
def _signing_key(kid: str, algorithm: str, pem: str) -> SigningKey:
    return SigningKey.from_pem(pem, Algorithm(algorithm), kid)


@lru_cache(maxsize=256)
def _verification_key(jwk: str) -> VerificationKey:
    return VerificationKey.from_jwk(json.loads(jwk))


@lru_cache(maxsize=256)
def _webhook_signer(secret: str) -> WebhookSigner:
    return WebhookSigner(secret)


def current(db: Connection, purpose: str) -> SigningKey:
    """The bank's newest key for that purpose that is neither retired nor revoked; made if there is none."""
    found = newest(db, purpose)
    return rotate(db, purpose) if found is None else found


def newest(db: Connection, purpose: str) -> SigningKey | None:
    """The same, where there is one."""
    row = db.execute(_NEWEST, {"purpose": purpose}).one_or_none()
    return None if row is None else _signing_key(row.kid, row.algorithm, row.pem)


def rotate(db: Connection, purpose: str) -> SigningKey:
    """A new current key; the earlier ones stay as good as they were. Raises Refused (``malformed``)."""
    if purpose not in _ALGORITHMS:
        raise Refused("malformed", f"A key is for one of {', '.join(_ALGORITHMS)}, not for {purpose!r}.")
    key = SigningKey.generate(_ALGORITHMS[purpose], f"{purpose}-{secrets.token_hex(6)}")
    pem = key.to_pem().decode("ascii")
    db.execute(insert(bank_keys).values(kid=key.kid, purpose=purpose, algorithm=key.algorithm.value, pem=pem))
    return key


def retire(db: Connection, kid: str, at: datetime) -> None:
    """The key signs nothing from `at` on; what it signed before holds. Raises Refused (``malformed``).

    Statements are dated to the second: the key retires with the next one, so that none of its own comes too late.
    """
    _end(db, kid, retired_at=at.replace(microsecond=0) + timedelta(seconds=1))


def revoke(db: Connection, kid: str, at: datetime) -> None:
    """The key is worth nothing any more. Raises Refused (``malformed``)."""
    _end(db, kid, revoked_at=at)


def _end(db: Connection, kid: str, **when: datetime) -> None:
    purpose = db.execute(select(bank_keys.c.purpose).where(bank_keys.c.kid == kid)).scalar()
    if purpose is None:
        raise Refused("malformed", f"The bank has no key {kid!r}.")
    db.execute(update(bank_keys).where(bank_keys.c.kid == kid).values(when))
    current(db, purpose)


def revoked(db: Connection) -> frozenset[str]:
    """The ids of the bank's revoked keys."""
    return frozenset(db.execute(select(bank_keys.c.kid).where(bank_keys.c.revoked_at.is_not(None))).scalars())


def published(db: Connection) -> KeySet:
    """What stands at ``/.well-known/jwks.json``."""
    for purpose in _ALGORITHMS:
        current(db, purpose)
    return KeySet(tuple(_public(row) for row in db.execute(rows(bank_keys))))


def _public(row: Row[tuple[object, ...]]) -> VerificationKey:
    return _signing_key(row.kid, row.algorithm, row.pem).verification_key(
        purpose=row.purpose,
        retired_at=row.retired_at,
        revoked=row.revoked_at is not None,
        revoked_at=row.revoked_at,
    )


def enrol(db: Connection, merchant: str, key: VerificationKey) -> None:
    """Take a merchant's public key under its kid; the same one twice is fine. Raises Refused (``malformed``)."""
    known = db.execute(rows(merchant_keys, "kid"), {"kid": key.kid}).one_or_none()
    jwk = json.dumps(key.jwk())
    if known is None:
        db.execute(add(merchant_keys), {"kid": key.kid, "merchant": merchant, "jwk": jwk})
    elif known.merchant != merchant:
        raise Refused("malformed", f"The key id {key.kid!r} is another merchant's.")
    elif known.jwk != jwk:
        db.execute(change(merchant_keys, "kid"), {"which": key.kid, "jwk": jwk})


def merchant_key(db: Connection, kid: str) -> tuple[str, VerificationKey]:
    """The merchant that signs with `kid`, and its key. Raises NotGenuine (``key_unknown``)."""
    row = db.execute(rows(merchant_keys, "kid"), {"kid": kid}).one_or_none()
    if row is None:
        raise NotGenuine("key_unknown", f"The bank knows no merchant's key {kid[:80]!r}.")
    return row.merchant, _verification_key(row.jwk)


def keys_of(db: Connection, merchant: str) -> KeySet:
    """All public keys of one merchant."""
    found = db.execute(rows(merchant_keys, "merchant"), {"merchant": merchant})
    return KeySet(tuple(_verification_key(row.jwk) for row in found))


def add_webhook_key(db: Connection, merchant: str) -> str:
    """A new key for the merchant's endpoint, beside those there are; returns its public text (``whpk_…``)."""
    signer, secret = WebhookSigner.generate()
    db.execute(insert(webhook_keys).values(merchant=merchant, secret=secret))
    return signer.public_text


def drop_old_webhook_keys(db: Connection, merchant: str) -> None:
    """Stop signing with all but the newest of the endpoint's keys."""
    for row in db.execute(_OF_ENDPOINT, {"merchant": merchant}).all()[1:]:
        db.execute(webhook_keys.delete().where(webhook_keys.c.seq == row.seq))


def webhook_signers(db: Connection, merchant: str) -> list[WebhookSigner]:
    """The endpoint's keys, the newest first: while one rotates, several sign."""
    return [_webhook_signer(row.secret) for row in db.execute(_OF_ENDPOINT, {"merchant": merchant})]
