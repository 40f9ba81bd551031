"""The bank's pages in a browser: the buyer's, and the developer's; on a phone and a desktop, light and dark."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from deposit_token_sdk.sandbox import Sandbox
from tests.sandbox.shop import Shop

from .conftest import DESKTOP, PHONE, Visitor, visiting
from .looks import Inspector, qr_code

pytestmark = pytest.mark.acceptance

BOARDS = ("", "/events", "/ledger", "/faults", "/control")
LOOKS = {"phone": (PHONE, False), "dark-desktop": (DESKTOP, True)}


@pytest.fixture
def merchant(bank: Sandbox) -> Iterator[Shop]:
    made = Shop(bank)
    yield made
    made.http.close()


@pytest.fixture
def buyer(browser: Browser, bank: Sandbox) -> Iterator[Visitor]:
    """Somebody at the bank's pages, whose browser must have nothing to complain of."""
    yield from visiting(browser, bank.url, viewport=PHONE)


@pytest.fixture
def quiet_bank(tmp_path: Path) -> Iterator[Sandbox]:
    """A bank of its own, where little has happened: its lists are short."""
    with Sandbox(tmp_path) as bank:
        yield bank


def test_every_page_is_accessible_and_fits_the_screen(browser: Browser, quiet_bank: Sandbox) -> None:
    bank, merchant = quiet_bank, Shop(quiet_bank)
    opened, paid = merchant.invoice(), merchant.invoice()
    bank.control.pay(paid["id"])
    merchant.refund(paid, 500)
    merchant.http.close()
    bank.control.fault("latency", invoice="nobody", seconds=1, rate=0.5)
    pages = {
        "pay": opened["pay_url"],
        "paid": paid["pay_url"],
        "home": f"{bank.url}/",
        "missing": f"{bank.url}/pay/nothing",
        "board-invoice": f"{bank.url}/dashboard/invoices/{paid['id']}",
        **{f"board{path.replace('/', '-')}": f"{bank.url}/dashboard{path}" for path in BOARDS},
    }
    with browser.new_context() as context:
        inspector = Inspector(context.new_page(), "bank", LOOKS)
        for title, address in pages.items():
            inspector.page.goto(address)
            expect(inspector.page.locator(".sandbox")).to_contain_text("SANDBOX")
            inspector.inspect(title)
    assert inspector.found == []


def test_the_countdown_runs_by_the_banks_clock_and_the_page_expires_without_a_reload(
    buyer: Visitor, bank: Sandbox, merchant: Shop
) -> None:
    page, invoice = buyer.page, merchant.invoice()
    page.clock.install()
    page.goto(invoice["pay_url"])
    countdown = page.locator("#countdown")
    expect(countdown).to_have_text(re.compile(r"^14 min 5\d s left$"))
    bank.control.advance(850)
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(countdown).to_have_text(re.compile(r"^0 min [45]\d s left$"))
    expect(page.get_by_role("status").first).to_have_text("One minute left at this rate.")
    bank.control.advance(60)
    page.clock.run_for(6_000)
    expect(page.locator(".status")).to_have_text("Expired. Nothing more can be paid here.")
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)


def test_the_countdown_is_in_no_live_region(buyer: Visitor, merchant: Shop) -> None:
    buyer.page.goto(merchant.invoice()["pay_url"])
    live = "[aria-live], [role=status], [role=alert], [role=log], [role=timer]"
    assert buyer.page.locator("#countdown").evaluate(f"(each) => each.closest('{live}') === null")


def test_a_payment_made_elsewhere_shows_without_a_reload(buyer: Visitor, bank: Sandbox, merchant: Shop) -> None:
    invoice = merchant.invoice()
    buyer.page.clock.install()
    buyer.page.goto(invoice["pay_url"])
    bank.control.pay(invoice["id"])
    buyer.page.clock.run_for(6_000)
    expect(buyer.page.locator(".status")).to_have_text("Paid")


def test_the_qr_code_on_the_screen_decodes_to_the_link_that_is_copied(buyer: Visitor, merchant: Shop) -> None:
    page, invoice = buyer.page, merchant.invoice()
    buyer.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(invoice["pay_url"])
    read = qr_code(page, ".qr")
    page.get_by_role("button", name="Copy the link").click()
    expect(page.locator("#copied")).to_have_text("Copied.")
    assert read == page.evaluate("navigator.clipboard.readText()") == invoice["pay_url"] == page.url


def test_without_javascript_the_page_can_be_read_and_paid(browser: Browser, bank: Sandbox, merchant: Shop) -> None:
    invoice = merchant.invoice()
    for visitor in visiting(browser, bank.url, viewport=PHONE, java_script_enabled=False):
        page = visitor.page
        page.goto(invoice["pay_url"])
        expect(page.locator("#countdown")).to_contain_text("left when this page was made")
        expect(page.get_by_role("button", name="Copy the link")).to_have_count(0)
        page.route("http://127.0.0.1:5000/**", lambda route: route.fulfill(body="back at the shop"))
        page.get_by_role("button", name="Approve").click(no_wait_after=True)
        expect(page).to_have_url(re.compile("127.0.0.1:5000|chrome-error"))
        visitor.complaints.clear()  # there is no shop at the other end
    assert bank.control.invoice(invoice["id"])["status"] == "paid"


def test_the_developer_pays_breaks_and_resends_from_the_dashboard_by_keyboard(
    browser: Browser, bank: Sandbox, merchant: Shop
) -> None:
    invoice = merchant.invoice()
    for visitor in visiting(browser, bank.url, viewport=DESKTOP):
        page = visitor.page
        page.goto(f"{bank.url}/dashboard")
        page.get_by_role("link", name=invoice["reference"]).press("Enter")
        page.get_by_role("button", name="Pay one unit short").press("Enter")
        expect(page.locator(".done")).to_contain_text("pay is done")
        page.get_by_role("button", name="Pay what is due").press("Enter")
        expect(page.locator(".tag.paid").first).to_be_visible()
        page.get_by_role("link", name="Faults", exact=True).press("Enter")
        page.get_by_label("Seconds").fill("0.1")
        page.get_by_role("button", name="latency").press("Enter")
        expect(page.locator(".fault")).to_contain_text("1 more, 0.1 s")
        page.get_by_role("button", name="Clear all faults").press("Enter")
        expect(page.get_by_text("None: the bank behaves.")).to_be_visible()
        page.get_by_role("link", name="Events", exact=True).press("Enter")
        page.get_by_role("button", name=re.compile("^Resend")).first.press("Enter")
        expect(page.locator(".done")).to_contain_text("resend is done")
    assert bank.control.invoice(invoice["id"])["status"] == "paid"
