"""Whose session a SqlStore works in, and when it may: the shop's own, and never over the shop's unsaved changes.

What the shop only read before is let go, so that the checkout's first statement can be the one that takes
SQLite's write lock; what the shop changed and did not commit is refused rather than committed or lost. Here too:
what an engine must be set to, the recipe that sets SQLite's, and what a database says when it is busy.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import InvalidRequestError, OperationalError
from sqlalchemy.orm import Session, SessionTransaction, scoped_session, sessionmaker

from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.errors import ConfigurationError, DatabaseBusy, NotAllowed

Sessions: TypeAlias = sessionmaker[Any] | scoped_session[Any]

BUSY_SECONDS = 30
"""How long a writer waits for SQLite's one write lock; under load the driver's own 5 s are too few."""

_BUSY = frozenset({"40001", "40P01", "55P03"})
"""PostgreSQL's words for a transaction that others stood in the way of: serialization, deadlock, lock_timeout."""

_BEGAN = "deposit_token_began"


def accepted(sessions: object) -> Sessions:
    """The shop's session factory; a shared one is watched from now on. Raises ConfigurationError (``sessions``)."""
    if isinstance(sessions, scoped_session) and isinstance(sessions.session_factory, sessionmaker):
        event.listen(sessions, "after_begin", _began)
        return sessions
    if isinstance(sessions, sessionmaker):
        return sessions
    raise ConfigurationError(
        "sessions",
        f"SqlStore takes the sessionmaker or scoped_session that the shop itself writes through (with "
        f"Flask-SQLAlchemy: db.session), not {type(sessions).__name__}: a session of its own would not be in the "
        f"shop's transaction.",
    )


@contextmanager
def session_of(sessions: Sessions) -> Iterator[Session]:
    """The registry's session of this thread or request, or a new one that is closed afterwards."""
    if isinstance(sessions, scoped_session):
        yield sessions()
    else:
        with sessions() as session:
            yield session


def engine_of(sessions: Sessions) -> Engine:
    """The engine that the checkout's tables are on; a session is made for that only where it must choose."""
    bind = sessions.kw.get("bind") if isinstance(sessions, sessionmaker) and "binds" not in sessions.kw else None
    if isinstance(bind, Engine):
        return bind
    with session_of(sessions) as session:
        return session.get_bind(clause=t.attempts).engine


def let_go_of_reads(session: Session) -> None:
    """End what the shop only read; raise NotAllowed (``uncommitted_changes``) where it changed anything."""
    if not session.in_transaction():
        return
    connection_of(session)
    watched, connections = session.info.get(_BEGAN, (None, ()))
    if watched is not session.get_transaction():
        raise _uncommitted("a transaction that began before the SqlStore was made (make it when the shop starts)")
    if session.in_nested_transaction():
        raise _uncommitted("an open savepoint")
    if session.new or session.deleted or any(session.is_modified(changed) for changed in session.dirty):
        raise _uncommitted("objects with changes that are not flushed")
    if any(_written(connection, before) for connection, before in connections):
        raise _uncommitted("rows written but not committed")
    session.rollback()
    try:
        session.begin().rollback()
    except InvalidRequestError:
        raise _uncommitted("a `with session.begin()` block that is not left yet") from None


def _uncommitted(what: str) -> NotAllowed:
    return NotAllowed(
        "uncommitted_changes",
        f"The shop's session has {what}. Commit the order first: the checkout commits in this session, and "
        f"what is not its own it neither commits nor loses for you.",
    )


@contextmanager
def whole_transaction(session: Session) -> Iterator[None]:
    """One transaction, committed at the end if it is then still the one that began; rolled back by any exception.

    Raises NotAllowed (``hook_ended_transaction``) where somebody inside committed or rolled back.
    """
    began = session.begin()
    try:
        connection = connection_of(session)
        inner = connection.get_transaction()
        yield
        if session.get_transaction() is not began or connection.get_transaction() is not inner:
            _refuse_ended(session)
        session.commit()
    except BaseException:
        session.rollback()
        raise


@contextmanager
def naming_what_is_busy() -> Iterator[None]:
    """Raise DatabaseBusy where the database gave up waiting for another writer; the transaction is rolled back."""
    try:
        yield
    except OperationalError as error:
        told: Any = error.orig
        locked = str(getattr(told, "sqlite_errorname", "")).startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
        if not locked and getattr(told, "sqlstate", None) not in _BUSY:
            raise
        raise DatabaseBusy(
            "database_busy",
            f"Another writer held the shop's database for too long ({told}). Nothing was written: do the same again. "
            f"If it happens often, look for a transaction of the shop that stays open while it does something slow.",
        ) from error


def _refuse_ended(session: Session) -> NoReturn:
    session.close()
    raise NotAllowed(
        "hook_ended_transaction",
        "A hook committed, rolled back or closed the session that it was given. Leave that to the checkout: what "
        "the hook ended is no longer one with the payment. Work of its own goes into a session of its own.",
    )


def connection_of(session: Session) -> Connection:
    """The session's connection to the database that holds the checkout's tables.

    Raises ConfigurationError (``schema_translate_map``) where SQLAlchemy is to look for them in another schema.
    """
    connection = session.connection(bind_arguments={"clause": t.attempts})
    schema = (connection.get_execution_options().get("schema_translate_map") or {}).get(None)
    if schema is not None:
        raise ConfigurationError(
            "schema_translate_map",
            f"The shop's engine or session translates tables without a schema into {schema!r}, and the checkout's "
            f"statements are not translated: they would go to another schema. Give SqlStore sessions on an engine that "
            f"has the schema in its search_path, or without schema_translate_map.",
        )
    return connection


def _began(session: Session, _: SessionTransaction, connection: Connection) -> None:
    """Note at the begin of a shared session's transaction how many rows its SQLite connection had changed so far."""
    watched, connections = session.info.get(_BEGAN, (None, ()))
    before = getattr(connection.connection.dbapi_connection, "total_changes", 0)
    earlier = connections if watched is session.get_transaction() else ()
    session.info[_BEGAN] = (session.get_transaction(), (*earlier, (connection, before)))


def _written(connection: Connection, before: int) -> bool:
    """Ask the database itself, since a session does not see what goes past its unit of work."""
    if connection.dialect.name == "postgresql":
        return connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned() IS NOT NULL").scalar_one() is True
    return getattr(connection.connection.dbapi_connection, "total_changes", 0) != before


def prepare_sqlite(engine: Engine) -> None:
    """Set every connection of the shop's SQLite engine to what money needs; call it before the first connection.

    That is a busy timeout of 30 s, WAL, synchronous FULL and foreign keys. With Flask-SQLAlchemy:
    ``with app.app_context(): prepare_sqlite(db.engine)``. On any other database it does nothing.
    """
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _set_pragmas)


def _set_pragmas(dbapi: Any, _: object) -> None:
    former = getattr(dbapi, "autocommit", None)
    if former is not None:
        dbapi.autocommit = True
    cursor = dbapi.cursor()
    cursor.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    deadline = time.monotonic() + BUSY_SECONDS
    while not _in_wal(cursor, deadline):
        time.sleep(0.01)
    for setting in ("synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
    if former is not None:
        dbapi.autocommit = former


def _in_wal(cursor: Any, deadline: float) -> bool:
    """The file is in WAL now; False while another process that starts with this one stands in the way.

    For this switch, of a new file, SQLite itself does not wait as `busy_timeout` says.
    """
    try:
        cursor.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
            raise
        return False
    return True


def check_settings(connection: Connection) -> None:
    """Refuse a database that cannot keep the checkout's promises.

    Raises ConfigurationError: ``autocommit`` where there are no transactions, ``sqlite_settings`` and
    ``postgresql_settings`` name what is missing, ``database_unsupported`` the database. An SQLite database in memory
    has one connection and nothing to keep: it passes.
    """
    kind = connection.dialect.name
    if kind not in ("sqlite", "postgresql"):
        raise ConfigurationError("database_unsupported", f"SqlStore runs on SQLite and PostgreSQL, not on {kind}.")
    if _commits_by_itself(connection):
        raise ConfigurationError(
            "autocommit",
            "The shop's engine is in AUTOCOMMIT: each statement is committed by itself, so an order could be paid and "
            "the shop's own rows lost. Give SqlStore sessions on an engine without that isolation_level.",
        )
    if kind == "postgresql":
        _check_postgresql(connection)
    elif _file_of(connection):
        _check_sqlite(connection)


def _commits_by_itself(connection: Connection) -> bool:
    """Whether statements are committed one by one, in a transaction that SQLAlchemy has begun."""
    dbapi: Any = connection.connection.dbapi_connection
    if connection.dialect.name == "postgresql":
        return bool(getattr(dbapi, "autocommit", False))
    by_itself = dbapi.isolation_level is None or getattr(dbapi, "autocommit", False) is True
    return by_itself and not dbapi.in_transaction  # the shop's own BEGIN, as savepoints need it, makes it one


def _check_postgresql(connection: Connection) -> None:
    level, waits = (
        str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())
        for name in ("transaction_isolation", "synchronous_commit")
    )
    missing = []
    if level not in ("read committed", "read uncommitted"):
        missing.append(
            f"isolation level READ COMMITTED (it is {level.upper()}, but whoever has waited for an order's lock must "
            f"see what was committed meanwhile): give SqlStore sessions on "
            f"engine.execution_options(isolation_level='READ COMMITTED'), which shares the engine's connections"
        )
    if waits == "off":
        missing.append(
            "synchronous_commit (it is off, and a crash of the server would lose payments that were committed): "
            "set it to on for the shop's database or role"
        )
    if missing:
        raise ConfigurationError(
            "postgresql_settings", f"The shop's PostgreSQL sessions lack {'; and they lack '.join(missing)}."
        )


def _check_sqlite(connection: Connection) -> None:
    timeout, journal, synchronous = (
        connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
        for name in ("busy_timeout", "journal_mode", "synchronous")
    )
    wanted = {
        f"a busy timeout of {BUSY_SECONDS} s": timeout >= BUSY_SECONDS * 1000,
        "PRAGMA journal_mode=WAL": journal == "wal",
        "PRAGMA synchronous=FULL": synchronous >= 2,
    }
    missing = [name for name, holds in wanted.items() if not holds]
    if missing:
        raise ConfigurationError(
            "sqlite_settings",
            f"The shop's SQLite engine lacks {', '.join(missing)}: call "
            f"deposit_token_sdk.checkout.sql.prepare_sqlite(engine) before its first connection.",
        )


def _file_of(connection: Connection) -> str:
    return next(str(row[2]) for row in connection.exec_driver_sql("PRAGMA database_list") if row[1] == "main")
