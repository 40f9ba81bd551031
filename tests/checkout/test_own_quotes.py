"""The price where a bank quotes none: to the unit, in the token's own currency, bound to what it was written for."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk import price
from deposit_token_sdk.checkout.own_quotes import own_quote, require_price
from deposit_token_sdk.client import Client
from deposit_token_sdk.errors import InvalidInput, Unsupported
from deposit_token_sdk.models import Bearer, Mode, NewQuote, Token, TokenKind
from deposit_token_sdk.money import Money
from tests.issuers.jpmorgan import bank

TOKEN = Token("SBEUR", "EUR", 2, "jpmorgan", TokenKind.DEPOSIT, "kinexys")
UNTIL = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


def asked(amount: str = "128.50", currency: str = "EUR", **more: Any) -> NewQuote:
    quote = NewQuote(bank.REFERENCE, bank.REFERENCE[:8], Money(amount, currency), "SBEUR", Bearer.CRED, "key")
    return evolve(quote, **more)


def test_what_is_due_is_the_price_to_the_unit_without_rate_or_fee() -> None:
    quote = own_quote(asked(), TOKEN, "demo-shop", Mode.TEST, UNTIL)
    assert (quote.due, quote.net, quote.fee, quote.rate, quote.statement) == (12850, 12850, 0, Decimal(1), None)
    price.check(quote, asked(), Decimal(0))


def test_a_price_finer_than_the_token_is_refused_and_never_rounded() -> None:
    with pytest.raises(InvalidInput) as fine:
        own_quote(asked(), evolve(TOKEN, decimals=0), "demo-shop", Mode.TEST, UNTIL)
    assert fine.value.reason == "too_fine"
    with Client(bank.issuer(JPMORGAN_TOKENS="SBEUR=EUR:0")) as client:
        require_price(client, Money("128.00", "EUR"), "SBEUR")
        with pytest.raises(InvalidInput) as refused:
            require_price(client, Money("128.50", "EUR"), "SBEUR")
    assert refused.value.reason == "too_fine"


def test_its_digest_is_of_everything_that_was_written() -> None:
    digest = own_quote(asked(), TOKEN, "demo-shop", Mode.TEST, UNTIL).digest
    others = [
        own_quote(asked("128.51"), TOKEN, "demo-shop", Mode.TEST, UNTIL),
        own_quote(asked(reference=bank.REFUND), TOKEN, "demo-shop", Mode.TEST, UNTIL),
        own_quote(asked(), TOKEN, "other-shop", Mode.TEST, UNTIL),
        own_quote(asked(), TOKEN, "demo-shop", Mode.LIVE, UNTIL),
        own_quote(asked(), TOKEN, "demo-shop", Mode.TEST, UNTIL.replace(hour=13)),
        own_quote(asked(), evolve(TOKEN, code="OTHER"), "demo-shop", Mode.TEST, UNTIL),
    ]
    assert digest not in {other.digest for other in others}
    assert own_quote(asked(), TOKEN, "demo-shop", Mode.TEST, UNTIL).digest == digest


def test_a_price_in_another_currency_is_unsupported_and_an_unknown_token_refused() -> None:
    with Client(bank.issuer()) as client:
        require_price(client, Money("1.00", "EUR"), "SBEUR")
        with pytest.raises(Unsupported) as lacking:
            require_price(client, Money("1.00", "USD"), "SBEUR")
        assert lacking.value.capability == "quotes"
        with pytest.raises(InvalidInput) as unknown:
            require_price(client, Money("1.00", "EUR"), "SBCNH")
        assert unknown.value.reason == "unknown_token"
