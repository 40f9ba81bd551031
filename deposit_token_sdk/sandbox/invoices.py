"""Invoices: what is asked of a buyer under a quote, and the bank's own word on where each stands."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import BindParameter, Connection, RowMapping, bindparam, or_, select

from deposit_token_sdk.sandbox import clock, quotes
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, change, invoices, movements, refunds, rows, statements
from deposit_token_sdk.sandbox.tables import quotes as quote_table
from deposit_token_sdk.signing import strict_json

_ENDED = ("expired", "cancelled")
_MAX_PAGE = 500


def create(desk: Desk, merchant: str, asked: dict[str, Any]) -> dict[str, Any]:
    """`POST /invoices`: one invoice under one quote, once."""
    terms = quotes.read_terms(desk, asked)
    quote = quotes.find(desk, strict_json.text(asked, "quote"), merchant)
    if (quote["reference"], quote["installation"]) != (terms["reference"], terms["installation"]):
        raise Refused("unknown_quote", "The quote was given for another reference or installation.")
    if not compare_digest(strict_json.text(asked, "quote_digest").encode(), quote["digest"].encode()):
        raise Refused("digest_mismatch", "quote_digest is not the SHA-256 of the quote's statement, in base64url.")
    _refuse_taken(desk, merchant, terms["reference"], quote)
    if desk.now > quote["expires_at"]:
        raise Refused("quote_expired", f"The quote expired at {strict_json.rfc3339(quote['expires_at'])}.")
    invoice = new_id("inv")
    row = {
        "id": invoice,
        "merchant": merchant,
        **terms,
        "quote": quote["id"],
        **{name: quote[name] for name in ("token", "due", "fee", "bearer", "expires_at")},
        "capture": quotes.one_of(asked, "capture", "automatic", "manual"),
        "return_url": _return_url(strict_json.text(asked, "return_url")),
        "pay_code": secrets.token_urlsafe(24),
        "status": "open",
        "version": 1,
        "created_at": desk.now,
    }
    desk.db.execute(add(invoices), row)
    desk.db.execute(change(quote_table), {"which": quote["id"], "invoice": invoice})
    return document(desk, desk.invoice(invoice))


def _refuse_taken(desk: Desk, merchant: str, reference: str, quote: RowMapping) -> None:
    if quote["invoice"] is not None:
        raise Refused("quote_used", f"The quote belongs to the invoice {quote['invoice']}.")
    if (taken := of_reference(desk, merchant, reference)) is not None:
        raise Refused("reference_taken", f"The reference is that of the invoice {taken['id']}.")


def of_reference(desk: Desk, merchant: str, reference: str) -> RowMapping | None:
    """The row of the merchant's invoice with that reference, if there is one."""
    same = {"merchant": merchant, "reference": reference}
    return desk.db.execute(rows(invoices, *same), same).mappings().one_or_none()


def _return_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        parts = urlsplit("")
    plain = url.isascii() and url.isprintable() and not set(url) & set(" \"'<>\\^`{|};,")
    if (
        len(url) > 2048
        or not plain
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        or "@" in parts.netloc
    ):
        raise Refused("malformed", "return_url is an absolute http or https address, percent-encoded, without a user.")
    return url


def document(desk: Desk, row: RowMapping) -> dict[str, Any]:
    """An invoice as the API shows it."""
    quote = quotes.find(desk, row["quote"])
    return {
        **{name: row[name] for name in ("id", "reference", "merchant", "installation", "token", "capture")},
        "mode": desk.house.mode,
        "due": str(row["due"]),
        "quote_digest": quote["digest"],
        "status": row["status"],
        "version": row["version"],
        "expires_at": strict_json.rfc3339(row["expires_at"]),
        "pay_url": f"{desk.house.address}/pay/{row['pay_code']}",
        "created_at": strict_json.rfc3339(row["created_at"]),
        "movements": [movement_document(moved) for moved in moves(desk, row["id"])],
        "refunds": [refund_document(desk, refund, row) for refund in refunds_of(desk, row["id"])],
    }


def movement_document(row: RowMapping) -> dict[str, Any]:
    """A movement as the API shows it."""
    shown = {name: row[name] for name in ("id", "kind", "status")}
    shown |= {"units": str(row["units"]), "accepted_at": strict_json.rfc3339(row["accepted_at"])}
    return shown if row["of"] is None else {**shown, "of": row["of"]}


def refund_document(desk: Desk, row: RowMapping, invoice: RowMapping) -> dict[str, Any]:
    """A refund as the API shows it; its statement only while it stands as done."""
    signed = None
    if row["status"] == "done":
        signed = desk.db.execute(_STATED, {"subject": row["id"]}).scalar()
    return {
        **{name: row[name] for name in ("id", "reference", "invoice", "status")},
        "invoice_reference": invoice["reference"],
        "units": str(row["units"]),
        "created_at": strict_json.rfc3339(row["created_at"]),
        "statement": signed,
    }


_STATED = select(statements.c.jws).where(statements.c.subject == bindparam("subject"))


def moves(desk: Desk, invoice: str, *statuses: str) -> list[RowMapping]:
    """The movements of an invoice, in order; only those in `statuses`, where any are named."""
    moved = desk.db.execute(rows(movements, "invoice"), {"invoice": invoice}).mappings()
    return [row for row in moved if not statuses or row["status"] in statuses]


def refunds_of(desk: Desk, invoice: str) -> list[RowMapping]:
    """The refunds of an invoice, in order."""
    return list(desk.db.execute(rows(refunds, "invoice"), {"invoice": invoice}).mappings())


def received(moved: list[RowMapping]) -> int:
    """Units settled and not returned."""
    got: int = sum(
        (1 if row["kind"] == "payment" else -1) * row["units"]
        for row in moved
        if row["status"] in ("settled", "returned")
    )
    return got


def find(desk: Desk, merchant: str, reference: str) -> list[dict[str, Any]]:
    """The invoice with that reference, if there is one."""
    row = of_reference(desk, merchant, reference)
    return [] if row is None else [document(desk, row)]


_ANY: BindParameter[tuple[str, ...]] = bindparam("names", expanding=True)
_NAMED = select(invoices.c.id, invoices.c.reference).where(or_(invoices.c.id.in_(_ANY), invoices.c.reference.in_(_ANY)))


def other_names(db: Connection, names: tuple[str, ...]) -> tuple[str, ...]:
    """Ids and references of the invoices that go by one of these names."""
    return tuple(name for row in db.execute(_NAMED, {"names": names}) for name in row)


def page(
    desk: Desk, merchant: str, after: int, limit: int, *, made_on: str | None = None
) -> tuple[list[dict[str, Any]], str | None]:
    """A page of a merchant's invoices, oldest first, and the cursor of the next; `after` is a cursor or 0.

    `made_on` leaves out those made on another day (business time, in UTC). Raises Refused (``malformed``).
    """
    if not 1 <= limit <= _MAX_PAGE:
        raise Refused("malformed", f"limit is 1 to {_MAX_PAGE}.")
    chosen = select(invoices).where(invoices.c.merchant == merchant, invoices.c.seq > after)
    if made_on is not None:
        begin, end = clock.day(made_on)
        chosen = chosen.where(invoices.c.created_at >= begin, invoices.c.created_at < end)
    found = list(desk.db.execute(chosen.order_by(invoices.c.seq).limit(limit + 1)).mappings())
    following = str(found[limit - 1]["seq"]) if len(found) > limit else None
    return [document(desk, row) for row in found[:limit]], following


def cancel(desk: Desk, row: RowMapping) -> dict[str, Any]:
    """End an invoice towards which no money has moved. Raises Refused (``invoice_not_open``)."""
    if row["status"] == "cancelled":
        return document(desk, row)
    if row["status"] != "open" or moves(desk, row["id"], "seen", "held", "settled"):
        raise Refused("invoice_not_open", f"The invoice is {row['status']}, or money has moved towards it.")
    changed(desk, row["id"], "invoice.cancelled", status="cancelled")
    return document(desk, desk.invoice(row["id"]))


_DUE = select(invoices.c.id).where(invoices.c.status == "open", invoices.c.expires_at < bindparam("now"))


def expire_due(desk: Desk) -> None:
    """End what nobody paid in time: business time decides."""
    for invoice in desk.db.execute(_DUE, {"now": desk.now}).scalars().all():
        changed(desk, invoice, "invoice.expired", status="expired")


def changed(
    desk: Desk,
    invoice: str,
    event: str,
    *,
    status: str | None = None,
    movement: RowMapping | None = None,
    refund: RowMapping | None = None,
    statement: str | None = None,
) -> None:
    """Count a change, work out the status anew, and tell the merchant."""
    row = desk.invoice(invoice)
    status = status or _status(row, moves(desk, invoice))
    version = row["version"] + 1
    desk.db.execute(change(invoices), {"which": invoice, "status": status, "version": version})
    data: dict[str, Any] = {
        "merchant": row["merchant"],
        "installation": row["installation"],
        "mode": desk.house.mode,
        "invoice": invoice,
        "reference": row["reference"],
        "version": version,
        "status": status,
    }
    news: Mapping[str, Any] = {
        "movement": None if movement is None else movement_document(movement),
        "refund": None if refund is None else refund_document(desk, refund, row),
        "statement": statement,
    }
    desk.tell(row["merchant"], event, data | {name: part for name, part in news.items() if part is not None}, invoice)


def _status(row: RowMapping, moved: list[RowMapping]) -> str:
    """The bank's own word; "expired" and "cancelled" stay, whatever comes after."""
    if row["status"] in _ENDED:
        return str(row["status"])
    got = received(moved)
    if got >= row["due"]:
        return "paid"
    stages = {each["status"] for each in moved}
    for stage, word in (("returned", "returned"), ("held", "authorized"), ("seen", "pending")):
        if stage in stages:
            return word
    return "open"
