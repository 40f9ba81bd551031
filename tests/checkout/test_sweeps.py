"""What a sweep finds, whom it asks about first, what it tells of, and that one order's trouble is never another's."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from deposit_token_sdk import RefundStage
from deposit_token_sdk.exchange import Exchange, Request
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.models import Proof
from tests.checkout.kit import Shop, Watched, again, fragile, refund_of


def test_a_sweep_of_few_comes_round_to_every_order(shop: Shop) -> None:
    shop.lose_webhooks()
    for number in range(3):
        shop.start(f"O-{number}")
    attempt = shop.start("A-9")
    shop.bank.control.pay(attempt.reference)
    assert [shop.checkout.reconcile(limit=3).asked for _ in range(2)] == [3, 3]
    assert shop.fulfilled() == [("A-9", attempt.reference)]


def test_one_order_that_cannot_be_asked_about_does_not_keep_a_sweep_from_the_others(shop: Shop) -> None:
    shop.lose_webhooks()
    first, second = shop.start("A-1"), shop.start("A-2")
    for attempt in (first, second):
        shop.bank.control.pay(attempt.reference)

    def fail(request: Request) -> None:
        if first.invoice is not None and first.invoice in request.url:
            raise RuntimeError

    done = fragile(shop, Watched(before=fail)).reconcile()
    assert [reference for reference, _ in done.failed] == [first.reference]
    assert (shop.checkout.view("A-1").paid, shop.checkout.view("A-2").paid) == (False, True)


def test_a_sweep_tells_of_orders_whose_hook_failed(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    checkout = shop.restarted()

    @checkout.on_paid
    def fulfil(_: object, __: object) -> None:
        raise RuntimeError

    assert [reference for reference, _ in checkout.reconcile().failed] == [attempt.reference]
    assert not shop.checkout.view("A-1").paid
    assert again(shop).reconcile().failed == ()
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_what_a_poll_could_not_apply_is_applied_when_it_is_asked_again(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    mistaken = shop.restarted(proofs=[Proof.CHANNEL])
    assert mistaken.reconcile().failed == ((attempt.reference, "proof_not_allowed"),)
    assert "proof_not_allowed" in shop.reviews()
    assert again(shop).reconcile().failed == ()
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_a_statement_that_the_bank_shows_after_its_movement_is_applied(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    signed = ReferenceIssuer._statements

    def none_yet(issuer: ReferenceIssuer, invoice: str) -> Exchange[tuple[tuple[str, ...], float]]:
        _, at = yield from signed(issuer, invoice)
        return (), at

    monkeypatch.setattr(ReferenceIssuer, "_statements", none_yet)
    assert not shop.checkout.refresh("A-1").paid
    monkeypatch.undo()
    assert shop.checkout.refresh("A-1").paid
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def money_on_a_cancelled_invoice(shop: Shop) -> tuple[str, str]:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.decline(attempt.reference)
    shop.checkout.reconcile()
    shop.bank.control.pay(attempt.reference)
    return "review", "old_attempt"


def a_return(shop: Shop) -> tuple[str, str]:
    attempt = shop.buy()
    shop.lose_webhooks()
    shop.bank.control.return_payment(attempt.reference)
    return "returned", "returned"


def a_second_payment(shop: Shop) -> tuple[str, str]:
    attempt = shop.buy()
    shop.lose_webhooks()
    shop.bank.control.pay(attempt.reference)
    return "review", "second_payment"


def a_refund_that_fails_after_all(shop: Shop) -> tuple[str, str]:
    shop.buy()
    refund = shop.checkout.refund("A-1", 700, request="page-1")
    shop.until(lambda: refund_of(shop).stage is RefundStage.DONE)
    shop.lose_webhooks()
    assert refund.bank_id is not None
    shop.bank.control.fail_refund(refund.bank_id)
    return "refund_failed", refund.reference


AFTERWARDS = [money_on_a_cancelled_invoice, a_return, a_second_payment, a_refund_that_fails_after_all]


@pytest.mark.parametrize("happen", AFTERWARDS)
def test_a_sweep_finds_what_happens_to_an_attempt_after_its_end(
    shop: Shop, happen: Callable[[Shop], tuple[str, str]]
) -> None:
    name, detail = happen(shop)
    assert shop.checkout.reconcile().failed == ()
    assert any(told == name and said.startswith(detail) for told, said in shop.told)


def test_an_attempt_that_ended_long_ago_is_asked_about_a_last_time_and_no_more(shop: Shop) -> None:
    shop.buy()
    assert shop.checkout.reconcile(ended_within=timedelta(0)).asked == 1
    assert shop.checkout.reconcile().asked == 0


def test_a_refund_has_an_attempt_asked_about_again_that_had_been_seen_to(shop: Shop) -> None:
    shop.buy()
    shop.checkout.reconcile(ended_within=timedelta(0))
    shop.checkout.refund("A-1", 700, request="page-1")
    assert shop.checkout.reconcile(ended_within=timedelta(0)).asked == 1
    shop.until(lambda: refund_of(shop).stage is RefundStage.DONE)
    shop.checkout.reconcile(ended_within=timedelta(0))
    assert shop.checkout.reconcile().asked == 0


def test_a_sweep_does_not_ask_again_what_was_asked_about_lately(shop: Shop) -> None:
    shop.lose_webhooks()
    shop.start()
    assert shop.checkout.reconcile(older_than=timedelta(hours=1)).asked == 0
    assert shop.checkout.reconcile().asked == 1
    assert shop.checkout.reconcile(older_than=timedelta(hours=1)).asked == 0


def test_an_ended_attempt_of_which_the_bank_said_nothing_stays_due(shop: Shop) -> None:
    shop.buy()

    def fail(_: Request) -> None:
        raise RuntimeError

    broken = fragile(shop, Watched(before=fail))
    assert [broken.reconcile(ended_within=timedelta(0)).asked for _ in range(2)] == [1, 1]
