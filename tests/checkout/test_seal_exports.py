"""What is made of an export's lines, whoever wrote them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from attrs import evolve
from sqlalchemy import Engine

from deposit_token_sdk.checkout import archive, proving
from deposit_token_sdk.checkout.proving import Outside, Worth
from tests.checkout.sealed import Keeper, Named


@pytest.fixture
def keeper(database: Engine) -> Keeper:
    keeper = Keeper(database)
    keeper.everything()
    return keeper


@pytest.fixture
def outside(keeper: Keeper) -> Outside:
    return keeper.outside


def event(number: int) -> str:
    return f'["sandbox-bank","msg-{number}"]'


def appended(folder: Path, name: str, number: int, **changes: object) -> None:
    """Another line in an exported file, made of one that is there."""
    lines = (folder / name).read_text().splitlines()
    with (folder / name).open("a") as file:
        file.write(json.dumps({**json.loads(lines[number]), **changes}) + "\n")


def test_a_row_told_twice_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    folder = keeper.export(tmp_path / "export")
    appended(folder, "events.jsonl", 0)
    rows = Named(proving.prove(archive.Archive.open(folder), outside)).rows
    assert rows == {("altered", "events", event(1))}


def test_a_row_filed_under_another_name_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    folder = keeper.export(tmp_path / "export")
    appended(folder, "events.jsonl", 0, key=event(7))
    rows = Named(proving.prove(archive.Archive.open(folder), outside)).rows
    assert rows == {("altered", "events", event(7))}


def test_a_second_leaf_for_a_row_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    folder = keeper.export(tmp_path / "export")
    appended(folder, "leaves.jsonl", 0, hash="A" * 43)
    (found,) = proving.prove(archive.Archive.open(folder), outside).findings
    assert (found.what, found.detail) == ("leaf_altered", "it has two leaves: one was added")


def test_a_shop_without_a_single_seal_has_proven_nothing_but_its_confirmations(
    database: Engine, tmp_path: Path
) -> None:
    keeper = Keeper(database)
    keeper.pay()
    report = keeper.proven(tmp_path / "export", evolve(keeper.outside, head=None))
    assert (report.worth, report.seals, report.unsealed) == (Worth.CONSISTENT, 0, {"evidence": 2, "fulfilments": 1})
    assert not (tmp_path / "export/head.json").exists()


def test_an_unsigned_chain_is_proven_by_its_head_and_refused_where_a_key_is_pinned(
    database: Engine, tmp_path: Path
) -> None:
    keeper = Keeper(database, key=None)
    keeper.everything()
    pins = frozenset({keeper.bank.keys.keys[0].thumbprint()})
    assert keeper.proven(tmp_path / "head", Outside(pins, head=keeper.store.seals.last())).worth is Worth.PROVEN
    pinned = keeper.proven(tmp_path / "pin", Outside(pins, frozenset({"A" * 43})))
    assert Named(pinned).rows == {("other_seal_key", "seals", "1"), ("other_seal_key", "seals", "2")}
