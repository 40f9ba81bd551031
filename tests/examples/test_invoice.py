"""The invoice part of an order's page: one text to pay by, the countdown, and which total was agreed to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from deposit_token_sdk import Attempt
from deposit_token_sdk.testing.values import a_quote, an_attempt
from examples.flask_shop.invoice import Lock, agreed_before, payable

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


def attempt(reference: str, due: int | None, content: str = "c", country: str = "DE") -> Attempt:
    quote = None if due is None else a_quote(reference, due=due, id=f"quote of {reference}")
    return an_attempt(reference, content=content, buyer_country=country, quote=quote)


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
