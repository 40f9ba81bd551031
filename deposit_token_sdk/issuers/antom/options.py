"""The settings of an Antom client beyond the common ones, named ``DEPOSIT_TOKEN_ANTOM_…``, checked before any call.

Gateways are those that Antom publishes, by region. What Antom agrees with a merchant (payment methods, the product
scene) is a setting and never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from deposit_token_sdk.errors import ConfigurationError, InvalidInput, Unreadable
from deposit_token_sdk.issuers.antom.amounts import digits_of
from deposit_token_sdk.models import Mode
from deposit_token_sdk.settings import PREFIX, Secret, Settings, invalid
from deposit_token_sdk.signing import rsa256
from deposit_token_sdk.signing.keys import KeySet, SigningKey

OWN: Final = "ANTOM_"

TABLE: Final[dict[str, tuple[str | None, str]]] = {
    "TOKENS": (
        None,
        "Tokens taken: `CODE=CURRENCY:METHOD`, METHOD being Antom's paymentMethodType; several by spaces.",
    ),
    "PUBLIC_KEY": ("", "Antom's public key, as its dashboard shows it (base64), as PEM, or as a JWK set."),
    "PUBLIC_KEY_FILE": ("", "A file with that key, instead of the key itself."),
    "WEBHOOK_PATH": (
        "",
        "Path of the notification address, which the signature covers; `/webhooks/<bank>` if not set.",
    ),
    "PRODUCT_SCENE": ("", "`productScene` of a session, as agreed with Antom; left out where it is not set."),
    "SETTLEMENT_CURRENCY": ("", "`settlementCurrency` of a session; left out where it is not set."),
}
"""Every setting after ``DEPOSIT_TOKEN_ANTOM_``: its default (None where it must be given) and its meaning."""

GATEWAYS: Final[Mapping[str, str]] = {
    "na": "https://open-na-global.alipay.com",
    "sea": "https://open-sea-global.alipay.com",
    "de": "https://open-de-global.alipay.com",
}
"""Antom's regional gateways, by the name that DEPOSIT_TOKEN_URL may give."""
SANDBOX: Final = "SANDBOX_"
"""What a client id of the sandbox begins with."""

_TOKEN: Final = re.compile(r"([A-Z][A-Z0-9.-]{1,19})=([A-Z]{3}):([A-Z0-9_]{1,64})", re.ASCII)
_PATH: Final = re.compile(r"/[!-~]{0,500}", re.ASCII)


@frozen
class Method:
    """A token that is paid in: Antom's payment method and the currency it is paid in."""

    code: str
    currency: str
    method: str

    @property
    def decimals(self) -> int:
        """The token's decimals: its smallest unit is Antom's minor unit."""
        return digits_of(self.currency)

    @classmethod
    def parse(cls, text: str) -> Method | None:
        """From ``CODE=CURRENCY:METHOD``; None where it is not written so."""
        found = _TOKEN.fullmatch(text)
        return None if found is None else cls(*found.groups())

    def __str__(self) -> str:
        return f"{self.code}={self.currency}:{self.method}"


@frozen
class Options:
    """The settings, checked. `url` is the gateway, `prefix` what an operation's path begins with."""

    url: str
    prefix: str
    methods: Mapping[str, Method]
    key: SigningKey
    keys: KeySet
    webhook_path: str
    product_scene: str
    settlement_currency: str

    @classmethod
    def of(cls, settings: Settings) -> Options:
        """Read and check them. Raises ConfigurationError (``setting_missing``, ``setting_unknown``,
        ``setting_invalid``, ``mode_mismatch``, ``bad_key``), naming each one."""
        text = _texts(settings.own)
        sandbox = settings.merchant.startswith(SANDBOX)
        if sandbox is not (settings.mode is Mode.TEST):
            raise ConfigurationError(
                "mode_mismatch",
                f"DEPOSIT_TOKEN_MODE is {settings.mode}, but a client id of Antom's sandbox begins with {SANDBOX} and "
                f"no other does: DEPOSIT_TOKEN_MERCHANT is the client id of the other mode.",
            )
        if not settings.signing_key:
            raise ConfigurationError(
                "setting_missing", "Set DEPOSIT_TOKEN_SIGNING_KEY_FILE: the private key whose public half Antom has."
            )
        version = settings.signing_key_id or "1"
        return cls(
            url=_gateway(settings.url),
            prefix="/ams/sandbox/api/v1" if sandbox else "/ams/api/v1",
            methods=_methods(text["TOKENS"]),
            key=rsa256.signing_key(settings.signing_key.reveal(), version),
            keys=_public_keys(text),
            webhook_path=_path(text["WEBHOOK_PATH"] or f"/webhooks/{settings.bank}"),
            product_scene=text["PRODUCT_SCENE"],
            settlement_currency=_currency("SETTLEMENT_CURRENCY", text["SETTLEMENT_CURRENCY"]),
        )


def _texts(own: Mapping[str, Secret]) -> dict[str, str]:
    unknown = [f"{PREFIX}{OWN}{name}" for name in own if name not in TABLE]
    if unknown:
        raise ConfigurationError(
            "setting_unknown", f"There is no setting {', '.join(sorted(unknown))}: docs/issuers/antom.md lists them."
        )
    given = {name: own[name].reveal() if name in own else "" for name in TABLE}
    missing = [f"{PREFIX}{OWN}{name}" for name, (default, _) in TABLE.items() if default is None and not given[name]]
    if missing:
        raise ConfigurationError("setting_missing", f"Set {', '.join(missing)}: docs/issuers/antom.md says what to.")
    return given


def _gateway(url: str) -> str:
    if "://" in url:
        return url
    if url not in GATEWAYS:
        raise invalid("URL", f"is {url!r}: one of {', '.join(GATEWAYS)} is due, or an https address")
    return GATEWAYS[url]


def _methods(text: str) -> dict[str, Method]:
    found: dict[str, Method] = {}
    for word in text.split():
        method = Method.parse(word)
        if method is None or method.code in found:
            raise _bad("TOKENS", f"holds {word[:60]!r}: CODE=CURRENCY:METHOD is due, each code once")
        _currency("TOKENS", method.currency)
        if any((one.currency, one.method) == (method.currency, method.method) for one in found.values()):
            raise _bad("TOKENS", f"names {method.method} in {method.currency} twice: no payment would tell which it is")
        found[method.code] = method
    return found


def _public_keys(text: dict[str, str]) -> KeySet:
    if bool(text["PUBLIC_KEY"]) is bool(text["PUBLIC_KEY_FILE"]):
        raise _bad("PUBLIC_KEY", f"or {PREFIX}{OWN}PUBLIC_KEY_FILE is due, and not both")
    shown = text["PUBLIC_KEY"].replace("\\n", "\n")
    if not shown:
        try:
            shown = Path(text["PUBLIC_KEY_FILE"]).read_text(encoding="ascii")
        except (OSError, UnicodeError) as error:
            raise _bad("PUBLIC_KEY_FILE", f"cannot be read ({type(error).__name__})") from None
    try:
        return rsa256.public_keys(shown, "1")
    except Unreadable as error:
        raise _bad("PUBLIC_KEY", f"is no key that can be read ({error})") from None


def _path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise _bad("WEBHOOK_PATH", f"is {path[:60]!r}: a path such as /webhooks/antom is due")
    return path


def _currency(name: str, currency: str) -> str:
    try:
        digits_of(currency or "USD")
    except InvalidInput as error:
        raise _bad(name, f"names a currency that Antom does not take: {error}") from None
    return currency


def _bad(name: str, what: str) -> ConfigurationError:
    return invalid(f"{OWN}{name}", what)
