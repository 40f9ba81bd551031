"""Keys that the signing tests share; made once, since RSA takes its time."""

from __future__ import annotations

import pytest

from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey


@pytest.fixture(scope="session")
def ed25519() -> SigningKey:
    return SigningKey.generate(Algorithm.ED25519, "ed-1")


@pytest.fixture(scope="session")
def es256() -> SigningKey:
    return SigningKey.generate(Algorithm.ES256, "es-1")


@pytest.fixture(scope="session")
def ps256() -> SigningKey:
    return SigningKey.generate(Algorithm.PS256, "ps-1")


@pytest.fixture(scope="session")
def rs256() -> SigningKey:
    return SigningKey.generate(Algorithm.RS256, "rs-1")


@pytest.fixture(scope="session")
def statement_keys(ed25519: SigningKey, es256: SigningKey, ps256: SigningKey, rs256: SigningKey) -> KeySet:
    return KeySet(tuple(key.verification_key(purpose="statement") for key in (ed25519, es256, ps256, rs256)))
