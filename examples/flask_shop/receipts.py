"""A receipt for each paid order: work that cannot be in the transaction, so the outbox does it.

The hook that marks an order paid puts the receipt's text into the outbox, in its own transaction; the worker writes it
into a folder, where another shop would send a mail. It may be written twice, after a kill for one, and so the file is
named by the message's key and put in its place whole: twice is once.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.orm import Session

from deposit_token_sdk import Checkout, Paid
from deposit_token_sdk.checkout.store import Outgoing
from deposit_token_sdk.money import decimal_of
from examples.flask_shop.models import Content, Order

TOPIC = "receipt"


def put_receipt(checkout: Checkout, session: Session, paid: Paid) -> None:
    """Have the receipt of this order sent once the transaction is committed, and not at all if it is rolled back."""
    order = session.get(Order, paid.order_id)
    if order is not None:  # the checkout may know orders of another database
        text = receipt(order.content(paid.attempt.content), paid)
        checkout.outbox.put(session, TOPIC, {"text": text}, order_id=order.id, key=f"{TOPIC}-{order.id}")


def receipt(content: Content, paid: Paid) -> str:
    """The receipt's text. It is written where no visitor is, so in the shop's own language."""
    lines = [f"{line.count} x {line.name}: {line.sum}" for line in content.lines]
    quote = paid.attempt.quote
    tokens = f", as {decimal_of(quote.due, quote.decimals):f} {quote.token}" if quote is not None else ""
    head, total = f"Fernhill Tea: receipt for order {paid.order_id}", f"Paid: {content.total}{tokens}"
    return "\n".join((head, "", *lines, "", total, ""))


def into(folder: Path) -> Callable[[Outgoing], None]:
    """A handler that writes each receipt into this folder."""

    def write(message: Outgoing) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=folder, suffix=".part", delete=False) as file:
            file.write(json.loads(message.payload)["text"])
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(folder / f"{message.key}.txt")

    return write
