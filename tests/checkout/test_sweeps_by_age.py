"""What a sweep does with what has been open for long: it asks by reference first, and sends again only what the bank
does not know, under the old key while that lives and under a new one after.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from deposit_token_sdk import Attempt, Capture, Client, RefundStage
from deposit_token_sdk.exchange import Request
from tests.checkout.kit import (
    Fragile,
    Killed,
    Shop,
    Watched,
    attempt_of,
    due_of,
    fragile,
    invoices_of,
    later,
    refund_of,
    refunds_sent,
)

PAST_THE_KEYS_LIFE = {"hours": 25.0}


class Told:
    """What a process asked of the bank, in order: the route, and the key where there was one."""

    def __init__(self) -> None:
        self.routes: list[str] = []
        self.keys: list[str] = []
        self.carrier = Watched(before=self._note)

    def _note(self, request: Request) -> None:
        if request.route != "GET jwks":
            self.routes.append(request.route)
            self.keys += [request.headers["idempotency-key"]] if "idempotency-key" in request.headers else []


def swept_later(shop: Shop, **by: float) -> Told:
    """A sweep of another process, at another time, which fails for nothing."""
    told = Told()
    assert fragile(shop, told.carrier, now=later(**by)).reconcile().failed == ()
    return told


def killed_refund(shop: Shop, *, after: bool) -> Attempt:
    attempt = shop.buy()
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /refunds", after=after)).refund("A-1", 700, request="page-1")
    return attempt


def test_past_the_keys_life_a_refund_that_the_bank_knows_is_not_sent_again(shop: Shop) -> None:
    attempt = killed_refund(shop, after=True)
    told = swept_later(shop, **PAST_THE_KEYS_LIFE)
    assert "POST /refunds" not in told.routes
    assert refund_of(shop).stage is RefundStage.DONE
    assert refunds_sent(shop, attempt) == [700]


def test_past_the_keys_life_a_refund_that_the_bank_does_not_know_is_asked_for_first_and_sent_under_a_new_key(
    shop: Shop,
) -> None:
    attempt = shop.buy()
    dead = Fragile("POST /refunds", after=False)
    with pytest.raises(Killed):
        fragile(shop, dead).refund("A-1", 700, request="page-1")
    told = swept_later(shop, **PAST_THE_KEYS_LIFE)
    assert told.routes.index("GET /refunds?reference") < told.routes.index("POST /refunds")
    assert len(told.keys) == 1
    assert told.keys != dead.keys
    assert refunds_sent(shop, attempt) == [700]


@pytest.mark.parametrize(("hours", "same"), [(23.0, True), (25.0, False)])
def test_the_key_of_a_refund_lives_for_as_long_as_its_bank_says(shop: Shop, hours: float, same: bool) -> None:
    shop.buy()
    dead = Fragile("POST /refunds", after=False)
    with pytest.raises(Killed):
        fragile(shop, dead).refund("A-1", 700, request="page-1")
    told = swept_later(shop, hours=hours)
    assert (told.keys == dead.keys) is same


def test_past_the_keys_life_an_invoice_that_the_bank_knows_is_taken_and_none_is_made(shop: Shop) -> None:
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile("POST /invoices", after=True)))
    told = swept_later(shop, **PAST_THE_KEYS_LIFE)
    assert told.keys == []
    (invoice,) = invoices_of(shop)
    (attempt,) = shop.checkout.store.order("A-1").attempts
    assert attempt.invoice == invoice["id"]


def test_a_capture_whose_word_is_stale_is_asked_about_and_given_anew(shop: Shop) -> None:
    attempt = shop.start(capture=Capture.MANUAL)
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: ("authorized", "authorized") in shop.told)
    dead = Fragile("POST /invoices/{id}/capture", after=False)
    with pytest.raises(Killed):
        fragile(shop, dead).capture("A-1")
    told = swept_later(shop, minutes=4.5)
    assert told.routes.index("GET /invoices?reference") < told.routes.index("POST /invoices/{id}/capture")
    assert told.keys != dead.keys
    assert shop.checkout.view("A-1").paid


def test_a_refund_that_the_bank_leaves_pending_is_asked_about_until_it_is_done(shop: Shop) -> None:
    shop.buy()
    shop.bank.control.hold_refunds()
    refund = shop.checkout.refund("A-1", 700, request="page-1")
    assert refund.stage is RefundStage.PENDING
    shop.lose_webhooks()
    swept_later(shop, days=5.0)
    assert refund_of(shop).stage is RefundStage.PENDING
    assert refund.bank_id is not None
    shop.bank.control.finish_refund(refund.bank_id)
    swept_later(shop, days=6.0)
    assert refund_of(shop).stage is RefundStage.DONE


def test_a_payment_that_is_stuck_on_its_way_is_asked_about_until_it_settles(shop: Shop) -> None:
    attempt = shop.start()
    shop.lose_webhooks()
    shop.bank.control.hold(attempt.reference)
    shop.bank.control.pay(attempt.reference)
    swept_later(shop, minutes=10.0)
    assert not shop.checkout.view("A-1").paid
    shop.bank.control.settle(attempt.reference)
    swept_later(shop, minutes=20.0)
    assert shop.checkout.store.order("A-1").paid_by == attempt.reference


def test_an_unpaid_attempt_is_ended_on_the_banks_word_once_it_has_run_out(shop: Shop) -> None:
    attempt = shop.start()
    shop.lose_webhooks()
    swept_later(shop, hours=2.0)
    assert attempt_of(shop, attempt.reference).ended is None  # the shop's clock decides nothing
    shop.bank.control.advance(3600)
    swept_later(shop, hours=3.0)
    assert attempt_of(shop, attempt.reference).ended == "expired"


def test_what_was_begun_a_moment_ago_is_left_to_whoever_began_it(shop: Shop) -> None:
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile("POST /invoices", after=False)))
    assert shop.checkout.reconcile(timedelta(minutes=1)).asked == 0
    told = Told()
    assert fragile(shop, told.carrier, now=later(minutes=2)).reconcile(timedelta(minutes=1)).asked == 1
    assert "POST /invoices" in told.routes


def test_a_refusal_is_no_last_word_on_what_has_ended(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.decline(attempt.reference)
    shop.checkout.reconcile()
    shop.bank.control.pay(attempt.reference)
    wrong = {**shop.environment, "DEPOSIT_TOKEN_SIGNING_KEY_ID": "no-key-of-ours"}
    with Client.from_env(wrong) as client:
        ((_, reason),) = shop.restarted(client=client, now=later(days=4)).reconcile().failed
    assert reason == "signature_invalid"
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    shop.restarted(now=later(days=8)).reconcile()
    assert shop.reviews() == ["old_attempt"]
