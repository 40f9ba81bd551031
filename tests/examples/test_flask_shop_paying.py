"""The example shop at a bank that it may or may not reach: what it keeps, and what it says. No webhook ever comes."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from flask import Flask
from sqlalchemy import select

from deposit_token_sdk import Attempt, OrderView
from deposit_token_sdk.checkout.store import Review
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner
from examples.flask_shop import admin
from examples.flask_shop.admin import _seal
from examples.flask_shop.models import Order, db
from tests.nursery import ran

from .conftest import Visitor

# 128.50 EUR x 1.08640925 = 139.603588625, so 139.61 SBUSD; 28.50 EUR are 30.962663625, rounded down.
DUE = "13961"
PART = "3096"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "bank") as bank:
        yield bank
        assert bank.control.audit() == []


@pytest.fixture
def environ(environ: dict[str, str], bank: Sandbox) -> dict[str, str]:
    """Settings of a shop whose bank is there, asked once for each thing."""
    shop = {name: value for name, value in environ.items() if name.startswith("SHOP_")}
    return {**shop, **bank.environment(), "DEPOSIT_TOKEN_ATTEMPTS": "1"}


@pytest.fixture
def keeper(app: Flask) -> Visitor:
    keeper = Visitor(app.test_client())
    keeper.client.environ_base["REMOTE_ADDR"] = "192.0.2.99"
    with keeper.client.session_transaction() as session, app.app_context():
        session["admin"] = _seal()
    return keeper


@pytest.fixture
def keep(app: Flask) -> Callable[[], dict[str, Any]]:
    """What the shop's own table has of its only order."""

    def read() -> dict[str, Any]:
        with app.app_context():
            order = db.session.scalars(select(Order)).one()
            names = ("id", "address", "state", "country", "token", "latest", "paid")
            return {name: getattr(order, name) for name in names}

    return read


@pytest.fixture
def attempts(app: Flask, keep: Callable[[], dict[str, Any]]) -> Callable[[], tuple[Attempt, ...]]:
    """The attempts at having it paid, oldest first."""

    def read() -> tuple[Attempt, ...]:
        order = keep()["id"]
        with app.app_context():
            found: tuple[Attempt, ...] = app.extensions["payments"].store.order(order).attempts
            return found

    return read


def check_out(visitor: Visitor, **fields: str) -> str:
    """Send the checkout form; gives the page that follows."""
    return visitor.post("/checkout", **{"token": "SBUSD", "country": "DE", **fields})


@pytest.fixture
def placed(visitor: Visitor, attempts: Callable[[], tuple[Attempt, ...]]) -> Attempt:
    """The visitor has checked out 128.50 EUR and could pay now."""
    visitor.post("/basket", sku="travel-set", add=1)
    assert "To be paid" in check_out(visitor)
    return attempts()[0]


@pytest.fixture
def paid(bank: Sandbox, placed: Attempt, keeper: Visitor) -> Attempt:
    """The visitor has paid, and the shop knows; the visitor's browser was not told yet."""
    bank.control.pay(placed.reference)
    assert 'class="badge paid"' in keeper.get(f"/admin/orders/{placed.order_id}")
    return placed


def refunds(bank: Sandbox, attempt: Attempt) -> list[str]:
    """The units of each refund in the bank's own books."""
    return [one["units"] for one in bank.control.ledger(attempt.reference) if one["kind"] == "refund"]


def ask_about_all(keeper: Visitor) -> str:
    """Press the button; gives what it is told."""
    found = re.search(r"The bank was asked about .+", keeper.post("/admin/ask"))
    assert found is not None
    return found[0]


def send_back(keeper: Visitor, attempt: Attempt, amount: str = "28.50", once: str | None = None) -> str:
    """Fill in the order's refund form; gives the page that follows."""
    if once is None:
        found = re.search(r'name="once" value="([^"]+)"', keeper.get(f"/admin/orders/{attempt.order_id}"))
        assert found is not None
        once = found[1]
    fields = {"attempt": attempt.reference, "once": once, "amount": amount, "unit": "price", "part": "1"}
    return keeper.post(f"/admin/orders/{attempt.order_id}/refund", **fields)


def message(page: str) -> str:
    found = re.search(r'<p class="message[^>]*>(.*?)</p>', page, re.DOTALL)
    assert found is not None, page
    return found[1]


def test_a_refund_that_does_not_reach_the_bank_is_noted_and_sent_once_the_bank_answers(
    bank: Sandbox, paid: Attempt, keeper: Visitor
) -> None:
    keeper.get(f"/admin/orders/{paid.order_id}")
    once = "the form of that page"
    bank.stop()
    told = message(send_back(keeper, paid, once=once))
    assert "will be sent as soon as the bank answers" in told
    assert "othing was sent back" not in told
    assert "is being asked about it" in message(send_back(keeper, paid, once=once))
    bank.start()
    assert " 0 failed" in ask_about_all(keeper)
    assert "28.50 EUR (30.96 SBUSD): <strong>done" in keeper.get(f"/admin/orders/{paid.order_id}")
    assert refunds(bank, paid) == [PART]


@pytest.mark.parametrize("fault", ["dropped", "error_after", "kept_error_after"])
def test_a_refund_whose_answer_is_lost_is_being_asked_about_and_never_said_not_to_have_happened(
    bank: Sandbox, paid: Attempt, keeper: Visitor, fault: str
) -> None:
    bank.control.fault(fault, route="POST /refunds")
    told = message(send_back(keeper, paid))
    assert "the bank is being asked about it" in told
    assert "othing was sent back" not in told
    keeper.post("/admin/ask")
    assert "28.50 EUR (30.96 SBUSD): <strong>done" in keeper.get(f"/admin/orders/{paid.order_id}")
    assert refunds(bank, paid) == [PART]


def test_a_refund_form_sent_again_with_another_amount_sends_nothing_more(
    bank: Sandbox, paid: Attempt, keeper: Visitor
) -> None:
    assert "is done" in message(send_back(keeper, paid, "28.50", once="one form"))
    assert "with another amount. That refund stands" in message(send_back(keeper, paid, "30.00", once="one form"))
    assert refunds(bank, paid) == [PART]


def test_while_the_bank_cannot_be_reached_nobody_is_told_that_nothing_was_paid(
    bank: Sandbox, placed: Attempt, visitor: Visitor, attempts: Callable[[], tuple[Attempt, ...]]
) -> None:
    address = f"/orders/{placed.return_url.split('/')[-2]}"
    bank.control.pay(placed.reference)
    bank.stop()
    told = message(check_out(visitor, country="FR"))
    assert "cannot be reached" in told
    assert "Whoever has already paid need do nothing" in told
    assert not re.search("charged|not paid yet, nothing|have not paid\\.", told)
    bank.start()
    visitor.client.get(f"{address}/return")
    assert "Paid" in visitor.get(address)
    assert len(attempts()) == 1


def test_the_checkout_form_remembers_what_was_chosen_before(placed: Attempt, visitor: Visitor) -> None:
    check_out(visitor, token="SBCNH", country="FR")
    page = visitor.get("/checkout")
    assert re.findall(r'value="(\w+)"(?: selected| checked)', page) == ["FR", "SBCNH"]


def test_an_order_that_could_not_be_priced_gets_its_price_when_the_bank_is_back(
    bank: Sandbox, visitor: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    visitor.post("/basket", sku="travel-set", add=1)
    visitor.get("/checkout")
    bank.stop()
    assert "cannot be reached" in message(check_out(visitor))
    address = f"/orders/{keep()['address']}"
    page = visitor.post(f"{address}/again")
    assert "cannot be reached" in message(page)
    assert "We are asking the bank" in page
    bank.start()
    assert "To be paid" in visitor.post(f"{address}/again")


def test_a_checkout_form_sent_after_the_payment_changes_nothing_in_the_paid_order(
    bank: Sandbox, paid: Attempt, visitor: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    before = keep()
    assert (before["state"], before["country"], before["token"]) == ("paid", "DE", "SBUSD")
    page = check_out(visitor, token="SBEUR", country="FR")
    assert '<h2 class="headline">Paid' in page
    assert "Your basket changed" not in page
    assert keep() == before
    assert visitor.client.get("/checkout").headers["Location"] == "/basket"


def test_another_basket_sent_under_a_paid_order_is_offered_as_an_order_of_its_own(
    bank: Sandbox, paid: Attempt, visitor: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    before = keep()
    visitor.post("/basket", sku="tea-tin", add=1)
    page = check_out(visitor)
    assert "Your basket changed" in page
    assert "Order the basket separately" in page
    assert keep() == before


@pytest.mark.parametrize("more", [True, False])
def test_an_order_paid_while_its_checkout_form_is_being_read_stays_as_it_was_paid(
    app: Flask,
    bank: Sandbox,
    placed: Attempt,
    visitor: Visitor,
    keep: Callable[[], dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    more: bool,
) -> None:
    paying = app.extensions["payments"]
    start = paying.start

    def paid_just_before(*order: Any) -> Attempt:
        bank.control.pay(placed.reference)
        paying.checkout.refresh(placed.order_id)
        attempt: Attempt = start(*order)
        return attempt

    monkeypatch.setattr(paying, "start", paid_just_before)
    if more:
        visitor.post("/basket", sku="tea-tin", add=1)
    page = check_out(visitor, token="SBEUR", country="FR")
    assert '<h2 class="headline">Paid' in page
    assert ("Your basket changed" in page) is more
    assert (keep()["country"], keep()["token"], keep()["paid"]) == ("DE", "SBUSD", placed.content)


def test_another_country_is_priced_anew_and_the_old_invoice_ends(
    bank: Sandbox,
    placed: Attempt,
    visitor: Visitor,
    keep: Callable[[], dict[str, Any]],
    attempts: Callable[[], tuple[Attempt, ...]],
) -> None:
    assert "To be paid" in check_out(visitor, country="FR")
    old, new = attempts()
    assert (old.reference, new.buyer_country, new.content) == (placed.reference, "FR", placed.content)
    assert bank.control.invoice(old.reference)["status"] == "cancelled"
    assert keep()["country"] == "FR"


def test_a_buyer_whose_late_payment_is_being_looked_at_is_asked_not_to_pay_again(
    bank: Sandbox, placed: Attempt, visitor: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    address = f"/orders/{keep()['address']}"
    bank.control.advance(16 * 60)
    bank.control.pay(placed.reference)
    visitor.client.get(f"{address}/return")
    page = check_out(visitor, token="SBEUR", country="FR")
    assert "Please do not pay again" in message(page)
    assert "We are looking at your payment" in page
    assert "Pay at the bank" not in page
    assert "Please do not pay again" in message(visitor.post(f"{address}/again"))
    kept = keep()
    assert (kept["state"], kept["country"], kept["token"]) == ("open", "DE", "SBUSD")


def test_money_for_an_earlier_invoice_hides_the_pay_link_of_the_later_one_until_it_is_sent_back(
    bank: Sandbox,
    placed: Attempt,
    visitor: Visitor,
    keeper: Visitor,
    keep: Callable[[], dict[str, Any]],
    attempts: Callable[[], tuple[Attempt, ...]],
) -> None:
    address = f"/orders/{keep()['address']}"
    bank.control.advance(16 * 60)
    visitor.client.get(f"{address}/return")
    assert "Pay at the bank" in visitor.post(f"{address}/again")
    bank.control.pay(placed.reference)
    assert " 0 failed" in ask_about_all(keeper)
    assert [one.ended for one in attempts()][1:] == [None]
    page = visitor.get(address)
    assert "We are looking at your payment" in page
    assert "Pay at the bank" not in page

    send_back(keeper, placed, "128.50")
    assert refunds(bank, placed) == [DUE]
    assert "Pay at the bank" in visitor.get(address)


def test_a_returned_payment_marks_its_order_and_a_returned_second_payment_does_not(
    bank: Sandbox, paid: Attempt, keeper: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    first = bank.control.invoice(paid.reference)["movements"][-1]["id"]
    bank.control.pay(paid.reference, units=int(DUE))
    keeper.post("/admin/ask")
    bank.control.return_payment(paid.reference)
    keeper.post("/admin/ask")
    assert keep()["state"] == "paid"
    bank.control.return_payment(paid.reference, movement=first)
    keeper.post("/admin/ask")
    assert keep()["state"] == "returned"


def test_asked_about_everything_open_the_bank_tells_of_a_payment_that_nobody_heard_of(
    bank: Sandbox, placed: Attempt, keeper: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    bank.control.pay(placed.reference)
    page = keeper.post("/admin/ask")
    assert "asked about 1 payment: 1 had news, 0 failed." in page
    assert keep()["state"] == "paid"
    assert "0 had news, 0 failed." in ask_about_all(keeper)


def test_what_could_not_be_asked_is_named_with_its_order_and_the_reason(
    bank: Sandbox, placed: Attempt, keeper: Visitor
) -> None:
    bank.stop()
    page = keeper.post("/admin/ask")
    bank.start()
    assert "asked about 1 payment: 0 had news, 1 failed." in page
    assert re.search(rf"/admin/orders/{placed.order_id}.+unreachable.+{placed.reference}", page)


def test_a_sweep_of_the_back_office_is_bounded_and_says_when_there_may_be_more(
    bank: Sandbox, placed: Attempt, keeper: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There may be more" not in ask_about_all(keeper)
    monkeypatch.setattr(admin, "MOST_AT_ONCE", 1)
    assert "There may be more" in ask_about_all(keeper)


def test_what_fits_no_order_is_listed_without_a_link(app: Flask, keeper: Visitor) -> None:
    message = "A message of the bank fits no attempt."
    with app.app_context(), app.extensions["payments"].store.begin() as tx:
        tx.open_review(Review("", "ref", "unknown_reference", "msg_1", message, datetime.now(UTC)))
    page = keeper.get("/admin")
    assert re.search(r"<li>No order <strong>unknown_reference</strong>", page)
    assert 'href="/admin/orders/"' not in page


def test_the_button_is_a_form_with_the_sessions_token(app: Flask, keeper: Visitor) -> None:
    assert re.search(r'action="/admin/ask"><input type="hidden" name="csrf"', keeper.get("/admin"))
    assert keeper.client.post("/admin/ask").status_code == 400
    assert keeper.status_of("/admin/ask") == 405


def reconciled(environ: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    """The shop's own machine runs ``deposit-token reconcile``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DEPOSIT_TOKEN_", "SHOP_"))}
    shop = ["--checkout", "examples.flask_shop:create_app", *options]
    return ran("deposit_token_sdk.cli", "reconcile", *shop, environ={**inherited, **environ})


def test_the_command_marks_the_order_paid_and_ends_well(
    bank: Sandbox, environ: dict[str, str], placed: Attempt, keep: Callable[[], dict[str, Any]]
) -> None:
    bank.control.pay(placed.reference)
    none = reconciled(environ, "--no-report", "--older-than", "3600")
    assert (none.returncode, none.stdout) == (0, "asked 0, had news 0, failed 0\n")
    done = reconciled(environ, "--older-than", "0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("asked 1, had news 1, failed 0\n")
    assert "both sides agree" in done.stdout
    assert keep()["state"] == "paid"


def test_the_command_ends_with_3_and_names_what_failed_while_the_bank_is_away(
    bank: Sandbox, environ: dict[str, str], placed: Attempt
) -> None:
    bank.stop()
    ended = reconciled(environ, "--no-report", "--older-than", "0")
    bank.start()
    assert (ended.returncode, ended.stdout) == (3, "asked 1, had news 0, failed 1\n")
    assert f"{placed.reference}: unreachable" in ended.stderr


SCRIPT = "<script>alert(1)</script>"


def test_no_visitor_makes_an_order_paid_by_what_they_send(
    app: Flask, bank: Sandbox, placed: Attempt, visitor: Visitor, keep: Callable[[], dict[str, Any]]
) -> None:
    address = keep()["address"]
    body = f'{{"type":"invoice.settled","data":{{"reference":"{placed.reference}","status":"paid"}}}}'.encode()
    signer, _ = WebhookSigner.generate()
    for headers in ({}, signer.sign("msg_1", int(time.time()), body)):
        assert visitor.client.post("/webhooks/sandbox-bank", data=body, headers=headers).status_code == 400
    visitor.client.get(f"/orders/{address}/return?status=paid&situation=paid&order={placed.order_id}")
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        told = visitor.client.open(f"/orders/{address}/status", method=method, json={"situation": "paid"})
        assert told.status_code in (400, 405)
    assert visitor.client.get(f"/orders/{address}/receipt").status_code == 302
    assert visitor.client.get(f"/orders/{address}/confirmation-1.jws").status_code == 404
    assert keep()["state"] == "open"
    assert bank.control.ledger(placed.reference) == []


def test_a_stranger_sees_no_order_and_sends_nothing_back(app: Flask, bank: Sandbox, paid: Attempt) -> None:
    stranger = Visitor(app.test_client())
    assert paid.order_id not in stranger.get("/orders")
    for guess in (paid.order_id, paid.reference, "1", "../admin"):
        assert stranger.status_of(f"/orders/{guess}") in (302, 404)
    fields = {"attempt": paid.reference, "once": "mine", "amount": "1.00", "unit": "price", "part": "1"}
    for form in (fields, {**fields, "csrf": stranger.token()}):
        answer = stranger.client.post(f"/admin/orders/{paid.order_id}/refund", data=form)
        assert answer.status_code == 400 or answer.headers["Location"] == "/admin/login"
    assert refunds(bank, paid) == []


def test_what_a_visitor_types_comes_back_as_text_if_at_all(placed: Attempt, visitor: Visitor) -> None:
    pages = [check_out(visitor, country=SCRIPT), check_out(visitor, token=SCRIPT)]
    pages += [visitor.post("/basket", sku="tea-bowl", count=SCRIPT), visitor.get(f"/?currency={SCRIPT}")]
    pages += [visitor.get(f"/orders/{SCRIPT}"), visitor.post("/language", language=SCRIPT, back=f"/{SCRIPT}")]
    assert [page for page in pages if SCRIPT in page] == []


@pytest.mark.parametrize(("pay_url", "instructions"), [("javascript:alert(1)", None), (None, f"Transfer to {SCRIPT}")])
def test_what_the_bank_sends_is_shown_as_text_and_never_followed_as_script(
    app: Flask,
    placed: Attempt,
    visitor: Visitor,
    monkeypatch: pytest.MonkeyPatch,
    keep: Callable[[], dict[str, Any]],
    pay_url: str | None,
    instructions: str | None,
) -> None:
    paying, address = app.extensions["payments"], keep()["address"]
    seen = paying.view

    def view(order_id: str) -> OrderView:
        known: OrderView = seen(order_id)
        assert known.attempt is not None
        return evolve(known, attempt=evolve(known.attempt, pay_url=pay_url, instructions=instructions))

    monkeypatch.setattr(paying, "view", view)
    page = visitor.get(f"/orders/{address}")
    html = visitor.client.get(f"/orders/{address}/status").get_json()["html"]
    for text in (page, html):
        assert 'class="instructions"' in text
        assert SCRIPT not in text
        assert 'href="javascript:' not in text
