"""Money towards an invoice, and back: accepted, held or settled, let go, returned; each step booked as it happens."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, select

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.sandbox import invoices, keyring, quotes
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.ledger import BUYER, CLEARING, FEES, MERCHANT, account
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, change, movements, rows
from deposit_token_sdk.sandbox.tables import invoices as invoice_table
from deposit_token_sdk.signing import jws, strict_json

SETTLEMENT, RETURN, CAPTURE = "deposit-settlement+jws", "deposit-return+jws", "deposit-capture+jws"
_SKEW = 300


def pay(desk: Desk, row: RowMapping, buyer: str, units: int, at: datetime | None = None) -> dict[str, Any]:
    """A buyer pays `units`, accepted `at` (business time, now by default): settled at once where capture is automatic.

    Raises Refused (``insufficient_balance``, ``malformed``).
    """
    if units <= 0:
        raise Refused("malformed", "A payment is at least one unit.")
    accepted_at = at or desk.now
    if accepted_at < row["created_at"]:
        raise Refused("malformed", "A payment cannot be accepted before its invoice was made.")
    movement = _accept(desk, row, buyer, units, accepted_at)
    if desk.faults.take("payment_held", about=(row["id"], row["reference"])):
        invoices.changed(desk, row["id"], "invoice.pending", movement=_movement(desk, movement))
    elif row["capture"] == "manual":
        hold(desk, row, movement)
    else:
        settle(desk, row, movement)
    return invoices.movement_document(_movement(desk, movement))


def _accept(desk: Desk, row: RowMapping, buyer: str, units: int, at: datetime) -> str:
    movement = new_id("mov")
    source, target = account(BUYER, row["token"], buyer), account(CLEARING, row["token"])
    desk.book(row, "hold", movement, units, source, target)
    values = {"id": movement, "invoice": row["id"], "kind": "payment", "status": "seen", "units": units}
    desk.db.execute(add(movements), values | {"accepted_at": at, "buyer": buyer})
    return movement


def hold(desk: Desk, row: RowMapping, movement: str) -> None:
    """The money is held for the merchant until it is captured or released."""
    _mark(desk, movement, "held")
    invoices.changed(desk, row["id"], "invoice.authorized", movement=_movement(desk, movement))


def settle(desk: Desk, row: RowMapping, movement: str) -> str:
    """The money is the merchant's; returns the settlement statement."""
    moved = _movement(desk, movement)
    source, target = account(CLEARING, row["token"]), account(MERCHANT, row["token"], row["merchant"])
    desk.book(row, "payment", movement, moved["units"], source, target)
    _mark(desk, movement, "settled")
    _take_fee(desk, row["id"], movement)
    claims = _claims(desk, row, moved) | {"quote_digest": quotes.find(desk, row["quote"])["digest"]}
    signed = desk.state(SETTLEMENT, row["id"], movement, claims)
    invoices.changed(desk, row["id"], "invoice.settled", movement=_movement(desk, movement), statement=signed)
    return signed


def _take_fee(desk: Desk, invoice: str, movement: str) -> None:
    """Once an invoice, when as much has come in. The bank keeps it, whatever is sent back later."""
    row = desk.invoice(invoice)
    if row["fee_taken"] or not row["fee"] or invoices.received(invoices.moves(desk, invoice)) < row["fee"]:
        return
    source, target = account(MERCHANT, row["token"], row["merchant"]), account(FEES, row["token"])
    desk.book(row, "fee", movement, row["fee"], source, target)
    desk.db.execute(change(invoice_table), {"which": invoice, "fee_taken": 1})


def release(desk: Desk, row: RowMapping, *, also_seen: bool = False) -> dict[str, Any]:
    """Held money goes back to its buyer. Raises Refused (``nothing_to_release``)."""
    let_go = invoices.moves(desk, row["id"], "held", *(("seen",) if also_seen else ()))
    if not let_go:
        raise Refused("nothing_to_release", "No payment of this invoice is held.")
    for moved in let_go:
        source, target = account(CLEARING, row["token"]), account(BUYER, row["token"], moved["buyer"])
        desk.book(row, "void", moved["id"], moved["units"], source, target)
        _mark(desk, moved["id"], "released")
        invoices.changed(desk, row["id"], "invoice.released", movement=_movement(desk, moved["id"]))
    invoices.expire_due(desk)
    return invoices.document(desk, desk.invoice(row["id"]))


def decline(desk: Desk, row: RowMapping) -> dict[str, Any]:
    """The buyer will not: what is on its way goes back; an open invoice is cancelled."""
    if invoices.moves(desk, row["id"], "held", "seen"):
        return release(desk, row, also_seen=True)
    return invoices.cancel(desk, row)


def go_on(desk: Desk, row: RowMapping) -> dict[str, Any]:
    """Let what was held back on its way take its course: settle it, or hold it where capture is manual.

    Held money is settled too: the bank may, by control, without an order. Raises Refused (``nothing_to_capture``).
    """
    waiting = invoices.moves(desk, row["id"], "seen", "held")
    if not waiting:
        raise Refused("nothing_to_capture", "No payment of this invoice is on its way.")
    for moved in waiting:
        if moved["status"] == "seen" and row["capture"] == "manual":
            hold(desk, row, moved["id"])
        else:
            settle(desk, row, moved["id"])
    return invoices.document(desk, desk.invoice(row["id"]))


def capture(desk: Desk, row: RowMapping, order: str) -> dict[str, Any]:
    """Settle what is held, whole, on the merchant's signed order. Raises Refused (``nothing_to_capture``,
    ``signature_invalid``)."""
    units = _read_order(desk, row, order)
    held = invoices.moves(desk, row["id"], "held")
    total = sum(moved["units"] for moved in held)
    if not held:
        raise Refused("nothing_to_capture", "No payment of this invoice is held.")
    if units != total:
        raise Refused("nothing_to_capture", f"The order names {units} units; {total} are held, to be captured whole.")
    signed = [settle(desk, row, moved["id"]) for moved in held]
    return {"invoice": invoices.document(desk, desk.invoice(row["id"])), "statement": signed[-1]}


def _read_order(desk: Desk, row: RowMapping, order: str) -> int:
    try:
        signed = jws.verify(order, keyring.keys_of(desk.db, row["merchant"]), typ=CAPTURE, purpose=None)
    except NotGenuine as error:
        raise Refused("signature_invalid", f"The capture order: {error}") from None
    claims = strict_json.parse(signed.payload)
    strict_json.text(claims, "jti")
    meant = tuple(strict_json.text(claims, name) for name in ("iss", "aud", "invoice"))
    if meant != (row["merchant"], desk.house.issuer, row["id"]):
        raise Refused("signature_invalid", "The capture order is another merchant's, for another bank or invoice.")
    if abs(strict_json.integer(claims, "iat") - desk.real.timestamp()) > _SKEW:
        raise Refused("signature_invalid", "The capture order was not signed just now.")
    return strict_json.units(claims, "units")


def give_back(desk: Desk, movement: str) -> dict[str, Any]:
    """The bank takes a settled payment back from the merchant. Raises Refused (``malformed``)."""
    moved = _movement(desk, movement)
    row = desk.invoice(moved["invoice"])
    taken = desk.db.execute(select(movements.c.id).where(movements.c.of == movement)).scalar()
    if moved["status"] != "settled" or moved["kind"] != "payment" or taken is not None:
        raise Refused("malformed", "Only a settled payment can be returned, and only once.", status=409)
    back = new_id("mov")
    source, target = account(MERCHANT, row["token"], row["merchant"]), account(BUYER, row["token"], moved["buyer"])
    desk.book(row, "return", back, moved["units"], source, target)
    values = {"id": back, "invoice": row["id"], "kind": "return", "status": "returned", "units": moved["units"]}
    desk.db.execute(add(movements), values | {"accepted_at": desk.now, "buyer": moved["buyer"], "of": movement})
    returned = _movement(desk, back)
    signed = desk.state(RETURN, row["id"], back, _claims(desk, row, returned) | {"of": movement})
    invoices.changed(desk, row["id"], "invoice.returned", movement=returned, statement=signed)
    return invoices.movement_document(returned)


def _claims(desk: Desk, row: RowMapping, moved: RowMapping) -> dict[str, Any]:
    return {
        **desk.common_claims(row["merchant"], row["installation"]),
        "invoice": row["id"],
        "reference": row["reference"],
        "token": row["token"],
        "movement": moved["id"],
        "units": str(moved["units"]),
        "accepted_at": strict_json.rfc3339(moved["accepted_at"]),
    }


def _movement(desk: Desk, movement: str) -> RowMapping:
    return desk.row(rows(movements, "id"), "malformed", f"There is no movement {movement[:60]!r}.", id=movement)


def _mark(desk: Desk, movement: str, status: str) -> None:
    desk.db.execute(change(movements), {"which": movement, "status": status})
