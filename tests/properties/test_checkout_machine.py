"""Any interleaving of what buyers, bank and shop can do, with the bank's news late, twice, in any order or never:
after each step the shop stands as the model says, and at the end its books and the bank's agree to the unit.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from deposit_token_sdk import Attempt, BankRefused, InvalidInput, Money, NotAllowed, OrderChanged
from deposit_token_sdk.words import Capture
from tests.properties import model
from tests.properties.in_process import InProcessBank, InProcessShop, open_bank
from tests.properties.model import BASKETS, Model

ORDERS = st.sampled_from(("A", "B"))
PICKS = st.sampled_from((0, 0, 0, 1, 1, 2, 3, 5, 8, 13))
SELDOM = st.sampled_from((False, False, False, True))
PARTS = st.sampled_from((Decimal("3.00"), Decimal("4.99"), Decimal("25.50"), "rest", "rest", 1, 500, 1087, 2771))
"""What is sent back: a part of the price in euros, what is left of it, or token units."""
REFUSED = (NotAllowed, OrderChanged, BankRefused, InvalidInput)
FOR_A_PERSON = {"second_payment": "not_for_this_order", "old_attempt": "not_for_this_order"}


def act(name: str, *arguments: st.SearchStrategy[Any], weight: int = 1) -> list[st.SearchStrategy[tuple[Any, ...]]]:
    """An act with what it needs to know, as often as its weight says."""
    return [st.tuples(st.just(name), *arguments)] * weight


ACTS = st.one_of(
    *act("pay", PICKS, st.sampled_from(("due", "due", "less", "more")), SELDOM, st.booleans(), weight=6),
    *act("deliver", PICKS, weight=4),
    *act("deliver_all", st.booleans(), weight=2),
    *act("start", ORDERS, st.sampled_from(BASKETS), SELDOM, weight=3),
    *act("refund", PICKS, PARTS, SELDOM, SELDOM, weight=5),
    *act("send_the_same_refund_form_again", PICKS),
    *act("end_refund", PICKS, st.booleans(), weight=2),
    *act("settle", PICKS, weight=2),
    *act("capture", ORDERS, weight=2),
    *act("call_off", PICKS, st.booleans()),
    *act("take_back", PICKS),
    *act("pass_time", st.sampled_from((600, 1000)), weight=2),
    *act("change_keys", st.sampled_from(("statement", "answer", "webhook", "old webhook"))),
    *act("refresh", ORDERS, weight=2),
    *act("reconcile"),
)
"""What can happen; a pick names one of the things that there are, counted from the newest."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcessBank]:
    with open_bank(tmp_path_factory.mktemp("bank")) as bank:
        yield bank


def machine_at(bank: InProcessBank) -> type[RuleBasedStateMachine]:
    """The machine, for shops of this bank."""

    class AtThisBank(Machine):
        at = bank

    return AtThisBank


class Machine(RuleBasedStateMachine):
    """Shop, bank and model, side by side. A pick names one of those there are, by number."""

    at: InProcessBank

    @initialize(accepts_late=st.booleans(), basket=st.sampled_from(BASKETS), manual=SELDOM)
    def begin(self, accepts_late: bool, basket: model.Basket, manual: bool) -> None:
        self.control = self.at.control
        self.control.clear_faults()
        self.shop = InProcessShop(self.at, self.at.new_merchant(), accepts_late)
        self.model = Model(accepts_late)
        self.requests = 0
        self.start("A", basket, manual)

    @rule(act=ACTS)
    def step(self, act: tuple[Any, ...]) -> None:
        """One act of anybody's. It is one rule, since of many rules Hypothesis leaves half out of an example."""
        getattr(self, act[0])(*act[1:])

    # -- the buyer and the shop --------------------------------------------------------------------------------

    def start(self, order: str, basket: model.Basket, manual: bool) -> None:
        expected, live = self.model.start(order, basket, manual=manual), self.model.live(order)
        try:
            started = self.shop.checkout.start(
                order_id=order,
                price=Money(basket.price, "EUR"),
                token="SBUSD",
                buyer_country="DE",
                content=basket.name,
                return_url="http://127.0.0.1:9/",
                capture=Capture.MANUAL if manual else Capture.AUTOMATIC,
            )
        except OrderChanged:
            assert expected == "changed"
        except NotAllowed:
            assert expected == "refused"
        else:
            assert started.quote is not None
            assert started.quote.due == basket.due
            known = [one.reference for one in self.model.attempts]
            assert expected == ("live" if started.reference in known else "new")
            if expected == "new":
                self.model.opened(started.reference, order, basket, manual=manual)
            else:
                assert live is not None
                assert live.reference == started.reference

    def capture(self, order: str) -> None:
        self._agree(self.model.capture(order), lambda: self.shop.checkout.capture(order))

    def refund(self, pick: int, part: Decimal | int | str, pending: bool, named: bool) -> None:
        attempt = self._pick([one for one in self.model.attempts if one.received() > 0] or self.model.attempts, pick)
        if not named:  # then the shop sends back what paid the order
            paid_by = self.model.fulfilled.get(attempt.order)
            attempt = next((one for one in self.model.attempts if one.reference == paid_by), attempt)
            if paid_by is None:
                return self._agree(False, lambda: self._refund(attempt, 1, named=False))
        asked = attempt.rest_of_the_price() if isinstance(part, str) else part
        units = self.model.refund_of(attempt, asked)
        at_bank = units > 0 and self.model.bank_refunds(attempt, units)
        if pending:
            self.control.hold_refunds(invoice=attempt.reference)
        self._agree(at_bank, lambda: self._refund(attempt, asked, named=named))
        self.control.clear_faults()
        if units:
            price = asked if isinstance(asked, Decimal) else None
            status = "pending" if pending else "done"
            made = next(one for one in self._refunds(attempt) if one.request == f"page-{self.requests}")
            assert made.units == units
            refund = model.Refund(made.reference, made.request, units, price, status, "pending")
            self.model.refunded(attempt, refund, at_bank=at_bank)
        return None

    def send_the_same_refund_form_again(self, pick: int) -> None:
        made = self._refunds_that("pending", "done", "failed", "refused")
        if not made:
            return
        attempt, refund = self._pick(made, pick)
        before = self._refunds(attempt)
        amount = refund.units if refund.price is None else Money(refund.price, "EUR")
        again = self.shop.checkout.refund(attempt.order, amount, request=refund.request, reference=attempt.reference)
        assert again.reference == refund.reference
        assert self._refunds(attempt) == before

    # -- the bank and its buyers -------------------------------------------------------------------------------

    def pay(self, pick: int, share: str, on_hold: bool, told: bool) -> None:
        """A buyer pays what is due, less or more; `told`: the message of it arrives at once."""
        attempt, before = self._attempt(pick), len(self.model.events)
        units = {"due": attempt.due, "less": attempt.due - 400, "more": attempt.due + 13}[share]
        if on_hold:
            self.control.hold(attempt.reference)
        paid = self.control.pay(attempt.reference, units=units)
        self.control.clear_faults()
        self.model.pay(attempt, paid["id"], units, datetime.fromisoformat(paid["accepted_at"]), on_hold=on_hold)
        if told:
            self._deliver(self.model.events[before])

    def settle(self, pick: int) -> None:
        if waiting := self._waiting():
            attempt = self._pick(waiting, pick)
            self.control.settle(attempt.reference)
            assert self.model.settle(attempt)

    def call_off(self, pick: int, by_the_shop: bool) -> None:
        """The shop cancels an order, or a buyer declines what is on its way or still to be paid."""
        attempt = self._attempt(pick)
        if by_the_shop:
            self._agree(self.model.cancel(attempt.order), lambda: self.shop.checkout.cancel(attempt.order))
        elif self.model.decline(attempt):
            self.control.decline(attempt.reference)

    def take_back(self, pick: int) -> None:
        if settled := self._settled():
            attempt, payment = self._pick(settled, pick)
            back = self.control.return_payment(attempt.reference, payment)
            self.model.take_back(attempt, payment, back["id"])

    def end_refund(self, pick: int, failed: bool) -> None:
        """A refund that was pending is done; one that was pending or done fails, days later or not."""
        standing = self._refunds_that("pending", "done")
        if not standing:
            return
        attempt, refund = self._pick(standing, pick)
        if failed or refund.status == "pending":
            act = self.control.fail_refund if failed else self.control.finish_refund
            shown = self.control.invoice(attempt.reference)["refunds"]
            act(next(one["id"] for one in shown if one["reference"] == refund.reference))
            self.model.end_refund(attempt, refund, "failed" if failed else "done")

    def pass_time(self, seconds: int) -> None:
        self.control.advance(seconds)
        self.model.pass_time(seconds)

    def change_keys(self, purpose: str) -> None:
        if purpose == "webhook":
            self.control.rotate_webhook_key(self.shop.merchant)
        elif purpose == "old webhook":
            self.control.retire_webhook_keys(self.shop.merchant)
        else:
            self.control.rotate_key(purpose)
        self.shop.restart()

    # -- the bank's news ---------------------------------------------------------------------------------------

    def deliver(self, pick: int) -> None:
        """One message, the newer the likelier: for the first time or again."""
        if self.model.events:
            self._deliver(self._pick(self.model.events, pick))

    def deliver_all(self, backwards: bool) -> None:
        for event in list(reversed(self.model.events) if backwards else self.model.events):
            self._deliver(event)

    def refresh(self, order: str) -> None:
        self.shop.checkout.refresh(order)
        self.model.refresh(order)

    def reconcile(self) -> None:
        done = self.shop.checkout.reconcile()
        assert done.failed == ()
        assert done.asked == len(self.model.attempts)
        self.model.reconcile()
        self._books_agree()

    # -- what must hold ----------------------------------------------------------------------------------------

    @invariant()
    def an_order_is_fulfilled_once_and_by_the_attempt_that_paid_it(self) -> None:
        assert sorted(self.shop.fulfilled()) == sorted(self.model.fulfilled.items())

    @invariant()
    def the_shop_stands_as_the_model_says(self) -> None:
        stands = {one.reference: self._stands(one) for order in "AB" for one in self.shop.store.order(order).attempts}
        assert stands == {one.reference: self._predicted(one) for one in self.model.attempts}

    @invariant()
    def what_is_up_for_review_is_what_the_model_says(self) -> None:
        reviews = self.shop.store.reviews()
        seen = [(one.reference, FOR_A_PERSON.get(one.reason, one.reason), one.subject) for one in reviews]
        assert sorted(seen) == sorted(self.model.reviews)

    def teardown(self) -> None:
        if not hasattr(self, "model"):
            return
        try:
            self.reconcile()
            self.the_shop_stands_as_the_model_says()
            for attempt in self.model.attempts:
                self._money_is_accounted_for(attempt)
        finally:
            self.shop.close()

    # -- below the rules ---------------------------------------------------------------------------------------

    def _money_is_accounted_for(self, attempt: model.Attempt) -> None:
        """By the bank's ledger: what came has paid the order, waits for a person, or can still be made up: by another
        payment, or by one that the bank holds.
        """
        ledger = self._ledger(attempt)
        came, back = ledger.get("payment", 0), ledger.get("refund", 0) - ledger.get("refund_failed", 0)
        assert back <= came
        reviewed = [one for one in self.shop.store.reviews() if one.reference == attempt.reference]
        if self.model.fulfilled.get(attempt.order) == attempt.reference:
            assert came >= attempt.due
        elif came and not reviewed:
            left = came - ledger.get("return", 0)
            assert left < attempt.due
            assert attempt.ended is None or left <= back or attempt.status() in ("pending", "authorized")
        elif came >= attempt.due:
            assert reviewed

    def _books_agree(self) -> None:
        """Nothing is on its way: the bank's ledger, the shop's tables and the model name the same sums."""
        for attempt in self.model.attempts:
            ledger = self._ledger(attempt)
            received = ledger.get("payment", 0) - ledger.get("return", 0)
            pending = sum(one.units for one in attempt.refunds.values() if one.status == "pending")
            sent_back = ledger.get("refund", 0) - ledger.get("refund_failed", 0)
            assert (received, sent_back + pending) == (attempt.received(), attempt.sent_back())
            assert self.control.invoice(attempt.reference)["status"] == attempt.bank_says()

    def _ledger(self, attempt: model.Attempt) -> dict[str, int]:
        sums: dict[str, int] = {}
        for entry in self.control.ledger(attempt.reference):
            sums[entry["kind"]] = sums.get(entry["kind"], 0) + int(entry["units"])
        return sums

    @staticmethod
    def _predicted(attempt: model.Attempt) -> tuple[str, int, str | None, dict[str, str]]:
        stages = {one.reference: one.known for one in attempt.refunds.values()}
        return attempt.status(), attempt.received(), attempt.ended, stages

    def _stands(self, attempt: Attempt) -> tuple[str, int, str | None, dict[str, str]]:
        standing = attempt.standing
        assert standing is not None
        refunds = self.shop.store.order(attempt.order_id).refunds
        stages = {one.reference: one.stage.name.lower() for one in refunds if one.attempt == attempt.reference}
        return standing.status.value, standing.received, attempt.ended, stages

    def _deliver(self, event: model.Event) -> None:
        messages = self.at.messages(self.shop.merchant)
        assert [one.kind for one in messages] == [one.kind for one in self.model.events]
        message = messages[self.model.events.index(event)]
        answer = self.shop.checkout.receive(self.at.headers(self.shop.merchant, message), message.body)
        assert answer.status == 200
        self.model.deliver(event)

    def _agree(self, expected: bool, act: Any) -> None:
        try:
            act()
        except REFUSED:
            assert not expected
        else:
            assert expected

    def _refund(self, attempt: model.Attempt, part: Decimal | int, *, named: bool) -> None:
        self.requests += 1
        amount = Money(part, "EUR") if isinstance(part, Decimal) else part
        reference = attempt.reference if named else None
        self.shop.checkout.refund(attempt.order, amount, request=f"page-{self.requests}", reference=reference)

    def _refunds(self, attempt: model.Attempt) -> list[Any]:
        return [one for one in self.shop.store.order(attempt.order).refunds if one.attempt == attempt.reference]

    def _attempt(self, pick: int) -> model.Attempt:
        return self.model.attempts[-1 - pick % len(self.model.attempts)]

    def _pick(self, among: Any, pick: int) -> Any:
        return among[-1 - pick % len(among)]

    def _waiting(self) -> list[model.Attempt]:
        on_their_way = (model.Stage.SEEN, model.Stage.HELD)
        return [one for one in self.model.attempts if any(each.stage in on_their_way for each in one.payments.values())]

    def _settled(self) -> list[tuple[model.Attempt, str]]:
        return [
            (one, each.name)
            for one in self.model.attempts
            for each in one.payments.values()
            if each.stage is model.Stage.SETTLED and not each.taken_back
        ]

    def _refunds_that(self, *statuses: str) -> list[tuple[model.Attempt, model.Refund]]:
        return [(one, each) for one in self.model.attempts for each in one.refunds.values() if each.status in statuses]


def test_shop_and_bank_stand_as_the_model_says_after_any_interleaving(bank: InProcessBank) -> None:
    run_state_machine_as_test(
        machine_at(bank),
        settings=settings(max_examples=14, stateful_step_count=40, suppress_health_check=list(HealthCheck)),
    )
