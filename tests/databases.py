"""The databases that tests run on: SQLite in a file, and PostgreSQL, of which one cluster serves a whole run.

The cluster starts when the first test needs it and ends with the run (tests/conftest.py); each test has a database of
its own in it, dropped afterwards. Where PostgreSQL is not installed, its tests are skipped and say so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url
from sqlalchemy.pool import NullPool, QueuePool

from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.testing.servers import postgres

DBMS = ("sqlite", "postgres")

ON_BOTH = pytest.mark.on_both
"""For a test, or a whole module: what uses `dbms`, as `database` and the checkout tests' `shop` do, runs on both."""

_running = ExitStack()
_numbers = count(1)
_spare: list[str] = []
"""Databases that were used and wiped: making one takes thirty times as long as wiping it."""


@contextmanager
def fresh(dbms: str, folder: Path) -> Iterator[Engine]:
    """An engine on an empty database of this DBMS that is the test's alone, prepared as a shop prepares it.

    Another process reaches it by `address(engine)`.
    """
    url = f"sqlite:///{folder / 'shop.sqlite'}" if dbms == "sqlite" else _empty_database()
    engine = create_engine(url)
    prepare_sqlite(engine)
    try:
        yield engine
    finally:
        _until_unused(engine)
        engine.dispose()
        if dbms == "postgres":
            _wipe(url)


def address(engine: Engine) -> str:
    """The engine's URL, whole, for a process of its own."""
    return engine.url.render_as_string(hide_password=False)


def end_servers() -> None:
    """Stop what was started; at the end of the run."""
    _running.close()


def _empty_database() -> str:
    if _spare:
        return _spare.pop()
    name = f"shop_{next(_numbers)}"
    _execute(_cluster(), f'CREATE DATABASE "{name}"')
    return make_url(_cluster()).set(database=name).render_as_string(hide_password=False)


def _until_unused(engine: Engine) -> None:
    """A request that the test did not wait for may be in its last statement: its connection is closed with the rest."""
    deadline = time.monotonic() + 5
    while isinstance(engine.pool, QueuePool) and engine.pool.checkedout() and time.monotonic() < deadline:
        time.sleep(0.01)


def _wipe(url: str) -> None:
    """Whoever is still connected is thrown out: a test's own process that was killed, for one."""
    _execute(
        url,
        "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
        "DROP SCHEMA public CASCADE",
        "CREATE SCHEMA public",
    )
    _spare.append(url)


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
