"""The three jobs of the background, batch by batch, over a real bank and a real database."""

from __future__ import annotations

from datetime import UTC, datetime

from deposit_token_sdk.integrations import jobs
from tests.integrations.background import Background


def test_the_outbox_is_sent_in_batches_until_nothing_is_left(work: Background) -> None:
    keys = work.put(5)
    batches = [jobs.send_outbox(work.checkout, 2) for _ in range(3)]
    assert [(batch.counts["sent"], batch.more) for batch in batches] == [(2, True), (2, True), (1, False)]
    assert work.noted() == keys


def test_what_fails_is_put_off_and_holds_up_nothing(work: Background) -> None:
    failing, fine = work.put(1, fails=True), work.put(2)
    first = jobs.send_outbox(work.checkout, 2)
    assert (first.counts, first.failed, first.more) == ({"sent": 1, "failed": 1, "dead": 0}, 1, True)
    assert jobs.send_outbox(work.checkout, 2).counts["sent"] == 1
    assert work.noted() == sorted(failing + fine)
    assert work.waiting() == 1


def test_an_outbox_of_which_nothing_goes_out_is_left_for_the_next_round(work: Background) -> None:
    work.put(3, fails=True)
    assert not jobs.send_outbox(work.checkout, 2).more


def test_the_batches_of_one_sweep_ask_about_each_attempt_once_and_come_to_an_end(work: Background) -> None:
    orders = [f"A-{number}" for number in range(5)]
    for order in orders:
        work.pay_unheard(order)
    before = datetime.now(UTC)
    batches = [jobs.sweep(work.checkout, before, 2) for _ in range(3)]
    assert [(batch.counts["asked"], batch.more) for batch in batches] == [(2, True), (2, True), (1, False)]
    assert sum(batch.counts["had news"] for batch in batches) == 5
    assert all(work.paid(order) for order in orders)


def test_attempts_that_stay_open_are_asked_about_once_in_a_sweep_too(work: Background) -> None:
    for number in range(3):
        work.start(f"A-{number}")
    before = datetime.now(UTC)
    batches = [jobs.sweep(work.checkout, before, 1) for _ in range(4)]
    assert [batch.counts["asked"] for batch in batches] == [1, 1, 1, 0]


def test_while_the_bank_gives_no_answer_a_sweep_waits_for_the_next_round_and_says_why(work: Background) -> None:
    for number in range(3):
        work.start(f"A-{number}")
    work.bank.control.fault("error_before", count=None)
    batch = jobs.sweep(work.checkout, datetime.now(UTC), 2)
    assert (batch.failed, batch.more) == (2, False)
    assert batch.told.startswith("asked 2, had news 0, failed 2 (")


def test_evidence_is_sealed_in_batches_until_nothing_is_left(work: Background) -> None:
    work.pay_unheard("A-1")
    jobs.sweep(work.checkout, datetime.now(UTC))
    assert work.unsealed() > 1
    assert jobs.seal(work.checkout, 1).more
    while jobs.seal(work.checkout, 1).more:
        pass
    assert work.unsealed() == 0
    nothing = jobs.seal(work.checkout, 1)
    assert (nothing.idle, nothing.told) == (True, "sealed 0")


def test_batches_of_one_job_add_up() -> None:
    first = jobs.Batch({"asked": 2, "failed": 1}, 1, more=True, reasons=frozenset({"unreachable"}))
    both = first.then(jobs.Batch({"asked": 1, "failed": 1}, 1, more=False, reasons=frozenset({"outcome_unknown"})))
    assert (both.told, both.failed, both.more) == ("asked 3, failed 2 (outcome_unknown, unreachable)", 2, False)
