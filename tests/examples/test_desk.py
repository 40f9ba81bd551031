"""The keeper's desk in the example shop: reviews decided, messages sent again, and how the checkout fares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from deposit_token_sdk import Attempt, Checkout
from deposit_token_sdk.checkout.store import Review
from deposit_token_sdk.sandbox import Sandbox

from .conftest import Visitor

DUE = 13961
"""128.50 EUR x 1.08640925 = 139.603588625, so 139.61 SBUSD."""


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Sandbox]:
    with Sandbox(tmp_path / "bank") as bank:
        yield bank
        assert bank.control.audit() == []


@pytest.fixture
def environ(environ: dict[str, str], bank: Sandbox, tmp_path: Path) -> dict[str, str]:
    """Settings of a shop at a bank whose webhooks do not reach it."""
    shop = {name: value for name, value in environ.items() if name.startswith("SHOP_")}
    receipts = {"SHOP_RECEIPTS": str(tmp_path / "receipts")}
    return {**shop, **bank.environment(), **receipts, "DEPOSIT_TOKEN_ATTEMPTS": "1"}


@pytest.fixture
def keeper(app: Flask) -> Visitor:
    keeper = Visitor(app.test_client())
    with keeper.client.session_transaction() as session, app.app_context():
        from examples.flask_shop.admin import _seal  # noqa: PLC0415 - conftest's path comes first

        session["admin"] = _seal()
    return keeper


@pytest.fixture
def checkout(app: Flask) -> Iterator[Checkout]:
    with app.app_context():
        found: Checkout = app.extensions["payments"].checkout
        yield found


@pytest.fixture
def placed(app: Flask, visitor: Visitor, checkout: Checkout) -> Attempt:
    """The visitor has checked out 128.50 EUR and could pay now."""
    visitor.post("/basket", sku="travel-set", add=1)
    page = visitor.post("/checkout", token="SBUSD", country="DE")
    order = re.search(r'data-order="([^"]+)"', page)
    assert order
    return checkout.store.order(order[1]).attempts[0]


@pytest.fixture
def paid_twice(bank: Sandbox, placed: Attempt, keeper: Visitor) -> Attempt:
    bank.control.pay(placed.reference)
    keeper.post("/admin/ask")
    bank.control.pay(placed.reference, units=DUE)
    keeper.post("/admin/ask")
    return placed


def refunds(bank: Sandbox, attempt: Attempt) -> list[str]:
    """The units of each refund in the bank's own books."""
    return [one["units"] for one in bank.control.ledger(attempt.reference) if one["kind"] == "refund"]


def open_review(checkout: Checkout) -> Review:
    (review,) = checkout.reviews()
    return review


def decide(keeper: Visitor, review: Review, verdict: str, **more: Any) -> str:
    fields = {"verdict": verdict, "by": "Anna", "note": ""} | more
    return keeper.post(f"/admin/reviews/{review.number}", **fields)


def test_a_second_payment_is_offered_to_be_sent_back_and_is_sent_back_once(
    bank: Sandbox, paid_twice: Attempt, keeper: Visitor, checkout: Checkout
) -> None:
    review = open_review(checkout)
    page = keeper.get("/admin")
    assert re.findall(r'name="verdict" value="(\w+)"(?: class="quiet")?>([^<]+)<', page) == [
        ("refund", "Send this payment back"),
        ("accept", "Accept as it is"),
    ]
    said = decide(keeper, review, "refund", note="paid in two tabs")
    assert f"Review {review.number}: sent back, by Anna." in said
    assert "Nothing to look at." in said
    again = decide(keeper, review, "accept", by="Ben")
    assert "Nothing was decided now." in again
    assert "refund, by Anna" in again
    assert refunds(bank, paid_twice) == [str(DUE)]
    for page in (keeper.get("/admin/decisions"), keeper.get(f"/admin/orders/{paid_twice.order_id}")):
        assert re.search(r"second_payment: <strong>sent back</strong> by Anna", page)
        assert "paid in two tabs" in page


def test_a_surplus_says_that_it_is_the_surplus_which_goes_back(
    bank: Sandbox, placed: Attempt, keeper: Visitor, checkout: Checkout
) -> None:
    bank.control.pay(placed.reference, units=DUE + 500)
    keeper.post("/admin/ask")
    assert ">Send the surplus back</button>" in keeper.get("/admin")
    decide(keeper, open_review(checkout), "refund")
    assert refunds(bank, placed) == ["500"]


def test_a_late_payment_that_is_accepted_pays_the_order_and_sends_its_receipt(
    bank: Sandbox, placed: Attempt, keeper: Visitor, checkout: Checkout, tmp_path: Path
) -> None:
    bank.control.advance(16 * 60)
    bank.control.pay(placed.reference)
    keeper.post("/admin/ask")
    review = open_review(checkout)
    assert review.reason == "late"
    assert "Accept, and deliver what the money covers" in keeper.get("/admin")
    decide(keeper, review, "accept")
    assert checkout.view(placed.order_id).paid
    assert checkout.outbox.deliver().sent == 1
    (receipt,) = (tmp_path / "receipts").iterdir()
    assert receipt.name == f"receipt-{placed.order_id}.txt"
    assert "1 x Travel tea set: 128.50 EUR" in receipt.read_text(encoding="utf-8")


def test_a_decision_without_a_name_or_a_known_verdict_is_none(
    paid_twice: Attempt, keeper: Visitor, checkout: Checkout
) -> None:
    review = open_review(checkout)
    assert "Nothing was decided now." in decide(keeper, review, "refund", by=" ")
    assert "Nothing was decided now." in decide(keeper, review, "retry")
    assert "Nothing was decided now." in decide(keeper, review, "bribe")
    assert open_review(checkout) == review


def test_while_the_bank_is_away_asking_it_again_decides_nothing(
    bank: Sandbox, placed: Attempt, keeper: Visitor, checkout: Checkout
) -> None:
    with checkout.store.begin() as tx:
        tx.open_review(
            Review(placed.order_id, placed.reference, "other_quote", "msg_1", "Another quote.", datetime.now(UTC))
        )
    bank.stop()
    assert "The bank gave no answer that settles it." in decide(keeper, open_review(checkout), "retry")
    bank.start()
    assert "asked again, by Anna." in decide(keeper, open_review(checkout), "retry")


def test_what_people_write_with_a_decision_is_text_and_never_markup(
    paid_twice: Attempt, keeper: Visitor, checkout: Checkout
) -> None:
    decide(keeper, open_review(checkout), "accept", by="<b>Anna</b>", note="<img src=x>")
    page = keeper.get("/admin/decisions")
    assert "&lt;b&gt;Anna&lt;/b&gt;" in page
    assert "<img src=x>" not in page


def test_a_message_that_was_given_up_is_shown_with_its_error_and_sent_again(
    bank: Sandbox, placed: Attempt, keeper: Visitor, checkout: Checkout, tmp_path: Path
) -> None:
    bank.control.pay(placed.reference)
    keeper.post("/admin/ask")
    key = f"receipt-{placed.order_id}"
    with checkout.store.begin() as tx:
        tx.bury(key, datetime.now(UTC), "OSError: No space left on device")
    page = keeper.get("/admin/health")
    assert "OSError: No space left on device" in page
    assert "<strong>dead_letters</strong>" in page
    assert "dead_letters" in keeper.get("/admin")
    assert f"{key} is sent again by the worker" in keeper.post("/admin/outbox", key=key)
    assert f"{key} does not wait for that" in keeper.post("/admin/outbox", key=key)
    assert checkout.outbox.deliver().sent == 1
    assert (tmp_path / f"receipts/{key}.txt").exists()
    assert "Nothing was given up." in keeper.get("/admin/health")


def test_a_receipt_that_is_written_twice_is_one_receipt(
    bank: Sandbox, placed: Attempt, keeper: Visitor, checkout: Checkout, tmp_path: Path
) -> None:
    from examples.flask_shop.receipts import into  # noqa: PLC0415 - conftest's path comes first

    bank.control.pay(placed.reference)
    keeper.post("/admin/ask")
    (message,) = checkout.store.take_outgoing(datetime.now(UTC), datetime.now(UTC), 1)
    write = into(tmp_path / "letters")
    write(message)
    write(message)
    assert [path.name for path in (tmp_path / "letters").iterdir()] == [f"receipt-{placed.order_id}.txt"]


def test_health_tells_when_the_bank_was_last_heard_of(keeper: Visitor) -> None:
    page = keeper.get("/admin/health")
    assert "All is well." in page
    assert re.search(r"<dt>Last event of sandbox-bank</dt><dd>none</dd>", page)


def test_the_banks_word_on_what_is_behind_its_tokens_is_shown_as_its_own(keeper: Visitor, bank: Sandbox) -> None:
    page = keeper.get("/admin/backing")
    for token in ("SBUSD", "SBEUR", "SBCNH"):
        assert re.search(rf"<strong>{token}</strong> \d+ units of {token} in circulation equal the deposits held", page)
    assert page.count("sandbox-bank&#39;s own word, signed by it and counted by nobody else") == 3


def test_a_word_that_is_not_believed_is_shown_as_a_warning_and_no_figure(
    keeper: Visitor, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    issuer = app.extensions["payments"].client.issuer
    monkeypatch.setattr(issuer, "_backing_age", -1)
    page = keeper.get("/admin/backing")
    assert '<div class="message warning">' in page
    assert "ask it for a newer word" in page
    assert "in circulation equal" not in page


@pytest.mark.parametrize("path", ["/admin/decisions", "/admin/health", "/admin/backing"])
def test_the_desk_is_closed_to_who_is_not_logged_in(visitor: Visitor, path: str) -> None:
    assert visitor.client.get(path).headers["Location"] == "/admin/login"


@pytest.mark.parametrize("path", ["/admin/reviews/1", "/admin/outbox"])
def test_what_changes_something_is_a_form_of_a_logged_in_keeper_with_the_sessions_token(
    visitor: Visitor, keeper: Visitor, path: str
) -> None:
    assert keeper.client.post(path).status_code == 400
    assert keeper.status_of(path) == 405
    sent = visitor.client.post(path, data={"csrf": visitor.token()})
    assert (sent.status_code, sent.headers["Location"]) == (303, "/admin/login")
