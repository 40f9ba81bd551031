"""The faults that strike at the web's edge, whichever API is asked: late, busy, failing, dripping, cut off.

Each is asked for with `where`: the ids and references at hand, and the route.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any, Final

from flask import Response

from deposit_token_sdk.sandbox import invoices
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.problems import Refused

DROP: Final = "sandbox.drop_connection"
"""What in a request's environment has the connection cut."""
_DRIP: Final = 0.05


def where(bank: Bank, about: tuple[str, ...], route: str) -> dict[str, Any]:
    """What faults are asked with; where one waits for an invoice, with the other names of what is asked about."""
    if about and bank.faults.of_one_invoice:
        with bank.reading() as db:
            about += invoices.other_names(db, about)
    return {"about": about, "route": route}


def before(bank: Bank, where: dict[str, Any]) -> None:
    """What goes wrong before anything is done. Raises Refused (``rate_limited``, ``internal``)."""
    faults = bank.faults
    if late := faults.take("latency", **where):
        bank.pause(late.seconds)
    if busy := faults.take("rate_limited", **where):
        raise Refused("rate_limited", f"Try again in {busy.seconds:g} s.", retry_after=ceil(busy.seconds))
    if faults.take("error_before", **where):
        raise Refused("internal", "The bank failed before it did anything.", status=503, retry_after=1)


def after(bank: Bank, where: dict[str, Any], environ: dict[str, Any]) -> None:
    """What goes wrong after the work was done. Raises Refused (``internal``)."""
    if bank.faults.take("error_after", **where):
        raise Refused("internal", "The bank failed after it had done its work.")
    if bank.faults.take("dropped", **where):
        environ[DROP] = True


def drip(bank: Bank, where: dict[str, Any], answer: Response) -> None:
    """Send the body a little at a time, so that the whole takes as long as the fault says, if there is one."""
    slow = bank.faults.take("dripping", **where)
    if slow is None:
        return
    body = answer.get_data()
    steps = max(1, min(len(body), int(slow.seconds / _DRIP)))
    size = ceil(len(body) / steps)

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), size):
            bank.pause(slow.seconds / steps)
            yield body[start : start + size]

    answer.response = pieces()
    answer.headers["Content-Length"] = str(len(body))
