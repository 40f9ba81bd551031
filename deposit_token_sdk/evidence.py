"""The one place where a bank's word that money moved is believed, live or years later.

`authenticate` asks whether a statement is genuine: proof, key, time. `accept` asks whether genuine news is for
this attempt and may count: whose, which, how. Neither asks about the amount: a short payment is news, not a
forgery. Live verification is the stored one with today's keys, so both are one function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias, TypeVar

from attrs import evolve, frozen

from deposit_token_sdk.errors import InvalidInput, NotGenuine, NotOurs, Unreadable
from deposit_token_sdk.lifecycle import History, Observation, RefundStage, Stage
from deposit_token_sdk.models import (
    Backing,
    Bearer,
    Confirmation,
    Evidence,
    Mode,
    Movement,
    Proof,
    Quote,
    Refund,
    Report,
    StatementKind,
)
from deposit_token_sdk.money import Money
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.base64url import encode_url
from deposit_token_sdk.signing.keys import KeySet, VerificationKey

E = TypeVar("E", bound=StrEnum)

Reader: TypeAlias = Callable[[Evidence], dict[str, Any]]
"""Verifies evidence with the keys in it and returns what it says, as the claims of a statement of that kind."""

GROUP: Final = "deposit_token_sdk.evidence"
READ_BY: Final = "read_by"
"""The member of evidence in JSON that names its reader."""

QUOTE_TYP: Final = "deposit-quote+jws"
BACKING_TYP: Final = "deposit-backing+jws"
CAPTURE_TYP: Final = "deposit-capture+jws"
SEAL_TYP: Final = "deposit-seal+jws"
TYPS: Final = {
    StatementKind.SETTLEMENT: "deposit-settlement+jws",
    StatementKind.REFUND: "deposit-refund+jws",
    StatementKind.RETURN: "deposit-return+jws",
}
"""The `typ` of each statement (RFC 8725, section 3.11): one can never pass for another."""

_KINDS: Final = {typ: kind for kind, typ in TYPS.items()}

_LAST_SECOND: Final = 253_402_300_799  # the end of the year 9999, where datetime ends too


@frozen
class Signer:
    """By whom and for whom a statement must be: the bank's `iss`, the merchant's `aud`. `skew` is in seconds."""

    issuer: str
    merchant: str
    skew: float = 300


@frozen
class Expected:
    """What is known of the attempt that news must be about. `invoice` is None before the bank's id is known."""

    issuer: str
    merchant: str
    installation: str
    mode: str
    reference: str
    invoice: str | None
    token: str
    quote_digest: str | None
    proofs: frozenset[Proof]


@frozen
class Accepted:
    """What a report may add to what is known."""

    history: History
    refunds: tuple[Refund, ...]


def digest_of(statement: str) -> str:
    """The digest by which invoice and settlement name a quote: base64url of SHA-256 over the compact JWS."""
    return encode_url(hashlib.sha256(statement.encode("ascii")).digest())


def authenticate(statement: str, keys: KeySet, signer: Signer, *, now: float, kind: StatementKind) -> Confirmation:
    """The confirmation in a signed statement of this kind, verified with `keys` as of `now` (seconds since 1970).

    Raises NotGenuine (see `signing.jws.verify`; ``key_retired``, ``in_the_future``), NotOurs (``wrong_issuer``,
    ``other_merchant``) and Unreadable.
    """
    claims, key = _verified(statement, keys, signer, now, TYPS[kind])
    return _confirmation(kind, claims, _kept(statement, key, kind, now))


def kind_of(statement: str) -> StatementKind | None:
    """What a statement claims to be, *unverified*: only for choosing what to authenticate it as."""
    return _KINDS.get(jws.peek_typ(statement) or "")


def authenticate_stored(evidence: Evidence) -> Confirmation:
    """The confirmation in stored evidence of any age, verified again with the keys stored beside it.

    It proves that the statement was signed by the stored key; that the key was the bank's is for who compares its
    RFC 7638 thumbprint with one from elsewhere. What is no statement of its own is read by the issuer that took it:
    an installed one registers a `Reader` by the entry point ``deposit_token_sdk.evidence``. Raises NotGenuine
    (``proof_unknown`` where no installed issuer can read it), NotOurs and Unreadable.
    """
    if evidence.proof is not Proof.JWS:
        return _confirmation(evidence.kind, _reader(evidence)(evidence), evidence)
    keys = KeySet.from_jwks(evidence.keys.encode())
    claims, _ = _verified(evidence.content, keys, None, 0, TYPS[evidence.kind])
    return _confirmation(evidence.kind, claims, evidence)


def _reader(evidence: Evidence) -> Reader:
    """What verifies and reads this evidence, by the issuer's name in it: it picks among those that are installed."""
    try:
        named = strict_json.text(strict_json.parse(evidence.content.encode()), READ_BY)
    except Unreadable:
        named = ""
    found = _installed_reader(named)
    if found is None:
        raise NotGenuine("proof_unknown", f"No verification is known for a proof of kind {evidence.proof}.")
    return found


@lru_cache(maxsize=16)
def _installed_reader(name: str) -> Reader | None:
    from importlib.metadata import entry_points  # noqa: PLC0415  # slow to import, needed where no JWS is the proof

    found = entry_points(group=GROUP, name=name)
    for entry in found:
        reader: Reader = entry.load()
        return reader
    return None


def authenticate_quote(statement: str, keys: KeySet, signer: Signer, *, now: float) -> Quote:
    """The price lock in a bank's signed quote; whether it adds up is `price.check`'s question."""
    claims, _ = _verified(statement, keys, signer, now, QUOTE_TYP)
    price = strict_json.member(claims, "price")
    return Quote(
        id=strict_json.text(claims, "jti"),
        reference=strict_json.text(claims, "reference"),
        merchant=strict_json.text(claims, "aud"),
        installation=strict_json.text(claims, "installation"),
        mode=_enum(Mode, claims, "mode"),
        price=_money(price),
        token=strict_json.text(claims, "token"),
        decimals=_decimals(claims),
        rate=strict_json.plain(claims, "rate"),
        fee=strict_json.units(claims, "fee"),
        bearer=_enum(Bearer, claims, "bearer"),
        due=strict_json.units(claims, "due"),
        net=strict_json.units(claims, "net"),
        expires_at=strict_json.moment(claims, "expires_at"),
        digest=digest_of(statement),
        statement=statement,
    )


def authenticate_backing(statement: str, keys: KeySet, signer: Signer, *, now: float, oldest: float) -> Backing:
    """The bank's own word on circulation and deposits, counted and signed at most `oldest` seconds ago.

    Raises NotGenuine: ``unbalanced`` where the two differ, ``stale`` where it is older.
    """
    claims, _ = _verified(statement, keys, signer, now, BACKING_TYP)
    as_of, issued_at = strict_json.moment(claims, "as_of"), datetime.fromtimestamp(_issued(claims), UTC)
    backing = Backing(
        issuer=signer.issuer,
        token=strict_json.text(claims, "token"),
        circulation=strict_json.units(claims, "circulation"),
        deposits=strict_json.units(claims, "deposits"),
        as_of=as_of,
        issued_at=issued_at,
        age=max(timedelta(0), datetime.fromtimestamp(now, UTC) - min(as_of, issued_at)),
        statement=statement,
    )
    if backing.circulation != backing.deposits:
        raise NotGenuine(
            "unbalanced",
            f"The bank attests {backing.circulation} units of {backing.token} in circulation, but deposits of "
            f"{backing.deposits}: take no more of this token and ask the bank.",
        )
    if backing.age.total_seconds() > oldest:
        raise NotGenuine(
            "stale",
            f"The bank counted the deposits behind {backing.token} at {min(as_of, issued_at):%Y-%m-%d %H:%M:%S} UTC, "
            f"{backing.age.total_seconds():.0f} s ago, and {oldest:.0f} s are allowed: ask it for a newer word, or set "
            f"DEPOSIT_TOKEN_BACKING_AGE.",
        )
    return backing


def accept(report: Report, expected: Expected) -> Accepted:
    """What this report may add to the attempt that `expected` describes.

    Settled or returned money and a finished refund count only with a confirmation; without one they are kept as
    seen, or pending. Raises NotOurs (``other_issuer``, ``other_merchant``, ``other_installation``, ``other_mode``,
    ``other_reference``, ``other_invoice``, ``other_token``, ``other_quote``, ``proof_not_allowed``).
    """
    confirmations = report.confirmations
    sources: tuple[Report | Confirmation, ...] = (report, *confirmations)
    for source in sources:
        _require_same(source, expected)
    for confirmation in confirmations:
        _same("other_invoice", "confirmation's invoice", confirmation.invoice, report.invoice)
        _require_covering(confirmation, expected)
    confirmed = frozenset(
        Observation(
            c.movement,
            Stage.SETTLED if c.kind is StatementKind.SETTLEMENT else Stage.RETURNED,
            c.units,
            c.accepted_at,
        )
        for c in confirmations
        if c.kind is not StatementKind.REFUND
    )
    told = frozenset(_observation(movement) for movement in report.movements)
    done = {(c.refund_reference, c.movement, c.units) for c in confirmations if c.kind is StatementKind.REFUND}
    return Accepted(
        History(confirmed | told, report.words),
        tuple(
            _refund(refund, confirmed=(refund.reference, refund.id, refund.units) in done) for refund in report.refunds
        ),
    )


def _observation(movement: Movement) -> Observation:
    stage = Stage.SEEN if movement.stage in (Stage.SETTLED, Stage.RETURNED) else movement.stage
    return Observation(movement.id, stage, movement.units, movement.accepted_at)


def _refund(refund: Refund, *, confirmed: bool) -> Refund:
    if refund.stage is RefundStage.DONE and not confirmed:
        return evolve(refund, stage=RefundStage.PENDING)
    return refund


_WHOSE: Final = (
    ("issuer", "other_issuer"),
    ("merchant", "other_merchant"),
    ("installation", "other_installation"),
    ("mode", "other_mode"),
    ("reference", "other_reference"),
)


def _require_same(source: Report | Confirmation, expected: Expected) -> None:
    for name, reason in _WHOSE:
        _same(reason, name, getattr(source, name), getattr(expected, name))
    if expected.invoice is not None:
        _same("other_invoice", "invoice", source.invoice, expected.invoice)


def _require_covering(confirmation: Confirmation, expected: Expected) -> None:
    _same("other_token", "token", confirmation.token, expected.token)
    if confirmation.kind is StatementKind.SETTLEMENT:
        _same("other_quote", "quote digest", confirmation.quote_digest, expected.quote_digest)
    if confirmation.proof not in expected.proofs:
        raise NotOurs(
            "proof_not_allowed",
            f"The confirmation's proof is {confirmation.proof}; allowed here: {', '.join(sorted(expected.proofs))}.",
        )


def _same(reason: str, what: str, told: object, wanted: object) -> None:
    if told != wanted:
        raise NotOurs(reason, f"The {what} is {told!r}, but this attempt's is {wanted!r}. Nothing was applied.")


def _verified(
    statement: str, keys: KeySet, signer: Signer | None, now: float, typ: str
) -> tuple[dict[str, Any], VerificationKey]:
    signed = jws.verify(statement, keys, typ=typ)
    claims = strict_json.parse(signed.payload)
    issued = _issued(claims)
    if signer is not None and issued > now + signer.skew:
        raise NotGenuine(
            "in_the_future",
            f"The statement is dated {issued - now:.0f} seconds ahead of our clock; "
            f"at most {signer.skew:.0f} are allowed.",
        )
    if signed.key.is_retired(issued):
        raise NotGenuine(
            "key_retired",
            f"The key {signed.key.kid!r} retired at {signed.key.retired_at}, before the statement was made.",
        )
    if signer is not None:
        _same("wrong_issuer", "statement's issuer", strict_json.text(claims, "iss"), signer.issuer)
        _same("other_merchant", "statement's audience", strict_json.text(claims, "aud"), signer.merchant)
    return claims, signed.key


def _kept(statement: str, key: VerificationKey, kind: StatementKind, now: float) -> Evidence:
    return Evidence(Proof.JWS, kind, statement, _jwks_of(key), datetime.fromtimestamp(now, UTC))


@lru_cache(maxsize=128)
def _jwks_of(key: VerificationKey) -> str:
    """Pure: equal keys are written alike, and a bank has few."""
    return strict_json.dumps(KeySet((key,)).jwks()).decode()


def _confirmation(kind: StatementKind, claims: dict[str, Any], evidence: Evidence) -> Confirmation:
    issued_at = datetime.fromtimestamp(_issued(claims), UTC)
    text = partial(strict_json.text, claims)
    refund = kind is StatementKind.REFUND
    return Confirmation(
        kind=kind,
        issuer=text("iss"),
        merchant=text("aud"),
        installation=text("installation"),
        mode=text("mode"),
        invoice=text("invoice"),
        reference=text("reference"),
        token=text("token"),
        quote_digest=text("quote_digest") if kind is StatementKind.SETTLEMENT else None,
        movement=text("refund" if refund else "movement"),
        units=strict_json.units(claims, "units"),
        accepted_at=issued_at if refund and "accepted_at" not in claims else strict_json.moment(claims, "accepted_at"),
        issued_at=issued_at,
        evidence=evidence,
        of=text("of") if kind is StatementKind.RETURN else None,
        refund_reference=text("refund_reference") if refund else None,
    )


def _issued(claims: dict[str, Any]) -> int:
    """Seconds since 1970 at which a statement says it was made."""
    issued = strict_json.integer(claims, "iat")
    if not 0 <= issued <= _LAST_SECOND:
        raise Unreadable("bad_value", "The statement's `iat` is no time that can be.", field="iat")
    return issued


def _money(price: dict[str, Any]) -> Money:
    try:
        return Money(strict_json.plain(price, "amount"), strict_json.text(price, "currency"))
    except InvalidInput as error:
        raise Unreadable("bad_value", f"The quote's price is none: {error}", field="price") from None


def _decimals(claims: dict[str, Any]) -> int:
    decimals = strict_json.integer(claims, "decimals")
    if not 0 <= decimals <= 36:
        raise Unreadable("bad_value", f"A token of {decimals} decimals is none we know.", field="decimals")
    return decimals


def _enum(kind: type[E], claims: dict[str, Any], name: str) -> E:
    value = strict_json.text(claims, name)
    try:
        return kind(value)
    except ValueError:
        raise Unreadable(
            "bad_value", f"The member {name!r} is {value[:60]!r}; one of {', '.join(kind)} was due.", field=name
        ) from None
