"""The bank itself: its books, its clock, its house rules, and the desk at which everything is decided.

Whoever asks, the web edge, a page or the control, opens a desk, calls one decision in quotes, invoices, movements,
refunds or statements, and closes it: that is one transaction, decided alone.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from typing import Final

from sqlalchemy import Connection

from deposit_token_sdk.sandbox import clock, invoices, keyring, ledger, memory, outbox
from deposit_token_sdk.sandbox.clock import BusinessClock
from deposit_token_sdk.sandbox.desk import Desk, House
from deposit_token_sdk.sandbox.faults import Faults
from deposit_token_sdk.sandbox.ledger import BUYER, MERCHANT, account
from deposit_token_sdk.sandbox.memory import InHand
from deposit_token_sdk.sandbox.pricing import TOKENS, DemoToken
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import Database, add, change, facts, merchants, rows
from deposit_token_sdk.signing.keys import VerificationKey

DEMO_MERCHANT: Final = "demo-shop"
BUYERS: Final[Mapping[str, tuple[str, int]]] = {
    "anna": ("Anna Albrecht", 1_000_000),
    "bilal": ("Bilal Bakr", 1_000_000),
    "chen": ("Chen Cui", 1_000_000),
    "dora": ("Dora Diaz, whose account is almost empty", 1),
}
"""The demo buyers: their names and how many whole tokens of each kind they start with."""
WORKING_BALANCE: Final = 100_000
"""Whole tokens of each kind a merchant starts with: a refund at the merchant's cost may exceed what came in."""
_TIDY: Final = timedelta(minutes=1)
"""How often, in real time, old answers and nonces are thrown away."""


class Bank:
    """The books, and who may look into them. Close it when done."""

    def __init__(self, database_url: str, house: House, *, durable: bool = False) -> None:
        self.house = house
        self.faults = Faults()
        self.in_hand = InHand()
        self._closing = threading.Event()
        self._database = Database(database_url, durable=durable)
        self._listeners: list[Callable[[], None]] = []
        self._tidied = clock.real_now()
        with self._database.transaction() as db:
            self.clock = BusinessClock(timedelta(microseconds=int(fact(db, "clock_offset", lambda: "0"))))
            self.page_secret = bytes.fromhex(fact(db, "page_secret", lambda: secrets.token_hex(32)))
            self._open(Desk(db, house, self.faults, self.clock.now(), clock.real_now()))

    def _open(self, desk: Desk) -> None:
        """Fund the demo buyers, once in the life of these books."""
        if fact(desk.db, "opened", lambda: "now") == "before":
            return
        kinds = TOKENS.values()
        held = [(token, account(BUYER, token.code, who), n) for who, (_, n) in BUYERS.items() for token in kinds]
        _issue(desk, held)
        keyring.published(desk.db)
        desk.db.execute(change(facts, "name"), {"which": "opened", "value": "before"})

    def on_news(self, listener: Callable[[], None]) -> None:
        """Call `listener` after every transaction that left webhooks to send, or moved the clock."""
        self._listeners.append(listener)

    @contextmanager
    def desk(self) -> Iterator[Desk]:
        """One transaction. What has run out by now is ended first."""
        with self._database.transaction() as db:
            desk = Desk(db, self.house, self.faults, self.clock.now(), clock.real_now())
            invoices.expire_due(desk)
            if desk.real - self._tidied > _TIDY:
                memory.forget(db, desk.now, desk.real)
                self._tidied = desk.real
            yield desk
        if desk.woke:
            self._wake()

    def reading(self) -> AbstractContextManager[Connection]:
        """The books as they were committed last, to be read only: waits for nobody, and nobody waits for it."""
        return self._database.reading()

    def fact(self, name: str, first: Callable[[], str]) -> str:
        """Something the bank knows of itself, with a desk only where it must be made by `first`."""
        with self.reading() as db:
            row = db.execute(rows(facts, "name"), {"name": name}).one_or_none()
        if row is not None:
            return str(row.value)
        with self.desk() as desk:
            return fact(desk.db, name, first)

    def advance(self, by: timedelta) -> None:
        """Move the business clock on, for good, and end what has run out. Raises Refused (``malformed``)."""
        with self._database.transaction() as db:
            self.clock.advance(by)
            offset = str(self.clock.offset // timedelta(microseconds=1))
            db.execute(change(facts, "name"), {"which": "clock_offset", "value": offset})
        with self.desk() as desk:
            outbox.bring_forward(desk, by)
        self._wake()

    def pause(self, seconds: float) -> None:
        """Let real time pass; a bank that closes waits no longer."""
        self._closing.wait(seconds)

    def hurry(self) -> None:
        """The bank is about to close: end every pause."""
        self._closing.set()

    def _wake(self) -> None:
        for listener in self._listeners:
            listener()

    def close(self) -> None:
        """Close the books."""
        self._database.close()


def fact(db: Connection, name: str, first: Callable[[], str]) -> str:
    """Something the bank knows of itself; `first` makes it when there is nothing yet."""
    row = db.execute(rows(facts, "name"), {"name": name}).one_or_none()
    if row is not None:
        return str(row.value)
    value = first()
    db.execute(add(facts), {"name": name, "value": value})
    return value


def _issue(desk: Desk, whole: Iterable[tuple[DemoToken, str, int]]) -> None:
    """Issue so many whole tokens of each kind to each account."""
    units = ((token, target, count * 10**token.decimals) for token, target, count in whole)
    ledger.book(desk.db, *(ledger.issued(token.code, target, each, desk.now) for token, target, each in units))


def take_on(desk: Desk, merchant: str, name: str, key: VerificationKey, webhook_url: str | None) -> None:
    """Make a merchant, or give one that is there another key, name or address. Raises Refused (``malformed``)."""
    known = desk.db.execute(rows(merchants, "id"), {"id": merchant}).first()
    if known is None:
        desk.db.execute(add(merchants), {"id": merchant, "name": name, "webhook_url": webhook_url})
        keyring.add_webhook_key(desk.db, merchant)
        kinds = TOKENS.values()
        _issue(desk, [(token, account(MERCHANT, token.code, merchant), WORKING_BALANCE) for token in kinds])
    elif webhook_url is not None:
        set_webhook_url(desk, merchant, webhook_url)
    keyring.enrol(desk.db, merchant, key)


def set_webhook_url(desk: Desk, merchant: str, url: str | None) -> None:
    """Where the merchant's webhooks go; None: nowhere, they wait. Raises Refused (``malformed``)."""
    if url is not None and not url.startswith(("http://", "https://")):
        raise Refused("malformed", "A webhook address is http or https.")
    merchant_of(desk, merchant)
    desk.db.execute(change(merchants), {"which": merchant, "webhook_url": url})


def merchant_of(desk: Desk, merchant: str) -> tuple[str, str | None]:
    """A merchant's name and webhook address. Raises Refused (``malformed``)."""
    row = desk.row(rows(merchants, "id"), "malformed", f"There is no merchant {merchant[:60]!r}.", id=merchant)
    return str(row["name"]), row["webhook_url"]


def ping(desk: Desk, merchant: str) -> str:
    """Send a signed test event and return its id: about nothing, but for one merchant and mode."""
    return desk.tell(merchant, "test.ping", _nothing_in_particular(desk, merchant))


def test_event(desk: Desk, merchant: str) -> tuple[str, str]:
    """Id and body of a test event that is sent by hand; it lies in the outbox as given up, ready to be resent."""
    return desk.lay_down(merchant, "test.ping", _nothing_in_particular(desk, merchant))


def _nothing_in_particular(desk: Desk, merchant: str) -> dict[str, str]:
    merchant_of(desk, merchant)
    return {"merchant": merchant, "installation": "", "mode": desk.house.mode}
