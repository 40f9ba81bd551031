"""What the checkout asks of a database that has run for long is found by index: no table is passed row by row.

The statements are those that the store really runs, caught on their way to the driver and explained by the database.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
import sqlalchemy as sa
from attrs import evolve
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import SqlStore
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.store import Decision, Review, Verb, Verdict
from deposit_token_sdk.lifecycle import RefundStage
from deposit_token_sdk.testing.values import (
    LATER,
    NOON,
    a_confirmation,
    a_message,
    a_quote,
    a_refund,
    an_attempt,
    an_intent,
    an_outgoing,
    paid,
)
from tests.databases import ON_BOTH

pytestmark = ON_BOTH

MANY = 3_000
"""Rows in each table: enough for PostgreSQL to prefer an index where there is one that serves."""


@pytest.fixture
def grown(database: sa.Engine) -> SqlStore:
    """A store with many orders that are paid and done, and one that is not."""
    store = SqlStore(sessionmaker(database))
    store.installation()
    with database.begin() as connection:
        for table, rows in done(MANY).items():
            connection.execute(sa.insert(table), rows)
    with store.begin() as tx:
        tx.add_attempt(an_attempt())
        tx.save_quote("r1", a_quote())
        tx.put(an_outgoing())
        tx.add_intent(an_intent())
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
    return store


@cache
def done(count: int) -> dict[sa.Table, list[dict[str, Any]]]:
    """Rows of this many orders about which nothing is left to do."""
    orders = [(f"x{number}", f"X-{number}") for number in range(count)]
    sealed = {"sealed": 1}
    return {
        t.attempts: [
            {**t.as_row(t.attempts, an_attempt(name, order, ended="paid")), "live_order": None, "due_at": None}
            for name, order in orders
        ],
        t.observations: [
            t.as_row(t.observations, seen, reference=name)
            for name, _ in orders
            for seen in paid(f"mv {name}").observations
        ],
        t.words: [{"reference": name, "word": "expired"} for name, _ in orders],
        t.movements: [{"issuer": "sandbox", "movement": f"mv {name}", "reference": name} for name, _ in orders],
        t.events: [{**t.as_row(t.events, a_message(f"ev {name}", reference=name)), **sealed} for name, _ in orders],
        t.evidence: [
            {**t.as_row(t.evidence, a_confirmation(name), a_confirmation(name).evidence, attempt=name), **sealed}
            | {"digest": name}
            for name, _ in orders
        ],
        t.fulfilments: [
            {"order_id": order, "reference": name, "at": t.as_text(NOON), **sealed} for name, order in orders
        ],
        t.intents: [
            {**t.as_row(t.intents, an_intent(subject=name, attempt=name)), "answered_at": t.as_text(NOON)}
            for name, _ in orders
        ],
        t.refunds: [
            t.as_row(t.refunds, a_refund(f"f {name}", name, f"page {name}", stage=RefundStage.DONE))
            for name, _ in orders
        ],
        t.reviews: [
            {**t.as_row(t.reviews, Review(order, name, "late", "", "", NOON)), **sealed} for name, order in orders
        ],
        t.decisions: [
            {**t.as_row(t.decisions, Decision(number, Verdict.ACCEPT, "Ms Ito", "", NOON)), "review": number, **sealed}
            for number in range(1, count)
        ],
        t.outgoing: [
            {**t.as_row(t.outgoing, an_outgoing(f"k {name}")), "sent_at": t.as_text(NOON)} for name, _ in orders
        ],
    }


def a_webhook(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.claim(a_message())
        tx.lock_attempt("r1")
        tx.refunds("r1")
        tx.fulfilled_by("A-1")
        tx.claim_movement("sandbox", "mv-1", "r1")
        tx.add_observations("r1", paid())
        tx.keep_evidence("r1", a_confirmation())
        tx.end_attempt("r1", "paid")
        tx.fulfil("A-1", "r1", NOON)
        tx.open_review(Review("A-1", "r1", "overpaid", "mv-1", "", NOON))
        tx.put(an_outgoing("k2"))
        tx.open_intents("r1")
        tx.answer_intent(Verb.START, "r1", "invoiced")
        tx.record("sandbox", "ev-1", "applied")


def a_refund_of_it(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.lock_order("A-1")
        tx.add_refund(a_refund())
        tx.add_refund(evolve(a_refund(), reference="f2"))
        tx.add_intent(an_intent(Verb.REFUND, "f1"))
        tx.renew_intent(an_intent(Verb.REFUND, "f1"))
        tx.save_refund("f1", RefundStage.PENDING, "bank-1")
        tx.watch("r1", LATER)


def a_sweep(store: SqlStore) -> None:
    assert store.take_due(LATER, LATER, 100) == ("r1",)


def the_outbox(store: SqlStore) -> None:
    assert store.take_outgoing(NOON, LATER, 100, ("no such topic",)) == ()
    assert [one.key for one in store.take_outgoing(NOON, LATER, 100)] == ["k1"]
    with store.begin() as tx:
        tx.put_off("k1", LATER, "451")
        tx.bury("k1", LATER, "550")
        tx.revive("k1", LATER)
        tx.sent("k1", LATER)
    store.dead_letters()
    store.outgoing_depth()
    store.overdue_topics(LATER)


def a_page(store: SqlStore) -> None:
    store.attempt("x7")
    assert [one.reference for one in store.order("X-7").refunds] == ["f x7"]
    assert [one.subject for one in store.order("A-1").intents] == ["r1"]
    store.evidence("X-7")
    store.all_reviews("X-7")
    with store.begin() as tx:
        tx.review(7)
        tx.decision(7)


def test_a_page_of_an_order_without_refunds_or_open_calls_is_one_statement(
    grown: SqlStore, database: sa.Engine
) -> None:
    with grown.begin() as tx:
        tx.answer_intent(Verb.START, "r1", "invoiced")
    with watched(database) as statements:
        kept = grown.order("A-1")
    assert (len(statements), len(kept.attempts), kept.intents) == (1, 1, ())


def the_sealer(store: SqlStore) -> None:
    store.seals.waiting()
    assert {row.source for row in store.seals.unsealed(100)} >= {"evidence", "events", "fulfilments", "reviews"}


def test_every_row_is_found_by_index(grown: SqlStore, database: sa.Engine) -> None:
    with watched(database) as statements:
        for work in (a_sweep, the_outbox, a_page, a_refund_of_it, a_webhook, the_sealer):
            work(grown)
    assert statements
    with database.connect() as connection:
        plans = {statement: explained(connection, statement, given) for statement, given in statements}
    assert [(line, statement) for statement, plan in plans.items() for line in plan if passes_all_rows(line)] == []


def test_a_days_report_passes_through_narrow_tables_alone(grown: SqlStore, database: sa.Engine) -> None:
    with watched(database) as statements:
        assert grown.moved_within("sandbox", NOON + timedelta(days=2), NOON + timedelta(days=3)) == ()
        assert len(grown.booked(["x7", "x8"])) == 2
        grown.heard("sandbox", "ev-1")
    with database.connect() as connection:
        plans = [line for statement, given in statements for line in explained(connection, statement, given)]
    passed = [line for line in plans if passes_all_rows(line)]
    assert [line for line in passed if not re.search("deposit_token_(fulfilments|refunds)", line)] == []


@contextmanager
def watched(database: sa.Engine) -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the driver meanwhile and names a table of ours, with its parameters."""
    statements: list[tuple[str, Any]] = []

    def note(*told: Any) -> None:
        if "deposit_token_" in told[2]:
            statements.append((told[2], told[3]))

    sa.event.listen(database, "before_cursor_execute", note)
    yield statements
    sa.event.remove(database, "before_cursor_execute", note)


def explained(connection: sa.Connection, statement: str, given: Any) -> list[str]:
    sqlite = connection.dialect.name == "sqlite"
    rows = connection.exec_driver_sql(("EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN ") + statement, given)
    return [str(row[3 if sqlite else 0]) for row in rows]


OF_FEW = {
    str(index.name)
    for table in t.metadata.tables.values()
    for index in table.indexes
    if index.dialect_options["sqlite"]["where"] is not None
}
"""Indexes that hold the few rows about which something is left to do: to pass through one of them whole is no harm."""


def passes_all_rows(line: str) -> bool:
    if "deposit_token_installation" in line or line.rpartition(" ")[2] in OF_FEW:
        return False
    return line.startswith("SCAN deposit_token") or "Seq Scan on deposit_token" in line
