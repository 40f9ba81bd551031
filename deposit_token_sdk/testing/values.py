"""Attempts, quotes and what else a store keeps, as values to test with: plain, but for what a test says of them."""
# ruff: noqa: S106, S107

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from attrs import evolve

from deposit_token_sdk.checkout.store import Attempt, Inbox, Intent, Outgoing, RefundRecord, Refusal, Verb
from deposit_token_sdk.lifecycle import History, Observation, RefundStage, Stage
from deposit_token_sdk.models import Bearer, Capture, Confirmation, Evidence, Mode, Proof, Quote, StatementKind
from deposit_token_sdk.money import Money
from deposit_token_sdk.offers.policy import Ground, Ruling

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5, microseconds=7)
HUGE = 10**78 - 1
"""The largest number of token units there is: 78 digits, a 256-bit integer's length."""


def an_attempt(reference: str = "r1", order_id: str = "A-1", **changes: Any) -> Attempt:
    """A live attempt, as a checkout writes it before the bank has answered."""
    plain = Attempt(
        reference=reference,
        order_id=order_id,
        issuer="sandbox",
        token="SBUSD",
        price=Money("128.50", "EUR"),
        content="digest of the basket",
        bearer=Bearer.DEBT,
        capture=Capture.AUTOMATIC,
        buyer_country="DE",
        return_url="https://shop.example/thanks?order=A-1",
        created_at=NOON,
    )
    return evolve(plain, **changes)


def a_quote(reference: str = "r1", **changes: Any) -> Quote:
    """The quote of the architecture's example, signed."""
    plain = Quote(
        id="q-1",
        reference=reference,
        merchant="m-1",
        installation="abcd1234",
        mode=Mode.TEST,
        price=Money("128.50", "EUR"),
        token="SBUSD",
        decimals=2,
        rate=Decimal("1.0837000000"),
        fee=174,
        bearer=Bearer.DEBT,
        due=14100,
        net=13926,
        expires_at=LATER,
        digest="digest of the quote",
        statement="header.payload.signature",
    )
    return evolve(plain, **changes)


def a_confirmation(reference: str = "r1", movement: str = "mv-1", **changes: Any) -> Confirmation:
    """A settlement statement as evidence keeps it."""
    plain = Confirmation(
        kind=StatementKind.SETTLEMENT,
        issuer="sandbox",
        merchant="m-1",
        installation="abcd1234",
        mode="test",
        invoice="i-1",
        reference=reference,
        token="SBUSD",
        quote_digest="digest of the quote",
        movement=movement,
        units=14100,
        accepted_at=NOON,
        issued_at=LATER,
        evidence=Evidence(Proof.JWS, StatementKind.SETTLEMENT, f"signed {movement}", '{"keys":[]}', LATER),
    )
    return evolve(plain, **changes)


def a_refusal(order_id: str = "A-1", token: str = "SBUSD", **changes: Any) -> Refusal:
    """A token that was not offered to a buyer in mainland China, by this SDK's own default."""
    ruling = Ruling("mainland_china", "Not offered there.", Ground.DEFAULT, "a joint notice", "2026-02-06")
    return evolve(Refusal(order_id, token, "CN", ruling, NOON), **changes)


def a_refund(reference: str = "f1", attempt: str = "r1", request: str = "page-1", **changes: Any) -> RefundRecord:
    """A refund that was asked for and not yet sent to the bank."""
    return evolve(RefundRecord(reference, attempt, request, 60, None, RefundStage.REQUESTED, None, NOON), **changes)


def an_intent(verb: Verb = Verb.START, subject: str = "r1", attempt: str = "r1", **changes: Any) -> Intent:
    """An intent with the keys of two calls."""
    return evolve(Intent(verb, subject, attempt, ("key-1", "key-2"), NOON), **changes)


def a_message(key: str = "ev-1", **changes: Any) -> Inbox:
    """A webhook of the bank."""
    return evolve(Inbox("sandbox", key, "digest of the body", "r1", NOON, '{"type":"invoice.settled"}'), **changes)


def paid(movement: str = "mv-1", units: int = 14100, stage: Stage = Stage.SETTLED) -> History:
    """A history of one movement."""
    return History(frozenset({Observation(movement, stage, units, NOON)}))


def an_outgoing(key: str = "k1", **changes: Any) -> Outgoing:
    """A receipt to be sent, due at once."""
    return evolve(Outgoing(key, "receipt", '{"to":"ito@example.org"}', "A-1", NOON, NOON), **changes)
