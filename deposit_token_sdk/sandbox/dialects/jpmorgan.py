"""What both versions of J.P. Morgan's dialect share: a shop's settings, its RSA key, and the agents' BIC."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from deposit_token_sdk.sandbox import keyring, payments
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.bank import merchant_of as known_merchant
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.key_files import private_key
from deposit_token_sdk.signing.keys import Algorithm, VerificationKey

BIC: Final = "CHASDEFX"
TOKEN_PATH: Final = "/adfs/oauth2/token"  # noqa: S105 - a path
RESOURCE: Final = "JPMC:URI:RS-SANDBOX"


def environment(version: int, desk: Desk, bank: Bank, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a shop, made from those of the reference API: one buyer, anna, has given an entitlement."""
    merchant = settings["DEPOSIT_TOKEN_MERCHANT"]
    path, kid = folder / f"{merchant}-rsa-key.pem", f"{merchant}-rsa-1"
    keyring.enrol(desk.db, merchant, private_key(path, Algorithm.RS256, kid).verification_key())
    common = ("BANK", "URL", "MERCHANT", "MODE", "CA_BUNDLE")
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
        **{name: settings[name] for name in (f"DEPOSIT_TOKEN_{word}" for word in common) if name in settings},
        "DEPOSIT_TOKEN_SIGNING_KEY_FILE": str(path.resolve()),
        "DEPOSIT_TOKEN_SIGNING_KEY_ID": kid,
        **{f"DEPOSIT_TOKEN_JPMORGAN_{name}": value for name, value in own.items()},
    }


def keys(desk: Desk, merchant: str) -> list[VerificationKey]:
    """The merchant's RSA keys for this API; those for another bank's have other names."""
    known = keyring.keys_of(desk.db, merchant).keys
    return [key for key in known if key.algorithm is Algorithm.RS256 and key.kid.startswith(f"{merchant}-rsa-")]
