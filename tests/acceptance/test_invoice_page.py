"""The page of an order that is to be paid: its countdown, its ways to pay, and what changes while it is open."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from deposit_token_sdk.sandbox import Sandbox

from .conftest import PHONE, Visitor, booked, both_sizes, invoice_of, until_heard
from .looks import photograph, qr_code

pytestmark = pytest.mark.acceptance

SEEN = """hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });
document.dispatchEvent(new Event('visibilitychange')); }"""


def name_of(size: dict[str, int]) -> str:
    return "phone" if size == PHONE else "desktop"


def seconds_left(page: Page) -> int:
    minutes, seconds = page.locator("#countdown").inner_text().split(":")
    return int(minutes) * 60 + int(seconds)


@both_sizes
def test_the_qr_code_the_pay_link_and_the_copied_text_are_one_string(
    visitor: Visitor, bank: Sandbox, size: dict[str, int]
) -> None:
    visitor.context.grant_permissions(["clipboard-read", "clipboard-write"])
    visitor.order()
    link = visitor.pay_link()
    assert invoice_of(bank, link)["pay_url"] == link
    assert qr_code(visitor.page) == link
    assert visitor.page.get_by_label("Address for paying", exact=True).input_value() == link

    visitor.page.get_by_role("button", name="Copy the address").click()
    expect(visitor.page.locator("#copied")).to_have_text("The address is copied.")
    assert visitor.page.evaluate("navigator.clipboard.readText()") == link
    visitor.page.get_by_role("button", name="Copy the amount").click()
    expect(visitor.page.locator("#copied")).to_have_text("The amount is copied.")
    assert visitor.page.evaluate("navigator.clipboard.readText()") == "139.61"
    photograph(visitor.page, f"shop-to-be-paid-{name_of(size)}")


@both_sizes
def test_the_countdown_goes_by_the_shops_clock_and_is_read_out_only_now_and_then(visitor: Visitor) -> None:
    visitor.page.clock.install(time=0)  # this computer's clock is half a century off
    visitor.order()
    visitor.page.route("**/status", lambda route: None)  # no answer of the shop's sets the countdown meanwhile
    before = seconds_left(visitor.page)
    assert visitor.page.locator("#countdown").evaluate("one => one.closest('[aria-hidden=true]') !== null")
    visitor.page.clock.run_for(4_000)
    assert before - 15 < seconds_left(visitor.page) <= before - 4
    expect(visitor.page.locator("#news")).to_have_text("")
    visitor.page.reload()
    assert seconds_left(visitor.page) <= before


@both_sizes
def test_an_expired_price_is_asked_anew_and_a_changed_total_waits_for_consent(
    visitor: Visitor, bank: Sandbox, size: dict[str, int]
) -> None:
    visitor.order()
    old = visitor.pay_link()
    bank.control.advance(16 * 60)
    visitor.headline_is("The price has run out")
    photograph(visitor.page, f"shop-run-out-{name_of(size)}")
    bank.control.set_rate("SBUSD", "EUR", "1.0900")  # the bank's rate has moved
    visitor.page.reload()  # whoever looks again has the price asked anew
    visitor.headline_is("The total has changed")
    # 128.50 EUR x 1.0900 x 1.0025 = 140.4151625
    expect(visitor.page.locator(".old")).to_have_text("139.61 SBUSD")
    expect(visitor.page.locator(".new")).to_have_text("140.42 SBUSD")
    expect(visitor.page.get_by_role("link", name="Pay at the bank")).to_have_count(0)
    photograph(visitor.page, f"shop-new-total-{name_of(size)}")

    visitor.page.get_by_role("button", name="I agree to 140.42 SBUSD").click()
    visitor.headline_is("To be paid")
    expect(visitor.page.locator(".renewed")).to_contain_text("the old total was 139.61 SBUSD, the new one is 140.42")
    new = visitor.pay_link()
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid")
    assert booked(bank, invoice_of(bank, old)["id"]) == []
    assert ("payment", "SBUSD", "14042") in booked(bank, invoice_of(bank, new)["id"])


def test_consent_to_another_price_than_the_present_one_changes_nothing(visitor: Visitor, bank: Sandbox) -> None:
    visitor.order()
    bank.control.advance(16 * 60)
    visitor.headline_is("The price has run out")
    bank.control.set_rate("SBUSD", "EUR", "1.0900")
    visitor.page.get_by_role("button", name="Ask for a new price").click()
    visitor.headline_is("The total has changed")
    visitor.page.locator("input[name=reference]").evaluate("field => { field.value = 'another'; }")
    visitor.page.get_by_role("button", name=re.compile("I agree")).click()
    visitor.headline_is("The total has changed")


def test_the_same_total_as_before_needs_no_consent_and_is_paid(visitor: Visitor, bank: Sandbox) -> None:
    visitor.order()
    order, old = visitor.order_id(), visitor.pay_link()
    bank.control.advance(16 * 60)
    visitor.headline_is("The price has run out")
    visitor.page.get_by_role("button", name="Ask for a new price").click()
    visitor.headline_is("To be paid")
    expect(visitor.page.locator(".renewed")).to_contain_text("the old total was 139.61 SBUSD, the new one is 139.61")
    new = visitor.pay_link()
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid")
    assert visitor.order_id() == order
    assert booked(bank, invoice_of(bank, old)["id"]) == []
    assert ("payment", "SBUSD", "13961") in booked(bank, invoice_of(bank, new)["id"])


def test_a_tab_that_slept_past_the_expiry_has_the_price_asked_anew_when_it_wakes(
    visitor: Visitor, bank: Sandbox
) -> None:
    visitor.order()
    old = visitor.pay_link()
    visitor.page.evaluate(SEEN, True)
    bank.control.advance(16 * 60)
    visitor.page.evaluate(SEEN, False)
    expect(visitor.page.locator(".renewed")).to_be_visible()
    visitor.headline_is("To be paid")
    assert visitor.pay_link() != old


@both_sizes
def test_who_paid_short_pays_the_rest_by_the_same_link(visitor: Visitor, bank: Sandbox, size: dict[str, int]) -> None:
    visitor.order()
    link = visitor.pay_link()
    invoice = invoice_of(bank, link)["id"]
    bank.control.pay(invoice, units=10_000)
    visitor.headline_is("A part has come")
    expect(visitor.page.locator(".due")).to_have_text("39.61 SBUSD")
    assert visitor.pay_link() == link == qr_code(visitor.page)
    photograph(visitor.page, f"shop-short-{name_of(size)}")
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid")
    paid = [units for kind, _, units in booked(bank, invoice) if kind == "payment"]
    assert paid == ["10000", "3961"]


@both_sizes
def test_approved_twice_in_two_tabs_of_the_bank_is_one_order_and_one_review(
    visitor: Visitor, keeper: Visitor, bank: Sandbox
) -> None:
    visitor.order()
    order, link = visitor.order_id(), visitor.pay_link()
    invoice = invoice_of(bank, link)["id"]
    bank.control.fault("approved_twice", invoice=invoice)
    tabs = [visitor.context.new_page() for _ in range(2)]
    for tab in tabs:
        tab.goto(link)
        expect(tab.get_by_role("button", name="Approve")).to_be_visible()
        tab.route("**/state", lambda route: route.fulfill(status=204))  # it does not see what the other one does
    for tab in tabs:
        tab.get_by_role("button", name="Approve").click()
        visitor.headline_is("Paid", tab)
    visitor.headline_is("Paid")
    assert [kind for kind, _, units in booked(bank, invoice) if units == "13961"] == ["payment", "payment"]
    until_heard(bank, invoice)
    keeper.page.goto(f"{keeper.shop}/admin")
    expect(keeper.page.locator(".reviews li", has_text=order)).to_contain_text("second_payment")
    expect(keeper.page.get_by_role("row").filter(has_text=order)).to_have_count(1)


@both_sizes
def test_paid_late_is_looked_at_and_neither_fulfilled_nor_called_failed(
    visitor: Visitor, keeper: Visitor, bank: Sandbox, size: dict[str, int]
) -> None:
    visitor.order()
    order, invoice = visitor.order_id(), invoice_of(bank, visitor.pay_link())["id"]
    visitor.page.evaluate(SEEN, True)
    bank.control.advance(16 * 60)
    bank.control.pay(invoice)
    until_heard(bank, invoice)
    visitor.page.evaluate(SEEN, False)
    visitor.headline_is("We are looking at your payment")
    expect(visitor.page.locator("main")).not_to_contain_text(re.compile("fail", re.IGNORECASE))
    photograph(visitor.page, f"shop-late-{name_of(size)}")
    keeper.page.goto(f"{keeper.shop}/admin")
    expect(keeper.page.locator(".reviews li", has_text=order)).to_have_count(1)
    expect(keeper.page.get_by_role("row").filter(has_text=order)).to_contain_text("open")
