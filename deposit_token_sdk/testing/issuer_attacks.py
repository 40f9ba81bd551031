"""What no issuer may be fooled by. After each attack nothing is fulfilled, nothing is lost, and the true purchase goes
through. See `issuers`.

Where a bank's news are not signed (`Shop.hints`), they may be believed in one thing only: what to ask the bank about.
So an altered message is given to a shop that cannot reach the bank, where nothing but itself could be believed.
"""
# ruff: noqa: S101

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import pytest

from deposit_token_sdk.checkout.flow import Checkout
from deposit_token_sdk.checkout.receiving import Answer
from deposit_token_sdk.checkout.store import Attempt
from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.exchange import Request, Response
from deposit_token_sdk.money import Money
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.testing.issuer_shop import ORDER, SHORT, Shop, due_of, later, settings_at
from deposit_token_sdk.testing.issuer_wires import Message, Wire

DEAR = Money("2000.00", "EUR")
PLACES = 24
"""In how many places a message is altered, one at a time."""


class AttackConformance:
    """The attacks."""

    def test_another_merchant_s_news_pay_nothing(self, shop: Shop, other_shop: Shop) -> None:
        attempt = shop.open()
        theirs = other_shop.buy()
        self.harmless(shop, deliver(shop.checkout, other_shop.news))
        assert not shop.checkout.refresh(ORDER).paid
        self.true_purchase(shop, attempt)
        other_shop.sound(theirs)

    @pytest.mark.parametrize("price", [None, DEAR], ids=["same_price", "dearer"])
    def test_one_order_s_news_pay_no_other(self, shop: Shop, price: Money | None) -> None:
        paid = shop.buy("A-0")
        attempt = shop.open() if price is None else shop.open(price=price)
        self.harmless(shop, deliver(shop.checkout, shop.news), paid.reference)
        assert not shop.checkout.refresh(ORDER).paid
        shop.pay(attempt)
        shop.paid()
        deliver(shop.checkout, shop.news)
        shop.sound(paid, attempt)

    @pytest.mark.parametrize("units", [1, 100], ids=["one_unit", "one_euro"])
    def test_a_euro_does_not_pay_for_two_thousand(self, shop: Shop, units: int) -> None:
        attempt = shop.open(price=DEAR)
        assert due_of(attempt) == 200_000
        if shop.way.any_amount:
            shop.pay(attempt, units=units)
            shop.learns(lambda: shop.received(attempt) == units)
            shop.checkout.reconcile()
            assert (shop.fulfilled(), shop.checkout.view(ORDER).paid) == ([], False)
            assert shop.ledger(attempt) == [units]
        shop.pay(attempt)
        shop.paid()
        assert shop.fulfilled() == [attempt.reference]
        assert shop.reviews() in SHORT
        assert shop.kept(attempt) == 200_000

    @pytest.mark.parametrize("clock", [{}, {"hours": 6}, {"days": 40}], ids=["at_once", "hours_later", "weeks_later"])
    def test_news_told_again_and_again_fulfil_once(self, shop: Shop, clock: dict[str, float]) -> None:
        attempt = shop.buy()
        news = shop.news
        again = shop.restarted(now=later(**clock))
        for _ in range(5):
            answers = deliver(again, news)
            self.harmless(shop, answers, attempt.reference)
        for message in shop.bank.control.webhooks(attempt.reference):
            shop.bank.control.resend(message["id"], copies=3)
        shop.quiet(attempt)
        shop.sound(attempt)

    def test_a_test_s_money_pays_nothing_in_a_live_shop(self, shop: Shop, live_bank: Sandbox, issuer_name: str) -> None:
        attempt = shop.open()
        news = shop.intercept(attempt)
        theirs = settings_at(live_bank, shop.merchant, issuer_name)
        if not shop.hints:  # a hint need not name its mode: there the live shop asks its own bank
            theirs = {name: theirs[name] for name in ("DEPOSIT_TOKEN_MODE", "DEPOSIT_TOKEN_MERCHANT")}
        live = shop.restarted(theirs)
        self.harmless(shop, deliver(live, news))
        with suppress(DepositTokenError):
            live.refresh(ORDER)
        live.reconcile()
        assert shop.fulfilled() == []
        shop.checkout.refresh(ORDER)
        assert shop.fulfilled() == [attempt.reference]

    def test_a_message_altered_by_one_character_is_not_believed(self, shop: Shop) -> None:
        attempt = shop.open()
        news = shop.intercept(attempt)
        cut_off = shop.restarted(client=shop.client_of(shop.environment, Wire(cut=True)))
        for message in news:
            altered = [Message(message.headers, body, None) for body in alterations(message.body)]
            self.harmless(shop, deliver(cut_off, altered))
        self.found(shop, attempt.reference)

    def test_one_order_s_news_rewritten_for_another_are_not_believed(self, shop: Shop) -> None:
        paid = shop.buy("A-0")
        attempt = shop.open()
        names = ((paid.reference, attempt.reference), (paid.invoice or "-", attempt.invoice or "-"))
        forged = [Message(one.headers, rewritten(one.body, names), None) for one in shop.news]
        for checkout in (shop.restarted(client=shop.client_of(shop.environment, Wire(cut=True))), shop.checkout):
            self.harmless(shop, deliver(checkout, forged), paid.reference)
        assert not shop.checkout.refresh(ORDER).paid
        shop.pay(attempt)
        shop.paid()
        shop.sound(paid, attempt)

    def test_what_another_key_signed_is_not_believed(self, shop: Shop, strange_bank: Sandbox, issuer_name: str) -> None:
        """A bank of the same name, where the same order was opened and paid: its word is worth nothing here."""
        theirs = settings_at(strange_bank, shop.merchant, issuer_name)
        strange = shop.restarted(theirs)
        attempt = shop.open("A-0", strange)
        shop.listen(strange_bank)
        news = shop.intercept(attempt, strange_bank, strange)
        shop.listen(shop.bank)
        self.harmless(shop, deliver(shop.checkout, news))
        with suppress(DepositTokenError):
            shop.checkout.refresh("A-0")
        assert shop.fulfilled() == []
        self.true_purchase(shop, shop.open())

    def test_the_bank_s_answers_about_one_order_prove_nothing_about_another(self, shop: Shop) -> None:
        """Both cost the same, so that nothing but what the answers name tells them apart."""
        paid = shop.open("A-0")
        shop.lose_news()
        shop.pay_untold(paid)
        began = len(shop.wire.seen)
        shop.checkout.refresh("A-0")
        known = {request.route: answer for request, answer in shop.wire.seen[began:] if isinstance(answer, Response)}
        assert known
        attempt = shop.open()

        def recalled(request: Request) -> Response | None:
            return known.get(request.route)

        shop.wire.recalled = recalled
        with suppress(DepositTokenError):
            shop.checkout.refresh(ORDER)
        shop.checkout.reconcile()
        shop.wire.recalled = None
        assert shop.fulfilled() == [paid.reference]
        assert not shop.checkout.view(ORDER).paid
        shop.pay(attempt)
        shop.checkout.refresh(ORDER)
        assert shop.fulfilled() == [paid.reference, attempt.reference]

    # -- what is the same after each -----------------------------------------------------------------------------

    def harmless(self, shop: Shop, answers: Iterable[Answer], *fulfilled: str) -> None:
        """Each answer says why nothing came of the message; no order was fulfilled but those that were paid."""
        for answer in answers:
            assert answer.status in (200, 400, 503), answer
            assert answer.reason not in ("", "applied"), answer
        assert shop.fulfilled() == list(fulfilled)

    def true_purchase(self, shop: Shop, attempt: Attempt) -> None:
        """The order is paid after all."""
        shop.pay(attempt)
        shop.paid()
        assert shop.fulfilled() == [attempt.reference]

    def found(self, shop: Shop, reference: str) -> None:
        """The payment is at the bank, and asking finds it."""
        assert shop.fulfilled() == []
        shop.checkout.refresh(ORDER)
        assert shop.fulfilled() == [reference]


def deliver(checkout: Checkout, news: Iterable[Message]) -> list[Answer]:
    """Each message given to the checkout, as it came."""
    return [checkout.receive(message.headers, message.body) for message in news]


def alterations(body: bytes) -> list[bytes]:
    """The body with one letter or digit changed, in places all over it."""
    able = [place for place in range(len(body)) if body[place : place + 1].isalnum()]
    step = max(1, len(able) // PLACES)
    return [
        body[:place] + (b"8" if body[place : place + 1] == b"7" else b"7") + body[place + 1 :] for place in able[::step]
    ]


def rewritten(body: bytes, names: Iterable[tuple[str, str]]) -> bytes:
    """The body with one order's names in place of another's."""
    for old, new in names:
        body = body.replace(old.encode(), new.encode())
    return body
