"""``deposit-token tokens``: all tokens, and which of them may be offered where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deposit_token_sdk import tokens
from deposit_token_sdk.cli.group import group

CODES = [entry.code for entry in tokens("")]


def run(*arguments: str, **environ: str) -> Result:
    env: dict[str, str | None] = {f"DEPOSIT_TOKEN_{name}": text for name, text in environ.items()}
    for name in ("MODE", "MERCHANT_COUNTRY", "BUYER_COUNTRIES", "TOKEN_KINDS", "TOKENS_FILE", "EMBARGO_FILE"):
        env.setdefault(f"DEPOSIT_TOKEN_{name}", None)
    return CliRunner().invoke(group, ["tokens", *arguments], env=env)


def rulings(*arguments: str, **environ: str) -> dict[str, dict[str, Any]]:
    told = run(*arguments, "--json", **environ)
    assert told.exit_code == 0, told.output
    return {one["code"]: one["offer"] for one in json.loads(told.output)["tokens"]}


def test_every_token_is_listed_with_what_is_known_of_it() -> None:
    told = run()
    assert told.exit_code == 0
    head, *rows = told.output.splitlines()
    assert head.split() == "code kind currency decimals rail status public API issuer source".split()
    assert [row.split()[0] for row in rows] == CODES
    assert "deposit_token  USD       2         base" in next(row for row in rows if row.startswith("JPMD"))
    assert all(row.rstrip()[-4:].isdigit() or row[-3] == "-" for row in rows)


def test_for_mainland_china_each_is_refused_and_says_why() -> None:
    told = run("--country", "CN")
    assert told.exit_code == 0
    for code in CODES:
        assert f"\n{code} " in f"\n{told.output}"
    assert told.output.count("refused  mainland_china") == len(CODES)
    assert "this SDK's own default" in told.output
    assert "cited rule: China, joint notice Yinfa [2026] 42" in told.output
    assert "2026-02-06" in told.output
    assert f"0 allowed, {len(CODES)} refused." in told.output
    assert "no legal advice" in told.output


def test_hong_kong_is_not_the_mainland_and_hsbc_says_that_it_has_no_public_api() -> None:
    told = run("--country", "HK")
    assert (
        "HSBC-HKD               allowed\n   No rule that this SDK knows stands against it. No public API" in told.output
    )
    assert "mainland_china" not in told.output


def test_as_json_each_ruling_has_its_ground() -> None:
    found = rulings("--country", "DE")
    assert list(found) == CODES
    assert found["JPMD"]["allowed"] is True
    assert found["SBUSD"]["reason"] == "test_token"
    assert found["ANT-GROUP"]["reason"] == "halted"
    assert rulings("--country", "DE", "--mode", "test")["SBUSD"]["allowed"] is True
    assert rulings("--country", "DE", MODE="test")["SBUSD"]["allowed"] is True
    listed = json.loads(run("--json").output)["tokens"]
    assert [one["code"] for one in listed] == CODES
    assert "offer" not in listed[0]


def test_the_merchants_country_counts_too_given_or_set() -> None:
    assert {one["reason"] for one in rulings("--country", "DE", "--merchant-country", "CN").values()} == {
        "mainland_china"
    }
    assert {one["reason"] for one in rulings("--country", "DE", MERCHANT_COUNTRY="IR").values()} == {"embargo"}
    assert rulings("--country", "DE", "--merchant-country", "SG", MERCHANT_COUNTRY="IR")["JPMD"]["allowed"] is True


def test_a_country_that_there_is_not_refuses_everything() -> None:
    assert {one["reason"] for one in rulings("--country", "UK").values()} == {"country_unknown"}
    told = {one["reason"] for one in rulings("--country", "DE", "--merchant-country", "uk").values()}
    assert told == {"merchant_country_unknown"}


def test_the_shops_own_rules_and_files_count(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(
        '[[token]]\ncode = "OURS"\nname = "Ours"\nissuer = "Us"\nkind = "stablecoin"\nstatus = "live"\n'
        'public_api = true\nsource = "Us"\ndate = "2026"\n'
    )
    assert "\nOURS " in run(TOKENS_FILE=str(file)).output
    assert rulings("--country", "DE", TOKENS_FILE=str(file))["OURS"]["reason"] == "kind_not_taken"
    both = {"TOKENS_FILE": str(file), "TOKEN_KINDS": "deposit_token stablecoin"}
    assert rulings("--country", "DE", **both)["OURS"]["allowed"] is True
    assert rulings("--country", "FR", BUYER_COUNTRIES="DE", **both)["OURS"]["reason"] == "country_not_served"
    (tmp_path / "nobody.toml").write_text("")
    assert rulings("--country", "KP", EMBARGO_FILE=str(tmp_path / "nobody.toml"))["JPMD"]["allowed"] is True


@pytest.mark.parametrize("name", ["TOKENS_FILE", "EMBARGO_FILE"])
def test_a_file_that_cannot_be_read_is_a_sentence_and_exit_code_1(tmp_path: Path, name: str) -> None:
    told = run("--country", "DE", **{name: str(tmp_path / "nowhere.toml")})
    assert told.exit_code == 1
    assert "nowhere.toml cannot be read" in told.output
    assert "Traceback" not in told.output


def test_a_setting_that_cannot_be_right_is_named() -> None:
    told = run(MERCHANT_COUNTRY="Germany")
    assert told.exit_code == 1
    assert "DEPOSIT_TOKEN_MERCHANT_COUNTRY is 'Germany'" in told.output


def test_a_merchants_country_without_a_buyers_is_a_usage_error() -> None:
    assert run("--merchant-country", "DE").exit_code == 2
    assert run("--country", "DE", "--mode", "toy").exit_code == 2
