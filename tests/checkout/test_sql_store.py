"""SqlStore on real SQLite files: the conformance suite, and what only a database with several processes shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk.checkout.sql import SqlStore, metadata, prepare_sqlite
from deposit_token_sdk.checkout.store import Store
from deposit_token_sdk.errors import ConfigurationError, InvalidInput
from deposit_token_sdk.testing.stores import StoreConformance
from deposit_token_sdk.testing.values import HUGE, NOON, a_message, an_attempt, paid

PROCESSES, THREADS, ROUNDS = 4, 16, 6

RACE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from deposit_token_sdk.checkout.sql import SqlStore, prepare_sqlite
from deposit_token_sdk.testing.values import NOON, a_message, an_attempt, paid

url, threads, rounds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine = create_engine(url, pool_size=threads)
prepare_sqlite(engine)
store = SqlStore(sessionmaker(engine))

def deliver(number):
    order = f"order-{number % rounds}"
    with store.begin() as tx:
        if tx.claim(a_message(f"event-{number % rounds}")) is not None:
            return "repeated"
        tx.lock_attempt(order)
        tx.add_observations(order, paid(order))
        tx.fulfil(order, order, NOON)
        tx.session.execute(text("UPDATE shop_orders SET shipped = shipped + 1 WHERE id = :id"), {"id": order})
        return "fulfilled"

def outcome(number):
    try:
        return deliver(number)
    except Exception as error:
        return repr(error)

print("ready", flush=True)
sys.stdin.readline()
with ThreadPoolExecutor(threads) as pool:
    print(json.dumps(list(pool.map(outcome, range(threads * rounds)))))
"""


def an_engine(folder: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{folder / 'shop.db'}")
    prepare_sqlite(engine)
    return engine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[sa.Engine]:
    engine = an_engine(tmp_path)
    yield engine
    engine.dispose()


@pytest.fixture
def made(engine: sa.Engine) -> SqlStore:
    store = SqlStore(sessionmaker(engine))
    store.create_schema()
    return store


class TestOnASessionmaker(StoreConformance):
    @pytest.fixture
    def store(self, made: SqlStore) -> Store:
        return made


class TestOnFlaskSqlalchemysSession(StoreConformance):
    @pytest.fixture
    def app(self, tmp_path: Path) -> Iterator[Flask]:
        app = Flask("shop")
        app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.db'}"
        db = SQLAlchemy(app)
        app.extensions["store"] = SqlStore(db.session)
        with app.app_context():
            prepare_sqlite(db.engine)
            yield app
            db.session.remove()
            db.engine.dispose()

    @pytest.fixture
    def store(self, app: Flask) -> Store:
        store: SqlStore = app.extensions["store"]
        store.create_schema()
        return store

    @pytest.fixture
    def around_thread(self, app: Flask) -> Callable[[], AbstractContextManager[Any]]:
        return app.app_context


def test_four_processes_of_sixteen_threads_claim_each_event_once_and_none_is_locked_out(
    made: SqlStore, engine: sa.Engine
) -> None:
    orders = [f"order-{number}" for number in range(ROUNDS)]
    with made.begin() as tx:
        tx.session.execute(sa.text("CREATE TABLE shop_orders (id TEXT PRIMARY KEY, shipped INTEGER NOT NULL)"))
        for order in orders:
            tx.add_attempt(an_attempt(order, order))
            tx.session.execute(sa.text("INSERT INTO shop_orders VALUES (:id, 0)"), {"id": order})

    outcomes = race(str(engine.url))

    assert sorted(set(outcomes)) == ["fulfilled", "repeated"]
    assert outcomes.count("fulfilled") == ROUNDS
    assert len(outcomes) == PROCESSES * THREADS * ROUNDS
    with made.begin() as tx:
        assert set(tx.session.execute(sa.text("SELECT shipped FROM shop_orders")).scalars()) == {1}
    assert [made.attempts(order)[0].history for order in orders] == [paid(order) for order in orders]


def race(url: str) -> list[str]:
    """Let every process get ready, then start them all at once."""
    command = [sys.executable, "-c", RACE, url, str(THREADS), str(ROUNDS)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(PROCESSES)]
    try:
        assert [process.stdout.readline() for process in processes if process.stdout] == ["ready\n"] * PROCESSES
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        return [outcome for process in processes for outcome in json.loads(process.communicate(timeout=120)[0])]
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_the_schema_can_be_created_again_and_all_its_tables_carry_the_prefix(made: SqlStore, engine: sa.Engine) -> None:
    made.create_schema()
    assert set(sa.inspect(engine).get_table_names()) == set(metadata.tables)
    assert all(name.startswith("deposit_token_") for name in metadata.tables)


def test_the_schema_is_created_whole_or_not_at_all(engine: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqlStore(sessionmaker(engine))
    with monkeypatch.context() as broken:
        broken.setattr(metadata.tables["deposit_token_words"], "name", "sqlite_reserved")
        with pytest.raises(sa.exc.OperationalError):
            store.create_schema()
    assert sa.inspect(engine).get_table_names() == []
    store.create_schema()


def test_no_column_is_of_a_type_that_could_round_an_amount(made: SqlStore, engine: sa.Engine) -> None:
    inspector = sa.inspect(engine)
    kinds = {
        (column["name"], str(column["type"]))
        for table in inspector.get_table_names()
        for column in inspector.get_columns(table)
        if str(column["type"]) != "TEXT"
    }
    assert kinds == {("number", "INTEGER")}


def test_units_of_78_digits_lie_in_the_file_digit_by_digit(made: SqlStore, engine: sa.Engine) -> None:
    with made.begin() as tx:
        tx.add_observations("r1", paid(units=HUGE))
    with engine.connect() as connection:
        stored = connection.exec_driver_sql("SELECT units, typeof(units) FROM deposit_token_observations").one()
    assert tuple(stored) == ("9" * 78, "text")


def test_what_became_of_a_message_stands_beside_it(made: SqlStore, engine: sa.Engine) -> None:
    with made.begin() as tx:
        tx.claim(a_message())
        tx.claim(a_message("ev-2"))
        tx.record("sandbox", "ev-1", "applied")
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT key, outcome FROM deposit_token_events ORDER BY key").all()
    assert [tuple(row) for row in rows] == [("ev-1", "applied"), ("ev-2", None)]


def test_a_time_without_a_zone_is_refused(made: SqlStore) -> None:
    with pytest.raises(InvalidInput) as refused, made.begin() as tx:
        tx.add_attempt(an_attempt(created_at=NOON.replace(tzinfo=None)))
    assert refused.value.reason == "naive_time"


def test_the_sweep_and_the_door_find_their_rows_by_index(made: SqlStore, engine: sa.Engine) -> None:
    questions = [
        "SELECT 1 FROM deposit_token_attempts WHERE ended IS NULL AND created_at < ''",
        "SELECT 1 FROM deposit_token_attempts WHERE order_id = ''",
        "SELECT 1 FROM deposit_token_attempts WHERE reference = ''",
        "SELECT 1 FROM deposit_token_intents WHERE answered_at IS NULL AND made_at < ''",
        "SELECT 1 FROM deposit_token_intents WHERE attempt = ''",
        "SELECT 1 FROM deposit_token_refunds WHERE stage IN ('PENDING') AND created_at < ''",
        "SELECT 1 FROM deposit_token_observations WHERE reference = ''",
        "SELECT 1 FROM deposit_token_evidence WHERE attempt = ''",
    ]
    with engine.connect() as connection:
        for question in questions:
            plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {question}").one()[3]
            assert plan.startswith("SEARCH"), question


# --- settings of the engine ---------------------------------------------------------------------------------------


def test_an_engine_with_the_drivers_own_settings_is_refused_by_name(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path / 'plain.db'}")
    store = SqlStore(sessionmaker(engine))
    for use in (store.create_schema, store.reviews, store.installation):
        with pytest.raises(ConfigurationError, match=r"busy timeout of 30 s.*journal_mode=WAL") as refused:
            use()
        assert refused.value.reason == "sqlite_settings"
    engine.dispose()


def test_synchronous_below_full_is_refused_by_name(tmp_path: Path) -> None:
    engine = an_engine(tmp_path)

    @sa.event.listens_for(engine, "connect")
    def weaken(connection: Any, _: object) -> None:
        connection.execute("PRAGMA synchronous = NORMAL")

    with pytest.raises(ConfigurationError, match=r"lacks PRAGMA synchronous=FULL:"):
        SqlStore(sessionmaker(engine)).create_schema()
    engine.dispose()


def test_the_recipe_sets_every_connection(engine: sa.Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            told = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("busy_timeout", "journal_mode", "synchronous", "foreign_keys")
            ]
            assert told == [30_000, "wal", 2, 1]


def test_a_database_in_memory_needs_no_settings() -> None:
    engine = sa.create_engine("sqlite://")
    store = SqlStore(sessionmaker(engine))
    store.create_schema()
    with store.begin() as tx:
        assert tx.add_attempt(an_attempt())
    assert store.attempt("r1") == an_attempt()
    engine.dispose()


def test_another_kind_of_database_is_refused_before_anything_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = sa.create_engine("sqlite://")
    monkeypatch.setattr(engine.dialect, "name", "mysql")
    with pytest.raises(ConfigurationError, match="not on mysql") as refused:
        SqlStore(sessionmaker(engine)).create_schema()
    assert refused.value.reason == "database_unsupported"
    engine.dispose()
