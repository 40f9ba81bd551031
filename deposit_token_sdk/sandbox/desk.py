"""What every decision of the bank needs at hand: the open transaction, the hour, and the house rules.

A `Desk` lives for one transaction. What came of it for others to know (webhooks) is laid on it and sent on its way
in the same transaction, so that a bank killed at any moment has done all or nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from attrs import field, frozen
from sqlalchemy import Connection, RowMapping, Select, insert, select

from deposit_token_sdk.sandbox import keyring, ledger
from deposit_token_sdk.sandbox.faults import Faults
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import invoices, messages, refunds, statements
from deposit_token_sdk.signing import jws, strict_json


@frozen
class House:
    """The bank's settings. `quote_life` is how long a price stands."""

    issuer: str
    mode: str
    address: str
    quote_life: timedelta
    schedule: tuple[float, ...]


@frozen
class Desk:
    """One transaction: `now` is business time, `real` the real time."""

    db: Connection
    house: House
    faults: Faults
    now: datetime
    real: datetime
    woke: list[str] = field(factory=list)

    def row(self, chosen: Select[Any], code: str, detail: str) -> RowMapping:
        """The one row, or Refused with that code."""
        found = self.db.execute(chosen).mappings().one_or_none()
        if found is None:
            raise Refused(code, detail)
        return found

    def invoice(self, invoice_id: str, merchant: str | None = None) -> RowMapping:
        """An invoice's row; of that merchant only, where one is named. Raises Refused (``unknown_invoice``)."""
        chosen = select(invoices).where(invoices.c.id == invoice_id)
        if merchant is not None:
            chosen = chosen.where(invoices.c.merchant == merchant)
        return self.row(chosen, "unknown_invoice", f"There is no invoice {invoice_id[:60]!r} of this merchant.")

    def refund(self, refund_id: str, merchant: str | None = None) -> RowMapping:
        """A refund's row; of that merchant only, where one is named. Raises Refused (``unknown_refund``)."""
        chosen = select(refunds).where(refunds.c.id == refund_id)
        if merchant is not None:
            chosen = chosen.where(refunds.c.merchant == merchant)
        return self.row(chosen, "unknown_refund", f"There is no refund {refund_id[:60]!r} of this merchant.")

    def common_claims(self, merchant: str, installation: str) -> dict[str, Any]:
        """What every statement says of itself: who, for whom, when (real time), which."""
        return {
            "iss": self.house.issuer,
            "aud": merchant,
            "iat": int(self.real.timestamp()),
            "jti": new_id("stm"),
            "installation": installation,
            "mode": self.house.mode,
        }

    def sign(self, typ: str, claims: Mapping[str, Any]) -> str:
        """The bank's signed word, by its current statement key."""
        return jws.sign(strict_json.dumps(dict(claims)), keyring.current(self.db, keyring.STATEMENT), typ)

    def state(self, typ: str, invoice: str, subject: str, claims: Mapping[str, Any]) -> str:
        """Sign and keep a statement about an invoice; `subject` is the movement or refund it is about."""
        signed = self.sign(typ, claims)
        self.db.execute(
            insert(statements).values(
                id=claims["jti"],
                invoice=invoice,
                subject=subject,
                typ=typ,
                claims=strict_json.dumps(dict(claims)).decode(),
                kid=jws.peek_kid(signed),
                jws=signed,
            )
        )
        return signed

    def book(self, row: RowMapping, kind: str, subject: str, units: int, source: str, target: str) -> None:
        """Book a transfer for an invoice; `subject` is the movement or refund it is for."""
        posted = ledger.between(source, target, units)
        about = (row["merchant"], row["id"], row["reference"], subject)
        ledger.book(self.db, ledger.Transfer(kind, row["token"], units, self.now, posted, *about))

    def tell(self, merchant: str, type_: str, data: Mapping[str, Any], invoice: str | None = None) -> str:
        """Put a webhook into the outbox and return its id; the faults may have it lost or sent twice."""
        message = new_id("msg")
        body = {"type": type_, "timestamp": strict_json.rfc3339(self.real), "data": dict(data)}
        about = (invoice, data.get("reference"))
        lost = self.faults.take("webhook_lost", about=about, route=type_) is not None
        twice = self.faults.take("webhook_repeated", about=about, route=type_) is not None
        self.db.execute(
            insert(messages).values(
                id=message,
                merchant=merchant,
                invoice=invoice,
                type=type_,
                body=strict_json.dumps(body).decode(),
                state="dropped" if lost else "queued",
                tries=0,
                copies=2 if twice else 1,
                created_at=self.real,
                due_at=None if lost else self.real + timedelta(seconds=self.house.schedule[0]),
            )
        )
        self.woke.append(message)
        return message


def new_id(prefix: str) -> str:
    """A fresh id that nobody can guess."""
    return f"{prefix}_{secrets.token_hex(12)}"
