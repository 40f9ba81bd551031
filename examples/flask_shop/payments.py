"""The shop's side of being paid: one client, one checkout, and the hooks that run in the shop's own transactions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any, cast

from attrs import evolve
from flask import current_app
from sqlalchemy import ColumnElement, update
from sqlalchemy.orm import Session

from deposit_token_sdk import (
    Attempt,
    Checkout,
    Client,
    DepositTokenError,
    News,
    OrderView,
    Paid,
    SqlStore,
    Status,
)
from deposit_token_sdk.checkout.store import RefundRecord
from deposit_token_sdk.issuers.protocol import Capability
from examples.flask_shop import receipts
from examples.flask_shop.models import Order, db

log = logging.getLogger(__name__)

ASK_EVERY = 2.0
"""Seconds between two questions to the bank about one order, however many tabs look at it."""


class Pace:
    """Lets each name through once in so many seconds."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._last: dict[str, float] = {}
        self._lock = Lock()

    def allows(self, name: str) -> bool:
        """Whether it is this name's turn; if so, its time begins anew."""
        now = self._clock()
        with self._lock:
            if now - self._last.get(name, -self._seconds) < self._seconds:
                return False
            if len(self._last) > 1_000:
                self._last = {known: at for known, at in self._last.items() if now - at < self._seconds}
            self._last[name] = now
            return True


class Payments:
    """What the pages need of the bank, asked no more often than is decent."""

    def __init__(self, client: Client, store: SqlStore) -> None:
        self.client = client
        self.store = store
        self.checkout = Checkout(client, store)
        self._pace = Pace(ASK_EVERY)

    def start(self, order: Order, digest: str, token: str, country: str, return_url: str) -> Attempt:
        """Have the order, as it stands in this content, priced and invoiced in this token."""
        return self.checkout.start(
            order_id=order.id,
            price=order.content(digest).total,
            token=token,
            buyer_country=country,
            content=digest,
            return_url=return_url,
        )

    @property
    def collects(self) -> bool:
        """Whether the buyer agrees here and the shop starts the debit, since the bank has no page."""
        return Capability.COLLECT in self.client.issuer.capabilities

    def look(self, order_id: str) -> OrderView:
        """How the order stands, asking the bank if it is still open and was not asked just now."""
        view = self.view(order_id)
        if view.paid or view.attempt is None or (view.attempt.ended and not view.unknown):
            return view
        return self.ask(order_id) if self._pace.allows(order_id) else view

    def ask(self, order_id: str) -> OrderView:
        """How the order stands by the bank's own answer, or as far as we know if it gives none."""
        try:
            self.checkout.refresh(order_id)
        except DepositTokenError as error:
            log.warning("Order %s could not be asked about: %s", order_id, error)
        return self.view(order_id)

    def backings(self) -> list[tuple[str, str, bool]]:
        """Each token of the bank, what it says is behind it, and whether that is to be believed; empty where it says
        nothing of the kind by this API.
        """
        if Capability.SIGNED_STATEMENTS not in self.client.issuer.capabilities:
            return []
        found: list[tuple[str, str, bool]] = []
        asked = "All"
        try:
            for asked in (each.code for each in self.client.tokens()):
                found.append((asked, str(self.client.backing(asked)), True))
        except DepositTokenError as error:
            found.append((asked, str(error), False))
        return found

    def view(self, order_id: str) -> OrderView:
        """How the order stands as far as we know. Money that waits for a person comes before a later attempt.

        A buyer whose payment is being looked at must not be shown another pay link.
        """
        view = self.checkout.view(order_id)
        if view.paid or view.attempt is None:
            return view
        whole = (attempt for attempt in view.attempts if _paid_whole(attempt, view.refunds))
        return evolve(view, attempt=next(whole, view.attempt))


def _paid_whole(attempt: Attempt, refunds: tuple[RefundRecord, ...]) -> bool:
    """Whether all that was due has come for this attempt, and was not sent back."""
    sent_back = sum(one.units for one in refunds if one.attempt == attempt.reference and one.stage.counts)
    standing = attempt.standing
    return standing is not None and standing.status is Status.PAID and standing.received - sent_back >= standing.due


def payments() -> Payments:
    """The payments of the running shop."""
    return cast(Payments, current_app.extensions["payments"])


def build(environ: Mapping[str, str]) -> Payments:
    """A client by the DEPOSIT_TOKEN_* settings and a checkout that writes through the shop's own session."""
    paying = Payments(Client.from_env(environ), SqlStore(db.session))
    checkout = paying.checkout
    checkout.outbox.handler(receipts.TOPIC)(receipts.into(Path(environ.get("SHOP_RECEIPTS", "receipts"))))

    @checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        attempt = paid.attempt
        bought = {"paid": attempt.content, "token": attempt.token, "country": attempt.buyer_country}
        _mark(session, Order.id == paid.order_id, state="paid", paid_by=paid.reference, **bought)
        receipts.put_receipt(checkout, session, paid)

    @checkout.on_returned
    def take_back(news: News, session: Session) -> None:
        # What is taken back may as well be a second payment, or one that never paid the order.
        if news.standing is not None and news.standing.status is Status.RETURNED:
            _mark(session, Order.id == news.order_id, Order.paid_by == news.reference, state="returned")

    return paying


def _mark(session: Session, *which: ColumnElement[bool], **columns: Any) -> None:
    session.execute(update(Order).where(*which).values(**columns))
