"""What both versions of J.P. Morgan's dialect share: a shop's settings, its RSA key, and the agents' BIC."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deposit_token_sdk.sandbox import keyring, payments
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.bank import merchant_of as known_merchant
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.signing.keys import Algorithm, SigningKey, VerificationKey

BIC: Final = "CHASDEFX"
TOKEN_PATH: Final = "/adfs/oauth2/token"  # noqa: S105 - a path
RESOURCE: Final = "JPMC:URI:RS-SANDBOX"


def environment(version: int, desk: Desk, bank: Bank, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a shop, made from those of the reference API: one buyer, anna, has given an entitlement."""
    merchant = settings["DEPOSIT_TOKEN_MERCHANT"]
    path, kid = folder / f"{merchant}-rsa-key.pem", f"{merchant}-rsa-1"
    keyring.enrol(desk.db, merchant, _private_key(path, kid).verification_key())
    common = ("BANK", "URL", "MERCHANT", "MODE")
    own = {
        "VERSION": str(version),
        "ACCOUNT": f"{payments.number_of('merchant', merchant)}:BDA:{BIC}",
        "NAME": known_merchant(desk, merchant)[0],
        "DEBTORS": f"anna={payments.number_of('buyer', 'anna')}:BDA:{BIC}",
        "TOKENS": "SBEUR=EUR:2 SBUSD=USD:2",
    }
    if version == 2:
        address = settings["DEPOSIT_TOKEN_URL"]
        own |= {"TOKEN_URL": f"{address}{TOKEN_PATH}", "CLIENT_ID": merchant, "RESOURCE": RESOURCE}
    return {
        "DEPOSIT_TOKEN_ISSUER": "jpmorgan",
        **{f"DEPOSIT_TOKEN_{name}": settings[f"DEPOSIT_TOKEN_{name}"] for name in common},
        "DEPOSIT_TOKEN_SIGNING_KEY_FILE": str(path.resolve()),
        "DEPOSIT_TOKEN_SIGNING_KEY_ID": kid,
        **{f"DEPOSIT_TOKEN_JPMORGAN_{name}": value for name, value in own.items()},
    }


def keys(desk: Desk, merchant: str) -> list[VerificationKey]:
    """The merchant's RSA keys."""
    return [key for key in keyring.keys_of(desk.db, merchant).keys if key.algorithm is Algorithm.RS256]


def _private_key(path: Path, kid: str) -> SigningKey:
    """The key in that file; made, for its owner's eyes only, if there is none."""
    try:
        return SigningKey.from_pem(path.read_bytes(), Algorithm.RS256, kid)
    except FileNotFoundError:
        key = SigningKey.generate(Algorithm.RS256, kid)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - no Path opens with a mode
        file.write(key.to_pem())
    return key
