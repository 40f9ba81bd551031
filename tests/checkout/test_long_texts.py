"""Texts that no database can look rows up by: refused by name before anything is written, and never dropped."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from deposit_token_sdk import InvalidInput
from tests.checkout.kit import ForgingBank, Shop, due_of
from tests.databases import ON_BOTH

pytestmark = ON_BOTH

LONG = secrets.token_hex(2_000)
"""Of digits that no index can shorten."""


@pytest.mark.parametrize("order_id", [LONG, "é" * 128, LONG[:256]], ids=["4000", "é", "256"])
def test_an_order_whose_name_is_too_long_is_refused_before_anything_is_written(shop: Shop, order_id: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        shop.start(order_id)
    assert refused.value.reason == "text_too_long"
    assert "order_id" in str(refused.value)
    assert shop.bank.control.invoices(merchant=shop.merchant) == []
    assert shop.checkout.store.order(order_id).attempts == ()


def test_half_a_character_in_a_name_is_refused_by_name(shop: Shop) -> None:
    with pytest.raises(InvalidInput) as refused:
        shop.start("A-\ud800")
    assert refused.value.reason == "not_unicode"


def test_the_longest_name_of_an_order_and_of_a_refund_serve(shop: Shop) -> None:
    order_id = "é" * 127 + "1"
    attempt = shop.buy(order_id)
    shop.checkout.refund(order_id, 700, request=LONG[:255])
    assert shop.checkout.view(order_id).refundable == due_of(attempt) - 700
    assert shop.checkout.seal() is not None


def test_a_refund_whose_one_time_reference_is_too_long_is_refused_and_nothing_is_reserved(shop: Shop) -> None:
    attempt = shop.buy()
    with pytest.raises(InvalidInput) as refused:
        shop.checkout.refund("A-1", 700, request=LONG)
    assert refused.value.reason == "text_too_long"
    assert shop.checkout.view("A-1").refundable == due_of(attempt)


@pytest.mark.parametrize("named", [{"topic": "mail", "key": LONG}, {"topic": LONG}], ids=["key", "topic"])
def test_a_message_whose_key_is_too_long_is_refused(shop: Shop, named: dict[str, Any]) -> None:
    with shop.sessions.begin() as session, pytest.raises(InvalidInput) as refused:
        shop.checkout.outbox.put(session, payload={}, order_id="A-1", **named)
    assert refused.value.reason == "text_too_long"


@pytest.mark.parametrize(
    "told",
    [
        lambda bank: bank.event(bank.state(bank.settlement(movement=LONG))),
        lambda bank: bank.event(
            None,
            "invoice.pending",
            movement={"id": LONG, "units": "1", "status": "seen", "accepted_at": "2026-11-30T12:00:00Z"},
        ),
        lambda bank: bank.event(None, "invoice.expired", reference=bank.attempt.reference + LONG),
    ],
    ids=["movement", "seen", "reference"],
)
def test_news_under_a_name_that_is_too_long_is_kept_and_goes_before_a_person(
    bank_of_ours: ForgingBank, told: Callable[[ForgingBank], bytes]
) -> None:
    assert bank_of_ours.deliver(told(bank_of_ours)) == (200, "bad_value")
    assert bank_of_ours.shop.reviews() == ["bad_value"]
    assert not bank_of_ours.paid
    assert bank_of_ours.deliver(bank_of_ours.event(bank_of_ours.state(bank_of_ours.settlement())), "msg_2")[0] == 200
    assert bank_of_ours.paid
