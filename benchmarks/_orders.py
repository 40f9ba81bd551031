"""Orders that wait to be paid, and the bank's signed webhooks that pay them, many of each and no two alike.

Numbers are spread over twelve digits, so that ids reach a database in no order, as a bank's do.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from time import time

from sqlalchemy import Column, Engine, MetaData, Table, Text, func, insert, select
from sqlalchemy.orm import Session, sessionmaker

from benchmarks._messages import BANK, INSTALLATION, MERCHANT, delivered, digest, event, settlement
from deposit_token_sdk.checkout.sql import SqlStore
from deposit_token_sdk.checkout.sql_tables import installations
from deposit_token_sdk.checkout.store import Attempt
from deposit_token_sdk.models import Bearer, Capture, Mode, Quote
from deposit_token_sdk.money import Money
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner

SIGNER, _ = WebhookSigner.generate()
DUE = 14100

SHOP = MetaData()
orders = Table("orders", SHOP, Column("id", Text, primary_key=True), Column("status", Text, nullable=False))
"""The shop's own table: its hook marks an order paid here."""


def spread(number: int) -> int:
    """Another number of at most twelve digits for each up to 10^12, and neighbours far apart."""
    return number * 618_033_988_749 % 10**12


def order_id(number: int) -> str:
    """The shop's name for the order of this number."""
    return f"A-{number:012}"


def waiting(number: int) -> Attempt:
    """An attempt, quoted and invoiced, that waits for its money."""
    now = datetime.now(UTC)
    quote = Quote(
        id=f"quo_{number:012}",
        reference=f"{INSTALLATION}{number:012}",
        merchant=MERCHANT,
        installation=INSTALLATION,
        mode=Mode.TEST,
        price=Money("128.50", "EUR"),
        token="SBUSD",
        decimals=2,
        rate=Decimal("1.0837"),
        fee=174,
        bearer=Bearer.DEBT,
        due=DUE,
        net=DUE - 174,
        expires_at=now + timedelta(days=1),
        digest=digest(number),
        statement=_like_a_quote(),
    )
    return Attempt(
        reference=quote.reference,
        order_id=order_id(number),
        issuer=BANK,
        token=quote.token,
        price=quote.price,
        content=f"{number:064x}",
        bearer=quote.bearer,
        capture=Capture.AUTOMATIC,
        buyer_country="DE",
        return_url=f"https://shop.example/orders/{number}",
        created_at=now,
        quote=quote,
        invoice=f"inv_{number:012}",
        pay_url=f"https://bank.example/pay/{digest(number)}",
    )


def open_orders(sessions: sessionmaker[Session], numbers: list[int]) -> None:
    """Write these orders and their attempts, as a shop and its checkout do, but in one transaction."""
    with SqlStore(sessions).begin() as tx:
        for number in numbers:
            tx.add_attempt(waiting(number))
        rows = [{"id": order_id(number), "status": "open"} for number in numbers]
        tx.session.execute(insert(orders), rows)


def create_tables(engine: Engine, sessions: sessionmaker[Session]) -> None:
    """The shop's table and the checkout's, of the installation that the messages are for."""
    SHOP.create_all(engine)
    store = SqlStore(sessions)
    store.create_schema()
    with store.begin() as tx:
        tx.session.execute(insert(installations).values(slot="this", id=INSTALLATION))


def paid(sessions: sessionmaker[Session], table: Table = orders) -> int:
    """How many orders the shop has as paid."""
    with sessions() as session:
        return session.execute(select(func.count()).where(table.c.status == "paid")).scalar_one()


def delivery(number: int) -> tuple[dict[str, str], bytes]:
    """The webhook that pays an order, signed now: headers as a framework hands them over, and the body."""
    now = int(time())
    body = event(number, now)
    return delivered(SIGNER.sign(f"msg_{number:012}", now, body)), body


@cache
def _like_a_quote() -> str:
    """A signed text of a quote's length; nobody verifies a quote a second time."""
    return settlement(0, int(time()))
