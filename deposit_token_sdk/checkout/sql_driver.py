"""Run a kept statement on the connection's own driver, in the session's transaction.

An order's news is many small statements, and SQLAlchemy takes three times as long to run one as SQLite does: on SQLite
that time is spent holding the one write lock. So what SQLAlchemy has compiled once is given to the driver directly.
Wherever somebody watches statements (events, as tracing has them, or `echo`), or the transaction is not as it should
be, SQLAlchemy runs them; and a driver's error is always raised as SQLAlchemy's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from deposit_token_sdk.checkout import sql_tables as t

Parameters: TypeAlias = Mapping[str, str | int | None]

_Words: TypeAlias = tuple[str, tuple[str, ...] | None]
"""A statement in the driver's own words, and its parameters' order where the driver knows no names."""

_KNOWN: Final[dict[tuple[object, ...], _Words]] = {}
"""By statement, driver and the parameters' names. Statements are those that `sql_statements` keeps, so they are few."""


def rows(session: Session, connection: Connection, statement: Any, parameters: Parameters) -> Sequence[Sequence[Any]]:
    """The rows that the statement gives; none where it gives none. Raises SQLAlchemy's errors."""
    if _watched(connection):
        result: Any = session.execute(statement, parameters, bind_arguments={"clause": t.attempts})
        return result.all() if result.returns_rows else ()
    return _run(connection, statement, parameters)[0]


def named(session: Session, connection: Connection, statement: Any, parameters: Parameters) -> Sequence[t.Row]:
    """The same, each row by the names of its columns."""
    if _watched(connection):
        return session.execute(statement, parameters, bind_arguments={"clause": t.attempts}).mappings().all()
    found, description = _run(connection, statement, parameters)
    names = [column[0] for column in description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _watched(connection: Connection) -> bool:
    """Also where a hook ended the transaction: what follows is rolled back then, and must not go to another's."""
    if connection.closed or not connection.in_transaction() or connection._echo:
        return True
    return any(place._has_events for place in (connection, connection.engine, connection.dialect))


def _run(connection: Connection, statement: Any, parameters: Parameters) -> tuple[Sequence[Any], Any]:
    words, order = _words(connection, statement, parameters)
    given: Any = dict(parameters) if order is None else tuple([parameters[name] for name in order])
    driver: Any = connection.connection.dbapi_connection
    cursor = driver.cursor()
    try:
        cursor.execute(words, given)
        description = cursor.description
        return (() if description is None else cursor.fetchall()), description
    except connection.dialect.loaded_dbapi.Error as error:
        raise _translated(connection, error, words, given) from error
    finally:
        cursor.close()


def _words(connection: Connection, statement: Any, parameters: Parameters) -> _Words:
    dialect = connection.dialect
    key = (statement, dialect.name, dialect.driver, *parameters)
    known = _KNOWN.get(key)
    if known is None:
        compiled = statement.compile(dialect=dialect, column_keys=list(parameters))
        order = None if compiled.positiontup is None else tuple(compiled.positiontup)
        known = _KNOWN[key] = (str(compiled), order)
    return known


def _translated(connection: Connection, error: Any, words: str, given: Any) -> BaseException:
    """The error as SQLAlchemy would have raised it; a connection that is gone is given up."""
    dialect, engine = connection.dialect, connection.engine
    gone = dialect.is_disconnect(error, connection.connection.dbapi_connection, None)
    translated: BaseException = DBAPIError.instance(
        words,
        given,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=engine.hide_parameters,
        connection_invalidated=gone,
        dialect=dialect,
    )
    if gone:
        connection.invalidate(error)
    return translated
