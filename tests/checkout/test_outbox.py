"""The outbox: in the shop's transaction, at least once, under a key that stays, and never lost from sight."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, insert, select
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from deposit_token_sdk import InvalidInput, InvalidType, Paid, SqlStore
from deposit_token_sdk.checkout.health import SENT_WITHIN, look
from deposit_token_sdk.checkout.outbox import LEASE, TRIES, WITHOUT_HANDLER, Delivered, Outbox, next_try, pause
from deposit_token_sdk.checkout.store import Outgoing
from deposit_token_sdk.testing.values import NOON
from tests.checkout.kit import SHOP, Shop, again, at_once, fulfilments
from tests.databases import ON_BOTH


class Clock:
    """A time that is set, so that no test waits."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


class World:
    """An outbox over a database of its own, and what its handler was given."""

    def __init__(self, sessions: Any) -> None:
        self.sessions = sessions
        self.store = SqlStore(sessions)
        self.clock = Clock()
        self.outbox = Outbox(self.store, self.clock)
        self.given: list[Outgoing] = []

    def put(self, key: str = "k-1", **payload: Any) -> bool:
        with self.sessions() as session, session.begin():
            return self.outbox.put(session, "mail", payload or {"to": "buyer"}, order_id="A-1", key=key)

    def handled_by(self, send: Callable[[Outgoing], object], **more: Any) -> None:
        def handler(message: Outgoing) -> None:
            self.given.append(message)
            send(message)

        self.outbox.handler("mail", **more)(handler)

    def later(self, by: timedelta) -> None:
        self.clock.now += by

    @property
    def depth(self) -> tuple[int, datetime | None, int]:
        return self.store.outgoing_depth()


@pytest.fixture
def world(database: Engine) -> World:
    SHOP.create_all(database)
    return World(sessionmaker(database))


def fail(_: Outgoing) -> None:
    raise RuntimeError("no mail server")


# -- when it is tried again: pure --------------------------------------------------------------------------------


def test_the_pauses_double_from_half_a_minute_up_to_six_hours() -> None:
    assert [pause(tries).total_seconds() for tries in (1, 2, 3, 4)] == [30, 60, 120, 240]
    assert pause(11) == pause(10_000) == timedelta(hours=6)


def test_all_tries_together_outlive_a_night_and_then_a_person_is_asked() -> None:
    waits = [next_try(tries, TRIES, NOON) for tries in range(1, TRIES + 1)]
    assert waits[-1] is None
    assert sum(((at - NOON) for at in waits if at is not None), timedelta()) > timedelta(hours=12)
    assert next_try(1, 1, NOON) is None


# -- put ---------------------------------------------------------------------------------------------------------


@ON_BOTH
def test_what_a_hook_puts_goes_out_if_the_order_is_marked_paid_and_not_if_that_is_undone(shop: Shop) -> None:
    shop.lose_webhooks()
    troubles = [RuntimeError()]
    sent: list[str] = []

    @shop.checkout.on_paid
    def fulfil(paid: Paid, session: Session) -> None:
        session.execute(insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference))
        shop.checkout.outbox.put(session, "receipt", {"units": str(paid.received)}, order_id=paid.order_id)
        if troubles:
            raise troubles.pop()

    @shop.checkout.outbox.handler("receipt")
    def send(message: Outgoing) -> None:
        sent.append(json.loads(message.payload)["units"])

    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.checkout.refresh("A-1")
    assert shop.checkout.outbox.deliver() == Delivered(0, 0, 0)
    shop.checkout.refresh("A-1")
    assert shop.checkout.outbox.deliver() == Delivered(1, 0, 0)
    assert shop.checkout.outbox.deliver() == Delivered(0, 0, 0)
    assert sent == [str(shop.bank_received(attempt.reference))]


def test_the_shops_own_transaction_carries_a_message_as_a_hook_does(world: World) -> None:
    world.handled_by(lambda _: None)
    with world.sessions() as session:
        assert world.outbox.put(session, "mail", {}, order_id="A-1")
        session.rollback()
    assert world.depth == (0, None, 0)
    assert world.put()
    assert world.outbox.deliver() == Delivered(1, 0, 0)


def test_a_key_is_put_once_also_after_it_went_out_and_without_one_each_is_its_own(world: World) -> None:
    world.handled_by(lambda _: None)
    assert world.put("receipt:A-1")
    assert not world.put("receipt:A-1")
    world.outbox.deliver()
    assert not world.put("receipt:A-1")
    for _ in range(2):
        with world.sessions() as session, session.begin():
            assert world.outbox.put(session, "mail", {}, order_id="A-1")
    assert world.outbox.deliver() == Delivered(2, 0, 0)
    assert len({message.key for message in world.given}) == 3


@pytest.mark.parametrize("payload", [{"amount": 1.5}, {"at": NOON}, {1: "x"}, {"deep": [{"x": {0.1}}]}], ids=str)
def test_a_payload_that_json_cannot_say_exactly_is_refused(world: World, payload: Any) -> None:
    with world.sessions() as session, session.begin(), pytest.raises(InvalidType) as refused:
        world.outbox.put(session, "mail", payload, order_id="A-1")
    assert refused.value.reason == "json_type"
    assert world.depth == (0, None, 0)


@pytest.mark.parametrize("wrong", [{"topic": ""}, {"key": ""}], ids=str)
def test_a_message_without_a_topic_or_with_an_empty_key_is_refused(world: World, wrong: dict[str, str]) -> None:
    given = {"topic": "mail", "key": "k-1", **wrong}
    with world.sessions() as session, session.begin(), pytest.raises(InvalidInput):
        world.outbox.put(session, given["topic"], {}, order_id="A-1", key=given["key"])


def test_a_payload_reaches_its_handler_as_it_was_put(world: World) -> None:
    world.handled_by(lambda _: None)
    world.put(to="Zoë", units="141", lines=[{"pieces": 2}, None, True])
    world.outbox.deliver()
    (message,) = world.given
    assert json.loads(message.payload) == {"to": "Zoë", "units": "141", "lines": [{"pieces": 2}, None, True]}
    assert (message.topic, message.order_id, message.key, message.tries) == ("mail", "A-1", "k-1", 1)


# -- failing -----------------------------------------------------------------------------------------------------


@ON_BOTH
def test_what_fails_is_tried_again_under_the_same_key_after_a_pause_that_grows_until_it_is_dead(world: World) -> None:
    world.handled_by(fail, tries=3)
    world.put()
    for number in (1, 2):
        assert world.outbox.deliver() == Delivered(0, 1, 0)
        assert world.outbox.deliver() == Delivered(0, 0, 0)
        world.later(pause(number) - timedelta(seconds=1))
        assert world.outbox.deliver() == Delivered(0, 0, 0)
        world.later(timedelta(seconds=1))
    assert world.outbox.deliver() == Delivered(0, 0, 1)
    world.later(timedelta(days=30))
    assert world.outbox.deliver() == Delivered(0, 0, 0)
    (dead,) = world.outbox.dead()
    assert (dead.key, dead.tries, dead.error) == ("k-1", 3, "RuntimeError: no mail server")
    assert [message.key for message in world.given] == ["k-1"] * 3
    assert world.depth == (0, None, 1)


def test_a_dead_letter_that_is_sent_again_has_all_its_tries_anew(world: World) -> None:
    world.handled_by(fail, tries=2)
    world.put()
    for _ in range(2):
        world.outbox.deliver()
        world.later(pause(1))
    assert world.outbox.send_again("k-1")
    assert not world.outbox.send_again("k-1")
    assert not world.outbox.send_again("no such key")
    assert world.outbox.deliver() == Delivered(0, 1, 0)
    world.handled_by(lambda _: None)
    world.later(pause(1))
    assert world.outbox.deliver() == Delivered(1, 0, 0)
    assert world.outbox.dead() == ()


def test_one_that_fails_does_not_keep_back_the_others(world: World) -> None:
    def send(message: Outgoing) -> None:
        if message.key == "k-2":
            fail(message)

    world.handled_by(send)
    for number in range(4):
        world.put(f"k-{number}")
    assert world.outbox.deliver() == Delivered(3, 1, 0)


def test_a_batch_is_no_larger_than_asked_for(world: World) -> None:
    world.handled_by(lambda _: None)
    for number in range(5):
        world.put(f"k-{number}")
    assert world.outbox.deliver(limit=2) == Delivered(2, 0, 0)
    assert world.depth[0] == 3


def test_a_topic_that_nobody_handles_waits_for_its_handler_however_long(world: World) -> None:
    world.put()
    for _ in range(5 * TRIES):
        assert world.outbox.deliver() == Delivered(0, 0, 0)
        world.later(timedelta(minutes=5))
    assert world.depth == (1, NOON, 0)
    world.handled_by(fail, tries=2)
    assert world.outbox.deliver() == Delivered(0, 1, 0)
    world.handled_by(lambda _: None)
    world.later(pause(1))
    assert world.outbox.deliver() == Delivered(1, 0, 0)
    assert [message.error for message in world.given] == [None, "RuntimeError: no mail server"]


@ON_BOTH
def test_a_process_without_the_handler_neither_holds_a_message_up_nor_touches_its_tries(world: World) -> None:
    """Else two releases side by side would try it for ever, and no person would ever be shown it."""
    elsewhere = Outbox(world.store, world.clock)
    elsewhere.handler("parcel")(fail)
    world.handled_by(fail, tries=3)
    world.put()
    outcomes = []
    for number in range(1, 4):
        assert elsewhere.deliver() == Delivered(0, 0, 0)
        outcomes.append(world.outbox.deliver())
        assert elsewhere.deliver() == Delivered(0, 0, 0)
        world.later(pause(number))
    assert outcomes == [Delivered(0, 1, 0), Delivered(0, 1, 0), Delivered(0, 0, 1)]
    assert [message.tries for message in world.given] == [1, 2, 3]
    (dead,) = world.outbox.dead()
    assert dead.error == "RuntimeError: no mail server"


def test_what_nobody_handles_does_not_keep_back_what_somebody_does(world: World) -> None:
    world.put("k-1")
    with world.sessions() as session, session.begin():
        world.outbox.put(session, "parcel", {}, order_id="A-1", key="k-2")
    sent: list[str] = []
    world.outbox.handler("parcel")(lambda message: sent.append(message.key))
    assert world.outbox.deliver(limit=1) == Delivered(1, 0, 0)
    assert sent == ["k-2"]
    assert world.depth == (1, NOON, 0)


def test_that_nobody_handles_a_topic_is_said_in_the_log_once_in_a_while_and_is_a_problem_of_the_shops_health(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.handled_by(fail)
    with world.sessions() as session, session.begin():
        world.outbox.put(session, "parcel", {}, order_id="A-1", key="k-1")
    said: list[int] = []
    for _ in range(4):
        world.outbox.deliver()
        said.append(sum("'parcel'" in record.getMessage() for record in caplog.records))
        world.later(WITHOUT_HANDLER / 2)
    assert said == [0, 0, 1, 1]
    assert look(world.store, (), NOON + SENT_WITHIN).problems == ()
    (problem,) = look(world.store, (), NOON + SENT_WITHIN + timedelta(seconds=1)).problems
    assert problem.reason == "outbox_behind"
    assert "parcel" in problem.detail
    assert "handler" in problem.advice


class Killed(BaseException):
    """The process ends here."""


def kill(_: Outgoing) -> None:
    raise Killed


@ON_BOTH
def test_a_worker_that_is_killed_while_sending_leaves_the_message_to_the_next_under_the_same_key(world: World) -> None:
    world.handled_by(kill)
    world.put()
    with pytest.raises(Killed):
        world.outbox.deliver()
    world.handled_by(lambda _: None)
    assert world.outbox.deliver() == Delivered(0, 0, 0)
    world.later(LEASE)
    assert world.outbox.deliver() == Delivered(1, 0, 0)
    assert [message.key for message in world.given] == ["k-1", "k-1"]


def test_a_message_that_kills_every_worker_ends_as_a_dead_letter(world: World) -> None:
    world.handled_by(kill, tries=2)
    world.put()
    for _ in range(2):
        with pytest.raises(Killed):
            world.outbox.deliver()
        world.later(LEASE)
    assert world.outbox.deliver() == Delivered(0, 0, 1)
    (dead,) = world.outbox.dead()
    assert "the process ended" in str(dead.error)


@ON_BOTH
def test_of_many_workers_at_once_each_message_is_sent_by_one(world: World) -> None:
    world.handled_by(lambda _: None)
    for number in range(20):
        world.put(f"k-{number}")
    assert at_once(*[world.outbox.deliver] * 8) == [None] * 8
    assert sorted(message.key for message in world.given) == sorted(f"k-{number}" for number in range(20))


# -- the shop's own session --------------------------------------------------------------------------------------


@pytest.fixture
def shared(database: Engine) -> Iterator[World]:
    """A shop whose code shares one session with the checkout in each thread, as Flask-SQLAlchemy's does."""
    SHOP.create_all(database)
    registry = scoped_session(sessionmaker(database))
    yield World(registry)
    registry.remove()


def row(key: str) -> Any:
    return insert(fulfilments).values(order_id=key, reference="by the handler")


def rows(world: World) -> list[str]:
    with sessionmaker(world.sessions.get_bind())() as session:
        return list(session.scalars(select(fulfilments.c.order_id)))


def put(world: World, key: str = "k-1") -> None:
    world.outbox.put(world.sessions, "mail", {}, order_id="A-1", key=key)
    world.sessions.commit()


@ON_BOTH
def test_a_handler_runs_in_no_transaction_and_commits_its_own_work(shared: World) -> None:
    def send(message: Outgoing) -> None:
        assert not shared.sessions().in_transaction()
        shared.sessions.execute(row(message.key))
        shared.sessions.commit()

    shared.handled_by(send)
    put(shared)
    assert shared.outbox.deliver() == Delivered(1, 0, 0)
    assert rows(shared) == ["k-1"]


@ON_BOTH
@pytest.mark.parametrize("raises", [True, False], ids=["and raises", "and returns"])
def test_what_a_handler_writes_and_does_not_commit_is_undone_and_the_message_tried_again(
    shared: World, raises: bool
) -> None:
    def send(message: Outgoing) -> None:
        shared.sessions.execute(row(message.key))
        if raises:
            fail(message)

    shared.handled_by(send)
    put(shared)
    put(shared, "k-2")
    assert shared.outbox.deliver() == Delivered(0, 2, 0)
    shared.sessions.rollback()
    assert rows(shared) == []
    shared.handled_by(lambda _: None)
    shared.later(pause(1))
    assert shared.outbox.deliver() == Delivered(2, 0, 0)
    told = "no mail server" if raises else "must commit them"
    assert all(told in str(message.error) for message in shared.given[-2:])


def test_a_handler_that_only_reads_is_done(shared: World) -> None:
    shared.handled_by(lambda _: shared.sessions.execute(select(fulfilments)).all())
    put(shared)
    assert shared.outbox.deliver() == Delivered(1, 0, 0)


def test_the_checkout_made_anew_sends_what_its_forerunner_left(shop: Shop) -> None:
    with shop.sessions() as session, session.begin():
        shop.checkout.outbox.put(session, "mail", {}, order_id="A-1", key="k-1")
    anew = again(shop)
    sent: list[str] = []
    anew.outbox.handler("mail")(lambda message: sent.append(message.key))
    assert anew.outbox.deliver() == Delivered(1, 0, 0)
    assert sent == ["k-1"]
