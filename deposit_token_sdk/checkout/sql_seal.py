"""Seals in the shop's database: `SqlSeals`, the sealer's side of `SqlStore` (`seal.Seals`).

Rows are read without a lock, and one short transaction writes a seal. Its number is a primary key, and so is the name
of a leaf's row: no two sealers can fork the chain or seal a row twice. The rows themselves are touched last, to note
the seal's number, so that whoever meets the same row waits for that one statement and the commit at most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Final, TypeAlias, TypeVar

from attrs import frozen
from sqlalchemy import (
    ColumnElement,
    Table,
    Text,
    bindparam,
    collate,
    delete,
    func,
    insert,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from deposit_token_sdk.checkout import sql_session as own
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.seal import SOURCES, Leaf, Row, Seal
from deposit_token_sdk.checkout.sql_tx import SqlTx
from deposit_token_sdk.signing import strict_json

_LOG = logging.getLogger("deposit_token_sdk")

T = TypeVar("T")
_Transaction: TypeAlias = Callable[[], AbstractContextManager[SqlTx]]

_CHUNK: Final = 500  # keys in one statement: two parameters each, and databases allow some thousands
_TABLES: Final = {source: t.metadata.tables[f"deposit_token_{source}"] for source in SOURCES}
_SINCE: Final = {
    "evidence": "at",
    "fulfilments": "at",
    "reviews": "opened_at",
    "decisions": "at",
    "events": "received_at",
}


@frozen
class SqlSeals:
    """The store's own transactions are lent to it: `begin` writes, `reading` reads."""

    begin: _Transaction
    reading: _Transaction

    def last(self) -> Seal | None:
        with self.reading() as tx:
            found = select(t.seals).order_by(t.seals.c.number.desc()).limit(1)
            return next((_seal(row) for row in tx.session.execute(found).mappings()), None)

    def unsealed(self, limit: int) -> tuple[Row, ...]:
        rows: list[Row] = []
        with self.reading() as tx:
            for source, table in _TABLES.items():
                found = select(table).where(table.c.sealed.is_(None)).limit(limit - len(rows))
                rows += [_row(source, row) for row in tx.session.execute(found).mappings()]
        return tuple(rows)

    def waiting(self) -> tuple[int, datetime | None]:
        total, oldest = 0, []
        with self.reading() as tx:
            for source, table in _TABLES.items():
                found = select(func.count(), func.min(table.c[_SINCE[source]])).where(table.c.sealed.is_(None))
                count, first = tx.session.execute(found).one()
                total += count
                oldest += [] if first is None else [datetime.fromisoformat(first)]
        return total, min(oldest, default=None)

    def add(self, seal: Seal, leaves: Sequence[Leaf]) -> bool:
        try:
            with self.begin() as tx:
                row: dict[str, str | int | None] = {
                    "number": seal.number,
                    "head": seal.head,
                    "statement": seal.statement,
                    "keys": seal.keys,
                }
                if not tx.insert(t.seals, row):
                    return False
                tx.session.execute(insert(t.leaves), [_leaf_row(leaf) for leaf in leaves])
                _mark(tx.session, leaves)
        except IntegrityError:
            return self._heal(leaves)
        return True

    def _heal(self, leaves: Sequence[Leaf]) -> bool:
        """Somebody has cleared the mark of rows that are sealed: put it back, and let verifying say what they are."""
        with self.begin() as tx:
            tx.write_first()
            for chunk in _chunks(leaves):
                known = tuple_(t.leaves.c.source, t.leaves.c.key).in_([(leaf.source, leaf.key) for leaf in chunk])
                sealed = [_leaf(row) for row in tx.session.execute(select(t.leaves).where(known)).mappings()]
                if sealed:
                    named = f"{sealed[0].source} {sealed[0].key}"
                    _LOG.error("%d sealed rows were marked as not sealed, %s among them: verify.", len(sealed), named)
                    _mark(tx.session, sealed)
        return False

    def erase(self, before: datetime, at: datetime) -> int:
        until = t.as_text(before) or ""
        with self.reading() as tx:
            events = t.events.c
            old = select(events.issuer, events.key).where(
                events.received_at < until, events.body != "", events.sealed.is_not(None)
            )
            keys = [(issuer, key) for issuer, key in tx.session.execute(old)]
        erased = sum(self._erase_bodies(chunk, at) for chunk in _chunks(keys))
        return erased + self._erase_elsewhere(until)

    def _erase_bodies(self, keys: Sequence[tuple[str, str]], at: datetime) -> int:
        events = [{"its_issuer": issuer, "its_key": key} for issuer, key in keys]
        leaves = [{"its_source": "events", "its_key": strict_json.dumps(key).decode()} for key in keys]
        with self.begin() as tx:
            _each(tx.session, t.events, ("issuer", "key"), events, body="")
            _each(tx.session, t.leaves, ("source", "key"), leaves, body_salt=None, erased_at=t.as_text(at))
        return len(keys)

    def _erase_elsewhere(self, until: str) -> int:
        """What was sent out, where its buyer came from, and what was not offered: nobody will ask for it any more."""
        attempts, outgoing = t.attempts.c, t.outgoing.c
        over = (attempts.created_at < until, attempts.ended.is_not(None), attempts.due_at.is_(None))
        told = (attempts.buyer_country != "") | (attempts.return_url != "")
        sent = (outgoing.made_at < until, outgoing.sent_at.is_not(None), outgoing.payload != "{}")
        with self.begin() as tx:
            gone = _update(tx.session, t.attempts, (*over, told), attempts.number, buyer_country="", return_url="")
            gone += _update(tx.session, t.outgoing, sent, outgoing.key, payload="{}")
            refused = delete(t.refusals).where(t.refusals.c.at < until).returning(t.refusals.c.order_id)
            return gone + len(tx.session.execute(refused).all())

    @contextmanager
    def snapshot(self) -> Iterator[SqlSnapshot]:
        with self.begin() as tx:
            if tx.dialect == "postgresql":
                tx.session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            else:
                dbapi: Any = own.connection_of(tx.session).connection.dbapi_connection
                if not dbapi.in_transaction:  # Python's sqlite3 begins for a write, and reads would each see anew
                    tx.session.execute(text("BEGIN"))
            yield SqlSnapshot(tx.session)


@frozen
class SqlSnapshot:
    """One transaction that sees everything as of its first statement, and reads row by row (`seal.Snapshot`)."""

    session: Session

    @property
    def installation(self) -> str:
        return str(self.session.execute(select(t.installations.c.id)).scalar() or "")

    def seals(self) -> Iterator[Seal]:
        return map(_seal, self._read(t.seals, "number"))

    def leaves(self) -> Iterator[Leaf]:
        return map(_leaf, self._read(t.leaves, "seal", "hash"))

    def rows(self, source: str) -> Iterator[tuple[Row, int | None]]:
        rows = self._read(_TABLES[source], *SOURCES[source])
        return ((_row(source, row), row["sealed"]) for row in rows)

    def _read(self, table: Table, *order: str) -> Iterator[Mapping[Any, Any]]:
        by = [_bytewise(table.c[name], self.session) for name in order]
        found = select(table).order_by(*by).execution_options(yield_per=1_000)
        return iter(self.session.execute(found).mappings())


def _bytewise(column: ColumnElement[Any], session: Session) -> ColumnElement[Any]:
    """The same order on every database, whatever its language."""
    postgresql = own.connection_of(session).dialect.name == "postgresql"
    return collate(column, "C") if postgresql and isinstance(column.type, Text) else column


def _mark(session: Session, leaves: Iterable[Leaf]) -> None:
    """Note on each row the number of its seal."""
    by_source: dict[str, list[dict[str, Any]]] = {}
    for leaf in leaves:
        by_source.setdefault(leaf.source, []).append({**_named(leaf), "seal": leaf.seal})
    for source, rows in by_source.items():
        _each(session, _TABLES[source], SOURCES[source], rows, sealed=bindparam("seal"))


def _each(
    session: Session, table: Table, names: Iterable[str], rows: Sequence[Mapping[str, Any]], **values: Any
) -> None:
    """Update rows by their keys, one by one in one go: a list of thousands of keys is beyond a planner."""
    which = [table.c[name] == bindparam(f"its_{name}") for name in names]
    own.connection_of(session).execute(update(table).where(*which).values(values), rows)


_UNSEEN: Final = {"synchronize_session": False}


def _update(
    session: Session, table: Table, which: Iterable[ColumnElement[bool]], told: ColumnElement[Any], **values: str | None
) -> int:
    """How many rows it was, counted by what is given back."""
    changed = update(table).where(*which).values(values).returning(told)
    return len(session.execute(changed, execution_options=_UNSEEN).all())


def _named(leaf: Leaf) -> dict[str, Any]:
    """The columns that name the leaf's row, as its table holds them, for `_each`."""
    names = strict_json.texts(strict_json.parse(b'{"key":' + leaf.key.encode() + b"}"), "key")
    table = _TABLES[leaf.source]
    return {
        f"its_{column}": name if isinstance(table.c[column].type, Text) else int(name)
        for name, column in zip(names, SOURCES[leaf.source], strict=True)
    }


def _row(source: str, row: Mapping[Any, Any]) -> Row:
    columns = {name: None if value is None else str(value) for name, value in row.items() if name != "sealed"}
    return Row(source, strict_json.dumps([columns[name] for name in SOURCES[source]]).decode(), columns)


def _leaf_row(leaf: Leaf) -> dict[str, str | int | None]:
    return {**t.as_row(t.leaves, leaf), "seal": leaf.seal}


def _leaf(row: Mapping[Any, Any]) -> Leaf:
    return t.from_row(Leaf, row, seal=row["seal"])


def _seal(row: Mapping[Any, Any]) -> Seal:
    return Seal(row["number"], row["head"], row["statement"], row["keys"])


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK))
