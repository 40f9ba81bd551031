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
from sqlalchemy import Connection, RowMapping, Select, Table

from deposit_token_sdk.sandbox import keyring, ledger
from deposit_token_sdk.sandbox.faults import Fault, Faults
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import add, invoices, messages, refunds, rows, statements
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

    def row(self, chosen: Select[Any], code: str, detail: str, **given: object) -> RowMapping:
        """The one row, or Refused with that code."""
        found = self.db.execute(chosen, given).mappings().one_or_none()
        if found is None:
            raise Refused(code, detail)
        return found

    def invoice(self, invoice_id: str, merchant: str | None = None) -> RowMapping:
        """An invoice's row; of that merchant only, where one is named. Raises Refused (``unknown_invoice``)."""
        detail = f"There is no invoice {invoice_id[:60]!r} of this merchant."
        return self.owned(invoices, invoice_id, merchant, "unknown_invoice", detail)

    def refund(self, refund_id: str, merchant: str | None = None) -> RowMapping:
        """A refund's row; of that merchant only, where one is named. Raises Refused (``unknown_refund``)."""
        detail = f"There is no refund {refund_id[:60]!r} of this merchant."
        return self.owned(refunds, refund_id, merchant, "unknown_refund", detail)

    def owned(self, table: Table, row_id: str, merchant: str | None, code: str, detail: str) -> RowMapping:
        """The row of that id; of that merchant only, where one is named. Raises Refused with that code."""
        if merchant is None:
            return self.row(rows(table, "id"), code, detail, id=row_id)
        return self.row(rows(table, "id", "merchant"), code, detail, id=row_id, merchant=merchant)

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
        row = {"id": claims["jti"], "invoice": invoice, "subject": subject, "typ": typ}
        row |= {"claims": strict_json.dumps(dict(claims)).decode(), "kid": jws.peek_kid(signed), "jws": signed}
        self.db.execute(add(statements), row)
        return signed

    def book(self, row: RowMapping, kind: str, subject: str, units: int, source: str, target: str) -> None:
        """Book a transfer for an invoice; `subject` is the movement or refund it is for."""
        posted = ledger.between(source, target, units)
        about = (row["merchant"], row["id"], row["reference"], subject)
        ledger.book(self.db, ledger.Transfer(kind, row["token"], units, self.now, posted, *about))

    def tell(self, merchant: str, type_: str, data: Mapping[str, Any], invoice: str | None = None) -> str:
        """Put a webhook into the outbox and return its id; the faults may have it lost, late or sent twice."""
        about = (invoice, data.get("reference"))
        message, _ = self._write(merchant, type_, data, invoice, self._sending(type_, about))
        self.woke.append(message)
        return message

    def lay_down(self, merchant: str, type_: str, data: Mapping[str, Any]) -> tuple[str, str]:
        """Put a message into the outbox that is not sent from there; returns its id and body."""
        return self._write(merchant, type_, data, None, {"state": "given_up", "copies": 1, "due_at": None})

    def _write(
        self, merchant: str, type_: str, data: Mapping[str, Any], invoice: str | None, sending: Mapping[str, Any]
    ) -> tuple[str, str]:
        message = new_id("msg")
        content = {"type": type_, "timestamp": strict_json.rfc3339(self.real), "data": dict(data)}
        body = strict_json.dumps(content).decode()
        about = {"id": message, "merchant": merchant, "invoice": invoice, "type": type_, "body": body}
        self.db.execute(add(messages), {"tries": 0, "created_at": self.real, **about, **sending})
        return message, body

    def _sending(self, type_: str, about: tuple[str | None, str | None]) -> dict[str, Any]:
        """When, how often and in which order a message goes out: as the schedule says, or a fault."""

        def taken(kind: str) -> Fault | None:
            return self.faults.take(kind, about=about, route=type_)

        first = self.real + timedelta(seconds=self.house.schedule[0])
        copies = 2 if taken("webhook_repeated") else 1
        if taken("webhook_lost"):
            return {"state": "dropped", "copies": copies, "due_at": None}
        if waits := taken("webhook_reordered"):
            return {"state": "behind", "copies": copies, "due_at": first + timedelta(seconds=waits.seconds or 5.0)}
        late = taken("webhook_delayed")
        return {
            "state": "queued",
            "copies": copies,
            "due_at": first + timedelta(seconds=late.seconds if late else 0.0),
        }


def new_id(prefix: str) -> str:
    """A fresh id that nobody can guess."""
    return f"{prefix}_{secrets.token_hex(12)}"
