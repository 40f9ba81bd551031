"""The keeper's own look at what the bank has to tell; sums are the bank's ledger's."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from deposit_token_sdk.sandbox import Sandbox

from .conftest import DESKTOP, PHONE, Visitor, booked, invoice_of
from .looks import Inspector

pytestmark = pytest.mark.acceptance

ALL = "Ask the bank about everything open"


def test_a_payment_nobody_heard_of_is_found_when_the_keeper_asks_about_everything_open(
    visitor: Visitor, keeper: Visitor, bank: Sandbox
) -> None:
    bank.control.drop_webhooks(count=None)
    visitor.order()
    order, invoice = visitor.order_id(), invoice_of(bank, visitor.pay_link())["id"]
    visitor.page.goto(visitor.shop)
    bank.control.pay(invoice)
    row = keeper.page.get_by_role("row").filter(has_text=order)
    keeper.page.reload()
    expect(row).to_contain_text("open")
    keeper.page.get_by_role("button", name=ALL).click()
    expect(keeper.page.get_by_role("status")).to_contain_text("The bank was asked about")
    expect(row).to_contain_text("paid")
    assert ("payment", "SBUSD", "13961") in booked(bank, invoice)


def test_a_refund_that_does_not_reach_the_bank_is_noted_and_done_at_the_next_look(
    visitor: Visitor, keeper: Visitor, bank: Sandbox
) -> None:
    visitor.order()
    order, invoice = visitor.order_id(), invoice_of(bank, visitor.pay_link())["id"]
    bank.control.pay(invoice)
    visitor.headline_is("Paid")
    page = keeper.page
    page.goto(f"{keeper.shop}/admin/orders/{order}")
    bank.control.fault("rate_limited", count=None)
    page.get_by_label("Amount, up to").fill("28.50")
    page.get_by_role("button", name="Refund this amount").click()
    expect(page.locator(".message")).to_contain_text("noted and will be sent as soon as the bank answers")
    expect(page.locator(".refunds")).to_contain_text("28.50 EUR (30.96 SBUSD): requested")
    bank.control.clear_faults()
    page.goto(f"{keeper.shop}/admin")
    page.get_by_role("button", name=ALL).click()
    page.goto(f"{keeper.shop}/admin/orders/{order}")
    expect(page.locator(".refunds")).to_contain_text("28.50 EUR (30.96 SBUSD): done")
    assert [units for kind, _, units in booked(bank, invoice) if kind == "refund"] == ["3096"]


def test_the_keeper_decides_about_a_second_payment_and_the_desk_is_for_everybody(
    visitor: Visitor, keeper: Visitor, bank: Sandbox
) -> None:
    visitor.order()
    order, invoice = visitor.order_id(), invoice_of(bank, visitor.pay_link())["id"]
    bank.control.pay(invoice)
    visitor.headline_is("Paid")
    bank.control.pay(invoice, units=13961)
    page = keeper.page
    inspector = Inspector(page, "shop", {"desktop": (DESKTOP, False), "dark-phone": (PHONE, True)})
    page.get_by_role("button", name=ALL).click()
    review = page.locator(".reviews li").filter(has_text=order)
    expect(review).to_contain_text("second_payment")
    review.locator("summary").click()
    inspector.inspect("admin-review")
    review.get_by_label("Your name").fill("Anna")
    review.get_by_label("Why").fill("Paid in two tabs.")
    review.get_by_role("button", name="Send this payment back").dblclick()
    expect(page.get_by_role("status").filter(has_text="by Anna").first).to_be_visible()
    expect(review).to_have_count(0)
    assert [units for kind, _, units in booked(bank, invoice) if kind == "refund"] == ["13961"]
    page.get_by_role("link", name="Decisions").click()
    expect(page.locator(".decided li").filter(has_text=order)).to_contain_text("sent back by Anna")
    inspector.inspect("admin-decisions")
    page.get_by_role("link", name="Health").click()
    expect(page.locator(".facts")).to_contain_text("Last event of sandbox-bank")
    inspector.inspect("admin-health")
    inspector.page.get_by_role("link", name="Backing").click()
    inspector.inspect("admin-backing")
    assert inspector.found == []
