"""Payments from account to account that a merchant starts itself: for banks that know neither quotes nor invoices.

A debit of a buyer's account is booked as a payment of an invoice that is made for it, at rate 1 and without a fee; the
way back is a refund of the payment that its text names. The account numbers are this bank's own.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final

from attrs import frozen
from sqlalchemy import RowMapping, select

from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.money import units_of
from deposit_token_sdk.sandbox import invoices, movements, refunds
from deposit_token_sdk.sandbox.bank import BUYERS
from deposit_token_sdk.sandbox.desk import Desk, new_id
from deposit_token_sdk.sandbox.pricing import TOKENS, DemoToken
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, merchants, orders, quotes, rows, statements
from deposit_token_sdk.sandbox.tables import invoices as invoice_table
from deposit_token_sdk.sandbox.tables import movements as movement_table
from deposit_token_sdk.sandbox.tables import refunds as refund_table

_REFERENCE: Final = re.compile(r"[A-Za-z0-9]{1,34}", re.ASCII)
_INSTALLATION: Final = 8


@frozen
class Order:
    """What a merchant orders to be paid: `amount` of `currency`, from one account number to another."""

    reference: str
    currency: str
    amount: Decimal
    debtor: str
    creditor: str
    text: str
    on: str


@frozen
class Shown:
    """A payment as it stands: `state` is processing, completed, returned or rejected."""

    id: str
    order: Order
    state: str
    at: datetime


def number_of(kind: str, owner: str) -> str:
    """The account number of a merchant or a buyer: ten digits, always the same."""
    return f"{int(sha256(f'{kind}:{owner}'.encode()).hexdigest(), 16) % 10**10:010d}"


def merchant_of(desk: Desk, *numbers: str) -> str | None:
    """The merchant that one of these account numbers belongs to."""
    known = desk.db.execute(select(merchants.c.id)).scalars().all()
    return next((one for one in known if number_of("merchant", one) in numbers), None)


def buyer_of(number: str) -> str | None:
    """The demo buyer that an account number belongs to."""
    return next((name for name in BUYERS if number_of("buyer", name) == number), None)


def initiate(desk: Desk, merchant: str, order: Order) -> str:
    """Pay, or pay back; the payment's id. Raises Refused (``malformed``, ``reference_taken``,
    ``unsupported_currency``, ``insufficient_balance``, ``unknown_invoice``, ``refund_exceeds``)."""
    token = _token(order)
    if not _REFERENCE.fullmatch(order.reference):
        raise Refused("malformed", "A reference is 1 to 34 letters and digits.")
    try:
        units = units_of(order.amount, token.decimals)
    except InvalidInput as error:
        raise Refused("malformed", str(error)) from None
    own = number_of("merchant", merchant)
    buyer = buyer_of(order.debtor if order.creditor == own else order.creditor)
    if buyer is None or own not in (order.debtor, order.creditor):
        raise Refused("malformed", "The payment is not between the merchant's account and a buyer's.", status=403)
    same = {"merchant": merchant, "reference": order.reference}
    if desk.db.execute(rows(orders, *same), same).first() is not None:
        raise Refused("reference_taken", "A payment has this reference already.")
    kept = {"merchant": merchant, "reference": order.reference, "currency": order.currency, "text": order.text}
    kept |= {"debtor": order.debtor, "creditor": order.creditor, "requested_on": order.on}
    desk.db.execute(add(orders), kept)
    return (
        _debit(desk, merchant, order, token, units, buyer)
        if order.creditor == own
        else _back(desk, merchant, order, units)
    )


def find(desk: Desk, reference: str, merchant: str | None = None) -> list[Shown]:
    """Every payment of this reference, the first first; of that merchant only, where one is named."""
    same = {"reference": reference} if merchant is None else {"reference": reference, "merchant": merchant}
    found = desk.db.execute(rows(orders, *same), same).mappings().all()
    return [shown for row in found for shown in (*_payments(desk, row), *_refunds(desk, row))]


def by_id(desk: Desk, payment: str, merchant: str | None = None) -> Shown | None:
    """The payment of this id."""
    moved = select(invoice_table.c.reference).join(movement_table, movement_table.c.invoice == invoice_table.c.id)
    back = select(refund_table.c.reference).where(refund_table.c.id == payment)
    reference = desk.db.execute(moved.where(movement_table.c.id == payment)).scalar() or desk.db.execute(back).scalar()
    found = [] if reference is None else find(desk, reference, merchant)
    return next((one for one in found if one.id == payment), None)


def _token(order: Order) -> DemoToken:
    token = next((one for one in TOKENS.values() if one.currency == order.currency), None)
    if token is None:
        raise Refused("unsupported_currency", f"No account here is in {order.currency[:10]!r}.")
    return token


def _debit(desk: Desk, merchant: str, order: Order, token: DemoToken, units: int, buyer: str) -> str:
    quote, invoice = new_id("quo"), new_id("inv")
    expires_at = desk.now + desk.house.quote_life
    terms = {"merchant": merchant, "installation": order.reference[:_INSTALLATION], "reference": order.reference}
    common: dict[str, Any] = {**terms, "token": token.code, "fee": 0, "bearer": "CRED", "due": units}
    price = {"currency": order.currency, "amount": f"{order.amount:f}", "rate": "1", "net": units, "statement": ""}
    digest = sha256(order.text.encode()).hexdigest()
    locked = {"id": quote, "expires_at": expires_at, "digest": digest, "invoice": invoice}
    desk.db.execute(add(quotes), {**locked, **common, **price})
    state = {"status": "open", "version": 1, "created_at": desk.now, "expires_at": expires_at, "capture": "automatic"}
    pages = {"return_url": "", "pay_code": new_id("none")}
    desk.db.execute(add(invoice_table), {"id": invoice, "quote": quote, **common, **state, **pages})
    movement: str = movements.pay(desk, desk.invoice(invoice), buyer, units)["id"]
    return movement


def _back(desk: Desk, merchant: str, order: Order, units: int) -> str:
    """A payment back is a refund of what its text names; the text is otherwise the merchant's own affair."""
    named = re.findall(r"[A-Za-z0-9]+", order.text)
    chosen = select(invoice_table).where(invoice_table.c.merchant == merchant, invoice_table.c.reference.in_(named))
    row = desk.db.execute(chosen).mappings().first()
    if row is None:
        raise Refused("unknown_invoice", "The payment's text names no payment that this one gives back.")
    paid = invoices.moves(desk, row["id"], "settled")
    if not paid or number_of("buyer", paid[-1]["buyer"]) != order.creditor:
        raise Refused("malformed", "The payment does not go back to the account that paid.", status=403)
    terms = {"reference": order.reference, "installation": row["installation"], "mode": desk.house.mode}
    refund: str = refunds.create(desk, merchant, {**terms, "invoice": row["id"], "units": str(units)})["id"]
    return refund


def _payments(desk: Desk, row: RowMapping) -> list[Shown]:
    invoice = invoices.of_reference(desk, row["merchant"], row["reference"])
    if invoice is None:
        return []
    moved = invoices.moves(desk, invoice["id"])
    returned = {each["of"] for each in moved}
    states = {"seen": "processing", "held": "processing", "settled": "completed", "released": "rejected"}
    return [
        _shown(row, invoice["token"], each, "returned" if each["id"] in returned else states[each["status"]])
        for each in moved
        if each["kind"] == "payment"
    ]


def _refunds(desk: Desk, row: RowMapping) -> list[Shown]:
    same = {"merchant": row["merchant"], "reference": row["reference"]}
    refund = desk.db.execute(rows(refund_table, *same), same).mappings().first()
    if refund is None:
        return []
    done = desk.db.execute(rows(statements, "subject"), {"subject": refund["id"]}).first() is not None
    states = {"pending": "processing", "done": "completed", "failed": "returned" if done else "rejected"}
    return [_shown(row, desk.invoice(refund["invoice"])["token"], refund, states[refund["status"]])]


def _shown(row: RowMapping, token: str, each: RowMapping, state: str) -> Shown:
    amount = Decimal(each["units"]).scaleb(-TOKENS[token].decimals)
    order = Order(
        row["reference"], row["currency"], amount, row["debtor"], row["creditor"], row["text"], row["requested_on"]
    )
    return Shown(each["id"], order, state, each["accepted_at"] if "accepted_at" in each else each["created_at"])
