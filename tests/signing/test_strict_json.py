from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deposit_token_sdk.errors import InvalidInput, InvalidType, Unreadable
from deposit_token_sdk.signing import strict_json

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**40), 10**40) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(st.dictionaries(texts, values, max_size=5))
def test_what_is_dumped_parses_back_and_escapes_and_spaces_change_nothing(value: dict[str, Any]) -> None:
    assert strict_json.parse(strict_json.dumps(value)) == value
    assert strict_json.parse(json.dumps(value, indent=2).encode()) == value


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_unreadable(data: bytes) -> None:
    with suppress(Unreadable):
        assert isinstance(strict_json.parse(data), dict)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":"\xff"}', "invalid_utf8"),
        (b'{"a":"\xed\xa0\x80"}', "invalid_utf8"),
        (b'{"a":"\\ud800"}', "invalid_utf8"),
        (b'{"\\udfff":1}', "invalid_utf8"),
        (b'{"a":[["\\ud800"]]}', "invalid_utf8"),
        (b'{"a":1,"a":2}', "duplicate_key"),
        (b'{"b":[{"a":1,"\\u0061":2}]}', "duplicate_key"),
        (b'{"a":NaN}', "not_json"),
        (b'{"a":Infinity}', "not_json"),
        (b'{"a":-Infinity}', "not_json"),
        (b'{"a":1e99999999999999999999}', "not_json"),
        (b'{"a":' + b"9" * 5000 + b"}", "not_json"),
        (b'\xef\xbb\xbf{"a":1}', "not_json"),
        (b'{"a":1}x', "not_json"),
        (b'{"a":1} {}', "not_json"),
        (b'{"a":', "not_json"),
        (b"{'a':1}", "not_json"),
        (b'{"a":1,}', "not_json"),
        (b'{"a":01}', "not_json"),
        (b'{"a":"\n"}', "not_json"),
        (b"", "not_json"),
        (b'{"a":' + b"[" * 64 + b"]" * 64 + b"}", "not_json"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "not_json"),
        (b"[" * 100000, "not_json"),
        (b'{"a":' * 100000, "not_json"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"1.5", "not_an_object"),
        (b"true", "not_an_object"),
    ],
)
def test_what_two_readers_might_read_differently_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as refused:
        strict_json.parse(data)
    assert refused.value.reason == reason


def test_a_duplicate_key_is_named() -> None:
    with pytest.raises(Unreadable, match="units") as refused:
        strict_json.parse(b'{"units":"1","units":"2"}')
    assert refused.value.field == "units"


def test_numbers_never_pass_through_a_float() -> None:
    parsed = strict_json.parse(b' {"a": 0.1, "b": 12345678901234567890, "c": 1e2, "d": 1.0} ')
    assert parsed == {"a": Decimal("0.1"), "b": 12345678901234567890, "c": Decimal("1e2"), "d": Decimal("1.0")}
    assert [type(value) for value in parsed.values()] == [Decimal, int, Decimal, Decimal]


def test_nesting_up_to_the_bound_is_read() -> None:
    assert strict_json.parse(b'{"a":' + b"[" * 63 + b"]" * 63 + b"}")
    assert strict_json.parse(b'{"a":[' + b",".join([b"{}"] * 500) + b"]}")
    assert strict_json.parse(b'{"a":"\\ud83d\\ude00 \\n"}') == {"a": "\U0001f600 \n"}


def test_json_is_written_compactly_in_utf_8() -> None:
    assert strict_json.dumps({"b": "é", "a": [1, True, None]}) == '{"b":"é","a":[1,true,null]}'.encode()


@pytest.mark.parametrize("value", [1.5, Decimal("1.5"), {"a": [1.0]}, {1: "a"}, (float("nan"),), object(), b"x"])
def test_what_json_cannot_say_exactly_is_a_type_error(value: object) -> None:
    with pytest.raises(InvalidType) as refused:
        strict_json.dumps(value)
    assert isinstance(refused.value, TypeError)
    assert refused.value.reason == "json_type"


def test_half_a_character_is_not_written() -> None:
    with pytest.raises(InvalidInput):
        strict_json.dumps({"a": "\ud800"})


def reason_of(read: Callable[[dict[str, Any], str], object], value: object) -> str:
    with pytest.raises(Unreadable) as refused:
        read({"x": value}, "x")
    assert refused.value.field == "x"
    return refused.value.reason


@pytest.mark.parametrize(
    ("read", "value"),
    [
        (strict_json.text, 1),
        (strict_json.text, None),
        (strict_json.optional_text, 1),
        (strict_json.units, 14100),
        (strict_json.plain, Decimal("1.5")),
        (strict_json.moment, 1790000000),
        (strict_json.optional_moment, 1),
        (strict_json.integer, "1"),
        (strict_json.integer, True),
        (strict_json.integer, Decimal("1.0")),
        (strict_json.boolean, 1),
        (strict_json.member, []),
        (strict_json.members, {}),
        (strict_json.members, ["a"]),
        (strict_json.texts, [1]),
        (strict_json.texts, None),
    ],
)
def test_a_member_of_another_type_is_refused_by_name(
    read: Callable[[dict[str, Any], str], object], value: object
) -> None:
    assert reason_of(read, value) == "wrong_type"


@pytest.mark.parametrize(
    "read",
    [
        strict_json.text,
        strict_json.units,
        strict_json.plain,
        strict_json.moment,
        strict_json.integer,
        strict_json.boolean,
        strict_json.member,
        strict_json.members,
        strict_json.texts,
    ],
)
def test_a_missing_member_is_refused_by_name(read: Callable[[dict[str, Any], str], object]) -> None:
    with pytest.raises(Unreadable) as refused:
        read({}, "due")
    assert (refused.value.reason, refused.value.field) == ("missing_field", "due")


@pytest.mark.parametrize("value", ["", "-1", "+1", "01", "1.0", "1e3", " 1", "1\n", "١", "1" * 79])
def test_units_are_ascii_digits_alone(value: str) -> None:
    assert reason_of(strict_json.units, value) == "bad_value"


@pytest.mark.parametrize("value", ["", "1.", ".5", "1e3", "+1", "NaN", "1,5", "٣"])
def test_a_decimal_is_plain(value: str) -> None:
    assert reason_of(strict_json.plain, value) == "bad_value"


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-24",
        "2026-11-24T09:30:00",
        "2026-11-24 09:30:00Z",
        "2026-11-24T09:30Z",
        "2026-13-24T09:30:00Z",
        "2026-11-24T09:30:60Z",
        "2026-11-24T09:30:00+0100",
        "0001-01-01T00:00:00+01:00",
        "20261124T093000Z",
    ],
)
def test_a_time_is_rfc_3339_with_an_offset(value: str) -> None:
    assert reason_of(strict_json.moment, value) == "bad_value"


def test_members_of_the_right_type_are_read() -> None:
    read = strict_json.parse(
        b'{"t":"a","n":null,"u":"0","v":"14100","p":"1.0837","i":3,"b":false,"o":{"k":1},"l":[{}],"s":["x"],'
        b'"m":"2026-11-24T10:30:00.25+01:00"}'
    )
    assert strict_json.text(read, "t") == "a"
    assert strict_json.optional_text(read, "n") is strict_json.optional_text(read, "absent") is None
    assert strict_json.optional_text(read, "t") == "a"
    assert (strict_json.units(read, "u"), strict_json.units(read, "v")) == (0, 14100)
    assert strict_json.plain(read, "p") == Decimal("1.0837")
    assert strict_json.integer(read, "i") == 3
    assert strict_json.boolean(read, "b") is False
    assert strict_json.member(read, "o") == {"k": 1}
    assert strict_json.members(read, "l") == [{}]
    assert strict_json.texts(read, "s") == ["x"]
    assert strict_json.moment(read, "m") == datetime(2026, 11, 24, 9, 30, 0, 250000, UTC)
    assert strict_json.optional_moment(read, "n") is None
    assert strict_json.optional_moment(read, "m") == strict_json.moment(read, "m")


def test_times_are_written_in_utc_with_microseconds_only_where_there_are_any() -> None:
    berlin = timezone(timedelta(hours=1))
    assert strict_json.rfc3339(datetime(2026, 11, 24, 10, 30, tzinfo=berlin)) == "2026-11-24T09:30:00Z"
    assert strict_json.rfc3339(datetime(2026, 11, 24, 9, 30, 0, 5, UTC)) == "2026-11-24T09:30:00.000005Z"
    with pytest.raises(InvalidInput):
        strict_json.rfc3339(datetime(2026, 11, 24, 9, 30))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": Decimal("128.50")}, b'{"a":128.50}'),
        ({"a": [Decimal("1E+3"), Decimal("1E-7"), 2]}, b'{"a":[1000,0.0000001,2]}'),
        ({"a": {"b": "1.50", "c": None, "d": True}}, b'{"a":{"b":"1.50","c":null,"d":true}}'),
    ],
)
def test_a_decimal_is_written_as_the_number_it_is(value: Any, text: bytes) -> None:
    assert strict_json.dumps_exact(value) == text
    assert strict_json.parse(strict_json.dumps_exact({"v": Decimal("128.50")}))["v"].as_tuple() == (
        0,
        (1, 2, 8, 5, 0),
        -2,
    )


@pytest.mark.parametrize("value", [1.5, Decimal("NaN"), Decimal("Infinity"), b"x", {1: "a"}, [0.1]])
def test_what_is_no_exact_number_is_not_written(value: Any) -> None:
    with pytest.raises(InvalidType) as refused:
        strict_json.dumps_exact({"a": value})
    assert refused.value.reason == "json_type"
