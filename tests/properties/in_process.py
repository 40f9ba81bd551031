"""Shop and bank in one process and one thread: the bank's own rooms without its server, a shop on SQLite in memory.

Requests go straight into the bank's web application, signed and verified as ever. Its webhooks wait in its outbox until
a test picks them up and delivers them, in whatever order it likes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import NoReturn

from attrs import define, field, frozen
from flask import Flask
from sqlalchemy import Column, Engine, MetaData, String, Table, create_engine, insert, select
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import StaticPool
from werkzeug.test import Client as Caller

from deposit_token_sdk import Checkout, Client, Paid, SqlStore
from deposit_token_sdk.checkout.hooks import Late
from deposit_token_sdk.exchange import Request, Response
from deposit_token_sdk.issuers import issuer_from
from deposit_token_sdk.sandbox import bank as bank_room
from deposit_token_sdk.sandbox import clock, keyring, outbox, web
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.control import Control
from deposit_token_sdk.sandbox.desk import House
from deposit_token_sdk.sandbox.tables import messages
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing.keys import Algorithm, SigningKey

HOST = "127.0.0.1:1"
ADDRESS = f"http://{HOST}"
SHOP = MetaData()
fulfilments = Table("fulfilments", SHOP, Column("order_id", String), Column("reference", String))
_numbers = count(1)


@frozen
class Message:
    """A webhook in the bank's outbox."""

    id: str
    kind: str
    body: bytes


@define
class InProcessBank:
    """The bank, its control, and its web application."""

    bank: Bank
    control: Control
    application: web.Edge

    def new_merchant(self) -> dict[str, str]:
        """Take a merchant on; returns the settings of its shop. Its webhooks wait."""
        name = f"shop-{next(_numbers)}"
        key = SigningKey.generate(Algorithm.ED25519, f"{name}-1")
        with self.bank.desk() as desk:
            bank_room.take_on(desk, name, name, key.verification_key(), None)
        return {
            "DEPOSIT_TOKEN_ISSUER": "reference",
            "DEPOSIT_TOKEN_BANK": self.bank.house.issuer,
            "DEPOSIT_TOKEN_URL": ADDRESS,
            "DEPOSIT_TOKEN_MERCHANT": name,
            "DEPOSIT_TOKEN_MODE": "test",
            "DEPOSIT_TOKEN_SIGNING_KEY": key.to_pem().decode(),
            "DEPOSIT_TOKEN_SIGNING_KEY_ID": f"{name}-1",
            "DEPOSIT_TOKEN_JWKS_URL": f"{ADDRESS}/.well-known/jwks.json",
        }

    def webhook_keys(self, merchant: str) -> str:
        """What the merchant's webhooks verify with, as a setting."""
        with self.bank.desk() as desk:
            return " ".join(signer.public_text for signer in keyring.webhook_signers(desk.db, merchant))

    def messages(self, merchant: str) -> list[Message]:
        """All that the bank has had to tell the merchant, oldest first."""
        with self.bank.desk() as desk:
            rows = desk.db.execute(select(messages).where(messages.c.merchant == merchant).order_by(messages.c.seq))
            return [Message(row["id"], row["type"], row["body"].encode()) for row in rows.mappings()]

    def headers(self, merchant: str, message: Message) -> dict[str, str]:
        """The message's headers, signed now."""
        with self.bank.desk() as desk:
            return outbox.signed_headers(desk, merchant, message.id, message.body, clock.real_now())


@contextmanager
def open_bank(folder: Path) -> Iterator[InProcessBank]:
    """A bank whose books lie in that folder."""
    house = House("sandbox-bank", "test", ADDRESS, timedelta(seconds=900), (0.0,))
    bank = Bank(f"sqlite:///{folder / 'bank.sqlite3'}", house)
    app = Flask("bank")
    web.Api(bank, True).mount(app)
    try:
        yield InProcessBank(bank, Control(bank, _enrol), web.Edge(app, lambda: frozenset({HOST})))
    finally:
        bank.close()


def _enrol(merchant: str, name: str, webhook_url: str | None, dialect: str) -> NoReturn:
    raise NotImplementedError("Merchants are taken on by new_merchant.")


class Carrier:
    """Carries a client's requests into the bank's web application."""

    def __init__(self, application: web.Edge) -> None:
        self._caller = Caller(application, use_cookies=False)

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response:
        """The bank's answer, at once."""
        answer = self._caller.open(
            request.url.removeprefix(ADDRESS),
            base_url=ADDRESS,
            method=request.method,
            headers=dict(request.headers),
            data=request.body,
        )
        headers = {name.lower(): value for name, value in answer.headers.items()}
        elapsed = 0.0 if began is None else time.monotonic() - began
        return Response(answer.status_code, headers, answer.get_data(), request, time.time(), elapsed)

    def close(self) -> None:
        """Nothing is open."""


@define
class InProcessShop:
    """A shop of that bank, in a database of its own."""

    at: InProcessBank
    settings: dict[str, str]
    accepts_late: bool
    engine: Engine = field(init=False)
    checkout: Checkout = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        SHOP.create_all(self.engine)
        self.restart()
        self.store.create_schema()

    @property
    def merchant(self) -> str:
        return self.settings["DEPOSIT_TOKEN_MERCHANT"]

    @property
    def store(self) -> SqlStore:
        store = self.checkout.store
        assert isinstance(store, SqlStore)
        return store

    def restart(self) -> None:
        """The shop's next process: it knows the bank's keys of today, and what its tables hold."""
        settings = {**self.settings, "DEPOSIT_TOKEN_WEBHOOK_KEYS": self.at.webhook_keys(self.merchant)}
        client = Client(issuer_from(Settings.from_env(settings)), transport=Carrier(self.at.application))
        self.checkout = Checkout(client, SqlStore(sessionmaker(self.engine)))

        @self.checkout.on_paid
        def fulfil(paid: Paid, session: Session) -> None:
            session.execute(insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference))

        @self.checkout.on_late
        def decide(_: object, __: Session) -> Late:
            return Late.ACCEPT if self.accepts_late else Late.HOLD

    def fulfilled(self) -> list[tuple[str, str]]:
        """Order and attempt, each time the shop has fulfilled."""
        with Session(self.engine) as session:
            return [(row.order_id, row.reference) for row in session.execute(select(fulfilments))]

    def close(self) -> None:
        """Let the database go."""
        self.engine.dispose()
