"""How an order stands, read from the shop's own tables alone."""

from __future__ import annotations

from attrs import frozen

from deposit_token_sdk.checkout.intents import refundable
from deposit_token_sdk.checkout.store import Attempt, OrderRecord, RefundRecord


@frozen
class OrderView:
    """How an order stands, from the shop's own tables. `refundable` is in token units.

    `attempt` is the one that paid, else the live one, else the latest; `attempts` are all of them, oldest first.
    `unknown` says that a call to the bank (a start, a capture, a cancellation, a refund) has no answer yet: never tell
    the buyer "failed" then.
    """

    order_id: str
    attempt: Attempt | None
    paid: bool
    refunds: tuple[RefundRecord, ...]
    refundable: int
    unknown: bool
    attempts: tuple[Attempt, ...] = ()


def view(order_id: str, kept: OrderRecord) -> OrderView:
    """How the order stands, by what is kept of it."""
    attempt = next(
        (one for one in kept.attempts if one.reference == kept.paid_by),
        next((one for one in kept.attempts if one.ended is None), kept.attempts[-1] if kept.attempts else None),
    )
    return OrderView(
        order_id=order_id,
        attempt=attempt,
        paid=kept.paid_by is not None,
        refunds=kept.refunds,
        refundable=refundable(attempt, kept.refunds),
        unknown=bool(kept.intents),
        attempts=kept.attempts,
    )
