"""Our own issuers pass the suite that every issuer passes; ``pytest --issuer NAME -m conformance`` runs one of them."""

from __future__ import annotations

import pytest

from deposit_token_sdk.testing.issuers import IssuerConformance

pytestmark = pytest.mark.conformance


class TestIssuers(IssuerConformance):
    ISSUERS = ("reference", "antom")
