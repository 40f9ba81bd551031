"""``deposit-token review`` and ``deposit-token outbox``, over a Flask shop with a database of its own."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import SqlStore
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.checkout.store import Decision, Outgoing, Review, Verdict
from deposit_token_sdk.cli.group import group
from deposit_token_sdk.testing.values import NOON, a_quote, an_attempt, paid

SHOP = """
from flask import Flask
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from deposit_token_sdk import Checkout, SqlStore
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.integrations.flask import webhooks

engine = create_engine("sqlite:///shop.sqlite")
prepare_sqlite(engine)
app = Flask("shop")
app.register_blueprint(webhooks(Checkout([], SqlStore(sessionmaker(engine)))))
"""

_numbers = itertools.count(1)


class World:
    """The shop's store, as the test writes to it, and the commands, run where the shop's code is."""

    def __init__(self, module: str) -> None:
        self.engine = create_engine("sqlite:///shop.sqlite")
        prepare_sqlite(self.engine)
        self.store = SqlStore(sessionmaker(self.engine))
        self.module = module

    def run(self, *arguments: str) -> Result:
        done = CliRunner().invoke(group, list(arguments), env={"DEPOSIT_TOKEN_CHECKOUT": f"{self.module}:app"})
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done

    def open(self, reason: str, **more: Any) -> int:
        given = {"order_id": "A-1", "reference": "r1", "subject": "mov-1", "detail": f"What {reason} is.", **more}
        with self.store.begin() as tx:
            tx.open_review(Review(reason=reason, opened_at=NOON, **given))
        return self.store.reviews()[-1].number

    def bury(self, key: str) -> None:
        with self.store.begin() as tx:
            tx.put(Outgoing(key, "mail", '{"to":"Zoë"}', "A-1", NOON, NOON))
            tx.bury(key, NOON + timedelta(hours=1), "SMTPError: no such mailbox")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    module = f"a_shop_{next(_numbers)}"
    (tmp_path / f"{module}.py").write_text(SHOP)
    made = World(module)
    made.store.create_schema()
    yield made
    made.engine.dispose()
    sys.modules[module].engine.dispose()


def late_payment(world: World) -> int:
    """An order that is paid whole, but late: in the tables as the door leaves them."""
    attempt = an_attempt(quote=a_quote(), invoice="i-1", ended="expired")
    with world.store.begin() as tx:
        tx.add_attempt(attempt)
        tx.add_observations("r1", paid())
    return world.open("late", subject="hold")


# -- review ------------------------------------------------------------------------------------------------------


def test_a_shop_without_reviews_is_told_that_nothing_waits(world: World) -> None:
    assert world.run("review").output == "Nothing waits for a decision.\n"
    assert world.run("review", "--check").exit_code == 0


def test_each_open_review_is_listed_with_its_reason_and_what_can_be_decided(world: World) -> None:
    first, second = world.open("second_payment"), world.open("hook_failed")
    told = world.run("review")
    assert told.exit_code == 0
    assert told.output.splitlines() == [
        f"{first}  second_payment  order A-1  2026-11-24T12:00:00Z",
        "   What second_payment is.",
        "   decide: --refund or --accept",
        f"{second}  hook_failed  order A-1  2026-11-24T12:00:00Z",
        "   What hook_failed is.",
        "   decide: --retry",
    ]
    assert world.run("review", "--check").exit_code == 1


def test_reviews_come_as_json_with_the_decisions_made(world: World) -> None:
    number = world.open("conflict")
    with world.store.begin() as tx:
        tx.decide(Decision(number, Verdict.ACCEPT, "anna", "seen to", NOON))
    world.open("not_json", order_id="", reference="")
    found = json.loads(world.run("review", "--all", "--json").output)["reviews"]
    assert [one["reason"] for one in found] == ["conflict", "not_json"]
    assert [one["verdicts"] for one in found] == [["accept", "retry"], ["retry", "accept"]]
    assert found[0]["decision"] == {
        "verdict": "accept",
        "by": "anna",
        "note": "seen to",
        "at": "2026-11-24T12:00:00Z",
        "refund": None,
    }
    assert found[1]["decision"] is None
    assert "decided: accept, by anna" in world.run("review", "--all").output
    assert len(json.loads(world.run("review", "--json").output)["reviews"]) == 1


def test_an_accepted_late_payment_is_told_to_have_paid_the_order(world: World) -> None:
    number = late_payment(world)
    done = world.run("review", str(number), "--accept", "--by", "anna", "--note", "still in stock")
    assert done.exit_code == 0, done.output
    assert done.output == f"Review {number}: accept, by anna. Recorded.\nOrder A-1 is paid now.\n"
    assert world.store.order("A-1").paid_by == "r1"


def test_what_fulfils_nothing_says_so(world: World) -> None:
    number = world.open("refund_unknown")
    done = world.run("review", str(number), "--accept", "--by", "anna")
    assert done.output.splitlines()[1] == "Nothing else was done: no unpaid order is covered by it."
    (decision,) = [decision for _, decision in world.store.all_reviews()]
    assert decision is not None
    assert (decision.verdict, decision.by) == ("accept", "anna")


def test_a_decision_that_is_refused_ends_with_one_and_a_sentence(world: World) -> None:
    number = world.open("conflict")
    refused = world.run("review", str(number), "--refund", "--by", "anna")
    assert refused.exit_code == 1
    assert "choose accept or retry" in refused.output
    world.run("review", str(number), "--accept", "--by", "anna")
    again = world.run("review", str(number), "--accept", "--by", "ben")
    assert again.exit_code == 1
    assert "decided before: accept, by anna" in again.output
    assert world.run("review", "999").exit_code == 1


@pytest.mark.parametrize(
    "arguments", [("1", "--accept"), ("--accept", "--by", "anna"), ("1", "--by", "anna"), ("x",), ("0",)], ids=str
)
def test_half_a_decision_is_a_usage_error(world: World, arguments: tuple[str, ...]) -> None:
    world.run("review")
    assert world.run("review", *arguments).exit_code == 2


# -- outbox ------------------------------------------------------------------------------------------------------


def test_an_empty_outbox_says_so(world: World) -> None:
    assert world.run("outbox").output == "0 waiting; 0 dead\n"
    assert world.run("outbox", "--check").exit_code == 0


def test_dead_letters_are_listed_with_what_their_last_try_said_and_can_be_sent_again(world: World) -> None:
    world.bury("receipt:A-1")
    told = world.run("outbox", "--check")
    assert told.exit_code == 1
    assert told.output.startswith("0 waiting; 1 dead\n\nreceipt:A-1\n  mail of order A-1")
    assert "SMTPError: no such mailbox" in told.output
    assert world.run("outbox", "send-again", "receipt:A-1").output == "receipt:A-1 will be sent again.\n"
    assert world.run("outbox").output.startswith("1 waiting, the first of them due at ")
    again = world.run("outbox", "send-again", "receipt:A-1")
    assert again.exit_code == 1
    assert "is no dead letter" in again.output


def test_all_dead_letters_are_sent_again_at_once(world: World) -> None:
    for number in range(3):
        world.bury(f"k-{number}")
    assert world.run("outbox", "send-again", "--all").exit_code == 0
    assert world.store.outgoing_depth()[0] == 3


def test_the_outbox_comes_as_json_with_payloads(world: World) -> None:
    world.bury("k-1")
    told = json.loads(world.run("outbox", "--json").output)
    assert (told["waiting"], told["oldest_due_at"]) == (0, None)
    (dead,) = told["dead"]
    assert (dead["key"], dead["payload"], dead["dead_at"]) == ("k-1", {"to": "Zoë"}, "2026-11-24T13:00:00Z")


@pytest.mark.parametrize("arguments", [(), ("k-1", "--all")], ids=str)
def test_to_send_again_something_must_be_named(world: World, arguments: tuple[str, ...]) -> None:
    world.run("outbox")
    assert world.run("outbox", "send-again", *arguments).exit_code == 2


@pytest.mark.parametrize("command", ["review", "outbox"])
def test_a_database_without_the_tables_is_a_sentence_and_no_traceback(
    world: World, tmp_path: Path, command: str
) -> None:
    for file in tmp_path.glob("shop.sqlite*"):
        file.unlink()
    done = world.run(command)
    assert done.exit_code == 1
    assert "no such table" in done.output
    assert "create_schema" in done.output


@pytest.mark.parametrize("command", ["review", "outbox"])
def test_without_a_shop_a_command_says_how_to_name_one(command: str) -> None:
    done = CliRunner().invoke(group, [command], env={"DEPOSIT_TOKEN_CHECKOUT": ""})
    assert done.exit_code == 2
    assert "--checkout MODULE:NAME" in done.output
