"""The invoice part of an order's page: one text to pay by, the countdown, and which total was agreed to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from attrs import evolve

from deposit_token_sdk import Attempt, Bearer, Capture, Money
from deposit_token_sdk.models import Mode, Quote
from examples.flask_shop.invoice import Lock, agreed_before, payable

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
QUOTE = Quote(
    id="quo_1",
    reference="ref",
    merchant="demo-shop",
    installation="install1",
    mode=Mode.TEST,
    price=Money("128.50", "EUR"),
    token="SBUSD",
    decimals=2,
    rate=Decimal("1.0837"),
    fee=0,
    bearer=Bearer.CRED,
    due=13926,
    net=13926,
    expires_at=NOW,
    digest="digest",
)


def attempt(reference: str, due: int | None, content: str = "c", country: str = "DE") -> Attempt:
    return Attempt(
        reference=reference,
        order_id="A",
        issuer="sandbox-bank",
        token="SBUSD",
        price=QUOTE.price,
        content=content,
        bearer=Bearer.CRED,
        capture=Capture.AUTOMATIC,
        buyer_country=country,
        return_url="http://127.0.0.1/",
        created_at=NOW,
        quote=None if due is None else evolve(QUOTE, due=due, id=f"quote of {reference}"),
    )


@pytest.mark.parametrize(
    ("left", "seconds", "clock"),
    [(899.2, 900, "15:00"), (61, 61, "1:01"), (0.1, 1, "0:01"), (0, 0, "0:00"), (-5, 0, "0:00"), (3725, 3725, "62:05")],
)
def test_the_countdown_is_what_is_left_by_the_shops_clock(left: float, seconds: int, clock: str) -> None:
    lock = Lock(NOW + timedelta(seconds=left), NOW)
    assert (lock.left, lock.clock) == (seconds, clock)


@pytest.mark.parametrize(
    ("earlier", "agreed", "before"),
    [
        ([], set(), None),
        ([attempt("1", 100)], set(), "1"),
        ([attempt("1", 100), attempt("2", 110)], set(), "1"),
        ([attempt("1", 100), attempt("2", 110)], {"2"}, "2"),
        ([attempt("1", 100), attempt("2", 100)], set(), "2"),
        ([attempt("1", 100), attempt("2", None)], set(), "1"),
        ([attempt("1", 100, content="another basket")], set(), None),
        ([attempt("1", 100, country="FR")], set(), None),
    ],
)
def test_a_new_total_is_held_against_the_one_that_was_agreed_to_last(
    earlier: list[Attempt], agreed: set[str], before: str | None
) -> None:
    now = attempt("now", 120)
    found = agreed_before([*earlier, now, attempt("later", 130)], now, agreed)
    assert (found.id if found else None) == (f"quote of {before}" if before else None)


@pytest.mark.parametrize(
    ("text", "link"),
    [("https://bank.example/pay/1", True), ("javascript:alert(1)", False), ("Transfer to account 7", False)],
)
def test_only_a_web_address_becomes_a_link(text: str, link: bool) -> None:
    found = payable(evolve(attempt("1", 100), pay_url=text))
    assert found is not None
    assert (found.text, found.link) == (text, link)


def test_where_the_bank_gave_nothing_to_pay_by_nothing_is_shown() -> None:
    assert payable(attempt("1", 100)) is None
    assert payable(None) is None
