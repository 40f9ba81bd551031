"""The example shop shows the tokens that may be offered where the buyer is, and says which may not."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from deposit_token_sdk import Attempt
from deposit_token_sdk.sandbox import Sandbox

from .conftest import Visitor
from .test_flask_shop_paying import attempts, bank, check_out, environ, keep, placed

__all__ = ["attempts", "bank", "environ", "keep", "placed"]


def offered(page: str) -> list[str]:
    return re.findall(r'name="token" value="(\w+)"', page)


def not_offered(page: str) -> dict[str, str]:
    return dict(re.findall(r'data-refused="(\w+)" data-reason="(\w+)"', page))


def test_the_checkout_shows_what_may_be_offered_in_the_chosen_country(visitor: Visitor) -> None:
    visitor.post("/basket", sku="travel-set", add=1)
    page = visitor.get("/checkout")
    assert offered(page) == ["SBUSD", "SBEUR", "SBCNH"]
    assert not_offered(page) == {}
    there = visitor.post("/checkout/offers", country="CN", token="SBUSD")
    assert offered(there) == []
    assert not_offered(there) == dict.fromkeys(["SBUSD", "SBEUR", "SBCNH"], "mainland_china")
    assert "We have no token to offer to buyers in that country." in there
    assert '<option value="CN" selected>' in there
    assert "Ask for the price" not in there
    assert offered(visitor.post("/checkout/offers", country="HK")) == ["SBUSD", "SBEUR", "SBCNH"]
    assert offered(visitor.post("/checkout/offers", country="XX")) == ["SBUSD", "SBEUR", "SBCNH"]


def test_a_country_where_nothing_is_offered_is_refused_with_a_text_and_the_bank_is_not_asked(
    app: Flask, bank: Sandbox, visitor: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    visitor.post("/basket", sku="travel-set", add=1)
    page = check_out(visitor, country="CN")
    assert "SBUSD: This token is not offered to buyers in that country." in page
    assert offered(page) == []
    assert bank.control.invoices() == []
    with app.app_context():
        store = app.extensions["payments"].store
        assert store.order(keep()["id"]).attempts == ()
        assert [one.ruling.reason for one in store.refusals(keep()["id"])] == ["mainland_china"]
    assert "To be paid" in check_out(visitor, country="DE")


def test_an_order_that_can_be_paid_stays_what_it_is_when_its_change_is_refused(
    visitor: Visitor,
    placed: Attempt,
    keep: Callable[[], dict[str, Any]],
    attempts: Callable[[], tuple[Attempt, ...]],
) -> None:
    page = check_out(visitor, country="CN")
    assert "not offered to buyers in that country" in page
    assert (keep()["country"], keep()["token"]) == ("DE", "SBUSD")
    assert [(one.reference, one.ended) for one in attempts()] == [(placed.reference, None)]


@pytest.mark.parametrize(("tag", "text"), [("de", "wird Käufern in diesem Land nicht"), ("zh-Hans", "不向该")])
def test_a_refusal_is_told_in_the_buyers_language(visitor: Visitor, tag: str, text: str) -> None:
    visitor.post("/basket", sku="travel-set", add=1)
    visitor.post("/language", language=tag, back="/basket")
    assert text in check_out(visitor, country="CN")


class TestOwnRules:
    """A shop that sells to Germany alone."""

    @pytest.fixture
    def environ(self, environ: dict[str, str]) -> dict[str, str]:
        return {**environ, "DEPOSIT_TOKEN_BUYER_COUNTRIES": "DE"}

    def test_the_shops_own_rules_decide_what_is_shown(self, visitor: Visitor) -> None:
        visitor.post("/basket", sku="travel-set", add=1)
        assert len(offered(visitor.get("/checkout"))) == 3
        assert set(not_offered(visitor.get("/checkout?country=FR")).values()) == {"country_not_served"}
