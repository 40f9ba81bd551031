"""From the shelf to a paid order, as a buyer's browser sees it; sums are the bank's ledger's, worked by hand here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from deposit_token_sdk.sandbox import Sandbox

from .conftest import Visitor, booked, both_sizes, invoice_of, until_heard, visiting

pytestmark = pytest.mark.acceptance

# 128.50 EUR x 1.08640925 = 139.603588625, so 139.61 SBUSD; the fee is 1 % of that and 0.05, paid by the shop.
DUE = "13961"
PAID_IN_FULL = {("payment", "SBUSD", DUE), ("fee", "SBUSD", "145")}


@both_sizes
def test_an_order_turns_paid_on_the_open_page_without_a_reload(visitor: Visitor, bank: Sandbox) -> None:
    visitor.put_into_basket()
    visitor.check_out()
    visitor.headline_is("To be paid")
    expect(visitor.page.locator(".due")).to_have_text("139.61 SBUSD")
    visitor.page.evaluate("window.sameDocument = true")

    at_the_bank = visitor.context.new_page()
    at_the_bank.goto(link := visitor.pay_link())
    at_the_bank.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid", at_the_bank)

    visitor.headline_is("Paid")
    assert visitor.page.evaluate("window.sameDocument") is True
    expect(visitor.page.locator("#news")).to_have_text("Paid")
    assert set(booked(bank, invoice_of(bank, link)["id"])) == PAID_IN_FULL


def test_a_paid_order_leaves_an_empty_basket_and_stands_in_the_list(visitor: Visitor) -> None:
    visitor.order()
    order = visitor.order_id()
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid")
    visitor.page.get_by_role("link", name="Basket").click()
    expect(visitor.page.locator("main")).to_contain_text("nothing in it yet")
    visitor.page.get_by_role("link", name="Orders").click()
    expect(visitor.page.get_by_role("listitem").filter(has_text=order)).to_contain_text("paid")


@pytest.mark.parametrize(
    ("currency", "token", "due", "units"),
    [
        # 20900 JPY x 0.0066967 = 139.96103
        ("JPY", "SBUSD", "139.97 SBUSD", "13997"),
        # 42.750 KWD x 23.6660175 = 1011.722248125
        ("KWD", "SBCNH", "1,011.722249 SBCNH", "1011722249"),
    ],
)
def test_currencies_and_tokens_keep_their_own_decimals(
    visitor: Visitor, bank: Sandbox, currency: str, token: str, due: str, units: str
) -> None:
    visitor.put_into_basket(currency=currency)
    visitor.check_out(token)
    expect(visitor.page.locator(".due")).to_have_text(due)
    link = visitor.pay_link()
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid")
    assert ("payment", token, units) in booked(bank, invoice_of(bank, link)["id"])


@both_sizes
def test_a_declined_payment_leaves_the_order_unpaid_and_can_be_tried_again(visitor: Visitor, bank: Sandbox) -> None:
    visitor.order()
    first, order = visitor.pay_link(), visitor.order_id()
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Decline").click()
    visitor.headline_is("Not paid")
    assert booked(bank, invoice_of(bank, first)["id"]) == []

    visitor.page.get_by_role("button", name="Try again").click()
    visitor.headline_is("To be paid")
    second = visitor.pay_link()
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid")
    assert visitor.order_id() == order
    assert second != first
    assert set(booked(bank, invoice_of(bank, second)["id"])) == PAID_IN_FULL


def test_when_every_webhook_is_lost_the_way_back_from_the_bank_marks_the_order_paid(
    no_javascript: Visitor, bank: Sandbox
) -> None:
    buyer = no_javascript
    bank.control.drop_webhooks(count=None)
    buyer.order()
    link = buyer.pay_link()
    buyer.page.get_by_role("link", name="Pay at the bank").click()
    buyer.page.get_by_role("button", name="Approve").click()
    buyer.page.wait_for_url("**/orders/*")
    assert buyer.page.locator("#status .headline").inner_text() == "Paid"
    invoice = invoice_of(bank, link)["id"]
    assert set(booked(bank, invoice)) == PAID_IN_FULL
    assert not [tried for message in bank.control.webhooks(invoice) for tried in message["tries"] if tried["status"]]


def test_when_every_webhook_is_lost_and_the_buyer_stays_away_the_open_page_turns_paid(
    visitor: Visitor, bank: Sandbox
) -> None:
    bank.control.drop_webhooks(count=None)
    visitor.order()
    bank.control.pay(invoice_of(bank, visitor.pay_link())["id"])
    visitor.headline_is("Paid")


@both_sizes
def test_a_tab_that_was_asleep_asks_at_once_when_it_is_looked_at_again(visitor: Visitor, bank: Sandbox) -> None:
    visitor.page.clock.install()
    visitor.order()
    visitor.page.clock.pause_at(visitor.page.evaluate("Date.now()") / 1000 + 1)
    seen = "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
    seen += " document.dispatchEvent(new Event('visibilitychange')); }"
    visitor.page.evaluate(seen, True)
    invoice = invoice_of(bank, visitor.pay_link())["id"]
    bank.control.pay(invoice)
    until_heard(bank, invoice)
    assert visitor.page.locator("#status .headline").inner_text() == "To be paid"
    visitor.page.evaluate(seen, False)
    visitor.headline_is("Paid")


def test_a_payment_on_its_way_is_told_as_such_until_it_settles(visitor: Visitor, bank: Sandbox) -> None:
    bank.control.hold()
    visitor.order()
    invoice = invoice_of(bank, visitor.pay_link())["id"]
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Your payment is on its way")
    bank.control.settle(invoice)
    visitor.headline_is("Paid")


@both_sizes
def test_a_basket_changed_after_checkout_began_is_priced_anew_and_the_old_invoice_ends(
    visitor: Visitor, bank: Sandbox
) -> None:
    visitor.put_into_basket()
    visitor.check_out()
    order, old = visitor.order_id(), visitor.pay_link()
    visitor.put_into_basket("Tea tin")
    visitor.check_out()
    assert visitor.order_id() == order
    # 140.90 EUR x 1.08640925 = 153.075063325
    expect(visitor.page.locator(".due")).to_have_text("153.08 SBUSD")
    assert invoice_of(bank, old)["status"] == "cancelled"
    new = visitor.pay_link()
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Paid")
    expect(visitor.page.locator("table")).to_contain_text("Tea tin")
    assert ("payment", "SBUSD", "15308") in booked(bank, invoice_of(bank, new)["id"])


def test_a_basket_changed_while_money_is_on_its_way_leaves_the_order_as_it_was(visitor: Visitor, bank: Sandbox) -> None:
    bank.control.hold()
    visitor.order()
    order, invoice = visitor.order_id(), invoice_of(bank, visitor.pay_link())["id"]
    visitor.page.get_by_role("link", name="Pay at the bank").click()
    visitor.page.get_by_role("button", name="Approve").click()
    visitor.headline_is("Your payment is on its way")

    visitor.put_into_basket("Tea tin")
    visitor.check_out()
    expect(visitor.page.locator(".message")).to_contain_text("This order stays as it was")
    expect(visitor.page.locator("table")).not_to_contain_text("Tea tin")
    visitor.page.get_by_role("button", name="Order the basket separately").click()
    visitor.page.get_by_role("button", name="Ask for the price").click()
    visitor.headline_is("To be paid")
    assert visitor.order_id() != order

    visitor.page.get_by_role("link", name="Orders").click()
    expect(visitor.page.get_by_role("listitem").filter(has_text=order)).to_contain_text("128.50 EUR")
    bank.control.settle(invoice)
    visitor.page.get_by_role("link", name=order).click()
    visitor.headline_is("Paid")
    expect(visitor.page.locator("table")).to_contain_text("128.50 EUR")


@pytest.mark.parametrize("fault", ["kept_error_after", "dropped"])
def test_an_invoice_whose_answer_was_lost_is_found_again_and_never_called_failed(
    visitor: Visitor, bank: Sandbox, fault: str
) -> None:
    bank.control.fault(fault, route="POST /invoices")
    before = len(bank.control.invoices())
    visitor.order()
    visitor.headline_is("To be paid")
    assert len(bank.control.invoices()) == before + 1


@pytest.fixture
def another(browser: Browser, shop: str) -> Iterator[Visitor]:
    yield from visiting(browser, shop)


def test_two_orders_at_once_are_paid_each_by_its_own_money(visitor: Visitor, another: Visitor, bank: Sandbox) -> None:
    for buyer in (visitor, another):
        buyer.order()
    bank.control.pay(invoice_of(bank, visitor.pay_link())["id"])
    visitor.headline_is("Paid")
    another.page.reload()
    another.headline_is("To be paid")
