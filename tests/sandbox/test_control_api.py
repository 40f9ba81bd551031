"""The control over HTTP: the same verbs, for this machine's developer and for nobody's web page."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.control import VERBS
from tests.sandbox.shop import Inbox, Shop


def _verb(bank: Sandbox, verb: str, /, **arguments: Any) -> requests.Response:
    with requests.Session() as session:
        return session.post(f"{bank.url}/control/{verb}", json=arguments)


def test_every_verb_is_listed_with_its_arguments_and_what_it_does(bank: Sandbox, browser: requests.Session) -> None:
    listed = {each["verb"]: each for each in browser.get(f"{bank.url}/control").json()}
    assert listed.keys() == VERBS.keys()
    assert all(each["does"] for each in listed.values())
    assert listed["pay"]["arguments"].startswith("invoice: str, buyer: str = anna")


def test_a_purchase_can_be_steered_over_http_from_end_to_end(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    assert _verb(bank, "hold", invoice=invoice["id"]).status_code == 200
    assert _verb(bank, "pay", invoice=invoice["reference"], units="14106").json()["status"] == "seen"
    assert _verb(bank, "settle", invoice=invoice["id"]).json()["status"] == "paid"
    assert _verb(bank, "invoice", invoice=invoice["id"]).json()["refundable"] == "13961"
    assert _verb(bank, "advance", seconds=1.5).json()["ahead"] == 1.5
    inbox.wait(2)
    assert [each["type"] for each in _verb(bank, "webhooks").json()] == ["invoice.pending", "invoice.settled"]
    assert _verb(bank, "audit").json() == []
    assert _verb(bank, "ledger", invoice=invoice["id"]).json() == bank.control.ledger(invoice["id"])


@pytest.mark.parametrize(
    ("verb", "arguments", "status"),
    [
        ("explode", {}, 404),
        ("_bank", {}, 404),
        ("pay", {}, 400),
        ("pay", {"invoice": "inv_nope"}, 404),
        ("pay", {"invoice": 7}, 400),
        ("pay", {"invoice": "x", "units": "many"}, 404),
        ("pay", {"invoice": "x", "colour": "red"}, 400),
        ("pay", {"invoice": "x", "buyer": ["anna"]}, 400),
        ("advance", {"seconds": "5"}, 400),
        ("advance", {"seconds": True}, 400),
        ("advance", {"seconds": -1}, 400),
        ("advance", {"seconds": 1e29}, 400),
        ("advance", {"seconds": 5e9}, 400),
        ("fund", {"buyer": "anna", "token": "JPMD", "units": 1}, 422),
        ("invoice", {"invoice": "a\0b"}, 400),
        ("invoice", {"invoice": "\ud800"}, 400),
        ("fund", {"buyer": "nobody", "token": "SBUSD", "units": 1}, 400),
        ("set_rate", {"token": "JPMD", "currency": "EUR", "rate": "1.1"}, 422),
        ("set_rate", {"token": "SBUSD", "currency": "XPF", "rate": "1.1"}, 422),
        ("set_rate", {"token": "SBUSD", "currency": "EUR", "rate": 1.1}, 400),
        ("set_rate", {"token": "SBUSD", "currency": "EUR", "rate": "1e1"}, 400),
        ("set_rate", {"token": "SBUSD", "currency": "EUR", "rate": "0"}, 400),
        ("set_rate", {"token": "SBUSD", "currency": "EUR", "rate": "-1"}, 400),
        ("set_rate", {"token": "SBUSD", "currency": "EUR", "rate": "0.00000000001"}, 400),
        ("set_rate", {"token": "SBUSD", "currency": "EUR", "rate": "1000000"}, 400),
        ("fault", {"kind": "latency", "seconds": 1e9}, 400),
        ("rotate_webhook_key", {"merchant": "nobody"}, 400),
        ("set_webhook_url", {"url": "ftp://x"}, 400),
        ("create_merchant", {"merchant": "../escape"}, 400),
    ],
)
def test_a_verb_that_cannot_be_done_is_refused_with_a_problem(
    bank: Sandbox, verb: str, arguments: dict[str, Any], status: int
) -> None:
    answer = _verb(bank, verb, **arguments)
    assert (answer.status_code, answer.json()["status"]) == (status, status)


@pytest.mark.parametrize("units", ["many", 0, -5, 1.5, ""])
def test_a_payment_is_a_whole_number_of_units(bank: Sandbox, shop: Shop, units: object) -> None:
    answer = _verb(bank, "pay", invoice=shop.invoice()["id"], units=units)
    assert answer.status_code == 400


@pytest.mark.parametrize("content", [b"{", b"[]", b'"x"', b"\xff", b"[" * 100_000])
def test_arguments_that_are_no_json_object_are_refused(
    bank: Sandbox, browser: requests.Session, content: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    assert browser.post(f"{bank.url}/control/time", data=content, headers=headers).status_code == 400


def test_a_web_page_elsewhere_cannot_use_the_control(bank: Sandbox, browser: requests.Session) -> None:
    url = f"{bank.url}/control/advance"
    plain = browser.post(url, data='{"seconds": 5}', headers={"Content-Type": "text/plain"})
    foreign = browser.post(url, json={"seconds": 5}, headers={"Origin": "https://evil.example"})
    cross = browser.post(url, json={"seconds": 5}, headers={"Sec-Fetch-Site": "cross-site"})
    asked = browser.options(url, headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"})
    assert [plain.status_code, foreign.status_code, cross.status_code] == [415, 403, 403]
    assert not [name for name in asked.headers if name.lower().startswith("access-control-allow")]
    assert bank.control.time()["ahead"] == 0
    own = browser.post(url, json={"seconds": 5}, headers={"Origin": bank.url, "Sec-Fetch-Site": "same-origin"})
    assert own.status_code == 200


def test_a_rate_that_is_set_counts_for_later_quotes_in_that_currency_until_it_is_taken_back(
    bank: Sandbox, shop: Shop
) -> None:
    def due(code: str, currency: str) -> str:
        quote = shop.quote(price={"currency": currency, "amount": "100.00"}, token=code, bearer="CRED")
        return str(shop.claims(quote.body["statement"], "deposit-quote+jws", "QuoteClaims")["due"])

    def all_due() -> tuple[str, ...]:
        return due("SBUSD", "EUR"), due("SBUSD", "GBP"), due("SBCNH", "EUR")

    before = all_due()
    set_to = bank.control.set_rate("SBUSD", "EUR", "1.0900")
    # 1.0900 x 1.0025 = 1.092725
    assert set_to == {"token": "SBUSD", "currency": "EUR", "mid": "1.0900", "rate": "1.092725"}
    assert all_due() == ("10928", *before[1:])
    assert bank.control.set_rate("SBUSD", "EUR") == {**set_to, "mid": "1.0837", "rate": "1.08640925"}
    assert all_due() == before == ("10865", *before[1:])


def test_another_merchant_gets_settings_and_keys_of_its_own(bank: Sandbox, shop: Shop) -> None:
    settings = _verb(bank, "create_merchant", merchant="second-shop", name="Second").json()
    second = Shop(bank, settings)
    invoice = second.invoice()
    second.http.close()
    assert invoice["merchant"] == "second-shop"
    assert settings["DEPOSIT_TOKEN_WEBHOOK_KEYS"] != shop.environment["DEPOSIT_TOKEN_WEBHOOK_KEYS"]
    with pytest.raises(ConfigurationError):
        bank.control.create_merchant("Not A Name")
