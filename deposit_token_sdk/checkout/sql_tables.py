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
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from attrs import AttrsInstance, fields
from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, UniqueConstraint

from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.money import Money
from deposit_token_sdk.signing import strict_json

V = TypeVar("V", bound=AttrsInstance)

_COLUMNS = "%(table_name)s_%(column_0_N_name)s"
metadata = MetaData(naming_convention={"pk": "pk_%(table_name)s", "uq": f"uq_{_COLUMNS}", "ix": f"ix_{_COLUMNS}"})
"""All tables of the checkout, each prefixed ``deposit_token_``."""


def _table(name: str, columns: str, *constraints: Column[Any] | UniqueConstraint | Index, key: str = "") -> Table:
    """A table of Text columns: a word ending in ``?`` may be null, those in `key` are the primary key."""
    keys = key.split()
    texts = [
        Column(word.rstrip("?"), Text, nullable=word.endswith("?"), primary_key=word in keys)
        for word in columns.split()
    ]
    number = [] if keys else [Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True)]
    return Table(f"deposit_token_{name}", metadata, *number, *texts, *constraints)


installations = _table("installation", "slot id", key="slot")
attempts = _table(
    "attempts",
    "reference order_id live_order? issuer token price content bearer capture buyer_country return_url created_at "
    "quote? statement? invoice? pay_url? instructions? ended? asked_at?",
    UniqueConstraint("reference"),
    UniqueConstraint("live_order"),
    Index(None, "order_id"),
    Index(None, "ended", "created_at"),
)
_SEEN = "reference movement stage units accepted_at"
observations = _table("observations", _SEEN, key=_SEEN)
words = _table("words", "reference word", key="reference word")
movements = _table("movements", "issuer movement reference", key="issuer movement")
events = _table("events", "issuer key digest reference received_at body outcome?", key="issuer key")
evidence = _table(
    "evidence",
    "attempt digest kind proof content keys at issuer merchant installation mode invoice reference token quote_digest? "
    "movement units accepted_at issued_at of? refund_reference?",
    UniqueConstraint("attempt", "digest", "kind", "movement"),
)
fulfilments = _table("fulfilments", "order_id reference at", key="order_id")
reviews = _table(
    "reviews",
    "order_id reference reason subject detail opened_at",
    UniqueConstraint("reference", "reason", "subject"),
)
intents = _table(
    "intents",
    "verb subject attempt keys made_at answered_at? outcome?",
    Index(None, "attempt"),
    Index(None, "answered_at", "made_at"),
    key="verb subject",
)
refunds = _table(
    "refunds",
    "reference attempt request units price? stage bank_id? created_at",
    UniqueConstraint("reference"),
    UniqueConstraint("request"),
    Index(None, "attempt"),
    Index(None, "stage", "created_at"),
)


def as_text(value: object) -> str | None:
    """One value as its column holds it. Raises InvalidInput (``naive_time``) on a time without a zone."""
    if value is None:
        return None
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
    return str(value)


def as_row(table: Table, *values: AttrsInstance, **given: str | None) -> dict[str, str | None]:
    """A row of the table: what is given, and each other column from the first value that has it."""
    row: dict[str, str | None] = dict(given)
    for value in values:
        for name in table.columns.keys() - row.keys():
            if hasattr(value, name):
                row[name] = as_text(getattr(value, name))
    return row


def as_json(value: AttrsInstance, without: str) -> str:
    """A flat value as one JSON text of strings and nulls, one field left out."""
    names = [field.name for field in fields(type(value)) if field.name != without]
    return strict_json.dumps({name: as_text(getattr(value, name)) for name in names}).decode()


def from_row(kind: type[V], row: Mapping[Any, Any], **given: Any) -> V:
    """The value of this class that the row holds; fields that no column holds as text are given."""
    readers = _readers(kind)
    texts = {name: row[name] for name in readers if name in row and name not in given}
    return kind(**{name: None if text is None else readers[name](text) for name, text in texts.items()}, **given)


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
    return kind  # type: ignore[no-any-return]
