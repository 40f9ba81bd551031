"""Webhooks between us and the Standard Webhooks reference library, which knows `v1` only and real time only."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.signing.base64url import encode_standard
from deposit_token_sdk.signing.standard_webhooks import Verifier, WebhookSigner

SECRET = f"whsec_{encode_standard(bytes(range(1, 33)))}"
BODY = '{"type":"invoice.settled","note":"Zoë"}'


def test_the_reference_library_verifies_what_we_sign() -> None:
    headers = WebhookSigner(SECRET).sign("msg_1", int(time.time()), BODY.encode())
    assert Webhook(SECRET).verify(BODY, headers) == {"type": "invoice.settled", "note": "Zoë"}
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY + " ", headers)


def test_the_reference_library_finds_its_signature_beside_our_asymmetric_one() -> None:
    now = int(time.time())
    headers = WebhookSigner(SECRET).sign("msg_1", now, BODY.encode())
    asymmetric, _ = WebhookSigner.generate()
    headers["webhook-signature"] = f"{asymmetric.signature('msg_1', now, BODY.encode())} {headers['webhook-signature']}"
    assert Webhook(SECRET).verify(BODY, headers)
    assert Verifier([asymmetric.public_text]).verify(headers, BODY.encode(), now=now) == "msg_1"


def test_we_verify_what_the_reference_library_signs() -> None:
    moment = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    headers = {
        "Webhook-Id": "msg_2",
        "Webhook-Timestamp": str(int(moment.timestamp())),
        "Webhook-Signature": Webhook(SECRET).sign("msg_2", moment, BODY),
    }
    verifier = Verifier([SECRET])
    assert verifier.verify(headers, BODY.encode(), now=moment.timestamp()) == "msg_2"
    with pytest.raises(NotGenuine) as refused:
        verifier.verify(headers, BODY.encode() + b" ", now=moment.timestamp())
    assert refused.value.reason == "signature_mismatch"
