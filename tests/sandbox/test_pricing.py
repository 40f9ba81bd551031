"""The bank's side of pricing, against quotes worked by hand."""

from __future__ import annotations

from decimal import Decimal

import pytest

from deposit_token_sdk.sandbox import pricing
from deposit_token_sdk.sandbox.problems import Refused
from tests.hand_worked_quotes import HAND_WORKED, Worked


def test_there_are_thirty_hand_worked_quotes_over_all_tokens_and_both_bearers() -> None:
    assert len(set(HAND_WORKED)) == 30
    assert {row.token for row in HAND_WORKED} == set(pricing.TOKENS)
    assert {row.bearer for row in HAND_WORKED} == {"DEBT", "CRED"}
    assert {"JPY", "KWD"} <= {row.currency for row in HAND_WORKED}


@pytest.mark.parametrize("row", HAND_WORKED, ids=lambda row: f"{row.price}-{row.currency}-{row.token}-{row.bearer}")
def test_the_bank_prices_as_worked_by_hand(row: Worked) -> None:
    token = pricing.TOKENS[row.token]
    priced = pricing.price(token, row.currency, Decimal(row.price), row.bearer)
    assert token.decimals == row.decimals
    assert priced == pricing.Priced(row.rate, row.fee, row.gross, row.due, row.net)


@pytest.mark.parametrize(("currency", "amount"), [("USD", "0.01"), ("USD", "0.05"), ("JPY", "1")])
def test_a_price_that_would_net_nothing_is_refused(currency: str, amount: str) -> None:
    with pytest.raises(Refused) as refused:
        pricing.price(pricing.TOKENS["SBUSD"], currency, Decimal(amount), "CRED")
    assert refused.value.code == "nets_nothing"


def test_a_currency_without_a_direct_rate_is_refused() -> None:
    with pytest.raises(Refused) as refused:
        pricing.rate(pricing.TOKENS["SBUSD"], "XPF")
    assert refused.value.code == "unsupported_currency"


def test_offshore_yuan_is_not_onshore_yuan() -> None:
    token = pricing.TOKENS["SBCNH"]
    assert pricing.rate(token, "CNH") == "1"
    assert pricing.rate(token, "CNY") == "1.002901"


def test_a_rate_that_falls_between_two_is_rounded_half_up_to_ten_decimals() -> None:
    assert pricing.rate(pricing.TOKENS["SBUSD"], "KRW") == "0.0007239053"
