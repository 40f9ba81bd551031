"""What the reference API's JSON means, as values: readers only, no rule about money.

A word we do not know (a status, a stage) is kept as it stands and read as unknown, which is never final.
"""

from __future__ import annotations

import re
from typing import Any, Final

from deposit_token_sdk.errors import NotOurs, Unreadable
from deposit_token_sdk.lifecycle import RefundStage, Stage, Word
from deposit_token_sdk.models import (
    Capture,
    Invoice,
    LedgerEntry,
    Mode,
    Movement,
    Refund,
    StatementKind,
    Token,
    TokenKind,
    WebhookTest,
)
from deposit_token_sdk.signing.strict_json import (
    integer,
    member,
    members,
    moment,
    optional_text,
    text,
    units,
)

_PAGE: Final = re.compile(r"(https://|http://(localhost|127\.0\.0\.1|\[::1\])[:/])[!-~]+", re.ASCII)
STAGES: Final = {
    "seen": Stage.SEEN,
    "held": Stage.HELD,
    "released": Stage.RELEASED,
    "settled": Stage.SETTLED,
    "returned": Stage.RETURNED,
}
REFUND_STAGES: Final = {
    "pending": RefundStage.PENDING,
    "done": RefundStage.DONE,
    "failed": RefundStage.FAILED,
    "cancelled": RefundStage.CANCELLED,
}
EVENT_WORDS: Final = {"invoice.expired": Word.EXPIRED, "invoice.cancelled": Word.CANCELLED}
STATUS_WORDS: Final = {"expired": Word.EXPIRED, "cancelled": Word.CANCELLED}
EVENT_STATEMENTS: Final = {
    "invoice.settled": StatementKind.SETTLEMENT,
    "invoice.returned": StatementKind.RETURN,
    "refund.done": StatementKind.REFUND,
}


def read_invoice(obj: dict[str, Any]) -> Invoice:
    """An Invoice resource. Raises Unreadable, naming the member."""
    capture = text(obj, "capture")
    return Invoice(
        id=text(obj, "id"),
        reference=text(obj, "reference"),
        merchant=text(obj, "merchant"),
        installation=text(obj, "installation"),
        mode=_mode(obj),
        token=text(obj, "token"),
        due=units(obj, "due"),
        quote_digest=text(obj, "quote_digest"),
        word=text(obj, "status"),
        version=integer(obj, "version"),
        expires_at=moment(obj, "expires_at"),
        pay_url=_page(obj, "pay_url"),
        instructions=optional_text(obj, "instructions"),
        capture=Capture.MANUAL if capture == "manual" else Capture.AUTOMATIC,
        movements=tuple(read_movement(movement) for movement in members(obj, "movements")),
        refunds=tuple(read_refund(refund) for refund in members(obj, "refunds")),
    )


def _mode(obj: dict[str, Any]) -> Mode:
    """Never guessed: an invoice of a mode we do not know is not taken for one of ours."""
    word = text(obj, "mode")
    try:
        return Mode(word)
    except ValueError:
        raise Unreadable(
            "bad_value", f"The invoice's mode is {word[:60]!r}; test or live was due.", field="mode"
        ) from None


def read_movement(obj: dict[str, Any]) -> Movement:
    """A movement of an invoice."""
    word = text(obj, "status")
    return Movement(
        text(obj, "id"), STAGES.get(word, Stage.UNKNOWN), units(obj, "units"), moment(obj, "accepted_at"), word
    )


def read_refund(obj: dict[str, Any]) -> Refund:
    """A Refund resource."""
    word = text(obj, "status")
    return Refund(
        id=text(obj, "id"),
        reference=text(obj, "reference"),
        invoice=text(obj, "invoice"),
        units=units(obj, "units"),
        stage=REFUND_STAGES.get(word, RefundStage.UNKNOWN),
        word=word,
        statement=optional_text(obj, "statement"),
    )


def read_token(obj: dict[str, Any]) -> Token:
    """A token as the bank lists it; a kind we do not know is taken for the more restricted one, a stablecoin."""
    return Token(
        code=text(obj, "code"),
        currency=text(obj, "currency"),
        decimals=integer(obj, "decimals"),
        issuer=text(obj, "issuer"),
        kind=TokenKind.DEPOSIT if text(obj, "kind") == "deposit" else TokenKind.STABLECOIN,
        rail=text(obj, "rail"),
    )


def read_ledger_entry(obj: dict[str, Any]) -> LedgerEntry:
    """A posting of the bank's ledger of a day."""
    return LedgerEntry(
        id=text(obj, "id"),
        at=moment(obj, "at"),
        kind=text(obj, "kind"),
        invoice=text(obj, "invoice"),
        reference=text(obj, "reference"),
        movement=text(obj, "movement"),
        token=text(obj, "token"),
        units=units(obj, "units"),
        refund_reference=optional_text(obj, "refund_reference"),
    )


def read_webhook_test(obj: dict[str, Any]) -> WebhookTest:
    """What answered a test event."""
    return WebhookTest(
        event=text(obj, "event"),
        url=text(obj, "url"),
        status=None if obj.get("status") is None else integer(obj, "status"),
        location=optional_text(obj, "location"),
        content_type=optional_text(obj, "content_type"),
        body=text(obj, "body"),
        milliseconds=integer(obj, "milliseconds"),
        error=optional_text(obj, "error"),
        detail=text(obj, "detail"),
    )


def _page(obj: dict[str, Any], name: str) -> str | None:
    """An address that a buyer may be sent to: https, or http on loopback, and nothing that a browser would run."""
    address = optional_text(obj, name)
    if address is None or _PAGE.fullmatch(address):
        return address
    raise Unreadable("bad_value", f"The member {name!r} is {address[:60]!r}; an https address was due.", field=name)


def require_same(what: str, name: str, told: object, asked: object) -> None:
    """Raise NotOurs (``<what>_for_another_request``) where the bank's answer is about another than was asked for."""
    if told != asked:
        raise NotOurs(f"{what}_for_another_request", f"The {what}'s {name} is {told}, but {asked} was asked for.")


def require_as_asked(what: str, told: object, asked: object, names: tuple[str, ...]) -> None:
    """The same for each of these names."""
    for name in names:
        require_same(what, name, getattr(told, name), getattr(asked, name))


def optional_member(obj: dict[str, Any], name: str) -> dict[str, Any] | None:
    """A member that may be absent, null or an object."""
    return None if obj.get(name) is None else member(obj, name)
