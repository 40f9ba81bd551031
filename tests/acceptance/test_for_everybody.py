"""The shop by keyboard, without scripts, in each language, in dark and light, and under axe-core's rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from deposit_token_sdk.sandbox import Sandbox, pricing

from .conftest import DESKTOP, PASSWORD, PHONE, Visitor, booked, invoice_of, visiting
from .looks import photograph, qr_code, violations

pytestmark = pytest.mark.acceptance

LOOKS: dict[str, dict[str, Any]] = {
    "english-desktop": {"viewport": DESKTOP, "locale": "en-GB"},
    "german-dark-phone": {"viewport": PHONE, "locale": "de-DE", "color_scheme": "dark"},
    "chinese-dark-desktop": {"viewport": DESKTOP, "locale": "zh-CN", "color_scheme": "dark"},
    "arabic-phone": {"viewport": PHONE, "locale": "ar-KW", "device_scale_factor": 2},
}


@pytest.fixture(params=LOOKS)
def look(request: pytest.FixtureRequest, browser: Browser, shop: str, bank: Sandbox) -> Iterator[tuple[str, Visitor]]:
    for visitor in visiting(browser, shop, **LOOKS[request.param]):
        yield request.param, visitor


@pytest.fixture
def arab(browser: Browser, shop: str, bank: Sandbox) -> Iterator[Visitor]:
    yield from visiting(browser, shop, **LOOKS["arabic-phone"])


class Inspector:
    """Looks at each page once: photographs it, has axe-core judge it, and sees that nothing sticks out at the side."""

    def __init__(self, page: Page, look: str) -> None:
        self.page = page
        self.look = look
        self.found: list[str] = []

    def inspect(self, name: str) -> None:
        photograph(self.page, f"shop-{name}-{self.look}")
        self.found += [f"{name}: {violation}" for violation in violations(self.page)]
        if self.page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            self.found.append(f"{name}: wider than the window")


def go_to_order(page: Page, shop: str) -> None:
    """Basket and checkout, in whatever language: by what the forms send."""
    page.goto(shop)
    page.locator("form[action='/basket'] button").first.click()
    page.goto(f"{shop}/checkout")
    page.locator("input[name=token][value=SBUSD]").check()
    page.locator("#checkout button").click()
    page.wait_for_url("**/orders/*")


def situation_is(page: Page, word: str) -> None:
    expect(page.locator("#status .state")).to_have_attribute("data-situation", word)


def test_no_page_of_the_shop_breaks_a_rule_of_accessibility(look: tuple[str, Visitor], bank: Sandbox) -> None:
    name, visitor = look
    page, shop = visitor.page, visitor.shop
    inspector = Inspector(page, name)
    page.goto(f"{shop}/basket")
    inspector.inspect("basket-empty")
    page.goto(shop)
    inspector.inspect("index")
    page.locator("form[action='/basket'] button").first.click()
    inspector.inspect("basket")
    page.goto(f"{shop}/checkout")
    inspector.inspect("checkout")
    go_to_order(page, shop)
    inspector.inspect("to-be-paid")
    invoice = invoice_of(bank, page.locator("#pay").get_attribute("href") or "")["id"]
    bank.control.pay(invoice, units=10_000)
    situation_is(page, "short")
    inspector.inspect("short")
    bank.control.pay(invoice)
    situation_is(page, "paid")
    inspector.inspect("paid")
    page.locator("#status a.button").click()
    page.locator("summary").click()
    inspector.inspect("thank-you")
    page.goto(f"{shop}/orders")
    inspector.inspect("orders")
    assert inspector.found == []


def test_no_page_of_an_order_that_went_another_way_breaks_one(
    look: tuple[str, Visitor], bank: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, visitor = look
    page, shop = visitor.page, visitor.shop
    inspector = Inspector(page, name)
    go_to_order(page, shop)
    bank.control.decline(invoice_of(bank, page.locator("#pay").get_attribute("href") or "")["id"])
    situation_is(page, "declined")
    inspector.inspect("declined")
    page.locator("#status form button").click()
    situation_is(page, "waiting")
    bank.control.advance(16 * 60)
    situation_is(page, "expired")
    inspector.inspect("run-out")
    monkeypatch.setitem(pricing._USD, "EUR", "1.0900")
    page.locator("#status form button").click()
    situation_is(page, "new_total")
    inspector.inspect("new-total")
    page.locator("#status form button").click()
    bank.control.hold()
    bank.control.pay(invoice_of(bank, page.locator("#pay").get_attribute("href") or "")["id"])
    situation_is(page, "coming")
    inspector.inspect("on-its-way")
    assert inspector.found == []


def test_no_page_of_the_back_office_breaks_one(visitor: Visitor, bank: Sandbox) -> None:
    page, shop = visitor.page, visitor.shop
    assert page.viewport_size is not None
    inspector = Inspector(page, "phone" if page.viewport_size["width"] == PHONE["width"] else "desktop")
    go_to_order(page, shop)
    order = visitor.order_id()
    invoice = invoice_of(bank, visitor.pay_link())["id"]
    bank.control.pay(invoice, units=14_000)
    visitor.headline_is("Paid")
    page.goto(f"{shop}/admin")
    inspector.inspect("admin-login")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="All orders")).to_be_visible()
    inspector.inspect("admin")
    page.goto(f"{shop}/admin/orders/{order}")
    inspector.inspect("admin-order")
    assert inspector.found == []


def press(page: Page, selector: str, key: str = "Enter") -> None:
    """Go on by Tab until this has the focus, and press a key."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            page.keyboard.press(key)
            return
    raise AssertionError(f"{selector} cannot be reached by the keyboard")


def test_everything_from_the_shelf_to_the_signed_statement_works_by_keyboard(visitor: Visitor, bank: Sandbox) -> None:
    page = visitor.page
    page.goto(visitor.shop)
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    press(page, "form[action='/basket'] button")
    page.wait_for_url("**/basket")
    press(page, "a.button")
    page.wait_for_url("**/checkout")
    press(page, "input[name=token]", "Space")
    press(page, "#checkout button")
    page.wait_for_url("**/orders/*")
    press(page, "[data-copy]")
    expect(page.locator("#copied")).not_to_be_empty()
    link = visitor.pay_link()
    page.reload()
    press(page, "#pay")
    expect(page.get_by_role("button", name="Approve")).to_be_visible()
    press(page, "button[value=approve]")
    visitor.headline_is("Paid")
    press(page, "#status a.button")
    page.wait_for_url("**/receipt")
    with page.expect_download():
        press(page, "a[download$='.jws']")
    assert ("payment", "SBUSD", "13961") in booked(bank, invoice_of(bank, link)["id"])


def test_when_the_page_changes_under_the_focus_the_focus_goes_to_the_headline(visitor: Visitor, bank: Sandbox) -> None:
    visitor.put_into_basket()
    visitor.check_out()
    visitor.page.locator("#pay").focus()
    bank.control.pay(invoice_of(bank, visitor.pay_link())["id"])
    visitor.headline_is("Paid")
    expect(visitor.page.locator("#status .headline")).to_be_focused()


def test_without_scripts_a_run_out_price_is_asked_anew_agreed_to_and_paid(
    no_javascript: Visitor, bank: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    buyer = no_javascript
    buyer.put_into_basket()
    buyer.check_out()
    expect(buyer.page.locator("#countdown")).to_be_visible()
    expect(buyer.page.get_by_role("button", name="Copy the address")).to_be_hidden()
    assert qr_code(buyer.page) == buyer.pay_link()
    bank.control.advance(16 * 60)
    buyer.headline_is("The price has run out")
    monkeypatch.setitem(pricing._USD, "EUR", "1.0900")
    buyer.page.get_by_role("button", name="Ask for a new price").click()
    buyer.headline_is("The total has changed")
    buyer.page.get_by_role("button", name="I agree to 140.42 SBUSD").click()
    buyer.page.get_by_role("link", name="Pay at the bank").click()
    buyer.page.get_by_role("button", name="Approve").click()
    buyer.headline_is("Paid")


def test_the_arabic_page_reads_from_right_to_left_and_its_amounts_from_left_to_right(arab: Visitor) -> None:
    go_to_order(arab.page, arab.shop)
    html = arab.page.locator("html")
    expect(html).to_have_attribute("dir", "rtl")
    expect(html).to_have_attribute("lang", "ar")
    arab.headline_is("بانتظار الدفع")
    expect(arab.page.locator(".due")).to_have_text("\u2066139.61 SBUSD\u2069")
    assert html.evaluate("one => getComputedStyle(one).direction") == "rtl"


def test_a_language_is_chosen_by_the_labelled_select_and_keeps_to_the_page(visitor: Visitor) -> None:
    visitor.put_into_basket()
    visitor.check_out()
    address = visitor.page.url
    visitor.page.get_by_label("Language").select_option(label="Deutsch")
    visitor.page.get_by_role("button", name="Read in it").click()
    visitor.headline_is("Zu bezahlen")
    assert visitor.page.url == address
    expect(visitor.page.locator(".due")).to_have_text("139,61 SBUSD")


def test_the_statement_verifies_by_what_the_thank_you_page_says(
    visitor: Visitor, bank: Sandbox, tmp_path: Path
) -> None:
    visitor.put_into_basket()
    visitor.check_out()
    invoice = invoice_of(bank, visitor.pay_link())["id"]
    bank.control.pay(invoice)
    visitor.headline_is("Paid")
    page = visitor.page
    page.get_by_role("link", name="See the confirmation").click()
    for link in ("Keep the signed statement", "Keep the bank's public key"):
        with page.expect_download() as download:
            page.get_by_role("link", name=link).click()
        download.value.save_as(tmp_path / download.value.suggested_filename)
    page.get_by_text("How to verify it yourself").click()
    program = page.locator("pre.code").inner_text()
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    signed = json.loads(done.stdout)
    assert (signed["invoice"], signed["units"]) == (invoice, "13961")
