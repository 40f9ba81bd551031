from __future__ import annotations

import pytest

from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from tests.evidence.bank import Bank


@pytest.fixture(scope="session")
def bank() -> Bank:
    return Bank(SigningKey.generate(Algorithm.ES256, "stmt-1"))
