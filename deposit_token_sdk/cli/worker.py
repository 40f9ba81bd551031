"""``deposit-token worker``: the jobs of the background without Celery, round after round until it is told to stop.

A round sends the outbox, asks the bank about what is due and seals what is new, each in batches until nothing is left.
One job's trouble is no trouble of the others: it is told, and tried again after a pause that grows. A signal is acted
on between two batches, so that no piece of work is cut off; what a kill does cut off, the next worker does. Any number
of workers may run beside each other.
"""

from __future__ import annotations

import random
import select
import signal
import socket
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Final, Self

import click
from attrs import frozen

from deposit_token_sdk.cli.loading import Loaded, checkout_of, checkout_option

if TYPE_CHECKING:
    from deposit_token_sdk.integrations.jobs import Batch

LONGEST_PAUSE: Final = 60.0
"""Seconds between two rounds, at most, however often they failed (unless --every is longer)."""

JITTER: Final = 0.2
"""The share by which a pause may be longer, so that workers do not keep step."""


@click.command("worker")
@checkout_option
@click.option("--once", is_flag=True, help="Do all that is due and end, with 1 if something failed.")
@click.option(
    "--every",
    type=click.FloatRange(0.1),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="From round to round.",
)
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Ask the bank about nothing that began, or was asked, less than this ago.",
)
@click.option("--quiet", is_flag=True, help="Tell nothing but what failed.")
@click.pass_context
def command(context: click.Context, spec: str | None, once: bool, every: float, older_than: float, quiet: bool) -> None:
    """Send the outbox, ask the bank about what is due, and seal the evidence.

    It runs until SIGTERM or Ctrl-C, and ends with 0 after the batch in hand; a second signal ends it at once. On a
    terminal each round is told, elsewhere each that did something.
    """
    shop, age = checkout_of(spec), timedelta(seconds=older_than)
    with Stop() as stop:
        if once:
            done = work_once(shop, stop, age)
            tell(done, quiet=quiet, idle=True)
            context.exit(1 if any(one.failed for one in done) else 0)
        if not quiet:
            click.echo(f"working for {shop.name}, every {every:g} s")
        failures = 0
        while not stop.asked:
            done = work_once(shop, stop, age)
            tell(done, quiet=quiet, idle=sys.stdout.isatty())
            failures = failures + 1 if any(one.raised for one in done) else 0
            stop.wait(pause(every, failures, random.random()))  # noqa: S311 - no secret


@frozen
class Done:
    """What one job did in one round: its batches in one, or what it raised."""

    job: str
    batch: Batch | None
    raised: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.raised) or (self.batch is not None and self.batch.failed > 0)


def pause(every: float, failures: int, chance: float) -> float:
    """Seconds to the next round after so many failed ones in a row; `chance` lies between 0 and 1."""
    longest = max(every, LONGEST_PAUSE)
    return min(every * 2.0 ** min(failures, 32), longest) * (1 + JITTER * chance)


def work_once(shop: Loaded, stop: Stop, age: timedelta) -> list[Done]:
    """One round: each job until nothing is left, or a signal has come."""
    from deposit_token_sdk.integrations.jobs import JOBS  # noqa: PLC0415 - what --help does not need is not loaded

    before = datetime.now(UTC) - age
    return [_job(name, shop, stop, before) for name in JOBS if not stop.asked]


def _job(name: str, shop: Loaded, stop: Stop, before: datetime) -> Done:
    from deposit_token_sdk.integrations.jobs import JOBS  # noqa: PLC0415 - as above

    done: Batch | None = None
    try:
        while (done is None or done.more) and not stop.asked:
            with shop.open() as checkout:
                batch = JOBS[name](checkout, before)
            done = batch if done is None else done.then(batch)
    except Exception as error:  # noqa: BLE001  # the database away, say: the other jobs go on, and this one later
        first = (str(error).splitlines() or [""])[0]
        return Done(name, done, f"{type(error).__name__}: {first}")
    return Done(name, done)


def tell(round_: list[Done], *, quiet: bool, idle: bool) -> None:
    """One line for the round, if there is something to tell or it is told when idle; and one for each that raised."""
    for one in round_:
        if one.raised:
            click.echo(f"{_clock()} {one.job} failed: {one.raised}", err=True)
    batches = [(one.job, one.batch) for one in round_ if one.batch is not None]
    line = "; ".join(f"{job}: {batch.told}" for job, batch in batches if idle or not batch.idle)
    if line and (not quiet or any(batch.failed for _, batch in batches)):
        click.echo(f"{_clock()} {line}", err=quiet)


def _clock() -> str:
    return datetime.now(UTC).strftime("%H:%M:%SZ")


class Stop:
    """Notes the signal that asks for the end, and waits for it. A second one has its usual effect: it ends us."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> Self:
        # A signal writes a byte: a wait that looks at the other end cannot miss one that comes just before it.
        self._waking, self._woken = socket.socketpair()
        self._waking.setblocking(False)
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.set_wakeup_fd(-1)
        with closing(self._waking), closing(self._woken):
            _usual()

    def wait(self, seconds: float) -> None:
        """Return when the time is up or a signal has come."""
        if not self.asked:
            select.select([self._woken], [], [], seconds)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        _usual()


def _usual() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
