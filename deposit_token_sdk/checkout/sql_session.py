"""Whose session a SqlStore works in, and when it may: the shop's own, and never over the shop's unsaved changes.

What the shop only read before is let go, so that the checkout's first statement can be the one that takes
SQLite's write lock; what the shop changed and did not commit is refused rather than committed or lost. Here too:
what an SQLite engine must be set to, and the recipe that sets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeAlias

from attrs import define, field
from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import ORMExecuteState, Session, SessionTransaction, scoped_session, sessionmaker

from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.errors import ConfigurationError, NotAllowed

Sessions: TypeAlias = sessionmaker[Any] | scoped_session[Any]

BUSY_SECONDS = 30
"""How long a writer waits for SQLite's one write lock; under load the driver's own 5 s are too few."""

_WRITES = "deposit_token_writes"
_READING = re.compile(
    r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*"
    r"(?:select|values|pragma|show|set|savepoint|release|(?:with|explain)\b(?!.*\b(?:insert|update|delete|merge)\b))\b",
    re.IGNORECASE | re.DOTALL,
)


@define
class _Writes:
    """What is known of one transaction of the shop's: whether it wrote through the session, and SQLite's own count."""

    seen: bool = False
    counts: list[tuple[Any, int]] = field(factory=list)


def accepted(sessions: object) -> Sessions:
    """The shop's session factory; a shared one is watched from now on. Raises ConfigurationError (``sessions``)."""
    if isinstance(sessions, scoped_session) and isinstance(sessions.session_factory, sessionmaker):
        for name, listener in _LISTENERS.items():
            event.listen(sessions, name, listener)
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


def let_go_of_reads(session: Session) -> None:
    """End what the shop only read; raise NotAllowed (``uncommitted_changes``) where it changed anything."""
    if not session.in_transaction():
        return
    writes: _Writes | None = session.info.get(_WRITES)
    if writes is None:
        raise _uncommitted("a transaction that began before the SqlStore was made (make it when the shop starts)")
    if session.in_nested_transaction():
        raise _uncommitted("an open savepoint")
    if session.new or session.deleted or any(session.is_modified(changed) for changed in session.dirty):
        raise _uncommitted("objects with changes that are not flushed")
    if writes.seen or any(dbapi.total_changes != before for dbapi, before in writes.counts):
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


def _refuse_ended(session: Session) -> NoReturn:
    session.close()
    raise NotAllowed(
        "hook_ended_transaction",
        "A hook committed, rolled back or closed the session that it was given. Leave that to the checkout: what "
        "the hook ended is no longer one with the payment. Work of its own goes into a session of its own.",
    )


def connection_of(session: Session) -> Connection:
    """The session's connection to the database that holds the checkout's tables."""
    return session.connection(bind_arguments={"clause": t.attempts})


def _opened(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info[_WRITES] = _Writes()


def _connected(session: Session, _: SessionTransaction, connection: Connection) -> None:
    dbapi: Any = connection.connection.dbapi_connection
    if _WRITES in session.info and hasattr(dbapi, "total_changes"):
        session.info[_WRITES].counts.append((dbapi, dbapi.total_changes))


def _flushed(session: Session, _: object) -> None:
    if _WRITES in session.info:
        session.info[_WRITES].seen = True


def _executing(state: ORMExecuteState) -> None:
    statement: Any = state.statement.element if state.is_from_statement else state.statement  # type: ignore[attr-defined]
    by_name = statement.is_dml or (statement.is_select and not statement.is_text)
    reads = statement.is_select if by_name else _READING.match(str(statement))
    if not reads and _WRITES in state.session.info:
        state.session.info[_WRITES].seen = True


def _ended(session: Session, transaction: SessionTransaction) -> None:
    if transaction.parent is None:
        session.info.pop(_WRITES, None)


_LISTENERS: dict[str, Any] = {
    "after_transaction_create": _opened,
    "after_begin": _connected,
    "after_flush": _flushed,
    "do_orm_execute": _executing,
    "after_transaction_end": _ended,
}


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
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.close()
    if former is not None:
        dbapi.autocommit = former


def check_settings(connection: Connection) -> None:
    """Refuse a database that cannot keep the checkout's promises.

    Raises ConfigurationError: ``sqlite_settings`` names what is missing, ``database_unsupported`` the database. An
    SQLite database in memory has one connection and nothing to keep: it passes.
    """
    if connection.dialect.name not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            "database_unsupported", f"SqlStore runs on SQLite and PostgreSQL, not on {connection.dialect.name}."
        )
    if connection.dialect.name != "sqlite" or not _file_of(connection):
        return
    missing = []
    if _pragma(connection, "busy_timeout") < BUSY_SECONDS * 1000:
        missing.append(f"a busy timeout of {BUSY_SECONDS} s (connect_args={{'timeout': {BUSY_SECONDS}}})")
    if _pragma(connection, "journal_mode") != "wal":
        missing.append("PRAGMA journal_mode=WAL")
    if _pragma(connection, "synchronous") < 2:
        missing.append("PRAGMA synchronous=FULL")
    if missing:
        raise ConfigurationError(
            "sqlite_settings",
            f"The shop's SQLite engine lacks {', '.join(missing)}: call "
            f"deposit_token_sdk.checkout.sql.prepare_sqlite(engine) before its first connection.",
        )


def _file_of(connection: Connection) -> str:
    return next(str(row[2]) for row in connection.exec_driver_sql("PRAGMA database_list") if row[1] == "main")


def _pragma(connection: Connection, name: str) -> Any:
    return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
