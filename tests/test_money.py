"""Amounts are exact or refused: ISO 4217 from two independent sources, floats, fineness, size, arithmetic."""

from __future__ import annotations

import copy
import decimal
import operator
import pickle
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import pycountry
import pytest
from babel.core import Locale
from babel.numbers import get_currency_precision
from hypothesis import assume, given
from hypothesis import strategies as st

from deposit_token_sdk.errors import InvalidInput, InvalidType
from deposit_token_sdk.money import (
    MAX_UNIT_DIGITS,
    MINOR_DIGITS,
    Money,
    decimal_of,
    minor_digits,
    plain_decimal,
    units_of,
)

NO_MINOR_UNIT = {
    "XAD",  # Arab accounting dinar, a unit of account between central banks
    "XAG",  # silver
    "XAU",  # gold
    "XBA",  # European composite unit
    "XBB",  # European monetary unit
    "XBC",  # European unit of account 9
    "XBD",  # European unit of account 17
    "XDR",  # special drawing right
    "XPD",  # palladium
    "XPT",  # platinum
    "XSU",  # Sucre
    "XTS",  # for tests
    "XUA",  # ADB unit of account
    "XXX",  # no currency
}
"""What ISO 4217 lists with no minor unit ("N.A."): nothing of these is paid in."""

CLDR_PRACTICE = frozenset(
    "AFN ALL COP HUF IDR IQD IRR KPW LAK LBP MGA MMK RSD SOS SYP YER".split(),
)
"""Where some edition of CLDR gives the digits that people write today, which are none, and ISO 4217 the minor unit
that exists: ours is ISO's."""

currencies = st.sampled_from(sorted(MINOR_DIGITS))


@st.composite
def amounts(draw: st.DrawFn, currency: str | None = None) -> Money:
    code = draw(currencies) if currency is None else currency
    minor = draw(st.integers(-(10**37), 10**37))
    return Money(Decimal(minor).scaleb(-minor_digits(code)), code)


# -- currencies ------------------------------------------------------------------------------------------------


def test_the_codes_are_those_of_iso_4217_that_have_a_minor_unit_and_offshore_yuan() -> None:
    listed = {currency.alpha_3 for currency in pycountry.currencies}
    assert set(MINOR_DIGITS) - listed == {"CNH"}
    assert listed - set(MINOR_DIGITS) == NO_MINOR_UNIT


def test_the_digits_are_those_of_cldr_but_where_it_gives_practice_for_the_minor_unit() -> None:
    told = {code: get_currency_precision(code) for code in MINOR_DIGITS}
    differing = {code: digits for code, digits in told.items() if digits != MINOR_DIGITS[code]}
    assert set(differing) <= CLDR_PRACTICE
    assert set(differing.values()) == {0}
    assert set(MINOR_DIGITS) <= set(Locale("en").currencies)


@pytest.mark.parametrize(("code", "digits"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("CLF", 4), ("UYW", 4), ("CNH", 2)])
def test_a_currency_has_its_own_number_of_decimals(code: str, digits: int) -> None:
    assert minor_digits(code) == digits
    least = Decimal(1).scaleb(-digits)
    assert Money(least, code).amount == least
    with pytest.raises(InvalidInput) as refused:
        Money(least / 10, code)
    assert refused.value.reason == "too_fine"


@pytest.mark.parametrize("code", ["", "eur", "EURO", "XXX", "XAU", "XTS", "BGN", "ZZZ", "E R", "€", None, 978, ["EUR"]])
def test_a_currency_that_does_not_exist_is_refused(code: Any) -> None:
    with pytest.raises(InvalidInput) as refused:
        Money("1", code)
    assert refused.value.reason == "unknown_currency"


def test_offshore_yuan_and_onshore_yuan_do_not_mix() -> None:
    assert Money("1", "CNH") != Money("1", "CNY")
    with pytest.raises(InvalidInput) as refused:
        Money("1", "CNH") + Money("1", "CNY")
    assert refused.value.reason == "currency_mismatch"


# -- amounts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amount", [128.5, 128.0, 0.0, float("nan"), float("inf"), True, None, b"1", 1j, ["1"]])
def test_a_float_or_anything_else_that_is_no_exact_number_is_a_type_error(amount: Any) -> None:
    with pytest.raises(TypeError) as refused:
        Money(amount, "EUR")
    assert isinstance(refused.value, InvalidType)
    assert refused.value.reason == "amount_type"
    with pytest.raises(InvalidType):
        units_of(amount, 2)


@pytest.mark.parametrize("amount", ["NaN", "sNaN", "Infinity", "-Infinity"])
def test_what_is_not_finite_is_no_amount(amount: str) -> None:
    for refuse in (lambda: Money(Decimal(amount), "EUR"), lambda: units_of(Decimal(amount), 2)):
        with pytest.raises(InvalidInput) as refused:
            refuse()
        assert refused.value.reason == "amount_not_finite"


@pytest.mark.parametrize(
    "text",
    [*", 1,1 ,+1,1.,.5,01,00,1e3,1E3,1_000,--1,NaN,Infinity,١,1\n".split(","), "1,50", "9" * 41],
)
def test_an_amount_in_text_is_plain_digits(text: str) -> None:
    for refuse in (lambda: Money(text, "EUR"), lambda: plain_decimal(text), lambda: units_of(text, 2)):
        with pytest.raises(InvalidInput) as refused:
            refuse()
        assert refused.value.reason == "not_a_plain_decimal"


@pytest.mark.parametrize(
    ("amount", "currency"),
    [("1.005", "EUR"), ("0.1", "JPY"), ("1.0005", "KWD"), (Decimal("1E-50"), "EUR"), (Decimal("1E-9999"), "EUR")],
)
def test_an_amount_finer_than_the_minor_unit_is_refused_and_not_rounded(amount: Decimal | str, currency: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        Money(amount, currency)
    assert refused.value.reason == "too_fine"


@pytest.mark.parametrize("amount", [Decimal("1E+38"), Decimal("1E+999999"), 10**4000, -(10**38)])
def test_an_amount_beyond_all_money_is_refused(amount: Decimal | int) -> None:
    with pytest.raises(InvalidInput) as refused:
        Money(amount, "EUR")
    assert refused.value.reason == "too_large"
    assert len(str(refused.value)) < 200


def test_an_amount_is_kept_in_the_decimals_of_its_currency() -> None:
    assert str(Money("1", "EUR")) == "1.00 EUR"
    assert str(Money(1980, "JPY")) == "1980 JPY"
    assert str(Money(Decimal("1.2500"), "KWD")) == "1.250 KWD"
    assert str(Money(Decimal("1E+3"), "JPY")) == "1000 JPY"
    assert str(Money("-0", "EUR")) == "0.00 EUR"
    assert str(Money(Decimal("-0.00"), "EUR")) == "0.00 EUR"
    assert str(Money(Decimal("0E+400"), "EUR")) == "0.00 EUR"


def test_equal_amounts_are_equal_however_they_were_written() -> None:
    same = {Money("1.50", "EUR"), Money(Decimal("1.5"), "EUR"), Money(Decimal("150E-2"), "EUR")}
    assert len(same) == 1
    assert Money(0, "EUR") == Money("-0", "EUR")
    assert Money(1, "EUR") != Money(1, "USD")
    assert Money(1, "EUR") != Decimal(1)


def test_an_amount_below_zero_is_an_amount_whether_it_may_be_paid_is_for_others() -> None:
    assert Money("-1.50", "EUR") < Money(0, "EUR")
    assert str(Money("-1.50", "EUR")) == "-1.50 EUR"


def test_no_digit_is_lost_beyond_the_28_that_decimal_keeps_by_default() -> None:
    text = "123456789012345678901234567890123456.78"
    assert str(Money(text, "EUR")) == f"{text} EUR"
    assert Money(text, "EUR") - Money("0.01", "EUR") == Money(text[:-1] + "7", "EUR")


@given(amounts())
def test_the_callers_decimal_context_changes_nothing(money: Money) -> None:
    with localcontext() as context:
        context.prec = 3
        context.rounding = decimal.ROUND_UP
        context.traps[decimal.Inexact] = True
        again = Money(str(money).split()[0], money.currency) if len(str(money.amount)) <= 40 else money
        assert again == money
        assert money - money == Money(0, money.currency)
        assert money + Money(0, money.currency) == money
        assert Money(money.amount, money.currency) == money


@given(amounts())
def test_money_survives_pickling_and_copying(money: Money) -> None:
    assert pickle.loads(pickle.dumps(money)) == money  # noqa: S301  # our own bytes
    assert copy.deepcopy(money) == money


# -- arithmetic ------------------------------------------------------------------------------------------------


def test_money_adds_subtracts_and_multiplies_by_pieces() -> None:
    tea = Money("19.99", "EUR")
    assert tea + Money("0.01", "EUR") == Money("20", "EUR")
    assert tea - Money("20", "EUR") == Money("-0.01", "EUR")
    assert tea * 3 == 3 * tea == Money("59.97", "EUR")
    assert Money(1980, "JPY") * 2 == Money(3960, "JPY")
    assert sum([tea, tea], Money(0, "EUR")) == tea * 2


@given(st.data(), currencies)
def test_sums_are_exact_to_the_minor_unit(data: st.DataObject, currency: str) -> None:
    one, other = data.draw(amounts(currency)), data.draw(amounts(currency))
    digits = minor_digits(currency)
    total = units_of((one + other).amount, digits)
    assert total == units_of(one.amount, digits) + units_of(other.amount, digits)
    assert one + other == other + one
    assert (one + other) - other == one
    assert (one < other) is (units_of(one.amount, digits) < units_of(other.amount, digits))
    assert (one <= other) is not (one > other)
    assert (one >= other) is not (one < other)


@given(amounts(), st.integers(-(10**6), 10**6))
def test_pieces_are_counted_exactly(money: Money, count: int) -> None:
    assume(abs(money.amount * max(1, abs(count))) < Decimal(10) ** 37)
    digits = minor_digits(money.currency)
    assert units_of((money * count).amount, digits) == units_of(money.amount, digits) * count


@pytest.mark.parametrize("count", [1.5, 2.0, Decimal(2), True, "2", None])
def test_money_is_not_multiplied_by_what_is_no_count(count: Any) -> None:
    with pytest.raises(InvalidType) as refused:
        Money(1, "EUR") * count
    assert refused.value.reason == "amount_type"


@pytest.mark.parametrize("count", [10**38, 10**200 + 1, -(10**200) - 1])
def test_a_count_beyond_all_money_is_refused(count: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        Money("1.01", "EUR") * count
    assert refused.value.reason == "too_large"


MIXING: list[Callable[[Any, Any], object]] = [
    operator.add, operator.sub, operator.lt, operator.le, operator.gt, operator.ge,
]  # fmt: skip


@pytest.mark.parametrize("mix", MIXING)
def test_two_currencies_never_mix(mix: Callable[[Any, Any], object]) -> None:
    with pytest.raises(InvalidInput) as refused:
        mix(Money(1, "EUR"), Money(1, "USD"))
    assert refused.value.reason == "currency_mismatch"


@pytest.mark.parametrize("mix", MIXING)
@pytest.mark.parametrize("other", [1, 1.0, Decimal(1), "1", None])
def test_money_goes_with_nothing_but_money(mix: Callable[[Any, Any], object], other: Any) -> None:
    with pytest.raises(InvalidType) as refused:
        mix(Money(1, "EUR"), other)
    assert refused.value.reason == "amount_type"


# -- token units -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("amount", "decimals", "units"),
    [
        ("141.00", 2, 14100),
        ("0.000001", 6, 1),
        (Decimal("1E+3"), 2, 100_000),
        (7, 0, 7),
        ("-0.5", 1, -5),
        ("1.500", 1, 15),
    ],
)
def test_tokens_are_counted_in_whole_units(amount: Decimal | str | int, decimals: int, units: int) -> None:
    assert units_of(amount, decimals) == units


@pytest.mark.parametrize(("amount", "decimals"), [("0.001", 2), ("1.5", 0), (Decimal("1E-999"), 18), ("0.0000001", 6)])
def test_a_part_of_a_unit_is_refused_and_not_rounded(amount: Decimal | str, decimals: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        units_of(amount, decimals)
    assert refused.value.reason == "too_fine"


@pytest.mark.parametrize("amount", [Decimal("1E+999999"), Decimal("1E+77"), 10**77])
def test_more_units_than_any_ledger_counts_are_refused(amount: Decimal | int) -> None:
    with pytest.raises(InvalidInput) as refused:
        units_of(amount, 2)
    assert refused.value.reason == "too_large"


def test_units_are_shown_with_all_their_decimals() -> None:
    assert str(decimal_of(14100, 2)) == "141.00"
    assert f"{decimal_of(1, 6):f}" == "0.000001"
    assert str(decimal_of(0, 2)) == "0.00"
    assert str(decimal_of(7, 0)) == "7"


@pytest.mark.parametrize("units", [1.0, 141.5, "141", Decimal(141), True, None])
def test_units_that_are_no_int_are_refused(units: Any) -> None:
    with pytest.raises(InvalidType) as refused:
        decimal_of(units, 2)
    assert refused.value.reason == "amount_type"


@given(st.integers(-(10**MAX_UNIT_DIGITS) + 1, 10**MAX_UNIT_DIGITS - 1), st.integers(0, 36))
def test_units_and_tokens_turn_into_each_other_without_loss(units: int, decimals: int) -> None:
    assert units_of(decimal_of(units, decimals), decimals) == units
