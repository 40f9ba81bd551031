"""The checkout's tables, and how its values become rows of text and come back unchanged.

Every column but a running number is Text: token units have up to 78 digits, and no database's number type holds
those on SQLite and PostgreSQL alike. Times are UTC of one fixed width, so that they sort as text. `metadata` is
ours alone: name it beside your own in Alembic's ``target_metadata``, or call `SqlStore.create_schema`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from functools import cache
from types import NoneType
from typing import Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from attrs import AttrsInstance, fields
from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, UniqueConstraint, text
from sqlalchemy.dialects import registry
from sqlalchemy.schema import CreateIndex, CreateTable

from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.money import Money
from deposit_token_sdk.signing import strict_json

V = TypeVar("V", bound=AttrsInstance)
Row: TypeAlias = Mapping[Any, Any]

_COLUMNS = "%(table_name)s_%(column_0_N_name)s"
metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s", "uq": f"uq_{_COLUMNS}", "ix": f"ix_{_COLUMNS}"})
"""All tables of the checkout, each prefixed ``deposit_token_``."""


_NUMBER = BigInteger().with_variant(Integer, "sqlite")


def _only(condition: str, *columns: str) -> Index:
    """An index of the few rows for which the condition holds: what waits is found without passing what is done."""
    return Index(None, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


def _table(name: str, columns: str, *constraints: Column[Any] | UniqueConstraint | Index, key: str = "") -> Table:
    """A table of Text columns: a word ending in ``?`` may be null, those in `key` are the primary key."""
    keys = key.split()
    texts = [
        Column(word.rstrip("?"), Text, nullable=word.endswith("?"), primary_key=word in keys)
        for word in columns.split()
    ]
    number = [] if keys else [Column("number", _NUMBER, primary_key=True)]
    return Table(f"deposit_token_{name}", metadata, *number, *texts, *constraints)


def _sealed() -> tuple[Column[Any], Index]:
    """The number of the seal that a row is under, and how the sealer finds those that are under none yet."""
    return Column("sealed", _NUMBER), _only("sealed IS NULL", "sealed")


installations = _table("installation", "slot id", key="slot")
attempts = _table(
    "attempts",
    "reference order_id live_order? issuer token price content bearer capture buyer_country return_url created_at "
    "ruling? quote? statement? invoice? pay_url? instructions? ended? due_at?",
    UniqueConstraint("reference"),
    UniqueConstraint("live_order"),
    Index(None, "order_id"),
    _only("due_at IS NOT NULL", "due_at"),
)
refusals = _table(
    "refusals",
    "order_id token buyer_country reason ruling at",
    Index(None, "at"),
    key="order_id token buyer_country reason",
)
_SEEN = "reference movement stage units accepted_at"
observations = _table("observations", _SEEN, key=_SEEN)
words = _table("words", "reference word", key="reference word")
movements = _table("movements", "issuer movement reference", key="issuer movement")
events = _table(
    "events",
    "issuer key digest reference received_at body outcome?",
    Index(None, "issuer", "received_at"),
    *_sealed(),
    key="issuer key",
)
evidence = _table(
    "evidence",
    "attempt digest kind proof content keys at issuer merchant installation mode invoice reference token quote_digest? "
    "movement units accepted_at issued_at of? refund_reference?",
    UniqueConstraint("attempt", "digest", "kind", "movement"),
    Index(None, "accepted_at"),
    *_sealed(),
)
fulfilments = _table("fulfilments", "order_id reference at", *_sealed(), key="order_id")
reviews = _table(
    "reviews",
    "order_id reference reason subject detail opened_at",
    UniqueConstraint("reference", "reason", "subject"),
    Index(None, "order_id"),
    *_sealed(),
)
decisions = Table(
    "deposit_token_decisions",
    metadata,
    Column("review", _NUMBER, primary_key=True, autoincrement=False),
    *(Column(name, Text, nullable=name == "refund") for name in ("verdict", "by", "note", "at", "refund")),
    *_sealed(),
)
WAITING = "sent_at IS NULL AND dead_at IS NULL"
outgoing = _table(
    "outgoing",
    "key topic payload order_id made_at due_at tries error? sent_at? dead_at?",
    _only(WAITING, "due_at"),
    _only("dead_at IS NOT NULL", "dead_at"),
    key="key",
)
intents = _table(
    "intents",
    "verb subject attempt keys made_at answered_at? outcome?",
    Index(None, "attempt"),
    _only("answered_at IS NULL", "made_at"),
    key="verb subject",
)
refunds = _table(
    "refunds",
    "reference attempt request units price? stage bank_id? created_at",
    UniqueConstraint("reference"),
    UniqueConstraint("request"),
    Index(None, "attempt"),
)
seals = _table(
    "seals", "head statement? keys?", Column("number", _NUMBER, primary_key=True, autoincrement=False), key="number"
)
leaves = _table(
    "leaves",
    "source key salt hash body_salt? body_digest? erased_at?",
    Column("seal", _NUMBER, nullable=False),
    Index(None, "seal"),
    key="source key",
)


@cache
def schema(dialect: str) -> tuple[str, ...]:
    """What creates the tables and indexes that are not there yet, in this dialect: one statement each."""
    speaks = registry.load(dialect)()
    made: list[CreateTable | CreateIndex] = []
    for table in metadata.sorted_tables:
        made.append(CreateTable(table, if_not_exists=True))
        made += [
            CreateIndex(index, if_not_exists=True) for index in sorted(table.indexes, key=lambda one: str(one.name))
        ]
    return tuple(str(one.compile(dialect=speaks)) for one in made)


def as_text(value: object) -> str | None:
    """One value as its column holds it.

    Raises InvalidInput: ``naive_time`` on a time without a zone, ``nul_in_text`` on what PostgreSQL cannot store.
    """
    if value is None:
        return None
    if isinstance(value, str):
        return _storable(str(value))
    if isinstance(value, IntEnum):
        return value.name
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidInput("naive_time", "A time without a zone is ambiguous: give an aware datetime.")
        return value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, tuple):
        return strict_json.dumps({"items": value}).decode()
    return _storable(str(value))


def _storable(text: str) -> str:
    if "\0" in text:
        raise InvalidInput("nul_in_text", f"{text!r} holds a NUL character, which no database text can: leave it out.")
    return text


def as_row(table: Table, *values: AttrsInstance, **given: str | None) -> dict[str, str | None]:
    """A row of the table: what is given, and each other column from the first value that has it; no running number."""
    row: dict[str, str | None] = dict(given)
    for value in values:
        for name in _columns_of(table, type(value)):
            if name not in row:
                row[name] = as_text(getattr(value, name))
    return row


@cache
def _columns_of(table: Table, kind: type[AttrsInstance]) -> tuple[str, ...]:
    """The fields of this class that are columns of the table, in its order; no running number."""
    named = {field.name for field in fields(kind)}
    return tuple(column.name for column in table.columns if column.name in named and column.name != "number")


def as_json(value: AttrsInstance, without: str = "") -> str:
    """A flat value as one JSON text of strings and nulls, one field left out."""
    names = [field.name for field in fields(type(value)) if field.name != without]
    return strict_json.dumps({name: as_text(getattr(value, name)) for name in names}).decode()


def from_row(kind: type[V], row: Row, **given: Any) -> V:
    """The value of this class that the row holds; fields that no column holds as text are given."""
    for name, read in _readers(kind).items():
        if name not in given and name in row:
            text = row[name]
            given[name] = None if text is None else read(text)
    return kind(**given)


def from_json(kind: type[V], text: str, **given: Any) -> V:
    """What `as_json` wrote, with the field that it left out."""
    return from_row(kind, strict_json.parse(text.encode()), **given)


@cache
def _readers(kind: type[AttrsInstance]) -> dict[str, Callable[[str], Any]]:
    hints = get_type_hints(kind)
    return {field.name: _reader(hints[field.name]) for field in fields(kind)}


def _reader(hint: Any) -> Callable[[str], Any]:
    """What turns a column's text back into a field of this type, None aside."""
    if get_origin(hint) is tuple:
        return lambda text: tuple(strict_json.texts(strict_json.parse(text.encode()), "items"))
    kind: Any = next((option for option in get_args(hint) if option is not NoneType), hint)
    if kind is datetime:
        return datetime.fromisoformat
    if kind is Money:
        return lambda text: Money(*text.split(" "))
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return kind.__getitem__
    return kind  # type: ignore[no-any-return]  # a class is called as it is: str, int
