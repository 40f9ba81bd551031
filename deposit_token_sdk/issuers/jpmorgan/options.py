"""The settings of a J.P. Morgan client beyond the common ones: what a bank and its merchant agree upon.

They are named ``DEPOSIT_TOKEN_JPMORGAN_…``. An account is written ``number:TYPE:BIC`` with TYPE ``BDA`` (Blockchain
Deposit Account) or ``DDA`` (Demand Deposit Account). Hosts are those of the bank's documents (servers of the Global
Payments API, versions 2.0.22 and 1.1.11); each can be replaced by an address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from attrs import frozen

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.models import Token, TokenKind
from deposit_token_sdk.settings import PREFIX, Secret, Settings, address, invalid, seconds

OWN: Final = "JPMORGAN_"

TABLE: Final[dict[str, tuple[str | None, str]]] = {
    "VERSION": ("2", "Version of the API: `2` or `1`."),
    "ACCOUNT": (None, "The merchant's own account, `number:TYPE:BIC`, TYPE being BDA or DDA."),
    "NAME": ("", "The merchant's name as account holder; DEPOSIT_TOKEN_MERCHANT where it is not set."),
    "DEBTORS": (None, "Buyers' accounts that may be debited: `name=number:TYPE:BIC`, several separated by spaces."),
    "TOKENS": (None, "Tokens taken: `CODE=CURRENCY:DECIMALS`, several separated by spaces, one a currency."),
    "TOKEN_URL": (
        "",
        "Where the access token is had (OAuth 2.0); version 2 needs one, version 1 has mutual TLS alone.",
    ),
    "CLIENT_ID": ("", "The client's id at the token address."),
    "RESOURCE": ("", "`resource` of the token request (`JPMC:URI:RS-…`), as the bank names it."),
    "CLIENT_SECRET": ("", "For the bank's public mock alone: the client's secret, sent as Basic."),
    "SCOPE": ("", "For the bank's public mock alone: `scope` of the token request."),
    "CERTIFICATE": ("", "Certificate (PEM) behind the signing key; its thumbprint is the key's id unless that is set."),
    "CONTENT_TYPE": ("text/xml", "Version 1: the Content-Type of a signed body, as in the bank's sample."),
    "KEY_LIFETIME": ("300", "Version 2: seconds for which an idempotency key is relied on; the bank publishes none."),
    "UNSEEN_FOR": (
        "120",
        "Seconds from its last sending after which a payment unknown to the bank never arrived: DEADLINE or more.",
    ),
    "SIGNATURE_HEADER": ("", "Header with a callback's ECDSA signature; not set: callbacks carry none."),
    "KEY_ID_HEADER": ("", "Header with the id of the key that signed a callback."),
    "SIGNATURE_KEYS": ("", "Address or file of the keys that sign callbacks (a JWK set)."),
}
"""Every setting after ``DEPOSIT_TOKEN_JPMORGAN_``: its default (None where it must be given) and its meaning."""

HOSTS: Final[Mapping[tuple[int, str], str]] = {
    (2, "production"): "https://api.payments.jpmorgan.com/payment/v2",
    (2, "sandbox"): "https://api-sandbox.payments.jpmorgan.com/payment/v2",
    (2, "mock"): "https://api-mock.payments.jpmorgan.com/payment/v2",
    (1, "production"): "https://apigateway.jpmorgan.com/tsapi/v1",
    (1, "sandbox"): "https://apigatewaycat.jpmorgan.com/tsapi/v1",
    (1, "mock"): "https://api-mock.payments.jpmorgan.com/tsapi/v1",
}
"""By version and name. What the bank calls UAT is the sandbox of version 1."""
PATHS: Final = {2: "/payment/v2", 1: "/tsapi/v1"}
"""Where each version stands on a host."""

_ACCOUNT: Final = re.compile(r"([A-Za-z0-9]{1,34}):(BDA|DDA):([A-Z0-9]{8}|[A-Z0-9]{11})", re.ASCII)
_TOKEN: Final = re.compile(r"([A-Z][A-Z0-9-]{1,19})=([A-Z]{3}):(1?[0-9])", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,40}", re.ASCII)


@frozen
class Account:
    """An account of one holder at one agent. `kind` is BDA or DDA, `bic` the agent's."""

    number: str
    kind: str
    bic: str
    holder: str = ""


@frozen
class Options:
    """The settings, checked. `url` is the API's base address; times are in seconds."""

    version: int
    url: str
    account: Account
    debtors: Mapping[str, Account]
    tokens: tuple[Token, ...]
    token_url: str
    client_id: str
    client_secret: Secret
    resource: str
    scope: str
    certificate: str
    content_type: str
    key_lifetime: float
    unseen_for: float
    signature_header: str
    key_id_header: str
    signature_keys: str

    @classmethod
    def of(cls, settings: Settings) -> Options:
        """Read and check them. Raises ConfigurationError (``setting_missing``, ``setting_unknown``,
        ``setting_invalid``), naming each one."""
        text = _texts(settings.own)
        version = {"2": 2, "1": 1}.get(text["VERSION"])
        if version is None:
            raise _bad("VERSION", f"is {text['VERSION']!r}: 2 or 1 is due")
        if version == 2 and not (text["TOKEN_URL"] and text["CLIENT_ID"]):
            raise _missing("TOKEN_URL", "CLIENT_ID")
        if text["SIGNATURE_HEADER"] and not (text["KEY_ID_HEADER"] and text["SIGNATURE_KEYS"]):
            raise _missing("KEY_ID_HEADER", "SIGNATURE_KEYS")
        return cls(
            version=version,
            url=_base(version, settings.url),
            account=_account("ACCOUNT", text["ACCOUNT"], text["NAME"] or settings.merchant),
            debtors=_debtors(text["DEBTORS"]),
            tokens=_tokens(text["TOKENS"], settings.bank),
            token_url=address(f"{OWN}TOKEN_URL", text["TOKEN_URL"]) if text["TOKEN_URL"] else "",
            client_id=text["CLIENT_ID"],
            client_secret=Secret(text["CLIENT_SECRET"]),
            resource=text["RESOURCE"],
            scope=text["SCOPE"],
            certificate=text["CERTIFICATE"] or settings.client_cert,
            content_type=text["CONTENT_TYPE"],
            key_lifetime=seconds(f"{OWN}KEY_LIFETIME", text["KEY_LIFETIME"]) if version == 2 else 0.0,
            unseen_for=_unseen_for(text["UNSEEN_FOR"], settings.deadline),
            signature_header=text["SIGNATURE_HEADER"].lower(),
            key_id_header=text["KEY_ID_HEADER"].lower(),
            signature_keys=text["SIGNATURE_KEYS"],
        )

    def token(self, code: str) -> Token | None:
        """The token of that code, if it is taken."""
        return next((one for one in self.tokens if one.code == code), None)

    def token_in(self, currency: str) -> Token | None:
        """The one token of that currency, if one is taken."""
        return next((one for one in self.tokens if one.currency == currency), None)


def _texts(own: Mapping[str, Secret]) -> dict[str, str]:
    unknown = sorted(set(own) - set(TABLE))
    if unknown:
        raise ConfigurationError(
            "setting_unknown",
            f"There is no setting {', '.join(f'{PREFIX}{OWN}{name}' for name in unknown)}: "
            f"docs/issuers/jpmorgan.md lists those there are.",
        )
    given = {name: value.reveal() for name, value in own.items()}
    missing = [name for name, (default, _) in TABLE.items() if default is None and not given.get(name)]
    if missing:
        raise _missing(*missing)
    return {name: given.get(name) or default or "" for name, (default, _) in TABLE.items()}


def _base(version: int, url: str) -> str:
    if "://" not in url:
        named = HOSTS.get((version, url))
        if named is None:
            known = ", ".join(name for of, name in HOSTS if of == version)
            raise invalid("URL", f"is {url!r}: an address is due, or one of {known}")
        return named
    return url if urlsplit(url).path.strip("/") else f"{url}{PATHS[version]}"


def _unseen_for(text: str, deadline: float) -> float:
    unseen_for = seconds(f"{OWN}UNSEEN_FOR", text)
    if unseen_for < deadline:
        raise _bad(
            "UNSEEN_FOR",
            f"is {unseen_for:g}, but {PREFIX}DEADLINE is {deadline:g}: a payment may be on its way for as long, "
            f"and must not be given up until then. At least {deadline:g} is due, better far more",
        )
    return unseen_for


def _account(setting: str, text: str, holder: str) -> Account:
    found = _ACCOUNT.fullmatch(text)
    if found is None:
        raise _bad(setting, f"holds {text[:60]!r}: number:TYPE:BIC is due, TYPE being BDA or DDA")
    return Account(found[1], found[2], found[3], holder)


def _debtors(text: str) -> dict[str, Account]:
    debtors: dict[str, Account] = {}
    for entry in text.split():
        name, _, account = entry.partition("=")
        if not _NAME.fullmatch(name) or name in debtors:
            raise _bad("DEBTORS", f"holds {entry[:60]!r}: name=number:TYPE:BIC is due, each name once")
        debtors[name] = _account("DEBTORS", account, name)
    return debtors


def _tokens(text: str, issuer: str) -> tuple[Token, ...]:
    tokens: list[Token] = []
    for entry in text.split():
        found = _TOKEN.fullmatch(entry)
        if found is None:
            raise _bad("TOKENS", f"holds {entry[:60]!r}: CODE=CURRENCY:DECIMALS is due")
        if any(found[1] == one.code or found[2] == one.currency for one in tokens):
            raise _bad("TOKENS", f"holds {entry[:60]!r} beside another of that code or currency: one is due")
        tokens.append(Token(found[1], found[2], int(found[3]), issuer, TokenKind.DEPOSIT, "kinexys"))
    return tuple(tokens)


def _bad(name: str, what: str) -> ConfigurationError:
    return invalid(f"{OWN}{name}", what)


def _missing(*names: str) -> ConfigurationError:
    listed = ", ".join(f"{PREFIX}{OWN}{name}" for name in names)
    return ConfigurationError("setting_missing", f"Set {listed}: docs/issuers/jpmorgan.md says what to.")
