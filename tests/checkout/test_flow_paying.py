"""From start to paid: by webhook, by poll, short, over, twice, late. Amounts are the bank's ledger's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from deposit_token_sdk import (
    Attempt,
    Capture,
    Client,
    InvalidInput,
    InvalidType,
    Late,
    Money,
    NotAllowed,
    OrderChanged,
    Paid,
    PriceRefused,
    Status,
)
from deposit_token_sdk.checkout.hooks import News
from deposit_token_sdk.evidence import authenticate_stored
from deposit_token_sdk.models import Proof
from tests.checkout.kit import Shop, answers_to, due_of, fulfilments, standing_of


def in_business_time(shop: Shop, **ahead: float) -> str:
    now = datetime.fromisoformat(shop.bank.control.time()["now"])
    return (now.astimezone(UTC) + timedelta(**ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_a_webhook_pays_the_order_once_and_the_banks_ledger_agrees(shop: Shop) -> None:
    attempt = shop.buy()
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert standing_of(shop, attempt.reference).received == due_of(attempt)
    assert shop.bank.control.audit() == []


@pytest.mark.parametrize(
    ("price", "token"),
    [
        (Money("128.50", "EUR"), "SBUSD"),
        (Money("12850", "JPY"), "SBEUR"),
        (Money("1.234", "KWD"), "SBUSD"),
        (Money("7.77", "GBP"), "SBCNH"),
        (Money("99.99", "USD"), "SBUSD"),
    ],
    ids=str,
)
def test_every_currency_and_token_is_received_to_the_unit(shop: Shop, price: Money, token: str) -> None:
    attempt = shop.buy(price=price, token=token)
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    invoice = shop.bank.control.invoice(attempt.reference)
    assert invoice["due"] == str(due_of(attempt))
    assert invoice["token"] == token


def test_a_second_start_of_the_same_order_returns_the_live_attempt(shop: Shop) -> None:
    first = shop.start()
    assert shop.start() == first
    assert len(shop.bank.control.invoices(merchant=shop.merchant)) == 1


def test_a_paid_order_is_not_started_again(shop: Shop) -> None:
    shop.buy()
    with pytest.raises(NotAllowed) as refused:
        shop.start()
    assert refused.value.reason == "order_paid"
    assert len(shop.bank.control.invoices(merchant=shop.merchant)) == 1


def test_a_changed_order_cancels_the_old_invoice_at_the_bank_and_opens_another(shop: Shop) -> None:
    first = shop.start()
    second = shop.start(price=Money("99.00", "EUR"), content="basket-2")
    assert second.reference != first.reference
    assert shop.bank.control.invoice(first.reference)["status"] == "cancelled"
    ended = shop.checkout.store.attempt(first.reference)
    assert ended is not None
    assert ended.ended == "cancelled"
    shop.bank.control.pay(second.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.fulfilled() == [("A-1", second.reference)]


def test_a_changed_order_is_refused_while_money_is_on_its_way(shop: Shop) -> None:
    first = shop.start()
    shop.bank.control.hold(first.reference)
    shop.bank.control.pay(first.reference)
    with pytest.raises(OrderChanged) as refused:
        shop.start(content="basket-2")
    assert refused.value.reason == "order_changed"
    shop.bank.control.settle(first.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)


def test_two_halves_pay_an_order_and_the_first_is_news_and_no_forgery(shop: Shop) -> None:
    attempt = shop.start()
    due = due_of(attempt)
    shop.bank.control.pay(attempt.reference, units=due // 2)
    shop.until(lambda: bool(standing_of(shop, attempt.reference).underpaid))
    assert not shop.checkout.view("A-1").paid
    assert ("underpaid", "underpaid") in shop.told
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.bank_received(attempt.reference) == due
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_one_unit_short_is_not_paid(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) - 1)
    shop.until(lambda: bool(standing_of(shop, attempt.reference).received))
    assert standing_of(shop, attempt.reference).underpaid == 1
    assert shop.fulfilled() == []


def test_a_surplus_pays_the_order_and_goes_to_review(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) + 10)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert standing_of(shop, attempt.reference).overpaid == 10
    assert shop.reviews() == ["overpaid"]
    assert ("overpaid", "overpaid") in shop.told


def test_a_second_payment_for_a_paid_invoice_is_recorded_but_never_fulfilled(shop: Shop) -> None:
    attempt = shop.buy()
    shop.bank.control.pay(attempt.reference, buyer="anna", units=due_of(attempt))
    shop.until(lambda: "second_payment" in shop.reviews())
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert standing_of(shop, attempt.reference).received == 2 * due_of(attempt)
    assert shop.bank_received(attempt.reference) == 2 * due_of(attempt)


def test_money_on_a_superseded_attempt_goes_to_review_and_pays_nothing(shop: Shop) -> None:
    old = shop.start()
    new = shop.start(content="basket-2")
    shop.bank.control.pay(old.reference)
    shop.until(lambda: "old_attempt" in shop.reviews())
    assert shop.fulfilled() == []
    shop.bank.control.pay(new.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.fulfilled() == [("A-1", new.reference)]


def test_an_expired_invoice_ends_on_the_banks_word_and_the_next_start_asks_anew(shop: Shop) -> None:
    first = shop.start()
    shop.bank.control.advance(3600)
    shop.until(lambda: ("expired", "expired") in shop.told)
    second = shop.start()
    assert second.reference != first.reference
    assert second.ended is None


def test_a_lost_expiry_is_found_when_the_order_is_started_again(shop: Shop) -> None:
    shop.lose_webhooks()
    first = shop.start()
    shop.bank.control.advance(3600)
    shop.checkout.refresh("A-1")
    second = shop.start()
    assert second.reference != first.reference


def late_payment(shop: Shop) -> Attempt:
    attempt = shop.start()
    shop.bank.control.advance(3600)
    shop.until(lambda: ("expired", "expired") in shop.told)
    shop.bank.control.pay(attempt.reference)
    return attempt


def test_a_late_payment_is_held_for_review_where_no_hook_decides(shop: Shop) -> None:
    attempt = late_payment(shop)
    shop.until(lambda: "late" in shop.reviews())
    assert standing_of(shop, attempt.reference).late
    assert standing_of(shop, attempt.reference).status is Status.PAID
    assert shop.fulfilled() == []


def test_a_late_payment_can_be_accepted_by_the_shop(shop: Shop) -> None:
    @shop.checkout.on_late
    def accept(_: News, __: Session) -> Late:
        return Late.ACCEPT

    attempt = late_payment(shop)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert "late" not in shop.reviews()


def test_a_late_payment_can_be_sent_back_by_the_shop(shop: Shop) -> None:
    @shop.checkout.on_late
    def send_back(_: News, __: Session) -> Late:
        return Late.REFUND

    attempt = late_payment(shop)
    shop.until(lambda: any(name == "refunded" for name, _ in shop.told))
    assert shop.bank_received(attempt.reference) == 0
    assert shop.fulfilled() == []
    assert shop.reviews() == []
    ((review, decision),) = shop.checkout.store.all_reviews("A-1")
    (refund,) = shop.checkout.view("A-1").refunds
    assert (review.reason, review.subject) == ("late", refund.reference)
    assert decision is not None
    assert (decision.verdict, decision.by, decision.refund) == ("refund", "deposit-token", refund.reference)


def test_a_late_payment_that_the_next_start_finds_is_sent_back_at_once(shop: Shop) -> None:
    """The buyer has come back for another price before anybody heard of the money: no sweep need end it."""
    shop.checkout.on_late(lambda _, __: Late.REFUND)
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.advance(3600)
    shop.bank.control.pay(attempt.reference)
    newer = shop.start(content="another basket")
    assert newer.reference != attempt.reference
    assert shop.bank_received(attempt.reference) == 0
    assert shop.reviews() == []


def test_a_second_late_payment_of_another_size_is_sent_back_too(shop: Shop) -> None:
    @shop.checkout.on_late
    def send_back(_: News, __: Session) -> Late:
        return Late.REFUND

    attempt = late_payment(shop)
    shop.until(lambda: len([name for name, _ in shop.told if name == "refunded"]) == 1)
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) + 40)
    shop.until(lambda: len([name for name, _ in shop.told if name == "refunded"]) == 2)
    assert shop.bank_received(attempt.reference) == 0
    assert shop.fulfilled() == []


def test_a_payment_accepted_in_time_is_not_late_however_late_it_settles(shop: Shop) -> None:
    attempt = shop.start()
    accepted = in_business_time(shop, seconds=60)
    shop.bank.control.hold(attempt.reference)
    shop.bank.control.pay(attempt.reference, at=accepted)
    shop.until(lambda: standing_of(shop, attempt.reference).status is Status.PENDING)
    shop.bank.control.advance(86_400)
    shop.bank.control.settle(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert not standing_of(shop, attempt.reference).late


def test_a_held_payment_is_captured_by_the_merchants_signed_word(shop: Shop) -> None:
    attempt = shop.start(capture=Capture.MANUAL)
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.capture("A-1")
    assert refused.value.reason == "not_authorized"
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: ("authorized", "authorized") in shop.told)
    assert shop.fulfilled() == []
    assert shop.bank_received(attempt.reference) == 0
    view = shop.checkout.capture("A-1")
    assert view.paid
    assert shop.bank_received(attempt.reference) == due_of(attempt)
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_a_cancelled_order_is_cancelled_at_the_bank(shop: Shop) -> None:
    attempt = shop.start()
    view = shop.checkout.cancel("A-1")
    assert view.attempt is not None
    assert view.attempt.ended == "cancelled"
    assert shop.bank.control.invoice(attempt.reference)["status"] == "cancelled"
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.cancel("A-1")
    assert refused.value.reason == "nothing_to_cancel"


def test_a_return_changes_the_status_and_refuses_refunds(shop: Shop) -> None:
    attempt = shop.buy()
    shop.bank.control.return_payment(attempt.reference)
    shop.until(lambda: ("returned", "returned") in shop.told)
    assert standing_of(shop, attempt.reference).status is Status.RETURNED
    assert shop.bank_received(attempt.reference) == 0
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.refund("A-1", 1, request="page-1")
    assert refused.value.reason == "returned"


def test_a_hook_that_raises_undoes_everything_is_seen_and_is_called_again(shop: Shop) -> None:
    failures = [RuntimeError("warehouse is closed")]

    @shop.checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        session.execute(insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference))
        if failures:
            raise failures.pop()

    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.reviews() == []
    assert shop.decided() == [("hook_failed", "retry", "deposit-token")]
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [500, 200])


def test_a_stored_confirmation_names_its_proof_and_verifies_offline(shop: Shop) -> None:
    attempt = shop.buy()
    (kept,) = shop.checkout.store.evidence("A-1")
    again = authenticate_stored(kept.evidence)
    assert again == kept
    assert again.proof is Proof.JWS
    assert again.units == due_of(attempt)


def test_input_that_cannot_be_right_is_refused_before_anything_is_written(shop: Shop) -> None:
    with pytest.raises(TypeError):
        shop.start(price=128.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidType):
        Money(128.5, "EUR")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput) as refused:
        shop.start(price=Money("0", "EUR"))
    assert refused.value.reason == "price_not_positive"
    assert shop.checkout.store.order("A-1").attempts == ()


@pytest.mark.parametrize(
    "wrong",
    [
        *[{name: value} for name in ("content", "token", "buyer_country", "return_url") for value in (None, "", 7)],
        {"order_id": None},
        {"order_id": ""},
        {"capture": "later"},
        {"capture": None},
    ],
    ids=str,
)
def test_an_argument_that_cannot_be_right_is_refused_before_anything_is_written(
    shop: Shop, wrong: dict[str, object]
) -> None:
    with pytest.raises(InvalidInput):
        shop.start(**wrong)  # type: ignore[arg-type]
    assert shop.checkout.store.take_due(datetime.now(UTC) + timedelta(days=1), datetime.now(UTC), 10) == ()


def test_a_fee_above_the_shops_ceiling_is_refused_and_ends_the_attempt(shop: Shop) -> None:
    strict = Client.from_env({**shop.environment, "DEPOSIT_TOKEN_MAX_FEE": "0"})
    with strict, pytest.raises(PriceRefused) as refused:
        shop.start(checkout=shop.restarted(client=strict))
    assert refused.value.reason == "fee_above_ceiling"
    assert shop.bank.control.invoices(merchant=shop.merchant) == []
    assert shop.start().ended is None


def test_sixteen_starts_at_once_open_one_invoice(shop: Shop) -> None:
    with ThreadPoolExecutor(16) as threads:
        attempts = list(threads.map(lambda _: shop.start().reference, range(16)))
    assert len(set(attempts)) == 1
    assert len(shop.bank.control.invoices(merchant=shop.merchant)) == 1


def test_a_checkout_of_two_clients_asks_the_bank_that_lists_the_token(shop: Shop) -> None:
    other = Client.from_env({**shop.bank.control.create_merchant("other-merchant"), "DEPOSIT_TOKEN_BANK": "other-bank"})
    with other:
        checkout = shop.restarted(client=[Client.from_env(shop.environment)])
        assert shop.start(checkout=checkout).issuer == "sandbox-bank"
        two = shop.restarted(client=[Client.from_env(shop.environment), other])
        with pytest.raises(InvalidInput) as refused:
            shop.start("A-2", checkout=two, token="KINEXYS-USD")
    assert refused.value.reason == "unknown_token"


def test_a_held_payment_goes_back_to_the_buyer_when_the_order_is_cancelled(shop: Shop) -> None:
    attempt = shop.start(capture=Capture.MANUAL)
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: ("authorized", "authorized") in shop.told)
    view = shop.checkout.cancel("A-1")
    assert view.attempt is not None
    assert view.attempt.ended == "cancelled"
    invoice = shop.bank.control.invoice(attempt.reference)
    assert invoice["status"] == "cancelled"
    assert [movement["status"] for movement in invoice["movements"]] == ["released"]
    assert shop.bank_received(attempt.reference) == 0
    assert shop.fulfilled() == []


def test_a_bank_that_is_down_does_not_keep_the_next_one_from_being_asked_for_the_token(shop: Shop) -> None:
    settings = {"BANK": "other-bank", "URL": "http://127.0.0.1:9", "ATTEMPTS": "1"}
    down = Client.from_env({**shop.environment, **{f"DEPOSIT_TOKEN_{name}": text for name, text in settings.items()}})
    with down, Client.from_env(shop.environment) as up:
        attempt = shop.start(checkout=shop.restarted(client=[down, up]))
    assert (attempt.issuer, attempt.ended) == ("sandbox-bank", None)
