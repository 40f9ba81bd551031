"""What the invoice part of an order's page shows: how to pay, until when the price holds, and what a buyer agreed to.

The pay link, the QR code and the copied text are one string. The countdown is by the shop's clock as of the answer
that brought it, never by the visitor's; that the time is over is believed on the bank's word alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from datetime import UTC, datetime

import segno
from attrs import frozen
from markupsafe import Markup
from sqlalchemy import select

from deposit_token_sdk import Attempt
from deposit_token_sdk.models import Quote
from examples.flask_shop.models import Agreement, db, insert


@frozen
class Payable:
    """How an attempt is paid: an address to open, or a bank's instructions to follow."""

    text: str

    @property
    def link(self) -> bool:
        """Whether it can be opened. Only a web address becomes a link, whatever the bank sends."""
        return self.text.startswith(("https://", "http://"))

    def qr_code(self) -> Markup:
        """The same text as a QR code, dark on white in dark mode too, with the margin that readers need."""
        code = segno.make_qr(self.text, error="m")
        return Markup(code.svg_inline(border=4, dark="#000", light="#fff", omitsize=True))  # noqa: S704 - digits


def payable(attempt: Attempt | None) -> Payable | None:
    """How it is paid; None where the bank gave nothing to pay by."""
    text = (attempt.pay_url or attempt.instructions) if attempt else None
    return Payable(text) if text else None


@frozen
class Lock:
    """Until when the price holds, and what time the shop had when it said so."""

    expires_at: datetime
    now: datetime

    @property
    def left(self) -> int:
        """Seconds, none when it is over."""
        return max(0, math.ceil((self.expires_at - self.now).total_seconds()))

    @property
    def clock(self) -> str:
        """Minutes and seconds: ``14:59``."""
        return f"{self.left // 60}:{self.left % 60:02}"


def lock(quote: Quote, now: datetime | None = None) -> Lock:
    """The quote's lock as of now."""
    return Lock(quote.expires_at, now or datetime.now(UTC))


def agreed_before(attempts: Iterable[Attempt], current: Attempt, agreed: Collection[str]) -> Quote | None:
    """The earlier price that the buyer agreed to last, for the same content, token and country; None for the first.

    The first price was asked for by the buyer. A later one replaces it once agreed to, or where its total is the same.
    """
    terms = (current.content, current.token, current.buyer_country)
    last: Quote | None = None
    for one in attempts:
        if one.reference == current.reference:
            break
        if one.quote is None or (one.content, one.token, one.buyer_country) != terms:
            continue
        if last is None or one.reference in agreed or one.quote.due == last.due:
            last = one.quote
    return last


def agreements(order_id: str) -> set[str]:
    """The references of the attempts whose new total the buyer agreed to."""
    return set(db.session.scalars(select(Agreement.reference).where(Agreement.order_id == order_id)))


def agree(attempt: Attempt) -> None:
    """Keep that the buyer agreed to this attempt's total, and commit. Once more does no harm."""
    db.session.rollback()  # what was read so far is done with: SQLite wants the write to come first
    kept = insert(Agreement).values(reference=attempt.reference, order_id=attempt.order_id)
    db.session.execute(kept.on_conflict_do_nothing())
    db.session.commit()
