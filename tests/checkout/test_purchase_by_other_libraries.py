"""A whole purchase, checked with others' libraries: a mistake that our signing and the bank's share shows here."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from joserfc import jws
from joserfc.jwk import KeySet

from tests.checkout.kit import Shop


def claims_by_joserfc(shop: Shop, statement: str) -> tuple[dict[str, Any], dict[str, Any]]:
    published = requests.get(f"{shop.bank.url}/.well-known/jwks.json", timeout=5).json()
    keys = KeySet.import_key_set({"keys": [{**key, "key_ops": ["verify"]} for key in published["keys"]]})
    verified = jws.deserialize_compact(statement, keys, algorithms=["ES256", "Ed25519"])
    return verified.headers(), json.loads(verified.payload)


def test_the_settlement_that_paid_the_order_verifies_with_joserfc_and_pyjwt(shop: Shop) -> None:
    attempt = shop.buy()
    (kept,) = shop.checkout.store.evidence("A-1")
    header, claims = claims_by_joserfc(shop, kept.evidence.content)
    assert header["typ"] == "deposit-settlement+jws"
    assert attempt.quote is not None
    assert claims["reference"] == attempt.reference
    assert int(claims["units"]) == attempt.quote.due
    assert shop.bank_received(attempt.reference) == int(claims["units"])
    key = jwt.PyJWK(json.loads(kept.evidence.keys)["keys"][0])
    assert jwt.decode(kept.evidence.content, key, audience=shop.merchant, algorithms=[header["alg"]]) == claims


def test_the_quote_verifies_with_joserfc_and_its_digest_is_in_the_settlement(shop: Shop) -> None:
    attempt = shop.buy()
    assert attempt.quote is not None
    assert attempt.quote.statement is not None
    _, quoted = claims_by_joserfc(shop, attempt.quote.statement)
    assert quoted["due"] == str(attempt.quote.due)
    digest = hashlib.sha256(attempt.quote.statement.encode()).digest()
    (kept,) = shop.checkout.store.evidence("A-1")
    _, settled = claims_by_joserfc(shop, kept.evidence.content)
    assert settled["quote_digest"] == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def test_the_webhooks_signature_verifies_with_nothing_of_ours(shop: Shop) -> None:
    attempt = shop.buy()
    headers, body = next(message for message in shop.received if attempt.reference.encode() in message[1])
    version, encoded = headers["webhook-signature"].split(" ")[0].split(",")
    public = shop.environment["DEPOSIT_TOKEN_WEBHOOK_KEYS"].split()[0].removeprefix("whpk_")
    assert version == "v1a"
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(base64.b64decode(encoded), signed)
