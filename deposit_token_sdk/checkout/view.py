"""How an order stands, read from the shop's own tables alone."""

from __future__ import annotations

from attrs import frozen

from deposit_token_sdk.checkout.intents import refundable
from deposit_token_sdk.checkout.store import Attempt, RefundRecord, Store


@frozen
class OrderView:
    """How an order stands, from the shop's own tables. `refundable` is in token units.

    `attempt` is the one that paid, else the live one, else the latest. `unknown` says that a call to the bank (a start,
    a capture, a cancellation, a refund) has no answer yet: never tell the buyer "failed" then.
    """

    order_id: str
    attempt: Attempt | None
    paid: bool
    refunds: tuple[RefundRecord, ...]
    refundable: int
    unknown: bool


def view(store: Store, order_id: str) -> OrderView:
    """How the order stands; the bank is not asked."""
    attempts = store.attempts(order_id)
    paid_by = store.fulfilled_by(order_id)
    refunds = store.refunds_of(order_id)
    attempt = next(
        (one for one in attempts if one.reference == paid_by),
        next((one for one in attempts if one.ended is None), attempts[-1] if attempts else None),
    )
    return OrderView(
        order_id=order_id,
        attempt=attempt,
        paid=paid_by is not None,
        refunds=refunds,
        refundable=refundable(attempt, refunds),
        unknown=bool(store.open_intents(order_id)),
    )
