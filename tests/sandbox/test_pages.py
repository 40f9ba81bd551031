"""What a buyer sees at the bank, and what a page may do."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests
import zxingcpp
from PIL import Image, ImageDraw

from deposit_token_sdk.sandbox import Sandbox
from tests.sandbox.shop import Shop


def _form(browser: requests.Session, invoice: dict[str, Any]) -> dict[str, str]:
    """The fields of the approval form, as a browser would send them."""
    token = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get(invoice["pay_url"]).text)
    assert token is not None
    return {"form_token": token[1], "buyer": "anna", "decision": "approve"}


def _send(browser: requests.Session, invoice: dict[str, Any], **form: str) -> requests.Response:
    return browser.post(invoice["pay_url"], data=form, allow_redirects=False)


def test_the_page_shows_what_is_asked_of_whom_and_at_what_rate(shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    page = browser.get(invoice["pay_url"]).text
    for shown in (
        "SANDBOX",
        "Pay Demo Shop",
        "128.50 EUR",
        "1 EUR = 1.08640925 SBUSD",
        "139.61 SBUSD",
        "1.45 SBUSD",
        "141.06 SBUSD",
        "14 min",
        "Anna Albrecht",
        "holds 1,000,000.00 SBUSD",
        invoice["reference"],
    ):
        assert shown in page


def test_amounts_have_the_tokens_own_decimals(shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice(price={"currency": "JPY", "amount": "777"}, token="SBCNH", bearer="CRED")
    page = browser.get(invoice["pay_url"]).text
    assert "777 JPY" in page
    assert "37.746775 SBCNH" in page
    assert "borne by Demo Shop" in page


def test_approving_pays_and_leads_back_to_the_shop(shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    answer = _send(browser, invoice, **_form(browser, invoice) | {"buyer": "chen"})
    assert (answer.status_code, answer.headers["location"]) == (303, "http://127.0.0.1:5000/orders/1")
    assert shop.read(invoice)["status"] == "paid"
    page = browser.get(invoice["pay_url"]).text
    assert "Paid" in page
    assert "form_token" not in page


def test_declining_cancels_and_leads_back_to_the_shop(shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    answer = _send(browser, invoice, **_form(browser, invoice) | {"decision": "decline"})
    assert (answer.status_code, answer.headers["location"]) == (303, "http://127.0.0.1:5000/orders/1")
    assert shop.read(invoice)["status"] == "cancelled"


def test_a_second_approval_from_another_tab_pays_nothing(bank: Sandbox, shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    first, second = _form(browser, invoice), _form(browser, invoice)
    _send(browser, invoice, **first)
    assert "nothing left to pay" in _send(browser, invoice, **second).text
    assert len(shop.read(invoice)["movements"]) == 1


def test_a_bank_that_takes_approvals_twice_pays_the_whole_once_more(
    bank: Sandbox, shop: Shop, browser: requests.Session
) -> None:
    invoice = shop.invoice()
    bank.control.fault("approved_twice", invoice=invoice["id"])
    first, second = _form(browser, invoice), _form(browser, invoice)
    for form in (first, second):
        assert _send(browser, invoice, **form).status_code == 303
    assert [each["units"] for each in shop.read(invoice)["movements"]] == [invoice["due"], invoice["due"]]
    assert "nothing left to pay" in _send(browser, invoice, **second).text


def test_after_a_short_payment_the_page_asks_for_the_rest(bank: Sandbox, shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"], units=14000)
    page = browser.get(invoice["pay_url"]).text
    assert "Still to pay" in page
    assert "Approve 1.06 SBUSD" in page
    assert _send(browser, invoice, **_form(browser, invoice)).status_code == 303
    assert shop.read(invoice)["status"] == "paid"


def test_a_buyer_without_the_money_is_told_so_and_can_choose_again(shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    answer = _send(browser, invoice, **_form(browser, invoice) | {"buyer": "dora"})
    assert "does not hold enough" in answer.text
    assert shop.read(invoice)["movements"] == []


def test_an_expired_page_pays_nothing(bank: Sandbox, shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    form = _form(browser, invoice)
    bank.control.advance(901)
    assert "nothing left to pay" in _send(browser, invoice, **form).text
    assert "Expired" in browser.get(invoice["pay_url"]).text
    assert shop.read(invoice)["movements"] == []


@pytest.mark.parametrize("spoiled", [{"form_token": "0" * 64}, {"form_token": ""}, {"form_token": "ü"}])
def test_a_form_without_its_token_does_nothing(shop: Shop, browser: requests.Session, spoiled: dict[str, str]) -> None:
    invoice = shop.invoice()
    assert _send(browser, invoice, **_form(browser, invoice) | spoiled).status_code == 403
    assert shop.read(invoice)["status"] == "open"


def test_a_token_counts_only_in_the_browser_and_for_the_payment_it_was_made_for(
    shop: Shop, browser: requests.Session
) -> None:
    invoice, other = shop.invoice(), shop.invoice()
    form = _form(browser, invoice)
    with requests.Session() as elsewhere:
        elsewhere.get(invoice["pay_url"])
        assert _send(elsewhere, invoice, **form).status_code == 403
    assert _send(browser, other, **form).status_code == 403
    assert shop.read(invoice)["status"] == shop.read(other)["status"] == "open"


@pytest.mark.parametrize("header", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_a_form_sent_from_another_origin_does_nothing(
    shop: Shop, browser: requests.Session, header: dict[str, str]
) -> None:
    invoice = shop.invoice()
    form = _form(browser, invoice)
    assert browser.post(invoice["pay_url"], data=form, headers=header, allow_redirects=False).status_code == 403
    assert shop.read(invoice)["status"] == "open"


@pytest.mark.parametrize("form", [{"buyer": "nobody"}, {"decision": "steal"}, {"decision": ""}])
def test_a_choice_that_was_not_offered_does_nothing(
    shop: Shop, browser: requests.Session, form: dict[str, str]
) -> None:
    invoice = shop.invoice()
    assert "Choose whose account pays" in _send(browser, invoice, **_form(browser, invoice) | form).text
    assert shop.read(invoice)["status"] == "open"


def test_the_page_cannot_be_framed_loads_nothing_from_elsewhere_and_keeps_its_address_to_itself(
    shop: Shop, browser: requests.Session
) -> None:
    invoice = shop.invoice()
    answer = browser.get(invoice["pay_url"])
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "form-action 'self' http://127.0.0.1:5000" in policy
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert re.findall("<script[^>]*>", answer.text) == ['<script src="/static/bank.js" defer>']
    assert "script-src 'self'" in policy
    assert len(invoice["pay_url"].rsplit("/", 1)[1]) >= 32


def test_a_merchants_name_is_text_and_never_markup(bank: Sandbox, browser: requests.Session) -> None:
    evil = Shop(bank, bank.control.create_merchant("evil", "<script>alert(1)</script>"))
    page = browser.get(evil.invoice()["pay_url"]).text
    evil.http.close()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_the_qr_code_decodes_to_the_pay_link_that_is_shown(shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    page = browser.get(invoice["pay_url"]).text
    assert read_code(page) == invoice["pay_url"]
    assert f'id="link">{invoice["pay_url"]}<' in page


def read_code(page: str) -> str:
    """What a camera would read off the QR code in the page: its lines are painted, and the picture is decoded."""
    drawn = re.search(r'<svg viewBox="0 0 (\d+) \d+".*?class="qrline" stroke="#000" d="([^"]+)"', page)
    assert drawn is not None
    scale, size = 4, int(drawn[1])
    picture = Image.new("L", (size * scale, size * scale), "white")
    paint = ImageDraw.Draw(picture)
    x = y = 0.0
    for step, first, second in re.findall(r"([Mmh])(-?[\d.]+)(?: ?(-?[\d.]+))?", drawn[2]):
        if step == "h":
            left, top = round(x * scale), round((y - 0.5) * scale)
            x += float(first)
            paint.rectangle((left, top, round(x * scale) - 1, top + scale - 1), "black")
        else:
            x, y = (float(first), float(second)) if step == "M" else (x + float(first), y + float(second))
    (found,) = zxingcpp.read_barcodes(picture)
    return str(found.text)


def test_the_page_can_ask_how_it_stands_by_the_banks_clock(
    bank: Sandbox, shop: Shop, browser: requests.Session
) -> None:
    invoice = shop.invoice()
    page = browser.get(invoice["pay_url"]).text
    told = browser.get(f"{invoice['pay_url']}/state").json()
    assert f'data-state="{told["state"]}"' in page
    assert 890 < told["left"] <= 900
    bank.control.advance(600)
    assert browser.get(f"{invoice['pay_url']}/state").json()["left"] <= 300
    bank.control.pay(invoice["id"])
    assert browser.get(f"{invoice['pay_url']}/state").json()["state"] != told["state"]
    assert browser.get(f"{bank.url}/pay/guess/state").status_code == 404


def test_the_countdown_is_read_out_by_nobody(shop: Shop, browser: requests.Session) -> None:
    page = browser.get(shop.invoice()["pay_url"]).text
    countdown = re.search(r'<span id="countdown"[^>]*>', page)
    assert countdown is not None
    assert "aria-live" not in countdown[0]
    assert "role" not in countdown[0]


def test_an_address_nobody_was_given_shows_nothing(bank: Sandbox, browser: requests.Session) -> None:
    for answer in (browser.get(f"{bank.url}/pay/guess"), browser.post(f"{bank.url}/pay/guess")):
        assert answer.status_code in (403, 404)
        assert "no such payment" in answer.text


def test_the_front_page_shows_supply_and_the_newest_invoices(shop: Shop, browser: requests.Session) -> None:
    invoice = shop.invoice()
    page = browser.get(f"{shop.bank.url}/").text
    assert invoice["reference"] in page
    assert page.count("3,100,001.00") >= 2
    assert "SANDBOX" in page


@pytest.mark.parametrize("path", ["/favicon.ico", "/static/favicon.svg", "/static/bank.css", "/static/bank.js"])
def test_the_bank_serves_its_own_icon_and_style(bank: Sandbox, browser: requests.Session, path: str) -> None:
    assert browser.get(bank.url + path).status_code == 200
