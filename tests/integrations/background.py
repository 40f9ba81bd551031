"""What the tests of the background share: a shop's checkout here, and the environment of the same shop elsewhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from attrs import frozen
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import Attempt, Checkout, Client, Money, SqlStore
from deposit_token_sdk.sandbox import Sandbox
from tests import databases
from tests.integrations.background_shop import TOPIC, note

ROOT = Path(__file__).parents[2]
_numbers = count(1)


@frozen
class Background:
    """A shop at the sandbox bank, of whose webhooks none arrives. `environ` is for its other processes."""

    bank: Sandbox
    checkout: Checkout
    engine: Engine
    notes: Path
    environ: dict[str, str]

    def put(self, count: int = 1, **payload: object) -> list[str]:
        """Put messages into the outbox; gives their keys."""
        keys = [f"note-{next(_numbers)}" for _ in range(count)]
        with self.checkout.store.begin() as tx:
            for key in keys:
                self.checkout.outbox.put(tx.session, TOPIC, payload, order_id="A-1", key=key)
        return keys

    def noted(self) -> list[str]:
        """The key of each call of the handler."""
        return sorted(path.name.partition(".")[0] for path in self.notes.iterdir())

    def waiting(self) -> int:
        """How many messages have not gone out."""
        return self.checkout.store.outgoing_depth()[0]

    def pay_unheard(self, order_id: str) -> Attempt:
        """Start an order and have it paid; the shop is not told."""
        attempt = self.start(order_id)
        self.bank.control.pay(attempt.reference)
        return attempt

    def start(self, order_id: str) -> Attempt:
        return self.checkout.start(
            order_id=order_id,
            price=Money("128.50", "EUR"),
            token="SBUSD",
            buyer_country="DE",
            content="basket-1",
            return_url="http://127.0.0.1:9/orders/A-1",
        )

    def paid(self, order_id: str) -> bool:
        return self.checkout.view(order_id).paid

    def unsealed(self) -> int:
        return self.checkout.store.seals.waiting()[0]


@contextmanager
def background(bank: Sandbox, engine: Engine, notes: Path) -> Iterator[Background]:
    """A shop on this empty database, whose handler leaves its files in `notes`."""
    settings = bank.control.create_merchant(f"shop-{next(_numbers)}") | {"DEPOSIT_TOKEN_ATTEMPTS": "1"}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("DEPOSIT_TOKEN_")}
    of_shop = {"DATABASE": databases.address(engine), "NOTES": str(notes), "PYTHONPATH": str(ROOT)}
    with Client.from_env(settings) as client:
        store = SqlStore(sessionmaker(engine))
        checkout = Checkout(client, store)
        checkout.outbox.handler(TOPIC)(note)
        yield Background(bank, checkout, engine, notes, inherited | settings | of_shop)
