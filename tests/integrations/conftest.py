"""A shop whose work behind the pages is to be done."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from deposit_token_sdk.sandbox import Sandbox
from tests.integrations.background import Background, background


@pytest.fixture(scope="session")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("bank")) as sandbox:
        yield sandbox


@pytest.fixture
def work(bank: Sandbox, database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Background]:
    """A shop at the bank; on SQLite, and where the test is marked `databases.ON_BOTH` on PostgreSQL too."""
    notes = tmp_path / "notes"
    notes.mkdir()
    monkeypatch.setenv("NOTES", str(notes))
    with background(bank, database, notes) as shop:
        yield shop
    bank.control.clear_faults()
