"""Sending money back: in parts, never too much, never twice, and what a failed refund frees."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from deposit_token_sdk import InvalidInput, InvalidType, Money, NotAllowed, RefundStage
from deposit_token_sdk.checkout.store import RefundRecord
from tests.checkout.kit import Shop
from tests.databases import ON_BOTH

pytestmark = ON_BOTH


def refund_of(shop: Shop, reference: str) -> RefundRecord:
    return next(one for one in shop.checkout.store.order("A-1").refunds if one.reference == reference)


def test_a_full_refund_brings_the_banks_ledger_to_nothing(shop: Shop) -> None:
    attempt = shop.buy()
    refund = shop.checkout.refund("A-1", Money("128.50", "EUR"), request="page-1")
    shop.until(lambda: refund_of(shop, refund.reference).stage is RefundStage.DONE)
    assert shop.bank_received(attempt.reference) == 0
    assert ("refunded", refund.reference) in shop.told
    assert shop.checkout.view("A-1").paid


def test_parts_of_the_price_end_at_the_exact_rest(shop: Shop) -> None:
    attempt = shop.buy(price=Money("10.00", "EUR"))
    assert attempt.quote is not None
    units = [
        shop.checkout.refund("A-1", Money(part, "EUR"), request=f"page-{number}").units
        for number, part in enumerate(("3.34", "3.33", "3.33"))
    ]
    assert sum(units) == attempt.quote.due
    shop.until(lambda: all(one.stage is RefundStage.DONE for one in shop.checkout.store.order("A-1").refunds))
    assert shop.bank_received(attempt.reference) == 0


def test_the_same_request_is_the_same_refund_and_another_is_another(shop: Shop) -> None:
    attempt = shop.buy()
    first = shop.checkout.refund("A-1", 500, request="page-1")
    assert shop.checkout.refund("A-1", 500, request="page-1").reference == first.reference
    second = shop.checkout.refund("A-1", 500, request="page-2")
    assert second.reference != first.reference
    sent = [entry for entry in shop.bank.control.ledger(attempt.reference) if entry["kind"] == "refund"]
    assert [entry["units"] for entry in sent] == ["500", "500"]


def test_a_double_click_from_two_threads_is_one_refund(shop: Shop) -> None:
    attempt = shop.buy()
    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(lambda _: shop.checkout.refund("A-1", 700, request="page-1").reference, range(8)))
    assert len(set(done)) == 1
    sent = [entry["units"] for entry in shop.bank.control.ledger(attempt.reference) if entry["kind"] == "refund"]
    assert sent == ["700"]


def test_refunds_racing_each_other_never_exceed_what_was_received(shop: Shop) -> None:
    attempt = shop.buy()
    assert attempt.quote is not None
    part = attempt.quote.due * 6 // 10

    def one(number: int) -> str:
        try:
            shop.checkout.refund("A-1", part, request=f"page-{number}")
        except NotAllowed as refused:
            return refused.reason
        return "sent"

    with ThreadPoolExecutor(16) as threads:
        outcomes = sorted(threads.map(one, range(16)))
    assert outcomes == ["refund_exceeds"] * 15 + ["sent"]
    assert shop.bank_received(attempt.reference) == attempt.quote.due - part


def test_a_refund_that_fails_days_later_frees_its_amount_and_is_reviewed(shop: Shop) -> None:
    attempt = shop.buy()
    assert attempt.quote is not None
    refund = shop.checkout.refund("A-1", attempt.quote.due, request="page-1")
    shop.until(lambda: refund_of(shop, refund.reference).stage is RefundStage.DONE)
    assert shop.checkout.view("A-1").refundable == 0
    bank_id = refund_of(shop, refund.reference).bank_id
    assert bank_id is not None
    shop.bank.control.fail_refund(bank_id)
    shop.until(lambda: refund_of(shop, refund.reference).stage is RefundStage.FAILED)
    assert "refund_failed" in shop.reviews()
    assert ("refund_failed", refund.reference) in shop.told
    assert shop.checkout.view("A-1").refundable == attempt.quote.due
    assert shop.bank_received(attempt.reference) == attempt.quote.due
    again = shop.checkout.refund("A-1", attempt.quote.due, request="page-2")
    shop.until(lambda: refund_of(shop, again.reference).stage is RefundStage.DONE)
    assert shop.bank_received(attempt.reference) == 0


def test_a_refund_never_changes_the_status_of_the_order(shop: Shop) -> None:
    shop.buy()
    shop.checkout.refund("A-1", Money("128.50", "EUR"), request="page-1")
    attempt = shop.checkout.view("A-1").attempt
    assert attempt is not None
    assert attempt.standing is not None
    assert attempt.standing.status == "paid"


@pytest.mark.parametrize(
    ("amount", "reason"),
    [
        (10**9, "refund_exceeds"),
        (0, "refund_not_positive"),
        (-5, "refund_not_positive"),
        (Money("128.51", "EUR"), "refund_exceeds"),
        (Money("1.00", "USD"), "refund_currency"),
    ],
    ids=str,
)
def test_a_refund_that_cannot_be_is_refused_and_the_bank_is_not_asked(
    shop: Shop, amount: int | Money, reason: str
) -> None:
    attempt = shop.buy()
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", amount, request="page-1")
    assert refused.value.reason == reason
    assert shop.checkout.store.order("A-1").refunds == ()
    assert attempt.quote is not None
    assert shop.bank_received(attempt.reference) == attempt.quote.due


def test_a_refund_in_euros_and_one_in_units_do_not_mix(shop: Shop) -> None:
    shop.buy()
    shop.checkout.refund("A-1", Money("5.00", "EUR"), request="page-1")
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", 5, request="page-2")
    assert refused.value.reason == "refund_mixed"


def test_a_float_is_a_type_error_and_a_request_of_another_order_is_refused(shop: Shop) -> None:
    shop.buy("A-1")
    shop.buy("A-2")
    with pytest.raises(InvalidType):
        shop.checkout.refund("A-1", 1.5, request="page-1")  # type: ignore[arg-type]
    shop.checkout.refund("A-1", 5, request="page-1")
    with pytest.raises(InvalidInput) as refused:
        shop.checkout.refund("A-2", 5, request="page-1")
    assert refused.value.reason == "request_reused"


def test_an_unpaid_order_has_nothing_to_refund(shop: Shop) -> None:
    shop.start()
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", 5, request="page-1")
    assert refused.value.reason == "nothing_to_refund"
