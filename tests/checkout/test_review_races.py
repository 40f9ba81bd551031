"""Two who decide at once, a process that is killed in between, a bank that refuses: one decision, no money twice."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve

from deposit_token_sdk import BankRefused, InvalidInput, NotAllowed, RefundStage
from deposit_token_sdk.checkout.hooks import Late, News
from tests.checkout.kit import (
    Fragile,
    Killed,
    Shop,
    Watched,
    after_expiry,
    again,
    at_once,
    attempt_of,
    due_of,
    fragile,
    losing,
    refund_of,
    refunds_sent,
)
from tests.checkout.reviewed import ACCEPT, REFUND, RETRY, decide, late, paid_twice, the_review
from tests.databases import ON_BOTH

# -- once ----------------------------------------------------------------------------------------------------------


def test_a_second_decision_is_refused_and_names_the_first(shop: Shop) -> None:
    attempt = paid_twice(shop)
    number = the_review(shop, "second_payment").number
    shop.checkout.resolve(number, REFUND, by="anna", note="paid twice")
    for verdict in (REFUND, ACCEPT):
        with pytest.raises(NotAllowed, match=r"refund, by anna at .* UTC \(paid twice\)") as refused:
            shop.checkout.resolve(number, verdict, by="ben")
        assert refused.value.reason == "review_decided"
    assert refunds_sent(shop, attempt) == [due_of(attempt)]


@ON_BOTH
def test_of_sixteen_who_decide_at_once_one_does_and_one_refund_is_sent(shop: Shop) -> None:
    attempt = paid_twice(shop)
    number = the_review(shop, "second_payment").number
    names = itertools.cycle("ab")
    told = at_once(*[lambda: shop.checkout.resolve(number, REFUND, by=next(names))] * 16)
    assert [one for one in told if one is None] == [None]
    assert {one.reason for one in told if isinstance(one, NotAllowed)} == {"review_decided"}
    assert sum(isinstance(one, NotAllowed) for one in told) == 15
    assert refunds_sent(shop, attempt) == [due_of(attempt)]


@ON_BOTH
def test_refund_and_accept_at_once_either_fulfil_or_send_back_and_never_both(shop: Shop) -> None:
    attempt = late(shop)
    number = the_review(shop, "late").number
    works = [lambda verdict=verdict: shop.checkout.resolve(number, verdict, by="anna") for verdict in (REFUND, ACCEPT)]
    assert [one is None for one in at_once(*works * 4)].count(True) == 1
    fulfilled, sent = shop.fulfilled(), refunds_sent(shop, attempt)
    assert (len(fulfilled), len(sent)) in ((1, 0), (0, 1))
    assert shop.bank_received(attempt.reference) == due_of(attempt) * len(fulfilled)


@ON_BOTH
def test_a_decision_and_the_banks_news_at_once_fulfil_once(shop: Shop) -> None:
    old = late(shop)
    number = the_review(shop, "late").number
    told = at_once(
        *[lambda: shop.checkout.resolve(number, ACCEPT, by="anna")] * 4, *[lambda: shop.checkout.refresh("A-1")] * 4
    )
    assert {one.reason for one in told if isinstance(one, NotAllowed)} == {"review_decided"}
    assert shop.fulfilled() == [("A-1", old.reference)]


def test_what_cannot_be_decided_is_refused_and_says_what_can(shop: Shop) -> None:
    late(shop)
    review = the_review(shop, "late")
    with pytest.raises(NotAllowed, match="choose accept or refund") as refused:
        shop.checkout.resolve(review.number, RETRY, by="anna")
    assert refused.value.reason == "verdict_not_allowed"
    for number, verdict, by, reason in (
        (review.number + 1, ACCEPT, "anna", "unknown_review"),
        (review.number, "keep", "anna", "verdict_unknown"),
        (review.number, ACCEPT, "", "text_missing"),
    ):
        with pytest.raises(InvalidInput) as wrong:
            shop.checkout.resolve(number, verdict, by=by)  # type: ignore[arg-type]  # as from a form
        assert wrong.value.reason == reason
    assert shop.reviews() == ["late"]


# -- killed, unanswered, refused -----------------------------------------------------------------------------------


@ON_BOTH
@pytest.mark.parametrize("after", [False, True], ids=["before the bank has it", "after the bank has it"])
def test_a_kill_between_decision_and_refund_is_ended_by_the_next_sweep_with_one_refund(shop: Shop, after: bool) -> None:
    attempt = paid_twice(shop)
    with pytest.raises(Killed):
        decide(shop, "second_payment", REFUND, checkout=fragile(shop, Fragile("POST /refunds", after=after)))
    assert shop.reviews() == []
    assert refund_of(shop).stage is RefundStage.REQUESTED
    shop.checkout.reconcile()
    assert refunds_sent(shop, attempt) == [due_of(attempt)]
    assert shop.bank_received(attempt.reference) == due_of(attempt)


def test_a_kill_while_the_superseded_invoice_is_cancelled_is_ended_by_the_next_sweep(shop: Shop) -> None:
    old = shop.start()
    new = shop.start(content="basket-2")
    shop.bank.control.pay(old.reference)
    shop.until(lambda: shop.reviews() == ["old_attempt"])
    shop.lose_webhooks()
    dying = again(shop, fragile(shop, Fragile("POST /invoices/{id}/cancel", after=False)))
    with pytest.raises(Killed):
        decide(shop, "old_attempt", ACCEPT, checkout=dying)
    assert shop.fulfilled() == [("A-1", old.reference)]
    assert shop.bank.control.invoice(new.reference)["status"] == "open"
    shop.checkout.reconcile()
    assert shop.bank.control.invoice(new.reference)["status"] == "cancelled"


def test_a_retry_does_not_hide_that_the_same_person_has_decided_otherwise(shop: Shop) -> None:
    late(shop)
    with shop.checkout.store.begin() as tx:
        tx.open_review(evolve(the_review(shop, "late"), reason="not_json"))
    number = the_review(shop, "not_json").number
    in_another_tab = [number]

    def accept(_: object) -> None:
        if in_another_tab:
            shop.checkout.resolve(in_another_tab.pop(), ACCEPT, by="anna")

    with pytest.raises(NotAllowed) as refused:
        fragile(shop, Watched(before=accept)).resolve(number, RETRY, by="anna")
    assert refused.value.reason == "review_decided"
    assert in_another_tab == []


def test_a_bank_that_cannot_be_reached_leaves_the_decision_standing_and_the_refund_to_the_sweep(shop: Shop) -> None:
    attempt = paid_twice(shop)
    decision = decide(shop, "second_payment", REFUND, checkout=fragile(shop, losing("POST /refunds")))
    assert decision.refund == refund_of(shop).reference
    shop.checkout.reconcile()
    assert refunds_sent(shop, attempt) == [due_of(attempt)]


def test_a_refund_that_the_bank_refuses_is_raised_and_stands_as_a_review_of_its_own(shop: Shop) -> None:
    attempt = paid_twice(shop)
    number = the_review(shop, "second_payment").number
    for _ in range(2):
        shop.bank.control.return_payment(attempt.reference)
    with pytest.raises(BankRefused):
        shop.checkout.resolve(number, REFUND, by="anna")
    assert refund_of(shop).stage is RefundStage.FAILED
    assert shop.reviews() == ["refund_failed"]
    assert ("refund_failed", refund_of(shop).reference) in shop.told
    assert shop.decided() == [("second_payment", "refund", "anna")]


# -- attempts that end in odd ways -----------------------------------------------------------------------------------


def test_an_order_whose_part_was_sent_back_can_be_cancelled_and_begun_anew(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=100)
    shop.checkout.refresh("A-1")
    shop.checkout.refund("A-1", 100, request="page-1", reference=attempt.reference)
    shop.checkout.cancel("A-1")
    assert attempt_of(shop, attempt.reference).ended is not None
    anew = shop.start()
    shop.bank.control.pay(anew.reference)
    shop.checkout.refresh("A-1")
    assert shop.fulfilled() == [("A-1", anew.reference)]


def test_an_order_that_was_paid_by_money_sent_back_before_can_be_begun_anew(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    half = due_of(attempt) // 2
    shop.bank.control.pay(attempt.reference, units=half)
    shop.checkout.refresh("A-1")
    shop.checkout.refund("A-1", half, request="page-1", reference=attempt.reference)
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) - half)
    shop.checkout.refresh("A-1")
    decide(shop, "refunded_before_paid", REFUND)
    assert shop.bank_received(attempt.reference) == 0
    anew = shop.start()
    shop.bank.control.pay(anew.reference)
    shop.checkout.refresh("A-1")
    assert shop.fulfilled() == [("A-1", anew.reference)]
    assert shop.reviews() == []


def test_a_review_calls_on_review_and_a_decision_does_not(shop: Shop) -> None:
    told: list[str] = []

    @shop.checkout.on_review
    def note(news: News, _: object) -> None:
        told.append(news.detail.partition(":")[0])

    late(shop)
    decide(shop, "late", REFUND)
    assert told == ["late"]


def test_a_late_payment_found_beside_an_unfinished_cancellation_is_sent_back_at_once(shop: Shop) -> None:
    shop.lose_webhooks()
    shop.checkout.on_late(lambda _, __: Late.REFUND)
    attempt = shop.start()
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /invoices/{id}/cancel", after=False)).cancel("A-1")
    shop.bank.control.pay(attempt.reference, at=after_expiry(attempt))
    shop.checkout.refresh("A-1")
    assert refunds_sent(shop, attempt) == [due_of(attempt)]
    assert shop.bank_received(attempt.reference) == 0
