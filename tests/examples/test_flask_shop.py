"""The example shop's own doing: basket, forms, orders, the back office's door. Payment is in `tests/acceptance`."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from flask import Flask, session
from sqlalchemy import update

from deposit_token_sdk import BankUnavailable, Bearer, Money, OrderView
from deposit_token_sdk.lifecycle import History, Observation, Stage, Word
from deposit_token_sdk.models import Quote
from deposit_token_sdk.testing.values import a_quote, an_attempt
from examples.flask_shop import basket, create_app, orders
from examples.flask_shop.models import Product, db
from examples.flask_shop.orders import situation
from examples.flask_shop.payments import Pace

from .conftest import PASSWORD, Visitor


def test_prices_are_shown_in_each_currency_with_its_own_decimals(visitor: Visitor) -> None:
    assert "128.50 EUR" in visitor.get("/")
    assert "20,900 JPY" in visitor.post("/currency", currency="JPY")
    assert "42.750 KWD" in visitor.post("/currency", currency="KWD")
    assert "42.750 KWD" in visitor.post("/currency", currency="XXX")


def test_a_basket_adds_changes_and_empties(visitor: Visitor) -> None:
    visitor.post("/basket", sku="tea-bowl", add=1)
    assert "59.70 EUR" in visitor.post("/basket", sku="tea-bowl", add=2)
    assert "39.80 EUR" in visitor.post("/basket", sku="tea-bowl", count=2)
    assert "nothing in it" in visitor.post("/basket", sku="tea-bowl", count=0)


@pytest.mark.parametrize(("fields", "pieces"), [({"count": -3}, None), ({"count": 1000}, "99"), ({"count": "x"}, None)])
def test_a_count_that_makes_no_sense_does_no_harm(visitor: Visitor, fields: dict[str, object], pieces: str) -> None:
    visitor.post("/basket", sku="tea-bowl", add=1)
    page = visitor.post("/basket", sku="tea-bowl", **fields)
    shown = re.search(r'name="count" value="(\d+)"', page)
    assert (shown[1] if shown else None) == pieces


def test_a_form_without_the_sessions_token_goes_nowhere(app: Flask, visitor: Visitor) -> None:
    assert visitor.client.post("/basket", data={"sku": "tea-bowl", "add": "1"}).status_code == 400
    other = Visitor(app.test_client()).token()
    assert visitor.client.post("/basket", data={"sku": "tea-bowl", "add": "1", "csrf": other}).status_code == 400
    assert visitor.client.post("/basket", data={"sku": "tea-bowl", "add": "1", "csrf": "é"}).status_code == 400
    assert "nothing in it" in visitor.get("/basket")


def test_a_product_that_does_not_exist_is_not_found(visitor: Visitor) -> None:
    assert visitor.client.post("/basket", data={"csrf": visitor.token(), "sku": "gold", "add": "1"}).status_code == 404


def test_every_page_forbids_scripts_from_elsewhere_and_frames(visitor: Visitor) -> None:
    for path in ("/", "/basket", "/orders/nobody", "/admin/login", "/static/order.js"):
        with visitor.client.get(path) as page:
            headers = page.headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["X-Frame-Options"] == "DENY"
    assert "style=" not in visitor.get("/")
    assert visitor.client.get("/").headers["Cache-Control"] == "no-store"


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(visitor: Visitor) -> None:
    cookie = visitor.client.get("/").headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie


def test_behind_https_the_session_cookie_is_for_https_only(environ: dict[str, str]) -> None:
    app = create_app({**environ, "SHOP_URL": "https://tea.example"})
    assert app.config["SESSION_COOKIE_SECURE"] is True
    assert app.test_client().get("/", base_url="https://tea.example").status_code == 200
    assert app.test_client().get("/", base_url="https://elsewhere.example").status_code == 400


def test_while_the_bank_cannot_be_reached_the_checkout_says_so_and_the_basket_stays(visitor: Visitor) -> None:
    visitor.post("/basket", sku="travel-set", add=1)
    assert "The bank cannot be reached" in visitor.get("/checkout")
    assert "Travel tea set" in visitor.get("/basket")


def test_a_checkout_of_nothing_leads_back_to_the_basket(visitor: Visitor) -> None:
    assert visitor.client.get("/checkout").headers["Location"] == "/basket"
    assert "nothing in it" in visitor.post("/checkout", country="DE", token="SBUSD")


def test_an_order_is_placed_once_however_often_the_button_is_pressed(app: Flask) -> None:
    with app.test_request_context():
        basket.set_count("travel-set", 1)
        first = orders.place(basket.lines(basket.choices()), "DE", "SBUSD")
        known = first.id, first.address, first.latest
        again = orders.place(basket.lines(basket.choices()), "DE", "SBUSD")
        assert (again.id, again.address, again.latest) == known
        assert len(again.contents) == 1
        assert [order.id for order in orders.remembered()] == [again.id]


def test_an_order_keeps_each_content_it_has_had(app: Flask) -> None:
    with app.test_request_context():
        basket.set_count("travel-set", 1)
        before = orders.place(basket.lines(basket.choices()), "DE", "SBUSD").latest
        basket.set_count("tea-tin", 2)
        order = orders.place(basket.lines(basket.choices()), "FR", "SBEUR")
        assert order.content(before).total == Money("128.50", "EUR")
        assert order.content().total == Money("153.30", "EUR")
        assert {line.name for line in order.content().lines} == {"Travel tea set", "Tea tin"}


def test_a_paid_order_takes_its_basket_along_unless_it_has_changed(app: Flask) -> None:
    with app.test_request_context():
        basket.set_count("travel-set", 1)
        order = orders.place(basket.lines(basket.choices()), "DE", "SBUSD")
        orders.close(order)
        assert session["order"][0] == order.id
        order.paid = order.latest
        basket.set_count("tea-tin", 1)
        orders.close(order)
        assert "order" not in session
        assert basket.pieces() == 2


def test_orders_have_addresses_that_cannot_be_guessed_and_belong_to_one_visitor(app: Flask) -> None:
    with app.test_request_context():
        basket.set_count("travel-set", 1)
        address = orders.place(basket.lines(basket.choices()), "DE", "SBUSD").address
    stranger = Visitor(app.test_client())
    assert len(address) >= 24
    assert address not in stranger.get("/orders")
    assert stranger.status_of("/orders/nobody") == 404
    assert stranger.status_of("/orders/nobody/status") == 404
    assert "No price yet" in stranger.get(f"/orders/{address}")
    assert stranger.client.get(f"/orders/{address}/receipt").headers["Location"] == f"/orders/{address}"


def test_no_column_of_the_shops_database_could_hold_money_in_binary(app: Flask, environ: dict[str, str]) -> None:
    database = sqlite3.connect(environ["SHOP_DATABASE"])
    tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    columns = [(table, *row) for table in tables for row in database.execute(f"PRAGMA table_info({table})")]
    prices = database.execute("SELECT amount, typeof(amount) FROM price WHERE sku = 'travel-set'").fetchall()
    database.close()
    assert {"product", "price", "shop_order", "order_line", "deposit_token_attempts"} <= set(tables)
    assert not [column for column in columns if re.search("REAL|FLOA|DOUB|NUMERIC|DECIMAL", column[3].upper())]
    assert ("42.750 KWD", "text") in prices


def test_the_back_office_is_closed_to_who_is_not_logged_in(visitor: Visitor) -> None:
    for path in ("/admin", "/admin/orders/X"):
        assert visitor.client.get(path).headers["Location"] == "/admin/login"
    for path in ("/admin/orders/X/refund", "/admin/ask"):
        answer = visitor.client.post(path, data={"csrf": visitor.token(), "amount": "1"})
        assert answer.headers["Location"] == "/admin/login"


def test_the_back_office_opens_by_its_password_and_closes_again(visitor: Visitor) -> None:
    assert "All orders" in visitor.post("/admin/login", password=PASSWORD)
    visitor.post("/admin/logout")
    assert visitor.client.get("/admin").headers["Location"] == "/admin/login"


def test_a_wrong_password_opens_nothing_and_the_next_try_must_wait(visitor: Visitor) -> None:
    visitor.client.environ_base["REMOTE_ADDR"] = "192.0.2.7"
    assert "not the password" in visitor.post("/admin/login", password="guess")
    assert "wait" in visitor.post("/admin/login", password=PASSWORD)
    assert visitor.client.get("/admin").headers["Location"] == "/admin/login"


def test_without_a_password_the_back_office_stays_closed(environ: dict[str, str]) -> None:
    visitor = Visitor(create_app({**environ, "SHOP_ADMIN_PASSWORD": ""}).test_client())
    visitor.client.environ_base["REMOTE_ADDR"] = "192.0.2.8"
    assert "It is closed" in visitor.get("/admin/login")
    visitor.post("/admin/login", password="")
    assert visitor.client.get("/admin").headers["Location"] == "/admin/login"


def test_a_changed_password_logs_everybody_out(environ: dict[str, str]) -> None:
    fixed = {**environ, "SHOP_SECRET_KEY": "the same before and after"}
    before = Visitor(create_app(fixed).test_client())
    before.client.environ_base["REMOTE_ADDR"] = "192.0.2.9"
    before.post("/admin/login", password=PASSWORD)
    cookie = before.client.get_cookie("shop")
    assert cookie is not None
    after = create_app({**fixed, "SHOP_ADMIN_PASSWORD": "another"}).test_client()
    after.set_cookie("shop", cookie.value)
    assert after.get("/admin").headers["Location"] == "/admin/login"


def test_the_banks_webhooks_need_no_form_token(visitor: Visitor, environ: dict[str, str]) -> None:
    assert visitor.client.post("/webhooks/nobody", data=b"{}").status_code == 404
    assert visitor.client.post("/webhooks/sandbox-bank", data=b"{}").text == "header_missing\n"


def test_a_name_passes_once_in_its_time_and_others_beside_it() -> None:
    now = [0.0]
    pace = Pace(2.0, clock=lambda: now[0])
    assert pace.allows("a")
    assert not pace.allows("a")
    assert pace.allows("b")
    now[0] = 1.9
    assert not pace.allows("a")
    now[0] = 2.0
    assert pace.allows("a")


def test_a_products_text_is_text_and_never_markup(app: Flask, visitor: Visitor) -> None:
    with app.app_context():
        db.session.execute(update(Product).values(name="<script>alert(1)</script>", description='"><img src=x>'))
        db.session.commit()
    page = visitor.get("/") + visitor.post("/basket", sku="tea-bowl", add=1)
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "<img src=x>" not in page


def test_without_the_banks_settings_the_shop_says_what_is_missing_and_ends(tmp_path: Path) -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DEPOSIT_TOKEN_")}
    environ |= {"SHOP_PORT": "0", "SHOP_DATABASE": str(tmp_path / "shop.sqlite")}
    command = [sys.executable, "-m", "examples.flask_shop"]
    root = Path(__file__).parents[2]
    ended = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "DEPOSIT_TOKEN_BANK" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_catalogue_is_laid_out_once(environ: dict[str, str], tmp_path: Path) -> None:
    for _ in range(2):
        page = create_app(environ).test_client().get("/").text
        assert page.count('class="card"') == 6


NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
QUOTE = a_quote("ref", fee=0, bearer=Bearer.CRED, due=13926, net=13926, expires_at=NOW)


def view_of(
    *shown: tuple[Stage, int],
    words: frozenset[Word] = frozenset(),
    paid: bool = False,
    unknown: bool = False,
    quote: Quote | None = QUOTE,
    invoice: str | None = "inv_1",
    ended: str | None = None,
) -> OrderView:
    """An order of which the bank has shown these movements and said these words."""
    seen = frozenset(Observation(f"mov_{at}", stage, units, NOW) for at, (stage, units) in enumerate(shown))
    history = History(seen, words)
    attempt = an_attempt("ref", "A", content="c", quote=quote, invoice=invoice, ended=ended, history=history)
    return OrderView("A", attempt, paid=paid, refunds=(), refundable=0, unknown=unknown)


@pytest.mark.parametrize(
    ("view", "word"),
    [
        (OrderView("A", None, paid=False, refunds=(), refundable=0, unknown=False), "unstarted"),
        (view_of(), "waiting"),
        (view_of(unknown=True), "asking"),
        (view_of(quote=None, invoice=None, unknown=True), "asking"),
        (view_of(invoice=None, unknown=True), "asking"),
        (view_of(quote=None, invoice=None, ended="refused"), "unstarted"),
        (view_of((Stage.SEEN, 13926)), "coming"),
        (view_of((Stage.HELD, 13926)), "coming"),
        (view_of((Stage.UNKNOWN, 13926)), "coming"),
        (view_of((Stage.SETTLED, 10000)), "short"),
        (view_of((Stage.SETTLED, 10000), (Stage.SEEN, 3926)), "coming"),
        (view_of((Stage.SETTLED, 13926), paid=True, ended="paid"), "paid"),
        (view_of((Stage.RETURNED, 13926), paid=True, ended="paid"), "returned"),
        (view_of((Stage.SETTLED, 13926), ended="expired"), "checking"),
        (view_of((Stage.SETTLED, 10000), words=frozenset({Word.EXPIRED}), ended="expired"), "checking"),
        (view_of(words=frozenset({Word.EXPIRED}), ended="expired"), "expired"),
        (view_of(words=frozenset({Word.CANCELLED}), ended="cancelled"), "declined"),
        (view_of(ended="superseded"), "expired"),
    ],
)
def test_a_buyer_is_told_how_the_order_stands(view: OrderView, word: str) -> None:
    assert situation(view) == word


class Bank:
    """Stands in for a checkout and counts how often the bank would be asked."""

    def __init__(self, view: OrderView) -> None:
        self.answer = view
        self.asked = 0

    def view(self, order_id: str) -> OrderView:
        return self.answer

    def refresh(self, order_id: str) -> OrderView:
        self.asked += 1
        return self.answer


@pytest.mark.parametrize(("view", "asked"), [(view_of(), 1), (view_of(paid=True), 0), (view_of(ended="expired"), 0)])
def test_however_often_an_order_is_looked_at_the_bank_is_asked_at_a_decent_pace(
    app: Flask, monkeypatch: pytest.MonkeyPatch, view: OrderView, asked: int
) -> None:
    bank = Bank(view)
    paying = app.extensions["payments"]
    monkeypatch.setattr(paying, "checkout", bank)
    with app.app_context():
        for _ in range(20):
            paying.look("A")
        assert bank.asked == asked
        paying.ask("A")
    assert bank.asked == asked + 1


def test_while_the_bank_gives_no_answer_the_buyer_is_told_what_is_known(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Silent(Bank):
        def refresh(self, order_id: str) -> OrderView:
            raise BankUnavailable("unreachable", "no connection")

    paying = app.extensions["payments"]
    monkeypatch.setattr(paying, "checkout", Silent(view_of()))
    with app.app_context():
        assert paying.ask("A").attempt.reference == "ref"
