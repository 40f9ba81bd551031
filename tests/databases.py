"""The databases that tests run on: SQLite in a file, and PostgreSQL, of which one cluster serves a whole run.

The cluster starts when the first test needs it and ends with the run (tests/conftest.py); each test has a database of
its own in it, wiped afterwards. Where PostgreSQL is not installed, its tests are skipped and say so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import URL, Connection, Engine, create_engine, make_url
from sqlalchemy.orm import sessionmaker
from sqlalchemy.pool import NullPool, QueuePool

from deposit_token_sdk.checkout.sql import SqlStore, metadata, prepare_sqlite
from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.testing.servers import postgres

DBMS = ("sqlite", "postgres")

ON_BOTH = pytest.mark.on_both
"""For a test, or a whole module: what uses `dbms`, as `database` and the checkout tests' `shop` do, runs on both."""

EMPTY = pytest.mark.empty_database
"""For a test, or a whole module: `database` holds nothing, not even the checkout's empty tables."""

_running = ExitStack()
_numbers = count(1)
_spare_files: list[Engine] = []
"""Engines of SQLite, each with an address of its own at which there is no file. What SQLAlchemy has prepared in them is
prepared for the next test too."""
_spare: dict[bool, list[Engine]] = {False: [], True: []}
"""Databases of PostgreSQL that were used and wiped, empty ones and those with the checkout's tables, which hold
nothing. To make a database takes a second, its tables a third of one, to wipe them a tenth of that. Their engines keep
the connections that a test left in order."""

_STRUCTURE = """
SELECT md5(string_agg(part, ' ' ORDER BY part)) FROM (
    SELECT concat(relname, ' ', attname, ' ', format_type(atttypid, atttypmod), ' ', attnotnull) AS part
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND starts_with(relname, 'deposit_token_')
            AND attnum > 0 AND NOT attisdropped
    UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND starts_with(tablename, 'deposit_token_')
    UNION ALL SELECT tgname FROM pg_trigger
    UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
) AS parts
"""
_RESTARTED = (
    "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, 1, false) "
    "FROM pg_sequences WHERE schemaname = 'public'"
)
_OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_THROWN_OUT = _OTHERS.replace("count(*)", "pg_terminate_backend(pid, 10000)")
_MUCH = 1_000_000
"""Bytes of a table from which on it is dropped rather than wiped."""


@contextmanager
def fresh(dbms: str, *, empty: bool = True) -> Iterator[Engine]:
    """An engine on a database of this DBMS that is the test's alone, prepared as a shop prepares it.

    It holds nothing but, unless `empty`, the checkout's tables. Another process reaches it by `address(engine)`.
    """
    engine = _unused_file(empty=empty) if dbms == "sqlite" else _unused(empty=empty)
    listeners = _listeners(engine)
    try:
        yield engine
    finally:
        _until_unused(engine)
        spare = _removed(engine) if dbms == "sqlite" else _wiped(engine)
        if _listeners(engine) != listeners:
            engine.dispose()
            engine = _prepared(engine.url)
        spare.append(engine)


def address(engine: Engine) -> str:
    """The engine's URL, whole, for a process of its own."""
    return engine.url.render_as_string(hide_password=False)


def end_servers() -> None:
    """Stop what was started; at the end of the run."""
    _running.close()


def _prepared(url: URL) -> Engine:
    engine = create_engine(url)
    prepare_sqlite(engine)
    return engine


def _listeners(engine: Engine) -> tuple[bool, bool, int]:
    """What changes when a test listens to the engine, which another test must not meet."""
    return engine._has_events, engine.dialect._has_events, len(engine.pool.dispatch.connect)


def _unused_file(*, empty: bool) -> Engine:
    if not _spare_files:
        folder = _running.enter_context(TemporaryDirectory())
        _spare_files.append(_prepared(make_url(f"sqlite:///{folder}/shop.sqlite")))
    engine = _spare_files.pop()
    if not empty:
        Path(str(engine.url.database)).write_bytes(_furnished_file())
    return engine


def _removed(engine: Engine) -> list[Engine]:
    """The file is gone, with what SQLite keeps beside it: the spare ones, to which the engine belongs now."""
    engine.dispose()
    for file in Path(str(engine.url.database)).parent.iterdir():
        file.unlink()
    return _spare_files


def _unused(*, empty: bool) -> Engine:
    if not empty and _spare[True]:
        return _spare[True].pop()
    engine = _spare[False].pop() if _spare[False] else _new_database()
    if not empty:
        _furnish(engine)
    return engine


def _new_database() -> Engine:
    name = f"shop_{next(_numbers)}"
    _execute(_cluster(), f'CREATE DATABASE "{name}"')
    return _prepared(make_url(_cluster()).set(database=name))


def _furnish(engine: Engine) -> None:
    SqlStore(sessionmaker(engine)).create_schema()


@cache
def _furnished_file() -> bytes:
    """An SQLite database that holds the checkout's tables and nothing else: copied, they need not be made again."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "furnished.sqlite"
        engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
        prepare_sqlite(engine)
        _furnish(engine)
        return file.read_bytes()


def _until_unused(engine: Engine) -> None:
    """A request that the test did not wait for may be in its last statement: its connection is closed with the rest."""
    deadline = time.monotonic() + 5
    while isinstance(engine.pool, QueuePool) and engine.pool.checkedout() and time.monotonic() < deadline:
        time.sleep(0.01)


def _wiped(engine: Engine) -> list[Engine]:
    """The database holds nothing any more: the spare ones, to which the engine belongs now.

    Its own connections stay open, unless one is in use or somebody else is still connected, a test's own process that
    was killed for one: then all are thrown out.
    """
    run = _keeper(address(engine)).exec_driver_sql
    pool = engine.pool
    tidy = isinstance(pool, QueuePool) and not pool.checkedout() and run(_OTHERS).scalar() == pool.checkedin()
    if not tidy:
        engine.dispose()
        run(_THROWN_OUT)
    tables = run(
        "SELECT relname, pg_relation_size(oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "AND relkind = 'r'"
    ).all()
    whole = {table.name for table in metadata.sorted_tables} <= {name for name, _ in tables}
    furnished = whole and all(size < _MUCH for _, size in tables) and run(_STRUCTURE).scalar() == _furnished()
    if furnished:
        ours = [f"DELETE FROM {table.name}" for table in metadata.sorted_tables]  # noqa: S608  # our own names
        theirs = [f'DROP TABLE "{name}" CASCADE' for name, _ in tables if name not in metadata.tables]
        run("; ".join([*ours, *theirs, _RESTARTED.replace("%", "%%")]))
    else:
        run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        engine.dispose()
    return _spare[furnished]


@cache
def _keeper(url: str) -> Connection:
    """The one connection over which this database is wiped, again and again."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    return _running.enter_context(engine.connect())


@cache
def _furnished() -> str:
    """What `_STRUCTURE` says of the checkout's tables as `create_schema` makes them."""
    engine = _unused(empty=False)
    _spare[True].append(engine)
    return str(_keeper(address(engine)).exec_driver_sql(_STRUCTURE).scalar_one())


@cache
def _cluster() -> str:
    """The run's cluster. Its data outlives no power cut, which no test here is about."""
    try:
        return _running.enter_context(postgres(durable=False))
    except ConfigurationError as error:
        pytest.skip(str(error))


def _execute(url: str, *statements: str) -> None:
    engine = create_engine(url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
