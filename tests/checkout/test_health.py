"""Health: what is wrong, worked out from the shop's own tables, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from sqlalchemy import Engine
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import SqlStore
from deposit_token_sdk.checkout.health import (
    ANSWERED_WITHIN,
    SEALED_WITHIN,
    SENT_WITHIN,
    SWEPT_WITHIN,
    WEBHOOK_WITHIN,
    Health,
    LastEvent,
    look,
    problems,
)
from deposit_token_sdk.checkout.store import MOVED, TESTED, Decision, Outgoing, Review, Tx, Verb, Verdict
from deposit_token_sdk.testing.values import NOON, a_message, an_attempt, an_intent
from tests.checkout.kit import Shop, attempt_of, later
from tests.databases import ON_BOTH

MINUTE = timedelta(minutes=1)


def reasons(health: Health) -> list[str]:
    return [problem.reason for problem in health.problems]


# -- what is a problem: pure -------------------------------------------------------------------------------------


def test_a_shop_in_which_nothing_waits_has_no_problem() -> None:
    assert problems(Health(NOON)) == ()


@pytest.mark.parametrize(
    ("figure", "limit", "reason"),
    [
        ("oldest_intent", ANSWERED_WITHIN, "intents_unanswered"),
        ("oldest_due", SWEPT_WITHIN, "sweep_behind"),
        ("oldest_outgoing", SENT_WITHIN, "outbox_behind"),
        ("oldest_unsealed", SEALED_WITHIN, "evidence_unsealed"),
    ],
)
def test_work_that_waits_longer_than_its_limit_is_a_problem_and_until_then_is_none(
    figure: str, limit: timedelta, reason: str
) -> None:
    fresh: dict[str, Any] = {figure: NOON - limit}
    stale: dict[str, Any] = {figure: NOON - limit - timedelta(seconds=1)}
    assert problems(Health(NOON, **fresh)) == ()
    assert reasons(Health(NOON, **stale)) == [reason]


@pytest.mark.parametrize(
    ("figures", "reason", "told"),
    [
        ({"open_reviews": 1, "oldest_review": NOON - 3 * 60 * MINUTE}, "reviews_open", "1 review waits for a decision"),
        ({"open_reviews": 2, "oldest_review": NOON}, "reviews_open", "2 reviews wait for a decision"),
        ({"dead_letters": 1}, "dead_letters", "1 message of the outbox"),
        ({"unheard": ("r1", "r2", "r3", "r4")}, "webhooks_missing", "4 invoices moved in the last day"),
    ],
)
def test_what_waits_for_a_person_is_a_problem_at_once(figures: dict[str, Any], reason: str, told: str) -> None:
    (problem,) = problems(Health(NOON, **figures))
    assert problem.reason == reason
    assert told in problem.detail
    assert "deposit-token" in problem.advice


def test_missing_webhooks_are_told_with_when_the_last_one_came() -> None:
    last = (LastEvent("first-bank", NOON - timedelta(days=3)), LastEvent("second-bank", None))
    (problem,) = problems(Health(NOON, last, unheard=("r1",)))
    assert "1 invoice moved" in problem.detail
    assert "first-bank: 3 days ago; second-bank: none ever" in problem.detail


@pytest.mark.parametrize(
    ("age", "told"),
    [(timedelta(0), "a moment"), (MINUTE, "1 minute"), (119 * MINUTE, "1 hour"), (timedelta(days=2), "2 days")],
)
def test_an_age_is_told_in_the_largest_unit_that_fits(age: timedelta, told: str) -> None:
    (problem,) = problems(Health(NOON, open_reviews=1, oldest_review=NOON - age))
    assert problem.detail.endswith(f"the oldest for {told}.")


# -- where the figures come from ---------------------------------------------------------------------------------


class World:
    def __init__(self, database: Engine) -> None:
        self.store = SqlStore(sessionmaker(database))

    def write(self, *steps: Callable[[Tx], object]) -> None:
        with self.store.begin() as tx:
            for step in steps:
                step(tx)

    def message(self, key: str, reference: str, at: datetime, outcome: str = "applied:applied") -> None:
        message = evolve(a_message(key), reference=reference, received_at=at)
        self.write(lambda tx: tx.claim(message), lambda tx: tx.record(message.issuer, message.key, outcome))

    def look(self, at: datetime = NOON) -> Health:
        return look(self.store, ["sandbox", "other-bank"], at)


@pytest.fixture
def world(database: Engine) -> World:
    return World(database)


LONG_AGO = NOON - timedelta(hours=3)


@ON_BOTH
def test_each_figure_is_read_from_the_tables(world: World) -> None:
    review = Review("A-1", "r1", "late", "hold", "", LONG_AGO)
    seen_to = Review("A-1", "r1", "conflict", "mv-1", "", LONG_AGO - MINUTE)
    world.write(
        lambda tx: tx.add_attempt(an_attempt(created_at=LONG_AGO)),
        lambda tx: tx.add_intent(an_intent(made_at=LONG_AGO)),
        lambda tx: tx.add_intent(an_intent(Verb.CANCEL, made_at=LONG_AGO - MINUTE)),
        lambda tx: tx.answer_intent(Verb.CANCEL, "r1", "cancelled"),
        lambda tx: tx.open_review(seen_to),
        lambda tx: tx.open_review(review),
        lambda tx: tx.put(Outgoing("k-1", "mail", "{}", "A-1", LONG_AGO, LONG_AGO)),
        lambda tx: tx.put(Outgoing("k-2", "mail", "{}", "A-1", LONG_AGO, LONG_AGO)),
        lambda tx: tx.bury("k-2", NOON, "no mail server"),
        lambda tx: tx.watch("r1", LONG_AGO),
    )
    first = world.store.reviews()[0].number
    world.write(lambda tx: tx.decide(Decision(first, Verdict.ACCEPT, "anna", "", NOON)))
    health = world.look()
    assert (health.open_intents, health.oldest_intent) == (1, LONG_AGO)
    assert (health.open_reviews, health.oldest_review) == (1, LONG_AGO)
    assert (health.outgoing, health.oldest_outgoing, health.dead_letters) == (1, LONG_AGO, 1)
    assert health.oldest_due == LONG_AGO
    assert health.unsealed > 0
    assert reasons(health)[:3] == ["reviews_open", "dead_letters", "intents_unanswered"]


@ON_BOTH
def test_the_last_webhook_of_each_bank_is_known_and_what_was_asked_for_is_none(world: World) -> None:
    world.message("ev-1", "r1", LONG_AGO)
    world.message("ev-2", "r1", LONG_AGO + MINUTE)
    world.message("poll:r1:digest", "r1", NOON, MOVED)
    assert world.look().last_events == (LastEvent("sandbox", LONG_AGO + MINUTE), LastEvent("other-bank", None))
    world.message("ev-3", "", NOON, TESTED)
    assert world.look().last_events[0] == LastEvent("sandbox", NOON, test=True)


@ON_BOTH
def test_an_invoice_moved_unheard_if_asking_told_of_it_and_no_webhook_did(world: World) -> None:
    world.message("poll:r1:d", "r1", LONG_AGO, MOVED)
    world.message("poll:r2:d", "r2", LONG_AGO, MOVED)
    world.message("ev-1", "r2", NOON)
    world.message("poll:r3:d", "r3", LONG_AGO)
    world.message("poll:r4:d", "r4", NOON - WEBHOOK_WITHIN + MINUTE, MOVED)
    world.message("poll:r5:d", "r5", NOON - timedelta(days=2), MOVED)
    assert world.look().unheard == ("r1",)


def test_a_shop_whose_webhooks_arrive_has_heard_of_every_move(shop: Shop) -> None:
    attempt = shop.buy()
    shop.checkout.refresh("A-1")
    shop.checkout.reconcile()
    health = look(shop.checkout.store, [attempt.issuer], later(hours=1)())
    assert health.unheard == ()
    assert health.last_events[0].at is not None


def test_a_test_event_that_the_bank_was_asked_for_is_told_apart(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.send_test_event(shop.webhook_url, shop.merchant)
    (last,) = look(shop.checkout.store, [attempt.issuer], later()()).last_events
    assert last.test
    shop.bank.control.decline(attempt.reference)
    shop.until(lambda: attempt_of(shop, attempt.reference).ended is not None)
    (last,) = look(shop.checkout.store, [attempt.issuer], later()()).last_events
    assert not last.test


def test_a_shop_whose_webhooks_are_lost_is_told_so_once_it_learns_of_money_by_asking(shop: Shop) -> None:
    shop.lose_webhooks()
    attempt = shop.start()
    shop.checkout.refresh("A-1")
    shop.bank.control.pay(attempt.reference)
    shop.checkout.refresh("A-1")
    assert shop.checkout.health().unheard == ()
    late = shop.restarted(now=later(hours=1)).health()
    assert late.unheard == (attempt.reference,)
    assert "webhooks_missing" in reasons(late)
