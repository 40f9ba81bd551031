"""Sending money back from the shop's back office; sums are the bank's ledger's, worked by hand here."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from deposit_token_sdk.sandbox import Sandbox

from .conftest import Visitor, booked, both_sizes, invoice_of, until_heard

pytestmark = pytest.mark.acceptance


def paid_order(visitor: Visitor, bank: Sandbox) -> tuple[str, str]:
    """An order of 128.50 EUR, paid with 139.61 SBUSD: its id, and its invoice's."""
    visitor.order()
    order, invoice = visitor.order_id(), invoice_of(bank, visitor.pay_link())["id"]
    bank.control.pay(invoice)
    visitor.come_back()
    visitor.headline_is("Paid")
    return order, invoice


def refunds(bank: Sandbox, invoice: str) -> list[str]:
    return [units for kind, _, units in booked(bank, invoice) if kind == "refund"]


def test_a_part_is_sent_back_and_then_exactly_the_rest(visitor: Visitor, keeper: Visitor, bank: Sandbox) -> None:
    order, invoice = paid_order(visitor, bank)
    page = keeper.page
    page.goto(f"{keeper.shop}/admin")
    page.get_by_role("link", name=order).click()
    page.get_by_label("Amount, up to").fill("28.50")
    page.get_by_role("button", name="Refund this amount").click()
    expect(page.locator(".refunds")).to_contain_text("28.50 EUR (30.96 SBUSD): done")
    # 28.50 EUR x 1.08640925 = 30.962663625, rounded down
    assert refunds(bank, invoice) == ["3096"]

    page.get_by_role("button", name="Refund all: 100.00 EUR").click()
    expect(page.locator(".refunds li")).to_have_count(2)
    assert refunds(bank, invoice) == ["3096", "10865"]
    expect(page.get_by_role("button", name="Refund all")).to_have_count(0)
    visitor.page.reload()
    expect(visitor.page.locator("#status")).to_contain_text("28.50 EUR: done")


def test_a_part_can_be_sent_back_in_the_token(visitor: Visitor, keeper: Visitor, bank: Sandbox) -> None:
    order, invoice = paid_order(visitor, bank)
    page = keeper.page
    page.goto(f"{keeper.shop}/admin/orders/{order}")
    page.get_by_label("Amount, up to").fill("0.01")
    page.get_by_label("Currency of the amount").select_option("token")
    page.get_by_role("button", name="Refund this amount").click()
    expect(page.locator(".refunds")).to_contain_text("0.01 SBUSD: done")
    assert refunds(bank, invoice) == ["1"]


@both_sizes
def test_the_same_form_sent_twice_is_one_refund_and_a_fresh_one_is_another(
    visitor: Visitor, keeper: Visitor, bank: Sandbox
) -> None:
    order, invoice = paid_order(visitor, bank)
    page = keeper.page
    page.goto(f"{keeper.shop}/admin/orders/{order}")
    page.get_by_label("Amount, up to").fill("10.00")
    page.get_by_role("button", name="Refund this amount").dblclick()
    expect(page.locator(".refunds li")).to_have_count(1)
    assert refunds(bank, invoice) == ["1086"]

    page.get_by_label("Amount, up to").fill("10.00")
    page.get_by_role("button", name="Refund this amount").click()
    expect(page.locator(".refunds li")).to_have_count(2)
    assert refunds(bank, invoice) == ["1086", "1086"]


def test_an_amount_that_cannot_be_sent_back_sends_nothing(visitor: Visitor, keeper: Visitor, bank: Sandbox) -> None:
    order, invoice = paid_order(visitor, bank)
    page = keeper.page
    page.goto(f"{keeper.shop}/admin/orders/{order}")
    for amount in ("128.51", "0", "0.001"):
        page.get_by_label("Amount, up to").fill(amount)
        page.get_by_role("button", name="Refund this amount").click()
        expect(page.locator(".message")).to_contain_text("Nothing was sent back")
        expect(page.get_by_label("Amount, up to")).to_have_value("")
    assert refunds(bank, invoice) == []


def test_a_refund_that_fails_a_day_later_is_shown_as_failed_and_can_be_made_again(
    visitor: Visitor, keeper: Visitor, bank: Sandbox
) -> None:
    order, invoice = paid_order(visitor, bank)
    page = keeper.page
    page.goto(f"{keeper.shop}/admin/orders/{order}")
    page.get_by_role("button", name="Refund all: 128.50 EUR").click()
    expect(page.locator(".refunds")).to_contain_text("done")
    (refund,) = bank.control.invoice(invoice)["refunds"]
    bank.control.fail_refund(refund["id"])
    until_heard(bank, invoice)
    page.reload()
    expect(page.locator(".refunds")).to_contain_text("failed")
    expect(page.get_by_role("button", name="Refund all: 128.50 EUR")).to_be_visible()
    expect(page.locator(".reviews")).to_contain_text("refund_failed")


def test_a_second_payment_is_put_up_for_review_and_can_be_sent_back(
    visitor: Visitor, keeper: Visitor, bank: Sandbox
) -> None:
    order, invoice = paid_order(visitor, bank)
    page = keeper.page
    bank.control.pay(invoice, units=13_961)
    until_heard(bank, invoice)
    page.goto(f"{keeper.shop}/admin")
    expect(page.locator(".reviews li", has_text=order)).to_contain_text("second_payment")
    page.get_by_role("link", name=order).first.click()
    page.get_by_label("Amount, up to").fill("139.61")
    page.get_by_label("Currency of the amount").select_option("token")
    page.get_by_role("button", name="Refund this amount").click()
    expect(page.locator(".refunds")).to_contain_text("139.61 SBUSD: done")
    assert refunds(bank, invoice) == ["13961"]
