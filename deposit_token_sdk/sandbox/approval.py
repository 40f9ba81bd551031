"""The pages a buyer sees at the bank: what is asked, of whom, at what rate; approve or decline.

The address is unguessable and never leaves by Referer. A form counts only with a token bound to the browser that
was shown it. Afterwards the buyer is sent to the return address and nowhere else: the merchant signed it. Everything
works without JavaScript; with it, a countdown runs by the bank's clock and the page follows what happens.
"""

from __future__ import annotations

from typing import Any

import segno
from attrs import frozen
from flask import Flask, Response, jsonify, make_response, redirect, render_template, request
from sqlalchemy import RowMapping, select

from deposit_token_sdk.sandbox import bank as bank_room
from deposit_token_sdk.sandbox import invoices, ledger, movements, page, pricing, quotes
from deposit_token_sdk.sandbox.bank import BUYERS, Bank
from deposit_token_sdk.sandbox.control import still_due
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.ledger import BUYER, account
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.remote import refuse_other_origins
from deposit_token_sdk.sandbox.tables import invoices as invoice_table
from deposit_token_sdk.signing import strict_json

_NEWEST = 50
WORDS = {
    "open": "Waiting for your approval",
    "pending": "Approved. The bank is working on it.",
    "authorized": "Approved. The amount is held until the merchant confirms the order.",
    "paid": "Paid",
    "expired": "Expired. Nothing more can be paid here.",
    "cancelled": "Declined or cancelled. Nothing will be paid.",
    "returned": "The payment was returned to the buyer.",
}
"""Where an invoice stands, in the buyer's words."""


@frozen
class Pages:
    """The bank's pages, for one bank."""

    bank: Bank

    def mount(self, app: Flask) -> None:
        """Add the pages' routes."""
        app.add_url_rule("/", "home", self._home)
        app.add_url_rule("/pay/<code>", "pay", self._show, methods=["GET"])
        app.add_url_rule("/pay/<code>", "decide", self._decide, methods=["POST"])
        app.add_url_rule("/pay/<code>/state", "state", self._state, methods=["GET"])
        app.add_url_rule("/favicon.ico", "favicon", lambda: app.send_static_file("favicon.svg"))

    def _home(self) -> Response:
        with self.bank.desk() as desk:
            newest = select(invoice_table).order_by(invoice_table.c.seq.desc()).limit(_NEWEST)
            rows = desk.db.execute(newest).mappings().all()
            shown = [{**row, "due_tokens": page.tokens(row["due"], row["token"])} for row in rows]
            supply = [(token, *_supply(desk, token)) for token in pricing.TOKENS]
            text = render_template(
                "home.html", house=desk.house, invoices=shown, supply=supply, now=page.plainly(desk.now), words=WORDS
            )
        return page.guarded(make_response(text))

    def _show(self, code: str, problem: str = "", status: int = 200) -> Response:
        cookie = page.browser()
        with self.bank.desk() as desk:
            row = _by_code(desk, code)
            if row is None:
                return _missing()
            token = page.form_token(self.bank.page_secret, cookie, code)
            text = render_template("pay.html", **_facts(desk, row), problem=problem, form_token=token)
        answer = page.guarded(make_response(text, status), row["return_url"])
        page.remember(answer, cookie, "/pay")
        return answer

    def _state(self, code: str) -> Response:
        """What the page asks for in order to follow: the seconds left by the bank's clock, and where it stands."""
        with self.bank.desk() as desk:
            row = _by_code(desk, code)
            if row is None:
                return _missing()
            answer = jsonify(left=_left(desk, row), state=_standing(desk, row))
        return page.guarded(answer)

    def _decide(self, code: str) -> Response:
        if not page.token_fits(self.bank.page_secret, code):
            return self._show(code, "This page was open for too long, or in another browser. Please choose again.", 403)
        try:
            refuse_other_origins()
            with self.bank.desk() as desk:
                row = _by_code(desk, code)
                if row is None:
                    return _missing()
                _decided(desk, row, request.form.get("decision", ""), request.form.get("buyer", ""))
        except Refused as refused:
            return self._show(code, _in_words(refused), 403 if refused.status == 403 else 200)
        return page.guarded(make_response(redirect(row["return_url"], 303)), row["return_url"])


def _missing() -> Response:
    return page.guarded(make_response(render_template("missing.html"), 404))


def _decided(desk: Desk, row: RowMapping, decision: str, buyer: str) -> None:
    if decision == "decline":
        movements.decline(desk, row)
    elif decision != "approve" or buyer not in BUYERS:
        raise Refused("malformed", "Choose whose account pays, then approve or decline.")
    elif not _payable(desk, row):
        if row["status"] != "paid" or not desk.faults.take("approved_twice", about=(row["id"], row["reference"])):
            raise Refused("invoice_not_open", "There is nothing left to pay here.")
        movements.pay(desk, row, buyer, row["due"])
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


def _left(desk: Desk, row: RowMapping) -> float:
    left: float = (row["expires_at"] - desk.now).total_seconds()
    return round(max(0.0, left), 3)


def _standing(desk: Desk, row: RowMapping) -> str:
    """Changes whenever what the page says does."""
    return f"{row['status']} {still_due(desk, row)} {int(_payable(desk, row) and _left(desk, row) > 0)}"


def _facts(desk: Desk, row: RowMapping) -> dict[str, Any]:
    """What the page shows; the template computes nothing."""
    quote = quotes.find(desk, row["quote"])
    token = row["token"]
    buyer_pays_fee = quote["bearer"] == "DEBT"
    gross = quote["due"] - quote["fee"] if buyer_pays_fee else quote["due"]
    due = still_due(desk, row)
    got = invoices.received(invoices.moves(desk, row["id"]))
    minutes, seconds = divmod(int(_left(desk, row)), 60)
    link = invoices.document(desk, row)["pay_url"]
    return {
        "house": desk.house,
        "merchant": bank_room.merchant_of(desk, row["merchant"])[0],
        "invoice": row,
        "quote": quote,
        "word": WORDS[row["status"]],
        "state": _standing(desk, row),
        "payable": _payable(desk, row),
        "gross": page.tokens(gross, token),
        "fee": page.tokens(quote["fee"], token),
        "buyer_pays_fee": buyer_pays_fee,
        "total": page.tokens(quote["due"], token),
        "received": page.tokens(got, token) if got else "",
        "still_due": page.tokens(due, token),
        "partly": 0 < due < quote["due"],
        "expires_at": page.plainly(row["expires_at"]),
        "expires_at_exactly": strict_json.rfc3339(row["expires_at"]),
        "left": f"{minutes} min {seconds:02d} s",
        "left_exactly": _left(desk, row),
        "buyers": [_buyer(desk, name, token, due) for name in BUYERS],
        "link": link,
        "code": _picture(link),
    }


def _picture(link: str) -> str:
    """The link as a QR code in SVG, digits and paths alone: dark on light in any colour scheme."""
    code = segno.make_qr(link, error="m")
    return code.svg_inline(border=4, dark="#000", light="#fff", omitsize=True)


def _buyer(desk: Desk, name: str, token: str, due: int) -> dict[str, Any]:
    held = ledger.balance(desk.db, account(BUYER, token, name))
    return {"id": name, "name": BUYERS[name][0], "balance": page.tokens(held, token), "enough": held >= due}


def _supply(desk: Desk, token: str) -> tuple[str, str]:
    circulation, deposits = ledger.supply(desk.db, token)
    return page.tokens(circulation, token).split()[0], page.tokens(deposits, token).split()[0]
