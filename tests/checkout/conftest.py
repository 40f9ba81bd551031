"""A shop in miniature over real parts: the sandbox bank, SQLite, an HTTP address that the bank's webhooks reach."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from flask import Flask, request
from sqlalchemy import Column, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import BaseWSGIServer, make_server

from deposit_token_sdk import Attempt, Checkout, Client, Money, Paid, SqlStore
from deposit_token_sdk.checkout.hooks import News
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.integrations.flask import webhooks
from deposit_token_sdk.sandbox import Sandbox

SHOP = MetaData()
fulfilments = Table("shop_fulfilments", SHOP, Column("order_id", String), Column("reference", String))
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("bank"), webhook_schedule=(0.0, 0.1, 0.2, 0.5)) as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def _no_faults_left(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "bank" in request.fixturenames:
        request.getfixturevalue("bank").control.clear_faults()


@define
class Shop:
    """One merchant's shop: its checkout, its own table of fulfilled orders, and what its hooks were told."""

    bank: Sandbox
    merchant: str
    environment: dict[str, str]
    checkout: Checkout
    sessions: sessionmaker[Session]
    server: BaseWSGIServer
    changed: threading.Condition = field(factory=threading.Condition)
    told: list[tuple[str, str]] = field(factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(factory=list)

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/webhooks/sandbox-bank"

    def start(
        self, order_id: str = "A-1", price: Money | None = None, checkout: Checkout | None = None, **more: Any
    ) -> Attempt:
        asked: dict[str, Any] = {
            "order_id": order_id,
            "price": price or Money("128.50", "EUR"),
            "token": "SBUSD",
            "buyer_country": "DE",
            "content": "basket-1",
            "return_url": "http://127.0.0.1:9/orders/A-1",
        }
        return (checkout or self.checkout).start(**{**asked, **more})

    def buy(self, order_id: str = "A-1", **more: Any) -> Attempt:
        """Start and pay, and wait until the bank's webhook has marked the order paid."""
        attempt = self.start(order_id, **more)
        self.bank.control.pay(attempt.reference)
        self.until(lambda: self.checkout.view(order_id).paid)
        return attempt

    def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        """Wait until webhooks have brought the condition about."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not condition():
                assert time.monotonic() < deadline, "the bank's webhook did not bring it about"
                self.changed.wait(0.05)

    def lose_webhooks(self) -> None:
        self.bank.control.set_webhook_url(None, merchant=self.merchant)

    def fulfilled(self) -> list[tuple[str, str]]:
        with self.sessions() as session:
            return [(row.order_id, row.reference) for row in session.execute(select(fulfilments))]

    def reviews(self) -> list[str]:
        return [review.reason for review in self.checkout.store.reviews()]

    def bank_received(self, invoice: str) -> int:
        """What the bank's own ledger says has reached the merchant for this invoice, in units, fees apart."""
        signs = {"payment": 1, "return": -1, "refund": -1, "refund_failed": 1}
        return sum(signs.get(entry["kind"], 0) * int(entry["units"]) for entry in self.bank.control.ledger(invoice))

    def restarted(self, **more: Any) -> Checkout:
        """The same shop in a new process, as far as the SDK can tell: a new client over the same database."""
        return Checkout(more.pop("client", None) or Client.from_env(self.environment), self.checkout.store, **more)


def register_hooks(shop: Shop) -> None:
    def fulfil(paid: Paid, session: Session) -> None:
        session.execute(insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference))

    shop.checkout.on_paid(fulfil)
    names = ("authorized", "underpaid", "overpaid", "expired", "cancelled", "refunded", "refund_failed", "returned")
    for name in (*names, "review"):

        def note(news: News, _: Session, name: str = name) -> None:
            shop.told.append((name, news.detail))

        getattr(shop.checkout, f"on_{name}")(note)


@pytest.fixture
def shop(bank: Sandbox, tmp_path: Path) -> Iterator[Shop]:
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.sqlite'}")
    prepare_sqlite(engine)
    sessions = sessionmaker(engine)
    SHOP.create_all(engine)
    store = SqlStore(sessions)
    store.create_schema()
    merchant = f"shop-{next(_numbers)}"
    environment = bank.control.create_merchant(merchant)
    with Client.from_env(environment) as client:
        checkout = Checkout(client, store)
        app = Flask("shop")
        app.register_blueprint(webhooks(checkout))
        server = make_server("127.0.0.1", 0, app, threaded=True)
        made = Shop(bank, merchant, environment, checkout, sessions, server)

        @app.before_request
        def _keep() -> None:
            made.received.append(({name.lower(): value for name, value in request.headers}, request.get_data()))

        @app.teardown_request
        def _announce(_: BaseException | None) -> None:
            with made.changed:
                made.changed.notify_all()

        register_hooks(made)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        bank.control.set_webhook_url(made.webhook_url, merchant=merchant)
        yield made
        bank.control.set_webhook_url(None, merchant=merchant)
        server.shutdown()
        thread.join(5)
        server.server_close()
    engine.dispose()
