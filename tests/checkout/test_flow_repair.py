"""Killed at any step, or with every webhook lost: what the next call or a sweep repairs, by asking the bank."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from deposit_token_sdk import (
    Attempt,
    BankRefused,
    BankUnavailable,
    Capture,
    Checkout,
    Client,
    OutcomeUnknown,
    RefundStage,
)
from deposit_token_sdk.client import Carrier
from deposit_token_sdk.issuers import issuer_from
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.transport import Transport
from tests.checkout.kit import Fragile, Killed, Shop, again, fragile, invoices_of
from tests.databases import ON_BOTH

pytestmark = ON_BOTH

STEPS = [("POST /quotes", False), ("POST /quotes", True), ("POST /invoices", False), ("POST /invoices", True)]


@pytest.mark.parametrize(("route", "after"), STEPS)
def test_a_start_killed_at_any_step_is_finished_by_reconcile(shop: Shop, route: str, after: bool) -> None:
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile(route, after=after)))
    assert shop.checkout.view("A-1").unknown
    done = again(shop).reconcile()
    assert done.failed == ()
    view = shop.checkout.view("A-1")
    assert not view.unknown
    assert view.attempt is not None
    assert view.attempt.pay_url
    (invoice,) = invoices_of(shop)
    assert invoice["reference"] == view.attempt.reference
    shop.bank.control.pay(view.attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)


@pytest.mark.parametrize(("route", "after"), STEPS)
def test_a_start_killed_at_any_step_is_finished_by_the_next_start(shop: Shop, route: str, after: bool) -> None:
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile(route, after=after)))
    attempt = shop.start(checkout=again(shop))
    (invoice,) = invoices_of(shop)
    assert invoice["reference"] == attempt.reference
    assert attempt.ended is None


def test_a_lost_answer_is_unknown_keeps_its_key_and_is_repaired_by_asking(shop: Shop) -> None:
    carrier = Fragile("POST /invoices", after=True, lose=True)
    with pytest.raises(OutcomeUnknown) as unknown:
        shop.start(checkout=fragile(shop, carrier, attempts=2))
    assert len(carrier.keys) == 2
    assert len(set(carrier.keys)) == 1
    assert unknown.value.key == carrier.keys[0]
    assert unknown.value.reference == shop.checkout.store.order("A-1").attempts[0].reference
    assert shop.checkout.view("A-1").unknown
    again(shop).reconcile()
    assert len(invoices_of(shop)) == 1
    assert not shop.checkout.view("A-1").unknown


@pytest.mark.parametrize("kind", ["kept_error", "kept_error_after"])
def test_a_500_kept_under_the_key_is_unknown_and_repaired_by_asking(shop: Shop, kind: str) -> None:
    shop.bank.control.fault(kind, count=1, route="POST /invoices")
    with pytest.raises(OutcomeUnknown):
        shop.start(checkout=fragile(shop, Transport(), attempts=2))
    assert shop.checkout.view("A-1").unknown
    assert fragile(shop, Transport(), attempts=2).reconcile().failed == ()
    assert not shop.checkout.view("A-1").unknown
    assert len(invoices_of(shop)) == 1


@pytest.mark.parametrize("kind", ["kept_error", "kept_error_after"])
def test_a_refunds_500_kept_under_the_key_is_repaired_and_sent_once(shop: Shop, kind: str) -> None:
    attempt = shop.buy()
    shop.bank.control.fault(kind, count=1, route="POST /refunds")
    with pytest.raises(OutcomeUnknown):
        fragile(shop, Transport(), attempts=2).refund("A-1", 700, request="page-1")
    assert fragile(shop, Transport(), attempts=2).reconcile().failed == ()
    shop.until(lambda: shop.checkout.store.order("A-1").refunds[0].stage is RefundStage.DONE)
    sent = [entry["units"] for entry in shop.bank.control.ledger(attempt.reference) if entry["kind"] == "refund"]
    assert sent == ["700"]


def paid_without_webhooks(shop: Shop) -> Attempt:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    assert not shop.checkout.view("A-1").paid
    return attempt


def by_return_page(checkout: Checkout) -> None:
    assert checkout.refresh("A-1").paid


def by_sweep(checkout: Checkout) -> None:
    assert checkout.reconcile().applied == 1


@pytest.mark.parametrize("repair", [by_return_page, by_sweep])
def test_with_every_webhook_lost_the_order_is_marked_paid(shop: Shop, repair: Callable[[Checkout], None]) -> None:
    attempt = paid_without_webhooks(shop)
    repair(shop.checkout)
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert attempt.quote is not None
    assert shop.bank_received(attempt.reference) == attempt.quote.due


def test_a_poll_and_a_webhook_of_the_same_payment_fulfil_once(shop: Shop) -> None:
    attempt = paid_without_webhooks(shop)
    shop.checkout.refresh("A-1")
    shop.bank.control.set_webhook_url(shop.webhook_url, merchant=shop.merchant)
    shop.until(lambda: all(m["state"] == "delivered" for m in shop.bank.control.webhooks(attempt.reference)))
    shop.checkout.reconcile()
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.reviews() == []


@pytest.mark.parametrize("after", [False, True])
def test_a_refund_killed_before_or_after_its_call_is_sent_once(shop: Shop, after: bool) -> None:
    attempt = shop.buy()
    shop.lose_webhooks()  # a sweep passes over an order about which a webhook is just being applied
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /refunds", after=after)).refund("A-1", 700, request="page-1")
    (refund,) = shop.checkout.store.order("A-1").refunds
    shop.checkout.refund("A-1", 700, request="page-1")
    done = again(shop).reconcile()
    assert (done.asked, done.applied, done.failed) == (1, 1, ())
    shop.until(lambda: shop.checkout.store.order("A-1").refunds[0].stage is RefundStage.DONE)
    sent = [entry for entry in shop.bank.control.ledger(attempt.reference) if entry["kind"] == "refund"]
    assert [entry["units"] for entry in sent] == ["700"]
    assert shop.checkout.store.order("A-1").refunds[0].reference == refund.reference


@pytest.mark.parametrize("after", [False, True])
def test_a_capture_killed_before_or_after_its_call_settles_once(shop: Shop, after: bool) -> None:
    attempt = shop.start(capture=Capture.MANUAL)
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: ("authorized", "authorized") in shop.told)
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /invoices/{id}/capture", after=after)).capture("A-1")
    again(shop).reconcile()
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert attempt.quote is not None
    assert shop.bank_received(attempt.reference) == attempt.quote.due
    assert shop.fulfilled() == [("A-1", attempt.reference)]


@pytest.mark.parametrize("after", [False, True])
def test_a_cancel_killed_before_or_after_its_call_is_finished(shop: Shop, after: bool) -> None:
    attempt = shop.start()
    shop.lose_webhooks()
    with pytest.raises(Killed):
        fragile(shop, Fragile("POST /invoices/{id}/cancel", after=after)).cancel("A-1")
    again(shop).reconcile()
    assert shop.bank.control.invoice(attempt.reference)["status"] == "cancelled"
    ended = shop.checkout.store.attempt(attempt.reference)
    assert ended is not None
    assert ended.ended == "cancelled"


@pytest.mark.parametrize("route", ["POST /quotes", "POST /invoices"])
def test_within_the_keys_life_a_start_is_sent_again_under_the_key_that_was_written_first(
    shop: Shop, route: str
) -> None:
    dead, living = Fragile(route, after=False), Fragile(route, after=True)
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, dead))
    with pytest.raises(Killed):
        fragile(shop, living).reconcile()
    assert living.keys == dead.keys


def test_within_the_keys_life_a_refund_is_sent_again_under_the_key_that_was_written_first(shop: Shop) -> None:
    shop.buy()
    dead, living = Fragile("POST /refunds", after=False), Fragile("POST /refunds", after=True)
    with pytest.raises(Killed):
        fragile(shop, dead).refund("A-1", 700, request="page-1")
    with pytest.raises(Killed):
        fragile(shop, living).reconcile()
    assert living.keys == dead.keys


def test_past_the_keys_life_the_bank_is_asked_first_and_a_new_key_is_used(shop: Shop) -> None:
    dead = Fragile("POST /quotes", after=False)
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, dead))
    later = datetime.now(UTC) + timedelta(days=2)
    living = Fragile("POST /quotes", after=True)
    with pytest.raises(Killed):
        fragile_later(shop, living, later).reconcile()
    assert living.keys != dead.keys
    assert again(shop, shop.restarted(now=lambda: later)).reconcile().failed == ()
    assert len(invoices_of(shop)) == 1


def fragile_later(shop: Shop, carrier: Carrier, now: datetime) -> Checkout:
    client = Client(issuer_from(Settings.from_env(shop.environment)), transport=carrier)
    return shop.restarted(client=client, now=lambda: now)


def test_what_the_bank_refuses_ends_the_attempt_and_the_order_can_start_anew(shop: Shop) -> None:
    with pytest.raises(BankRefused) as refused:
        shop.start(token="KINEXYS-USD")
    assert refused.value.code == "unknown_token"
    assert refused.value.request_id
    (attempt,) = shop.checkout.store.order("A-1").attempts
    assert attempt.ended == "refused:unknown_token"
    assert shop.start().ended is None


def test_a_sweep_killed_while_it_asks_loses_nothing(shop: Shop) -> None:
    carrier = Fragile("GET /invoices?reference", after=False)
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile("POST /invoices", after=True)))
    with pytest.raises(Killed):
        fragile(shop, carrier).reconcile()
    assert again(shop).reconcile().failed == ()
    assert len(invoices_of(shop)) == 1


def test_a_quote_that_expired_while_the_shop_was_down_ends_the_attempt_on_the_banks_word(shop: Shop) -> None:
    with pytest.raises(Killed):
        shop.start(checkout=fragile(shop, Fragile("POST /invoices", after=False)))
    shop.bank.control.advance(3600)
    done = again(shop).reconcile()
    assert [reason for _, reason in done.failed] == ["quote_expired"]
    (ended,) = shop.checkout.store.order("A-1").attempts
    assert ended.ended == "refused:quote_expired"
    assert shop.start(checkout=again(shop)).ended is None


def test_a_bank_that_cannot_be_reached_has_done_nothing_and_the_next_start_goes_on(shop: Shop) -> None:
    nobody = {**shop.environment, "DEPOSIT_TOKEN_URL": "http://127.0.0.1:9", "DEPOSIT_TOKEN_ATTEMPTS": "1"}
    with pytest.raises(BankUnavailable) as refused:
        shop.start(checkout=shop.restarted(client=Client.from_env(nobody)))
    assert refused.value.reason == "unreachable"
    (first,) = shop.checkout.store.order("A-1").attempts
    assert first.ended is None
    attempt = shop.start()
    assert attempt.reference == first.reference
    assert len(invoices_of(shop)) == 1
