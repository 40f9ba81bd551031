"""Two processes at the same repair, requests that arrive late, answers that are lost: the bank is asked, and money
moves once. Amounts are the bank's ledger's.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from threading import Barrier, BrokenBarrierError, Event

import pytest

from deposit_token_sdk import (
    Attempt,
    Capture,
    Checkout,
    Client,
    NotAllowed,
    OrderChanged,
    OutcomeUnknown,
    RefundStage,
    Status,
)
from deposit_token_sdk.checkout.intents import renew
from deposit_token_sdk.checkout.sql import SqlTx
from deposit_token_sdk.checkout.store import Intent
from deposit_token_sdk.exchange import Request, Response
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.transport import Transport
from tests.checkout.kit import (
    Answer,
    Fragile,
    Killed,
    Shop,
    Slow,
    Watched,
    again,
    at_once,
    attempt_of,
    due_of,
    fragile,
    invoices_of,
    later,
    losing,
    refund_of,
    refunds_sent,
    standing_of,
)
from tests.databases import ON_BOTH

pytestmark = ON_BOTH

# -- two at the same step ----------------------------------------------------------------------------------------


class Meeting:
    """Makes the first answers on a route meet: each of two processes sees its own before either goes on."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._barrier = Barrier(2, timeout=10)

    def process(self) -> Watched:
        met: list[Request] = []

        def meet(request: Request, answer: Answer) -> Answer:
            if request.route == self._route and not met:
                met.append(request)
                with suppress(BrokenBarrierError):
                    self._barrier.wait()
            return answer

        return Watched(after=meet)


def half_refunded_unanswered(shop: Shop) -> Attempt:
    """A refund of half, whose idempotency key the bank has spoilt with a 500."""
    attempt = shop.buy()
    shop.lose_webhooks()
    shop.bank.control.fault("kept_error", count=1, route="POST /refunds")
    with pytest.raises(OutcomeUnknown):
        fragile(shop, Transport()).refund("A-1", due_of(attempt) // 2, request="page-1")
    return attempt


def test_a_refund_that_two_processes_repair_at_once_is_sent_once_and_ends_as_done(shop: Shop) -> None:
    attempt = half_refunded_unanswered(shop)
    meeting = Meeting("POST /refunds")
    at_once(fragile(shop, meeting.process()).reconcile, lambda: fragile(shop, meeting.process()).refresh("A-1"))
    shop.checkout.reconcile()
    half = due_of(attempt) // 2
    assert refunds_sent(shop, attempt) == [half]
    assert refund_of(shop).stage is RefundStage.DONE
    assert shop.reviews() == []
    assert shop.checkout.view("A-1").refundable == due_of(attempt) - half
    assert shop.bank_received(attempt.reference) == due_of(attempt) - half


def test_after_two_repairs_at_once_what_is_left_is_refunded_and_not_a_unit_more(shop: Shop) -> None:
    attempt = half_refunded_unanswered(shop)
    meeting = Meeting("POST /refunds")
    at_once(fragile(shop, meeting.process()).reconcile, lambda: fragile(shop, meeting.process()).refresh("A-1"))
    shop.checkout.reconcile()
    left = due_of(attempt) - due_of(attempt) // 2
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", left + 1, request="page-2")
    assert refused.value.reason == "refund_exceeds"
    shop.checkout.refund("A-1", left, request="page-3")
    assert refunds_sent(shop, attempt) == [due_of(attempt) // 2, left]
    assert shop.bank_received(attempt.reference) == 0


def test_a_step_whose_keys_another_process_has_renewed_goes_on_under_those(shop: Shop) -> None:
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile("POST /quotes", after=False)))
    (unlucky,) = shop.checkout.store.order("A-1").intents

    def renewed() -> Intent | None:
        with shop.checkout.store.begin() as tx:
            tx.lock_attempt(unlucky.attempt)
            return renew(tx, unlucky, unlucky.made_at)

    first, second = renewed(), renewed()
    assert first is not None
    assert first.keys != unlucky.keys
    assert second == first
    assert shop.checkout.store.order("A-1").intents == (first,)
    with shop.checkout.store.begin() as tx:
        tx.answer_intent(unlucky.verb, unlucky.subject, "done")
    assert renewed() is None


class Overtaking:
    """Sweep and return page repair one start: both meet the spoilt key, both quote, and the second has its quote only
    when the first is at its invoice, which waits until the second is there, too."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._meeting = Barrier(2, timeout=10)
        self._first_there, self._second_there, self._invoiced = Event(), Event(), Event()

    def first(self) -> None:
        def before(request: Request) -> None:
            if request.route == "POST /invoices":
                self._first_there.set()
                self._second_there.wait(10)

        def after(request: Request, answer: Answer) -> Answer:
            if request.route == "POST /invoices":
                self._invoiced.set()
            return self._met(request, answer)

        try:
            fragile(self._shop, Watched(before=before, after=after)).reconcile()
        finally:
            self._first_there.set()
            self._invoiced.set()

    def second(self) -> None:
        def before(request: Request) -> None:
            if request.route == "POST /invoices":
                self._second_there.set()
                self._invoiced.wait(10)

        def after(request: Request, answer: Answer) -> Answer:
            if request.route == "POST /quotes" and not spoilt(answer):
                self._first_there.wait(10)
            return self._met(request, answer)

        try:
            fragile(self._shop, Watched(before=before, after=after)).refresh("A-1")
        finally:
            self._second_there.set()

    def _met(self, request: Request, answer: Answer) -> Answer:
        if request.route == "POST /quotes" and spoilt(answer):
            with suppress(BrokenBarrierError):
                self._meeting.wait()
        return answer


def spoilt(answer: Answer) -> bool:
    return isinstance(answer, Response) and answer.status >= 500


def test_a_start_that_two_processes_repair_at_once_opens_one_invoice_under_the_quote_that_is_kept(shop: Shop) -> None:
    shop.bank.control.fault("kept_error", count=1, route="POST /quotes")
    with pytest.raises(OutcomeUnknown):
        shop.start(checkout=fragile(shop, Transport()))
    both = Overtaking(shop)
    at_once(both.first, both.second)
    again(shop).reconcile()
    (attempt,) = shop.checkout.store.order("A-1").attempts
    (invoice,) = invoices_of(shop)
    assert attempt.ended is None
    assert attempt.quote is not None
    assert (attempt.invoice, attempt.quote.digest) == (invoice["id"], invoice["quote_digest"])
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.bank_received(attempt.reference) == due_of(attempt)


def test_a_start_whose_live_attempt_ends_under_its_hands_is_asked_to_come_again(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.start()
    locked = SqlTx.lock_order

    def ending(tx: SqlTx, order_id: str) -> tuple[Attempt, ...]:
        (live,) = locked(tx, order_id)
        tx.end_attempt(live.reference, "expired")
        return locked(tx, order_id)

    monkeypatch.setattr(SqlTx, "lock_order", ending)
    with pytest.raises(NotAllowed) as refused:
        shop.start()
    assert refused.value.reason == "start_in_progress"
    monkeypatch.undo()
    assert shop.start().ended is None


def test_money_that_comes_while_a_changed_order_ends_its_attempt_is_seen(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    paid: list[object] = []

    class WithoutCancel(ReferenceIssuer):
        @property
        def capabilities(self) -> frozenset[Capability]:  # type: ignore[override]  # asked at the last moment
            if not paid:
                paid.append(shop.bank.control.pay(attempt.reference, units=500))
                shop.checkout.refresh("A-1")
            return super().capabilities - {Capability.CANCEL}

    with Client(WithoutCancel(Settings.from_env(shop.environment))) as client:
        with pytest.raises(OrderChanged):
            shop.start(checkout=shop.restarted(client=client), content="basket-2")
        assert paid
    assert attempt_of(shop, attempt.reference).ended is None
    assert standing_of(shop, attempt.reference).received == shop.bank_received(attempt.reference) == 500


def test_attempts_stand_in_the_order_they_were_made_whatever_a_servers_clock_says(shop: Shop) -> None:
    shop.lose_webhooks()
    first = shop.start()
    shop.bank.control.decline(first.reference)
    shop.checkout.refresh("A-1")
    second = shop.start(checkout=shop.restarted(now=later(seconds=-30)))
    assert [one.reference for one in shop.checkout.store.order("A-1").attempts] == [first.reference, second.reference]
    shop.bank.control.pay(second.reference)
    shop.checkout.reconcile()
    assert shop.fulfilled() == [("A-1", second.reference)]
    assert shop.reviews() == []


# -- requests that arrive late, answers that are lost --------------------------------------------------------------


def test_a_refund_whose_first_request_was_merely_slow_is_done_once(shop: Shop) -> None:
    attempt = shop.buy()
    shop.lose_webhooks()
    slow = again(shop, fragile(shop, Slow("POST /refunds")))
    with pytest.raises(OutcomeUnknown):
        slow.refund("A-1", 700, request="page-1")
    slow.reconcile()
    shop.checkout.reconcile()
    assert refund_of(shop).stage is RefundStage.DONE
    assert refunds_sent(shop, attempt) == [700]
    assert shop.reviews() == []
    assert [name for name, _ in shop.told] == ["refunded"]
    assert shop.checkout.view("A-1").refundable == due_of(attempt) - 700
    assert shop.checkout.reconcile().failed == ()


def test_an_invoice_whose_first_request_was_merely_slow_is_the_attempts(shop: Shop) -> None:
    slow = fragile(shop, Slow("POST /invoices"))
    with pytest.raises(OutcomeUnknown):
        shop.start(checkout=slow)
    slow.reconcile()
    again(shop).reconcile()
    (attempt,) = shop.checkout.store.order("A-1").attempts
    (invoice,) = invoices_of(shop)
    assert (attempt.ended, attempt.invoice) == (None, invoice["id"])
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)


def test_a_refund_that_the_bank_does_after_refusing_it_counts_again_and_goes_before_a_person(shop: Shop) -> None:
    attempt = shop.buy()
    shop.lose_webhooks()
    slow = Slow("POST /refunds")
    with pytest.raises(OutcomeUnknown):
        fragile(shop, slow).refund("A-1", due_of(attempt), request="page-1")
    shop.bank.control.return_payment(attempt.reference)
    fragile(shop, Transport(), now=later(days=2)).reconcile()
    assert (refund_of(shop).stage, refund_of(shop).bank_id) == (RefundStage.FAILED, None)
    shop.bank.control.pay(attempt.reference)
    slow.arrive()
    assert refunds_sent(shop, attempt) == [due_of(attempt)]
    fragile(shop, Transport(), now=later(days=2, hours=18)).reconcile()
    assert refund_of(shop).stage is RefundStage.DONE
    assert "refund_revived" in shop.reviews()
    assert shop.checkout.view("A-1").refundable == shop.bank_received(attempt.reference) == 0


def test_a_refund_that_the_bank_did_is_not_called_undone_because_a_later_read_failed(
    shop: Shop, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = shop.buy()
    shop.lose_webhooks()
    caplog.clear()
    refund = fragile(shop, losing("GET /invoices/{id}")).refund("A-1", 700, request="page-1")
    assert refunds_sent(shop, attempt) == [700]
    assert refund.stage.counts
    assert refund.reference in caplog.text or attempt.reference in caplog.text
    assert shop.checkout.view("A-1").unknown
    assert shop.checkout.reconcile().failed == ()
    assert not shop.checkout.view("A-1").unknown
    assert refund_of(shop).stage is RefundStage.DONE
    assert refunds_sent(shop, attempt) == [700]


def test_a_capture_that_the_bank_did_is_not_called_undone_because_a_later_read_failed(shop: Shop) -> None:
    attempt = held_payment(shop)
    view = fragile(shop, losing("GET /invoices/{id}/statements")).capture("A-1")
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert view.unknown
    assert shop.checkout.reconcile().failed == ()
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert not shop.checkout.view("A-1").unknown


def test_an_order_is_unknown_while_a_refund_has_no_answer(shop: Shop) -> None:
    shop.buy()
    shop.lose_webhooks()
    assert not shop.checkout.view("A-1").unknown
    with pytest.raises(OutcomeUnknown):
        fragile(shop, Fragile("POST /refunds", after=True, lose=True)).refund("A-1", 700, request="page-1")
    assert shop.checkout.view("A-1").unknown
    shop.checkout.refresh("A-1")
    assert not shop.checkout.view("A-1").unknown


@pytest.mark.parametrize("verb", ["capture", "cancel"])
def test_what_another_server_began_is_asked_about_first_by_one_whose_clock_is_behind(shop: Shop, verb: str) -> None:
    shop.lose_webhooks()  # or the bank's own news end it first
    attempt = held_payment(shop) if verb == "capture" else shop.start()
    route = f"POST /invoices/{{id}}/{verb}"
    with pytest.raises(OutcomeUnknown):
        getattr(fragile(shop, Fragile(route, after=True, lose=True)), verb)("A-1")
    shop.bank.control.fault("error_before", route=route, count=None)
    getattr(shop.restarted(now=later(seconds=-60)), verb)("A-1")
    assert not shop.checkout.view("A-1").unknown
    done = Status.PAID if verb == "capture" else Status.CANCELLED
    assert standing_of(shop, attempt.reference).status is done


# -- steps resumed -------------------------------------------------------------------------------------------------


def held_payment(shop: Shop) -> Attempt:
    shop.lose_webhooks()
    attempt = shop.start(capture=Capture.MANUAL)
    shop.bank.control.pay(attempt.reference)
    shop.checkout.refresh("A-1")
    assert standing_of(shop, attempt.reference).status is Status.AUTHORIZED
    return attempt


def by_sweep(checkout: Checkout) -> None:
    assert checkout.reconcile().failed == ()


def by_capture(checkout: Checkout) -> None:
    assert checkout.capture("A-1").paid


@pytest.mark.parametrize("resume", [by_sweep, by_capture])
def test_a_capture_interrupted_minutes_ago_is_ordered_anew(shop: Shop, resume: Callable[[Checkout], None]) -> None:
    attempt = held_payment(shop)
    dead = Fragile("POST /invoices/{id}/capture", after=False)
    with pytest.raises(Killed):
        fragile(shop, dead, now=later(minutes=-6)).capture("A-1")
    sent: list[str] = []
    watched = Watched(before=lambda request: sent.append(request.headers.get("idempotency-key", "")))
    resume(fragile(shop, watched))
    assert sent
    assert not set(dead.keys) & set(sent)
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert shop.checkout.view("A-1").paid


def test_a_capture_whose_hold_was_let_go_meanwhile_is_given_up(shop: Shop) -> None:
    attempt = held_payment(shop)
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /invoices/{id}/capture", after=False)).capture("A-1")
    shop.bank.control.decline(attempt.reference)
    assert again(shop).reconcile().failed == ()
    assert not shop.checkout.view("A-1").unknown
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.capture("A-1")
    assert refused.value.reason == "not_authorized"
    assert shop.bank_received(attempt.reference) == 0


def test_a_capture_interrupted_just_now_is_ordered_again_under_its_key(shop: Shop) -> None:
    held_payment(shop)
    dead, living = (Fragile("POST /invoices/{id}/capture", after=after) for after in (False, True))
    with pytest.raises(Killed):
        fragile(shop, dead).capture("A-1")
    with pytest.raises(Killed):
        fragile(shop, living).reconcile()
    assert living.keys == dead.keys


def test_an_interrupted_cancel_is_finished_before_its_order_is_started_again(shop: Shop) -> None:
    shop.lose_webhooks()
    first = shop.start()
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile("POST /invoices/{id}/cancel", after=False)), content="basket-2")
    second = shop.start()
    shop.checkout.reconcile()
    assert shop.bank.control.invoice(first.reference)["status"] == "cancelled"
    assert attempt_of(shop, first.reference).ended == "cancelled"
    assert second.reference != first.reference
    assert attempt_of(shop, second.reference).ended is None
    shop.bank.control.pay(second.reference)
    assert shop.checkout.refresh("A-1").paid


def test_an_invoice_that_only_a_webhook_told_of_can_be_refunded(shop: Shop) -> None:
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile("POST /invoices", after=True)))
    (attempt,) = shop.checkout.store.order("A-1").attempts
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert attempt_of(shop, attempt.reference).invoice == invoices_of(shop)[0]["id"]
    shop.checkout.refund("A-1", 700, request="page-1")
    assert refunds_sent(shop, attempt) == [700]


def test_a_step_that_the_bank_cannot_answer_does_not_hide_its_news(shop: Shop) -> None:
    attempt = shop.buy()
    shop.lose_webhooks()
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /refunds", after=False)).refund("A-1", 700, request="page-1")
    shop.bank.control.return_payment(attempt.reference)
    shop.bank.control.fault("error_before", count=None, route="POST /refunds")
    done = again(shop, fragile(shop, Transport())).reconcile()
    assert [reference for reference, _ in done.failed] == [attempt.reference]
    assert standing_of(shop, attempt.reference).status is Status.RETURNED
    assert ("returned", "returned") in shop.told


def test_a_cancellation_taken_up_again_that_finds_the_order_paid_says_so(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /invoices/{id}/cancel", after=False)).cancel("A-1")
    shop.bank.control.pay(attempt.reference)
    with pytest.raises(OrderChanged):
        shop.checkout.cancel("A-1")
    assert shop.checkout.view("A-1").paid
    assert shop.fulfilled() == [("A-1", attempt.reference)]
