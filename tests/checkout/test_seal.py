"""Sealing runs behind the orders: everything is sealed once, in one chain, and nobody waits for it."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import Engine, text

from deposit_token_sdk import Checkout, Client, RefundStage
from deposit_token_sdk.checkout import archive, proving, sql_seal
from deposit_token_sdk.checkout import seal as sealing
from deposit_token_sdk.checkout.proving import Outside, Worth
from deposit_token_sdk.checkout.seal import Seal
from deposit_token_sdk.checkout.store import Inbox
from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.testing.values import an_attempt, an_outgoing
from tests.checkout.kit import Killed, Shop, refund_of
from tests.checkout.sealed import AT, Keeper, Named, days, environment, seals_of, sizes_of
from tests.databases import ON_BOTH


@pytest.fixture
def keeper(database: Engine) -> Keeper:
    return Keeper(database)


def key_of(keeper: Keeper) -> SigningKey:
    assert keeper.key is not None
    return keeper.key


# -- what is sealed ----------------------------------------------------------------------------------------------


@ON_BOTH
def test_every_row_of_every_table_is_sealed_once_and_proven(keeper: Keeper, tmp_path: Path) -> None:
    keeper.everything()
    report = keeper.proven(tmp_path / "export", keeper.outside)
    assert report.worth is Worth.PROVEN
    assert report.sealed == {"evidence": 4, "fulfilments": 2, "reviews": 1, "decisions": 1, "events": 3}
    assert (report.findings, report.unsealed, report.open, report.confirmations) == ([], {}, [], 4)
    assert sizes_of(seals_of(keeper)) == [5, 6]


@ON_BOTH
def test_where_nothing_is_new_there_is_no_seal(keeper: Keeper) -> None:
    assert keeper.checkout.seal() is None
    keeper.events(1)
    assert keeper.checkout.seal() is not None
    assert keeper.checkout.seal() is None
    assert len(seals_of(keeper)) == 1


@ON_BOTH
def test_a_batch_is_no_larger_than_its_limit_and_the_next_takes_what_is_left(keeper: Keeper) -> None:
    keeper.pay()
    keeper.events(*range(4))
    sizes = [made.size for made in iter(lambda: keeper.checkout.seal(limit=3), None)]
    assert sizes == [3, 3, 1]
    assert keeper.store.seals.waiting() == (0, None)


@ON_BOTH
def test_each_seal_continues_the_one_before_and_counts_on(keeper: Keeper) -> None:
    for number in range(4):
        keeper.events(number)
        keeper.checkout.seal()
    seals = seals_of(keeper)
    heads = [sealing.read_head(seal.head) for seal in seals]
    assert [head.number for head in heads] == [1, 2, 3, 4]
    assert [head.rows for head in heads] == [1, 2, 3, 4]
    assert [head.previous for head in heads] == [None, *(sealing.head_digest(seal.head) for seal in seals[:-1])]
    assert {head.installation for head in heads} == {keeper.store.installation()}


def test_what_waits_is_told_with_the_age_of_the_oldest(keeper: Keeper) -> None:
    keeper.events(1, at=AT)
    keeper.events(2, at=AT - days(2))
    assert keeper.store.seals.waiting() == (2, AT - days(2))


def test_two_equal_rows_have_leaves_that_tell_nothing_of_it(keeper: Keeper) -> None:
    row = sealing.Row("fulfilments", '["A-1"]', {"order_id": "A-1", "reference": "r", "at": "t"})
    leaves = [sealing.leaf_of(row, 1, sealing._new_salt) for _ in range(100)]
    assert len({leaf.hash for leaf in leaves}) == len({leaf.salt for leaf in leaves}) == 100


@ON_BOTH
def test_three_thousand_rows_are_sealed_in_batches_and_proven(keeper: Keeper, tmp_path: Path) -> None:
    keeper.many_events(3_000)
    sizes = [made.size for made in iter(lambda: keeper.checkout.seal(limit=1_000), None)]
    assert sizes == [1_000] * 3
    report = keeper.proven(tmp_path / "export", keeper.outside)
    assert (report.worth, report.sealed) == (Worth.PROVEN, {"events": 3_000})


@ON_BOTH
def test_a_sealer_finds_what_is_new_by_an_index_of_the_new(keeper: Keeper) -> None:
    keeper.many_events(3_000)
    while keeper.checkout.seal():
        pass
    keeper.events(3_000)
    postgresql = keeper.engine.dialect.name == "postgresql"
    with keeper.engine.begin() as connection:
        if postgresql:
            connection.execute(text("ANALYZE deposit_token_events"))
        explain = "EXPLAIN " if postgresql else "EXPLAIN QUERY PLAN "
        question = "SELECT * FROM deposit_token_events WHERE sealed IS NULL LIMIT 1000"
        plan = " ".join(str(row) for row in connection.execute(text(explain + question)))
    assert "ix_deposit_token_events_sealed" in plan


# -- who seals ---------------------------------------------------------------------------------------------------


@ON_BOTH
def test_sealers_at_once_make_one_chain_and_seal_no_row_twice(keeper: Keeper, tmp_path: Path) -> None:
    keeper.events(*range(400))

    def work(_: int) -> int:
        return sum(made.size for made in iter(lambda: keeper.checkout.seal(limit=20), None))

    with ThreadPoolExecutor(6) as sealers:
        assert sum(sealers.map(work, range(6))) == 400
    assert [seal.number for seal in seals_of(keeper)] == list(range(1, 21))
    assert keeper.proven(tmp_path / "export", keeper.outside).worth is Worth.PROVEN


@ON_BOTH
def test_of_two_sealers_with_the_same_rows_the_second_writes_nothing(keeper: Keeper) -> None:
    keeper.events(1)
    rows = keeper.store.seals.unsealed(10)
    leaves = [sealing.leaf_of(row, 1, sealing._new_salt) for row in rows]
    head = sealing.write_head(sealing.next_head(None, leaves, keeper.store.installation(), AT))
    assert keeper.store.seals.add(Seal(1, head), leaves) is True
    assert keeper.store.seals.add(Seal(1, head), leaves) is False
    assert sizes_of(seals_of(keeper)) == [1]


@ON_BOTH
def test_a_sealer_that_dies_leaves_its_rows_to_the_next(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keeper.events(1, 2)

    def dies(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(sql_seal, "_mark", dies)
        with pytest.raises(Killed):
            keeper.checkout.seal()
    assert seals_of(keeper) == []
    made = keeper.checkout.seal()
    assert made is not None
    assert (made.number, made.size) == (1, 2)
    assert keeper.proven(tmp_path / "export", keeper.outside).worth is Worth.PROVEN


@ON_BOTH
def test_a_row_whose_mark_was_cleared_is_not_sealed_again_and_holds_up_nothing(
    keeper: Keeper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.events(1, 2)
    keeper.checkout.seal()
    keeper.execute("UPDATE deposit_token_events SET sealed = NULL, outcome = 'lost' WHERE key = 'msg-1'")
    keeper.events(3)
    made = keeper.checkout.seal()
    assert made is not None
    assert (made.number, made.size) == (2, 1)
    assert "marked as not sealed" in caplog.text
    report = keeper.proven(tmp_path / "export", keeper.outside)
    assert Named(report).rows == {("altered", "events", '["sandbox-bank","msg-1"]')}


# -- nobody waits ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dbms", ["postgres"], indirect=True)
def test_orders_are_paid_while_a_seal_is_being_written(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sealer stands still with everything written but the marks on the rows, its transaction open."""
    shop.buy("A-1")
    paid: list[str] = []
    mark = sql_seal._mark

    def meanwhile(*args: Any) -> None:
        shop.buy("A-2")
        headers, body = shop.received[0]
        assert shop.checkout.receive(headers, body).status == 200  # an event that is being sealed just now, again
        paid.append("A-2")
        mark(*args)

    monkeypatch.setattr(sql_seal, "_mark", meanwhile)
    made = shop.checkout.seal()
    assert made is not None
    assert paid == ["A-2"]
    assert {order for order, _ in shop.fulfilled()} == {"A-1", "A-2"}


@pytest.mark.parametrize("dbms", ["postgres"], indirect=True)
def test_other_orders_are_paid_even_while_the_marks_wait_for_their_commit(shop: Shop) -> None:
    shop.buy("A-1")
    rows = shop.checkout.store.seals.unsealed(100)
    with shop.sessions() as session:
        for table in ("events", "evidence", "fulfilments"):
            session.execute(text(f"UPDATE deposit_token_{table} SET sealed = 1"))  # noqa: S608  # names of ours
        shop.buy("A-2")
        session.rollback()
    assert len(shop.checkout.store.seals.unsealed(100)) > len(rows)


# -- with whose key ----------------------------------------------------------------------------------------------


def test_a_seal_is_signed_with_the_merchants_key_which_stands_beside_it_without_its_private_half(
    keeper: Keeper,
) -> None:
    keeper.events(1)
    made = keeper.checkout.seal()
    assert made is not None
    assert made.statement is not None
    assert made.keys is not None
    assert '"d"' not in made.keys
    assert key_of(keeper).verification_key().thumbprint() in _thumbprints(made)


def _thumbprints(made: Seal) -> list[str]:
    return [key.thumbprint() for key in KeySet.from_jwks((made.keys or "").encode()).keys]


def test_without_a_key_seals_are_made_unsigned_and_that_is_said_once_and_in_every_report(
    database: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(database, key=None)
    for number in (1, 2):
        keeper.events(number)
        made = keeper.checkout.seal()
        assert made is not None
        assert made.statement is None
    assert [record.levelno for record in caplog.records if "not signed" in record.message] == [logging.WARNING]
    report = keeper.proven(tmp_path / "export")
    assert report.worth is Worth.CONSISTENT
    assert any("Seals not signed: 2." in point for point in report.open)


def test_of_several_clients_the_first_that_has_a_key_signs(database: Engine) -> None:
    keeper = Keeper(database)
    keeper.events(1)
    without = Client.from_env({**environment(None), "DEPOSIT_TOKEN_BANK": "other-bank"})
    keeper.checkout = Checkout([without, Client.from_env(environment(keeper.key))], keeper.store)
    made = keeper.checkout.seal()
    assert made is not None
    assert key_of(keeper).verification_key().thumbprint() in _thumbprints(made)


def test_seals_of_a_key_and_of_its_successor_are_one_chain(keeper: Keeper, tmp_path: Path) -> None:
    keeper.events(1)
    keeper.checkout.seal()
    first = keeper.outside
    keeper.key = SigningKey.generate(Algorithm.ED25519, "merchant-2")
    keeper.checkout = Checkout(Client.from_env(environment(keeper.key)), keeper.store)
    keeper.events(2)
    keeper.checkout.seal()
    report = keeper.proven(tmp_path / "export")
    assert sorted(report.seal_keys.values()) == [1, 1]
    assert set(report.seal_keys) == first.seal_pins | keeper.outside.seal_pins
    assert report.findings == []


# -- erasing -----------------------------------------------------------------------------------------------------


@ON_BOTH
def test_what_is_erased_is_gone_and_the_rest_of_its_row_is_still_proven(keeper: Keeper, tmp_path: Path) -> None:
    keeper.everything()
    keeper.events(4, at=AT - days(400))
    assert keeper.checkout.erase(AT - days(365)) == 1
    with keeper.engine.connect() as connection:
        bodies: dict[str, str] = dict(connection.execute(text("SELECT key, body FROM deposit_token_events")).all())
        salts = connection.execute(text("SELECT body_salt FROM deposit_token_leaves WHERE erased_at IS NOT NULL"))
        assert salts.scalars().all() == [None]
    assert {key for key, body in bodies.items() if not body} == {"msg-4"}
    report = keeper.proven(tmp_path / "export", keeper.outside)
    assert report.worth is Worth.PROVEN
    assert [(leaf.source, leaf.key) for leaf in report.erased] == [("events", '["sandbox-bank","msg-4"]')]
    assert "Ada" not in "".join(
        line for line in (tmp_path / "export/events.jsonl").read_text().splitlines() if "msg-4" in line
    )


@ON_BOTH
def test_a_row_that_is_erased_and_altered_is_named_as_altered(keeper: Keeper, tmp_path: Path) -> None:
    keeper.events(1, 2, at=AT - days(400))
    keeper.checkout.erase(AT)
    keeper.execute("UPDATE deposit_token_events SET outcome = 'not_ours' WHERE key = 'msg-1'")
    assert Named(keeper.proven(tmp_path / "export", keeper.outside)).rows == {
        ("altered", "events", '["sandbox-bank","msg-1"]')
    }


@ON_BOTH
def test_another_body_in_the_place_of_an_erased_one_is_named(keeper: Keeper, tmp_path: Path) -> None:
    keeper.events(1, at=AT - days(400))
    keeper.checkout.erase(AT)
    keeper.execute("UPDATE deposit_token_events SET body = 'something else'")
    assert Named(keeper.proven(tmp_path / "export", keeper.outside)).words == {"altered"}


def test_nothing_is_erased_before_it_is_sealed(keeper: Keeper) -> None:
    keeper.events(1, at=AT - days(400))
    assert keeper.store.seals.erase(AT, AT) == 0
    assert keeper.checkout.erase(AT) == 1
    assert sizes_of(seals_of(keeper)) == [1]
    assert keeper.checkout.erase(AT) == 0


def test_a_repeated_event_is_known_again_after_its_body_was_erased(keeper: Keeper) -> None:
    keeper.events(1, at=AT - days(400))
    keeper.checkout.erase(AT)
    with keeper.store.begin() as tx:
        known = tx.claim(Inbox("sandbox-bank", "msg-1", "digest-1", "r", datetime.now(UTC), "Ada Lovelace paid 1"))
    assert known == "digest-1"


def test_an_age_without_a_zone_is_refused(keeper: Keeper) -> None:
    with pytest.raises(InvalidInput) as error:
        keeper.checkout.erase(datetime(2026, 1, 1))  # noqa: DTZ001  # that is what is refused
    assert error.value.reason == "naive_time"


# -- a shop with a real bank -------------------------------------------------------------------------------------


@ON_BOTH
def test_a_purchase_and_its_refund_at_a_real_bank_are_sealed_and_proven(shop: Shop, tmp_path: Path) -> None:
    """Sealed at every turn, so that a row which the checkout still changed later would show."""
    attempt = shop.start("A-1")
    shop.checkout.refresh("A-1")
    shop.checkout.seal()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    shop.checkout.seal()
    shop.checkout.reconcile()
    shop.checkout.seal()
    shop.checkout.refund("A-1", 500, request="r-1")
    shop.until(lambda: refund_of(shop).stage is RefundStage.DONE)
    shop.until(lambda: all(message["tries"] for message in shop.bank.control.webhooks(attempt.reference)))
    shop.checkout.seal()
    published = KeySet.from_jwks(requests.get(f"{shop.bank.url}/.well-known/jwks.json", timeout=10).content)
    last = shop.checkout.store.seals.last()
    with shop.checkout.store.seals.snapshot() as snapshot:
        archive.write(tmp_path / "export", snapshot)
    outside = Outside(frozenset(key.thumbprint() for key in published.keys), head=last)
    report = proving.prove(archive.Archive.open(tmp_path / "export"), outside)
    assert (report.worth, report.findings, report.open) == (Worth.PROVEN, [], [])
    assert (report.confirmations, report.unsigned) == (2, 0)
    assert report.seals >= 2


@ON_BOTH
def test_what_else_is_personal_is_erased_once_nobody_will_ask_for_it_any_more(keeper: Keeper) -> None:
    """Where a buyer came from, of attempts that are over for good; what was sent out, once it was."""
    with keeper.store.begin() as tx:
        for order in ("over", "asked about", "live"):
            tx.add_attempt(an_attempt(order, order, created_at=AT - days(400)))
        for order in ("over", "asked about"):
            tx.end_attempt(order, "expired")
        tx.watch("over", None)
        for key in ("sent", "waiting"):
            tx.put(an_outgoing(key, made_at=AT - days(400), payload='{"to":"ada@example.org"}'))
        tx.sent("sent", AT)
    assert keeper.checkout.erase(AT - days(365)) == 2
    kept = {order: keeper.store.attempt(order) for order in ("over", "asked about", "live")}
    assert {order for order, one in kept.items() if one and one.buyer_country and one.return_url} == {
        "asked about",
        "live",
    }
    with keeper.engine.connect() as connection:
        payloads = connection.execute(text("SELECT key, payload FROM deposit_token_outgoing ORDER BY key")).all()
    assert [tuple(row) for row in payloads] == [("sent", "{}"), ("waiting", '{"to":"ada@example.org"}')]
