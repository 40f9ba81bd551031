"""Structured field dictionaries (RFC 9651), read strictly: as far as signatures and digests need them.

A repeated key is refused, where the RFC lets the last one win: for signatures, a second value under one name is
an attack or a broken proxy, never a wish. Dates, display strings and decimals are no part of what we read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NoReturn, TypeAlias

from attrs import Factory, field, frozen

from deposit_token_sdk.signing.base64url import decode_standard, encode_standard


@frozen
class Token:
    """A bare word, as opposed to a string in quotes."""

    word: str


BareItem: TypeAlias = int | str | bytes | bool | Token
Parameters: TypeAlias = Mapping[str, BareItem]


@frozen
class Item:
    """A value with its parameters."""

    value: BareItem
    parameters: Parameters = field(factory=dict)


@frozen
class InnerList:
    """Items in parentheses, with parameters of the list. `written` is each item as it is serialized."""

    items: tuple[Item, ...]
    parameters: Parameters = field(factory=dict)
    written: tuple[str, ...] = field(
        eq=False, repr=False, default=Factory(lambda self: tuple(map(serialize_item, self.items)), takes_self=True)
    )


Dictionary: TypeAlias = dict[str, Item | InnerList]

MAX_LENGTH = 16384
"""Longer field values are refused unread."""

_KEY = re.compile(r"[a-z*][a-z0-9_\-.*]*", re.ASCII)
_BARE = re.compile(
    r'"(?P<string>(?:[ !#-\[\]-~]|\\["\\])*)"'
    r"|:(?P<binary>[A-Za-z0-9+/=]*):"
    r"|(?P<integer>-?[0-9]{1,15})"
    r"|\?(?P<boolean>[01])"
    r"|(?P<token>[A-Za-z*][!#$%&'*+\-.^_`|~0-9A-Za-z:/]*)",
    re.ASCII,
)
_PARAMETER = re.compile(r"; *([a-z*][a-z0-9_\-.*]*)(=)?", re.ASCII)
_COMMA = re.compile(r"[ \t]*,[ \t]*")
_SPACES = re.compile(r" *")
_NAME = r'"[a-z@-]{1,40}"(?:;req)?'
_NAMES = re.compile(rf"\((?:{_NAME} ){{0,20}}{_NAME}\)")
"""A list of plain names, each alone or marked as the request's: what signatures cover, as a rule."""


def parse_dictionary(text: str) -> Dictionary:
    """The members of a dictionary field. Raises ValueError with the reason in words."""
    if not text.isascii() or len(text) > MAX_LENGTH:
        raise ValueError("the field is not ASCII or far too long")
    reader = _Reader(text.strip(" "))
    members: Dictionary = {}
    while True:
        key = reader.key()
        if key in members:
            raise ValueError(f"the member {key!r} stands twice")
        members[key] = reader.member()
        if reader.at_end():
            return members
        reader.expect(_COMMA, "a comma")


class _Reader:
    """A place in one field value."""

    __slots__ = ("place", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def at_end(self) -> bool:
        return self.place == len(self.text)

    def expect(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        found = pattern.match(self.text, self.place)
        if found is None:
            self.fail(what)
        self.place = found.end()
        return found

    def fail(self, expected: str) -> NoReturn:
        raise ValueError(f"{expected} was expected at character {self.place}")

    def skip(self, character: str) -> bool:
        if self.text.startswith(character, self.place):
            self.place += 1
            return True
        return False

    def key(self) -> str:
        return self.expect(_KEY, "a lower-case key").group()

    def member(self) -> Item | InnerList:
        if not self.skip("="):
            return Item(True, self.parameters())
        return self.inner_list() if self.text.startswith("(", self.place) else self.item()

    def item(self) -> Item:
        return Item(self.bare_item(), self.parameters())

    def inner_list(self) -> InnerList:
        if names := _NAMES.match(self.text, self.place):
            self.place = names.end()
            known = _names_in(names.group())
            return InnerList(known.items, self.parameters(), known.written)
        return InnerList(self.items(), self.parameters())

    def items(self) -> tuple[Item, ...]:
        self.place += 1
        items: list[Item] = []
        while True:
            self.expect(_SPACES, "")
            if self.skip(")"):
                return tuple(items)
            items.append(self.item())
            if not self.text.startswith((" ", ")"), self.place):
                self.fail("a space or a closing parenthesis")

    def parameters(self) -> Parameters:
        found: dict[str, BareItem] = {}
        while match := _PARAMETER.match(self.text, self.place):
            self.place = match.end()
            key = match[1]
            if key in found:
                raise ValueError(f"the parameter {key!r} stands twice")
            found[key] = self.bare_item() if match[2] else True
        return found

    def bare_item(self) -> BareItem:
        match = self.expect(_BARE, "a string, an integer, a boolean, a token or bytes")
        kind, written = match.lastgroup, match[match.lastindex or 0]
        if kind == "string":
            return written.replace('\\"', '"').replace("\\\\", "\\") if "\\" in written else written
        if kind == "binary":
            return decode_standard(written)
        if kind == "integer":
            return int(written)
        return written == "1" if kind == "boolean" else Token(written)


@lru_cache(maxsize=128)
def _names_in(written: str) -> InnerList:
    """Pure: what a signer covers is the same list of names in message after message."""
    return InnerList(_Reader(written).items())


def serialize_bare_item(value: BareItem) -> str:
    """A bare item as it is written (RFC 9651, section 4.1.3.1). Raises ValueError for what cannot be written."""
    if isinstance(value, str):
        if not value.isascii() or not value.isprintable():
            raise ValueError("a string holds visible ASCII characters and spaces only")
        if '"' in value or "\\" in value:
            value = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{value}"'
    if isinstance(value, bool):
        return "?1" if value else "?0"
    if isinstance(value, int):
        if abs(value) > 999_999_999_999_999:
            raise ValueError("an integer has at most 15 digits")
        return str(value)
    return value.word if isinstance(value, Token) else f":{encode_standard(value)}:"


def serialize_parameters(parameters: Mapping[str, BareItem]) -> str:
    """Parameters in the order given; true is written as the bare key."""
    return "".join(
        f";{key}" if value is True else f";{key}={serialize_bare_item(value)}" for key, value in parameters.items()
    )


def serialize_item(item: Item) -> str:
    """An item with its parameters."""
    written = serialize_bare_item(item.value)
    return written + serialize_parameters(item.parameters) if item.parameters else written
