"""The bank double, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import responses

from deposit_token_sdk.client import Client
from tests.issuers.bank_double import Bank


@pytest.fixture
def bank() -> Iterator[Bank]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        double = Bank(mock)
        double.publish()
        yield double


@pytest.fixture
def client(bank: Bank) -> Client:
    return bank.client()
