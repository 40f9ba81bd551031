"""Amounts of money, always exact: a Decimal with its currency, or integer token units.

A float is refused with a TypeError, and an amount finer than its currency's minor unit is refused rather than
rounded. Rounding happens in one written place only, `price`. Currencies are ISO 4217 (list one, the active codes
that have a minor unit, so no metals or test codes), with one addition: CNH, offshore yuan, which is not CNY.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation

from attrs import field, frozen

from deposit_token_sdk.errors import InvalidInput, InvalidType

_TWO_DIGITS = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY "
    "COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS "
    "INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR "
    "MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD "
    "SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XCD XCG YER ZAR ZMW ZWG"
)
MINOR_DIGITS: dict[str, int] = {
    **dict.fromkeys(_TWO_DIGITS.split(), 2),
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    "CLF": 4,
    "UYW": 4,
    "CNH": 2,
}
"""Minor unit digits by currency code (ISO 4217), and CNH."""

MAX_DIGITS = 38
MAX_UNIT_DIGITS = 78
"""What fits into 256 bits, the widest token amounts there are."""

_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?", re.ASCII)
EXACT = Context(prec=120, traps=[Inexact, InvalidOperation])
"""A decimal context in which nothing is rounded silently: `Inexact` is trapped."""


def plain_decimal(text: str) -> Decimal:
    """The value of a plain decimal string: optional minus, digits, optional fraction; no exponent, no sign `+`.

    Raises InvalidInput (``not_a_plain_decimal``).
    """
    if len(text) > MAX_DIGITS + 2 or not _PLAIN.fullmatch(text):
        raise InvalidInput(
            "not_a_plain_decimal", f"{text[:60]!r} is no plain decimal number: write digits, as in '128.50'."
        )
    return Decimal(text)


def _amount(value: Decimal | str | int) -> Decimal:
    if isinstance(value, str):
        return plain_decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise InvalidType(
            "amount_type",
            f"An amount is a Decimal, a string or an int, not {type(value).__name__}: "
            f"floats lose cents. Write Money('128.50', 'EUR').",
        )
    amount = Decimal(value)
    if not amount.is_finite():
        raise InvalidInput("amount_not_finite", f"{amount} is no amount of money.")
    return amount


def minor_digits(currency: str) -> int:
    """Decimal places of the currency's minor unit. Raises InvalidInput (``unknown_currency``)."""
    try:
        return MINOR_DIGITS[currency]
    except (KeyError, TypeError):
        raise InvalidInput(
            "unknown_currency", f"{currency!r} is no ISO 4217 currency code (nor CNH): use three capitals, as 'EUR'."
        ) from None


@frozen(order=False)
class Money:
    """An exact amount in one currency, as in ``Money("128.50", "EUR")``.

    Raises InvalidType (``amount_type``) on a float, InvalidInput (``unknown_currency``, ``too_fine``,
    ``too_large``, ``amount_not_finite``, ``not_a_plain_decimal``) on anything else that is no amount.
    """

    amount: Decimal = field(converter=_amount)
    currency: str

    def __attrs_post_init__(self) -> None:
        digits = minor_digits(self.currency)
        if self.amount and self.amount.adjusted() >= MAX_DIGITS:
            raise InvalidInput("too_large", f"An amount of {self.currency} has more than {MAX_DIGITS} digits.")
        try:
            exact = self.amount.quantize(Decimal(1).scaleb(-digits), context=EXACT)
        except (Inexact, InvalidOperation):
            raise InvalidInput(
                "too_fine",
                f"{self.amount} {self.currency} is finer than the currency's {digits} decimals: round it first.",
            ) from None
        object.__setattr__(self, "amount", exact or exact.copy_abs())

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"

    def __add__(self, other: Money) -> Money:
        return Money(EXACT.add(self.amount, self._same(other)), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(EXACT.subtract(self.amount, self._same(other)), self.currency)

    def __mul__(self, count: int) -> Money:
        if isinstance(count, bool) or not isinstance(count, int):
            raise InvalidType("amount_type", "Money is multiplied by a whole number of pieces only.")
        if abs(count) > 10**MAX_DIGITS:
            raise InvalidInput("too_large", f"That many pieces cannot be: more than {MAX_DIGITS} digits.")
        return Money(EXACT.multiply(self.amount, Decimal(count)), self.currency)

    __rmul__ = __mul__

    def __lt__(self, other: Money) -> bool:
        return self.amount < self._same(other)

    def __le__(self, other: Money) -> bool:
        return self.amount <= self._same(other)

    def __gt__(self, other: Money) -> bool:
        return self.amount > self._same(other)

    def __ge__(self, other: Money) -> bool:
        return self.amount >= self._same(other)

    def _same(self, other: Money) -> Decimal:
        if not isinstance(other, Money):
            raise InvalidType("amount_type", f"Money goes with Money, not with {type(other).__name__}.")
        if other.currency != self.currency:
            raise InvalidInput("currency_mismatch", f"{self.currency} and {other.currency} do not mix: quote first.")
        return other.amount


def decimal_of(units: int, decimals: int) -> Decimal:
    """Token units as a decimal number of tokens: 14100 units of 2 decimals are 141.00.

    Raises InvalidType (``amount_type``) on anything but whole units.
    """
    if isinstance(units, bool) or not isinstance(units, int):
        raise InvalidType("amount_type", f"Token units are an int, not {type(units).__name__}.")
    return Decimal(units).scaleb(-decimals, context=EXACT)


def units_of(amount: Decimal | str | int, decimals: int) -> int:
    """A decimal number of tokens as whole units.

    Raises InvalidInput (``too_fine``, ``too_large``) rather than rounding, and on what is no amount as `Money` does.
    """
    exact = _amount(amount)
    if exact and exact.adjusted() + decimals >= MAX_UNIT_DIGITS:
        raise InvalidInput("too_large", f"An amount of tokens has more than {MAX_UNIT_DIGITS} digits in units.")
    try:
        return int(exact.quantize(Decimal(1).scaleb(-decimals), context=EXACT).scaleb(decimals, context=EXACT))
    except (Inexact, InvalidOperation):
        raise InvalidInput("too_fine", f"{amount} is finer than the token's {decimals} decimals.") from None
