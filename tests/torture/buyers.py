"""The buyers: threads that act as browsers at the shop, and as people and back office at the bank.

They do what people do when nothing answers: they try again. What they remember is for going on with, never for the
report: whether all came out well is read from the books afterwards. A purchase that waits for its price to run out
is laid aside until the bank's clock has been moved.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

import requests
from attrs import define, field

from tests.torture.plan import Purchase

_TRIES_FOR_PAID: Final = 16
_TRIES_TO_AGREE: Final = 60
_NAPS = (0.05, 0.25)
_GROWS, _LONGEST = 1.4, 6.0
"""Whoever looks again and again looks ever more rarely: the machine is for the purchases."""


class TimeIsUp(Exception):
    """The run must end."""


@define
class Line:
    """A line to the shop or the bank: down for a while is nothing to give up for."""

    address: str
    stopping: threading.Event
    surprises: queue.SimpleQueue[str]
    session: requests.Session = field(factory=requests.Session)
    naps: Random = field(factory=Random)

    def __attrs_post_init__(self) -> None:
        self.session.trust_env = False

    def another(self) -> Line:
        """Another line to the same place, for another thread."""
        return Line(self.address, self.stopping, self.surprises)

    def nap(self, seconds: float) -> None:
        """So many seconds; TimeIsUp if the run ends meanwhile."""
        if self.stopping.wait(seconds):
            raise TimeIsUp

    def tries(self, most: int | None = None) -> Iterator[int]:
        """The number of each try from 0, with a moment between them, ever longer; TimeIsUp if the run ends."""
        for number in itertools.count() if most is None else range(most):
            yield number
            self.nap(self.naps.uniform(*_NAPS) * min(_GROWS**number, _LONGEST))

    def once(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON of one try; 0 where there was no answer."""
        if self.stopping.is_set():
            raise TimeIsUp
        try:
            answer = self.session.request(method, f"{self.address}{path}", json=body, timeout=40)
            return answer.status_code, answer.json()
        except (requests.RequestException, ValueError):
            return 0, None

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and JSON, asked again until there is an answer that says something."""
        for _ in self.tries():
            status, told = self.once(method, path, body)
            if status >= 500 and status != 503:
                self.surprises.put(f"{method} {path} was answered {status}: {told}")
            if 200 <= status < 500:
                return status, told
        raise TimeIsUp


@define
class Buyer:
    """One thread's worth of people."""

    shop: Line
    bank: Line
    collects: bool = False
    due: dict[str, int] = field(factory=dict)
    orders: dict[str, Purchase] = field(factory=dict)
    refused: str = ""
    paid: dict[str, int] = field(factory=dict)

    def go(self, purchase: Purchase, again: bool) -> bool:
        """Make a purchase; `again`: the bank's clock has moved since. False if it is to be laid aside until then."""
        dice = purchase.dice()
        if purchase.kind == "expired":
            if not again:
                return self._opened(purchase) is None
            self._too_late(purchase, dice)
            return True
        reference = self._start_twice(purchase) if purchase.kind == "tabs" else self._opened(purchase)
        if reference is not None:
            _STORIES[purchase.kind](self, purchase, reference, dice)
        return True

    # -- at the shop -----------------------------------------------------------------------------------------------

    def _opened(self, purchase: Purchase, amount: str | None = None) -> str | None:
        """The reference to pay for; None where there is nothing to pay any more."""
        names = ("currency", "token", "late", "capture")
        form = {name: getattr(purchase, name) for name in names} | {"amount": amount or purchase.amount}
        for _ in self.shop.tries():
            status, told = self.shop.ask("POST", f"/orders/{purchase.order}/start", form)
            if status == 200 and told["reference"] is not None and told["ended"] is None:
                if told["due"] is None:
                    continue  # the other tab's start is still under way
                reference: str = told["reference"]
                self.due[reference] = int(told["due"])
                self.orders[reference] = purchase
                return reference
            self.refused = "" if status == 200 else told["reason"]
            if status == 200 or self.refused in ("order_paid", "payment_in_review", "order_changed"):
                break
        return None

    def _start_twice(self, purchase: Purchase) -> str | None:
        """Two tabs at once; whatever each is told, the buyer pays for what the last one shows."""
        tab = Buyer(self.shop.another(), self.bank, self.collects)
        other = threading.Thread(target=self._quietly, args=(lambda: tab._opened(purchase),))
        other.start()
        reference = self._opened(purchase)
        other.join()
        return reference

    def _quietly(self, act: Callable[[], object]) -> None:
        try:
            act()
        except TimeIsUp:
            return

    def _view(self, purchase: Purchase) -> dict[str, Any]:
        """The return page: the shop asks the bank."""
        for _ in self.shop.tries():
            status, told = self.shop.ask("GET", f"/orders/{purchase.order}")
            if status == 200:
                return dict(told)
        raise TimeIsUp

    def _paid(self, purchase: Purchase, reference: str) -> bool:
        """Whether it was seen to be paid. A payment that the bank is still working on is helped along there."""
        for _ in self.shop.tries(_TRIES_FOR_PAID):
            view = self._view(purchase)
            if view["paid"]:
                return True
            if view["ended"] is not None:
                return False
            if view["status"] == "pending":
                self._control("settle", invoice=reference)
        return False

    def _until_done(self, purchase: Purchase, verb: str, form: dict[str, str]) -> bool:
        """Ask for the same thing, under the same one-time reference, until the shop says yes or no."""
        status, _ = self.shop.ask("POST", f"/orders/{purchase.order}/{verb}", form)
        return status == 200

    def _double_click(self, purchase: Purchase, form: dict[str, str]) -> None:
        line = self.shop.another()
        path = f"/orders/{purchase.order}/refund"
        other = threading.Thread(target=self._quietly, args=(lambda: line.once("POST", path, form),))
        other.start()
        self._until_done(purchase, "refund", form)
        other.join()

    # -- at the bank -----------------------------------------------------------------------------------------------

    def _control(self, verb: str, **arguments: object) -> Any:
        """What the verb gives; None where the bank refuses."""
        status, told = self.bank.ask("POST", f"/control/{verb}", arguments)
        return told if status == 200 else None

    def _arrived(self, reference: str) -> int:
        """How many payments have come to the bank for this reference."""
        movements = self._control("invoice", invoice=reference)["movements"]
        return len([each for each in movements if each["kind"] == "payment"])

    def _pay(self, reference: str, dice: Random, units: int | None = None) -> None:
        """Pay once. When the bank goes down in the middle, the buyer looks at the account before paying again.

        Where the bank has no page, agree in the shop, until it says that it has understood.
        """
        if self.collects:
            self._agree(self.orders[reference])
            return
        before = self.paid.get(reference, 0)
        asked: dict[str, object] = {"invoice": reference, "buyer": dice.choice(("anna", "bilal", "chen"))}
        if units is not None:
            asked["units"] = str(units)
        for _ in self.bank.tries():
            status, _ = self.bank.once("POST", "/control/pay", asked)
            if 200 <= status < 300 or (not 0 < status < 500 and self._arrived(reference) > before):
                self.paid[reference] = before + 1
                return
            if 0 < status < 500:
                return

    def _agree(self, purchase: Purchase) -> None:
        """Agree in the shop that it collects; agree anew where the bank never had the payment."""
        for _ in self.shop.tries(_TRIES_TO_AGREE):
            status, told = self.shop.ask("POST", f"/orders/{purchase.order}/collect", {})
            under_way = told["ended"] is None if status == 200 else told["reason"] == "not_open"
            if under_way or (self._opened(purchase) is None and self.refused != "order_changed"):
                return

    # -- the stories -----------------------------------------------------------------------------------------------

    def _plain(self, purchase: Purchase, reference: str, dice: Random) -> None:
        self._pay(reference, dice)
        if purchase.stays:
            self._paid(purchase, reference)

    def _declined(self, purchase: Purchase, reference: str, dice: Random) -> None:
        self._control("decline", invoice=reference)
        if dice.random() < 0.7:
            again = self._opened(purchase)
            if again is not None:
                self._plain(purchase, again, dice)

    def _halves(self, purchase: Purchase, reference: str, dice: Random) -> None:
        due = self.due[reference]
        first = max(1, due * dice.randint(10, 90) // 100)
        self._pay(reference, dice, first)
        if dice.random() < 0.5:
            self._view(purchase)
        self._pay(reference, dice, due - first)
        if purchase.stays:
            self._paid(purchase, reference)

    def _short(self, purchase: Purchase, reference: str, dice: Random) -> None:
        due = self.due[reference]
        self._pay(reference, dice, max(1, due * dice.randint(10, 90) // 100))

    def _over(self, purchase: Purchase, reference: str, dice: Random) -> None:
        due = self.due[reference]
        self._pay(reference, dice, due + dice.randint(1, 500))
        if purchase.stays:
            self._paid(purchase, reference)

    def _twice(self, purchase: Purchase, reference: str, dice: Random) -> None:
        due = self.due[reference]
        self._pay(reference, dice, due)
        if purchase.stays:
            self._paid(purchase, reference)
        self._pay(reference, dice, due)

    def _changed(self, purchase: Purchase, reference: str, dice: Random) -> None:
        """The basket changes after the first invoice; now and then the old one is paid all the same."""
        other = f"{int(purchase.amount.partition('.')[0]) + 3}"
        after = dice.random()
        if after < 0.25:
            self._pay(reference, dice)
        newer = self._opened(purchase, other)
        if newer is None:
            return
        if 0.25 <= after < 0.5:
            self._pay(reference, dice, self.due[reference])
        self._plain(purchase, newer, dice)

    def _too_late(self, purchase: Purchase, dice: Random) -> None:
        """The price has run out. Half pay the old invoice all the same, as a transfer can; half ask for a new one."""
        view = self._view(purchase)
        if dice.random() < 0.5 and view["reference"] is not None:
            self._pay(view["reference"], dice, int(view["due"]))
            self._view(purchase)
            if dice.random() < 0.3:
                self._pay(view["reference"], dice, int(view["due"]) + dice.randint(1, 300))
            return
        reference = self._opened(purchase)
        if reference is not None:
            self._plain(purchase, reference, dice)

    def _authorized(self, purchase: Purchase, reference: str, dice: Random) -> bool:
        self._pay(reference, dice)
        for _ in self.shop.tries(_TRIES_FOR_PAID):
            view = self._view(purchase)
            if view["status"] == "authorized":
                return True
            if view["ended"] is not None:
                return False
            if view["status"] == "pending":
                self._control("settle", invoice=reference)
        return False

    def _captured(self, purchase: Purchase, reference: str, dice: Random) -> None:
        if self._authorized(purchase, reference, dice):
            self._until_done(purchase, "capture", {})

    def _released(self, purchase: Purchase, reference: str, dice: Random) -> None:
        if self._authorized(purchase, reference, dice):
            self._until_done(purchase, "cancel", {})

    def _cancelled(self, purchase: Purchase, reference: str, dice: Random) -> None:
        """The shop cancels; in half of them the buyer pays at the same moment."""
        apart = Buyer(self.shop, self.bank.another())
        payer = threading.Thread(target=self._quietly, args=(lambda: apart._pay(reference, dice),))
        if dice.random() < 0.5:
            payer.start()
        self._until_done(purchase, "cancel", {})
        if payer.ident is not None:
            payer.join()

    def _refunded(self, purchase: Purchase, reference: str, dice: Random) -> None:
        """All of it, a part, or parts in the price's currency that add up to all; with double clicks."""
        self._pay(reference, dice)
        if not self._paid(purchase, reference):
            return
        left = int(self._view(purchase)["refundable"])
        how = dice.choice(("all", "part", "parts"))
        page = f"{purchase.order}-page"
        if how == "all":
            self._double_click(purchase, {"units": str(left), "request": f"{page}-1"})
        elif how == "part":
            self._double_click(purchase, {"units": str(max(1, left // 3)), "request": f"{page}-1"})
        else:
            self._refund_in_parts(purchase, page)
        if dice.random() < 0.3:
            too_much = {"units": str(left), "request": f"{page}-9"}
            self._until_done(purchase, "refund", too_much)

    def _refund_in_parts(self, purchase: Purchase, page: str) -> None:
        whole = int(purchase.amount.partition(".")[0])
        minor = purchase.amount.partition(".")[2]
        first = str(whole // 2)
        rest = f"{whole - whole // 2}" + (f".{minor}" if minor else "")
        for number, amount in enumerate((first, rest), 1):
            if amount != "0":
                form = {"amount": amount, "currency": purchase.currency, "request": f"{page}-{number}"}
                self._double_click(purchase, form)

    def _returned(self, purchase: Purchase, reference: str, dice: Random) -> None:
        self._pay(reference, dice)
        if self._paid(purchase, reference):
            self._control("return_payment", invoice=reference)


_STORIES: dict[str, Callable[[Buyer, Purchase, str, Random], None]] = {
    "plain": Buyer._plain,
    "refunded": Buyer._refunded,
    "halves": Buyer._halves,
    "captured": Buyer._captured,
    "twice": Buyer._twice,
    "changed": Buyer._changed,
    "declined": Buyer._declined,
    "released": Buyer._released,
    "cancelled": Buyer._cancelled,
    "over": Buyer._over,
    "short": Buyer._short,
    "tabs": Buyer._plain,
    "returned": Buyer._returned,
}
