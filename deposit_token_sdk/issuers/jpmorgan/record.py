"""The merchant's own record of an invoice: an id that says what was asked, so that it can be read back from the bank.

The bank keeps no invoices. What it keeps of a payment is the reference (``endToEndId``) and one remittance line of 140
characters, and it returns both. So the invoice's id is reference, token, units due, expiry and quote digest, joined by
full stops, and a payment's remittance line is that id and the time at which the buyer agreed. A refund's line says
of which invoice it is a refund.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from deposit_token_sdk.errors import InvalidInput

LONGEST_LINE: Final = 140
"""One remittance line (unstructuredInformation, Kinexys and coin payments: 1 line, 140 characters)."""
LONGEST_REFERENCE: Final = 34
"""Letters and digits; what both versions take for these payments."""
INSTALLATION: Final = 8
"""How many characters at a reference's beginning name the installation."""

_ID: Final = re.compile(
    r"([A-Za-z0-9]{9,34})\.([A-Z][A-Z0-9-]{1,19})\.([1-9][0-9]{0,19})\.([0-9]{9,11})\.([0-9a-f]{64})", re.ASCII
)
_LINE: Final = re.compile(r"(R )?(\S{1,130})(?: ([0-9]{9,11}))?", re.ASCII)


@frozen
class Record:
    """What was asked: token units due, until when (whole seconds), under which quote."""

    reference: str
    token: str
    due: int
    expires: int
    digest: str

    @property
    def id(self) -> str:
        """The invoice's id."""
        return f"{self.reference}.{self.token}.{self.due}.{self.expires}.{self.digest}"

    @property
    def expires_at(self) -> datetime:
        """When the price ceases to stand."""
        return datetime.fromtimestamp(self.expires, UTC)

    @property
    def installation(self) -> str:
        """Whose reference it is."""
        return self.reference[:INSTALLATION]


@frozen
class Line:
    """A payment's remittance line as read: which invoice it is for, when the buyer agreed, whether it is a refund."""

    record: Record
    asked_at: datetime | None
    refund: bool


def read_id(invoice: str) -> Record:
    """The record that an invoice's id is. Raises InvalidInput (``bad_invoice_id``)."""
    found = _ID.fullmatch(invoice)
    if found is None:
        raise InvalidInput(
            "bad_invoice_id", f"{invoice[:60]!r} is no invoice of this issuer: it is made by create_invoice."
        )
    return Record(found[1], found[2], int(found[3]), int(found[4]), found[5])


def check_reference(reference: str) -> str:
    """A reference that both versions take. Raises InvalidInput (``bad_reference``)."""
    if not (reference.isascii() and reference.isalnum() and INSTALLATION < len(reference) <= LONGEST_REFERENCE):
        raise InvalidInput(
            "bad_reference",
            f"{reference[:60]!r} cannot be an endToEndId: {INSTALLATION + 1} to {LONGEST_REFERENCE} letters and digits "
            f"are due.",
        )
    return reference


def line_of(record: Record, asked_at: datetime) -> str:
    """A payment's remittance line."""
    return _fitting(f"{record.id} {int(asked_at.timestamp())}")


def refund_line(record: Record) -> str:
    """A refund's remittance line."""
    return _fitting(f"R {record.id}")


def read_line(text: str) -> Line | None:
    """What a remittance line says; None if it is none of ours."""
    found = _LINE.fullmatch(text)
    if found is None or not _ID.fullmatch(found[2]):
        return None
    asked_at = None if found[3] is None else datetime.fromtimestamp(int(found[3]), UTC)
    return Line(read_id(found[2]), asked_at, found[1] is not None)


def _fitting(line: str) -> str:
    if len(line) > LONGEST_LINE:
        raise InvalidInput("too_long", f"A remittance line of {len(line)} characters: {LONGEST_LINE} are allowed.")
    return line
