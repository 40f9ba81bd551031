"""Money that is short, late, sent back or of another kind than expected, and hooks that misbehave: what pays the
order, what goes before a person, and what is asked for again. Amounts are the bank's ledger's.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from deposit_token_sdk import Capture, InvalidInput, Late, Money, NotAllowed, Paid, RefundStage, Status
from deposit_token_sdk.checkout.hooks import News
from deposit_token_sdk.exchange import Exchange, Request, Response
from deposit_token_sdk.issuers.bank_keys import HOLD_OFF
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from tests.checkout.kit import (
    Answer,
    ForgingBank,
    Shop,
    Watched,
    after_expiry,
    again,
    answers_to,
    attempt_of,
    details_of,
    due_of,
    fragile,
    refund_of,
    refunds_sent,
    standing_of,
)

# -- money that was sent back before it sufficed -------------------------------------------------------------------


def test_money_that_was_sent_back_does_not_count_towards_what_is_due(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    half = due_of(attempt) // 2
    shop.bank.control.pay(attempt.reference, units=half)
    shop.checkout.refresh("A-1")
    shop.checkout.refund("A-1", half, request="page-1", reference=attempt.reference)
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) - half)
    shop.checkout.refresh("A-1")
    assert shop.bank_received(attempt.reference) == due_of(attempt) - half
    assert shop.fulfilled() == []
    assert "refunded_before_paid" in shop.reviews()


def test_a_late_payment_to_be_sent_back_beside_a_refund_in_euros_goes_before_a_person(shop: Shop) -> None:
    shop.lose_webhooks()
    shop.checkout.on_late(lambda _, __: Late.REFUND)
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) // 2)
    shop.checkout.refresh("A-1")
    shop.checkout.refund("A-1", Money("10.00", "EUR"), request="page-1", reference=attempt.reference)
    shop.bank.control.pay(attempt.reference, units=due_of(attempt), at=after_expiry(attempt))
    assert shop.checkout.reconcile().failed == ()
    assert len(refunds_sent(shop, attempt)) == 1
    assert shop.fulfilled() == []
    assert sorted(shop.reviews()) == ["late", "overpaid"]


def test_an_order_whose_late_payment_waits_for_a_person_asks_the_buyer_for_no_second_one(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, at=after_expiry(attempt))
    shop.checkout.refresh("A-1")
    assert shop.reviews() == ["late"]
    with pytest.raises(NotAllowed) as refused:
        shop.start()
    assert refused.value.reason == "payment_in_review"
    assert len(shop.bank.control.invoices(merchant=shop.merchant)) == 1
    shop.checkout.refund("A-1", due_of(attempt), request="page-1", reference=attempt.reference)
    assert shop.bank_received(attempt.reference) == 0
    assert shop.start().reference != attempt.reference


@pytest.mark.parametrize("changed", [{"content": "basket-2"}, {"price": Money("99.00", "EUR")}], ids=str)
def test_an_order_whose_late_payment_waits_cannot_be_paid_anew_in_another_form(
    shop: Shop, changed: dict[str, Any]
) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, at=after_expiry(attempt))
    shop.checkout.refresh("A-1")
    with pytest.raises(NotAllowed):
        shop.start(**changed)
    assert len(shop.bank.control.invoices(merchant=shop.merchant)) == 1


def test_each_further_sum_on_an_ended_invoice_is_noticed_with_what_has_come_by_then(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.decline(attempt.reference)
    shop.checkout.refresh("A-1")
    for units in (100, 200):
        shop.bank.control.pay(attempt.reference, units=units)
        shop.checkout.refresh("A-1")
        shop.checkout.reconcile()
    assert shop.bank_received(attempt.reference) == 300
    first, second = details_of(shop, "partly_paid")
    assert "100 of" in first
    assert "300 of" in second


def test_each_further_sum_on_an_expired_invoice_is_noticed_with_what_has_come_by_then(
    bank_of_ours: ForgingBank,
) -> None:
    bank = bank_of_ours
    bank.deliver(bank.event(None, "invoice.expired"), "msg_0")
    for number, units in enumerate(("100", "200"), 1):
        claims = bank.settlement(movement=f"mov-{number}", units=units, jti=f"statement-{number}")
        body = bank.event(bank.state(claims))
        assert bank.deliver(body, f"msg_{number}") == (200, "applied")
        assert bank.deliver(body, f"msg_{number}") == (200, "repeated")
    first, second = details_of(bank.shop, "partly_paid")
    assert "100 of" in first
    assert "300 of" in second


# -- money that the bank takes back or lets go ----------------------------------------------------------------------


def test_a_payment_that_is_returned_after_it_was_refunded_is_told_and_goes_before_a_person(shop: Shop) -> None:
    attempt = shop.buy()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: "second_payment" in shop.reviews())
    shop.checkout.refund("A-1", due_of(attempt), request="page-1")
    shop.until(lambda: refund_of(shop).stage is RefundStage.DONE)
    shop.bank.control.return_payment(attempt.reference)
    shop.until(lambda: ("returned", "returned") in shop.told)
    assert shop.bank_received(attempt.reference) == 0
    assert "returned_after_refund" in shop.reviews()


def test_every_return_is_told_once(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    half = due_of(attempt) // 2
    for units in (half, due_of(attempt) - half):
        shop.bank.control.pay(attempt.reference, units=units)
    shop.checkout.refresh("A-1")
    for number in (1, 2):
        shop.bank.control.return_payment(attempt.reference)
        shop.checkout.reconcile()
        shop.checkout.reconcile()
        assert shop.told.count(("returned", "returned")) == number
    assert standing_of(shop, attempt.reference).received == shop.bank_received(attempt.reference) == 0


def test_what_is_left_after_a_return_can_be_refunded_and_no_more(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    half = due_of(attempt) // 2
    for units in (half, due_of(attempt) - half):
        shop.bank.control.pay(attempt.reference, units=units)
    shop.checkout.refresh("A-1")
    shop.bank.control.return_payment(attempt.reference)
    shop.checkout.reconcile()
    left = shop.bank_received(attempt.reference)
    assert shop.checkout.view("A-1").refundable == left > 0
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", left + 1, request="page-1")
    assert refused.value.reason == "refund_exceeds"
    shop.checkout.refund("A-1", left, request="page-2")
    assert shop.bank_received(attempt.reference) == 0
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", 1, request="page-3")
    assert refused.value.reason == "returned"


def test_a_payment_that_is_returned_in_part_beside_a_refund_is_refunded_no_further(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    half = due_of(attempt) // 2
    for units in (half, due_of(attempt) - half):
        shop.bank.control.pay(attempt.reference, units=units)
    shop.checkout.refresh("A-1")
    shop.checkout.refund("A-1", 100, request="page-1")
    shop.bank.control.return_payment(attempt.reference)
    shop.checkout.reconcile()
    assert shop.bank_received(attempt.reference) == half - 100
    assert shop.checkout.view("A-1").refundable == 0
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", 1, request="page-2")
    assert refused.value.reason == "returned"
    assert refunds_sent(shop, attempt) == [100]


def test_only_what_is_held_now_is_captured_and_not_what_was_let_go_before(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start(capture=Capture.MANUAL)
    shop.bank.control.pay(attempt.reference)
    shop.checkout.refresh("A-1")
    shop.bank.control.decline(attempt.reference)
    shop.checkout.refresh("A-1")
    shop.bank.control.pay(attempt.reference)
    shop.checkout.refresh("A-1")
    assert standing_of(shop, attempt.reference).status is Status.AUTHORIZED
    assert shop.checkout.capture("A-1").paid
    assert shop.bank_received(attempt.reference) == due_of(attempt)


def test_a_hold_that_is_too_small_is_not_captured(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start(capture=Capture.MANUAL)
    shop.bank.control.pay(attempt.reference, units=500)
    shop.checkout.refresh("A-1")
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.capture("A-1")
    assert refused.value.reason == "held_too_little"
    assert shop.bank_received(attempt.reference) == 0
    shop.bank.control.pay(attempt.reference)
    shop.checkout.refresh("A-1")
    assert shop.checkout.capture("A-1").paid
    assert shop.bank_received(attempt.reference) == due_of(attempt)


# -- words that we do not know ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["expired", "cancelled"])
def test_the_banks_word_that_an_invoice_has_ended_outweighs_a_movement_in_no_known_stage(
    bank_of_ours: ForgingBank, word: str
) -> None:
    bank = bank_of_ours
    movement = {
        "id": "mov-9",
        "kind": "payment",
        "status": "rejected",
        "units": "5",
        "accepted_at": "2026-11-24T00:00:00Z",
    }
    bank.deliver(bank.event(None, "invoice.rejected", movement=movement), "msg_1")
    assert standing_of(bank.shop, bank.attempt.reference).status is Status.PENDING
    assert bank.deliver(bank.event(None, f"invoice.{word}"), "msg_2") == (200, "applied")
    assert attempt_of(bank.shop, bank.attempt.reference).ended == word
    assert bank.shop.start().reference != bank.attempt.reference


def test_a_statement_of_a_kind_that_we_do_not_know_hides_none_that_we_do(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    header = json.dumps({"alg": "ES256", "kid": "any", "typ": "deposit-fee+jws"}).encode()
    unknown = f"{base64.urlsafe_b64encode(header).rstrip(b'=').decode()}.e30.AAAA"
    signed = ReferenceIssuer._statements

    def and_one_more(issuer: ReferenceIssuer, invoice: str) -> Exchange[tuple[tuple[str, ...], float]]:
        statements, at = yield from signed(issuer, invoice)
        return (unknown, *statements), at

    monkeypatch.setattr(ReferenceIssuer, "_statements", and_one_more)
    assert shop.checkout.reconcile().failed == ()
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def received(shop: Shop, kind: str) -> list[tuple[dict[str, str], bytes]]:
    """The bank's messages of this type, as they came."""
    return [(headers, body) for headers, body in shop.received if json.loads(body)["type"] == kind]


def test_a_webhook_that_cannot_be_checked_for_want_of_the_banks_keys_is_asked_for_again(shop: Shop) -> None:
    @shop.checkout.on_paid
    def not_yet(_: Paid, __: Session) -> None:
        raise RuntimeError

    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: bool(received(shop, "invoice.settled")))
    shop.lose_webhooks()
    headers, body = received(shop, "invoice.settled")[0]
    maintenance = [b"<html>We are back soon.</html>"]

    def instead(request: Request, answer: Answer) -> Answer:
        if request.route == "GET jwks" and maintenance and isinstance(answer, Response):
            return evolve(answer, body=maintenance.pop())
        return answer

    passed = [timedelta()]
    checkout = again(shop, fragile(shop, Watched(after=instead), now=lambda: datetime.now(UTC) + passed[-1]))
    for _ in range(2):
        answer = checkout.receive(headers, body, "sandbox-bank")
        assert (answer.status, answer.reason) == (503, "keys_unavailable")
    assert shop.fulfilled() == []
    passed.append(timedelta(seconds=HOLD_OFF))
    answer = checkout.receive(headers, body, "sandbox-bank")
    assert (answer.status, answer.reason) == (200, "applied")
    assert shop.fulfilled() == [("A-1", attempt.reference)]


# -- hooks that misbehave --------------------------------------------------------------------------------------------


class Base(DeclarativeBase):
    pass


class Parcel(Base):
    __tablename__ = "shop_parcels"
    id: Mapped[int] = mapped_column(primary_key=True)
    sku: Mapped[str] = mapped_column(unique=True)


def test_what_a_hook_put_into_the_session_and_cannot_be_written_is_that_hooks_failure(shop: Shop) -> None:
    with shop.sessions() as session:
        Base.metadata.create_all(session.get_bind())
    shop.lose_webhooks()
    checkout = again(shop)

    @checkout.on_paid
    def pack(paid: Paid, session: Session) -> None:
        session.add(Parcel(sku="scarce" if paid.order_id in ("A-1", "A-2") else paid.order_id))

    attempts = [shop.start(order_id) for order_id in ("A-1", "A-2", "A-3")]
    for attempt in attempts:
        shop.bank.control.pay(attempt.reference)
    done = checkout.reconcile()
    assert [reference for reference, _ in done.failed] == [attempts[1].reference]
    assert [checkout.view(one.order_id).paid for one in attempts] == [True, False, True]
    assert shop.reviews() == ["hook_failed"]


@pytest.mark.parametrize("end", [Session.rollback, Session.commit, Session.close], ids=lambda end: str(end.__name__))
def test_a_hook_that_ends_the_transaction_has_failed_and_the_message_is_asked_for_again(
    shop: Shop, end: Callable[[Session], None]
) -> None:
    mistakes = [end]

    @shop.checkout.on_paid
    def fulfil(_: Paid, session: Session) -> None:
        if mistakes:
            mistakes.pop()(session)

    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [500, 200])
    assert [review.reason for review, _ in shop.checkout.store.all_reviews()] == ["hook_failed"]
    assert shop.checkout.view("A-1").paid


def test_a_hook_that_ends_the_transaction_does_not_keep_a_sweep_from_other_orders(shop: Shop) -> None:
    shop.lose_webhooks()
    attempts = [shop.start(order_id) for order_id in ("A-1", "A-2")]
    for attempt in attempts:
        shop.bank.control.pay(attempt.reference)
    checkout = again(shop)

    @checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        if paid.order_id == "A-1":
            session.rollback()

    assert [reference for reference, _ in checkout.reconcile().failed] == [attempts[0].reference]
    assert [checkout.view(one.order_id).paid for one in attempts] == [False, True]
    assert shop.reviews() == ["hook_failed"]


def late_payment(shop: Shop, answer: Any) -> None:
    """A late payment seen by a shop whose `on_late` answers this."""
    shop.lose_webhooks()

    def on_late(_: News, __: object) -> Any:
        return answer

    shop.checkout.on_late(on_late)
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, at=after_expiry(attempt))
    shop.checkout.refresh("A-1")


@pytest.mark.parametrize("answer", ["accepted", "ACCEPT", True, False, 7, ""], ids=repr)
def test_an_answer_to_a_late_payment_that_is_none_is_a_failure_of_the_hook_and_asked_again(
    shop: Shop, answer: object
) -> None:
    late_payment(shop, answer)
    (attempt,) = shop.checkout.store.order("A-1").attempts
    assert shop.reviews() == ["hook_failed"]
    assert shop.fulfilled() == []
    assert refunds_sent(shop, attempt) == []
    shop.checkout.on_late(lambda _, __: Late.ACCEPT)
    shop.checkout.refresh("A-1")
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_the_plain_text_of_an_answer_to_a_late_payment_is_that_answer(shop: Shop) -> None:
    late_payment(shop, "accept")
    (attempt,) = shop.checkout.store.order("A-1").attempts
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert shop.reviews() == []


def test_a_late_payment_is_sent_back_whole_on_the_plain_text_of_that_answer(shop: Shop) -> None:
    late_payment(shop, "refund")
    (attempt,) = shop.checkout.store.order("A-1").attempts
    assert shop.bank_received(attempt.reference) == 0
    assert refunds_sent(shop, attempt) == [due_of(attempt)]
    assert shop.fulfilled() == []


# -- orders that change ----------------------------------------------------------------------------------------------


def test_an_order_whose_short_payment_was_sent_back_can_be_changed(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=500)
    shop.checkout.refresh("A-1")
    shop.checkout.refund("A-1", 500, request="page-1", reference=attempt.reference)
    assert shop.bank_received(attempt.reference) == 0
    assert shop.start(content="basket-2").reference != attempt.reference
    cancelled = shop.checkout.cancel("A-1").attempt
    assert cancelled is not None
    assert (cancelled.content, cancelled.ended) == ("basket-2", "cancelled")


def test_a_buyer_in_another_country_is_another_attempt(shop: Shop) -> None:
    first = shop.start(buyer_country="DE")
    second = shop.start(buyer_country="FR")
    assert second.reference != first.reference
    assert second.buyer_country == "FR"
    assert shop.bank.control.invoice(first.reference)["status"] == "cancelled"


def test_a_one_time_reference_that_comes_with_another_amount_is_refused(shop: Shop) -> None:
    attempt = shop.buy()
    shop.checkout.refund("A-1", 700, request="page-1")
    with pytest.raises(InvalidInput) as refused:
        shop.checkout.refund("A-1", 900, request="page-1")
    assert refused.value.reason == "request_reused"
    assert refunds_sent(shop, attempt) == [700]
