"""The directory of tokens: what stands in it, and that a file which is not understood whole is refused whole."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from deposit_token_sdk import ConfigurationError, tokens
from deposit_token_sdk.offers.directory import TokenStatus, directory, embargo
from deposit_token_sdk.sandbox.pricing import TOKENS as SOLD_BY_THE_SANDBOX
from deposit_token_sdk.words import TokenKind

OURS = """
[[token]]
code = "OURS"
name = "Our bank's euro"
issuer = "Our bank"
kind = "deposit_token"
currency = "EUR"
status = "pilot"
public_api = false
source = "The bank's letter"
date = "2026-11-02"
"""

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(text: str) -> str:
        file = tmp_path / "ours.toml"
        file.write_text(text, encoding="utf-8")
        return str(file)

    return write


def refused(read: Callable[[str], object], file: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as error:
        read(file)
    assert file in str(error.value)
    return error.value


def test_every_entry_says_who_what_and_since_when_with_a_source() -> None:
    for entry in tokens(""):
        assert entry.code, entry
        assert entry.name
        assert entry.issuer
        assert entry.source
        assert re.fullmatch(r"\d{4}(-\d\d){0,2}", entry.date)


def test_an_entry_without_a_public_api_that_can_be_paid_in_says_how_it_is_reached() -> None:
    paid_in = [entry for entry in tokens("") if entry.status is TokenStatus.LIVE and not entry.public_api]
    assert {"HSBC-USD", "JPMD", "AxCNH"} <= {entry.code for entry in paid_in}
    assert [entry.code for entry in paid_in if not re.search("No public API|on chain", entry.note)] == []


def test_what_has_an_address_has_a_caip_19_id() -> None:
    assert directory()["JPMD"].asset == "eip155:8453/erc20:0x7e0AEdc93d9f898bE835A44BFcA3842E52416B82"
    assert directory()["AxCNH"].asset == "eip155:1030/erc20:0x70BFD7F7eADF9b9827541272589A6B2Bb760aE2E"


def test_the_sandboxs_tokens_are_listed_as_toys_with_their_own_decimals() -> None:
    toys = {entry.code: (entry.currency, entry.decimals, entry.kind) for entry in tokens("") if entry.test}
    assert toys == {
        code: (token.currency, token.decimals, TokenKind.DEPOSIT) for code, token in SOLD_BY_THE_SANDBOX.items()
    }


def test_a_shops_own_tokens_stand_beside_ours(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(OURS)
    own = directory(file)["OURS"]
    assert (own.kind, own.status, own.decimals) == (TokenKind.DEPOSIT, TokenStatus.PILOT, None)
    assert tokens(file)[:-1] == tokens("")
    monkeypatch.setenv("DEPOSIT_TOKEN_TOKENS_FILE", file)
    assert tokens() == tokens(file)
    monkeypatch.delenv("DEPOSIT_TOKEN_TOKENS_FILE")
    assert tokens() == tokens("")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('code = "OURS"', 'code = "SBUSD"', "'SBUSD' is taken"),
        ('code = "OURS"', 'code = "axcnh"', "'axcnh' is taken"),
        ('code = "OURS"', "", "code is missing"),
        ('code = "OURS"', 'code = "OU RS"', "code is 'OU RS'"),
        ('code = "OURS"', "code = 7", "code is 7"),
        ('issuer = "Our bank"', 'issuer = "Our bank"\ncolour = "red"', "no key 'colour'"),
        ('issuer = "Our bank"', 'issuer = " "', "issuer is ' '"),
        ('kind = "deposit_token"', 'kind = "deposit"', "kind is 'deposit'"),
        ('kind = "deposit_token"', 'kind = "cheque"', "one of deposit_token, stablecoin is due"),
        ('status = "pilot"', 'status = "Live"', "status is 'Live'"),
        ('currency = "EUR"', 'currency = "EUROS"', "currency is 'EUROS'"),
        ('currency = "EUR"', 'currency = "EUR"\ndecimals = 2.0', "decimals is 2.0"),
        ('currency = "EUR"', 'currency = "EUR"\ndecimals = true', "decimals is True"),
        ('currency = "EUR"', 'currency = "EUR"\ndecimals = -1', "decimals is -1"),
        ('currency = "EUR"', 'currency = "EUR"\nasset = "0x7e0A"', "CAIP-19"),
        ('currency = "EUR"', 'currency = "EUR"\nlicensed = ["UK"]', "licensed is ['UK']"),
        ('currency = "EUR"', 'currency = "EUR"\nlicensed = "HK"', "licensed is 'HK'"),
        ("public_api = false", 'public_api = "no"', "public_api is 'no'"),
        ("public_api = false", 'public_api = false\ntest = "yes"', "test is 'yes'"),
        ('source = "The bank\'s letter"', "", "source is missing"),
        ('date = "2026-11-02"', "", "date is missing"),
        ('date = "2026-11-02"', 'date = "last week"', "date is 'last week'"),
        ('date = "2026-11-02"', "date = 2026-11-02", "date is datetime.date"),
        ("[[token]]", "[[tokens]]", "it has 'tokens'"),
        ("[[token]]", "[token]", "entries of [[token]]"),
        ("[[token]]", "[[token", "is no TOML"),
    ],
)
def test_a_token_that_is_not_understood_is_refused_with_file_and_entry(
    write: Write, old: str, new: str, told: str
) -> None:
    assert old in OURS
    error = refused(directory, write(OURS.replace(old, new)))
    assert error.reason == "tokens_file"
    assert told in str(error)


def test_the_same_code_twice_in_one_file_is_refused(write: Write) -> None:
    assert "[[token]] 2: the code 'OURS' is taken" in str(refused(directory, write(OURS + OURS)))


@pytest.mark.parametrize(("read", "reason"), [(directory, "tokens_file"), (embargo, "embargo_file")])
def test_a_file_that_is_not_there_or_no_text_is_refused(
    tmp_path: Path, read: Callable[[str], object], reason: str
) -> None:
    assert refused(read, str(tmp_path / "nowhere.toml")).reason == reason
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert refused(read, str(tmp_path / "bytes.toml")).reason == reason
    assert refused(read, str(tmp_path)).reason == reason


def test_a_shops_embargo_list_stands_in_place_of_ours(write: Write) -> None:
    assert embargo().keys() == {"CU", "IR", "KP"}
    file = write('[[country]]\ncode = "SY"\nsource = "Our counsel"\ndate = "2026"\n')
    assert {code: rule.source for code, rule in embargo(file).items()} == {"SY": "Our counsel"}


@pytest.mark.parametrize(
    "text",
    [
        '[[country]]\ncode = "XX"\nsource = "s"\ndate = "2026"\n',
        '[[country]]\ncode = "SY"\ndate = "2026"\n',
        '[[country]]\ncode = "SY"\nsource = "s"\ndate = "2026"\nname = "Syria"\n',
        '[[country]]\ncode = "SY"\nsource = "s"\ndate = "2026"\n' * 2,
        'countries = ["SY"]\n',
    ],
)
def test_an_embargo_list_that_is_not_understood_is_refused(write: Write, text: str) -> None:
    assert refused(embargo, write(text)).reason == "embargo_file"


def test_an_empty_file_of_embargoes_embargoes_nobody(write: Write) -> None:
    assert embargo(write("")) == {}
