"""Refunds: money the shop sends back, never more than what is refundable; done at once unless told otherwise.

A refund can fail, even a day after it was done: then its amount is the merchant's again, and free for another.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import RowMapping, select

from deposit_token_sdk.sandbox import invoices, quotes
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.ledger import BUYER, CLEARING, MERCHANT, account
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, change, refunds, rows
from deposit_token_sdk.signing import strict_json

TYP = "deposit-refund+jws"


def create(desk: Desk, merchant: str, asked: dict[str, Any]) -> dict[str, Any]:
    """`POST /refunds`. Raises Refused (``unknown_invoice``, ``reference_taken``, ``refund_exceeds``)."""
    terms = quotes.read_terms(desk, asked)
    units = strict_json.units(asked, "units")
    row = desk.invoice(strict_json.text(asked, "invoice"), merchant)
    if terms["installation"] != row["installation"]:
        raise Refused("unknown_invoice", "The invoice is another installation's.")
    same = {"merchant": merchant, "reference": terms["reference"]}
    if (taken := desk.db.execute(rows(refunds, *same), same).one_or_none()) is not None:
        raise Refused("reference_taken", f"The reference is that of the refund {taken.id}.")
    if units == 0:
        raise Refused("malformed", "A refund is at least one unit.")
    left = refundable(desk, row)
    if units > left:
        raise Refused("refund_exceeds", f"{left} units can be refunded; {units} were asked.")
    refund = _begin(desk, row, terms, units)
    if desk.faults.take("refund_pending", about=(row["id"], row["reference"], terms["reference"])) is None:
        finish(desk, refund)
    return document(desk, desk.refund(refund))


def refundable(desk: Desk, row: RowMapping) -> int:
    """Received, less the fee where the buyer bore it, less what was refunded or is about to be; in token units."""
    kept: int = row["fee"] if row["bearer"] == "DEBT" else 0
    asked: int = sum(
        each["units"] for each in invoices.refunds_of(desk, row["id"]) if each["status"] in ("pending", "done")
    )
    return max(0, invoices.received(invoices.moves(desk, row["id"])) - kept - asked)


def document(desk: Desk, refund: RowMapping) -> dict[str, Any]:
    """A refund as the API shows it."""
    return invoices.refund_document(desk, refund, desk.invoice(refund["invoice"]))


def find(desk: Desk, merchant: str, *, reference: str | None, invoice: str | None) -> list[dict[str, Any]]:
    """A merchant's refunds by reference, by invoice, or by both."""
    chosen = select(refunds).where(refunds.c.merchant == merchant).order_by(refunds.c.seq)
    if reference is not None:
        chosen = chosen.where(refunds.c.reference == reference)
    if invoice is not None:
        chosen = chosen.where(refunds.c.invoice == invoice)
    return [document(desk, refund) for refund in desk.db.execute(chosen).mappings().all()]


def _begin(desk: Desk, row: RowMapping, terms: dict[str, str], units: int) -> str:
    refund = new_id("ref")
    buyer = invoices.moves(desk, row["id"], "settled")[-1]["buyer"]
    values = {"id": refund, "merchant": row["merchant"], "invoice": row["id"], **terms, "units": units}
    desk.db.execute(add(refunds), values | {"status": "pending", "buyer": buyer, "created_at": desk.now})
    source, target = account(MERCHANT, row["token"], row["merchant"]), account(CLEARING, row["token"])
    desk.book(row, "refund_asked", refund, units, source, target)
    invoices.changed(desk, row["id"], "refund.pending", refund=desk.refund(refund))
    return refund


def finish(desk: Desk, refund_id: str) -> dict[str, Any]:
    """A pending refund reaches its buyer, with the bank's statement. Raises Refused (``malformed``)."""
    refund, row = _at(desk, refund_id, "pending")
    source, target = account(CLEARING, row["token"]), account(BUYER, row["token"], refund["buyer"])
    desk.book(row, "refund", refund_id, refund["units"], source, target)
    _mark(desk, refund_id, "done")
    claims = {
        **desk.common_claims(row["merchant"], row["installation"]),
        "invoice": row["id"],
        "reference": row["reference"],
        "refund": refund_id,
        "refund_reference": refund["reference"],
        "token": row["token"],
        "units": str(refund["units"]),
        "accepted_at": strict_json.rfc3339(desk.now),
    }
    signed = desk.state(TYP, row["id"], refund_id, claims)
    invoices.changed(desk, row["id"], "refund.done", refund=desk.refund(refund_id), statement=signed)
    return document(desk, desk.refund(refund_id))


def fail(desk: Desk, refund_id: str) -> dict[str, Any]:
    """A refund fails, pending or done: the merchant has its amount again. Raises Refused (``malformed``)."""
    refund, row = _at(desk, refund_id, "pending", "done")
    merchant = account(MERCHANT, row["token"], row["merchant"])
    if refund["status"] == "pending":
        source, kind = account(CLEARING, row["token"]), "refund_void"
    else:
        source, kind = account(BUYER, row["token"], refund["buyer"]), "refund_failed"
    desk.book(row, kind, refund_id, refund["units"], source, merchant)
    _mark(desk, refund_id, "failed")
    invoices.changed(desk, row["id"], "refund.failed", refund=desk.refund(refund_id))
    return document(desk, desk.refund(refund_id))


def _at(desk: Desk, refund_id: str, *statuses: str) -> tuple[RowMapping, RowMapping]:
    refund = desk.refund(refund_id)
    if refund["status"] not in statuses:
        raise Refused("malformed", f"The refund is {refund['status']}, not {' or '.join(statuses)}.", status=409)
    return refund, desk.invoice(refund["invoice"])


def _mark(desk: Desk, refund_id: str, status: str) -> None:
    desk.db.execute(change(refunds), {"which": refund_id, "status": status})
