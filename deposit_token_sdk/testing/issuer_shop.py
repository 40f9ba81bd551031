"""One merchant's shop at the sandbox bank, for the conformance suite of issuers: `Shop`, and how a buyer pays: `Way`.

The shop is real (a checkout, a database, an address that the bank's webhooks reach), and so is the bank. What is
asserted about money is asked of the bank's own ledger.
"""
# ruff: noqa: S101

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from attrs import define, field
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.orm import Session, sessionmaker

from deposit_token_sdk.checkout.flow import Checkout
from deposit_token_sdk.checkout.hooks import News, Paid
from deposit_token_sdk.checkout.receiving import Answer
from deposit_token_sdk.checkout.sql import SqlStore, prepare_sqlite
from deposit_token_sdk.checkout.store import Attempt, RefundRecord
from deposit_token_sdk.client import Client, Clock
from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.issuers import issuer_from
from deposit_token_sdk.issuers.protocol import Capability, Issuer
from deposit_token_sdk.lifecycle import Status
from deposit_token_sdk.models import Proof
from deposit_token_sdk.money import Money
from deposit_token_sdk.sandbox import Sandbox, dialects
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.testing.issuer_wires import Door, Message, Wire

ORDER: Final = "A-1"
PATIENCE: Final = 15.0
"""Seconds within which whatever a test waits for must have come about."""
HASTY: Final = {"DEPOSIT_TOKEN_TIMEOUT": "0.5", "DEPOSIT_TOKEN_DEADLINE": "20"}
"""A client that does not wait long for an answer."""
SHORT: Final[tuple[list[str], ...]] = ([], ["partly_paid"])
"""Reviews after a short payment that was completed: one where the bank ended the invoice with the first."""

T = TypeVar("T")
Claims: TypeAlias = dict[str, Any]
_TABLES = MetaData()
_fulfilments = Table("shop_fulfilments", _TABLES, Column("order_id", String), Column("reference", String))


class Way:
    """How an order is opened and paid at a bank with a page of its own, and in what.

    `opens` and `refunds` are the routes of the reference API at which the sandbox's faults strike the requests that do
    so. `price` is in the token's own currency, since not every bank quotes another.
    """

    price = Money("128.50", "EUR")
    token = "SBEUR"  # noqa: S105 - a token's code
    opens = "POST /invoices"
    refunds = "POST /refunds"
    any_amount = True
    """Whether a buyer can pay another amount than what is due, or for an attempt that has ended."""

    def open(self, checkout: Checkout, order_id: str, **more: Any) -> Attempt:
        """All that the shop does until the buyer can pay; the same again gives the same attempt."""
        asked = {
            "order_id": order_id,
            "price": self.price,
            "token": self.token,
            "buyer_country": "DE",
            "content": "basket-1",
            "return_url": "http://127.0.0.1:9/orders/A-1",
        }
        return checkout.start(**{**asked, **more})

    unseen_for = 0.0
    """For how many seconds a payment that the shop itself sends may stay unseen; 0 where it sends none."""

    def commit(self, checkout: Checkout, attempt: Attempt) -> None:
        """What the shop itself sends for money to move: nothing, where the buyer pays on the bank's page."""

    def pay(self, bank: Sandbox, checkout: Checkout, attempt: Attempt, **more: Any) -> None:
        """The buyer pays what is due, or `units`, accepted now or `at`."""
        bank.control.pay(attempt.reference, **more)

    def pay_untold(self, bank: Sandbox, checkout: Checkout, attempt: Attempt) -> None:
        """The buyer pays what is due, and the shop has no answer of the bank's that says so."""
        self.pay(bank, checkout, attempt)


class Collected(Way):
    """At a bank where the shop sends the debit, once the buyer has agreed in the shop."""

    opens = refunds = "POST /payments"
    any_amount = False
    unseen_for = 32.0

    def commit(self, checkout: Checkout, attempt: Attempt) -> None:
        """The debit, unless it was sent before."""
        known = checkout.store.attempt(attempt.reference)
        if known is not None and known.standing is not None and known.standing.status is Status.OPEN:
            checkout.collect(attempt.order_id)

    def pay(self, bank: Sandbox, checkout: Checkout, attempt: Attempt, **more: Any) -> None:
        """The buyer agrees, and the shop sends the debit of all that is due."""
        assert not more
        self.commit(checkout, attempt)

    def pay_untold(self, bank: Sandbox, checkout: Checkout, attempt: Attempt) -> None:
        """The bank holds the payment until it has answered: that it is done can then be had from news, or by asking."""
        bank.control.hold(attempt.reference)
        self.pay(bank, checkout, attempt)
        bank.control.settle(attempt.reference)


WAYS: Final[dict[Capability, Way]] = {Capability.HOSTED_PAGE: Way(), Capability.COLLECT: Collected()}
"""How is paid, by what the issuer can do."""


@define
class Shop:
    """A merchant's shop: its checkout, its own table of fulfilled orders, what its hooks were told, what was sent."""

    bank: Sandbox
    merchant: str
    environment: dict[str, str]
    sessions: sessionmaker[Session]
    store: SqlStore
    door: Door
    line: int = 0
    listening: bool = True
    ahead: float = 0.0
    told: list[str] = field(factory=list)
    wire: Wire = field(factory=Wire)
    _heard: list[Message] = field(factory=list)
    _changed: threading.Condition = field(factory=threading.Condition)
    _hearing: int = 0
    checkout: Checkout = field(init=False)
    client: Client = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.client = self.client_of(self.environment, self.wire)
        self.checkout = self.restarted(client=self.client)

    # -- the shop itself -----------------------------------------------------------------------------------------

    @property
    def issuer(self) -> Issuer:
        """The issuer under test."""
        return self.client.issuer

    @property
    def way(self) -> Way:
        """How is paid here."""
        able = [way for capability, way in WAYS.items() if capability in self.issuer.capabilities]
        assert able, f"{self.issuer.name} can be paid in none of the ways {', '.join(WAYS)}."
        return able[0]

    def client_of(self, environment: Mapping[str, str], wire: Wire) -> Client:
        """A client that does not wait long before it tries again."""
        made = _issuer(frozenset(environment.items()))
        return Client(made, transport=wire, clock=Clock(sleep=lambda seconds: time.sleep(min(seconds, 0.002))))

    def restarted(
        self, environment: Mapping[str, str] | None = None, *, client: Client | None = None, **more: Any
    ) -> Checkout:
        """The same shop in a new process, as far as the SDK can tell; with other settings beside or instead."""
        made = client or self.client_of({**self.environment, **(environment or {})}, self.wire)
        checkout = Checkout(made, self.store, **{"now": self.now, **more})

        @checkout.on_paid
        def fulfil(paid: Paid, session: Session) -> None:
            session.execute(insert(_fulfilments).values(order_id=paid.order_id, reference=paid.reference))

        for name in ("underpaid", "overpaid", "expired", "cancelled", "refunded", "refund_failed", "returned"):

            def note(news: News, _: Session, name: str = name) -> None:
                self.told.append(name)

            getattr(checkout, f"on_{name}")(note)
        return checkout

    @property
    def hints(self) -> bool:
        """Whether the bank's news are not signed: they may be believed in what to ask the bank about, and no more."""
        return self.issuer.proofs == {Proof.CHANNEL}

    def open(self, order_id: str = ORDER, checkout: Checkout | None = None, **more: Any) -> Attempt:
        """An order that the buyer can pay."""
        return self.way.open(checkout or self.checkout, order_id, **more)

    def pay(self, attempt: Attempt, **more: Any) -> None:
        """The buyer pays; nothing is waited for."""
        self.way.pay(self.bank, self.checkout, attempt, **more)

    def pay_untold(self, attempt: Attempt) -> None:
        """The buyer pays, and the shop has no answer that says so."""
        self.way.pay_untold(self.bank, self.checkout, attempt)

    def purchase(self, order_id: str = ORDER, checkout: Checkout | None = None) -> Attempt:
        """Open and commit as a shop does that has lost track: what was found to be paid meanwhile stays so."""
        used = checkout or self.checkout
        view = used.view(order_id)
        if view.paid and view.attempt is not None:
            return view.attempt
        attempt = self.open(order_id, used)
        self.way.commit(used, attempt)
        return attempt

    def buy(self, order_id: str = ORDER, **more: Any) -> Attempt:
        """Open and pay, and wait until the order is paid and the bank's news are answered."""
        attempt = self.open(order_id, **more)
        self.pay(attempt)
        self.paid(order_id)
        self.quiet(attempt)
        return attempt

    def paid(self, order_id: str = ORDER) -> None:
        """Wait until the order is paid: by the bank's news, or where it sends none, by asking."""
        asks = Capability.WEBHOOKS not in self.issuer.capabilities
        self.until(lambda: (self.checkout.refresh(order_id) if asks else self.checkout.view(order_id)).paid)

    def persist(self, step: Callable[[], T], order_id: str = ORDER) -> T:
        """Do it as a shop does: what came to nothing, or to nobody knows what, is found out about, then tried again."""
        for _ in range(4):
            try:
                return step()
            except DepositTokenError:
                self.find_out(order_id)
        return step()

    def find_out(self, order_id: str = ORDER) -> None:
        """Ask the bank; what it has not seen by now, the shop gives up when its time is over."""
        self.checkout.reconcile()
        if self.checkout.view(order_id).unknown and self.way.unseen_for:
            with suppress(AssertionError):
                self.learns(lambda: not self.checkout.view(order_id).unknown, 2.0)
            self.ahead += self.way.unseen_for
            self.checkout.reconcile()

    def now(self) -> datetime:
        """The shop's clock."""
        return datetime.fromtimestamp(time.time() + self.ahead, UTC)

    # -- the bank's news -----------------------------------------------------------------------------------------

    def listen(self, bank: Sandbox) -> None:
        """Have this bank's webhooks come here."""
        bank.control.set_webhook_url(self.door.url(self), merchant=self.merchant)

    def hear(self, line: str, headers: Mapping[str, str], body: bytes) -> Answer | None:
        """What a bank posts to this line; None where nobody takes it."""
        with self._changed:
            if line != str(self.line):
                return None
            self._hearing += 1
        answer = self.checkout.receive(headers, body) if self.listening else None
        with self._changed:
            self._hearing -= 1
            self._heard.append(Message(headers, body, answer))
            self._changed.notify_all()
        return answer

    @property
    def news(self) -> list[Message]:
        """What came about this shop's orders: an earlier shop of the same merchant's may still be on its way."""
        mark = self.store.installation().encode()
        return [message for message in self._heard if mark in message.body]

    def lose_news(self, bank: Sandbox | None = None) -> None:
        """The bank's webhooks reach nobody from now on, nor any other bank's until they are listened to anew; those
        that are being applied are waited for."""
        (bank or self.bank).control.set_webhook_url(None, merchant=self.merchant)
        with self._changed:
            self.line += 1
            assert self._changed.wait_for(lambda: self._hearing == 0, PATIENCE)

    def intercept(
        self, attempt: Attempt, bank: Sandbox | None = None, checkout: Checkout | None = None
    ) -> list[Message]:
        """The buyer pays, and the bank's news of it are caught before the shop has heard any."""
        source = bank or self.bank
        self.listening = False
        self.way.pay_untold(source, checkout or self.checkout, attempt)
        self.caught(source, attempt)
        self.lose_news(source)
        self.listening = True
        return self.news

    def caught(self, bank: Sandbox, attempt: Attempt) -> None:
        """Wait until all that this bank has to say about it came once, where it sends news at all."""

        def came() -> bool:
            told = bank.control.webhooks(attempt.reference)
            return self.news != [] and not [one for one in told if _waits(one) and not one["tries"]]

        if Capability.WEBHOOKS in self.issuer.capabilities:
            self.until(came)

    def until(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until news have brought the condition about."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not condition():
                assert time.monotonic() < deadline, "the bank's news did not bring it about"
                self._changed.wait(0.05)

    def learns(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Wait until asking the bank has brought the condition about."""

        def asked() -> object:
            with suppress(DepositTokenError):
                self.checkout.refresh(ORDER)
            self.checkout.reconcile()
            return condition()

        self.until(asked, seconds)

    def quiet(self, attempt: Attempt) -> None:
        """Wait until the bank has no more to say about it."""
        self.until(lambda: not [one for one in self.bank.control.webhooks(attempt.reference) if _waits(one)])

    # -- what can be read ----------------------------------------------------------------------------------------

    def fulfilled(self) -> list[str]:
        """The references of the payments that orders were fulfilled for, in the shop's own table."""
        with self.sessions() as session:
            return list(session.execute(select(_fulfilments.c.reference)).scalars())

    def reviews(self) -> list[str]:
        """The reasons of what waits for a person."""
        return [review.reason for review in self.store.reviews()]

    def refunds(self, order_id: str = ORDER) -> tuple[RefundRecord, ...]:
        """The order's refunds, as the shop has them."""
        return self.store.order(order_id).refunds

    def received(self, attempt: Attempt) -> int:
        """Units that the shop knows to have come for it."""
        known = self.store.attempt(attempt.reference)
        assert known is not None
        return 0 if known.standing is None else known.standing.received

    def invoices(self) -> list[Claims]:
        """The bank's invoices for this shop."""
        mark = self.store.installation()
        found = self.bank.control.invoices(merchant=self.merchant)
        return [one for one in found if one["reference"].startswith(mark)]

    def ledger(self, attempt: Attempt, kind: str = "payment") -> list[int]:
        """Units of each transfer of this kind in the bank's own ledger, oldest first."""
        return [int(one["units"]) for one in self.bank.control.ledger(attempt.reference) if one["kind"] == kind]

    def kept(self, attempt: Attempt) -> int:
        """What the merchant has of it in the bank's own ledger, in units."""
        signs = {"payment": 1, "refund_failed": 1, "return": -1, "refund": -1}
        return sum(sign * sum(self.ledger(attempt, kind)) for kind, sign in signs.items())

    def sound(self, *attempts: Attempt) -> None:
        """Each was paid once, to the unit; each order was fulfilled once; and nothing waits for a person."""
        assert sorted(self.fulfilled()) == sorted(one.reference for one in attempts)
        for attempt in attempts:
            assert self.ledger(attempt) == [due_of(attempt)]
        assert self.reviews() == []

    def alone(self, *attempts: Attempt) -> None:
        """The bank has no other invoice for this shop that could still be paid."""
        alive = [one["reference"] for one in self.invoices() if one["status"] not in ("cancelled", "expired")]
        assert sorted(alive) == sorted(one.reference for one in attempts)


@lru_cache(maxsize=64)
def _issuer(settings: frozenset[tuple[str, str]]) -> Issuer:
    """The issuer with these settings: to read an RSA key takes longer than a purchase."""
    return issuer_from(Settings.from_env(dict(settings)))


def due_of(attempt: Attempt) -> int:
    """What the buyer owes, in units."""
    assert attempt.quote is not None
    return attempt.quote.due


def later(**by: float) -> Callable[[], datetime]:
    """The clock of a process that runs at another time."""
    return lambda: datetime.fromtimestamp(time.time() + _seconds(**by), UTC)


def _seconds(days: float = 0.0, hours: float = 0.0) -> float:
    return days * 86_400 + hours * 3600


def _waits(message: Claims) -> bool:
    return message["state"] in ("queued", "behind")


def settings_at(bank: Sandbox, merchant: str, issuer_name: str) -> dict[str, str]:
    """The settings of that merchant's shop at that bank: in the dialect of this name, or else by the reference API."""
    if issuer_name == "reference" or issuer_name in dialects.names():
        return bank.control.create_merchant(merchant, dialect=issuer_name)
    return {**bank.control.create_merchant(merchant), "DEPOSIT_TOKEN_ISSUER": issuer_name}


def make_tables(file: Path) -> None:
    """The tables of a shop, in a new file: copied for each, they need not be made again."""
    engine = create_engine(f"sqlite:///{file}")
    prepare_sqlite(engine)
    _TABLES.create_all(engine)
    SqlStore(sessionmaker(engine)).create_schema()
    engine.dispose()


@contextmanager
def opened(bank: Sandbox, merchant: str, environment: dict[str, str], file: Path, door: Door) -> Iterator[Shop]:
    """A new shop of that merchant's, in a database of its own and so an installation of its own."""
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": 30})
    prepare_sqlite(engine)
    sessions = sessionmaker(engine)
    store = SqlStore(sessions)
    shop = Shop(bank, merchant, environment, sessions, store, door)
    door.shops[merchant] = shop
    shop.listen(bank)
    try:
        yield shop
    finally:
        bank.control.clear_faults()
        shop.lose_news()
        del door.shops[merchant]
        shop.wire.close()
        engine.dispose()
