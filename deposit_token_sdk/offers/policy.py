"""Whether a token may be offered to a buyer, and why: pure, over values.

A guard rail, and no legal advice. Each ruling names its ground: a rule that is cited, with source and date; this SDK's
own default, which a shop with better advice may lift where the docs say so; or the shop's own rules. What is not
understood (a country, a token, a screening service that fails) is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from attrs import evolve, frozen

from deposit_token_sdk.words import COUNTRIES, Mode, TokenKind

if TYPE_CHECKING:
    from deposit_token_sdk.models import Token
    from deposit_token_sdk.money import Money
    from deposit_token_sdk.offers.directory import Embargo, TokenEntry
    from deposit_token_sdk.settings import OfferRules

_LOG = logging.getLogger("deposit_token_sdk")

ALLOWED: Final = "allowed"

REASONS: Final[Mapping[str, str]] = {
    "country_unknown": "The buyer's country is no ISO 3166 alpha-2 code.",
    "merchant_country_unknown": "The merchant's country is no ISO 3166 alpha-2 code.",
    "token_unknown": "Neither this SDK nor the shop's own file lists the token.",
    "mainland_china": "Buyer or merchant is in mainland China.",
    "embargo": "Buyer or merchant is in a country under a comprehensive embargo.",
    "halted": "The token's issuer has given it up.",
    "not_issued": "The token is announced, not issued.",
    "status_unknown": "It is not known that the token is issued.",
    "test_token": "A toy of the sandbox, in live mode.",
    "kind_unknown": "It is not known whether the token is a deposit token or a stablecoin.",
    "kind_not_taken": "A stablecoin where the shop takes deposit tokens alone, or the other way round.",
    "not_by_default": "This SDK refuses the token by default; its entry in the directory says why.",
    "unlicensed": "A stablecoin for a buyer in Hong Kong whose issuer is not licensed there.",
    "country_not_served": "The shop does not sell to the buyer's country.",
    "token_differs": "The bank describes the token otherwise than the directory does.",
    "price_currency": "The bank locks no prices, and the price is not in the token's currency.",
    "screened": "The shop's own screening refused.",
    "screening_failed": "The shop's own screening did not answer, or not by yes or no.",
}
"""Why a token is refused: words that stay."""

_NOTICE: Final = ("China, joint notice Yinfa [2026] 42 of the People's Bank and seven others", "2026-02-06")
_ORDINANCE: Final = ("Hong Kong, Stablecoins Ordinance (Cap. 656)", "2025-08-01")
_LICENSED_ONLY: Final = "HK"
_MAINLAND: Final = "CN"
_UNLISTED: Final = "The token is not listed: add it to the shop's own file, with its kind and where that is known from."
_KIND_WORDS: Final = {TokenKind.DEPOSIT: "a deposit token", TokenKind.STABLECOIN: "a stablecoin"}


class Ground(StrEnum):
    """What a ruling rests on: a rule that is cited, this SDK's own default, or the shop's own rules."""

    RULE = "rule"
    DEFAULT = "default"
    SHOP = "shop"


@frozen
class Ruling:
    """Whether a token may be offered, and why. `reason` is ``allowed`` or a word of `REASONS`; `text` is for people.

    `source` and `date` are those of the rule that is cited, or of the fact that the ruling rests on; else empty. One
    that allows says nothing about the buyer's country.
    """

    reason: str
    text: str
    ground: Ground
    source: str = ""
    date: str = ""

    @property
    def allowed(self) -> bool:
        """Whether the token may be offered."""
        return self.reason == ALLOWED

    @property
    def basis(self) -> str:
        """The ground in words, with source and date where there are any."""
        words = {
            Ground.RULE: "cited rule",
            Ground.DEFAULT: "this SDK's own default",
            Ground.SHOP: "the shop's own rules",
        }
        return words[self.ground] + (f": {self.source}, {self.date}" if self.source else "")


@frozen
class Offer:
    """A token of the client's bank, as the bank describes it, and what was decided about it."""

    token: Token
    ruling: Ruling


@frozen
class Screened:
    """What the shop's own screening is asked about. `order_id` is empty while offers are listed for no order yet."""

    order_id: str
    token: TokenEntry
    price: Money
    buyer_country: str
    merchant_country: str


def decide(
    token: TokenEntry | None,
    buyer_country: str,
    rules: OfferRules,
    embargo: Mapping[str, Embargo],
    mode: Mode | str,
) -> Ruling:
    """What holds for this token between this buyer and this shop. None is a token that nobody lists.

    Countries come first, then the token, then what the shop has chosen.
    """
    unknown = _country_unknown(buyer_country, rules.merchant_country)
    if unknown is not None or token is None:
        return unknown or _refused("token_unknown", _UNLISTED)
    return (
        _of_countries(token, buyer_country, rules, embargo)
        or _unfit(token, mode)
        or _unwanted(token, buyer_country, rules)
        or Ruling(ALLOWED, "No rule that this SDK knows stands against it.", Ground.DEFAULT)
    )


def compare(entry: TokenEntry, told: Token, ruling: Ruling) -> Ruling:
    """The ruling, unless the bank describes the token otherwise than the directory: then it is not what was judged."""
    known = {"currency": told.currency, "decimals": told.decimals, "kind": told.kind}
    for name, value in known.items():
        listed = getattr(entry, name)
        if listed is not None and listed != value:
            text = f"The bank's {name} for {entry.code} is {value}, the directory's {listed}: find out which is right."
            return evolve(_refused("token_differs", text), source=entry.source, date=entry.date)
    return ruling


def screen(asked: Screened, hook: Callable[[Screened], object]) -> Ruling | None:
    """What the shop's own screening says: None where it answers True. A text refuses with that text, False without.

    Anything else refuses as well, an error included: a service that is away lets nobody through.
    """
    try:
        answer = hook(asked)
    except Exception as error:  # noqa: BLE001  # the shop's own code may raise anything
        _LOG.warning("The shop's screening failed, which refuses the sale.", exc_info=error)
        return Ruling("screening_failed", f"The shop's screening failed ({type(error).__name__}).", Ground.SHOP)
    if answer is True:
        return None
    if answer is False or isinstance(answer, str):
        return Ruling("screened", answer or "The shop's own screening refuses this sale.", Ground.SHOP)
    told = f"The shop's screening answered {type(answer).__name__}: True, False or a text is due."
    return Ruling("screening_failed", told, Ground.SHOP)


def unpriced(token: Token, price: Money) -> Ruling:
    """The refusal of a price in another currency than the token's, at a bank that locks no prices."""
    text = f"The bank locks no prices, so a price in {token.currency} is due for {token.code}, not in {price.currency}."
    return _refused("price_currency", text)


def _country_unknown(buyer: str, merchant: str) -> Ruling | None:
    if buyer not in COUNTRIES:
        return _refused("country_unknown", "The buyer's country is not known: an ISO 3166 alpha-2 code is due.")
    if merchant and merchant not in COUNTRIES:
        text = "The merchant's country is not known: an ISO 3166 alpha-2 code is due."
        return _refused("merchant_country_unknown", text)
    return None


def _of_countries(token: TokenEntry, buyer: str, rules: OfferRules, embargo: Mapping[str, Embargo]) -> Ruling | None:
    """What the two countries forbid, whatever the token's state."""
    countries = (buyer, rules.merchant_country)
    if _MAINLAND in countries:
        if token.kind is TokenKind.STABLECOIN:
            text = "Stablecoins are neither offered nor shown in mainland China."
            return Ruling("mainland_china", text, Ground.RULE, *_NOTICE)
        if not rules.mainland_china:
            text = (
                "Not offered in mainland China, by this SDK's own default: the notice on stablecoins does not name "
                "bank deposit tokens, and does not leave them out."
            )
            return Ruling("mainland_china", text, Ground.DEFAULT, *_NOTICE)
    for country in countries:
        if country in embargo:
            rule = embargo[country]
            text = "Not offered in a country under a comprehensive embargo."
            return Ruling("embargo", text, Ground.RULE, rule.source, rule.date)
    return None


def _unfit(token: TokenEntry, mode: Mode | str) -> Ruling | None:
    """What the token itself does not allow, to anybody."""
    status = None if token.status is None else token.status.value
    note = f" {token.note}" if token.note else ""
    reasons = {"live": "", "pilot": "", "halted": "halted", "announced": "not_issued"}
    reason = reasons.get(status or "", "status_unknown")
    if reason:
        told = {
            "halted": f"{token.name} was halted.",
            "not_issued": f"{token.name} is announced and not issued.",
            "status_unknown": f"It is not known that {token.name} is issued.",
        }
        return _refused(reason, told[reason] + note, token)
    if token.test and mode != Mode.TEST:
        return _refused("test_token", f"{token.code} is a toy of the sandbox: it is offered in test mode alone.")
    if token.kind is None:
        text = f"It is not known whether {token.name} is a deposit token or a stablecoin.{note}"
        return _refused("kind_unknown", text, token)
    return None


def _unwanted(token: TokenEntry, buyer: str, rules: OfferRules) -> Ruling | None:
    """What the shop has not chosen, and what this SDK refuses until it has."""
    if token.kind is not None and token.kind not in rules.kinds:
        own = rules.kinds != {TokenKind.DEPOSIT}
        taken = " or ".join(_KIND_WORDS[kind] for kind in TokenKind if kind in rules.kinds) or "nothing"
        text = f"{token.code} is {_KIND_WORDS[token.kind]}; the shop takes {taken}."
        return Ruling("kind_not_taken", text, Ground.SHOP if own else Ground.DEFAULT)
    if token.kind is TokenKind.STABLECOIN and buyer == _LICENSED_ONLY and _LICENSED_ONLY not in token.licensed:
        text = "In Hong Kong, only the stablecoins of issuers that are licensed there are offered to the public."
        return Ruling("unlicensed", text, Ground.RULE, *_ORDINANCE)
    if token.default and token.code not in rules.accepted:
        return _refused("not_by_default", token.default, token)
    if rules.buyer_countries and buyer not in rules.buyer_countries:
        return Ruling("country_not_served", "The shop does not sell to the buyer's country.", Ground.SHOP)
    return None


def _refused(reason: str, text: str, fact: TokenEntry | None = None) -> Ruling:
    """By this SDK's own default, on a fact of the directory where there is one."""
    return Ruling(reason, text, Ground.DEFAULT, fact.source if fact else "", fact.date if fact else "")
