"""What comes after a matter was thought settled: money after a verdict, a worker's answer after another's. It is
dropped nowhere, and it undoes nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime

from deposit_token_sdk import RefundStage
from deposit_token_sdk.checkout.door import Door
from tests.checkout.kit import Shop, due_of, refund_of, refunds_sent
from tests.checkout.reviewed import ACCEPT, REFUND, decide
from tests.databases import ON_BOTH

pytestmark = ON_BOTH


def test_late_money_that_comes_after_other_late_money_was_sent_back_waits_for_a_person_again(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.advance(3600)
    shop.until(lambda: ("expired", "expired") in shop.told)
    shop.lose_webhooks()
    for _ in range(2):
        shop.bank.control.pay(attempt.reference)
        shop.checkout.refresh("A-1")
        assert shop.bank_received(attempt.reference) == due_of(attempt)
        assert shop.reviews() == ["late"]
        decide(shop, "late", REFUND)
        assert shop.bank_received(attempt.reference) == 0
    assert shop.fulfilled() == []


def test_what_is_left_of_a_part_payment_after_a_return_waits_for_a_person(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    for units in (400, 300):
        shop.bank.control.pay(attempt.reference, units=units)
    shop.checkout.refresh("A-1")
    (first, _) = shop.bank.control.invoice(attempt.reference)["movements"]
    shop.bank.control.return_payment(attempt.reference, first["id"])
    shop.bank.control.advance(3600)
    shop.checkout.reconcile()
    assert shop.bank_received(attempt.reference) == 300
    assert shop.reviews() == ["partly_paid"]
    decide(shop, "partly_paid", REFUND)
    assert refunds_sent(shop, attempt) == [300]
    assert shop.bank_received(attempt.reference) == 0
    assert shop.fulfilled() == []


def test_a_return_of_what_paid_a_fulfilled_order_leaves_no_part_payment_to_decide(shop: Shop) -> None:
    attempt = shop.start()
    for units in (400, due_of(attempt) - 400):
        shop.bank.control.pay(attempt.reference, units=units)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    shop.bank.control.return_payment(attempt.reference)
    shop.until(lambda: ("returned", "returned") in shop.told)
    assert shop.reviews() == []


def test_late_money_that_comes_after_other_late_money_was_returned_waits_for_a_person_again(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.advance(3600)
    shop.until(lambda: ("expired", "expired") in shop.told)
    shop.lose_webhooks()
    shop.bank.control.pay(attempt.reference)
    shop.checkout.refresh("A-1")
    shop.bank.control.return_payment(attempt.reference)
    shop.checkout.reconcile()
    decide(shop, "late", ACCEPT)
    assert shop.reviews() == []
    shop.bank.control.pay(attempt.reference)
    shop.checkout.reconcile()
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert shop.fulfilled() == []
    assert shop.reviews() == ["late"]
    decide(shop, "late", ACCEPT)
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_a_refusal_that_is_heard_after_the_refund_was_done_frees_nothing(shop: Shop) -> None:
    attempt = shop.buy()
    refund = shop.checkout.refund("A-1", 700, request="page-1")
    shop.until(lambda: refund_of(shop).stage is RefundStage.DONE)
    door = Door(shop.checkout.store, shop.checkout)
    door.refund_refused(attempt, refund, "not_enough", datetime.now(UTC), unseen=True)
    assert refunds_sent(shop, attempt) == [700]
    assert refund_of(shop).stage is RefundStage.DONE
    assert shop.checkout.view("A-1").refundable == due_of(attempt) - 700
    assert "refund_failed" not in shop.reviews()
