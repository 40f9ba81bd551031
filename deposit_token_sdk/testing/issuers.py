"""What every issuer must keep, as tests over a real checkout, a real database and the sandbox bank, its faults on.

    class TestMyBank(IssuerConformance):
        ISSUERS = ("mybank",)

Run it with ``pytest --issuer mybank``; `testing.plugin` has the fixtures, docs/issuers/writing.md the whole way. What
an issuer lacks is tested too: it must say so before anything is sent. Nothing here looks inside an issuer, and what is
said of money is compared with the bank's own ledger.
"""
# ruff: noqa: S101

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final

import pytest

from deposit_token_sdk.client import Client
from deposit_token_sdk.errors import (
    BankUnavailable,
    InvalidInput,
    NotAllowed,
    NotGenuine,
    OutcomeUnknown,
    Unreadable,
    Unsupported,
)
from deposit_token_sdk.evidence import authenticate_stored
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.models import NewQuote, NewRefund, Proof, StatementKind
from deposit_token_sdk.money import Money
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.testing.issuer_attacks import AttackConformance
from deposit_token_sdk.testing.issuer_faults import FaultConformance
from deposit_token_sdk.testing.issuer_refunds import RefundConformance
from deposit_token_sdk.testing.issuer_shop import ORDER, SHORT, Shop, due_of
from deposit_token_sdk.words import Bearer, Capture

NOON: Final = datetime(2026, 11, 30, 12, tzinfo=UTC)

VERBS: Final[tuple[tuple[Capability, str, Callable[[Client], object]], ...]] = (
    (
        Capability.QUOTES,
        "quote",
        lambda one: one.quote(NewQuote("abcd1234Q1", "abcd1234", Money("1.00", "EUR"), "SBEUR", Bearer.CRED, "key-1")),
    ),
    (Capability.CANCEL, "cancel", lambda one: one.cancel("abcd1234I1", "key-1")),
    (Capability.MANUAL_CAPTURE, "capture", lambda one: one.capture("abcd1234I1", 1, "key-1", NOON)),
    (Capability.MANUAL_CAPTURE, "release", lambda one: one.release("abcd1234I1", "key-1")),
    (
        Capability.REFUNDS,
        "refund",
        lambda one: one.refund(NewRefund("abcd1234R1", "abcd1234", "abcd1234I1", 1, "key-1")),
    ),
    (Capability.REFUNDS, "refund_status", lambda one: one.refund_status("abcd1234R1")),
    (Capability.REFUNDS, "find_refund", lambda one: one.find_refund("abcd1234R1", "abcd1234I1")),
    (Capability.WEBHOOKS, "read_event", lambda one: one.read_event({}, b"{}", NOON.timestamp())),
    (Capability.SIGNED_STATEMENTS, "statements", lambda one: one.statements("abcd1234I1")),
    (Capability.SIGNED_STATEMENTS, "backing", lambda one: one.backing("SBEUR")),
    (Capability.LEDGER, "ledger", lambda one: one.ledger(NOON.date())),
    (Capability.LEDGER, "invoices", lambda one: one.invoices()),
    (Capability.WEBHOOK_TESTS, "test_webhook", lambda one: one.test_webhook("key-1")),
)
"""The verbs that a capability stands for, each asked for something."""


class PaymentConformance:
    """A buyer pays, in one way or another."""

    # -- a purchase ----------------------------------------------------------------------------------------------

    def test_an_order_is_paid_to_the_unit_and_fulfilled_once(self, shop: Shop) -> None:
        attempt = shop.buy()
        assert due_of(attempt) == 12850
        assert [int(one["due"]) for one in shop.invoices()] == [12850]
        shop.sound(attempt)
        with pytest.raises(NotAllowed):
            shop.open()
        shop.sound(attempt)

    def test_two_orders_are_each_paid_by_their_own_payment(self, shop: Shop) -> None:
        first, second = shop.open("A-1"), shop.open("A-2")
        shop.pay(second)
        shop.paid("A-2")
        assert not shop.checkout.refresh("A-1").paid
        shop.pay(first)
        shop.paid("A-1")
        shop.sound(first, second)

    def test_there_is_a_page_to_pay_on_where_the_issuer_says_so(self, shop: Shop) -> None:
        has_page = shop.open().pay_url is not None
        assert has_page is (Capability.HOSTED_PAGE in shop.issuer.capabilities)

    @pytest.mark.parametrize("verb", ["refresh", "reconcile"])
    def test_a_payment_whose_news_are_lost_is_found_by_asking(self, shop: Shop, verb: str) -> None:
        shop.lose_news()
        attempt = shop.open()
        shop.pay_untold(attempt)
        ask = shop.checkout.reconcile if verb == "reconcile" else lambda: shop.checkout.refresh(ORDER)
        ask()
        assert shop.checkout.view(ORDER).paid
        ask()
        shop.sound(attempt)

    def test_starting_again_gives_the_same_attempt(self, shop: Shop) -> None:
        attempt = shop.open()
        again = shop.open(checkout=shop.restarted())
        assert again.reference == attempt.reference
        shop.pay(attempt)
        shop.paid()
        shop.alone(attempt)
        shop.sound(attempt)

    def test_every_confirmation_is_kept_as_proof_of_a_kind_that_the_issuer_names(self, shop: Shop) -> None:
        attempt = shop.buy()
        if Capability.REFUNDS in shop.issuer.capabilities:
            shop.checkout.refund(ORDER, 850, request="page-1")
            shop.until(lambda: {one.kind for one in shop.store.evidence(ORDER)} >= {*StatementKind} - {"return"})
        known = shop.store.evidence(ORDER)
        assert {one.proof for one in known} <= set(shop.issuer.proofs)
        told = {(one.units, one.reference) for one in known if one.kind is StatementKind.SETTLEMENT}
        assert told == {(due_of(attempt), attempt.reference)}
        for one in known:
            if one.proof is Proof.CHANNEL:
                assert attempt.reference in one.evidence.content
                continue
            read = authenticate_stored(one.evidence)
            assert (read.kind, read.units, read.reference) == (one.kind, one.units, attempt.reference)

    def test_a_proof_that_the_shop_does_not_believe_pays_nothing(self, shop: Shop) -> None:
        attempt = shop.open()
        shop.lose_news()
        shop.pay_untold(attempt)
        doubting = shop.restarted(proofs=set(Proof) - set(shop.issuer.proofs))
        doubting.refresh(ORDER)
        assert (shop.fulfilled(), set(shop.reviews())) == ([], {"proof_not_allowed"})

    # -- money that comes in its own way -------------------------------------------------------------------------

    def test_a_payment_that_is_only_seen_is_not_yet_paid(self, shop: Shop) -> None:
        attempt = shop.open()
        shop.bank.control.hold(attempt.reference)
        shop.pay(attempt)
        assert not shop.checkout.refresh(ORDER).paid
        assert shop.fulfilled() == []
        shop.bank.control.settle(attempt.reference)
        shop.paid()
        shop.sound(attempt)

    def test_a_changed_basket_takes_the_place_of_the_old_whose_money_fulfils_nothing(self, shop: Shop) -> None:
        old = shop.open()
        new = shop.open(content="basket-2", price=Money("2000.00", "EUR"))
        assert (due_of(new), new.reference == old.reference) == (200_000, False)
        if shop.way.any_amount:
            shop.pay(old, units=due_of(old))
            shop.learns(shop.reviews)
            assert shop.ledger(old) == [due_of(old)]
        assert shop.fulfilled() == []
        shop.pay(new)
        shop.paid()
        assert shop.fulfilled() == [new.reference]
        assert len(shop.reviews()) == shop.way.any_amount

    def test_less_than_is_due_pays_nothing_and_the_rest_completes_it(self, shop: Shop) -> None:
        if not shop.way.any_amount:
            return
        attempt = shop.open()
        shop.pay(attempt, units=12849)
        shop.learns(lambda: shop.received(attempt) == 12849)
        assert (shop.fulfilled(), "underpaid" in shop.told) == ([], True)
        shop.pay(attempt, units=1)
        shop.paid()
        assert shop.fulfilled() == [attempt.reference]
        assert shop.reviews() in SHORT
        assert shop.ledger(attempt) == [12849, 1]

    def test_an_order_paid_twice_is_fulfilled_once_and_goes_before_a_person(self, shop: Shop) -> None:
        if not shop.way.any_amount:
            return
        attempt = shop.buy()
        shop.pay(attempt, units=due_of(attempt))
        shop.learns(shop.reviews)
        shop.quiet(attempt)
        assert (shop.fulfilled(), len(shop.reviews())) == ([attempt.reference], 1)
        assert shop.kept(attempt) == shop.received(attempt) == 2 * due_of(attempt)

    def test_a_payment_that_comes_late_fulfils_nothing(self, shop: Shop) -> None:
        if not shop.way.any_amount:
            return
        attempt = shop.open()
        assert attempt.quote is not None
        shop.pay(attempt, at=strict_json.rfc3339(attempt.quote.expires_at + timedelta(minutes=1)))
        shop.learns(shop.reviews)
        assert (shop.fulfilled(), shop.checkout.view(ORDER).paid) == ([], False)
        assert shop.received(attempt) == due_of(attempt)

    # -- what is lacking -----------------------------------------------------------------------------------------

    def test_each_verb_is_unsupported_before_anything_is_sent_or_it_is_there(self, shop: Shop) -> None:
        shop.wire.cut = True
        for capability, verb, ask in VERBS:
            if capability in shop.issuer.capabilities:
                with suppress(BankUnavailable, InvalidInput, NotGenuine, OutcomeUnknown, Unreadable):
                    ask(shop.client)
                continue
            before = len(shop.wire.seen)
            with pytest.raises(Unsupported, match=capability):
                ask(shop.client)
            assert len(shop.wire.seen) == before, verb

    def test_a_start_that_asks_for_what_is_lacking_reaches_neither_bank_nor_tables(self, shop: Shop) -> None:
        if Capability.MANUAL_CAPTURE in shop.issuer.capabilities:
            assert shop.open(capture=Capture.MANUAL).capture is Capture.MANUAL
            return
        with pytest.raises(Unsupported):
            shop.open(capture=Capture.MANUAL)
        assert (shop.wire.seen, shop.store.order(ORDER).attempts) == ([], ())

    def test_an_order_is_cancelled_where_the_bank_can_and_can_still_be_bought(self, shop: Shop) -> None:
        attempt = shop.open()
        before = len(shop.wire.seen)
        if Capability.CANCEL in shop.issuer.capabilities:
            view = shop.checkout.cancel(ORDER)
            assert view.attempt is not None
            assert (view.attempt.ended, shop.invoices()[0]["status"]) == ("cancelled", "cancelled")
        else:
            with pytest.raises(Unsupported):
                shop.checkout.cancel(ORDER)
            assert len(shop.wire.seen) == before
        again = shop.buy()
        shop.alone(again)
        assert (again.reference == attempt.reference) is (Capability.CANCEL not in shop.issuer.capabilities)
        shop.sound(again)


class IssuerConformance(PaymentConformance, FaultConformance, RefundConformance, AttackConformance):
    """The tests. A subclass names in `ISSUERS` those it is for; ``--issuer NAME`` chooses others.

    `SETTINGS` has, by the issuer's name, settings to be had beside those that its dialect gives.
    """

    ISSUERS: tuple[str, ...] = ()
    SETTINGS: Mapping[str, Mapping[str, str]] = MappingProxyType({})
