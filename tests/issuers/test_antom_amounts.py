from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deposit_token_sdk.errors import InvalidInput, InvalidType, Unreadable
from deposit_token_sdk.issuers.antom import amounts
from deposit_token_sdk.money import Money
from deposit_token_sdk.signing import strict_json

WHOLE_UNITS = {"CLP", "JPY", "KRW", "VND"}


def test_the_table_is_antom_s_own_24_currencies() -> None:
    assert len(amounts.DIGITS) == 24
    assert {currency for currency, digits in amounts.DIGITS.items() if digits == 0} == WHOLE_UNITS
    assert set(amounts.DIGITS.values()) == {0, 2}


@pytest.mark.parametrize(
    ("money", "value"),
    [
        (Money("128.50", "EUR"), "12850"),
        (Money("0.01", "USD"), "1"),
        (Money(5000, "JPY"), "5000"),
        (Money(5000, "KRW"), "5000"),
        (Money(1000, "IDR"), "100000"),
        (Money("99999999999999.99", "USD"), "9" * 16),
    ],
)
def test_a_price_becomes_minor_units(money: Money, value: str) -> None:
    assert amounts.of_money(money) == {"currency": money.currency, "value": value}


@pytest.mark.parametrize(
    ("units", "currency", "reason"),
    [
        (1, "CHF", "currency_not_taken"),
        (1, "CNH", "currency_not_taken"),
        (-1, "USD", "amount_negative"),
        (10**16, "USD", "too_large"),
        (150, "IDR", "not_a_multiple"),
    ],
)
def test_an_amount_that_antom_cannot_take_is_refused(units: int, currency: str, reason: str) -> None:
    with pytest.raises(InvalidInput) as error:
        amounts.amount(units, currency)
    assert error.value.reason == reason


@pytest.mark.parametrize("units", [1.0, True, Decimal(1), "1"])
def test_units_are_whole_numbers_and_nothing_else(units: Any) -> None:
    with pytest.raises(InvalidType) as error:
        amounts.amount(units, "USD")
    assert error.value.reason == "amount_type"


@given(st.integers(0, 10**16 - 1))
def test_what_is_written_is_read_whether_as_digits_or_as_a_number(units: int) -> None:
    written = strict_json.dumps({"a": amounts.amount(units, "USD")})
    for text in (written, written.replace(f'"{units}"'.encode(), str(units).encode())):
        assert amounts.read(strict_json.parse(text), "a") == ("USD", units)


@pytest.mark.parametrize("value", ['"1.5"', "1.5", "-1", '"-1"', '"1e3"', "true", "null", '"٣"', '""', "1" * 17])
def test_what_is_no_whole_number_of_minor_units_is_refused(value: str) -> None:
    with pytest.raises(Unreadable) as error:
        amounts.read(strict_json.parse(f'{{"a":{{"currency":"USD","value":{value}}}}}'.encode()), "a")
    assert error.value.reason == "bad_value"


@pytest.mark.parametrize(("text", "number"), [("1.0837", "1.0837"), ('"1.0837"', "1.0837"), ("2", "2"), ("1e2", "100")])
def test_a_number_may_be_written_either_way(text: str, number: str) -> None:
    assert amounts.number(strict_json.parse(f'{{"a":{text}}}'.encode()), "a") == Decimal(number)


@pytest.mark.parametrize("written", ["1e999999", "1e30", "-1e30", "0." + "1" * 31, "1e-999999", "9" * 4000])
def test_a_rate_that_no_arithmetic_could_hold_is_unreadable(written: str) -> None:
    """It would end in an error that is none of ours, and a sweep with it."""
    body = strict_json.parse(f'{{"quotePrice": {written}}}'.encode())
    with pytest.raises(Unreadable):
        amounts.number(body, "quotePrice")
    assert amounts.number(strict_json.parse(b'{"quotePrice": 1.0837}'), "quotePrice") == Decimal("1.0837")
