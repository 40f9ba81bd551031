"""What the dashboard shows of the bank's books and outbox, read under the desk; the templates compute nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import RowMapping, Select, Table, select

from deposit_token_sdk.sandbox import api, keyring, page, pricing, refunds, statements
from deposit_token_sdk.sandbox import invoices as invoice_room
from deposit_token_sdk.sandbox import ledger as ledger_room
from deposit_token_sdk.sandbox.bank import BUYERS
from deposit_token_sdk.sandbox.control import message_document, still_due
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.faults import KINDS
from deposit_token_sdk.sandbox.tables import accounts, bank_keys, merchants, messages, postings, transfers
from deposit_token_sdk.sandbox.tables import invoices as invoice_table
from deposit_token_sdk.signing import strict_json

_PAGE: Final = 25
_EVENTS: Final = (
    "invoice.pending",
    "invoice.authorized",
    "invoice.settled",
    "invoice.released",
    "invoice.expired",
    "invoice.cancelled",
    "invoice.returned",
    "refund.pending",
    "refund.done",
    "refund.failed",
    "test.ping",
)


def invoices(desk: Desk, before: int | None) -> dict[str, Any]:
    """A page of invoices, newest first."""
    rows, following = _paged(desk, select(invoice_table), invoice_table, before)
    return {"invoices": [_invoice_row(row) for row in rows], "following": following, "endpoints": endpoints(desk)}


def invoice(desk: Desk, named: str) -> dict[str, Any]:
    """All about one invoice. Raises Refused (``unknown_invoice``)."""
    row = desk.invoice(named)
    token = row["token"]
    due = still_due(desk, row)
    document = invoice_room.document(desk, row)
    about = select(messages).where(messages.c.invoice == row["id"]).order_by(messages.c.seq)
    booked = select(transfers).where(transfers.c.invoice == row["id"]).order_by(transfers.c.seq)
    late = row["expires_at"] + timedelta(minutes=1)
    return {
        "invoice": _invoice_row(row),
        "document": json.dumps(document, ensure_ascii=False, indent=2),
        "pay_url": document["pay_url"],
        "movements": [{**each, "amount": page.tokens(int(each["units"]), token)} for each in document["movements"]],
        "refunds": [{**each, "amount": page.tokens(int(each["units"]), token)} for each in document["refunds"]],
        "still_due": page.tokens(due, token),
        "refundable": page.tokens(refunds.refundable(desk, row), token),
        "short": max(1, (due or row["due"]) - 1),
        "over": (due or row["due"]) + 1,
        "late": strict_json.rfc3339(late),
        "until_expiry": max(0.0, (row["expires_at"] - desk.now).total_seconds()) + 1,
        "statements": statements.about(desk, row),
        "events": [_event(desk, each) for each in desk.db.execute(about).mappings().all()],
        "transfers": _transfers(desk, desk.db.execute(booked).mappings().all()),
    }


def events(desk: Desk, before: int | None) -> dict[str, Any]:
    """A page of webhook messages, newest first, with every try."""
    rows, following = _paged(desk, select(messages), messages, before)
    return {
        "events": [_event(desk, row) for row in rows],
        "following": following,
        "endpoints": endpoints(desk),
        "merchants": choices(desk)["merchant"],
    }


def ledger(desk: Desk, before: int | None) -> dict[str, Any]:
    """A page of transfers, newest first, what each account holds, and whether the books hold."""
    rows, following = _paged(desk, select(transfers), transfers, before)
    held = select(accounts).order_by(accounts.c.token, accounts.c.kind, accounts.c.owner)
    return {
        "transfers": _transfers(desk, rows),
        "following": following,
        "accounts": [
            {"id": each["id"], "token": each["token"], "holds": page.tokens(each["balance"], each["token"])}
            for each in desk.db.execute(held).mappings()
        ],
        "contradictions": ledger_room.audit(desk.db),
    }


def endpoints(desk: Desk) -> list[dict[str, Any]]:
    """Where each merchant's webhooks go, and the keys they are verified with."""
    return [
        {
            "merchant": row["id"],
            "name": row["name"],
            "url": row["webhook_url"],
            "keys": [signer.public_text for signer in keyring.webhook_signers(desk.db, row["id"])],
        }
        for row in desk.db.execute(select(merchants).order_by(merchants.c.id)).mappings().all()
    ]


def choices(desk: Desk) -> dict[str, list[str]]:
    """What can be chosen for an argument, by the argument's name."""
    return {
        "buyer": list(BUYERS),
        "token": list(pricing.TOKENS),
        "currency": sorted({currency for token in pricing.TOKENS.values() for currency in token.mids}),
        "merchant": list(desk.db.execute(select(merchants.c.id).order_by(merchants.c.id)).scalars()),
        "purpose": [keyring.STATEMENT, keyring.ANSWER],
        "kid": list(desk.db.execute(select(bank_keys.c.kid).order_by(bank_keys.c.seq.desc())).scalars()),
        "kind": list(KINDS),
        "event": list(_EVENTS),
        "route": routes(),
    }


def routes() -> list[str]:
    """What a fault may be narrowed to: the API's operations and the types of events."""
    return [route.template for route in api.ROUTES] + list(_EVENTS)


def _paged(
    desk: Desk, chosen: Select[Any], table: Table, before: int | None
) -> tuple[Sequence[RowMapping], int | None]:
    if before is not None:
        chosen = chosen.where(table.c.seq < before)
    rows = desk.db.execute(chosen.order_by(table.c.seq.desc()).limit(_PAGE + 1)).mappings().all()
    return rows[:_PAGE], rows[_PAGE - 1]["seq"] if len(rows) > _PAGE else None


def _invoice_row(row: RowMapping) -> dict[str, Any]:
    shown = ("id", "reference", "merchant", "status", "token", "capture", "version", "pay_code", "return_url")
    return {
        **{name: row[name] for name in shown},
        "due": page.tokens(row["due"], row["token"]),
        "created_at": page.plainly(row["created_at"]),
        "expires_at": page.plainly(row["expires_at"]),
    }


def _event(desk: Desk, row: RowMapping) -> dict[str, Any]:
    document = message_document(desk, row)
    return {**document, "pretty": json.dumps(json.loads(row["body"]), ensure_ascii=False, indent=2)}


def _transfers(desk: Desk, rows: Sequence[RowMapping]) -> list[dict[str, Any]]:
    chosen = select(postings).where(postings.c.transfer.in_([row["id"] for row in rows])).order_by(postings.c.seq)
    legs: dict[str, list[dict[str, str]]] = {}
    for leg in desk.db.execute(chosen).mappings():
        legs.setdefault(leg["transfer"], []).append({"account": leg["account"], "units": f"{leg['units']:+d}"})
    return [
        {
            **{name: row[name] for name in ("id", "kind", "merchant", "invoice", "reference", "movement")},
            "amount": page.tokens(row["units"], row["token"]),
            "at": page.plainly(row["at"]),
            "legs": legs.get(row["id"], []),
        }
        for row in rows
    ]
