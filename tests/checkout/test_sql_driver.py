"""What the store gives to the driver itself: the same rows and errors as by SQLAlchemy, and watchers see it all."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from deposit_token_sdk.checkout import sql_driver, sql_session
from deposit_token_sdk.checkout import sql_statements as statements
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.sql import SqlStore
from deposit_token_sdk.errors import NotAllowed
from deposit_token_sdk.testing.values import NOON, a_confirmation, a_message, an_attempt, paid
from tests.databases import ON_BOTH

pytestmark = ON_BOTH

_BROKEN = sa.text("SELECT nothing FROM nowhere WHERE it = :it")
_TWICE = sa.text("INSERT INTO deposit_token_words (reference, word) VALUES (:reference, :word)")


@pytest.fixture
def sessions(database: sa.Engine) -> sessionmaker[Session]:
    return sessionmaker(database)


@pytest.fixture
def store(sessions: sessionmaker[Session]) -> SqlStore:
    return SqlStore(sessions)


def watch(engine: sa.Engine) -> list[str]:
    """From now on, the statements that SQLAlchemy tells of."""
    told: list[str] = []

    @sa.event.listens_for(engine, "before_cursor_execute")
    def note(*what: Any) -> None:
        told.append(what[2])

    return told


def apply_a_payment(store: SqlStore) -> None:
    """What the door does with one, in its order."""
    with store.begin() as tx:
        tx.add_attempt(an_attempt())
    with store.begin() as tx:
        assert tx.claim(a_message(reference="r1", outcome="applied:applied")) is None
        (attempt,) = tx.lock_attempt("r1")
        assert tx.claim_movement(attempt.issuer, "mv-1", "r1") == "r1"
        tx.add_observations("r1", paid())
        tx.keep_evidence("r1", a_confirmation())
        assert tx.fulfilled_by("A-1") is None
        tx.end_attempt("r1", "paid")
        assert tx.fulfil("A-1", "r1", NOON)
        assert tx.fulfilled_by("A-1") == "r1"


def all_rows(engine: sa.Engine) -> dict[str, list[tuple[Any, ...]]]:
    with engine.connect() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(table.select())] for table in t.metadata.sorted_tables
        }


def test_a_payment_leaves_the_same_rows_whether_statements_are_watched_or_not(
    store: SqlStore, database: sa.Engine
) -> None:
    apply_a_payment(store)
    unwatched = all_rows(database)
    with database.begin() as connection:
        for table in t.metadata.sorted_tables:
            connection.execute(table.delete())
    told = watch(database)
    apply_a_payment(store)
    watched = all_rows(database)
    assert any("deposit_token_fulfilments" in statement for statement in told)
    for rows in (unwatched, watched):
        for name in ("deposit_token_attempts", "deposit_token_evidence"):
            rows[name] = [row[1:] for row in rows[name]]  # running numbers go on
    assert watched == unwatched
    assert [row[-2] for row in watched["deposit_token_events"]] == ["applied:applied"]


@pytest.mark.parametrize("watched", [False, True])
def test_an_error_of_the_driver_is_raised_as_sqlalchemys(
    store: SqlStore, sessions: sessionmaker[Session], database: sa.Engine, watched: bool
) -> None:
    if watched:
        watch(database)
    with sessions() as session:
        connection = sql_session.connection_of(session)
        with pytest.raises(DBAPIError, match="nowhere") as broken:
            sql_driver.rows(session, connection, _BROKEN, {"it": "1"})
        assert broken.value.statement is not None
    with sessions() as session:
        connection = sql_session.connection_of(session)
        row = {"reference": "r1", "word": "expired"}
        assert sql_driver.rows(session, connection, _TWICE, row) == ()
        with pytest.raises(IntegrityError):
            sql_driver.rows(session, connection, _TWICE, row)


def test_what_follows_a_hooks_rollback_is_rolled_back_with_it(store: SqlStore, database: sa.Engine) -> None:
    with store.begin() as tx:
        tx.add_attempt(an_attempt())

    def apply() -> None:
        with store.begin() as tx:
            tx.claim(a_message(reference="r1"))
            tx.lock_attempt("r1")
            tx.session.rollback()
            tx.add_observations("r1", paid())
            tx.fulfil("A-1", "r1", NOON)

    with pytest.raises(NotAllowed) as ended:
        apply()
    assert ended.value.reason == "hook_ended_transaction"
    left = all_rows(database)
    assert [left[f"deposit_token_{name}"] for name in ("events", "observations", "fulfilments")] == [[], [], []]


def test_a_write_that_waits_is_there_for_whatever_reads_next(store: SqlStore) -> None:
    with store.begin() as tx:
        tx.add_attempt(an_attempt())
    with store.begin() as tx:
        tx.lock_attempt("r1")
        tx.add_observations("r1", paid())
        tx.end_attempt("r1", "paid")
        tx.watch("r1", None)
        assert tx.session.execute(sa.select(t.attempts.c.ended, t.attempts.c.due_at)).one() == ("paid", None)
        (attempt,) = tx.lock_attempt("r1")
        assert (attempt.history, attempt.ended) == (paid(), "paid")


def test_a_fulfilment_written_past_the_lock_is_found_and_all_is_rolled_back(
    store: SqlStore, database: sa.Engine
) -> None:
    with store.begin() as tx:
        tx.add_attempt(an_attempt())

    def apply() -> bool:
        with store.begin() as tx:
            tx.claim(a_message(reference="r1"))
            tx.lock_attempt("r1")
            tx.session.execute(t.fulfilments.insert().values(order_id="A-1", reference="r2", at="then"))
            tx.end_attempt("r1", "paid")
            fulfilled = tx.fulfil("A-1", "r1", NOON)
            tx.flush()
            return fulfilled

    if database.dialect.name == "sqlite":  # it is asked at once there
        assert apply() is False
        return
    with pytest.raises(NotAllowed) as refused:
        apply()
    assert refused.value.reason == "written_meanwhile"
    assert all_rows(database)["deposit_token_events"] == []


def test_writes_to_different_tables_go_to_postgresql_as_one_statement(store: SqlStore, database: sa.Engine) -> None:
    told = watch(database)
    apply_a_payment(store)
    writes = [one for one in told if "deposit_token_evidence" in one]
    assert len(writes) == 1
    if database.dialect.name == "postgresql":
        assert all(name in writes[0] for name in ("observations", "evidence", "attempts", "fulfilments"))


def test_a_statement_is_compiled_once(store: SqlStore) -> None:
    write = statements.Write(t.words, ("reference", "word"), 2)
    assert statements.writing(write) is statements.writing(statements.Write(t.words, ("reference", "word"), 2))
