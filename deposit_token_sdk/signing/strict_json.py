"""JSON that others sign, read strictly; and the typed readers for its members.

Two readers of one signed text must never see two things. So a duplicate key, NaN, invalid UTF-8 or a lone
surrogate is refused rather than repaired, numbers never pass through a float, and a number where a string is due
is an error that names the member. Nothing here knows what a member means.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from json import JSONDecodeError, JSONDecoder, JSONEncoder
from typing import Any, NoReturn, TypeVar

from deposit_token_sdk.errors import InvalidInput, InvalidType, Unreadable
from deposit_token_sdk.money import plain_decimal

T = TypeVar("T")

MAX_DEPTH = 64
"""How deep objects and arrays may nest."""

_UNITS = re.compile(r"0|[1-9][0-9]{0,77}", re.ASCII)
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)",
    re.ASCII,
)


class _DuplicateKey(ValueError):
    """Carries the key that stood twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateKey(name)
            seen.add(name)
    return found


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


_decoder = JSONDecoder(parse_float=Decimal, parse_constant=_refuse_constant, object_pairs_hook=_unique)
_decode, _raw_decode = _decoder.decode, _decoder.raw_decode
_encode = JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def parse(data: bytes) -> dict[str, Any]:
    """The JSON object in `data` (RFC 8259, and the restrictions of RFC 7493 on keys and text).

    Numbers with a fraction or an exponent become Decimal, the others int. Raises Unreadable: ``invalid_utf8``,
    ``duplicate_key`` (`field` names it), ``not_json`` or ``not_an_object``.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable("invalid_utf8", f"The JSON is not UTF-8 at byte {error.start}.") from None
    try:
        value = _read(text)
    except _DuplicateKey as error:
        name = str(error)
        raise Unreadable("duplicate_key", f"The JSON names {name!r} twice in one object.", field=name) from None
    except JSONDecodeError as error:
        raise Unreadable("not_json", f"This is not JSON: {error.msg} at character {error.pos}.") from None
    except (ValueError, InvalidOperation):
        raise Unreadable("not_json", "The JSON holds a number that cannot be one (NaN, or far too long).") from None
    except RecursionError:
        raise _too_deep() from None
    if type(value) is not dict:
        raise Unreadable("not_an_object", f"The JSON is {_kind(value)}; an object was expected.")
    if _may_hide_something(text):
        _inspect(value)
    return value


def _read(text: str) -> Any:
    """One pass of the scanner; only where it leaves something over does the decoder look at white space."""
    if text.startswith("{"):
        value, end = _raw_decode(text)
        if end == len(text):
            return value
    return _decode(text)


def _may_hide_something(text: str) -> bool:
    """Whether a closer look is due; `in` for a character is quicker than counting."""
    if "\\" in text and "\\u" in text:
        return True
    return text.count("{") + (text.count("[") if "[" in text else 0) > MAX_DEPTH


def _too_deep() -> Unreadable:
    return Unreadable("not_json", f"The JSON nests deeper than {MAX_DEPTH} levels.")


def _inspect(value: dict[str, Any]) -> None:
    """Refuse what only escapes can smuggle in (lone surrogates, and NUL, which PostgreSQL cannot store), and depth."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            if isinstance(container, dict):
                for name in container:
                    _refuse_smuggled(name)
                container = list(container.values())  # noqa: PLW2901
            for item in container:
                if isinstance(item, str):
                    _refuse_smuggled(item)
                elif isinstance(item, (dict, list)):
                    below.append(item)
        if not below:
            return
        level = below
    raise _too_deep()


def _refuse_smuggled(text: str) -> None:
    if "\x00" in text:
        raise Unreadable("invalid_utf8", "The JSON escapes a NUL character, which no text of a bank holds.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable("invalid_utf8", "The JSON escapes half a character (a lone surrogate).") from None


def dumps(value: Any) -> bytes:
    """`value` as compact JSON in UTF-8, members in the order given.

    Raises InvalidType (``json_type``) on a float, a Decimal or anything else that JSON cannot say exactly: write
    amounts as strings. Raises InvalidInput (``not_unicode``) on a lone surrogate.
    """
    _refuse_inexact(value)
    try:
        return _encode(value).encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("not_unicode", "A text holds half a character (a lone surrogate).") from None


def dumps_exact(value: Any) -> bytes:
    """As `dumps`, but a Decimal becomes the JSON number that it is, digit for digit: for banks that want numbers.

    Raises InvalidType (``json_type``) as `dumps` does, and on a Decimal that is no finite number.
    """
    if isinstance(value, Decimal) and value.is_finite():
        return f"{value:f}".encode("ascii")
    if isinstance(value, dict):
        _refuse_inexact(dict.fromkeys(value))
        written = (dumps(name) + b":" + dumps_exact(item) for name, item in value.items())
        return b"{" + b",".join(written) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(dumps_exact(item) for item in value) + b"]"
    return dumps(value)


def _refuse_inexact(value: Any) -> None:
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if item is None or isinstance(item, (str, int)):
            continue
        if isinstance(item, dict):
            if not all(isinstance(name, str) for name in item):
                raise InvalidType("json_type", "A JSON object's keys are strings.")
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
        else:
            raise InvalidType(
                "json_type",
                f"A {type(item).__name__} cannot be written to JSON exactly: write amounts and times as strings.",
            )


def text(obj: dict[str, Any], name: str) -> str:
    """A member that must be a string."""
    value = obj.get(name)
    return value if type(value) is str else _refuse(obj, name, "a string")


def optional_text(obj: dict[str, Any], name: str) -> str | None:
    """A member that may be absent, null or a string."""
    return None if obj.get(name) is None else text(obj, name)


def units(obj: dict[str, Any], name: str) -> int:
    """Token units: a string of ASCII digits without sign or leading zero, at most 78 digits."""
    value = text(obj, name)
    if not _UNITS.fullmatch(value):
        raise _bad(name, value, "token units as digits, such as '14100'")
    return int(value)


def plain(obj: dict[str, Any], name: str) -> Decimal:
    """A plain decimal string, such as ``"1.0837"``."""
    value = text(obj, name)
    try:
        return plain_decimal(value)
    except InvalidInput:
        raise _bad(name, value, "a plain decimal string, such as '1.0837'") from None


def moment(obj: dict[str, Any], name: str) -> datetime:
    """An RFC 3339 time with ``Z`` or an offset, as an aware datetime in UTC; finer than microseconds is cut off."""
    value = text(obj, name)
    expected = "an RFC 3339 time with an offset, such as '2026-11-24T09:30:00Z'"
    if not _RFC3339.fullmatch(value):
        raise _bad(name, value, expected)
    try:
        return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad(name, value, expected) from None


def optional_moment(obj: dict[str, Any], name: str) -> datetime | None:
    """A time that may be absent or null."""
    return None if obj.get(name) is None else moment(obj, name)


def integer(obj: dict[str, Any], name: str) -> int:
    """A JSON integer; true and false are none."""
    value = obj.get(name)
    return value if type(value) is int else _refuse(obj, name, "an integer")


def boolean(obj: dict[str, Any], name: str) -> bool:
    """true or false."""
    value = obj.get(name)
    return value if type(value) is bool else _refuse(obj, name, "true or false")


def member(obj: dict[str, Any], name: str) -> dict[str, Any]:
    """A member that must be an object."""
    value = obj.get(name)
    return value if type(value) is dict else _refuse(obj, name, "an object")


def members(obj: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A member that must be an array of objects."""
    return _array(obj, name, dict, "an array of objects")


def texts(obj: dict[str, Any], name: str) -> list[str]:
    """A member that must be an array of strings."""
    return _array(obj, name, str, "an array of strings")


def rfc3339(moment: datetime) -> str:
    """An aware time as RFC 3339 in UTC with ``Z``; microseconds only where there are any."""
    if moment.tzinfo is None:
        raise InvalidInput("naive_time", "A time without a zone is ambiguous: give an aware datetime.")
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def _array(obj: dict[str, Any], name: str, kind: Callable[..., T], expected: str) -> list[T]:
    value = obj.get(name)
    if type(value) is not list or not all(type(item) is kind for item in value):
        _refuse(obj, name, expected)
    return value


def _refuse(obj: dict[str, Any], name: str, expected: str) -> NoReturn:
    if name not in obj:
        raise Unreadable("missing_field", f"The member {name!r} is missing; it must be {expected}.", field=name)
    raise Unreadable("wrong_type", f"The member {name!r} is {_kind(obj[name])}; it must be {expected}.", field=name)


def _bad(name: str, value: str, expected: str) -> Unreadable:
    return Unreadable("bad_value", f"The member {name!r} is {value[:60]!r}; it must be {expected}.", field=name)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, (int, Decimal)):
        return "a number"
    return "an array" if isinstance(value, list) else "an object"
