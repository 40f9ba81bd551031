"""A small shop to be killed: `python -m tests.torture.shop PORT`, and `tests.torture.shop:checkout` for the worker.

Written as a shop's developer would, over the public names. Its own tables declare nothing unique but the orders, so
that whatever happens twice shows twice. Its hooks raise now and then, as the run's seed has it, until the run turns
calm (a file says so).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from flask import Flask, Response, jsonify, request
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, create_engine, event, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, sessionmaker

from deposit_token_sdk import (
    BankUnavailable,
    Checkout,
    Client,
    DepositTokenError,
    Money,
    OutcomeUnknown,
    Paid,
    SqlStore,
)
from deposit_token_sdk.checkout import review
from deposit_token_sdk.checkout.hooks import Late, News
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.checkout.store import Verdict
from deposit_token_sdk.checkout.view import OrderView
from deposit_token_sdk.integrations.flask import webhooks
from deposit_token_sdk.lifecycle import Stage
from deposit_token_sdk.words import Capture
from tests.torture import plan

tables = MetaData()


def _table(name: str, columns: str) -> Table:
    texts = [Column(each, Text, nullable=each == "answer") for each in columns.split()]
    return Table(name, tables, Column("number", Integer, primary_key=True), *texts)


orders = Table(
    "orders",
    tables,
    *(Column(name, Text, primary_key=name == "id") for name in "id amount currency token late".split()),
)
fulfilments = _table("fulfilments", "order_id reference received")
paid_with = _table("paid_with", "order_id reference movement units")
asked = _table("asked", "verb order_id request answer")
refunded = _table("refunded", "order_id refund")
receipts = _table("receipts", "key order_id")
"""What went out of the outbox; the work that cannot be in the transaction."""


class HookBroke(Exception):
    """The shop's own mistake, on purpose."""


SEED = int(os.environ.get("TORTURE_SEED", "0"))
LOSES = float(os.environ.get("TORTURE_LOSES", "0"))
CALM = Path(os.environ.get("TORTURE_CALM", "/nonexistent"))
_broke: dict[tuple[str, str], int] = {}


def _may_break(hook: str, order_id: str) -> None:
    """Raise as often as the seed says, and then never again in this process."""
    key = (hook, order_id)
    if _broke.get(key, 0) < plan.hook_failures(SEED, order_id, hook) and not CALM.exists():
        _broke[key] = _broke.get(key, 0) + 1
        raise HookBroke(f"{hook} of {order_id}")


def _engine(url: str) -> Any:
    engine = create_engine(url, **({} if url.startswith("sqlite") else {"pool_size": 64, "pool_use_lifo": True}))
    prepare_sqlite(engine)
    if LOSES:
        event.listen(engine, "commit", _lose)
    return engine


def _lose(connection: Connection) -> None:
    """Say "committed" of what is thrown away, now and then: a database that cannot be trusted."""
    if Random().random() < LOSES:  # noqa: S311 - dice, no secret
        dbapi = connection.connection.dbapi_connection
        assert dbapi is not None
        dbapi.rollback()


sessions = sessionmaker(_engine(os.environ.get("TORTURE_DATABASE", "sqlite://")))


def open_checkout() -> Checkout:
    """The shop's checkout with its hooks, over the database and the bank that the environment names.

    ``TORTURE_AHEAD`` lets its clock be so many seconds ahead, so that what it put off is due.
    """
    ahead = timedelta(seconds=int(os.environ.get("TORTURE_AHEAD", "0")))
    made = Checkout(Client.from_env(), SqlStore(sessions), now=lambda: datetime.now(UTC) + ahead)

    @made.on_paid
    def fulfil(paid: Paid, db: Session) -> None:
        db.execute(
            insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference, received=str(paid.received))
        )
        for seen in paid.attempt.history.observations:
            if seen.stage is Stage.SETTLED:
                row = {"movement": seen.movement, "units": str(seen.units)}
                db.execute(insert(paid_with).values(order_id=paid.order_id, reference=paid.reference, **row))
        made.outbox.put(db, "receipt", {"order": paid.order_id}, order_id=paid.order_id)
        _may_break("paid", paid.order_id)

    @made.on_late
    def late(news: News, db: Session) -> Late:
        return Late(db.execute(select(orders.c.late).where(orders.c.id == news.order_id)).scalar_one())

    @made.on_refunded
    def sent_back(news: News, db: Session) -> None:
        db.execute(insert(refunded).values(order_id=news.order_id, refund=news.detail))
        _may_break("refunded", news.order_id)

    @made.outbox.handler("receipt")
    def send(message: Any) -> None:
        _may_break("receipt", message.order_id)
        with sessions.begin() as db:
            db.execute(insert(receipts).values(key=message.key, order_id=message.order_id))

    return made


def create_schema(checkout: Checkout) -> None:
    """The shop's own tables and the checkout's, unless they are there."""
    store = checkout.store
    assert isinstance(store, SqlStore)
    store.create_schema()
    tables.create_all(sessions.kw["bind"])


def create_app(checkout: Checkout, return_url: str) -> Flask:
    """The shop's pages, as JSON."""
    app = Flask("torture-shop")
    app.register_blueprint(webhooks(checkout))

    @app.errorhandler(Exception)
    def surprise(error: Exception) -> Response:
        app.logger.error("What should not be.", exc_info=error)
        return _answer(500, reason=f"{type(error).__name__}: {error}"[:200])

    @app.get("/health")
    def health() -> Response:
        return jsonify(serves=True)

    _for_buyers(app, checkout, return_url)
    _for_the_clerk(app, checkout)
    return app


def _for_buyers(app: Flask, checkout: Checkout, return_url: str) -> None:
    @app.post("/orders/<order_id>/start")
    def start(order_id: str) -> Response:
        form = request.get_json()
        with sessions.begin() as db:
            _upsert(db, {"id": order_id, **{name: form[name] for name in ("amount", "currency", "token", "late")}})
        return _told(
            lambda: checkout.start(
                order_id=order_id,
                price=Money(form["amount"], form["currency"]),
                token=form["token"],
                buyer_country="DE",
                content=f"{order_id}:{form['amount']}",
                return_url=f"{return_url}/orders/{order_id}",
                capture=Capture(form["capture"]),
            ),
            checkout,
            order_id,
        )

    @app.get("/orders/<order_id>")
    def come_back(order_id: str) -> Response:
        return _told(lambda: checkout.refresh(order_id), checkout, order_id)

    @app.post("/orders/<order_id>/<verb>")
    def act(order_id: str, verb: str) -> Response:
        form = request.get_json()
        acts: dict[str, Callable[[], object]] = {
            "capture": lambda: checkout.capture(order_id),
            "collect": lambda: checkout.collect(order_id, account="anna"),
            "cancel": lambda: checkout.cancel(order_id),
            "refund": lambda: checkout.refund(order_id, _amount(form), request=form["request"]),
        }
        with sessions.begin() as db:
            row = {"verb": verb, "order_id": order_id, "request": form.get("request", "")}
            (number,) = db.execute(insert(asked).values(row).returning(asked.c.number)).one()
        answer = _told(acts[verb], checkout, order_id)
        with sessions.begin() as db:
            told = "done" if answer.status_code == 200 else str((answer.get_json() or {}).get("reason"))
            db.execute(update(asked).where(asked.c.number == number).values(answer=told))
        return answer


def _for_the_clerk(app: Flask, checkout: Checkout) -> None:
    @app.get("/reviews")
    def reviews() -> Response:
        listed = [
            {"number": one.number, "order": one.order_id, "reason": one.reason, "verdicts": [*review.allowed(one)]}
            for one in checkout.reviews()
        ]
        return _answer(200, reviews=listed)

    @app.post("/reviews/<int:number>/<verdict>")
    def decide(number: int, verdict: str) -> Response:
        told = _tried(lambda: checkout.resolve(number, Verdict(verdict), by="clerk"))
        return told if isinstance(told, Response) else _answer(200)


def _upsert(db: Session, row: dict[str, str]) -> None:
    insert_of = postgresql.insert if db.get_bind().dialect.name == "postgresql" else sqlite.insert
    db.execute(insert_of(orders).values(row).on_conflict_do_update(index_elements=["id"], set_=row))


def _amount(form: dict[str, str]) -> int | Money:
    return int(form["units"]) if "units" in form else Money(form["amount"], form["currency"])


def _told(act: Callable[[], object], checkout: Checkout, order_id: str) -> Response:
    """200 and how the order stands; 409 and why not; 503: nobody knows yet, ask again."""
    told = _tried(act)
    if isinstance(told, Response):
        return told
    view = told if isinstance(told, OrderView) else checkout.view(order_id)
    attempt = view.attempt
    standing = None if attempt is None else attempt.standing
    return _answer(
        200,
        paid=view.paid,
        unknown=view.unknown,
        refundable=str(view.refundable),
        reference=None if attempt is None else attempt.reference,
        ended=None if attempt is None else attempt.ended,
        due=None if standing is None else str(standing.due),
        status=None if standing is None else standing.status.value,
    )


def _tried(act: Callable[[], object]) -> object:
    """What came of it, or the answer that says why nothing did."""
    try:
        return act()
    except (OutcomeUnknown, BankUnavailable) as error:
        return _answer(503, reason=error.reason)
    except DepositTokenError as error:
        return _answer(409, reason=error.reason, detail=str(error))


def _answer(code: int, /, **told: object) -> Response:
    answer = jsonify(told)
    answer.status_code = code
    return answer


def serve(port: int) -> None:
    """Serve until killed."""
    from waitress import serve as waitress_serve  # noqa: PLC0415 - the worker does without

    checkout = open_checkout()
    create_schema(checkout)
    app = create_app(checkout, f"http://127.0.0.1:{port}")
    waitress_serve(app, host="127.0.0.1", port=port, threads=64, channel_timeout=30, _quiet=True)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
