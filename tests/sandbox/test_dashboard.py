"""The developer's dashboard: everything the bank knows and everything it can be told to do, for this machine alone."""

from __future__ import annotations

import html
import json
import re
import time

import pytest
import requests

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.control import VERBS
from deposit_token_sdk.sandbox.dashboard import GROUPS
from deposit_token_sdk.sandbox.faults import KINDS
from deposit_token_sdk.signing.standard_webhooks import Verifier
from tests.sandbox.shop import Inbox, Shop, eventually

PAGES = ("", "/events", "/ledger", "/faults", "/control")


def _token(bank: Sandbox, browser: requests.Session) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', browser.get(f"{bank.url}/dashboard/control").text)
    assert found is not None
    return found[1]


def _do(bank: Sandbox, browser: requests.Session, verb: str, back: str = "/dashboard", **given: object) -> str:
    """Press the button of a verb; the page that comes back."""
    form = {"verb": verb, "back": back, "form_token": _token(bank, browser)}
    form |= {f"with.{name}": str(value) for name, value in given.items()}
    answer = browser.post(f"{bank.url}/dashboard/do", data=form, allow_redirects=False)
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith(f"{back}?done=")
    return html.unescape(browser.get(bank.url + answer.headers["location"]).text)


def test_every_page_says_sandbox_loads_nothing_from_elsewhere_and_cannot_be_framed(
    bank: Sandbox, shop: Shop, browser: requests.Session
) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    for path in (*PAGES, f"/invoices/{invoice['id']}", "/invoices/inv_nope"):
        answer = browser.get(f"{bank.url}/dashboard{path}")
        assert answer.status_code == (404 if path.endswith("nope") else 200)
        assert "SANDBOX" in answer.text
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert not re.search(r'(src|action)="https?:', answer.text)


def test_every_verb_has_a_form_with_its_arguments_and_every_fault_a_button(
    bank: Sandbox, browser: requests.Session
) -> None:
    assert sorted(verb for verbs in GROUPS.values() for verb in verbs) == sorted(VERBS)
    page = browser.get(f"{bank.url}/dashboard/control").text
    for verb in VERBS:
        assert f'name="verb" value="{verb}"' in page
    assert 'name="with.seconds"' in page
    faults = browser.get(f"{bank.url}/dashboard/faults").text
    for kind in KINDS:
        assert f'name="with.kind" value="{kind}"' in faults


def test_a_button_does_what_the_call_does_and_shows_that_call(
    bank: Sandbox, shop: Shop, browser: requests.Session
) -> None:
    invoice = shop.invoice()
    page = _do(bank, browser, "pay", f"/dashboard/invoices/{invoice['id']}", invoice=invoice["id"], units=14000, at="")
    assert "pay is done" in re.sub(r"<[^>]+>", "", page)
    assert "140.00 SBUSD" in page
    assert f'curl -X POST -H \'content-type: application/json\' -d \'{{"invoice": "{invoice["id"]}"' in page
    assert bank.control.invoice(invoice["id"])["still_due"] == "106"
    assert bank.control.time()["ahead"] == 0
    _do(bank, browser, "advance", seconds="1.5")
    assert bank.control.time()["ahead"] == 1.5


def test_what_cannot_be_done_is_told_where_it_was_asked(bank: Sandbox, browser: requests.Session) -> None:
    assert "There is no invoice" in _do(bank, browser, "pay", invoice="inv_nope")
    assert "is no number" in _do(bank, browser, "advance", seconds="soon")
    assert "There is no verb" in _do(bank, browser, "explode")
    assert "is no fault" in _do(bank, browser, "fault", "/dashboard/faults", kind="meteor")


def test_a_fault_is_put_in_force_and_taken_back_by_buttons(bank: Sandbox, browser: requests.Session) -> None:
    page = _do(
        bank,
        browser,
        "fault",
        "/dashboard/faults",
        kind="dripping",
        count="",
        rate="0.5",
        seed="7",
        seconds="2",
        invoice="",
        route="POST /invoices",
    )
    (fault,) = bank.control.faults()
    assert (fault["kind"], fault["count"], fault["rate"], fault["seed"]) == ("dripping", None, 0.5, 7)
    assert "until cleared, rate 0.5, seed 7, on POST /invoices, 2.0 s" in page
    bank.control.fault("latency")
    _do(bank, browser, "clear_faults", "/dashboard/faults", fault=fault["id"])
    assert [each["kind"] for each in bank.control.faults()] == ["latency"]


def test_events_are_shown_with_body_signature_and_answer_and_can_be_resent(
    bank: Sandbox, shop: Shop, inbox: Inbox, browser: requests.Session
) -> None:
    bank.control.pay(shop.invoice()["id"])
    inbox.wait(1)
    eventually(lambda: bank.control.webhooks()[-1]["state"] == "delivered")
    headers, body = inbox.messages[0]
    page = html.unescape(browser.get(f"{bank.url}/dashboard/events").text)
    for shown in ("invoice.settled", "delivered", body.decode(), headers["webhook-signature"], "<dd>204 </dd>"):
        assert shown in page
    _do(bank, browser, "resend", "/dashboard/events", message=headers["webhook-id"])
    inbox.wait(2)
    assert inbox.messages[1][0]["webhook-id"] == headers["webhook-id"]


def test_a_signed_test_event_goes_to_any_address_on_this_machine_and_its_answer_is_shown(
    bank: Sandbox, shop: Shop, inbox: Inbox, browser: requests.Session
) -> None:
    bank.control.set_webhook_url(None)
    address = inbox.url.replace("/webhooks/sandbox-bank", "/elsewhere")
    page = _do(bank, browser, "send_test_event", "/dashboard/events", url=address, merchant="demo-shop")
    headers, body = inbox.messages[0]
    verifier = Verifier(shop.environment["DEPOSIT_TOKEN_WEBHOOK_KEYS"].split())
    assert verifier.verify(headers, body, now=time.time()) in page
    assert json.loads(body)["type"] == "test.ping"
    assert '"status": 204' in page
    assert bank.control.webhooks()[-1]["tries"][0]["url"] == address


@pytest.mark.parametrize(
    "url", ["http://example.com/", "http://127.0.0.1.example.com/", "http://127.0.0.1@example.com/", "ftp://127.0.0.1"]
)
def test_no_test_event_leaves_this_machine(bank: Sandbox, browser: requests.Session, url: str) -> None:
    assert "this machine only" in _do(bank, browser, "send_test_event", url=url)
    assert bank.control.webhooks() == []


def test_the_ledger_shows_both_sides_of_each_transfer_and_that_the_books_hold(
    bank: Sandbox, shop: Shop, browser: requests.Session
) -> None:
    bank.control.pay(shop.invoice()["id"])
    page = browser.get(f"{bank.url}/dashboard/ledger").text
    for shown in ("The books hold", "SBUSD:merchant:demo-shop", "+14106", "-14106", "SBUSD:buyer:anna"):
        assert shown in page


def test_long_lists_go_on_on_further_pages(bank: Sandbox, shop: Shop, browser: requests.Session) -> None:
    references = [shop.invoice()["reference"] for _ in range(27)]
    first = browser.get(f"{bank.url}/dashboard").text
    older = re.search(r'href="(/dashboard\?before=\d+)"', first)
    assert older is not None
    second = browser.get(bank.url + older[1]).text
    assert [name for name in references if name in second] == references[:2]
    assert [name for name in references if name in first] == references[2:]


@pytest.mark.parametrize(
    ("header", "spoiled"),
    [
        ({"Origin": "https://evil.example"}, {}),
        ({"Sec-Fetch-Site": "cross-site"}, {}),
        ({}, {"form_token": "0" * 64}),
        ({}, {"form_token": ""}),
    ],
)
def test_no_page_elsewhere_can_press_a_button(
    bank: Sandbox, browser: requests.Session, header: dict[str, str], spoiled: dict[str, str]
) -> None:
    form = {"verb": "advance", "with.seconds": "5", "form_token": _token(bank, browser)} | spoiled
    answer = browser.post(f"{bank.url}/dashboard/do", data=form, headers=header, allow_redirects=False)
    assert answer.status_code == 403
    assert bank.control.time()["ahead"] == 0


def test_the_dashboard_answers_to_no_other_host(bank: Sandbox, browser: requests.Session) -> None:
    answer = browser.get(f"{bank.url}/dashboard", headers={"Host": "bank.evil.example"})
    assert answer.status_code == 421


@pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/dashboard/../pay", "/dashboard/x?y=1"])
def test_after_a_button_the_browser_stays_on_the_dashboard(bank: Sandbox, browser: requests.Session, back: str) -> None:
    form = {"verb": "time", "back": back, "form_token": _token(bank, browser)}
    answer = browser.post(f"{bank.url}/dashboard/do", data=form, allow_redirects=False)
    assert answer.headers["location"].startswith("/dashboard?done=")


def test_names_answers_and_arguments_are_text_and_never_markup(
    bank: Sandbox, inbox: Inbox, browser: requests.Session
) -> None:
    evil = "<script>alert(1)</script>"
    attacker = Shop(bank, bank.control.create_merchant("evil", evil))
    bank.control.set_webhook_url(f"{inbox.url}?{evil}", merchant="evil")
    invoice = attacker.invoice()
    attacker.http.close()
    bank.control.pay(invoice["id"])
    inbox.wait(1)
    bank.control.fault("latency", invoice=evil, route=evil)
    token = _token(bank, browser)
    form = {"verb": "pay", "with.invoice": evil, "back": "/dashboard", "form_token": token}
    refused = browser.post(f"{bank.url}/dashboard/do", data=form).text
    shown = [refused] + [
        browser.get(f"{bank.url}/dashboard{path}").text for path in (*PAGES, f"/invoices/{invoice['id']}")
    ]
    assert sum("&lt;script&gt;" in page for page in shown) >= 4
    assert not any("<script>" in page for page in shown)
