"""The part of the stores' suite that is about what waits: attempts to ask about, work to send out.

`stores.StoreConformance` contains it; nobody needs to subclass anything here.
"""
# ruff: noqa: S101

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from threading import Barrier
from typing import Any, TypeVar

import pytest
from attrs import evolve

from deposit_token_sdk.checkout.store import Store, Tx, Verb
from deposit_token_sdk.lifecycle import RefundStage
from deposit_token_sdk.testing.values import LATER, NOON, a_refund, an_attempt, an_intent, an_outgoing

R = TypeVar("R")

THREADS = 16


def _put_and_fail(tx: Tx) -> None:
    assert tx.put(an_outgoing())
    raise ZeroDivisionError


class StoreFixtures:
    """What the tests are given. A suite overrides `store`, and `around_thread` where needed."""

    @pytest.fixture
    def store(self) -> Store:
        raise NotImplementedError("Override the fixture `store`: a new store on an empty database with its tables.")

    @pytest.fixture
    def around_thread(self) -> Callable[[], AbstractContextManager[Any]]:
        """What each further thread of a test works in."""
        return nullcontext

    @pytest.fixture
    def at_once(self, around_thread: Callable[[], AbstractContextManager[Any]]) -> Callable[..., list[Any]]:
        def run(work: Callable[[int], R]) -> list[R]:
            barrier = Barrier(THREADS, timeout=30)

            def one(number: int) -> R:
                with around_thread():
                    barrier.wait()
                    return work(number)

            with ThreadPoolExecutor(THREADS) as pool:
                return list(pool.map(one, range(THREADS)))

        return run


class QueueConformance(StoreFixtures):
    """What waits is told to one worker, when it is due."""

    # --- what is to be asked about ------------------------------------------------------------------------------

    def test_a_sweep_is_told_what_is_due_the_longest_due_first_and_nobody_else_is_told_it(self, store: Store) -> None:
        made = [NOON + timedelta(seconds=second) for second in range(4)]
        with store.begin() as tx:
            for number in (2, 0, 3, 1):
                tx.add_attempt(an_attempt(f"r{number}", f"A-{number}", created_at=made[number]))
        assert store.take_due(NOON - timedelta(seconds=1), LATER, 10) == ()
        assert store.take_due(made[2], LATER, 2) == ("r0", "r1")
        assert store.take_due(made[2], LATER, 10) == ("r2",)
        assert store.take_due(made[2], LATER, 10) == ()
        assert store.take_due(LATER, LATER, 10) == ("r3", "r2", "r0", "r1")

    def test_an_attempt_is_due_when_it_is_said_to_be_and_no_more_if_that_is_said(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt("r1"))
            tx.add_attempt(an_attempt("r2", "A-2"))
            tx.watch("r1", LATER)
            tx.watch("r2", None)
        assert store.take_due(LATER - timedelta(microseconds=1), LATER, 10) == ()
        assert store.take_due(LATER, LATER, 10) == ("r1",)

    @pytest.mark.parametrize("opened", ["intent", "renewed intent", "refund", "unfinished refund"])
    def test_what_is_open_at_the_bank_makes_its_attempt_due(self, store: Store, opened: str) -> None:
        refund = a_refund(created_at=LATER, stage=RefundStage.FAILED)
        with store.begin() as tx:
            tx.add_attempt(an_attempt(ended="paid"))
            if opened == "renewed intent":
                tx.add_intent(an_intent(Verb.CANCEL))
            if opened == "unfinished refund":
                tx.add_refund(refund)
            tx.watch("r1", None)
        assert store.take_due(LATER, LATER, 10) == ()
        with store.begin() as tx:
            match opened:
                case "intent":
                    tx.add_intent(an_intent(Verb.CANCEL, made_at=LATER))
                case "renewed intent":
                    tx.renew_intent(an_intent(Verb.CANCEL, made_at=LATER))
                case "refund":
                    tx.add_refund(refund)
                case _:
                    tx.save_refund(refund.reference, RefundStage.DONE, None)
                    tx.save_refund(refund.reference, RefundStage.PENDING, None)
        assert store.take_due(LATER - timedelta(seconds=1), LATER, 10) == ()
        assert store.take_due(LATER, LATER, 10) == ("r1",)

    def test_an_unfinished_refund_does_not_put_off_an_attempt_that_is_due(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.add_refund(a_refund())
            tx.watch("r1", NOON - timedelta(hours=1))
            tx.save_refund("f1", RefundStage.PENDING, "bank-1")
        assert store.take_due(NOON - timedelta(hours=1), LATER, 10) == ("r1",)

    def test_of_many_workers_no_two_are_told_the_same_attempt(
        self, store: Store, at_once: Callable[..., list[Any]]
    ) -> None:
        with store.begin() as tx:
            for number in range(50):
                tx.add_attempt(an_attempt(f"r{number}", f"A-{number}"))

        def sweep(_: int) -> list[str]:
            told: list[str] = []
            while batch := store.take_due(NOON, LATER, 3):
                told.extend(batch)
            return told

        told = [reference for batch in at_once(sweep) for reference in batch]
        assert sorted(told) == sorted(f"r{number}" for number in range(50))

    # --- what goes out ------------------------------------------------------------------------------------------

    def test_what_is_to_go_out_is_put_once_and_taken_when_it_is_due_with_one_try_more(self, store: Store) -> None:
        message = an_outgoing(due_at=LATER)
        with store.begin() as tx:
            assert tx.put(message)
            assert not tx.put(evolve(message, payload="{}"))
        later, latest = LATER + timedelta(minutes=1), LATER + timedelta(minutes=2)
        assert store.take_outgoing(LATER - timedelta(microseconds=1), later, 10) == ()
        assert store.take_outgoing(LATER, later, 10) == (evolve(message, tries=1, due_at=later),)
        assert store.take_outgoing(LATER, later, 10) == ()
        assert store.take_outgoing(later, latest, 10) == (evolve(message, tries=2, due_at=latest),)

    def test_what_is_rolled_back_never_goes_out(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.begin() as tx:
            _put_and_fail(tx)
        assert store.take_outgoing(LATER, LATER, 10) == ()
        with store.begin() as tx:
            assert tx.put(an_outgoing())

    def test_the_longest_due_goes_out_first_and_no_more_than_asked_for(self, store: Store) -> None:
        with store.begin() as tx:
            for number in (2, 0, 1):
                tx.put(an_outgoing(f"k{number}", due_at=NOON + timedelta(seconds=number)))
        taken = store.take_outgoing(LATER, LATER + timedelta(hours=1), 2)
        assert [message.key for message in taken] == ["k0", "k1"]

    def test_what_was_sent_is_taken_no_more_and_stays_sent(self, store: Store) -> None:
        with store.begin() as tx:
            tx.put(an_outgoing())
            tx.sent("k1", LATER)
            tx.put_off("k1", NOON, "too late")
            tx.bury("k1", NOON, "too late")
            assert not tx.revive("k1", NOON)
            assert not tx.put(an_outgoing())
        assert store.take_outgoing(LATER, LATER, 10) == ()
        assert store.dead_letters() == ()
        assert store.outgoing_depth() == (0, None, 0)

    def test_what_failed_is_due_again_when_it_is_said_to_be_and_tells_why(self, store: Store) -> None:
        with store.begin() as tx:
            tx.put(an_outgoing())
        store.take_outgoing(NOON, LATER, 10)
        with store.begin() as tx:
            tx.put_off("k1", LATER + timedelta(hours=1), "the mail server said 451")
        assert store.take_outgoing(LATER, LATER, 10) == ()
        (again,) = store.take_outgoing(LATER + timedelta(hours=1), LATER + timedelta(hours=2), 10)
        assert (again.tries, again.error) == (2, "the mail server said 451")

    def test_what_goes_out_is_taken_by_topic_and_what_is_left_is_as_it_was(self, store: Store) -> None:
        with store.begin() as tx:
            for key, topic in (("k1", "mail"), ("k2", "parcel"), ("k3", "mail")):
                tx.put(evolve(an_outgoing(key), topic=topic))
        assert store.take_outgoing(NOON, LATER, 10, ()) == ()
        assert store.take_outgoing(NOON, LATER, 10, ["parcel "]) == ()
        assert [one.key for one in store.take_outgoing(NOON, LATER, 10, ["parcel", "stamp"])] == ["k2"]
        assert store.outgoing_depth() == (3, NOON, 0)
        left = store.take_outgoing(NOON, LATER, 10, ["mail"])
        assert [(one.key, one.tries) for one in left] == [("k1", 1), ("k3", 1)]

    def test_the_topics_of_what_is_overdue_are_told(self, store: Store) -> None:
        with store.begin() as tx:
            for key, topic, due_at in (
                ("k1", "parcel", NOON),
                ("k2", "mail", NOON),
                ("k3", "mail", NOON),
                ("k4", "stamp", LATER),
                ("k5", "sent", NOON),
                ("k6", "dead", NOON),
            ):
                tx.put(evolve(an_outgoing(key, due_at=due_at), topic=topic))
            tx.sent("k5", NOON)
            tx.bury("k6", NOON, "refused")
        assert store.overdue_topics(NOON - timedelta(microseconds=1)) == ()
        assert store.overdue_topics(NOON) == ("mail", "parcel")

    def test_where_nothing_was_left_behind_there_is_nothing_to_abandon(self, store: Store) -> None:
        with store.begin() as tx:
            tx.put(an_outgoing())
        store.abandon()
        assert store.outgoing_depth() == (1, NOON, 0)

    def test_the_dead_are_shown_and_tried_again_only_when_a_person_says_so(self, store: Store) -> None:
        with store.begin() as tx:
            tx.put(an_outgoing("k1"))
            tx.put(an_outgoing("k2"))
        store.take_outgoing(NOON, LATER, 10)
        with store.begin() as tx:
            tx.bury("k2", NOON, "no such address")
            tx.bury("k1", LATER, "refused")
            tx.put_off("k2", NOON, "a straggler")
        assert [(one.key, one.error, one.dead_at) for one in store.dead_letters()] == [
            ("k2", "no such address", NOON),
            ("k1", "refused", LATER),
        ]
        assert [one.key for one in store.dead_letters(1)] == ["k2"]
        assert store.take_outgoing(LATER + timedelta(days=1), LATER, 10) == ()
        with store.begin() as tx:
            assert tx.revive("k2", LATER)
            assert not tx.revive("k2", LATER)
            assert not tx.revive("unknown", LATER)
        (alive,) = store.take_outgoing(LATER, LATER, 10)
        assert (alive.key, alive.tries, alive.dead_at, alive.error) == ("k2", 1, None, "no such address")

    def test_what_was_sent_after_it_was_given_up_is_no_dead_letter(self, store: Store) -> None:
        with store.begin() as tx:
            tx.put(an_outgoing("k1"))
        store.take_outgoing(NOON, LATER, 1)
        with store.begin() as tx:
            tx.bury("k1", LATER, "taken for abandoned")
        with store.begin() as tx:
            tx.sent("k1", LATER)
        assert store.dead_letters() == ()
        assert store.outgoing_depth() == (0, None, 0)
        with store.begin() as tx:
            assert not tx.revive("k1", LATER)
        assert store.take_outgoing(LATER + timedelta(days=1), LATER, 1) == ()

    def test_the_depth_tells_what_waits_since_when_and_what_is_dead(self, store: Store) -> None:
        assert store.outgoing_depth() == (0, None, 0)
        with store.begin() as tx:
            for key, due_at in (("k1", LATER), ("k2", NOON), ("k3", NOON - timedelta(hours=1))):
                tx.put(an_outgoing(key, due_at=due_at))
            tx.bury("k3", LATER, "refused")
        assert store.outgoing_depth() == (2, NOON, 1)

    def test_of_many_workers_no_two_take_the_same_work(self, store: Store, at_once: Callable[..., list[Any]]) -> None:
        with store.begin() as tx:
            for number in range(50):
                tx.put(an_outgoing(f"k{number}"))

        def deliver(_: int) -> list[str]:
            taken: list[str] = []
            while batch := store.take_outgoing(NOON, LATER, 3):
                taken.extend(message.key for message in batch)
            return taken

        taken = [key for batch in at_once(deliver) for key in batch]
        assert sorted(taken) == sorted(f"k{number}" for number in range(50))

    def test_a_hooks_session_is_put_into_its_own_transaction(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.begin() as tx:
            _put_and_fail(store.within(tx.session))
        with store.begin() as tx:
            assert store.within(tx.session).put(an_outgoing())
        assert store.outgoing_depth() == (1, NOON, 0)
