"""A bank, a shop and an inbox for each test; afterwards the bank's books must hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from deposit_token_sdk.sandbox import Sandbox
from tests.sandbox.shop import Inbox, Shop


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "bank", webhook_schedule=(0.0, 0.02, 0.02)) as running:
        yield running
        assert running.control.audit() == []


@pytest.fixture
def shop(bank: Sandbox) -> Iterator[Shop]:
    made = Shop(bank)
    yield made
    made.http.close()


@pytest.fixture
def inbox(bank: Sandbox) -> Iterator[Inbox]:
    made = Inbox()
    bank.control.set_webhook_url(made.url)
    yield made
    bank.control.set_webhook_url(None)
    made.close()


@pytest.fixture
def browser() -> Iterator[requests.Session]:
    """Whoever knocks without a key."""
    with requests.Session() as session:
        session.trust_env = False
        yield session
