"""docs/issuers/tokens.md names every token and every reason there is, and its files can be read as they stand."""

from __future__ import annotations

import re
from pathlib import Path

from deposit_token_sdk.offers.directory import directory, embargo, tokens
from deposit_token_sdk.offers.policy import REASONS

PAGE = (Path(__file__).parents[2] / "docs/issuers/tokens.md").read_text(encoding="utf-8")


def first_cells(heading: str) -> set[str]:
    """The code words in the first column of the table that follows a heading."""
    table = PAGE.partition(f"## {heading}\n")[2].partition("\n|")[2].partition("\n\n")[0]
    return {word for row in table.splitlines() for word in re.findall(r"`([^`]+)`", row.lstrip("|").partition("|")[0])}


def test_every_token_is_named() -> None:
    told = {f"HSBC{word}" if word.startswith("-") else word for word in first_cells("What is listed")}
    assert told == {entry.code for entry in tokens("")}


def test_every_reason_is_named_and_no_other() -> None:
    assert first_cells("What is decided") == set(REASONS)


def test_the_files_of_the_page_can_be_read(tmp_path: Path) -> None:
    ours, theirs = re.findall(r"^```toml\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "ours.toml").write_text(ours, encoding="utf-8")
    (tmp_path / "theirs.toml").write_text(theirs, encoding="utf-8")
    assert directory(str(tmp_path / "ours.toml"))["OURS"].decimals == 2
    assert embargo(str(tmp_path / "theirs.toml")).keys() == {"KP"}


def test_it_says_plainly_that_it_is_no_legal_advice() -> None:
    assert "This is a guard rail and no legal advice." in PAGE
