"""Antom's Amount: a whole number of minor units as digits, by Antom's own table of currencies.

The table is Antom's ("Amount object usage rules"), not ISO 4217's: a currency that stands in the one and not in the
other is refused here, before anything is sent. No float is made or taken.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from deposit_token_sdk.errors import InvalidInput, InvalidType, Unreadable
from deposit_token_sdk.money import EXACT, Money
from deposit_token_sdk.signing import strict_json

DIGITS: Final[dict[str, int]] = {
    **dict.fromkeys(
        "AUD BDT BRL CAD CNY EUR GBP HKD IDR MXN MYR NZD PEN PHP PKR PLN SGD THB TWD USD".split(), 2
    ),
    **dict.fromkeys("CLP JPY KRW VND".split(), 0),
}  # fmt: skip
"""Minor unit digits of the 24 currencies that Antom takes."""
MULTIPLES: Final = {"IDR": 100}
"""Of which number of minor units an amount must be a multiple."""
MAX_DIGITS: Final = 16

_LARGEST, _FINEST = Decimal("1e30"), 30
_VALUE: Final = re.compile(r"[0-9]{1,16}", re.ASCII)


def digits_of(currency: str) -> int:
    """The currency's minor unit digits. Raises InvalidInput (``currency_not_taken``)."""
    try:
        return DIGITS[currency]
    except KeyError:
        raise InvalidInput(
            "currency_not_taken", f"Antom takes no {currency[:10]!r}: one of {', '.join(sorted(DIGITS))} is due."
        ) from None


def amount(units: int, currency: str) -> dict[str, str]:
    """The Amount of so many minor units. Raises InvalidInput (``currency_not_taken``, ``amount_negative``,
    ``too_large``, ``not_a_multiple``), InvalidType (``amount_type``)."""
    digits_of(currency)
    if type(units) is not int:
        raise InvalidType("amount_type", f"Minor units are a whole number, not {type(units).__name__}.")
    if units < 0:
        raise InvalidInput("amount_negative", f"An amount of {units} minor units is below zero.")
    if len(str(units)) > MAX_DIGITS:
        raise InvalidInput("too_large", f"Antom takes at most {MAX_DIGITS} digits; {units} has {len(str(units))}.")
    if units % MULTIPLES.get(currency, 1):
        told = f"An amount of {currency} is a multiple of {MULTIPLES[currency]} minor units at Antom; {units} is none."
        raise InvalidInput("not_a_multiple", told)
    return {"currency": currency, "value": str(units)}


def of_money(money: Money) -> dict[str, str]:
    """The Amount of a price. Raises as `amount` does, and InvalidInput (``too_fine``)."""
    units = money.amount.scaleb(digits_of(money.currency), context=EXACT)
    if units != units.to_integral_value():
        raise InvalidInput("too_fine", f"{money} is finer than Antom's minor unit of {money.currency}.")
    return amount(int(units), money.currency)


def read(obj: dict[str, Any], name: str) -> tuple[str, int]:
    """Currency and minor units of a member that is an Amount; its value may be digits or a JSON number.

    Raises Unreadable (``missing_field``, ``wrong_type``, ``bad_value``).
    """
    told = strict_json.member(obj, name)
    currency = strict_json.text(told, "currency")
    value = told.get("value")
    if isinstance(value, str) and _VALUE.fullmatch(value):
        units = int(value)
    elif type(value) is int and 0 <= value < 10**MAX_DIGITS:
        units = value
    elif isinstance(value, Decimal) and value == value.to_integral_value() and 0 <= value < 10**MAX_DIGITS:
        units = int(value)
    else:
        raise Unreadable("bad_value", f"The amount {name!r} is {value!r}; minor units were due.", field=name)
    if currency not in DIGITS:
        raise Unreadable(
            "bad_value", f"The amount {name!r} is in {currency[:10]!r}: none that Antom lists.", field=name
        )
    return currency, units


def number(obj: dict[str, Any], name: str) -> Decimal:
    """A member that is a number, written as a JSON number or as a plain decimal string. Raises Unreadable."""
    value = obj.get(name)
    if type(value) is not int and not isinstance(value, Decimal):
        return strict_json.plain(obj, name)
    exact = Decimal(value)
    if not abs(exact) < _LARGEST or int(exact.as_tuple().exponent) < -_FINEST:
        raise Unreadable("bad_value", f"The member {name!r} is {str(value)[:40]}: no rate that can be.", field=name)
    return exact
