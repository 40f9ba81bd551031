"""The bank's database: its tables, and transactions over any SQLAlchemy URL (SQLite in WAL mode by default).

Token units are whole numbers in text columns: a text holds any number of digits on any database and never passes
through a float. Times are RFC 3339 text of fixed width in UTC, so that they sort as they stand. One bank process
serves one database; within it one transaction is decided at a time.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Dialect,
    Engine,
    Index,
    Insert,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    Update,
    bindparam,
    create_engine,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeDecorator

from deposit_token_sdk.sandbox.key_files import write_privately

_BUSY_SECONDS = 30
_READING = "deposit_token_reading"


class Units(TypeDecorator[int]):
    """Token units: an int in Python, its decimal digits in the database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Any) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Any) -> int | None:
        return None if value is None else int(value)


class Moment(TypeDecorator[datetime]):
    """A moment: an aware datetime in Python, sortable UTC text in the database."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat("T", "microseconds")[:-6] + "Z"

    def process_result_value(self, value: str | None, dialect: Any) -> datetime | None:
        return None if value is None else datetime.fromisoformat(value)


metadata = MetaData()

facts = Table("facts", metadata, Column("name", String, primary_key=True), Column("value", Text, nullable=False))

bank_keys = Table(
    "bank_keys",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("kid", String, unique=True, nullable=False),
    Column("purpose", String, nullable=False),
    Column("algorithm", String, nullable=False),
    Column("pem", Text, nullable=False),
    Column("retired_at", Moment),
    Column("revoked_at", Moment),
)

merchants = Table(
    "merchants",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("webhook_url", String),
)

merchant_keys = Table(
    "merchant_keys",
    metadata,
    Column("kid", String, primary_key=True),
    Column("merchant", String, nullable=False),
    Column("jwk", Text, nullable=False),
)

webhook_keys = Table(
    "webhook_keys",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("merchant", String, nullable=False, index=True),
    Column("secret", String, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("owner", String, nullable=False),
    Column("token", String, nullable=False, index=True),
    Column("balance", Units, nullable=False),
)

transfers = Table(
    "transfers",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, unique=True, nullable=False),
    Column("at", Moment, nullable=False),
    Column("kind", String, nullable=False),
    Column("token", String, nullable=False),
    Column("units", Units, nullable=False),
    Column("merchant", String),
    Column("invoice", String),
    Column("reference", String),
    Column("movement", String),
    Index("transfers_of_a_day", "merchant", "at"),
    Index("transfers_of_an_invoice", "invoice"),
)

postings = Table(
    "postings",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("transfer", String, nullable=False, index=True),
    Column("account", String, nullable=False, index=True),
    Column("units", Units, nullable=False),
)

quotes = Table(
    "quotes",
    metadata,
    Column("id", String, primary_key=True),
    Column("merchant", String, nullable=False),
    Column("installation", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("currency", String, nullable=False),
    Column("amount", String, nullable=False),
    Column("token", String, nullable=False),
    Column("rate", String, nullable=False),
    Column("fee", Units, nullable=False),
    Column("bearer", String, nullable=False),
    Column("due", Units, nullable=False),
    Column("net", Units, nullable=False),
    Column("expires_at", Moment, nullable=False),
    Column("statement", Text, nullable=False),
    Column("digest", String, nullable=False),
    Column("invoice", String),
)

invoices = Table(
    "invoices",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, unique=True, nullable=False),
    Column("merchant", String, nullable=False),
    Column("installation", String, nullable=False),
    Column("reference", String, nullable=False),
    Column("quote", String, nullable=False),
    Column("token", String, nullable=False),
    Column("due", Units, nullable=False),
    Column("fee", Units, nullable=False),
    Column("bearer", String, nullable=False),
    Column("capture", String, nullable=False),
    Column("return_url", Text, nullable=False),
    Column("pay_code", String, unique=True, nullable=False),
    Column("status", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("fee_taken", Integer, nullable=False, default=0),
    Column("created_at", Moment, nullable=False),
    Column("expires_at", Moment, nullable=False),
    UniqueConstraint("merchant", "reference", name="one_invoice_a_reference"),
    Index("invoices_to_expire", "status", "expires_at"),
    Index("invoices_of_a_day", "merchant", "created_at"),
)

movements = Table(
    "movements",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, unique=True, nullable=False),
    Column("invoice", String, nullable=False, index=True),
    Column("kind", String, nullable=False),
    Column("status", String, nullable=False),
    Column("units", Units, nullable=False),
    Column("accepted_at", Moment, nullable=False),
    Column("buyer", String, nullable=False),
    Column("of", String),
)

refunds = Table(
    "refunds",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, unique=True, nullable=False),
    Column("merchant", String, nullable=False),
    Column("installation", String, nullable=False),
    Column("invoice", String, nullable=False, index=True),
    Column("reference", String, nullable=False),
    Column("units", Units, nullable=False),
    Column("status", String, nullable=False),
    Column("buyer", String, nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("merchant", "reference", name="one_refund_a_reference"),
)

orders = Table(
    "orders",
    metadata,
    Column("merchant", String, primary_key=True),
    Column("reference", String, primary_key=True),
    Column("currency", String, nullable=False),
    Column("text", Text, nullable=False),
    Column("debtor", String, nullable=False),
    Column("creditor", String, nullable=False),
    Column("requested_on", String, nullable=False),
    Index("orders_by_reference", "reference"),
)

statements = Table(
    "statements",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, unique=True, nullable=False),
    Column("invoice", String, nullable=False, index=True),
    Column("subject", String, nullable=False, unique=True),
    Column("typ", String, nullable=False),
    Column("claims", Text, nullable=False),
    Column("kid", String, nullable=False),
    Column("jws", Text, nullable=False),
)

answers = Table(
    "answers",
    metadata,
    Column("merchant", String, primary_key=True),
    Column("key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Moment, nullable=False, index=True),
)

nonces = Table(
    "nonces",
    metadata,
    Column("kid", String, primary_key=True),
    Column("nonce", String, primary_key=True),
    Column("at", Moment, nullable=False, index=True),
)

messages = Table(
    "messages",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("id", String, unique=True, nullable=False),
    Column("merchant", String, nullable=False),
    Column("invoice", String),
    Column("type", String, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("copies", Integer, nullable=False),
    Column("created_at", Moment, nullable=False),
    Column("due_at", Moment),
    Index("messages_due", "state", "due_at"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("message", String, nullable=False, index=True),
    Column("url", Text, nullable=False),
    Column("at", Moment, nullable=False),
    Column("signature", Text, nullable=False),
    Column("status", Integer),
    Column("answer", Text, nullable=False),
)


# Building a statement costs more than running it, so that those of every request are built once. They are run with
# the values by name.


@cache
def rows(table: Table, *by: str) -> Select[Any]:
    """The rows in which these columns have the values given, in the order in which they were written."""
    chosen = select(table).where(*(table.c[name] == bindparam(name) for name in by))
    return chosen.order_by(table.c.seq) if "seq" in table.c else chosen


@cache
def add(table: Table) -> Insert:
    """A new row of the values given."""
    return insert(table)


@cache
def change(table: Table, by: str = "id") -> Update:
    """The row whose column `by` is ``which`` has the other values given."""
    return update(table).where(table.c[by] == bindparam("which"))


@contextmanager
def undoable(db: Connection) -> Iterator[None]:
    """What is done within is undone when something is raised, and nothing else of the transaction with it."""
    if db.dialect.name != "sqlite":
        with db.begin_nested():
            yield
        return
    db.exec_driver_sql("SAVEPOINT work")  # a fifth of what begin_nested takes
    try:
        yield
    except BaseException:
        db.exec_driver_sql("ROLLBACK TO SAVEPOINT work")
        raise
    finally:
        db.exec_driver_sql("RELEASE SAVEPOINT work")


class Database:
    """The bank's database and the one lock under which it decides.

    `durable` has SQLite write through at each commit (``synchronous=FULL``), which takes a disk's time; without it a
    power cut may lose the last commits, a killed process none.
    """

    def __init__(self, url: str, *, durable: bool = False) -> None:
        self._lock = threading.RLock()
        self._engine = _engine(url, durable=durable)
        if not _furnished(self._engine.url):
            with self._engine.begin() as connection:
                _make_tables(connection)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """One transaction, alone: committed at the end, rolled back when something is raised."""
        with self._lock, self._engine.begin() as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that reads what was committed last, while others decide. Nothing may be written by it."""
        with self._engine.connect().execution_options(**{_READING: True}) as connection:
            yield connection

    def close(self) -> None:
        """Give the connections back."""
        self._engine.dispose()


def _engine(url: str, *, durable: bool) -> Engine:
    engine = create_engine(url)
    if engine.dialect.name == "sqlite":
        engine = Engine(engine.pool, _sqlite(), engine.url, execution_options={"compiled_cache": _COMPILED})
        event.listen(engine, "connect", partial(_prepare_sqlite, "FULL" if durable else "NORMAL"))
        event.listen(engine, "begin", _begin_immediately)
    return engine


_COMPILED: dict[Any, Any] = {}
"""Statements compiled for `_sqlite`: whatever one bank of this process has asked, the next need not compile."""


@cache
def _sqlite() -> Dialect:
    """SQLite, as all the banks of this process speak it."""
    engine = create_engine("sqlite://")
    engine.connect().close()  # has the library asked for its version
    engine.dispose()
    return engine.dialect


def _furnished(url: URL) -> bool:
    """Write a new SQLite file, if that is what the URL names, with all tables in it. False: it is something else."""
    name = url.database or ""
    if url.get_backend_name() != "sqlite" or name in ("", ":memory:") or name.startswith("file:"):
        return False
    file = Path(name)
    if file.exists() or Path(f"{file}-wal").exists():  # what a file that is gone left behind would be written to ours
        return False
    write_privately(file, _empty_file())
    return True


@cache
def _empty_file() -> bytes:
    """An SQLite file in WAL mode (bytes 18 and 19: https://www.sqlite.org/fileformat2.html) that holds the tables."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in _sqlite_schema():
            connection.execute(statement)
        made = bytearray(connection.serialize())
    made[18:20] = b"\x02\x02"
    return bytes(made)


def _make_tables(connection: Connection) -> None:
    """Make what is not there yet."""
    if connection.dialect.name != "sqlite":
        metadata.create_all(connection)
        return
    cursor = connection.connection.cursor()
    for statement in _sqlite_schema():
        cursor.execute(statement)
    cursor.close()


@cache
def _sqlite_schema() -> tuple[str, ...]:
    """What makes each table and index that is not there yet."""
    made: list[CreateTable | CreateIndex] = []
    for table in metadata.sorted_tables:
        made.append(CreateTable(table, if_not_exists=True))
        made += [CreateIndex(index, if_not_exists=True) for index in table.indexes]
    return tuple(str(each.compile(dialect=_sqlite())) for each in made)


def _prepare_sqlite(synchronous: str, connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    for setting in (f"busy_timeout={_BUSY_SECONDS * 1000}", f"synchronous={synchronous}"):
        connection.execute(f"PRAGMA {setting}").close()
    deadline = time.monotonic() + _BUSY_SECONDS
    while not _in_wal(connection, deadline):  # for this switch SQLite itself does not wait while others open the file
        time.sleep(0.01)


def _in_wal(connection: Any, deadline: float) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL").close()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
            raise
        return False
    return True


def _begin_immediately(connection: Connection) -> None:
    if not connection.get_execution_options().get(_READING):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
