"""A bank's messages to measure with: keys, settings, events, statements and an invoice, many of each.

No two are alike, so that nothing is quick merely because it was just seen.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.base64url import encode_url
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey

BANK, MERCHANT, INSTALLATION = "sandbox-bank", "demo-shop", "k7Qm2xVb"
COUNT = 64
"""Messages of each kind."""

BODY = 2048
"""Bytes of a webhook's body."""

MERCHANT_KEY = SigningKey.generate(Algorithm.ED25519, "demo-shop-1")
STATEMENT_KEY = SigningKey.generate(Algorithm.ES256, "statements-1")
ANSWER_KEY = SigningKey.generate(Algorithm.ED25519, "answers-1")
KEYS = KeySet(
    (STATEMENT_KEY.verification_key(purpose="statement"), ANSWER_KEY.verification_key(purpose="answer")),
)


def issuer(
    url: str = "http://127.0.0.1:8001", *, webhook_keys: Sequence[str] = (), signed: bool = True
) -> ReferenceIssuer:
    """The client's side of the bank at this address, as settings make it."""
    with TemporaryDirectory() as folder:
        return ReferenceIssuer(Settings.from_env(environment(Path(folder), url, webhook_keys, signed=signed)))


def environment(
    folder: Path, url: str = "http://127.0.0.1:8001", webhook_keys: Sequence[str] = (), *, signed: bool = True
) -> dict[str, str]:
    """The DEPOSIT_TOKEN_* variables of a shop at this bank; the bank's keys are written into the folder."""
    jwks = folder / "jwks.json"
    jwks.write_bytes(strict_json.dumps(KEYS.jwks()))
    settings = {
        "BANK": BANK,
        "URL": url,
        "MERCHANT": MERCHANT,
        "MODE": "test",
        "SIGNING_KEY": MERCHANT_KEY.to_pem().decode(),
        "SIGNING_KEY_ID": MERCHANT_KEY.kid,
        "MESSAGE_SIGNATURES": "on" if signed else "off",
        "WEBHOOK_KEYS": " ".join(webhook_keys),
        "JWKS_FILE": str(jwks),
    }
    return {f"DEPOSIT_TOKEN_{name}": value for name, value in settings.items()}


def digest(number: int) -> str:
    """A quote's digest."""
    return encode_url(hashlib.sha256(b"%d" % number).digest())


def settlement(number: int, issued_at: int) -> str:
    """A settlement statement, signed with ES256."""
    claims = {
        "iss": BANK,
        "aud": MERCHANT,
        "iat": issued_at,
        "jti": f"st_{number:012}",
        "installation": INSTALLATION,
        "mode": "test",
        "invoice": f"inv_{number:012}",
        "reference": f"{INSTALLATION}{number:012}",
        "token": "SBUSD",
        "quote_digest": digest(number),
        "movement": f"mov_{number:012}",
        "units": "14100",
        "accepted_at": "2026-11-24T09:30:00Z",
    }
    return jws.sign(strict_json.dumps(claims), STATEMENT_KEY, "deposit-settlement+jws")


def invoice(number: int, url: str) -> dict[str, Any]:
    """An invoice as the reference API answers it."""
    return {
        "id": f"inv_{number:012}",
        "reference": f"{INSTALLATION}{number:012}",
        "merchant": MERCHANT,
        "installation": INSTALLATION,
        "mode": "test",
        "token": "SBUSD",
        "due": "14100",
        "quote_digest": digest(number),
        "status": "open",
        "version": 1,
        "created_at": "2026-11-24T09:20:00Z",
        "expires_at": "2026-11-24T09:35:00Z",
        "pay_url": f"{url}/pay/{digest(number)}",
        "capture": "automatic",
        "movements": [],
        "refunds": [],
    }


def event(number: int, issued_at: int) -> bytes:
    """The body of an `invoice.settled` webhook, filled up to its size with a member of no meaning."""
    body = {
        "type": "invoice.settled",
        "timestamp": "2026-11-24T09:30:01Z",
        "data": {
            "merchant": MERCHANT,
            "installation": INSTALLATION,
            "mode": "test",
            "invoice": f"inv_{number:012}",
            "reference": f"{INSTALLATION}{number:012}",
            "version": 3,
            "status": "paid",
            "movement": {
                "id": f"mov_{number:012}",
                "kind": "payment",
                "status": "settled",
                "units": "14100",
                "accepted_at": "2026-11-24T09:30:00Z",
            },
            "statement": settlement(number, issued_at),
            "memo": "",
        },
    }
    missing = BODY - len(_compact(body))
    body["data"]["memo"] = "m" * missing  # type: ignore[index]  # the body above is nested, its type is not
    return _compact(body)


def delivered(webhook_headers: dict[str, str]) -> dict[str, str]:
    """A webhook's headers as a web framework hands them over, among the usual others."""
    return {
        "Host": "shop.example",
        "User-Agent": "sandbox-bank/1.0",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "Content-Length": str(BODY),
        "Connection": "keep-alive",
        **{name.title(): value for name, value in webhook_headers.items()},
    }


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
