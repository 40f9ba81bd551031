"""``deposit-token worker`` as a process of its own, over a real shop, bank and database."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections import Counter
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy import text

from deposit_token_sdk.cli.worker import JITTER, LONGEST_PAUSE, pause
from tests.databases import ON_BOTH
from tests.integrations.background import Background
from tests.nursery import Child, ran, running
from tests.waiting import until

SHOP = "tests.integrations.background_shop:checkout"
COMMAND = ("deposit_token_sdk.cli", "worker", "--checkout", SHOP)


def once(work: Background, *options: str) -> subprocess.CompletedProcess[str]:
    return ran(*COMMAND, "--once", "--older-than", "0", *options, environ=work.environ)


def working(work: Background, *options: str) -> AbstractContextManager[Child]:
    return running(*COMMAND, "--older-than", "0", *options, environ=work.environ)


@ON_BOTH
def test_once_sends_finds_and_seals_all_that_is_due_and_ends_well(work: Background) -> None:
    keys = work.put(45)
    work.pay_unheard("A-1")
    ended = once(work)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(
        r"\d\d:\d\d:\d\dZ outbox: sent 45, failed 0, dead 0; sweep: asked 1, had news 1, failed 0; seal: sealed \d+\n",
        ended.stdout,
    )
    assert work.noted() == sorted(keys)
    assert work.paid("A-1")
    assert (work.waiting(), work.unsealed()) == (0, 0)


def test_once_ends_with_1_where_something_failed_and_does_the_rest(work: Background) -> None:
    work.put(1, fails=True)
    fine = work.put(2)
    work.pay_unheard("A-1")
    ended = once(work, "--quiet")
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "outbox: sent 2, failed 1, dead 0" in ended.stderr
    assert work.waiting() == 1
    assert set(fine) <= set(work.noted())
    assert work.paid("A-1")


def test_while_the_bank_is_away_the_outbox_is_sent_all_the_same(work: Background) -> None:
    work.put(1)
    work.pay_unheard("A-1")
    work.bank.control.fault("error_before", count=None)
    ended = once(work)
    assert ended.returncode == 1
    assert re.search(r"outbox: sent 1, .+; sweep: asked 1, had news 0, failed 1 \([a-z_]+\);", ended.stdout)


def test_a_database_in_trouble_is_told_in_a_line_and_the_other_jobs_go_on(work: Background) -> None:
    work.put(1)
    work.pay_unheard("A-1")
    with work.engine.begin() as connection:
        connection.execute(text("ALTER TABLE deposit_token_outgoing RENAME TO mislaid"))
    with working(work, "--every", "0.1") as child:
        until(lambda: work.paid("A-1"))
        trouble = r"\d\d:\d\d:\d\dZ outbox failed: OperationalError: .*no such table"
        until(lambda: re.match(trouble, child.complained()))
        with work.engine.begin() as connection:
            connection.execute(text("ALTER TABLE mislaid RENAME TO deposit_token_outgoing"))
        until(lambda: work.waiting() == 0)
        os.kill(child.pid, signal.SIGTERM)
        assert child.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_ends_at_once_and_well(work: Background, number: signal.Signals) -> None:
    work.put(1)
    with working(work, "--every", "86400") as child:
        until(lambda: work.waiting() == 0)
        assert child.said().startswith(f"working for {SHOP}, every 86400 s\n")
        os.kill(child.pid, number)
        assert child.ended() == 0
        assert child.complained() == ""


def test_a_signal_is_acted_on_after_the_batch_in_hand(work: Background, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    work.put(25, gate=str(gate))
    with working(work) as child:
        until(work.noted)
        os.kill(child.pid, signal.SIGTERM)
        until(lambda: not catches(child, signal.SIGTERM))
        gate.touch()
        assert child.ended() == 0
    assert len(work.noted()) == 20
    assert work.waiting() == 5


def test_a_second_signal_ends_it_at_once_and_the_next_worker_does_what_was_cut_off(
    work: Background, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    keys = work.put(2, gate=str(gate))
    with working(work) as child:
        until(work.noted)
        os.kill(child.pid, signal.SIGTERM)
        until(lambda: not catches(child, signal.SIGTERM))
        os.kill(child.pid, signal.SIGTERM)
        assert child.ended() == -signal.SIGTERM
    gate.touch()
    assert work.waiting() == 2
    with work.engine.begin() as connection:  # the claim of the one in hand has run out
        connection.execute(text("UPDATE deposit_token_outgoing SET due_at = made_at"))
    assert once(work).returncode == 0
    assert (work.waiting(), set(work.noted())) == (0, set(keys))


@ON_BOTH
def test_workers_side_by_side_send_each_message_once(work: Background) -> None:
    keys = work.put(30)
    with (
        running(*COMMAND, "--once", "--quiet", environ=work.environ) as one,
        running(*COMMAND, "--once", "--quiet", environ=work.environ) as other,
    ):
        assert [(worker.ended(), worker.complained()) for worker in (one, other)] == [(0, "")] * 2
    assert Counter(work.noted()) == Counter(keys)


def test_without_a_shop_it_says_what_it_needs(work: Background) -> None:
    ended = ran(*COMMAND[:2], environ=work.environ)
    assert ended.returncode == 2
    assert "--checkout MODULE:NAME" in ended.stderr


def test_pauses_grow_with_failures_up_to_a_minute_and_never_keep_step() -> None:
    assert [pause(5, failures, 0) for failures in (0, 1, 2, 3, 4, 1_000)] == [
        5,
        10,
        20,
        40,
        LONGEST_PAUSE,
        LONGEST_PAUSE,
    ]
    assert pause(300, 3, 0) == 300
    assert pause(5, 0, 1) == 5 * (1 + JITTER)


def catches(child: Child, number: int) -> bool:
    """Whether it has a handler for the signal, by what the kernel says."""
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    found = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    assert found
    return bool(int(found[1], 16) >> (number - 1) & 1)
