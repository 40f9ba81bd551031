"""What the bank asks for a price: rate, fee, and what is due and netted. Pure, in integers, and the bank's own.

The client checks these figures with code of its own; nothing here may be shared with it, else one mistake would
look right on both sides. The table holds direct rates, token currency per unit of price currency, so that no
rate is ever inverted. rate = mid × (1 + spread), rounded half up to ten decimals. gross = price × rate in token
units, rounded up once, at the end. fee = share × gross, rounded half up, plus a fixed part.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from attrs import frozen

from deposit_token_sdk.money import MINOR_DIGITS
from deposit_token_sdk.sandbox.problems import Refused

RATE_DECIMALS: Final = 10
_BASIS: Final = 10_000


@frozen
class DemoToken:
    """A token this bank issues. `fee_share` is in hundredths of a percent of the gross, `fee_fixed` in units."""

    code: str
    currency: str
    decimals: int
    fee_share: int
    fee_fixed: int
    mids: Mapping[str, str]


_USD = {
    "USD": "1", "EUR": "1.0837", "GBP": "1.2714", "CHF": "1.1308", "CNY": "0.1379", "CNH": "0.13785",
    "HKD": "0.1286", "JPY": "0.00668", "KWD": "3.2542", "SGD": "0.7459", "AUD": "0.6642", "CAD": "0.7281",
    "AED": "0.27229", "INR": "0.01189", "KRW": "0.0007221", "THB": "0.0289",
}  # fmt: skip
_EUR = {
    "EUR": "1", "USD": "0.9228", "GBP": "1.1732", "CHF": "1.0435", "CNY": "0.12725", "CNH": "0.1272",
    "HKD": "0.11867", "JPY": "0.006164", "KWD": "3.0029", "SGD": "0.6883", "AUD": "0.6129", "CAD": "0.6719",
    "AED": "0.25126", "INR": "0.010972", "KRW": "0.00066624", "THB": "0.026668",
}  # fmt: skip
_CNH = {
    "CNH": "1", "CNY": "1.0004", "USD": "7.2543", "EUR": "7.8615", "GBP": "9.2231", "CHF": "8.2032",
    "HKD": "0.93291", "JPY": "0.048459", "KWD": "23.607", "SGD": "5.411", "AUD": "4.8183", "CAD": "5.2819",
    "AED": "1.97527", "INR": "0.086254", "KRW": "0.0052376", "THB": "0.20965",
}  # fmt: skip

TOKENS: Final[Mapping[str, DemoToken]] = {
    "SBUSD": DemoToken("SBUSD", "USD", 2, 100, 5, _USD),
    "SBEUR": DemoToken("SBEUR", "EUR", 2, 90, 5, _EUR),
    "SBCNH": DemoToken("SBCNH", "CNH", 6, 125, 300_000, _CNH),
}
SPREAD: Final = 25
"""Hundredths of a percent added to the mid rate when two currencies meet; none within one currency."""


@frozen
class Priced:
    """What one price comes to. `rate` is a plain decimal string; fee, gross, due and net are token units."""

    rate: str
    fee: int
    gross: int
    due: int
    net: int


def rate(token: DemoToken, currency: str) -> str:
    """The bank's rate, token currency per unit of `currency`. Raises Refused (``unsupported_currency``)."""
    mid = token.mids.get(currency)
    if mid is None:
        raise Refused("unsupported_currency", f"There is no rate from {currency} to {token.code}.")
    spread = 0 if currency == token.currency else SPREAD
    whole, places = _scaled(mid)
    numerator = whole * (_BASIS + spread) * 10**RATE_DECIMALS
    return _plain(_half_up(numerator, _BASIS * 10**places), RATE_DECIMALS)


def fee(token: DemoToken, gross: int) -> int:
    """The bank's fee on a gross of token units, in token units."""
    return _half_up(token.fee_share * gross, _BASIS) + token.fee_fixed


def price(token: DemoToken, currency: str, amount: Decimal, bearer: str) -> Priced:
    """Price `amount` of `currency` in token units; bearer DEBT: the buyer pays the fee, CRED: the merchant.

    Raises Refused (``unsupported_currency``, ``nets_nothing``).
    """
    agreed = rate(token, currency)
    minor = MINOR_DIGITS[currency]
    price_minor = int(amount.scaleb(minor))
    rate_whole, rate_places = _scaled(agreed)
    gross = -(-price_minor * rate_whole * 10**token.decimals // 10 ** (minor + rate_places))
    charged = fee(token, gross)
    due, net = (gross + charged, gross) if bearer == "DEBT" else (gross, gross - charged)
    if net <= 0:
        raise Refused("nets_nothing", f"The gross is {gross} units and the fee {charged}: nothing would be left.")
    return Priced(agreed, charged, gross, due, net)


def _half_up(numerator: int, denominator: int) -> int:
    """A non-negative fraction rounded to the nearest whole, halves up."""
    return (2 * numerator + denominator) // (2 * denominator)


def _scaled(plain: str) -> tuple[int, int]:
    """A plain decimal string as a whole number and the count of its decimals."""
    whole, _, fraction = plain.partition(".")
    return int(whole + fraction), len(fraction)


def _plain(scaled: int, places: int) -> str:
    """The plain decimal string of scaled × 10^-places, without needless zeros."""
    digits = str(scaled).rjust(places + 1, "0")
    fraction = digits[-places:].rstrip("0")
    return f"{digits[:-places]}.{fraction}" if fraction else digits[:-places]
