"""The pages a buyer sees at the bank: what is asked, of whom, at what rate; approve or decline.

The address is unguessable and never leaves by Referer. A form counts only with a token bound to the browser that
was shown it. Afterwards the buyer is sent to the return address and nowhere else: the merchant signed it.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from flask import Flask, Response, make_response, redirect, render_template, request
from sqlalchemy import RowMapping, select

from deposit_token_sdk.money import decimal_of
from deposit_token_sdk.sandbox import bank as bank_room
from deposit_token_sdk.sandbox import invoices, ledger, movements, pricing, quotes
from deposit_token_sdk.sandbox.bank import BUYERS, Bank
from deposit_token_sdk.sandbox.control import still_due
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.ledger import BUYER, account
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.remote import refuse_other_origins
from deposit_token_sdk.sandbox.tables import invoices as invoice_table
from deposit_token_sdk.signing import strict_json

_COOKIE = "sandbox_bank_page"
_NEWEST = 50
_WORDS = {
    "open": "Waiting for your approval",
    "pending": "Approved. The bank is working on it.",
    "authorized": "Approved. The amount is held until the merchant confirms the order.",
    "paid": "Paid",
    "expired": "Expired. Nothing more can be paid here.",
    "cancelled": "Declined or cancelled. Nothing will be paid.",
    "returned": "The payment was returned to the buyer.",
}


@frozen
class Pages:
    """The bank's pages, for one bank."""

    bank: Bank

    def mount(self, app: Flask) -> None:
        """Add the pages' routes."""
        app.add_url_rule("/", "home", self._home)
        app.add_url_rule("/pay/<code>", "pay", self._show, methods=["GET"])
        app.add_url_rule("/pay/<code>", "decide", self._decide, methods=["POST"])
        app.add_url_rule("/favicon.ico", "favicon", lambda: app.send_static_file("favicon.svg"))

    def _home(self) -> Response:
        with self.bank.desk() as desk:
            newest = select(invoice_table).order_by(invoice_table.c.seq.desc()).limit(_NEWEST)
            rows = desk.db.execute(newest).mappings().all()
            shown = [{**row, "due_tokens": _tokens(row["due"], row["token"])} for row in rows]
            supply = [(token, *_supply(desk, token)) for token in pricing.TOKENS]
            page = render_template(
                "home.html", house=desk.house, invoices=shown, supply=supply, now=_plainly(desk.now), words=_WORDS
            )
        return _guarded(make_response(page))

    def _show(self, code: str, problem: str = "", status: int = 200) -> Response:
        cookie = request.cookies.get(_COOKIE, "")
        if not 16 <= len(cookie) <= 64:
            cookie = secrets.token_urlsafe(18)
        with self.bank.desk() as desk:
            row = _by_code(desk, code)
            if row is None:
                return _guarded(make_response(render_template("missing.html"), 404))
            page = render_template(
                "pay.html", **_facts(desk, row), problem=problem, form_token=self._form_token(cookie, code)
            )
        answer = _guarded(make_response(page, status), row["return_url"])
        answer.set_cookie(_COOKIE, cookie, path="/pay", httponly=True, samesite="Strict")
        return answer

    def _decide(self, code: str) -> Response:
        expected = self._form_token(request.cookies.get(_COOKIE, ""), code)
        if not hmac.compare_digest(expected.encode(), request.form.get("form_token", "").encode()):
            return self._show(code, "This page was open for too long, or in another browser. Please choose again.", 403)
        try:
            refuse_other_origins()
            with self.bank.desk() as desk:
                row = _by_code(desk, code)
                if row is None:
                    return _guarded(make_response(render_template("missing.html"), 404))
                _decided(desk, row, request.form.get("decision", ""), request.form.get("buyer", ""))
        except Refused as refused:
            return self._show(code, _in_words(refused), 403 if refused.status == 403 else 200)
        return _guarded(make_response(redirect(row["return_url"], 303)), row["return_url"])

    def _form_token(self, cookie: str, code: str) -> str:
        return hmac.new(self.bank.page_secret, f"{cookie} {code}".encode(), "sha256").hexdigest()


def _decided(desk: Desk, row: RowMapping, decision: str, buyer: str) -> None:
    if decision == "decline":
        movements.decline(desk, row)
    elif decision != "approve" or buyer not in BUYERS:
        raise Refused("malformed", "Choose whose account pays, then approve or decline.")
    elif not _payable(desk, row):
        raise Refused("invoice_not_open", "There is nothing left to pay here.")
    else:
        movements.pay(desk, row, buyer, still_due(desk, row))


def _in_words(refused: Refused) -> str:
    if refused.code == "insufficient_balance":
        return "That account does not hold enough. Nothing was paid; choose another."
    return refused.detail


def _payable(desk: Desk, row: RowMapping) -> bool:
    return row["status"] in ("open", "pending", "authorized") and still_due(desk, row) > 0


def _by_code(desk: Desk, code: str) -> RowMapping | None:
    return desk.db.execute(select(invoice_table).where(invoice_table.c.pay_code == code)).mappings().one_or_none()


def _facts(desk: Desk, row: RowMapping) -> dict[str, Any]:
    """What the page shows; the template computes nothing."""
    quote = quotes.find(desk, row["quote"])
    token = row["token"]
    buyer_pays_fee = quote["bearer"] == "DEBT"
    gross = quote["due"] - quote["fee"] if buyer_pays_fee else quote["due"]
    due = still_due(desk, row)
    got = invoices.received(invoices.moves(desk, row["id"]))
    minutes, seconds = divmod(max(0, int((row["expires_at"] - desk.now).total_seconds())), 60)
    return {
        "house": desk.house,
        "merchant": bank_room.merchant_of(desk, row["merchant"])[0],
        "invoice": row,
        "quote": quote,
        "word": _WORDS[row["status"]],
        "payable": _payable(desk, row),
        "gross": _tokens(gross, token),
        "fee": _tokens(quote["fee"], token),
        "buyer_pays_fee": buyer_pays_fee,
        "total": _tokens(quote["due"], token),
        "received": _tokens(got, token) if got else "",
        "still_due": _tokens(due, token),
        "partly": 0 < due < quote["due"],
        "expires_at": _plainly(row["expires_at"]),
        "expires_at_exactly": strict_json.rfc3339(row["expires_at"]),
        "left": f"{minutes} min {seconds:02d} s",
        "buyers": [_buyer(desk, name, token, due) for name in BUYERS],
    }


def _buyer(desk: Desk, name: str, token: str, due: int) -> dict[str, Any]:
    held = ledger.balance(desk.db, account(BUYER, token, name))
    return {"id": name, "name": BUYERS[name][0], "balance": _tokens(held, token), "enough": held >= due}


def _supply(desk: Desk, token: str) -> tuple[str, str]:
    circulation, deposits = ledger.supply(desk.db, token)
    return _tokens(circulation, token).split()[0], _tokens(deposits, token).split()[0]


def _tokens(units: int, token: str) -> str:
    return f"{decimal_of(units, pricing.TOKENS[token].decimals):,f} {token}"


def _plainly(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


def _guarded(answer: Response, return_url: str | None = None) -> Response:
    """The headers of every page. A browser applies form-action to the redirect too, so the way back is named."""
    back = "" if return_url is None else " {0.scheme}://{0.netloc}".format(urlsplit(return_url))
    answer.headers["Content-Security-Policy"] = (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self'{back}"
    )
    answer.headers["X-Frame-Options"] = "DENY"
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "same-origin"
    answer.headers["Cache-Control"] = "no-store"
    return answer
