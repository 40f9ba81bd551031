"""The client's side of pricing: quotes worked by hand, each refusal by one unit, and refunds that never exceed."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from attrs import evolve
from hypothesis import assume, given
from hypothesis import strategies as st

from deposit_token_sdk.errors import InvalidType, NotAllowed, NotOurs, PriceRefused
from deposit_token_sdk.lifecycle import RefundStage
from deposit_token_sdk.models import Bearer, NewQuote, Quote
from deposit_token_sdk.money import Money, minor_digits
from deposit_token_sdk.price import RefundPart, check, gross_units, refund_units, refundable
from deposit_token_sdk.testing.values import a_quote
from tests.hand_worked_quotes import HAND_WORKED, Worked

CEILING = Decimal("0.05")
ANY_FEE = Decimal(1000)
QUOTE = a_quote()
CRED = evolve(QUOTE, bearer=Bearer.CRED, due=13926, net=13752)


def asked_for(quote: Quote, **changes: Any) -> NewQuote:
    asked = NewQuote(quote.reference, quote.installation, quote.price, quote.token, quote.bearer, "key-1")
    return evolve(asked, **changes)


def refused(quote: Quote, ceiling: Decimal = CEILING) -> str:
    with pytest.raises(PriceRefused) as error:
        check(quote, asked_for(quote), ceiling)
    return error.value.reason


def quoted(row: Worked) -> Quote:
    return evolve(
        QUOTE,
        price=Money(row.price, row.currency),
        token=row.token,
        decimals=row.decimals,
        rate=Decimal(row.rate),
        fee=row.fee,
        bearer=Bearer(row.bearer),
        due=row.due,
        net=row.net,
    )


# -- quotes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", HAND_WORKED, ids=lambda row: f"{row.price}-{row.currency}-{row.token}-{row.bearer}")
def test_the_client_works_out_what_was_worked_by_hand_and_refuses_one_unit_more_or_less(row: Worked) -> None:
    quote = quoted(row)
    assert gross_units(quote.price.amount, quote.rate, quote.decimals) == row.gross
    check(quote, asked_for(quote), ANY_FEE)
    for off in (-1, 1):
        assert refused(evolve(quote, due=row.due + off), ANY_FEE) == "due_differs"
        assert refused(evolve(quote, net=row.net + off), ANY_FEE) == "net_differs"
    assert refused(evolve(quote, fee=row.fee + 1), ANY_FEE) == (
        "due_differs" if quote.bearer is Bearer.DEBT else "net_differs"
    )


@pytest.mark.parametrize("row", HAND_WORKED, ids=lambda row: f"{row.price}-{row.currency}-{row.token}-{row.bearer}")
def test_a_fee_above_the_usual_ceiling_is_refused_and_one_below_it_is_not(row: Worked) -> None:
    quote = quoted(row)
    if Fraction(row.fee) > Fraction(1, 20) * row.gross:
        assert refused(quote) == "fee_above_ceiling"
    else:
        check(quote, asked_for(quote), CEILING)


@pytest.mark.parametrize("quote", [QUOTE, CRED], ids=["DEBT", "CRED"])
def test_the_documented_example_adds_up_with_either_bearer(quote: Quote) -> None:
    check(quote, asked_for(quote), CEILING)


def test_a_price_is_rounded_up_once_at_the_end() -> None:
    assert gross_units(Decimal("0.01"), Decimal("0.0000000001"), 2) == 1
    assert gross_units(Decimal("1.00"), Decimal(1), 2) == 100
    assert gross_units(Decimal(3), Decimal("0.333"), 2) == 100
    assert gross_units(Decimal(3), Decimal("0.3333333333"), 0) == 1


@given(
    st.decimals(min_value="0.001", max_value="1e20", places=3),
    st.decimals(min_value="0.0000000001", max_value="100000", places=10),
    st.integers(0, 18),
)
def test_gross_is_the_exact_ceiling_whatever_the_figures(price: Decimal, rate: Decimal, decimals: int) -> None:
    exact = Fraction(price) * Fraction(rate) * 10**decimals
    assert gross_units(price, rate, decimals) == -((-exact.numerator) // exact.denominator)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": Money(0, "EUR")}, "price_not_positive"),
        ({"price": Money("-0.01", "EUR")}, "price_not_positive"),
        ({"rate": Decimal(0)}, "rate_not_positive"),
        ({"rate": Decimal("-1.0837")}, "rate_not_positive"),
        ({"fee": -1, "due": 13925}, "fee_negative"),
        ({"fee": 697, "due": 13926 + 697}, "fee_above_ceiling"),
        ({"due": 14101}, "due_differs"),
        ({"due": 0}, "due_differs"),
        ({"net": 13925}, "net_differs"),
        ({"net": 0}, "net_differs"),
        ({"rate": Decimal("0.9227")}, "due_differs"),
        ({"decimals": 6}, "due_differs"),
    ],
)
def test_a_quote_that_does_not_add_up_is_refused_by_its_own_reason(changes: dict[str, Any], reason: str) -> None:
    assert refused(evolve(QUOTE, **changes)) == reason


def test_a_fee_of_just_the_ceiling_is_taken() -> None:
    fee = 13926 * 5 // 100
    assert fee == 696
    check(evolve(QUOTE, fee=fee, due=13926 + fee), asked_for(QUOTE), CEILING)
    check(evolve(QUOTE, fee=0, due=13926), asked_for(QUOTE), Decimal(0))
    assert refused(evolve(QUOTE, fee=1, due=13927), Decimal(0)) == "fee_above_ceiling"


def test_the_ceiling_is_exact_for_more_digits_than_decimal_keeps_by_default() -> None:
    price = Money("12345678901234567890123456789012.34", "USD")
    gross = 1234567890123456789012345678901234 * 10**16
    quote = evolve(QUOTE, price=price, rate=Decimal(1), decimals=18, net=gross)
    ceiling = Decimal("0.0000000000000000000000000000000001")
    most = int(Fraction(ceiling) * gross)
    check(evolve(quote, fee=most, due=gross + most), asked_for(quote), ceiling)
    assert refused(evolve(quote, fee=most + 1, due=gross + most + 1), ceiling) == "fee_above_ceiling"


def test_a_quote_that_nets_nothing_is_refused() -> None:
    tiny = evolve(CRED, price=Money("0.05", "EUR"), rate=Decimal(1), fee=5, due=5, net=0)
    assert refused(tiny, Decimal(1)) == "nets_nothing"
    assert refused(evolve(tiny, fee=6, net=-1), Decimal(2)) == "nets_nothing"
    check(evolve(tiny, fee=4, net=1), asked_for(tiny), Decimal(1))


@pytest.mark.parametrize(
    "change",
    [
        {"reference": "r2"},
        {"installation": "other123"},
        {"price": Money("128.51", "EUR")},
        {"price": Money("128.50", "USD")},
        {"token": "SBEUR"},
        {"bearer": Bearer.CRED},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_quote_for_something_else_than_was_asked_is_not_ours(change: dict[str, Any]) -> None:
    with pytest.raises(NotOurs) as error:
        check(QUOTE, asked_for(QUOTE, **change), CEILING)
    assert error.value.reason == "quote_for_another_request"
    assert next(iter(change)) in str(error.value)


# -- refunds ---------------------------------------------------------------------------------------------------


def part(asked: int | Money, units: int, stage: RefundStage = RefundStage.DONE) -> RefundPart:
    return RefundPart(units, asked if isinstance(asked, Money) else None, stage)


def not_allowed(asked: int | Money, quote: Quote, received: int, *parts: RefundPart) -> str:
    with pytest.raises(NotAllowed) as error:
        refund_units(asked, quote, received, parts)
    return error.value.reason


def euros(text: str) -> Money:
    return Money(text, "EUR")


def test_the_bank_keeps_its_fee_where_the_buyer_bore_it_and_not_where_the_merchant_did() -> None:
    assert refundable(QUOTE, 14100, []) == 13926
    assert refundable(CRED, 13926, []) == 13926
    assert refund_units(13926, QUOTE, 14100, []) == 13926
    assert not_allowed(13927, QUOTE, 14100) == "refund_exceeds"
    assert refund_units(euros("128.50"), QUOTE, 14100, []) == 13926
    assert refund_units(euros("128.50"), CRED, 13926, []) == 13926


def test_a_part_of_the_price_is_rounded_down_and_the_last_takes_the_exact_rest() -> None:
    third = euros("42.83")
    first = refund_units(third, QUOTE, 14100, [])
    assert first == 4641  # 42.83 x 1.0837 is 46.4148…
    second = refund_units(third, QUOTE, 14100, [part(third, first)])
    parts = [part(third, first), part(third, second)]
    last = refund_units(euros("42.84"), QUOTE, 14100, parts)
    assert (second, last) == (4641, 13926 - 2 * 4641)
    assert refundable(QUOTE, 14100, [*parts, part(euros("42.84"), last)]) == 0
    assert not_allowed(euros("0.01"), QUOTE, 14100, *parts, part(euros("42.84"), last)) == "refund_exceeds"


@pytest.mark.parametrize("stage", list(RefundStage))
def test_a_failed_part_frees_its_amount_and_every_other_keeps_it(stage: RefundStage) -> None:
    earlier = part(13000, 13000, stage)
    left = 13926 if stage in (RefundStage.FAILED, RefundStage.CANCELLED) else 926
    assert refundable(QUOTE, 14100, [earlier]) == left
    assert refund_units(left, QUOTE, 14100, [earlier]) == left
    assert not_allowed(left + 1, QUOTE, 14100, earlier) == "refund_exceeds"


def test_a_failed_part_of_the_price_is_free_to_be_asked_again_to_the_unit() -> None:
    failed = part(euros("100.00"), 10837, RefundStage.FAILED)
    done = part(euros("28.50"), 3088)
    assert refund_units(euros("100.00"), QUOTE, 14100, [failed, done]) == 13926 - 3088


def test_token_units_and_the_prices_currency_are_never_mixed_on_one_invoice() -> None:
    assert not_allowed(100, QUOTE, 14100, part(euros("1.00"), 108)) == "refund_mixed"
    assert not_allowed(euros("1.00"), QUOTE, 14100, part(100, 100)) == "refund_mixed"
    failed = part(100, 100, RefundStage.FAILED)
    assert refund_units(euros("1.00"), QUOTE, 14100, [failed]) == 108


def test_another_currency_than_the_prices_is_refused() -> None:
    assert not_allowed(Money("1.00", "USD"), QUOTE, 14100) == "refund_currency"


@pytest.mark.parametrize("asked", [0, -1, euros("0"), euros("-1.00")], ids=str)
def test_a_refund_of_nothing_is_refused(asked: int | Money) -> None:
    assert not_allowed(asked, QUOTE, 14100) == "refund_not_positive"


def test_a_part_that_is_worth_no_whole_unit_is_refused() -> None:
    yen = evolve(QUOTE, price=Money(1980, "JPY"), rate=Decimal("0.0066967"), fee=18, bearer=Bearer.CRED)
    assert refund_units(Money(2, "JPY"), yen, 1326, []) == 1
    assert not_allowed(Money(1, "JPY"), yen, 1326) == "refund_not_positive"


@pytest.mark.parametrize("asked", [10.0, True, Decimal(10), "10", None])
def test_a_refund_in_floats_or_anything_else_is_a_type_error(asked: Any) -> None:
    with pytest.raises(InvalidType) as error:
        refund_units(asked, QUOTE, 14100, [])
    assert error.value.reason == "amount_type"


def test_more_than_the_price_is_refused_in_its_currency_and_a_surplus_goes_back_in_units() -> None:
    assert not_allowed(euros("128.51"), CRED, 20000) == "refund_exceeds"
    assert refund_units(euros("128.50"), CRED, 20000, []) == 13926
    assert refund_units(20000, CRED, 20000, []) == 20000
    assert not_allowed(20001, CRED, 20000) == "refund_exceeds"


def test_of_a_short_payment_the_whole_price_sends_back_what_came_and_no_more() -> None:
    assert refund_units(euros("128.50"), CRED, 5000, []) == 5000
    assert refund_units(euros("128.50"), QUOTE, 5000, []) == 5000 - 174
    assert not_allowed(euros("100.00"), CRED, 5000) == "refund_exceeds"


@pytest.mark.parametrize("asked", [1, euros("1.00")], ids=str)
def test_nothing_goes_back_where_nothing_came(asked: int | Money) -> None:
    assert not_allowed(asked, QUOTE, 0) == "refund_exceeds"
    assert not_allowed(asked, CRED, 0) == "refund_exceeds"


def units_or_reason(asked: int | Money, quote: Quote, received: int, parts: list[RefundPart]) -> int | str:
    try:
        return refund_units(asked, quote, received, parts)
    except NotAllowed as error:
        return error.reason


@st.composite
def paid_quotes(draw: st.DrawFn) -> tuple[Quote, int, int]:
    """A quote that adds up, its gross, and what was received: short, exact or more."""
    currency = draw(st.sampled_from(["EUR", "JPY", "KWD"]))
    minor = draw(st.integers(1, 10**7))
    price = Money(Decimal(minor).scaleb(-minor_digits(currency)), currency)
    rate = draw(st.decimals(min_value="0.0001", max_value="1000", places=10))
    decimals = draw(st.sampled_from([2, 6]))
    gross = gross_units(price.amount, rate, decimals)
    fee = draw(st.integers(0, max(0, gross // 20)))
    bearer = draw(st.sampled_from(Bearer))
    due, net = (gross + fee, gross) if bearer is Bearer.DEBT else (gross, gross - fee)
    quote = evolve(QUOTE, price=price, rate=rate, decimals=decimals, fee=fee, bearer=bearer, due=due, net=net)
    return quote, gross, draw(st.one_of(st.just(due), st.integers(fee + 1, 2 * due + 1)))


@given(paid_quotes(), st.data())
def test_any_parts_that_make_up_the_whole_price_send_back_just_what_can_be(
    paid: tuple[Quote, int, int], data: st.DataObject
) -> None:
    quote, gross, received = paid
    whole = min(gross, refundable(quote, received, []))
    digits = minor_digits(quote.price.currency)
    left = int(quote.price.amount.scaleb(digits))
    parts: list[RefundPart] = []
    while left:
        minor = data.draw(st.integers(1, left)) if len(parts) < 8 else left
        asked = Money(Decimal(minor).scaleb(-digits), quote.price.currency)
        units = units_or_reason(asked, quote, received, parts)
        if isinstance(units, str):
            assert units in {"refund_not_positive", "refund_exceeds"}
            assume(minor < left)
            parts.append(part(asked, 0, RefundStage.FAILED))
            continue
        left -= minor
        parts.append(part(asked, units))
        sent = sum(one.units for one in parts)
        assert units > 0
        assert sent <= whole
    assert sum(one.units for one in parts) == whole


@given(paid_quotes(), st.lists(st.tuples(st.integers(-5, 10**9), st.sampled_from(RefundStage)), max_size=12))
def test_parts_in_units_never_exceed_what_was_received(
    paid: tuple[Quote, int, int], wishes: list[tuple[int, RefundStage]]
) -> None:
    quote, _, received = paid
    parts: list[RefundPart] = []
    for units, becomes in wishes:
        before = refundable(quote, received, parts)
        allowed = units_or_reason(units, quote, received, parts)
        if isinstance(allowed, str):
            assert allowed == ("refund_exceeds" if units > before else "refund_not_positive")
        else:
            parts.append(part(units, allowed, becomes))
        counting = sum(one.units for one in parts if one.stage.counts)
        kept = quote.fee if quote.bearer is Bearer.DEBT else 0
        assert 0 <= counting <= received - kept
