"""The statements that an order's news runs, each built once and kept.

SQLAlchemy takes several times as long to build a statement as to run one that it knows; so what differs from call to
call goes in as a parameter. Nothing here runs a statement or decides which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

from attrs import frozen
from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Delete,
    Select,
    Table,
    Text,
    TextClause,
    bindparam,
    cast,
    delete,
    exists,
    func,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from deposit_token_sdk.checkout import sql_tables as t

_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_JSON: Mapping[str, Any] = {
    "sqlite": (func.json_group_array, func.json_object),
    "postgresql": (func.json_agg, func.json_build_object),
}
"""What makes a list of a column's values, and an object of names and values."""
_ONE: ColumnElement[Any] = literal_column("1")
_NAMED = sqlite.dialect(paramstyle="named")
_OLD = "old_"
"""Before the name of a column that chooses a row, lest it be taken for one that is set."""


@cache
def inserting(dialect: str, table: Table, unique: tuple[str, ...] = ()) -> Any:
    """Insert unless a row with the same `unique` columns (by default the primary key) stands; one row if it did not."""
    columns = unique or table.primary_key.columns.keys()
    return _INSERTS[dialect](table).on_conflict_do_nothing(index_elements=columns).returning(_ONE)


@frozen
class Write:
    """Rows to insert where they do not stand, or one to update: the statement's shape without its values.

    `sets` are the columns that are written and `rows` how many rows are inserted, 0 for an update: that is of the row
    chosen by the columns `which`, if those of `null` hold nothing. `fresh`: the rows cannot stand already.
    """

    table: Table
    sets: tuple[str, ...]
    rows: int = 0
    which: tuple[str, ...] = ()
    null: tuple[str, ...] = ()
    fresh: bool = False


Values: TypeAlias = Sequence[Mapping[str, str | None]]
"""What a Write writes: its rows; or for an update what is set, and then what chooses the row."""


def parameters(writes: Sequence[tuple[Write, Values]]) -> dict[str, str | None]:
    """The values of writes that are run by `writing` or `together`."""
    return {
        f"w{place}_{turn}_{name}": value
        for place, (_, values) in enumerate(writes)
        for turn, row in enumerate(values)
        for name, value in row.items()
    }


@cache
def writing(write: Write) -> TextClause:
    """The write by itself. As a text: of several rows at once SQLAlchemy keeps no compiled statement."""
    return text(_written(write, 0))


@cache
def together(writes: tuple[Write, ...]) -> TextClause:
    """PostgreSQL: all these writes, each to another table, as one statement; how many rows each of them wrote."""
    parts = ", ".join(f"w{place} AS ({_written(write, place)} RETURNING 1)" for place, write in enumerate(writes))
    counts = ", ".join(f"(SELECT count(*) FROM w{place})" for place in range(len(writes)))  # noqa: S608  # a number
    return text(f"WITH {parts} SELECT {counts}")


def _written(write: Write, place: int) -> str:
    """Our own tables' names and columns read alike on both databases."""
    rows: list[dict[str, BindParameter[Any]]] = [
        {name: bindparam(f"w{place}_{turn}_{name}") for name in write.sets} for turn in range(write.rows or 1)
    ]
    statement: Any = sqlite.insert(write.table).values(rows).on_conflict_do_nothing()
    if not write.rows:
        mine = [write.table.c[name] == bindparam(f"w{place}_1_{name}") for name in write.which]
        empty = [write.table.c[name].is_(None) for name in write.null]
        statement = update(write.table).where(*mine, *empty).values(rows[0])
    return str(statement.compile(dialect=_NAMED))


@cache
def deleting(table: Table, which: tuple[str, ...]) -> Delete:
    """Delete the rows with these values (see `old`)."""
    return delete(table).where(*_equal(table, which))


@cache
def reading(table: Table, wanted: str, which: tuple[str, ...]) -> Select[Any]:
    """One column of the rows with these values (see `old`)."""
    return select(table.c[wanted]).where(*_equal(table, which))


def old(which: Mapping[str, str | None]) -> dict[str, str | None]:
    """The values that choose the rows, as parameters."""
    return {_OLD + name: value for name, value in which.items()}


def _equal(table: Table, which: tuple[str, ...]) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(_OLD + name) for name in which]


def _siblings(of: str) -> ColumnElement[bool]:
    """All attempts of an order: of the one that is named, or of the one whose attempt is."""
    if of == "order_id":
        return t.attempts.c.order_id == bindparam(_OLD + of)
    named = t.attempts.alias()
    order_id = select(named.c.order_id).where(named.c.reference == bindparam(_OLD + of))
    return t.attempts.c.order_id == order_id.scalar_subquery()


@cache
def locking(dialect: str, of: str) -> Any:
    """Lock all attempts of an order, chosen by ``order_id`` or ``reference``; it is a write on SQLite."""
    if dialect == "sqlite":
        return update(t.attempts).where(_siblings(of)).values(live_order=t.attempts.c.live_order)
    return select(t.attempts.c.number).where(_siblings(of)).order_by(t.attempts.c.number).with_for_update()


@cache
def histories(dialect: str, of: str) -> Select[Any]:
    """All attempts of an order, oldest first, one row for each, with what is known of it beside its columns.

    `seen` and `said` are JSON lists or null: each is looked up by itself, so that no plan made while the tables were
    small reads through them later.
    """
    a, o, w, f = t.attempts, t.observations, t.words, t.fulfilments
    listed, made = _JSON[dialect]
    named: list[ColumnElement[Any]] = []
    for column in o.c:
        named += [literal_column(f"'{column.name}'"), column]
    known = (
        select(cast(listed(made(*named)), Text)).where(o.c.reference == a.c.reference).scalar_subquery().label("seen"),
        select(cast(listed(w.c.word), Text)).where(w.c.reference == a.c.reference).scalar_subquery().label("said"),
        select(f.c.reference).where(f.c.order_id == a.c.order_id).scalar_subquery().label("paid_by"),
    )
    refunds = exists().where(t.refunds.c.attempt == a.c.reference).label("refunds")
    reviews = exists().where(t.reviews.c.reference == a.c.reference).label("reviews")
    open_intent = exists().where(t.intents.c.attempt == a.c.reference, t.intents.c.answered_at.is_(None))
    return select(a, *known, refunds, reviews, open_intent.label("intents")).where(_siblings(of)).order_by(a.c.number)


@cache
def claiming() -> Select[Any]:
    """PostgreSQL: insert an event and, if it is new, lock the order of its reference; how many rows of each."""
    row: dict[str, BindParameter[Any]] = {
        name: bindparam(name) for name in ("issuer", "key", "digest", "reference", "received_at", "body", "outcome")
    }
    new = postgresql.insert(t.events).values(**row)
    claimed = new.on_conflict_do_nothing(index_elements=["issuer", "key"]).returning(t.events.c.key).cte("claimed")
    mine = select(t.attempts.c.number).where(_siblings("reference"), exists().select_from(claimed))
    locked = mine.order_by(t.attempts.c.number).with_for_update().cte("locked")
    return select(
        select(func.count()).select_from(claimed).scalar_subquery(),
        select(func.count()).select_from(locked).scalar_subquery(),
    )
