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

from deposit_token_sdk.sandbox import Sandbox

from .conftest import (
    DESKTOP,
    PASSWORD,
    PHONE,
    Visitor,
    booked,
    both_sizes,
    go_to_order,
    invoice_of,
    until_heard,
    visiting,
)
from .looks import Inspector, qr_code

pytestmark = pytest.mark.acceptance

ARABIC_PHONE: dict[str, Any] = {"viewport": PHONE, "locale": "ar-KW", "device_scale_factor": 2}
IN: dict[str, tuple[dict[str, Any], dict[str, tuple[dict[str, int], bool]]]] = {
    "english": ({"locale": "en-GB"}, {"desktop": (DESKTOP, False), "dark-phone": (PHONE, True)}),
    "german": ({"locale": "de-DE"}, {"phone": (PHONE, False)}),
    "chinese": ({"locale": "zh-CN"}, {"dark-desktop": (DESKTOP, True)}),
    "arabic": (ARABIC_PHONE, {"phone": (PHONE, False)}),
}


@pytest.fixture(params=IN)
def inspector(request: pytest.FixtureRequest, browser: Browser, shop: str, bank: Sandbox) -> Iterator[Inspector]:
    """Somebody who looks closely, in each language."""
    options, looks = IN[request.param]
    for visitor in visiting(browser, shop, **options):
        yield Inspector(visitor.page, f"shop-{request.param}", looks)
        visitor.complaints[:] = [one for one in visitor.complaints if "404 (NOT FOUND)" not in one]


@pytest.fixture
def arab(browser: Browser, shop: str, bank: Sandbox) -> Iterator[Visitor]:
    yield from visiting(browser, shop, **ARABIC_PHONE)


def invoice_on(page: Page, bank: Sandbox) -> str:
    return str(invoice_of(bank, page.locator("#pay").get_attribute("href") or "")["id"])


def inspect_as(inspector: Inspector, word: str, *, asked: bool = True) -> None:
    """The page of the order, as it is after the bank was asked, says this word; look at it."""
    page = inspector.page
    if asked:
        page.goto(f"{page.url.rstrip('/')}/return")
    expect(page.locator("#status .state")).to_have_attribute("data-situation", word)
    inspector.inspect(word)


def inspect_a_sale(inspector: Inspector, shop: str, bank: Sandbox) -> None:
    """The few pages that everybody sees who buys something."""
    page = inspector.page
    page.goto(shop)
    inspector.inspect("index")
    page.locator("form[action='/basket'] button").first.click()
    page.goto(f"{shop}/checkout")
    inspector.inspect("checkout")
    go_to_order(page, shop)
    inspect_as(inspector, "waiting", asked=False)
    bank.control.pay(invoice_on(page, bank))
    inspect_as(inspector, "paid")


def inspect_a_purchase(inspector: Inspector, shop: str, bank: Sandbox) -> None:
    """From the empty basket by way of a short payment to the list of orders, and money that the bank takes back."""
    page = inspector.page
    page.goto(f"{shop}/basket")
    inspector.inspect("basket-empty")
    page.goto(shop)
    inspector.inspect("index")
    page.locator("form[action='/basket'] button").first.click()
    inspector.inspect("basket")
    page.goto(f"{shop}/checkout")
    inspector.inspect("checkout")
    go_to_order(page, shop)
    inspect_as(inspector, "waiting", asked=False)
    order, invoice = page.url, invoice_on(page, bank)
    bank.control.pay(invoice, units=10_000)
    inspect_as(inspector, "short")
    bank.control.pay(invoice)
    inspect_as(inspector, "paid")
    page.locator("#status a.button").click()
    page.locator("summary").click()
    inspector.inspect("thank-you")
    page.goto(f"{shop}/orders")
    inspector.inspect("orders")
    page.goto(f"{shop}/orders/nobody")
    inspector.inspect("no-such-order")
    bank.control.return_payment(invoice)
    bank.control.return_payment(invoice)
    until_heard(bank, invoice)  # a paid order is not asked about
    page.goto(order)
    inspect_as(inspector, "returned")


def inspect_other_ways(inspector: Inspector, shop: str, bank: Sandbox) -> None:
    """Orders that are declined, run out, priced anew, on their way, paid late, and one that nobody answers for."""
    page = inspector.page
    go_to_order(page, shop)
    bank.control.decline(invoice_on(page, bank))
    inspect_as(inspector, "declined")
    page.locator("#status form button").click()
    late = invoice_on(page, bank)
    bank.control.advance(16 * 60)
    # Who is sent back by the bank has come to look: a price that ran out is asked anew at once, unless told otherwise.
    page.evaluate("sessionStorage.setItem(`renewed ${document.getElementById('status').dataset.source}`, Date.now())")
    inspect_as(inspector, "expired")
    bank.control.set_rate("SBUSD", "EUR", "1.0900")
    page.locator("#status form button").click()
    inspect_as(inspector, "new_total", asked=False)
    page.locator("#status form button").click()
    bank.control.hold()
    invoice = invoice_on(page, bank)
    bank.control.pay(invoice)
    inspect_as(inspector, "coming")
    bank.control.decline(invoice)
    bank.control.pay(late)
    inspect_as(inspector, "checking")


def inspect_silence(inspector: Inspector, shop: str, bank: Sandbox) -> None:
    """An order of which the bank gives no answer."""
    inspector.page.context.clear_cookies()
    bank.control.fault("kept_error", route="POST /invoices", count=None)
    bank.control.fault("rate_limited", route="GET /invoices", count=None)
    go_to_order(inspector.page, shop)
    inspect_as(inspector, "asking", asked=False)


def test_no_page_of_the_shop_breaks_a_rule_of_accessibility(inspector: Inspector, shop: str, bank: Sandbox) -> None:
    """Each page in English; from right to left those of a purchase; the few of a sale in the other languages."""
    look = inspect_a_purchase if inspector.of in ("shop-english", "shop-arabic") else inspect_a_sale
    look(inspector, shop, bank)
    if inspector.of == "shop-english":
        inspect_other_ways(inspector, shop, bank)
        inspect_silence(inspector, shop, bank)
    assert inspector.found == []


def test_no_page_of_the_back_office_breaks_one(visitor: Visitor, bank: Sandbox) -> None:
    page, shop = visitor.page, visitor.shop
    inspector = Inspector(page, "shop", {"desktop": (DESKTOP, True), "phone": (PHONE, False)})
    go_to_order(page, shop)
    order = visitor.order_id()
    bank.control.pay(invoice_on(page, bank), units=14_000)
    visitor.come_back()
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


@both_sizes
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
    visitor.order()
    visitor.page.locator("#pay").focus()
    bank.control.pay(invoice_of(bank, visitor.pay_link())["id"])
    visitor.headline_is("Paid")
    expect(visitor.page.locator("#status .headline")).to_be_focused()


@both_sizes
def test_without_scripts_a_run_out_price_shows_by_itself_is_asked_anew_agreed_to_and_paid(
    no_javascript: Visitor, bank: Sandbox
) -> None:
    buyer = no_javascript
    buyer.put_into_basket()
    buyer.check_out()
    expect(buyer.page.locator("#countdown")).to_be_visible()
    expect(buyer.page.get_by_role("button", name="Copy the address")).to_be_hidden()
    assert qr_code(buyer.page) == buyer.pay_link()
    bank.control.advance(16 * 60)
    buyer.headline_is("The price has run out")
    bank.control.set_rate("SBUSD", "EUR", "1.0900")
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
    visitor.order()
    address = visitor.page.url
    visitor.page.get_by_label("Language").select_option(label="Deutsch")
    visitor.page.get_by_role("button", name="Read in it").click()
    visitor.headline_is("Zu bezahlen")
    assert visitor.page.url == address
    expect(visitor.page.locator(".due")).to_have_text("139,61 SBUSD")


def test_the_thank_you_page_shows_the_banks_confirmation_which_verifies_by_what_the_page_says(
    visitor: Visitor, bank: Sandbox, tmp_path: Path
) -> None:
    visitor.order()
    order, link = visitor.order_id(), visitor.pay_link()
    invoice = invoice_of(bank, link)["id"]
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    page = visitor.page
    page.get_by_role("link", name="See the confirmation").click()
    expect(page.locator("main")).to_contain_text(f"Order {order} is paid")
    for shown in ("Signature verified", "139.61 SBUSD", invoice):
        expect(page.locator(".confirmation")).to_contain_text(shown)
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
    (statement,) = tmp_path.glob("*.jws")
    command = [sys.executable, "-m", "deposit_token_sdk.cli", "evidence", "verify", str(statement), "--json"]
    told = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert (json.loads(told.stdout)["invoice"], json.loads(told.stdout)["units"]) == (invoice, "13961")
