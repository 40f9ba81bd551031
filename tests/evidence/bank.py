"""A bank of our own making: its keys, its statements, and the shop they are for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from attrs import evolve, field, frozen

from deposit_token_sdk import evidence
from deposit_token_sdk.evidence import Expected, Signer
from deposit_token_sdk.models import Confirmation, Movement, Proof, Refund, Report, StatementKind
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.keys import KeySet, SigningKey

NOW = 1_795_500_000
ACCEPTED = datetime(2026, 11, 24, 6, 0, tzinfo=UTC)
SIGNER = Signer(issuer="sandbox-bank", merchant="demo-shop", skew=300)

COMMON = {
    "iss": "sandbox-bank",
    "aud": "demo-shop",
    "iat": NOW,
    "jti": "st-1",
    "installation": "abcd1234",
    "mode": "test",
    "invoice": "inv-1",
    "reference": "abcd1234REF",
    "token": "SBUSD",
    "units": "14100",
}
CLAIMS: dict[StatementKind, dict[str, Any]] = {
    StatementKind.SETTLEMENT: {
        **COMMON,
        "quote_digest": "digest-1",
        "movement": "mov-1",
        "accepted_at": "2026-11-24T06:00:00Z",
    },
    StatementKind.RETURN: {**COMMON, "movement": "ret-1", "of": "mov-1", "accepted_at": "2026-11-24T06:00:00Z"},
    StatementKind.REFUND: {**COMMON, "refund": "ref-1", "refund_reference": "abcd1234REFUND", "units": "500"},
}
QUOTE = {
    "iss": "sandbox-bank",
    "aud": "demo-shop",
    "iat": NOW,
    "jti": "quote-1",
    "installation": "abcd1234",
    "mode": "test",
    "reference": "abcd1234REF",
    "price": {"currency": "EUR", "amount": "128.50"},
    "token": "SBUSD",
    "decimals": 2,
    "rate": "1.0837",
    "fee": "174",
    "bearer": "DEBT",
    "due": "14100",
    "net": "13926",
    "expires_at": "2026-11-24T06:15:00Z",
}
BACKING = {
    "iss": "sandbox-bank",
    "aud": "demo-shop",
    "iat": NOW,
    "jti": "back-1",
    "token": "SBUSD",
    "circulation": "9000000",
    "deposits": "9000000",
    "as_of": "2026-11-24T06:00:00Z",
}


@frozen
class Bank:
    """One signing key and the set in which the shop finds its public half."""

    key: SigningKey
    keys: KeySet = field()

    @keys.default
    def _current(self) -> KeySet:
        return KeySet((self.key.verification_key(purpose="statement"),))

    def state(self, claims: dict[str, Any] | bytes, typ: str) -> str:
        """Whatever is asked for, genuinely signed."""
        payload = claims if isinstance(claims, bytes) else strict_json.dumps(claims)
        return jws.sign(payload, self.key, typ)

    def statement(self, kind: StatementKind, **changes: Any) -> str:
        return self.state({**CLAIMS[kind], **changes}, evidence.TYPS[kind])

    def confirmation(self, kind: StatementKind = StatementKind.SETTLEMENT, **changes: Any) -> Confirmation:
        return evidence.authenticate(self.statement(kind, **changes), self.keys, SIGNER, now=NOW, kind=kind)

    def later(self, **state: Any) -> Bank:
        """The same bank after its key was retired or revoked."""
        return evolve(self, keys=KeySet((self.key.verification_key(purpose="statement", **state),)))


def expected(**changes: Any) -> Expected:
    plain = Expected(
        issuer="sandbox-bank",
        merchant="demo-shop",
        installation="abcd1234",
        mode="test",
        reference="abcd1234REF",
        invoice="inv-1",
        token="SBUSD",
        quote_digest="digest-1",
        proofs=frozenset({Proof.JWS}),
    )
    return evolve(plain, **changes)


def report(
    *confirmations: Confirmation,
    movements: tuple[Movement, ...] = (),
    refunds: tuple[Refund, ...] = (),
    **changes: Any,
) -> Report:
    plain = Report(
        issuer="sandbox-bank",
        merchant="demo-shop",
        installation="abcd1234",
        mode="test",
        invoice="inv-1",
        reference="abcd1234REF",
        digest="d",
        movements=movements,
        refunds=refunds,
        confirmations=confirmations,
    )
    return evolve(plain, **changes)
