"""A reference model of shop and bank: what both should show after any order of events, in the plainest code there is.

It is written from the rules alone and imports nothing of the package. The bank's side is what has happened; the shop's
side is what the shop has been shown of it. Every act is a method; those of the shop tell whether it is to succeed.
What it leaves out: late money that `on_late` sends back, answers that are lost, hooks that fail.
"""

from __future__ import annotations

from datetime import datetime
from decimal import ROUND_FLOOR, Decimal
from enum import IntEnum

from attrs import Factory, define, field, frozen

QUOTE_LIFE = 900
RATE = Decimal("1.08640925")  # the bank's: 1.0837 for a euro, and a quarter of a percent


@frozen
class Basket:
    """What is ordered, at which price in euros, and the token units due for it, worked out by hand."""

    name: str
    price: str
    due: int


# 10.00 x 1.08640925 = 10.8640925, and 25.50 x 1.08640925 = 27.703435875: rounded up to cents.
BASKETS = (Basket("one tin", "10.00", 1087), Basket("two tins", "25.50", 2771))


class Stage(IntEnum):
    """How far a payment has come."""

    SEEN = 0
    HELD = 1
    RELEASED = 2
    SETTLED = 3


KINDS = {
    Stage.SEEN: "invoice.pending",
    Stage.HELD: "invoice.authorized",
    Stage.RELEASED: "invoice.released",
    Stage.SETTLED: "invoice.settled",
}
REFUND_STAGES = ("pending", "done", "failed")


@define
class Payment:
    """Money that a buyer sent."""

    name: str
    units: int
    at: datetime
    late: bool
    stage: Stage
    taken_back: bool = False


@define
class Refund:
    """Money that the shop sends back: in token units, or as a part of the price in euros."""

    reference: str
    request: str
    units: int
    price: Decimal | None
    status: str  # the bank's: pending, done, failed
    known: str  # the shop's


@frozen
class Event:
    """What one message of the bank shows."""

    attempt: Attempt = field(repr=False)
    kind: str
    stages: dict[str, Stage] = Factory(dict)
    returns: frozenset[str] = frozenset()
    word: str | None = None
    refund: tuple[str, str] | None = None


@define(eq=False)
class Attempt:
    """One invoice: what happened to it at the bank, and what the shop knows of that."""

    reference: str
    order: str
    basket: Basket
    manual: bool
    born: int
    word: str | None = None
    payments: dict[str, Payment] = Factory(dict)
    returns: dict[str, int] = Factory(dict)
    refunds: dict[str, Refund] = Factory(dict)
    shown: dict[str, Stage] = Factory(dict)
    shown_returns: set[str] = Factory(set)
    shown_words: set[str] = Factory(set)
    ended: str | None = None

    @property
    def due(self) -> int:
        return self.basket.due

    # The bank's side

    def settled_at_bank(self) -> int:
        """Units settled and not taken back."""
        return sum(one.units for one in self.payments.values() if one.stage is Stage.SETTLED) - sum(
            self.returns.values()
        )

    def sent_back_at_bank(self) -> int:
        """Units of the refunds that the bank has done or is about to do."""
        return sum(one.units for one in self.refunds.values() if one.status in ("pending", "done"))

    def bank_says(self) -> str:
        """The bank's word on the invoice."""
        if self.word:
            return self.word
        if self.settled_at_bank() >= self.due:
            return "paid"
        stages = {one.stage for one in self.payments.values()}
        if self.returns:
            return "returned"
        return "authorized" if Stage.HELD in stages else "pending" if Stage.SEEN in stages else "open"

    # The shop's side

    def received(self) -> int:
        """Units that the shop knows to be settled and not taken back."""
        return self.came() - sum(self.returns[name] for name in self.shown_returns)

    def came(self) -> int:
        """Units that the shop knows to have been settled, whatever was taken back."""
        return sum(self.payments[name].units for name in self.settled())

    def settled(self) -> list[str]:
        """The payments that the shop knows to be settled, the first accepted first."""
        known = [name for name, stage in self.shown.items() if stage is Stage.SETTLED]
        return sorted(known, key=lambda name: (self.payments[name].at, name))

    def held(self) -> int:
        """Units that the shop knows to be held."""
        return sum(self.payments[name].units for name, stage in self.shown.items() if stage is Stage.HELD)

    def status(self) -> str:
        """How the attempt stands, for the shop."""
        if self.shown_returns and self.received() < self.due:
            return "returned"
        if self.received() >= self.due:
            return "paid"
        for stage, word in ((Stage.HELD, "authorized"), (Stage.SEEN, "pending")):
            if stage in self.shown.values():
                return word
        return next((word for word in ("cancelled", "expired") if word in self.shown_words), "open")

    def late(self) -> bool:
        """Whether what came in time does not cover what is due, and something came late."""
        settled = [self.payments[name] for name in self.settled()]
        in_time = sum(one.units for one in settled if not one.late)
        return in_time < self.due and any(one.late for one in settled)

    def counted(self) -> list[Refund]:
        """The refunds that lay claim to their units, as far as the shop knows."""
        return [one for one in self.refunds.values() if one.known != "failed"]

    def rest_of_the_price(self) -> Decimal:
        """What is left of the price in euros, where parts of it were sent back."""
        return Decimal(self.basket.price) - sum((one.price or Decimal(0) for one in self.counted()), Decimal(0))

    def sent_back(self) -> int:
        return sum(one.units for one in self.counted())

    def money_stands(self) -> bool:
        """Whether money is on its way or has come and was not sent back: then the order must not change."""
        return self.status() in ("pending", "authorized") or self.received() > self.sent_back()


@define
class Model:
    """Shop and bank. `fulfilled` is which attempt paid an order; `reviews` are attempt, reason and subject."""

    accepts_late: bool
    clock: int = 0
    attempts: list[Attempt] = Factory(list)
    events: list[Event] = Factory(list)
    fulfilled: dict[str, str] = Factory(dict)
    reviews: set[tuple[str, str, str]] = Factory(set)

    # -- what happens at the bank ------------------------------------------------------------------------------

    def pass_time(self, seconds: int) -> None:
        self.clock += seconds
        self._expire()

    def pay(self, attempt: Attempt, name: str, units: int, at: datetime, *, on_hold: bool) -> None:
        """A buyer pays; `on_hold`: the bank has seen it and does nothing yet."""
        payment = Payment(name, units, at, self._over(attempt), Stage.SEEN)
        attempt.payments[name] = payment
        self._move(attempt, payment, Stage.SEEN if on_hold else Stage.HELD if attempt.manual else Stage.SETTLED)
        self._expire()

    def settle(self, attempt: Attempt) -> bool:
        """What is on its way takes its course."""
        waiting = self._waiting(attempt, Stage.SEEN, Stage.HELD)
        for one in waiting:
            self._move(attempt, one, Stage.HELD if one.stage is Stage.SEEN and attempt.manual else Stage.SETTLED)
        self._expire()
        return bool(waiting)

    def decline(self, attempt: Attempt) -> bool:
        """What is on its way goes back; without any, the invoice is cancelled."""
        return self._release(attempt, Stage.SEEN, Stage.HELD) or self._cancel(attempt)

    def take_back(self, attempt: Attempt, payment: str, name: str) -> None:
        """The bank takes a settled payment back; `name` is the return's."""
        attempt.payments[payment].taken_back = True
        attempt.returns[name] = attempt.payments[payment].units
        self._tell(attempt, "invoice.returned", returns=frozenset({name}))
        self._expire()

    def end_refund(self, attempt: Attempt, refund: Refund, status: str) -> None:
        """A refund that was pending is done, or one fails that was pending or done."""
        refund.status = status
        self._tell(attempt, f"refund.{status}", refund=(refund.reference, status))

    def _waiting(self, attempt: Attempt, *stages: Stage) -> list[Payment]:
        return [one for one in attempt.payments.values() if one.stage in stages]

    def _move(self, attempt: Attempt, payment: Payment, stage: Stage) -> None:
        payment.stage = stage
        self._tell(attempt, KINDS[stage], stages={payment.name: stage})

    def _release(self, attempt: Attempt, *stages: Stage) -> bool:
        waiting = self._waiting(attempt, *stages)
        for one in waiting:
            self._move(attempt, one, Stage.RELEASED)
        self._expire()
        return bool(waiting)

    def _cancel(self, attempt: Attempt) -> bool:
        if attempt.word == "cancelled":
            return True
        if attempt.bank_says() != "open" or self._waiting(attempt, Stage.SEEN, Stage.HELD, Stage.SETTLED):
            return False
        attempt.word = "cancelled"
        self._tell(attempt, "invoice.cancelled", word="cancelled")
        return True

    def _over(self, attempt: Attempt) -> bool:
        return self.clock - attempt.born > QUOTE_LIFE

    def _expire(self) -> None:
        for one in self.attempts:
            if one.bank_says() == "open" and self._over(one):
                one.word = "expired"
                self._tell(one, "invoice.expired", word="expired")

    def _tell(
        self,
        attempt: Attempt,
        kind: str,
        stages: dict[str, Stage] | None = None,
        returns: frozenset[str] = frozenset(),
        word: str | None = None,
        refund: tuple[str, str] | None = None,
    ) -> None:
        self.events.append(Event(attempt, kind, stages or {}, returns, word, refund))

    # -- what the shop does ------------------------------------------------------------------------------------

    def live(self, order: str) -> Attempt | None:
        """The order's attempt that has not ended for the shop."""
        return next((one for one in self.of(order) if one.ended is None), None)

    def of(self, order: str) -> list[Attempt]:
        """The order's attempts, oldest first."""
        return [one for one in self.attempts if one.order == order]

    def start(self, order: str, basket: Basket, *, manual: bool) -> str:
        """What starting the order is to come to: ``refused``, ``changed``, ``live`` (as before) or ``new``."""
        if order in self.fulfilled or self._waits_for_a_person(order):
            return "refused"
        live = self.live(order)
        if live is None:
            return "new"
        if (live.basket, live.manual) == (basket, manual):
            return "live"
        if live.money_stands():
            return "changed"
        self.look(live)
        if live.money_stands():
            return "changed"
        if live.ended is None and self._cancel_at_bank(live) == "changed":
            return "changed"
        live.ended = live.ended or "superseded"
        return "refused" if order in self.fulfilled or self._waits_for_a_person(order) else "new"

    def opened(self, reference: str, order: str, basket: Basket, *, manual: bool) -> None:
        """The bank has made an invoice for a new attempt."""
        self.attempts.append(Attempt(reference, order, basket, manual, self.clock))

    def _waits_for_a_person(self, order: str) -> bool:
        return any(one.status() == "paid" and one.received() - one.sent_back() >= one.due for one in self.of(order))

    def _cancel_at_bank(self, attempt: Attempt) -> str:
        """``done``, or that it was ``refused``, or that money had come: ``changed``. The shop knows more afterwards."""
        done = (not attempt.held() or self._release(attempt, Stage.HELD)) and self._cancel(attempt)
        self.look(attempt)
        return "done" if done else "changed" if attempt.money_stands() else "refused"

    def cancel(self, order: str) -> bool:
        """Whether the shop's cancelling the order succeeds."""
        live = self.live(order)
        if live is None:
            return False
        merely_held = live.status() == "authorized" and live.received() <= live.sent_back()
        if live.money_stands() and not merely_held:
            return False
        outcome = self._cancel_at_bank(live)
        if outcome == "refused" and live.sent_back():
            live.ended = live.ended or "superseded"
            return True
        return outcome == "done"

    def capture(self, order: str) -> bool:
        """Whether the shop's capturing what is held for the order succeeds."""
        mine = self.of(order)
        attempt = self.live(order) or (mine[-1] if mine else None)
        if attempt is None or attempt.status() != "authorized" or attempt.held() + attempt.received() < attempt.due:
            return False
        waiting = self._waiting(attempt, Stage.HELD)
        if sum(one.units for one in waiting) != attempt.held():
            return False
        for one in waiting:
            self._move(attempt, one, Stage.SETTLED)
        self.look(attempt)
        return True

    def refund_of(self, attempt: Attempt, units: int | Decimal) -> int:
        """Token units that the shop would send back; 0 where it must refuse. Euros are Decimal, units int."""
        counted = attempt.counted()
        if attempt.status() == "returned" and (counted or attempt.received() <= 0):
            return 0
        if any((one.price is None) is isinstance(units, Decimal) for one in counted):
            return 0
        if isinstance(units, Decimal):
            units = self._units_of(attempt, units, sum((one.price or Decimal(0) for one in counted), Decimal(0)))
        left = attempt.received() - attempt.sent_back()
        return units if 0 < units <= left else 0

    @staticmethod
    def _units_of(attempt: Attempt, part: Decimal, earlier: Decimal) -> int:
        price = Decimal(attempt.basket.price)
        if earlier + part > price:
            return 0
        if earlier + part == price:
            return min(attempt.due, attempt.received()) - attempt.sent_back()
        return int((part * RATE * 100).to_integral_value(ROUND_FLOOR))

    def bank_refunds(self, attempt: Attempt, units: int) -> bool:
        """Whether the bank sends as much back."""
        return units <= attempt.settled_at_bank() - attempt.sent_back_at_bank()

    def refunded(self, attempt: Attempt, refund: Refund, *, at_bank: bool) -> None:
        """The shop has asked for a refund; `at_bank`: and the bank has it. It looks at once."""
        attempt.refunds[refund.reference] = refund
        if not at_bank:
            refund.status, refund.known = "refused", "failed"
            return
        status, refund.status = refund.status, "pending"
        self._tell(attempt, "refund.pending", refund=(refund.reference, "pending"))
        if status == "done":
            self.end_refund(attempt, refund, "done")
        self.look(attempt)

    # -- what the shop is shown --------------------------------------------------------------------------------

    def deliver(self, event: Event) -> None:
        """A message arrives: the first time or again, early or late."""
        words = frozenset({event.word} if event.word else ())
        self._learn(event.attempt, event.stages, event.returns, words, dict([event.refund] if event.refund else []))

    def look(self, attempt: Attempt) -> None:
        """The shop asks the bank how the invoice stands now."""
        stages = {name: one.stage for name, one in attempt.payments.items()}
        words = frozenset({attempt.word} if attempt.word else ())
        told = {one.reference: one.status for one in attempt.refunds.values() if one.status != "refused"}
        self._learn(attempt, stages, frozenset(attempt.returns), words, told)

    def refresh(self, order: str) -> None:
        """The shop asks about what is unfinished in an order."""
        mine, unpaid = self.of(order), order not in self.fulfilled
        refunding = {one.reference for one in mine if any(each.known == "pending" for each in one.counted())}
        asked = [one for one in mine if one.ended is None or one.reference in refunding]
        if unpaid and mine and mine[-1] not in asked:
            asked.append(mine[-1])
        for one in asked:
            self.look(one)

    def reconcile(self) -> None:
        """The shop asks about everything."""
        for one in self.attempts:
            self.look(one)

    def _learn(
        self,
        attempt: Attempt,
        stages: dict[str, Stage],
        returns: frozenset[str],
        words: frozenset[str],
        refunds: dict[str, str],
    ) -> None:
        before = attempt.status(), attempt.received()
        fresh = {
            name
            for name, stage in stages.items()
            if stage is Stage.SETTLED and attempt.shown.get(name) is not Stage.SETTLED
        }
        returned = bool(returns - attempt.shown_returns)
        sent_back = attempt.sent_back()
        for name, stage in stages.items():
            attempt.shown[name] = max(stage, attempt.shown.get(name, stage))
        attempt.shown_returns |= returns
        attempt.shown_words |= words
        if fresh:
            self._money(attempt, [name for name in attempt.settled() if name in fresh], sent_back)
        after = attempt.status(), attempt.received()
        over = after[0] in ("expired", "cancelled") or (after[0] == "returned" and attempt.order not in self.fulfilled)
        if over and after[1] and after != before:
            self._review(attempt, "partly_paid", f"{after[0]}:{attempt.came()}")
        if after[0] in ("paid", "expired", "cancelled"):
            attempt.ended = attempt.ended or after[0]
        for reference, status in refunds.items():
            self._learn_refund(attempt, attempt.refunds[reference], status)
        if returned and attempt.counted():
            self._review(attempt, "returned_after_refund", attempt.reference)

    def _learn_refund(self, attempt: Attempt, refund: Refund, status: str) -> None:
        if REFUND_STAGES.index(status) <= REFUND_STAGES.index(refund.known):
            return
        refund.known = status
        if status == "failed":
            self._review(attempt, "refund_failed", refund.reference)

    def _money(self, attempt: Attempt, fresh: list[str], sent_back: int) -> None:
        """Settled money that was not known: it pays the order, or a person looks at it, or it does not suffice yet."""
        old = attempt.ended not in (None, "expired") or self.of(attempt.order)[-1] is not attempt
        if attempt.order in self.fulfilled or old:
            for name in fresh:
                self._review(attempt, "not_for_this_order", name)
        elif attempt.received() < attempt.due:
            return
        elif attempt.received() - sent_back < attempt.due:
            for name in fresh:
                self._review(attempt, "refunded_before_paid", name)
        else:
            if attempt.received() - sent_back > attempt.due:
                self._review(attempt, "overpaid", fresh[-1])
            if attempt.late() and not self.accepts_late:
                if not any(reason == "late" for of, reason, _ in self.reviews if of == attempt.reference):
                    self._review(attempt, "late", f"hold:{attempt.came()}")
            else:
                self.fulfilled[attempt.order] = attempt.reference

    def _review(self, attempt: Attempt, reason: str, subject: str) -> None:
        self.reviews.add((attempt.reference, reason, subject))
