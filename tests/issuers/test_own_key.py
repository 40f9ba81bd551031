"""A shop that mixes up its own keys and the bank's is told so, by name."""

from __future__ import annotations

import time

import pytest

from deposit_token_sdk.errors import ConfigurationError, NotGenuine
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing.base64url import encode_standard
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner, webhook_text

OURS = SigningKey.generate(Algorithm.ED25519, "shop-1")
BANKS, _ = WebhookSigner.generate()


def settings(webhook_key: str) -> Settings:
    return Settings.from_env(
        {
            "DEPOSIT_TOKEN_BANK": "bank",
            "DEPOSIT_TOKEN_URL": "https://bank.example",
            "DEPOSIT_TOKEN_MERCHANT": "shop",
            "DEPOSIT_TOKEN_MODE": "test",
            "DEPOSIT_TOKEN_SIGNING_KEY": OURS.to_pem().decode(),
            "DEPOSIT_TOKEN_SIGNING_KEY_ID": OURS.kid,
            "DEPOSIT_TOKEN_WEBHOOK_KEYS": webhook_key,
        }
    )


def test_a_shops_own_public_key_is_refused_where_the_banks_is_due() -> None:
    with pytest.raises(ConfigurationError) as refused:
        ReferenceIssuer(settings(webhook_text(OURS.verification_key())))
    assert refused.value.reason == "own_webhook_key"


def test_a_webhook_signed_with_the_shops_own_key_says_so() -> None:
    issuer = ReferenceIssuer(settings(BANKS.public_text))
    now, body = int(time.time()), b"{}"
    signature = encode_standard(OURS.sign(f"msg_1.{now}.".encode() + body))
    headers = {"webhook-id": "msg_1", "webhook-timestamp": str(now), "webhook-signature": f"v1a,{signature}"}
    with pytest.raises(NotGenuine) as refused:
        issuer.event(headers, body, now)
    assert refused.value.reason == "signature_mismatch"
    assert "your own signing key" in str(refused.value)
