"""Our own issuers pass the suite that every issuer passes; ``pytest --issuer NAME -m conformance`` runs one of them."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from deposit_token_sdk.testing.issuers import IssuerConformance

pytestmark = pytest.mark.conformance

HURRIED = {"DEPOSIT_TOKEN_JPMORGAN_UNSEEN_FOR": "30", "DEPOSIT_TOKEN_JPMORGAN_KEY_LIFETIME": "2"}
"""Together as long as `Collected.unseen_for`, and not below what a call may take."""


class TestIssuers(IssuerConformance):
    ISSUERS = ("reference", "antom", "jpmorgan", "jpmorgan-v1")
    SETTINGS = MappingProxyType({"jpmorgan": HURRIED, "jpmorgan-v1": HURRIED})
