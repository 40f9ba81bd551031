"""One run on one database: the parts started, a thousand purchases made while they are killed, and then the reckoning.

The reckoning reads the books of the bank and of the shop when every process has ended. Until then a clean phase has
taken all trouble away and let the worker do what is due; what it cannot put right shows as a difference.
"""

from __future__ import annotations

import os
import queue
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from sqlalchemy import create_engine

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.faults import KINDS
from tests.torture import audit, books, plan
from tests.torture.buyers import Buyer, Line, TimeIsUp
from tests.torture.parts import Part, PartFailed, answers, check_signals, fixed_ports
from tests.torture.plan import BANK, SHOP, WORKER, Event, Purchase
from tests.torture.sabotage import Sabotage

_COMMAND = "deposit_token_sdk.cli"
_CLEAN_ROUNDS = 4
_QUARTER_HOUR = 900
_TWO_HOURS = 7200
_MINUTE = 60
_MANY = 100
"""Purchases that two workers tidy up after, as many as there are processors; below, starting one more costs more."""


@frozen
class Result:
    """What came of a run, as far as it is told."""

    database: str
    purchases: int
    faults: dict[str, int]
    kills: dict[str, int]
    reviews: int
    differences: list[str]

    def line(self) -> str:
        """Number after name."""
        faults = ", ".join(f"{kind} {self.faults[kind]}" for kind in KINDS if self.faults.get(kind)) or "none 0"
        kills = ", ".join(f"{part} {self.kills[part]}" for part in (SHOP, WORKER, BANK))
        return f"{self.database}: purchases {self.purchases}; faults {faults}; kills {kills}; reviews {self.reviews}"


@define
class Stage:
    """The parts of a run, and the bank's control. `url` is the shop's database, `told` more of its environment."""

    folder: Path
    url: str
    seed: int
    issuer: str = "reference"
    older_than: int = 45
    told: dict[str, str] = field(factory=dict)
    parts: dict[str, Part] = field(factory=dict)
    addresses: dict[str, str] = field(factory=dict)
    environ: dict[str, str] = field(factory=dict)
    struck: Counter[str] = field(factory=Counter)
    _lives: int = 0

    def set_up(self) -> None:
        """Name the parts, take the settings from the bank, and start all three."""
        bank_port, shop_port = fixed_ports(2)
        self.addresses = {BANK: f"http://127.0.0.1:{bank_port}", SHOP: f"http://127.0.0.1:{shop_port}"}
        data = str(self.folder / "bank")
        sandbox = [_COMMAND, "sandbox", "--port", str(bank_port), "--data", data]
        plain = {name: text for name, text in os.environ.items() if not name.startswith("DEPOSIT_TOKEN_")}
        told = {**plan.APIS[self.issuer].told, **self.told}
        settings = Sandbox(data, port=bank_port).environment(dialect=self.issuer)
        self.environ = plain | settings | self._own() | told
        webhooks = f"{self.addresses[SHOP]}/webhooks/sandbox-bank"
        self._part(BANK, [*sandbox, "--quiet", "--webhook-url", webhooks], answers(f"{self.addresses[BANK]}/control"))
        self._part(SHOP, ["tests.torture.shop", str(shop_port)], answers(f"{self.addresses[SHOP]}/health"))
        self._part(WORKER, [*self._work(), "--every", "1", "--older-than", str(self.older_than)], lambda: True)
        for name in (BANK, SHOP, WORKER):
            self.parts[name].start()
        self.arm()

    def _own(self) -> dict[str, str]:
        return {
            "TORTURE_DATABASE": self.url,
            "TORTURE_SEED": str(self.seed),
            "TORTURE_CALM": str(self.folder / "calm"),
            "SQLITE_TMPDIR": str(self.folder),
            "DEPOSIT_TOKEN_TIMEOUT": "1.5",
            "DEPOSIT_TOKEN_DEADLINE": "6",
            "DEPOSIT_TOKEN_ATTEMPTS": "4",
        }

    def _work(self) -> list[str]:
        return [_COMMAND, "worker", "--checkout", "tests.torture.shop:open_checkout"]

    def _part(self, name: str, command: list[str], serves: Callable[[], bool]) -> None:
        self.parts[name] = Part(name, command, self.folder / f"{name}.log", self.environ, serves)

    def line(self, name: str, stopping: threading.Event, surprises: queue.SimpleQueue[str]) -> Line:
        """A line of one's own to the shop or the bank."""
        return Line(self.addresses[name], stopping, surprises)

    def control(self, verb: str, **arguments: object) -> Any:
        """A verb of the bank's control; None where it refuses or does not answer."""
        status, told = self.line(BANK, threading.Event(), queue.SimpleQueue()).once(
            "POST", f"/control/{verb}", arguments
        )
        return told if status == 200 else None

    def arm(self) -> None:
        """Put the faults in force; the bank forgets them when it is killed."""
        self._lives += 1
        for number, (kind, rate, seconds) in enumerate(plan.FAULTS):
            seed = hash((self.seed, self._lives, number))
            self.control("fault", kind=kind, count=None, rate=rate, seconds=seconds, seed=seed)

    def note_faults(self) -> None:
        """Add up what has struck since the bank began: its counts die with it."""
        self.struck.update(self.control("fault_counts") or {})

    def kill(self, names: tuple[str, ...]) -> None:
        """kill -9, all in the same moment as far as that goes, and start them again."""
        if BANK in names:
            self.note_faults()
        for name in names:
            self.parts[name].kill()
        for name in names:
            self.parts[name].start()
        if BANK in names:
            self.arm()

    def work_off(self, names: str, ahead: int, ends: float) -> None:
        """Let a worker a letter do all that is due `ahead` seconds from now: soon enough for what was put off."""
        environ = self.environ | {"TORTURE_AHEAD": str(ahead)}
        once = [*self._work(), "--once", "--older-than", "0"]
        log = self.folder / "worker.log"
        workers = [Part(f"worker that tidies up ({name})", once, log, environ, lambda: True) for name in names]
        try:
            for one in workers:
                one.start()
            for one in workers:
                one.finish(ends)
        finally:
            for one in workers:
                one.end()

    def prove_evidence(self, ends: float) -> None:
        """Have the sealed evidence exported and verified, as an auditor would. Raises PartFailed."""
        export = str(self.folder / "evidence")
        log = self.folder / "evidence.log"
        steps = [("export", ["export", export, "--checkout", "tests.torture.shop:open_checkout"])]
        if plan.APIS[self.issuer].proves:
            steps.append(("verification", ["verify", export]))
        for step, command in steps:
            one = Part(f"{step} of the evidence", [_COMMAND, "evidence", *command], log, self.environ, lambda: True)
            try:
                one.start()
                one.finish(ends)
            finally:
                one.end()

    def queued(self) -> int:
        """How many webhooks the bank still has to send."""
        with closing(sqlite3.connect(f"file:{self.bank_file}?mode=ro", uri=True)) as connection:
            asked = "SELECT count(*) FROM messages WHERE state IN ('queued', 'behind')"
            return int(connection.execute(asked).fetchone()[0])

    @property
    def bank_file(self) -> Path:
        """The bank's database."""
        return self.folder / "bank" / "bank.sqlite3"

    def end(self) -> None:
        """End whatever runs."""
        for part in self.parts.values():
            part.end()


@define
class Run:
    """A run under way: who still has to buy what, and what has happened so far."""

    stage: Stage
    purchases: tuple[Purchase, ...]
    events: tuple[Event, ...]
    ends: float
    sabotage: Sabotage
    stopping: threading.Event = field(factory=threading.Event)
    surprises: queue.SimpleQueue[str] = field(factory=queue.SimpleQueue)
    changed: threading.Condition = field(factory=threading.Condition)
    waiting: list[tuple[Purchase, bool]] = field(factory=list)
    aside: list[Purchase] = field(factory=list)
    busy: int = 0
    done: int = 0

    def make_purchases(self) -> None:
        """Have all purchases made, with everything that happens meanwhile. Stops when the time is up."""
        self.waiting = [(purchase, False) for purchase in reversed(self.purchases)]
        workers = [threading.Thread(target=self._buy, daemon=True) for _ in range(self.sabotage.threads)]
        workers.append(threading.Thread(target=self._decide, daemon=True))
        for worker in workers:
            worker.start()
        try:
            self._conduct()
        finally:
            self._stop()
            for worker in workers:
                worker.join()
            self.stopping.clear()

    def _buy(self) -> None:
        stage = self.stage
        shop, bank = (stage.line(name, self.stopping, self.surprises) for name in (SHOP, BANK))
        buyer = Buyer(shop, bank, collects=stage.issuer.startswith("jpmorgan"))
        while (taken := self._take()) is not None:
            purchase, again = taken
            try:
                finished = buyer.go(purchase, again)
            except TimeIsUp:
                return
            except Exception as error:  # noqa: BLE001 - a mistake of the harness must show, not end a thread unseen
                self.surprises.put(f"{purchase.order} ({purchase.kind}): {type(error).__name__}: {error}")
                finished = True
            with self.changed:
                self.busy -= 1
                self.done += finished
                if not finished:
                    self.aside.append(purchase)
                self.changed.notify_all()

    def _decide(self) -> None:
        """The shop's clerk, who decides about half of the reviews, one way or another."""
        shop = self.stage.line(SHOP, self.stopping, self.surprises)
        seen: set[int] = set()
        with suppress(TimeIsUp):
            while True:
                for each in shop.ask("GET", "/reviews")[1]["reviews"]:
                    verdict = plan.verdict(self.stage.seed, each["order"], each["reason"], each["verdicts"])
                    if each["number"] not in seen and verdict:
                        shop.ask("POST", f"/reviews/{each['number']}/{verdict}")
                    seen.add(each["number"])
                shop.nap(1.0)

    def _take(self) -> tuple[Purchase, bool] | None:
        with self.changed:
            self.changed.wait_for(lambda: self.waiting or self._over)
            if not self.waiting or self.stopping.is_set():
                return None
            self.busy += 1
            return self.waiting.pop()

    @property
    def _over(self) -> bool:
        return self.stopping.is_set() or self.done == len(self.purchases)

    def _conduct(self) -> None:
        """Carry out the events as they fall due, the last ones after the last purchase; move the clock too when
        everybody waits for that alone.
        """
        events = list(self.events)
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self._due(events), timeout=0.5)
                for_the_clock = bool(self.aside) and not self.waiting and not self.busy
            check_signals()
            for part in self.stage.parts.values():
                part.check()
            if time.monotonic() > self.ends or (self._over and not events):
                return
            self.sabotage.meanwhile(self.stage, self.done, len(self.purchases))
            if events and self.done >= events[0].after:
                self._carry_out(events.pop(0))
            elif for_the_clock:
                self._carry_out(Event(0, 0.0, seconds=1000))

    def _stop(self) -> None:
        with self.changed:
            self.stopping.set()
            self.changed.notify_all()

    def _due(self, events: list[Event]) -> bool:
        lonely = bool(self.aside) and not self.waiting and not self.busy
        return self._over or lonely or (bool(events) and self.done >= events[0].after)

    def _carry_out(self, event: Event) -> None:
        time.sleep(event.wait)
        if event.kills:
            self.stage.kill(event.kills)
        if event.seconds and self.stage.control("advance", seconds=event.seconds) is not None:
            with self.changed:
                self.waiting += [(purchase, True) for purchase in self.aside]
                self.aside.clear()
                self.changed.notify_all()

    # -- the clean phase -------------------------------------------------------------------------------------------

    def come_to_rest(self, ends: float) -> None:
        """Take all trouble away and have everything done that is due, until nothing moves any more.

        The first round asks about every order, the next ones about what is still open, and all again where the one
        before had trouble. What fails even then, or is not done in time, is told with the differences.
        """
        stage = self.stage
        (stage.folder / "calm").touch()
        stage.note_faults()
        stage.control("clear_faults")
        self.sabotage.restore(stage)
        stage.parts[WORKER].end()
        self._resend_half()
        workers = "ab" if len(self.purchases) >= _MANY else "a"
        trouble, ahead = "", 0
        for round_ in range(1, _CLEAN_ROUNDS + 1):
            self._back_office()
            if round_ == 1:
                stage.control("advance", seconds=_QUARTER_HOUR * 2)
            self._until(lambda: stage.queued() == 0, ends)
            ahead += _TWO_HOURS if trouble or round_ == 1 else _MINUTE
            trouble = _trouble(partial(stage.work_off, workers, ahead, ends))
            if time.monotonic() > ends or (round_ > 1 and not trouble and not self._moving()):
                break
        for told in (trouble, _trouble(partial(stage.prove_evidence, ends))):
            if told:
                self.surprises.put(told)
        self.sabotage.at_the_end(stage)

    def _until(self, holds: Callable[[], bool], ends: float) -> None:
        while not holds() and time.monotonic() < ends:
            check_signals()
            time.sleep(0.05)

    def _moving(self) -> bool:
        bank = books.bank_books(self.stage.bank_file)
        return any(row["status"] in ("seen", "held") for row in bank.movements) or any(
            row["status"] == "pending" for row in bank.refunds
        )

    def _resend_half(self) -> None:
        """Every second lost message arrives after all; of the others the worker must learn by asking."""
        lost = [each["id"] for each in self.stage.control("webhooks", limit=1_000_000) if each["state"] == "dropped"]
        for message in lost[::2]:
            self.stage.control("resend", message=message)

    def _back_office(self) -> None:
        """The bank ends what it had left pending; the shop captures what is held, or the buyer takes it back."""
        stage = self.stage
        orders: dict[str, str] = {}
        bank = books.bank_books(stage.bank_file)
        with closing(create_engine(stage.url).connect()) as connection:
            found = connection.exec_driver_sql("SELECT reference, order_id FROM deposit_token_attempts")
            orders = {str(row[0]): str(row[1]) for row in found}
        for number, invoice in enumerate(bank.invoices):
            statuses = {row["status"] for row in bank.movements if row["invoice"] == invoice["id"]}
            if "seen" in statuses:
                stage.control("settle", invoice=invoice["id"])
            if "held" in statuses or ("seen" in statuses and invoice["capture"] == "manual"):
                self._capture_or_decline(orders.get(invoice["reference"]), invoice["id"], number)
        for number, refund in enumerate(bank.refunds):
            if refund["status"] == "pending":
                stage.control("fail_refund" if number % 4 == 0 else "finish_refund", refund=refund["id"])

    def _capture_or_decline(self, order: str | None, invoice: str, number: int) -> None:
        shop = self.stage.line(SHOP, self.stopping, self.surprises)
        if order is not None and number % 2:
            shop.ask("GET", f"/orders/{order}")
            if shop.ask("POST", f"/orders/{order}/capture", {})[0] == 200:
                return
        self.stage.control("decline", invoice=invoice)


def _trouble(act: Callable[[], object]) -> str:
    """What failed, in one line; an empty text where nothing did."""
    try:
        act()
    except PartFailed as failure:
        return " | ".join(line.strip() for line in str(failure).splitlines())
    return ""


def torture(database: str, stage: Stage, count: int, seconds: float, sabotage: Sabotage) -> Result:
    """Make so many purchases on this database within so many seconds, and reckon up. The parts have ended then.

    A part of the time is kept back for coming to rest.
    """
    last = time.monotonic() + seconds
    ends = last - min(seconds / 3, 15 + count * 0.025)
    api = plan.APIS[stage.issuer]
    run = Run(stage, plan.purchases(stage.seed, count, api), plan.events(stage.seed, count, api), ends, sabotage)
    try:
        stage.set_up()
        run.make_purchases()
        run.come_to_rest(last)
    finally:
        stage.end()
    bank = books.bank_books(stage.bank_file)
    engine = create_engine(stage.url)
    shop = books.shop_books(engine)
    engine.dispose()
    found = audit.differences(bank, shop, count, acknowledges=api.acknowledges, fees=api.fees)
    while not run.surprises.empty():
        found.append(run.surprises.get())
    found = list(dict.fromkeys(found))
    return Result(
        database=database,
        purchases=audit.purchases_made(bank, shop),
        faults=dict(stage.struck),
        kills={name: part.kills for name, part in stage.parts.items()},
        reviews=len(shop.reviews),
        differences=found,
    )
