"""Webhooks to paid orders a second under gunicorn with two workers, beside a route written by hand, on each database.

Both shops write to the same database and get the same number of messages from the same load, in turns; what each has
marked as paid is counted afterwards. What the route does, and what it does not, is said in `_paid_shop`.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from sqlalchemy import insert
from sqlalchemy.orm import Session, sessionmaker

from benchmarks._databases import KINDS, database
from benchmarks._load import Volley, fire, gunicorn, posted
from benchmarks._measure import goal_line
from benchmarks._messages import BANK, INSTALLATION, digest, environment
from benchmarks._orders import DUE, SIGNER, create_tables, delivery, open_orders, order_id, paid, spread
from benchmarks._paid_shop import BY_HAND, DATABASE, engine_of, hand_orders

SHOPS = ("ours", "by_hand")
SIZES = (100, *[200] * 24)
"""Messages for each of the two in each round; the first round warms up and is not counted."""


def main() -> int:
    """Print both rates and the goal's line for each database; 1 where a message was not applied."""
    return max([_measured(kind) for kind in KINDS])


def _measured(kind: str) -> int:
    with ExitStack() as stack:
        url = stack.enter_context(database(kind))
        folder = Path(stack.enter_context(TemporaryDirectory()))
        engine = engine_of(url)
        stack.callback(engine.dispose)
        sessions = sessionmaker(engine)
        create_tables(engine, sessions)
        BY_HAND.create_all(engine)
        environ = {**environment(folder, webhook_keys=[SIGNER.public_text]), DATABASE: url}
        ports = [stack.enter_context(gunicorn(f"benchmarks._paid_shop:{shop}()", environ)) for shop in SHOPS]
        numbers = map(spread, count(1))
        parts = [(_to_ours(sessions, numbers, size), _to_hand(sessions, numbers, size)) for size in SIZES]
        rows = [_in_turn(ports, part, turn) for turn, part in enumerate(parts)]
        return _shown(kind, rows, [paid(sessions), paid(sessions, hand_orders)])


def _to_ours(sessions: sessionmaker[Session], numbers: Iterator[int], size: int) -> list[bytes]:
    """Orders with a waiting attempt each, and the requests that pay them."""
    mine = list(islice(numbers, size))
    open_orders(sessions, mine)
    return [posted(f"/webhooks/{BANK}", *delivery(number)) for number in mine]


def _to_hand(sessions: sessionmaker[Session], numbers: Iterator[int], size: int) -> list[bytes]:
    """The same for the hand-written shop, which keeps reference, amount and quote beside its order."""
    mine = list(islice(numbers, size))
    rows = [
        {
            "id": order_id(number),
            "reference": f"{INSTALLATION}{number:012}",
            "due": str(DUE),
            "quote_digest": digest(number),
            "status": "open",
        }
        for number in mine
    ]
    with sessions.begin() as session:
        session.execute(insert(hand_orders), rows)
    return [posted(f"/webhooks/{BANK}", *delivery(number)) for number in mine]


def _in_turn(ports: list[int], parts: tuple[list[bytes], list[bytes]], turn: int) -> list[Volley]:
    """One round, the two shops one after the other; who begins changes from round to round."""
    both = [0, 1] if turn % 2 else [1, 0]
    fired = {which: fire(ports[which], parts[which]) for which in both}
    return [fired[0], fired[1]]


def _shown(kind: str, rows: list[list[Volley]], marked: list[int]) -> int:
    sent = sum(SIZES)
    answers = [sum((row[which].answers for row in rows), Counter()) for which in (0, 1)]
    ours, peer = (median(row[which].rate for row in rows[1:]) for which in (0, 1))
    print(f"Webhooks to paid orders on {kind}, gunicorn with two workers")
    print(f"  ours: {ours:.0f} a second; a route written by hand: {peer:.0f} a second")
    goal_line(f"paid {kind}", median(row[0].rate / row[1].rate for row in rows[1:]), 0.85, at_least=True)
    if answers == [Counter({"200 applied": sent})] * 2 and marked == [sent, sent]:
        return 0
    print(f"  of {sent} orders {marked[0]} and {marked[1]} are paid; the answers were {answers}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
