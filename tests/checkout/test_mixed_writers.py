"""Four processes of sixteen threads that write about one order at once, in every role that a shop has, on both
databases: whoever comes first, the order is fulfilled once, each hook runs once and no unit goes back twice.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from socket import socketpair
from typing import Any, TextIO

import pytest
from attrs import define, field
from sqlalchemy import select
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from deposit_token_sdk import Attempt, RefundStage
from deposit_token_sdk.checkout.sql_tables import outgoing
from deposit_token_sdk.sandbox import Sandbox
from tests import databases
from tests.checkout.conftest import open_shop
from tests.checkout.kit import Shop, due_of
from tests.checkout.mixed_writer import METADATA, hooks_run

PROCESSES = 4
ROOT = Path(__file__).parents[2]
ROLES = ["webhook"] * 4 + ["return page", "sweep", "refund", "cancel"] * 3
EXPECTED = {
    "webhook: 200",
    "return page: True",
    "sweep: ()",
    "refund: True",
    "refund: nothing_to_refund",
    "refund: refund_exceeds",
    "cancel: order_changed",
    "cancel: nothing_to_cancel",
}


@define
class Writers:
    """The processes, and what the bank's webhook about each order was."""

    shop: Shop
    processes: list[TextIO]
    webhooks: dict[str, tuple[dict[str, str], str]] = field(factory=dict)
    arrived: threading.Condition = field(factory=threading.Condition)

    def paid_at_the_bank(self, order: str) -> Attempt:
        """An order whose payment the bank has booked and announced, and about which the shop has done nothing yet."""
        attempt = self.shop.start(order)
        self.shop.bank.control.pay(attempt.reference)
        with self.arrived:
            assert self.arrived.wait_for(lambda: attempt.reference in self.webhooks, 30)
        return attempt

    def play(self, attempt: Attempt, roles: list[str], turns: int = 2, processes: int = PROCESSES) -> list[str]:
        """What became of each thread's part, in so many processes with these roles each."""
        headers, body = self.webhooks[attempt.reference]
        job: dict[str, Any] = {"order": attempt.order_id, "headers": headers, "body": body, "roles": roles}
        job |= {"units": sixty_percent(attempt), "turns": turns}
        asked = self.processes[:processes]
        for number, process in enumerate(asked):
            print(json.dumps({**job, "process": number}), file=process, flush=True)
        return [outcome for process in asked for outcome in json.loads(said_by(process))]

    def hooks_of(self, order: str) -> Counter[tuple[str, str]]:
        with self.shop.sessions() as session:
            told = session.execute(select(hooks_run).where(hooks_run.c.order_id == order))
            return Counter((row.hook, row.detail) for row in told)

    def receipts_of(self, order: str) -> list[str]:
        with self.shop.sessions() as session:
            return list(session.scalars(select(outgoing.c.key).where(outgoing.c.order_id == order)))


def sixty_percent(attempt: Attempt) -> int:
    return due_of(attempt) * 6 // 10


def said_by(process: TextIO) -> str:
    line = process.readline()
    assert line, "a writer ended; what it wrote stands above"
    return line


@pytest.fixture(scope="module", params=databases.DBMS)
def writers(request: pytest.FixtureRequest, bank: Sandbox) -> Iterator[Writers]:
    """One shop on each database: every test has an order of its own."""
    with databases.fresh(request.param, empty=False) as engine, open_shop(bank, engine) as shop:
        METADATA.create_all(engine)
        with ExitStack() as ends:
            made = Writers(shop, ends.enter_context(started(databases.address(engine), shop.environment)))
            ends.enter_context(recorder(made))
            assert [said_by(process) for process in made.processes] == ["ready\n"] * PROCESSES
            yield made


@contextmanager
def started(address: str, environment: dict[str, str]) -> Iterator[list[TextIO]]:
    """A line to each of the processes. When the lines end, so do they, and none has failed."""
    pairs = [socketpair() for _ in range(PROCESSES)]
    numbers = [theirs.fileno() for _, theirs in pairs]
    command = [sys.executable, "-m", "tests.checkout.mixed_writer", address, json.dumps(environment)]
    with subprocess.Popen([*command, *map(str, numbers)], pass_fds=numbers, cwd=ROOT) as process:
        with ExitStack() as ends:
            for ours, theirs in pairs:
                theirs.close()
                ends.enter_context(ours)
            yield [ends.enter_context(ours.makefile("rw")) for ours, _ in pairs]
        assert process.wait(30) == 0


@contextmanager
def recorder(writers: Writers) -> Iterator[None]:
    """Keeps the bank's webhooks about payments, and tells the shop nothing of them."""

    @Request.application
    def keep(request: Request) -> Response:
        body = request.get_data(as_text=True)
        with writers.arrived:
            writers.webhooks |= {
                attempt: (dict(request.headers), body) for attempt in references_in(body) if "settled" in body
            }
            writers.arrived.notify_all()
        return Response()

    server = make_server("127.0.0.1", 0, keep, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    writers.shop.bank.control.set_webhook_url(f"http://127.0.0.1:{server.port}/", merchant=writers.shop.merchant)
    try:
        yield
    finally:
        writers.shop.lose_webhooks()
        server.shutdown()
        thread.join(5)
        server.server_close()


def references_in(body: str) -> list[str]:
    return [json.loads(body)["data"]["reference"]]


def test_whoever_comes_first_an_order_is_fulfilled_once_and_refunds_never_exceed_what_came(writers: Writers) -> None:
    for first in sorted(set(ROLES)):
        attempt = writers.paid_at_the_bank(f"first {first}")
        told = writers.play(attempt, [first], turns=1, processes=1) + writers.play(attempt, ROLES)
        assert set(told) <= EXPECTED
        assert_right(writers, attempt)


def test_the_same_event_at_once_from_all_is_one_fulfilment(writers: Writers) -> None:
    attempt = writers.paid_at_the_bank("the same")
    assert set(writers.play(attempt, ["webhook"] * 16)) == {"webhook: 200"}
    assert writers.hooks_of("the same") == {("paid", attempt.reference): 1}
    assert writers.shop.checkout.store.order("the same").paid_by == attempt.reference


def assert_right(writers: Writers, attempt: Attempt) -> None:
    """One fulfilment, one refund, each hook once; by the bank's ledger and the shop's tables."""
    shop, order = writers.shop, attempt.order_id
    refund = one_refund(shop, attempt)
    assert [entry["kind"] for entry in shop.bank.control.ledger(attempt.reference)].count("payment") == 1
    assert shop.bank_received(attempt.reference) == due_of(attempt) - sixty_percent(attempt)
    assert writers.hooks_of(order) == {("paid", attempt.reference): 1, ("refunded", refund): 1}
    assert shop.checkout.store.order(order).paid_by == attempt.reference
    assert writers.receipts_of(order) == [f"receipt {order}"]
    assert shop.reviews() == []
    assert not shop.checkout.view(order).unknown
    assert shop.bank.control.audit() == []


def one_refund(shop: Shop, attempt: Attempt) -> str:
    """The order's only refund that counts, which is done."""
    (refund,) = (one for one in shop.checkout.store.order(attempt.order_id).refunds if one.stage.counts)
    assert refund.stage is RefundStage.DONE
    assert refund.units == sixty_percent(attempt)
    return refund.reference
