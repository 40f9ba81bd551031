"""The tasks in Celery: real workers over a real Redis, each task in batches, on both databases."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery  # type: ignore[import-untyped]  # Celery ships no types

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.integrations import jobs
from deposit_token_sdk.integrations.celery import Tasks, deposit_token_tasks
from deposit_token_sdk.testing.servers import redis
from tests import waiting
from tests.databases import ON_BOTH
from tests.integrations.background import ROOT, Background


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    try:
        running = redis()
        with running as url:
            yield url
    except ConfigurationError as error:
        pytest.skip(str(error))


@pytest.fixture
def app(broker: str) -> Iterator[Celery]:
    """A Celery app here, whose queue is emptied afterwards."""
    app = Celery("shop", broker=broker)
    yield app
    app.control.purge()
    app.close()


def queued(app: Celery) -> int:
    """How many messages wait in the broker."""
    with app.connection_for_read() as connection:
        waiting: int = connection.default_channel.queue_declare("celery").message_count
        return waiting


def tasks_for(app: Celery, work: Background) -> Tasks:
    return deposit_token_tasks(app, lambda: nullcontext(work.checkout), older_than=timedelta(0))


@contextmanager
def worker(work: Background, broker: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A Celery worker of two forked processes."""
    command = [sys.executable, "-m", "celery", "-A", "tests.integrations.background_celery", "worker"]
    quick = ["--concurrency", "2", "--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    environ = work.environ | {"BROKER": broker}
    with (
        log.open("ab") as told,
        subprocess.Popen(
            [*command, *quick], cwd=ROOT, env=environ, stdout=told, stderr=told, start_new_session=True
        ) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def until(condition: Callable[[], object], running: subprocess.Popen[bytes], log: Path) -> None:
    """Until it holds, as long as that process runs."""

    def told() -> str:
        return log.read_text(encoding="utf-8")

    def holds() -> object:
        if condition():
            return True
        assert running.poll() is None, told()
        return False

    waiting.until(holds, 45, told)


@ON_BOTH
def test_workers_that_were_forked_after_the_database_was_used_do_all_three_tasks(
    work: Background, broker: str, app: Celery, tmp_path: Path
) -> None:
    keys = work.put(3 * jobs.OUTBOX_BATCH)
    for number in range(3):
        work.pay_unheard(f"A-{number}")
    tasks, log = tasks_for(app, work), tmp_path / "celery.log"
    with worker(work, broker, log) as running:
        tasks.outbox.delay()
        tasks.sweep.delay(before="2999-01-01T00:00:00+00:00")
        until(lambda: work.waiting() == 0 and all(work.paid(f"A-{number}") for number in range(3)), running, log)
        tasks.seal.delay()
        until(lambda: work.unsealed() == 0, running, log)
    said = log.read_text(encoding="utf-8")
    assert Counter(work.noted()) == Counter(keys)
    assert "ERROR" not in said
    assert "Traceback" not in said
    assert {name for name in ("outbox", "sweep", "seal") if f"Task deposit_token.{name}[" not in said} == set()


def test_a_killed_worker_loses_nothing_and_another_goes_on(
    work: Background, broker: str, app: Celery, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "celery.log"
    keys = work.put(3, gate=str(gate))
    tasks = tasks_for(app, work)
    with worker(work, broker, log) as first:
        tasks.outbox.delay()
        until(work.noted, first, log)
        os.killpg(first.pid, signal.SIGKILL)  # its forked processes too
        first.wait()
    gate.touch()
    assert work.waiting() == 3
    with worker(work, broker, log) as second:
        tasks.outbox.delay()
        until(lambda: work.waiting() == 1, second, log)
    assert set(work.noted()) == set(keys)


def test_a_task_does_one_batch_and_queues_the_next_while_there_is_more(work: Background, app: Celery) -> None:
    tasks = tasks_for(app, work)
    work.put(jobs.OUTBOX_BATCH + 1)
    tasks.outbox()
    assert (work.waiting(), queued(app)) == (1, 1)
    tasks.outbox()
    assert (work.waiting(), queued(app)) == (0, 1)


def test_a_batch_that_got_nowhere_waits_for_the_next_tick(
    work: Background, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = tasks_for(app, work)
    work.put(jobs.OUTBOX_BATCH, fails=True)
    with caplog.at_level(logging.INFO, "deposit_token_sdk.celery"):
        tasks.outbox()
    assert queued(app) == 0
    told = [(one.levelname, one.message) for one in caplog.records if one.name == "deposit_token_sdk.celery"]
    assert told == [("WARNING", f"outbox: sent 0, failed {jobs.OUTBOX_BATCH}, dead 0")]


def test_a_round_without_work_says_nothing(work: Background, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "deposit_token_sdk.celery"):
        for task in (tasks_for(app, work).outbox, tasks_for(app, work).sweep, tasks_for(app, work).seal):
            task()
    assert queued(app) == 0
    assert [one for one in caplog.records if one.name == "deposit_token_sdk.celery"] == []


def test_the_schedule_starts_each_task_in_its_time_and_drops_a_start_that_nobody_took(
    work: Background, app: Celery
) -> None:
    def entry(name: str, seconds: float) -> dict[str, Any]:
        return {"task": f"deposit_token.{name}", "schedule": seconds, "options": {"expires": seconds}}

    tasks = tasks_for(app, work)
    assert tasks.schedule(outbox=1, sweep=30) == {
        "deposit_token.outbox": entry("outbox", 1),
        "deposit_token.sweep": entry("sweep", 30),
        "deposit_token.seal": entry("seal", 10.0),
    }
    assert {task.acks_late for task in (tasks.outbox, tasks.sweep, tasks.seal)} == {True}
    assert set(tasks.schedule()) <= set(app.tasks)
