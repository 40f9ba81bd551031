"""The processes of a shop that runs several: `test_mixed_writers` starts four and sends each the same jobs.

Started with the database's address, the shop's settings, and a socket for each process: what all of them import is
imported once, and each is forked before it has opened anything. A job, one line of JSON, names the roles that its
threads play about one order, all at once; the answer, one line too, is what became of each. A refund is asked for
twice, the second time once the order is paid.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any, TextIO

from sqlalchemy import Column, MetaData, Table, Text, create_engine, insert
from sqlalchemy.orm import Session, sessionmaker

from deposit_token_sdk import Checkout, Client, Paid, SqlStore
from deposit_token_sdk.checkout.hooks import News
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.checkout.store import Outgoing
from deposit_token_sdk.errors import DepositTokenError
from tests.waiting import until

METADATA = MetaData()
hooks_run = Table(
    "shop_hooks_run",
    METADATA,
    *(Column(name, Text, nullable=False) for name in ("hook", "order_id", "detail")),
)
"""What the shop's hooks were told, written in the transaction that told them; repetitions are let stand."""


def a_checkout(url: str, environment: dict[str, str], threads: int) -> Checkout:
    """The shop's checkout, with hooks that write down that they ran."""
    engine = create_engine(url, pool_size=threads, max_overflow=0)
    prepare_sqlite(engine)
    store = SqlStore(sessionmaker(engine))
    checkout = Checkout(Client.from_env(environment), store)

    @checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        session.execute(insert(hooks_run).values(hook="paid", order_id=paid.order_id, detail=paid.reference))
        made = paid.attempt.created_at
        store.within(session).put(Outgoing(f"receipt {paid.order_id}", "receipt", "{}", paid.order_id, made, made))

    for name in ("authorized", "underpaid", "overpaid", "expired", "cancelled", "refunded", "refund_failed", "review"):

        def note(news: News, session: Session, name: str = name) -> None:
            session.execute(insert(hooks_run).values(hook=name, order_id=news.order_id, detail=news.detail))

        getattr(checkout, f"on_{name}")(note)
    return checkout


def play(checkout: Checkout, job: dict[str, Any], role: str, name: str) -> str:
    """What became of one turn of a thread: a word, or the error that nobody expects."""
    order = job["order"]
    parts: dict[str, Callable[[], object]] = {
        "webhook": lambda: checkout.receive(job["headers"], job["body"].encode()).status,
        "return page": lambda: checkout.refresh(order).paid,
        "sweep": lambda: checkout.reconcile(limit=3).failed,
        "refund": lambda: checkout.refund(order, job["units"], request=name).stage.counts,
        "cancel": lambda: checkout.cancel(order).paid,
    }
    try:
        return f"{role}: {parts[role]()}"
    except DepositTokenError as error:
        return f"{role}: {error.reason}"
    except Exception as error:  # noqa: BLE001  # whatever it is, it is what the test is about
        return f"{role}: {error!r}"


def until_paid(checkout: Checkout, order: str) -> None:
    """A refund of what has not come is refused; so that one is made, each asks again once the order is paid."""
    until(lambda: checkout.store.order(order).paid_by is not None, 60, lambda: f"{order} was not paid in time")


def write(lines: TextIO, url: str, environment: dict[str, str]) -> None:
    """What one process does, until its lines end."""
    checkout = a_checkout(url, environment, 16)
    print("ready", file=lines, flush=True)
    for line in lines:
        job = json.loads(line)
        together = Barrier(len(job["roles"]))

        def one(number: int, job: dict[str, Any] = job, together: Barrier = together) -> list[str]:
            role = job["roles"][number]
            together.wait(60)
            told = []
            for turn in range(job["turns"] if role == "refund" else 1):
                if turn:
                    until_paid(checkout, job["order"])
                told.append(play(checkout, job, role, f"{job['order']} {job['process']} {number} {turn}"))
            return told

        with ThreadPoolExecutor(len(job["roles"])) as pool:
            told = [outcome for turns in pool.map(one, range(len(job["roles"]))) for outcome in turns]
        print(json.dumps(told), file=lines, flush=True)


def main() -> None:
    url, environment, numbers = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
    lines = [socket.socket(fileno=int(number)) for number in numbers]
    children = []
    for mine in lines:
        children.append(os.fork())
        if not children[-1]:
            for other in lines:
                if other is not mine:
                    other.close()
            with mine, mine.makefile("rw") as file:
                write(file, url, environment)
            return
    for one in lines:
        one.close()
    if failed := [child for child in children if os.waitpid(child, 0)[1]]:
        sys.exit(f"{len(failed)} of {len(children)} writers failed")


if __name__ == "__main__":
    main()
