"""What a webhook is answered, one table; and that nothing forged, strange or repeated moves an order.

The tests play the bank with keys of their own, so that every statement can be signed properly and be wrong in just
one way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from deposit_token_sdk import Client
from deposit_token_sdk.models import Proof
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner
from tests.checkout.kit import Claims, ForgingBank, Shop
from tests.databases import ON_BOTH


@ON_BOTH
def test_a_proper_settlement_pays(bank_of_ours: ForgingBank) -> None:
    body = bank_of_ours.event(bank_of_ours.state(bank_of_ours.settlement()))
    assert bank_of_ours.deliver(body) == (200, "applied")
    assert bank_of_ours.paid
    assert bank_of_ours.deliver(body) == (200, "repeated")


@ON_BOTH
def test_the_same_event_id_with_other_content_is_refused_and_alarms(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    bank.deliver(bank.event(bank.state(bank.settlement())))
    other = bank.event(bank.state(bank.settlement(movement="mov-2")))
    assert bank.deliver(other) == (400, "event_id_reused")
    assert len(bank.alarms) == 1
    assert bank.shop.reviews() == ["event_id_reused"]


def without(name: str) -> Callable[[ForgingBank], bytes]:
    def body(bank: ForgingBank) -> bytes:
        claims = bank.settlement()
        del claims[name]
        return bank.event(bank.state(claims))

    return body


def claiming(**changed: Any) -> Callable[[ForgingBank], bytes]:
    return lambda bank: bank.event(bank.state(bank.settlement(**changed)))


def telling(**changed: Any) -> Callable[[ForgingBank], bytes]:
    return lambda bank: bank.event(bank.state(bank.settlement()), **changed)


def unpaid_telling(**changed: Any) -> Callable[[ForgingBank], bytes]:
    return lambda bank: bank.event(None, "invoice.expired", **changed)


def about_nothing(**changed: Any) -> Callable[[ForgingBank], bytes]:
    """An event that names no invoice, as a test ping does."""
    return lambda bank: bank.event(None, "test.ping", **{"invoice": None, **changed})


def written_as(written: bytes, otherwise: bytes) -> Callable[[ForgingBank], bytes]:
    """A settlement's envelope, genuinely signed over JSON that two readers could read in two ways."""

    def body(bank: ForgingBank) -> bytes:
        proper = bank.event(bank.state(bank.settlement()))
        assert written in proper
        return proper.replace(written, otherwise)

    return body


def a_refund_passed_as_settlement(bank: ForgingBank) -> bytes:
    claims = {**bank.settlement(), "refund": "ref-1", "refund_reference": "r"}
    return bank.event(bank.state(claims, typ="deposit-refund+jws"))


def signed_by_a_stranger(bank: ForgingBank) -> bytes:
    stranger = SigningKey.generate(Algorithm.ES256, "bank-statement-1")
    return bank.event(bank.state(bank.settlement(), key=stranger))


def signed_by_an_unknown_key(bank: ForgingBank) -> bytes:
    stranger = SigningKey.generate(Algorithm.ES256, "stranger")
    return bank.event(bank.state(bank.settlement(), key=stranger))


def twice_in_one_object(bank: ForgingBank) -> bytes:
    payload = strict_json.dumps(bank.settlement())
    doubled = payload[:-1] + b',"units":"1"}'
    return bank.event(jws.sign(doubled, bank.statement_key, "deposit-settlement+jws"))


TABLE: list[tuple[Callable[[ForgingBank], bytes], int, str]] = [
    (signed_by_a_stranger, 400, "signature_mismatch"),
    (signed_by_an_unknown_key, 400, "key_unknown"),
    (a_refund_passed_as_settlement, 400, "wrong_typ"),
    (claiming(iat=int(time.time()) + 3600), 400, "in_the_future"),
    (claiming(aud="somebody-else"), 200, "other_merchant"),
    (claiming(iss="another-bank"), 200, "wrong_issuer"),
    (claiming(mode="live"), 200, "other_mode"),
    (claiming(installation="zzzzzzzz"), 200, "other_installation"),
    (claiming(invoice="inv-other"), 200, "other_invoice"),
    (claiming(reference="zzzzzzzz1"), 200, "other_reference"),
    (claiming(token="SBEUR"), 200, "other_token"),
    (claiming(quote_digest="AAAA"), 200, "other_quote"),
    (claiming(units=100), 200, "wrong_type"),
    (claiming(units="1e3"), 200, "bad_value"),
    (claiming(accepted_at="yesterday"), 200, "bad_value"),
    (without("movement"), 200, "missing_field"),
    (twice_in_one_object, 200, "duplicate_key"),
    (telling(merchant="somebody-else"), 200, "other_merchant"),
    (telling(mode="live"), 200, "other_mode"),
    (telling(installation="zzzzzzzz"), 200, "other_installation"),
    (unpaid_telling(merchant="somebody-else"), 200, "other_merchant"),
    (unpaid_telling(mode="live"), 200, "other_mode"),
    (unpaid_telling(installation="zzzzzzzz"), 200, "other_installation"),
    (unpaid_telling(invoice="inv-other"), 200, "other_invoice"),
    (unpaid_telling(reference="zzzzzzzz1"), 200, "other_installation"),
    (unpaid_telling(version="2"), 200, "wrong_type"),
    (about_nothing(merchant="somebody-else"), 200, "other_merchant"),
    (about_nothing(mode="live"), 200, "other_mode"),
    (about_nothing(installation="zzzzzzzz"), 200, "other_installation"),
    (written_as(b'"version":2', b'"version":NaN'), 200, "not_json"),
    (written_as(b'"version":2', b'"version":2.0'), 200, "wrong_type"),
    (written_as(b'"version":2', b'"version":2,"version":3'), 200, "duplicate_key"),
    (written_as(b'"paid"', b'"pa\xffd"'), 200, "invalid_utf8"),
    (written_as(b'"paid"', b'"pa\x00d"'), 200, "not_json"),
    (written_as(b'"paid"', b'"pa\\u0000d"'), 200, "invalid_utf8"),
]


@ON_BOTH
@pytest.mark.parametrize(("made", "status", "reason"), TABLE, ids=[f"{n}-{row[2]}" for n, row in enumerate(TABLE)])
def test_what_is_not_the_banks_word_on_this_attempt_moves_nothing(
    bank_of_ours: ForgingBank, made: Callable[[ForgingBank], bytes], status: int, reason: str
) -> None:
    bank = bank_of_ours
    assert bank.deliver(made(bank)) == (status, reason)
    assert not bank.paid
    attempt = bank.checkout.store.attempt(bank.attempt.reference)
    assert attempt is not None
    assert attempt.history == bank.attempt.history
    assert attempt.ended is None
    assert bank.deliver(bank.event(bank.state(bank.settlement())), "msg_2") == (200, "applied")
    assert bank.paid


@pytest.mark.parametrize(
    ("made", "status", "reason"),
    [row for row in TABLE if row[1] == 200 and not row[2].startswith(("other_", "wrong_issuer"))],
)
def test_what_is_genuine_but_unreadable_alarms(
    bank_of_ours: ForgingBank, made: Callable[[ForgingBank], bytes], status: int, reason: str
) -> None:
    assert bank_of_ours.deliver(made(bank_of_ours)) == (status, reason)
    assert len(bank_of_ours.alarms) == 1
    assert bank_of_ours.shop.reviews() == [reason]


ABOUT_AN_ATTEMPT_OF_OURS: list[tuple[dict[str, Any], str]] = [
    ({"quote_digest": "AAAA"}, "other_quote"),
    ({"token": "SBEUR"}, "other_token"),
    ({"invoice": "inv-other"}, "other_invoice"),
    ({"reference": "zzzzzzzz1"}, "other_reference"),
]


@pytest.mark.parametrize(("changed", "reason"), ABOUT_AN_ATTEMPT_OF_OURS, ids=str)
def test_what_the_bank_states_wrongly_about_an_attempt_of_ours_goes_before_a_person(
    bank_of_ours: ForgingBank, changed: Claims, reason: str
) -> None:
    bank = bank_of_ours
    body = bank.event(bank.state(bank.settlement(**changed)))
    assert bank.deliver(body) == (200, reason)
    assert bank.deliver(body) == (200, "repeated")
    (review,) = bank.shop.checkout.store.reviews()
    assert (review.reason, review.order_id, review.reference) == (reason, "A-1", bank.attempt.reference)
    assert len(bank.alarms) == 1
    assert not bank.paid


def test_a_proof_that_the_shop_does_not_believe_goes_before_a_person(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    body = bank.event(bank.state(bank.settlement()))
    doubtful = bank.shop.restarted(client=bank.client, proofs=[Proof.CHANNEL])
    answer = doubtful.receive(bank.webhooks.sign("msg_1", int(time.time()), body), body)
    assert (answer.status, answer.reason) == (200, "proof_not_allowed")
    assert bank.shop.reviews() == ["proof_not_allowed"]
    assert not bank.paid


@pytest.mark.parametrize("changed", [{"aud": "somebody-else"}, {"mode": "live"}, {"installation": "zzzzzzzz"}], ids=str)
def test_what_is_somebody_elses_disturbs_nobody(bank_of_ours: ForgingBank, changed: Claims) -> None:
    bank = bank_of_ours
    status, _ = bank.deliver(bank.event(bank.state(bank.settlement(**changed))))
    assert status == 200
    assert bank.shop.reviews() == []
    assert bank.alarms == []


def test_our_prefix_without_a_row_is_parked_and_alarms(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    lost = bank.attempt.reference[:8] + "lost"
    body = bank.event(bank.state(bank.settlement(reference=lost)), reference=lost)
    assert bank.deliver(body) == (200, "unknown_reference")
    assert len(bank.alarms) == 1


def test_a_settled_event_without_its_statement_pays_nothing(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    quote = bank.attempt.quote
    assert quote is not None
    movement = {
        "id": "mov-1",
        "kind": "payment",
        "status": "settled",
        "units": str(quote.due),
        "accepted_at": strict_json.rfc3339(quote.expires_at),
    }
    assert bank.deliver(bank.event(None, movement=movement)) == (200, "applied")
    assert not bank.paid
    standing = bank.checkout.view("A-1").attempt
    assert standing is not None
    assert standing.standing is not None
    assert standing.standing.status == "pending"


def test_an_unknown_stage_is_kept_and_never_final(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    movement = {
        "id": "mov-9",
        "kind": "payment",
        "status": "teleported",
        "units": "5",
        "accepted_at": "2026-11-24T00:00:00Z",
    }
    assert bank.deliver(bank.event(None, "invoice.teleported", movement=movement)) == (200, "applied")
    attempt = bank.checkout.store.attempt(bank.attempt.reference)
    assert attempt is not None
    assert attempt.standing is not None
    assert attempt.standing.status == "pending"
    assert not bank.paid


@ON_BOTH
def test_one_movement_pays_one_invoice_once(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    other = bank.shop.start("A-2")
    assert other.quote is not None
    first = bank.deliver(bank.event(bank.state(bank.settlement())))
    claims = bank.settlement(invoice=other.invoice, reference=other.reference, quote_digest=other.quote.digest)
    body = bank.event(bank.state(claims), invoice=other.invoice, reference=other.reference)
    assert (first, bank.deliver(body, "msg_2")) == ((200, "applied"), (200, "applied"))
    assert not bank.checkout.view("A-2").paid
    assert bank.shop.reviews() == ["movement_reused"]


@ON_BOTH
def test_a_movement_named_with_two_amounts_is_a_conflict_and_is_not_counted(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    assert bank.deliver(bank.event(bank.state(bank.settlement(units="10")))) == (200, "applied")
    bank.deliver(bank.event(bank.state(bank.settlement())), "msg_2")
    assert not bank.paid
    assert bank.shop.reviews() == ["conflict"]


def test_an_envelope_of_an_unknown_key_or_an_old_one_is_refused(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    body = bank.event(bank.state(bank.settlement()))
    stranger, _ = WebhookSigner.generate()
    now = int(time.time())
    for headers, reason in (
        (stranger.sign("msg_1", now, body), "signature_mismatch"),
        (bank.webhooks.sign("msg_1", now - 3600, body), "too_old"),
        (bank.webhooks.sign("msg_1", now + 3600, body), "in_the_future"),
        ({}, "header_missing"),
    ):
        answer = bank.checkout.receive(headers, body)
        assert (answer.status, answer.reason) == (400, reason)
    changed = body.replace(b'"paid"', b'"paie"')
    answer = bank.checkout.receive(bank.webhooks.sign("msg_1", now, body), changed)
    assert (answer.status, answer.reason) == (400, "signature_mismatch")
    assert not bank.paid


def test_a_shop_is_told_why_a_webhook_does_not_verify(
    bank_of_ours: ForgingBank, caplog: pytest.LogCaptureFixture
) -> None:
    bank = bank_of_ours
    body = bank.event(bank.state(bank.settlement()))
    now = int(time.time())
    parsed_and_written_again = json.dumps(json.loads(body)).encode()
    for sent, received_at, hint in (
        (parsed_and_written_again, now, "parsed and written anew"),
        (b"", now, "empty"),
        (body, now - 420, "our clock is ahead"),
    ):
        answer = bank.checkout.receive(bank.webhooks.sign("msg_1", received_at, body), sent)
        assert answer.status == 400
        assert hint in answer.detail
        assert answer.detail in caplog.text


def test_a_shop_is_told_that_the_webhook_is_signed_with_the_other_modes_key(bank_of_ours: ForgingBank) -> None:
    bank = bank_of_ours
    live, _ = WebhookSigner.generate()
    keys = {"WEBHOOK_KEYS": live.public_text, "OTHER_WEBHOOK_KEYS": bank.webhooks.public_text}
    settings = {f"DEPOSIT_TOKEN_{name}": text for name, text in keys.items()}
    body = bank.event(bank.state(bank.settlement()))
    with Client.from_env({**bank.shop.environment, **settings}) as mixed_up:
        checkout = bank.shop.restarted(client=mixed_up)
        answer = checkout.receive(bank.webhooks.sign("msg_1", int(time.time()), body), body)
    assert (answer.status, answer.reason) == (400, "signature_mismatch")
    assert "another mode's key" in answer.detail
    assert not bank.paid


def test_an_address_of_no_known_issuer_is_answered_404(bank_of_ours: ForgingBank) -> None:
    answer = bank_of_ours.checkout.receive({}, b"{}", issuer="nobody")
    assert (answer.status, answer.reason) == (404, "unknown_issuer")


def test_a_test_ping_of_the_bank_is_verified_recorded_and_applies_nothing(shop: Shop) -> None:
    shop.start()
    shop.bank.control.ping(merchant=shop.merchant)

    def answered() -> bool:
        pings = [m for m in shop.bank.control.webhooks(merchant=shop.merchant) if m["type"] == "test.ping"]
        return [t["status"] for m in pings for t in m["tries"]] == [200]

    shop.until(answered)
