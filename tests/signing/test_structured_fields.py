from __future__ import annotations

import re

import http_sf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deposit_token_sdk.signing import structured_fields
from deposit_token_sdk.signing.structured_fields import (
    BareItem,
    Dictionary,
    InnerList,
    Item,
    Token,
    parse_dictionary,
    serialize_bare_item,
    serialize_item,
    serialize_parameters,
)


def serialize_dictionary(members: Dictionary) -> str:
    return ", ".join(f"{key}={serialize_member(member)}" for key, member in members.items())


def serialize_member(member: Item | InnerList) -> str:
    if isinstance(member, Item):
        return serialize_item(member)
    return f"({' '.join(map(serialize_item, member.items))}){serialize_parameters(member.parameters)}"


keys = st.from_regex(r"[a-z*][a-z0-9_\-.*]{0,8}", fullmatch=True)
bare_items: st.SearchStrategy[BareItem] = st.one_of(
    st.integers(-999_999_999_999_999, 999_999_999_999_999),
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12),
    st.binary(max_size=12),
    st.booleans(),
    st.from_regex(r"[A-Za-z*][A-Za-z0-9:/!#$%&'*+\-.^_`|~]{0,8}", fullmatch=True).map(Token),
)
parameters = st.dictionaries(keys, bare_items, max_size=3)
items = st.builds(Item, bare_items, parameters)
inner_lists = st.builds(InnerList, st.lists(items, max_size=3).map(tuple), parameters)
dictionaries: st.SearchStrategy[Dictionary] = st.dictionaries(keys, items | inner_lists, min_size=1, max_size=3)


@settings(deadline=None)
@given(dictionaries)
def test_what_is_written_is_read_back_the_same(members: Dictionary) -> None:
    assert parse_dictionary(serialize_dictionary(members)) == members


@settings(deadline=None)
@given(dictionaries)
def test_another_parser_reads_what_we_write_as_the_same_keys(members: Dictionary) -> None:
    read = http_sf.parse(serialize_dictionary(members).encode(), tltype="dictionary")
    assert isinstance(read, dict)
    assert list(read) == list(members)


@settings(deadline=None)
@given(st.text(alphabet='ab1=;,:"() \t?*\\-A/+é\n', max_size=30))
def test_any_text_is_a_dictionary_or_a_value_error(text: str) -> None:
    try:
        members = parse_dictionary(text)
    except ValueError:
        return
    assert parse_dictionary(serialize_dictionary(members)) == members


def test_a_signature_input_is_read_in_order_with_flags_and_parameters() -> None:
    written = 'sig1=("@method" "content-digest";req "x";key="a\\"b\\\\");created=1618884473;keyid="k";alg="ed25519"'
    assert parse_dictionary(written) == {
        "sig1": InnerList(
            (Item("@method"), Item("content-digest", {"req": True}), Item("x", {"key": 'a"b\\'})),
            {"created": 1618884473, "keyid": "k", "alg": "ed25519"},
        )
    }
    assert serialize_dictionary(parse_dictionary(written)) == written


def test_white_space_is_allowed_where_the_rfc_allows_it_only() -> None:
    expected: Dictionary = {"a": Item(1, {"p": True}), "b": InnerList((Item("x"), Item("y")))}
    assert parse_dictionary('  a=1; p \t,\t b=(  "x"   "y" )  ') == expected


@settings(deadline=None)
@given(st.lists(st.sampled_from(['"x"', '"@y"', ";req", ";b", " ", "  ", "(", ")", '"', "1"]), max_size=8).map("".join))
def test_a_list_of_names_remembered_reads_as_it_would_anew(text: str) -> None:
    written = f"a=({text})"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(structured_fields, "_NAMES", re.compile(r"(?!)"))
        anew = read_or_refused(written)
    assert read_or_refused(written) == anew


def read_or_refused(text: str) -> Dictionary | None:
    try:
        return parse_dictionary(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a=1,",
        ",a=1",
        "a=1,,b=2",
        "a=1 b=2",
        "a=1,a=2",
        "sig1=:QQ==:, sig1=:Qg==:",
        'a=("x" "y"',
        'a=("x""y")',
        'a=("x","y")',
        'a=("x")"y")',
        'a=("x")("y")',
        'a=("x" y")',
        'a=("x";req;req)',
        "a=(1))",
        "a=1;p=1;p=2",
        "A=1",
        "1a=1",
        "a =1",
        "a= 1",
        'a="x',
        'a="\\x"',
        'a="\n"',
        "a=:QQ:",
        "a=:QR==:",
        "a=:QQ==",
        "a=: QQ==:",
        "a=?2",
        "a=?",
        "a=1.5",
        "a=-",
        "a=1234567890123456",
        "a=@1659578233",
        'a=%"x"',
        "a=é",
        "a=1\n",
        "a=1\t",
        "a=" + '"' + "x" * 20000 + '"',
    ],
)
def test_what_is_malformed_repeated_or_merged_wrongly_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_dictionary(text)


@pytest.mark.parametrize("value", ["é", "a\nb", "a\x7f", 10**15, -(10**15)])
def test_what_cannot_be_written_is_refused(value: BareItem) -> None:
    with pytest.raises(ValueError):
        serialize_bare_item(value)
