"""SqlStore on SQLite and PostgreSQL: the conformance suite, and what only a database with several processes shows."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import Session, sessionmaker

from deposit_token_sdk.checkout import sql_tables
from deposit_token_sdk.checkout.sql import SqlStore, metadata, prepare_sqlite
from deposit_token_sdk.checkout.sql_tables import schema
from deposit_token_sdk.checkout.store import Store, Tx
from deposit_token_sdk.errors import ConfigurationError, DatabaseBusy, InvalidInput
from deposit_token_sdk.testing.stores import StoreConformance
from deposit_token_sdk.testing.values import HUGE, LATER, NOON, a_message, an_attempt, an_outgoing, paid
from tests.databases import EMPTY, ON_BOTH, address, fresh

PROCESSES, THREADS, ROUNDS = 4, 16, 6

RACE = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from sqlalchemy import create_engine, text
from sqlalchemy.orm import sessionmaker
from deposit_token_sdk.checkout.sql import SqlStore, prepare_sqlite
from deposit_token_sdk.testing.values import NOON, a_message, an_attempt, paid

url, processes, threads, rounds = sys.argv[1], *map(int, sys.argv[2:])
forked = get_context("fork")
together = forked.Barrier(processes)

def deliver(store, number):
    order = f"order-{number % rounds}"
    with store.begin() as tx:
        if tx.claim(a_message(f"event-{number % rounds}")) is not None:
            return "repeated"
        tx.lock_attempt(order)
        tx.add_observations(order, paid(order))
        tx.fulfil(order, order, NOON)
        tx.session.execute(text("UPDATE shop_orders SET shipped = shipped + 1 WHERE id = :id"), {"id": order})
        return "fulfilled"

def outcome(store, number):
    try:
        return deliver(store, number)
    except Exception as error:
        return repr(error)

def one_process(answer):
    engine = create_engine(url, pool_size=threads, max_overflow=0)
    prepare_sqlite(engine)
    store = SqlStore(sessionmaker(engine))
    together.wait(60)
    with ThreadPoolExecutor(threads) as pool:
        answer.send(list(pool.map(lambda number: outcome(store, number), range(threads * rounds))))

answers = []
for _ in range(processes):
    ours, theirs = forked.Pipe(duplex=False)
    forked.Process(target=one_process, args=(theirs,)).start()
    theirs.close()
    answers.append(ours)
print(json.dumps([outcome for answer in answers for outcome in answer.recv()]))
"""
"""What all processes import is imported once; each is forked before it has opened anything."""


def an_engine(folder: Path) -> sa.Engine:
    engine = sa.create_engine(f"sqlite:///{folder / 'shop.db'}")
    prepare_sqlite(engine)
    return engine


@pytest.fixture
def made(database: sa.Engine) -> SqlStore:
    return SqlStore(sessionmaker(database))


@ON_BOTH
class TestOnASessionmaker(StoreConformance):
    @pytest.fixture
    def store(self, made: SqlStore) -> Store:
        return made


class TestOnFlaskSqlalchemysSession(StoreConformance):
    """On SQLite; how the session itself behaves on PostgreSQL is in test_sql_session."""

    @pytest.fixture
    def app(self, database: sa.Engine) -> Iterator[Flask]:
        app = Flask("shop")
        app.config["SQLALCHEMY_DATABASE_URI"] = address(database)
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
        return store

    @pytest.fixture
    def around_thread(self, app: Flask) -> Callable[[], AbstractContextManager[Any]]:
        return app.app_context


@ON_BOTH
def test_four_processes_of_sixteen_threads_claim_each_event_once_and_none_is_locked_out(
    made: SqlStore, database: sa.Engine
) -> None:
    orders = [f"order-{number}" for number in range(ROUNDS)]
    with made.begin() as tx:
        tx.session.execute(sa.text("CREATE TABLE shop_orders (id TEXT PRIMARY KEY, shipped INTEGER NOT NULL)"))
        for order in orders:
            tx.add_attempt(an_attempt(order, order))
            tx.session.execute(sa.text("INSERT INTO shop_orders VALUES (:id, 0)"), {"id": order})

    outcomes = race(address(database))

    assert sorted(set(outcomes)) == ["fulfilled", "repeated"]
    assert outcomes.count("fulfilled") == ROUNDS
    assert len(outcomes) == PROCESSES * THREADS * ROUNDS
    with made.begin() as tx:
        assert set(tx.session.execute(sa.text("SELECT shipped FROM shop_orders")).scalars()) == {1}
    assert [made.order(order).attempts[0].history for order in orders] == [paid(order) for order in orders]


def race(url: str) -> list[str]:
    """Let every process get ready, then start them all at once."""
    numbers = map(str, (PROCESSES, THREADS, ROUNDS))
    done = subprocess.run([sys.executable, "-c", RACE, url, *numbers], stdout=subprocess.PIPE, timeout=120, check=True)
    return list(json.loads(done.stdout))


@ON_BOTH
def test_the_schema_can_be_created_again_and_its_tables_carry_the_prefix(made: SqlStore, database: sa.Engine) -> None:
    made.create_schema()
    assert set(sa.inspect(database).get_table_names()) == set(metadata.tables)
    assert all(name.startswith("deposit_token_") for name in metadata.tables)


@ON_BOTH
@EMPTY
def test_many_processes_may_create_the_schema_at_once(database: sa.Engine) -> None:
    together = Barrier(8, timeout=30)

    def create(_: int) -> None:
        store = SqlStore(sessionmaker(database))
        together.wait()
        store.create_schema()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(create, range(8)))
    assert set(sa.inspect(database).get_table_names()) == set(metadata.tables)


@ON_BOTH
@EMPTY
def test_the_schema_is_created_whole_or_not_at_all(database: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqlStore(sessionmaker(database))
    statements = schema(database.dialect.name)
    with monkeypatch.context() as broken:
        broken.setattr(sql_tables, "schema", lambda _: (*statements[:9], "CREATE TABLE broken (", *statements[9:]))
        with pytest.raises(sa.exc.DBAPIError):
            store.create_schema()
    assert sa.inspect(database).get_table_names() == []
    store.create_schema()


@ON_BOTH
def test_no_column_is_of_a_type_that_could_round_an_amount(made: SqlStore, database: sa.Engine) -> None:
    inspector = sa.inspect(database)
    kinds = {
        (column["name"], str(column["type"]))
        for table in inspector.get_table_names()
        for column in inspector.get_columns(table)
        if str(column["type"]) != "TEXT"
    }
    number = "INTEGER" if database.dialect.name == "sqlite" else "BIGINT"
    assert kinds == {(name, number) for name in ("number", "review", "seal", "sealed")}


@ON_BOTH
def test_units_of_78_digits_lie_in_the_database_digit_by_digit(made: SqlStore, database: sa.Engine) -> None:
    with made.begin() as tx:
        tx.add_observations("r1", paid(units=HUGE))
    with database.connect() as connection:
        stored = connection.exec_driver_sql("SELECT units FROM deposit_token_observations").scalar_one()
    assert stored == "9" * 78


@ON_BOTH
def test_what_became_of_a_message_stands_beside_it(made: SqlStore, database: sa.Engine) -> None:
    with made.begin() as tx:
        tx.claim(a_message())
        tx.claim(a_message("ev-2"))
        tx.record("sandbox", "ev-1", "applied")
    with database.connect() as connection:
        rows = connection.exec_driver_sql("SELECT key, outcome FROM deposit_token_events ORDER BY key").all()
    assert [tuple(row) for row in rows] == [("ev-1", "applied"), ("ev-2", None)]


def test_a_time_without_a_zone_is_refused(made: SqlStore) -> None:
    with pytest.raises(InvalidInput) as refused, made.begin() as tx:
        tx.add_attempt(an_attempt(created_at=NOON.replace(tzinfo=None)))
    assert refused.value.reason == "naive_time"


@ON_BOTH
def test_a_text_with_a_nul_character_is_refused_by_name(made: SqlStore) -> None:
    with pytest.raises(InvalidInput) as refused, made.begin() as tx:
        tx.add_attempt(an_attempt(content="basket\0"))
    assert refused.value.reason == "nul_in_text"
    assert made.order("A-1").attempts == ()


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


def test_the_recipe_sets_every_connection(database: sa.Engine) -> None:
    with database.connect() as first, database.connect() as second:
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


@ON_BOTH
def test_an_engine_in_autocommit_is_refused(database: sa.Engine) -> None:
    careless = database.execution_options(isolation_level="AUTOCOMMIT")
    for use in (SqlStore(sessionmaker(careless)).create_schema, SqlStore(sessionmaker(careless)).reviews):
        with pytest.raises(ConfigurationError, match="each statement is committed by itself") as refused:
            use()
        assert refused.value.reason == "autocommit"


@ON_BOTH
def test_an_engine_that_translates_our_tables_into_another_schema_is_refused_and_says_what_to_do(
    database: sa.Engine,
) -> None:
    SqlStore(sessionmaker(database)).create_schema()
    store = SqlStore(sessionmaker(database.execution_options(schema_translate_map={None: "tenant"})))
    for use in (store.create_schema, store.installation, lambda: store.order("A-1").attempts):
        with pytest.raises(ConfigurationError, match=r"'tenant'.*search_path") as refused:
            use()
        assert refused.value.reason == "schema_translate_map"
    shops = SqlStore(sessionmaker(database.execution_options(schema_translate_map={"shop": "tenant", None: None})))
    with shops.begin() as tx:
        assert tx.add_attempt(an_attempt())


@ON_BOTH
def test_a_session_that_translates_our_tables_into_another_schema_puts_out_no_message(database: sa.Engine) -> None:
    store = SqlStore(sessionmaker(database))
    store.create_schema()
    with Session(database) as session:
        session.connection(execution_options={"schema_translate_map": {None: "tenant"}})
        with pytest.raises(ConfigurationError) as refused:
            store.within(session).put(an_outgoing())
        assert refused.value.reason == "schema_translate_map"
    assert store.outgoing_depth() == (0, None, 0)


@ON_BOTH
def test_a_shop_that_begins_by_itself_is_not_taken_for_one_in_autocommit(database: sa.Engine) -> None:
    if database.dialect.name == "sqlite":
        sa.event.listen(database, "connect", lambda connection, _: setattr(connection, "isolation_level", None))
        sa.event.listen(database, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    SqlStore(sessionmaker(database)).create_schema()


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_postgresql_above_read_committed_is_refused_by_name(level: str) -> None:
    with fresh("postgres") as engine:
        strict = sa.create_engine(engine.url, isolation_level=level)
        with pytest.raises(
            ConfigurationError, match=rf"lack isolation level READ COMMITTED \(it is {level}"
        ) as refused:
            SqlStore(sessionmaker(strict)).reviews()
        assert refused.value.reason == "postgresql_settings"
        SqlStore(sessionmaker(strict.execution_options(isolation_level="READ COMMITTED"))).create_schema()
        strict.dispose()


def test_postgresql_that_does_not_wait_for_its_disk_is_refused_by_name() -> None:
    with fresh("postgres") as engine:
        hasty = sa.create_engine(engine.url, connect_args={"options": "-c synchronous_commit=off"})
        with pytest.raises(ConfigurationError, match=r"lack synchronous_commit \(it is off") as refused:
            SqlStore(sessionmaker(hasty)).create_schema()
        assert refused.value.reason == "postgresql_settings"
        hasty.dispose()


# --- a database that is held by others ----------------------------------------------------------------------------


@ON_BOTH
def test_a_database_that_another_writer_holds_for_too_long_is_called_busy_and_nothing_is_written(
    made: SqlStore, database: sa.Engine
) -> None:
    with made.begin() as tx:
        tx.add_attempt(an_attempt())
    hurried = sa.create_engine(database.url)
    prepare_sqlite(hurried)
    store = SqlStore(sessionmaker(hurried))
    assert store.attempt("r1") == an_attempt()
    with made.begin() as slow:
        slow.lock_order("A-1")
        with pytest.raises(DatabaseBusy, match="do the same again") as refused, store.begin() as tx:
            lock_in_a_hurry(tx)
        assert refused.value.reason == "database_busy"
        slow.fulfil("A-1", "r1", NOON)
    with store.begin() as tx:
        assert not tx.fulfil("A-1", "r1", NOON)
    hurried.dispose()


def lock_in_a_hurry(tx: Tx) -> None:
    """Wait for others for a moment only."""
    sqlite = tx.session.get_bind().dialect.name == "sqlite"
    tx.session.execute(sa.text("PRAGMA busy_timeout = 10" if sqlite else "SET LOCAL lock_timeout = '10ms'"))
    tx.lock_order("A-1")


def test_on_postgresql_nobody_waits_for_what_another_is_at() -> None:
    with fresh("postgres") as engine:
        store = SqlStore(sessionmaker(engine))
        store.create_schema()
        with store.begin() as tx:
            for order in ("A-1", "A-2"):
                tx.add_attempt(an_attempt(order, order))
                tx.put(an_outgoing(order))
        with store.begin() as busy:
            busy.put_off("A-1", NOON, "451")
            busy.lock_order("A-1")
            assert store.take_due(LATER, LATER, 10) == ("A-2",)
            assert [one.key for one in store.take_outgoing(NOON, LATER, 10)] == ["A-2"]
        assert store.take_due(NOON, LATER, 10) == ("A-1",)
        assert [one.key for one in store.take_outgoing(NOON, LATER, 10)] == ["A-1"]


def test_two_writers_that_wait_for_each_other_do_not_wait_for_ever() -> None:
    with fresh("postgres") as engine, ThreadPoolExecutor(2) as pool:
        store = SqlStore(sessionmaker(engine))
        store.create_schema()
        with store.begin() as tx:
            for order in ("A-1", "A-2"):
                tx.add_attempt(an_attempt(order, order))
        both = Barrier(2, timeout=30)

        def lock(first: str, second: str) -> str:
            try:
                with store.begin() as tx:
                    tx.session.execute(sa.text("SET LOCAL deadlock_timeout = '10ms'"))
                    tx.lock_order(first)
                    both.wait()
                    tx.lock_order(second)
            except DatabaseBusy as busy:
                return busy.reason
            return "done"

        told = {*pool.map(lock, ["A-1", "A-2"], ["A-2", "A-1"])}
        assert told == {"done", "database_busy"}


def test_another_error_of_the_database_stays_what_it_is(made: SqlStore) -> None:
    with pytest.raises(sa.exc.OperationalError, match="no such table"), made.begin() as tx:
        tx.session.execute(sa.text("DELETE FROM nowhere"))
