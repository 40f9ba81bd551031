"""Which tokens and issuers there are, and which countries are under an embargo: two files, read strictly.

What stands in a file is a fact with its source and date; what follows from it is `policy`'s. A shop adds tokens by a
file of its own and replaces the embargo list by one. A file that is not understood whole is refused whole, by name.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

from attrs import NOTHING, Attribute, field, fields, frozen

from deposit_token_sdk.errors import ConfigurationError, InvalidInput
from deposit_token_sdk.money import Money
from deposit_token_sdk.settings import KINDS, PREFIX
from deposit_token_sdk.words import COUNTRIES, TokenKind

HERE: Final = Path(__file__).parent
TOKENS: Final = HERE / "tokens.toml"
"""The tokens this SDK lists; a shop's own file is read beside it."""
EMBARGO: Final = HERE / "embargo.toml"
"""The embargo list that holds where a shop names none."""

_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DATE: Final = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")
_CAIP_19: Final = re.compile(r"[-a-z0-9]{3,8}:[-_a-zA-Z0-9]{1,32}/[-a-z0-9]{3,8}:[-.%a-zA-Z0-9]{1,128}")
_MOST_DECIMALS: Final = 36


class TokenStatus(StrEnum):
    """How far a token has come. Only LIVE and PILOT can be paid in."""

    LIVE = "live"
    PILOT = "pilot"
    ANNOUNCED = "announced"
    HALTED = "halted"


@frozen
class TokenEntry:
    """A token, or an issuer of which no token is known, as public sources have it; None and empty: not known.

    `asset` is a CAIP-19 id; `date` a day, month or year (ISO 8601) of the fact that `source` tells. `licensed` are
    jurisdictions (ISO 3166) that have licensed the issuer of a stablecoin. `test` marks a toy of the sandbox, `default`
    says why this SDK refuses the token unless the shop accepts it by name.
    """

    code: str
    name: str
    issuer: str
    source: str
    date: str
    public_api: bool
    kind: TokenKind | None = None
    status: TokenStatus | None = None
    currency: str | None = None
    decimals: int | None = None
    rail: str | None = None
    asset: str | None = None
    licensed: frozenset[str] = field(default=frozenset())
    test: bool = False
    default: str = ""
    note: str = ""


@frozen
class Embargo:
    """A country under a comprehensive embargo, by which rule, and of when that is."""

    code: str
    source: str
    date: str


def tokens(file: str | None = None) -> tuple[TokenEntry, ...]:
    """Every token and issuer that is known: this SDK's, then those of the shop's own file.

    `file` is its path; by default DEPOSIT_TOKEN_TOKENS_FILE names it. Raises ConfigurationError (``tokens_file``),
    naming file and entry.
    """
    named = os.environ.get(f"{PREFIX}TOKENS_FILE", "").strip() if file is None else file
    return tuple(directory(named).values())


@cache
def directory(file: str = "") -> Mapping[str, TokenEntry]:
    """The same by code, read once for each path. Raises ConfigurationError (``tokens_file``)."""
    known = _Reader("tokens_file", TOKENS).read("token", TokenEntry, _TOKEN)
    if not file:
        return known
    return known | _Reader("tokens_file", Path(file), known).read("token", TokenEntry, _TOKEN)


@cache
def embargo(file: str = "") -> Mapping[str, Embargo]:
    """The embargoed countries by code: of this file, else of this SDK's list; read once for each path.

    Raises ConfigurationError (``embargo_file``), naming file and entry.
    """
    return _Reader("embargo_file", Path(file) if file else EMBARGO).read("country", Embargo, _EMBARGO)


class _Wrong(Exception):
    """What is due in place of a value."""


Check = Callable[[Any], Any]


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise _Wrong("a text of one line")
    return value


def _matching(pattern: re.Pattern[str], due: str) -> Check:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise _Wrong(due)
        return value

    return check


def _one_of(words: Mapping[str, Any]) -> Check:
    def check(value: Any) -> Any:
        if not isinstance(value, str) or value not in words:
            raise _Wrong(f"one of {', '.join(words)}")
        return words[value]

    return check


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false")
    return value


def _decimals(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MOST_DECIMALS:
        raise _Wrong(f"a whole number from 0 to {_MOST_DECIMALS}")
    return value


def _currency(value: Any) -> str:
    try:
        return Money("1", _text(value)).currency
    except InvalidInput:
        raise _Wrong("a currency's code (ISO 4217, or CNH)") from None


def _country(value: Any) -> str:
    if not isinstance(value, str) or value not in COUNTRIES:
        raise _Wrong("a country's ISO 3166 alpha-2 code")
    return value


def _countries(value: Any) -> frozenset[str]:
    if not isinstance(value, list):
        raise _Wrong("a list of countries")
    return frozenset(map(_country, value))


_SOURCE: Final[dict[str, Check]] = {
    "source": _text,
    "date": _matching(_DATE, "a day, a month or a year, as 2026-02-06, 2026-02 or 2026"),
}
_TOKEN: Final[dict[str, Check]] = _SOURCE | {
    "code": _matching(_CODE, "a code of letters, digits, points, hyphens and underscores"),
    "name": _text,
    "issuer": _text,
    "public_api": _flag,
    "kind": _one_of(KINDS),
    "status": _one_of({status.value: status for status in TokenStatus}),
    "currency": _currency,
    "decimals": _decimals,
    "rail": _text,
    "asset": _matching(_CAIP_19, "a CAIP-19 id, as eip155:8453/erc20:0x…"),
    "licensed": _countries,
    "test": _flag,
    "default": _text,
    "note": _text,
}
_EMBARGO: Final[dict[str, Check]] = _SOURCE | {"code": _country}


@frozen
class _Reader:
    """One file; `known` are the codes that stand elsewhere already, letters large or small."""

    reason: str
    path: Path
    known: Iterable[str] = ()

    def read(self, name: str, kind: Callable[..., Any], checks: Mapping[str, Check]) -> dict[str, Any]:
        """The entries of ``[[name]]``, by code."""
        try:
            content = tomllib.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, UnicodeError) as error:
            self.refuse(f"cannot be read ({type(error).__name__})")
        except tomllib.TOMLDecodeError as error:
            self.refuse(f"is no TOML: {error}")
        listed = content.pop(name, [])
        if content or not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            stranger = f": it has {min(content)!r}" if content else ""
            self.refuse(f"must hold entries of [[{name}]] and nothing else{stranger}")
        found: dict[str, Any] = {}
        taken = {code.upper() for code in self.known}
        for number, entry in enumerate(listed, 1):
            made = self.entry(f"[[{name}]] {number} ({entry.get('code', 'without a code')})", entry, kind, checks)
            if made.code.upper() in taken:
                self.refuse(f"[[{name}]] {number}: the code {made.code!r} is taken: choose another")
            taken.add(made.code.upper())
            found[made.code] = made
        return found

    def entry(self, where: str, entry: dict[str, Any], kind: Callable[..., Any], checks: Mapping[str, Check]) -> Any:
        """One entry, every value of it checked."""
        strangers = sorted(set(entry) - set(checks))
        if strangers:
            self.refuse(f"{where}: there is no key {strangers[0]!r}, only {', '.join(sorted(checks))}")
        missing = sorted(_required(kind) - set(entry))
        if missing:
            self.refuse(f"{where}: {missing[0]} is missing")
        values = {}
        for key, value in entry.items():
            try:
                values[key] = checks[key](value)
            except _Wrong as due:
                self.refuse(f"{where}: {key} is {value!r}, but {due} is due")
        return kind(**values)

    def refuse(self, what: str) -> NoReturn:
        raise ConfigurationError(self.reason, f"{self.path} {what}. Mend the file; docs/issuers/tokens.md says how.")


def _required(kind: Any) -> set[str]:
    made: tuple[Attribute[Any], ...] = fields(kind)
    return {one.name for one in made if one.default is NOTHING}
