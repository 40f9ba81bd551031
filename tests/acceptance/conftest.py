"""A shop and its bank, as they run, and a browser that looks at them.

What a merchant's buyers depend on is tested on a phone's size and on a desktop's (`both_sizes`), the rest on one.

The bank serves from this process, so that a test can ask its books and put faults in force. The shop is a process of
its own. Both live as long as the test session; each test has a browser context, and so a visitor, of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, StorageState, expect

from deposit_token_sdk.sandbox import Sandbox
from tests.waiting import until

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium-headless-shell"
PASSWORD = "let the keeper in"
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}

expect.set_options(timeout=15_000)
both_sizes = pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])


@pytest.fixture
def size() -> dict[str, int]:
    """The size of everybody's window; `both_sizes` has a test run once in each."""
    return DESKTOP


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Debian's Chromium; without a sandbox of its own, which root may not have, and with few processes, which is
    cheaper: there is no graphics card to guard, and every page here is ours.
    """
    return {
        **browser_type_launch_args,
        "executable_path": CHROMIUM,
        "args": [
            *("--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server"),
            *("--in-process-gpu", "--disable-site-isolation-trials", "--process-per-site"),
        ],
    }


@pytest.fixture(scope="session")
def running_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("bank")) as bank:
        yield bank


@pytest.fixture(scope="session")
def shop(running_bank: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a shop that runs as its README says."""
    folder = tmp_path_factory.mktemp("shop")
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DEPOSIT_TOKEN_", "SHOP_"))},
        **running_bank.environment(),
        "SHOP_PORT": "0",
        "SHOP_DATABASE": str(folder / "shop.sqlite"),
        "SHOP_ADMIN_PASSWORD": PASSWORD,
    }
    command = [sys.executable, "-m", "examples.flask_shop"]
    with (
        (folder / "shop.log").open("w") as log,
        subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            address = process.stdout.readline().rpartition(" ")[2].strip()
            assert address.startswith("http://127.0.0.1:"), (folder / "shop.log").read_text()
            running_bank.control.set_webhook_url(f"{address}/webhooks/sandbox-bank")
            yield address
        finally:
            process.terminate()
            assert process.wait(timeout=20) == 0


@pytest.fixture
def bank(running_bank: Sandbox) -> Iterator[Sandbox]:
    """The bank, with no fault in force when a test begins and after it ends; its books must hold."""
    running_bank.control.clear_faults()
    yield running_bank
    running_bank.control.clear_faults()
    running_bank.control.set_rate("SBUSD", "EUR")
    assert running_bank.control.audit() == []


@frozen
class Visitor:
    """Somebody at the shop, with a browser of their own; `complaints` is what its console complained of."""

    context: BrowserContext
    page: Page
    shop: str
    complaints: list[str] = field(factory=list)

    def put_into_basket(self, product: str = "Travel tea set", currency: str | None = None) -> None:
        self.page.goto(self.shop)
        if currency is not None:
            self.page.get_by_label("Prices in").select_option(currency)
            self.page.get_by_role("button", name="Show").click()
        self.page.get_by_role("button", name=f"Put {product} into the basket").click()

    def check_out(self, code: str = "SBUSD") -> None:
        """From the basket to the order's page, to pay in this token."""
        self.page.get_by_role("link", name="To the checkout").click()
        self.page.get_by_role("radio", name=code).check()
        self.page.get_by_role("button", name="Ask for the price").click()
        self.page.wait_for_url("**/orders/*")

    def order(self) -> None:
        """To the page of a new order of 128.50 EUR, where the pages before it are not what is tested."""
        go_to_order(self.page, self.shop)

    def come_back(self) -> None:
        """As the bank sends a buyer back: the order's page, after the bank was asked, without waiting for its news."""
        self.page.goto(f"{self.shop}/orders/{self.page.url.split('/')[4]}/return")

    def headline_is(self, text: str, page: Page | None = None) -> None:
        """The order's page says so, now or within the time that it may take."""
        expect((page or self.page).locator("#status .headline")).to_have_text(text)

    def pay_link(self) -> str:
        """The bank's address for paying this order."""
        address = self.page.get_by_role("link", name="Pay at the bank").get_attribute("href")
        assert address is not None
        return address

    def order_id(self) -> str:
        return self.page.locator("[data-order]").inner_text()


def go_to_order(page: Page, shop: str) -> None:
    """To the page of a new order by what the forms before it send, in whatever language."""
    ask = page.context.request
    field = re.search(r'name="csrf" value="([^"]+)"', ask.get(shop).text())
    assert field is not None
    form: dict[str, str | float | bool] = {"csrf": field[1], "country": "DE"}
    ask.post(f"{shop}/basket", form=form | {"sku": "travel-set", "add": "1"}, max_redirects=0)
    placed = ask.post(f"{shop}/checkout", form=form | {"token": "SBUSD"}, max_redirects=0)
    page.goto(f"{shop}{placed.headers['location']}")


@pytest.fixture
def visitor(browser: Browser, shop: str, bank: Sandbox, size: dict[str, int]) -> Iterator[Visitor]:
    """A visitor whose browser must have nothing to complain of, whatever the test does."""
    yield from visiting(browser, shop, viewport=size)


def visiting(browser: Browser, shop: str, **options: Any) -> Iterator[Visitor]:
    with browser.new_context(**options) as context:
        visitor = Visitor(context, context.new_page(), shop)

        def listen(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning", "assert"):
                visitor.complaints.append(f"{message.type}: {message.text} ({message.location})")

        context.on("console", listen)
        context.on("weberror", lambda error: visitor.complaints.append(f"uncaught: {error.error}"))
        yield visitor
        assert visitor.complaints == []


@pytest.fixture
def no_javascript(browser: Browser, shop: str, bank: Sandbox, size: dict[str, int]) -> Iterator[Visitor]:
    """A visitor whose browser runs no scripts."""
    yield from visiting(browser, shop, java_script_enabled=False, viewport=size)


@pytest.fixture(scope="session")
def logged_in(browser: Browser, shop: str) -> StorageState:
    """The cookies of a browser in which the keeper has logged in."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(f"{shop}/admin")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_role("heading", name="All orders")).to_be_visible()
        return context.storage_state()


@pytest.fixture
def keeper(
    browser: Browser, shop: str, bank: Sandbox, size: dict[str, int], logged_in: StorageState
) -> Iterator[Visitor]:
    """The shop keeper, logged in, at the list of orders."""
    for visitor in visiting(browser, shop, viewport=size, storage_state=logged_in):
        visitor.page.goto(f"{shop}/admin")
        expect(visitor.page.get_by_role("heading", name="All orders")).to_be_visible()
        yield visitor


def invoice_of(bank: Sandbox, pay_link: str) -> dict[str, Any]:
    """The invoice behind a pay link, as the bank's own books have it."""
    (found,) = [invoice for invoice in bank.control.invoices() if invoice["pay_url"] == pay_link]
    return bank.control.invoice(found["id"])


def booked(bank: Sandbox, invoice: str) -> list[tuple[str, str, str]]:
    """What the bank's ledger has of an invoice: kind, token and units of each transfer from or to the shop."""
    transfers = bank.control.ledger(invoice)
    return [(one["kind"], one["token"], one["units"]) for one in transfers if one["kind"] not in ("hold", "release")]


def until_heard(bank: Sandbox, invoice: str) -> None:
    """Until the shop has taken all that the bank has told of the invoice by now."""

    def heard() -> bool:
        told = bank.control.webhooks(invoice)
        return bool(told) and all(any(tried["status"] == 200 for tried in message["tries"]) for message in told)

    until(heard, complaint=lambda: f"the bank's news has not arrived: {bank.control.webhooks(invoice)}")
