"""What receiving an event costs with one thousand and with one million events stored, on each database.

Events are received in turns, one into the small database and one into the large, each paying an order of its own;
what is compared are the medians. The orders behind the stored events are there too, with all that an order leaves. The
database has just been filled, so what fits into memory is there: this is about work that grows, not about cold disks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TypeAlias

from sqlalchemy import func, select
from sqlalchemy.orm import sessionmaker

from benchmarks._crowd import MODEL, multiply
from benchmarks._databases import KINDS, database
from benchmarks._measure import goal_line
from benchmarks._messages import environment
from benchmarks._orders import SIGNER, create_tables, delivery, open_orders, spread
from benchmarks._paid_shop import checkout_on, engine_of
from deposit_token_sdk import Client
from deposit_token_sdk.checkout.sql_tables import events

SIZES = (1_000, 1_000_000)
"""Events stored before one is received."""

WARM, COUNT = 50, 400
"""Events that are received but not timed, and those that are, in each database."""

Receive: TypeAlias = Callable[[dict[str, str], bytes], str]
"""Receive a webhook; what came of it."""


def main() -> int:
    """Print what one costs at both sizes and the goal's line for each database; 1 where one was not applied."""
    return max([_measured(kind) for kind in KINDS])


def _measured(kind: str) -> int:
    with ExitStack() as stack:
        client = stack.enter_context(_client())
        receivers = [_stored(stack, kind, size, client) for size in SIZES]
        numbers = [spread(SIZES[-1] + turn) for turn in range(1, WARM + COUNT + 1)]
        rows = [_in_turn(receivers, number, first=turn % 2) for turn, number in enumerate(numbers)]
    timed = [[row[which][0] * 1e3 for row in rows[WARM:]] for which in (0, 1)]
    print(f"Receiving one event that pays an order, {kind}")
    for size, took in zip(SIZES, timed, strict=True):
        print(f"  {size:,} events stored: median {median(took):.2f} ms, mean {mean(took):.2f} ms")
    goal_line(f"growth {kind}", median(timed[1]) / median(timed[0]), 1.2)
    odd = sorted({one[1] for row in rows for one in row} - {"applied"})
    if odd:
        print(f"  not all were applied: {', '.join(odd)}")
    return int(bool(odd))


def _client() -> Client:
    with TemporaryDirectory() as folder:
        return Client.from_env(environment(Path(folder), webhook_keys=[SIGNER.public_text]))


def _stored(stack: ExitStack, kind: str, size: int, client: Client) -> Receive:
    """A database with so many events, and orders that wait for more."""
    engine = engine_of(stack.enter_context(database(kind)))
    stack.callback(engine.dispose)
    sessions = sessionmaker(engine)
    create_tables(engine, sessions)
    checkout = checkout_on(client, sessions)
    open_orders(sessions, [MODEL])
    assert checkout.receive(*delivery(MODEL)).reason == "applied"
    multiply(engine, size)
    with sessions() as session:
        assert session.execute(select(func.count()).select_from(events)).scalar_one() == size
    open_orders(sessions, [spread(SIZES[-1] + turn) for turn in range(1, WARM + COUNT + 1)])
    return lambda headers, body: checkout.receive(headers, body).reason


def _in_turn(receivers: list[Receive], number: int, first: int) -> list[tuple[float, str]]:
    """The same event into both, and how long each took; who begins changes from event to event."""
    told: dict[int, tuple[float, str]] = {}
    headers, body = delivery(number)
    for which in (first, 1 - first):
        began = perf_counter()
        reason = receivers[which](headers, body)
        told[which] = (perf_counter() - began, reason)
    return [told[0], told[1]]


if __name__ == "__main__":
    sys.exit(main())
