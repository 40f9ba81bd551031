"""The DEPOSIT_TOKEN_* settings: one table, read once, checked before anything is sent.

What a bank's documents do not say is configuration and stands here. Secrets are wrapped at the moment of reading
and never reach a log, a repr, a traceback or a pickle.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import urlsplit

from attrs import field, frozen

from deposit_token_sdk.errors import ConfigurationError, InvalidInput
from deposit_token_sdk.models import Mode
from deposit_token_sdk.money import plain_decimal
from deposit_token_sdk.words import COUNTRIES, TokenKind

PREFIX: Final = "DEPOSIT_TOKEN_"

TABLE: Final[dict[str, tuple[str | None, str]]] = {
    "ISSUER": ("reference", "The API the bank speaks: the name of an installed issuer."),
    "BANK": (None, "The bank's own name for itself: `iss` of its statements, last part of the webhook address."),
    "URL": (None, "The bank's base address: https, or http on loopback; or a host's name that the issuer knows."),
    "MERCHANT": (None, "The merchant's id at the bank: `aud` of every statement."),
    "MODE": (None, "`test` or `live`; statements and events of the other mode are refused."),
    "SIGNING_KEY": ("", "The merchant's private key (PEM, Ed25519) that signs requests, capture orders and seals."),
    "SIGNING_KEY_FILE": ("", "A file with that key, instead of the key itself."),
    "SIGNING_KEY_ID": ("", "The name by which the bank knows that key."),
    "MESSAGE_SIGNATURES": ("on", "`off` sends unsigned requests and takes unsigned answers: for mutual TLS only."),
    "WEBHOOK_KEYS": ("", "The endpoint's webhook keys (`whpk_…` or `whsec_…`), several while one rotates."),
    "OTHER_WEBHOOK_KEYS": ("", "The other mode's webhook keys: never accepted, they only explain a mix-up."),
    "JWKS_URL": ("", "Where the bank's public keys are; by default /.well-known/jwks.json at its base address."),
    "JWKS_FILE": ("", "A file with the bank's public keys, instead of an address."),
    "JWKS_THUMBPRINTS": ("", "RFC 7638 thumbprints: only these of the bank's keys are used."),
    "CLIENT_CERT": ("", "Mutual TLS: path of the certificate (PEM)."),
    "CLIENT_KEY": ("", "Mutual TLS: path of its private key (PEM)."),
    "CA_BUNDLE": ("", "Path of the certificate authorities to trust instead of the public ones."),
    "QUOTE_LIFE": ("900", "Seconds for which a price stands at a bank that quotes none."),
    "MAX_FEE": ("0.05", "The highest fee the shop takes, as a share of gross."),
    "BACKING_AGE": ("86400", "How old the bank's word on a token's backing may be at most."),
    "TIMEOUT": ("10", "Seconds one try may take, connection and answer together."),
    "DEADLINE": ("30", "Seconds one call may take over all its tries."),
    "ATTEMPTS": ("5", "How often one call is tried at most."),
    "MAX_BYTES": ("1048576", "The largest answer that is read."),
    "SKEW": ("300", "Seconds by which the bank's clock and ours may differ."),
    "MERCHANT_COUNTRY": ("", "Where the merchant is (ISO 3166 alpha-2): judged as the buyer's country is."),
    "BUYER_COUNTRIES": (
        "",
        "The only countries that the shop sells to; by default it leaves none out.",
    ),
    "TOKEN_KINDS": ("deposit_token", "What the shop takes: `deposit_token`, `stablecoin`, or both."),
    "TOKENS_FILE": ("", "A TOML file of the shop's own tokens, beside those that this SDK lists."),
    "EMBARGO_FILE": ("", "A TOML file of embargoed countries, in place of this SDK's list."),
    "CHECKOUT": ("", "Where the commands of `deposit-token` find the shop, as MODULE:NAME; no client reads it."),
    "SPECS": ("", "Where this project's own tests find the documents of the banks; no client reads it."),
}
"""Every setting: its default (None where it must be given) and its meaning. An issuer may have more, under its name."""

_HOST: Final = re.compile(r"[a-z][a-z-]{1,30}", re.ASCII)

KINDS: Final = {"deposit_token": TokenKind.DEPOSIT, "stablecoin": TokenKind.STABLECOIN}
"""A token's kind, as settings and files name it."""


class Secret:
    """A text that must not show. `reveal()` gives it; nothing else does."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself: hand it on at once, keep it nowhere."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not pickled: read it from the settings where it is needed.")


@frozen
class OfferRules:
    """The shop's own rules on what may be offered to whom. Countries are ISO 3166 alpha-2 codes.

    `merchant_country` is empty where the shop does not say; `buyer_countries` is empty where it leaves no country out.
    `accepted` are codes of tokens that are refused by this SDK's own default and that the shop takes all the same;
    `mainland_china` lifts the default on deposit tokens there, and nothing else. No setting says these two.
    """

    merchant_country: str = ""
    buyer_countries: frozenset[str] = frozenset()
    kinds: frozenset[TokenKind] = frozenset({TokenKind.DEPOSIT})
    tokens_file: str = ""
    embargo_file: str = ""
    accepted: frozenset[str] = frozenset()
    mainland_china: bool = False

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> OfferRules:
        """Read and check the variables that rules are made of, and no other. Raises ConfigurationError
        (``setting_invalid``), naming the one at fault."""
        return _offer_rules(
            {name: environ.get(PREFIX + name, "").strip() or default or "" for name, (default, _) in TABLE.items()}
        )


@frozen
class Settings:
    """All settings of one client, checked. Times are in seconds, `max_fee` is a share of gross.

    `own` are the issuer's own settings, as text: those after ``DEPOSIT_TOKEN_<ISSUER>_``, which the issuer checks.
    """

    issuer: str
    bank: str
    url: str
    merchant: str
    mode: Mode
    signing_key: Secret
    signing_key_id: str
    message_signatures: bool
    webhook_keys: tuple[Secret, ...]
    other_webhook_keys: tuple[Secret, ...]
    jwks_url: str
    jwks_file: str
    jwks_thumbprints: frozenset[str]
    client_cert: str
    client_key: str
    ca_bundle: str
    quote_life: float
    max_fee: Decimal
    backing_age: int
    timeout: float
    deadline: float
    attempts: int
    max_bytes: int
    skew: int
    offer_rules: OfferRules = OfferRules()
    own: Mapping[str, Secret] = field(factory=dict)

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> Settings:
        """Read and check the DEPOSIT_TOKEN_* variables. Raises ConfigurationError (``setting_missing``,
        ``setting_unknown``, ``setting_invalid``), naming each one."""
        given = {name: value.strip() for name, value in environ.items() if name.startswith(PREFIX)}
        prefix = PREFIX + given.get(f"{PREFIX}ISSUER", "").upper().replace("-", "_") + "_"
        theirs = [name for name in given if name.startswith(prefix) and name.removeprefix(PREFIX) not in TABLE]
        own = {name: given.pop(name) for name in theirs if prefix != f"{PREFIX}REFERENCE_"}
        unknown = [name for name in given if name.removeprefix(PREFIX) not in TABLE]
        if unknown:
            raise ConfigurationError(
                "setting_unknown",
                f"There is no setting {', '.join(sorted(unknown))}: docs/settings.md lists those there are.",
            )
        missing = [
            PREFIX + name for name, (default, _) in TABLE.items() if default is None and not given.get(PREFIX + name)
        ]
        if missing:
            raise ConfigurationError("setting_missing", f"Set {', '.join(missing)}: docs/settings.md says what to.")
        text = {name: given.get(PREFIX + name) or default or "" for name, (default, _) in TABLE.items()}
        return _checked(text, {name.removeprefix(prefix): Secret(value) for name, value in own.items()})


def _checked(text: dict[str, str], own: dict[str, Secret]) -> Settings:
    named = _HOST.fullmatch(text["URL"]) is not None and text["ISSUER"] != TABLE["ISSUER"][0]
    url = text["URL"] if named else address("URL", text["URL"]).rstrip("/")
    keys = text["JWKS_URL"] or ("" if named else f"{url}/.well-known/jwks.json")
    if text["JWKS_URL"] and text["JWKS_FILE"]:
        raise invalid("JWKS_URL", "is set beside DEPOSIT_TOKEN_JWKS_FILE: set one of them")
    return Settings(
        issuer=text["ISSUER"],
        bank=text["BANK"],
        url=url,
        merchant=text["MERCHANT"],
        mode=Mode(_one_of("MODE", text["MODE"], "test", "live")),
        signing_key=_signing_key(text),
        signing_key_id=text["SIGNING_KEY_ID"],
        message_signatures=_one_of("MESSAGE_SIGNATURES", text["MESSAGE_SIGNATURES"], "on", "off") == "on",
        webhook_keys=tuple(Secret(key) for key in text["WEBHOOK_KEYS"].split()),
        other_webhook_keys=tuple(Secret(key) for key in text["OTHER_WEBHOOK_KEYS"].split()),
        jwks_url=address("JWKS_URL", keys) if keys else "",
        jwks_file=text["JWKS_FILE"],
        jwks_thumbprints=frozenset(text["JWKS_THUMBPRINTS"].split()),
        client_cert=text["CLIENT_CERT"],
        client_key=text["CLIENT_KEY"],
        ca_bundle=text["CA_BUNDLE"],
        quote_life=seconds("QUOTE_LIFE", text["QUOTE_LIFE"]),
        max_fee=_decimal("MAX_FEE", text["MAX_FEE"]),
        backing_age=_whole("BACKING_AGE", text["BACKING_AGE"], least=1),
        timeout=seconds("TIMEOUT", text["TIMEOUT"]),
        deadline=seconds("DEADLINE", text["DEADLINE"]),
        attempts=_whole("ATTEMPTS", text["ATTEMPTS"], least=1),
        max_bytes=_whole("MAX_BYTES", text["MAX_BYTES"], least=1),
        skew=_whole("SKEW", text["SKEW"], least=0),
        offer_rules=_offer_rules(text),
        own=own,
    )


def _offer_rules(text: dict[str, str]) -> OfferRules:
    country = text["MERCHANT_COUNTRY"]
    kinds = [_one_of("TOKEN_KINDS", kind, *KINDS) for kind in text["TOKEN_KINDS"].split()]
    return OfferRules(
        merchant_country=country and _country("MERCHANT_COUNTRY", country),
        buyer_countries=frozenset(_country("BUYER_COUNTRIES", code) for code in text["BUYER_COUNTRIES"].split()),
        kinds=frozenset(KINDS[kind] for kind in kinds),
        tokens_file=text["TOKENS_FILE"],
        embargo_file=text["EMBARGO_FILE"],
    )


def _country(name: str, value: str) -> str:
    if value not in COUNTRIES:
        raise invalid(name, f"is {value!r}: a country's ISO 3166 alpha-2 code is due, as DE or HK")
    return value


def _signing_key(text: dict[str, str]) -> Secret:
    if text["SIGNING_KEY"] and text["SIGNING_KEY_FILE"]:
        raise invalid("SIGNING_KEY", "is set beside DEPOSIT_TOKEN_SIGNING_KEY_FILE: set one of them")
    if not text["SIGNING_KEY_FILE"]:
        return Secret(text["SIGNING_KEY"].replace("\\n", "\n"))
    try:
        return Secret(Path(text["SIGNING_KEY_FILE"]).read_text(encoding="ascii"))
    except (OSError, UnicodeError) as error:
        raise invalid("SIGNING_KEY_FILE", f"cannot be read ({type(error).__name__})") from None


def address(name: str, value: str) -> str:
    """An address that money's messages may go to: https, or http on loopback. Raises ConfigurationError
    (``setting_invalid``), naming the setting."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        raise invalid(name, "is no address: https://host is due") from None
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise invalid(name, "holds a user, a query or a fragment: leave them out")
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    plain = value.isascii() and value.isprintable() and " " not in value and port != 0
    if not plain or not parts.hostname or not (parts.scheme == "https" or (parts.scheme == "http" and loopback)):
        raise invalid(name, f"is {value!r}: an https address is due (http on loopback only)")
    return value


def _one_of(name: str, value: str, *allowed: str) -> str:
    if value not in allowed:
        raise invalid(name, f"is {value!r}: one of {', '.join(allowed)} is due")
    return value


def _decimal(name: str, value: str) -> Decimal:
    try:
        number = plain_decimal(value)
    except InvalidInput:
        raise invalid(name, f"is {value!r}: a plain number is due") from None
    if number < 0:
        raise invalid(name, f"is {value}: a number from 0 is due")
    return number


def _whole(name: str, value: str, *, least: int) -> int:
    number = _decimal(name, value)
    if number < least or number != number.to_integral_value():
        raise invalid(name, f"is {value}: a whole number from {least} is due")
    return int(number)


def seconds(name: str, value: str) -> float:
    """A number of seconds above 0. Raises ConfigurationError (``setting_invalid``), naming the setting."""
    given = _decimal(name, value)
    if not given:
        raise invalid(name, "is 0: a number of seconds above 0 is due")
    return given.__float__()


def invalid(name: str, what: str) -> ConfigurationError:
    """The error that says what is wrong with a setting."""
    return ConfigurationError("setting_invalid", f"{PREFIX}{name} {what}.")
