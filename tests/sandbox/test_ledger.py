"""Double entry: nothing that does not balance is booked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Float, Numeric, create_engine, insert, inspect, select

from deposit_token_sdk.sandbox import ledger
from deposit_token_sdk.sandbox.ledger import BUYER, CLEARING, MERCHANT, Transfer, UnbalancedPosting, account, between
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import Database, accounts, metadata, postings, transfers, undoable

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
BUYERS = account(BUYER, "SBUSD", "anna")
SHOPS = account(MERCHANT, "SBUSD", "shop")


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Connection]:
    database = Database(f"sqlite:///{tmp_path / 'books.sqlite3'}")
    with database.transaction() as connection:
        yield connection
    database.close()


def _transfer(units: int, posted: dict[str, int]) -> Transfer:
    return Transfer("payment", "SBUSD", units, NOW, posted)


@pytest.mark.parametrize(
    "posted",
    [
        {BUYERS: -100, SHOPS: 99},
        {SHOPS: 100},
        {BUYERS: -100, account(MERCHANT, "SBEUR", "shop"): 100},
    ],
)
def test_a_posting_that_does_not_balance_within_one_token_is_refused(db: Connection, posted: dict[str, int]) -> None:
    ledger.issue(db, "SBUSD", BUYERS, 500, NOW)
    with pytest.raises(UnbalancedPosting):
        ledger.book(db, _transfer(100, posted))
    assert ledger.balance(db, BUYERS) == 500
    assert len(db.execute(select(transfers)).all()) == 1


def test_nobody_spends_more_than_the_account_holds(db: Connection) -> None:
    ledger.issue(db, "SBUSD", BUYERS, 500, NOW)
    with pytest.raises(Refused) as refused:
        ledger.book(db, _transfer(501, between(BUYERS, SHOPS, 501)))
    assert refused.value.code == "insufficient_balance"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([BUYERS, SHOPS, account(CLEARING, "SBUSD")]),
            st.sampled_from([BUYERS, SHOPS, account(CLEARING, "SBUSD")]),
            st.integers(1, 10**30),
        ),
        max_size=12,
    )
)
def test_whatever_is_asked_circulation_equals_deposits(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[str, str, int]]
) -> None:
    database = Database(f"sqlite:///{tmp_path_factory.mktemp('books') / 'books.sqlite3'}")
    with database.transaction() as db:
        ledger.issue(db, "SBUSD", BUYERS, 10**30, NOW)
        for source, target, units in moves:
            if source != target:
                with db.begin_nested() as attempt:
                    try:
                        ledger.book(db, _transfer(units, between(source, target, units)))
                    except Refused:
                        attempt.rollback()
        assert ledger.supply(db, "SBUSD") == (10**30, 10**30)
        assert ledger.audit(db) == []
    database.close()


def test_transfers_booked_together_follow_one_another_and_stand_or_fall_together(db: Connection) -> None:
    ledger.issue(db, "SBUSD", BUYERS, 500, NOW)
    paid, back = between(BUYERS, SHOPS, 400), between(SHOPS, BUYERS, 300)
    ledger.book(db, _transfer(400, paid), _transfer(300, back))
    assert (ledger.balance(db, BUYERS), ledger.balance(db, SHOPS)) == (400, 100)
    with pytest.raises(Refused) as refused:
        ledger.book(db, _transfer(400, paid), _transfer(300, back), _transfer(400, paid), _transfer(400, paid))
    assert refused.value.code == "insufficient_balance"
    assert (ledger.balance(db, BUYERS), ledger.balance(db, SHOPS)) == (400, 100)
    assert len(db.execute(select(transfers)).all()) == 3
    assert ledger.audit(db) == []


def _book_each(db: Connection, *booked: Transfer) -> None:
    for transfer in booked:
        ledger.book(db, transfer)


def test_what_is_undone_leaves_the_rest_of_its_transaction(db: Connection) -> None:
    ledger.issue(db, "SBUSD", BUYERS, 500, NOW)
    paid = _transfer(100, between(BUYERS, SHOPS, 100))
    with pytest.raises(UnbalancedPosting), undoable(db):
        _book_each(db, paid, _transfer(100, {SHOPS: 100}))
    with undoable(db):
        ledger.book(db, _transfer(7, between(BUYERS, SHOPS, 7)))
    assert (ledger.balance(db, BUYERS), ledger.balance(db, SHOPS)) == (493, 7)
    assert ledger.audit(db) == []


def test_the_audit_names_an_account_that_was_tampered_with(db: Connection) -> None:
    ledger.issue(db, "SBUSD", BUYERS, 500, NOW)
    db.execute(accounts.update().where(accounts.c.id == BUYERS).values(balance=501))
    assert ledger.audit(db) == [
        f"{BUYERS} says 501, its postings 500",
        "SBUSD: 501 in circulation, 500 deposited",
    ]


def test_the_audit_names_a_transfer_that_is_out(db: Connection) -> None:
    ledger.issue(db, "SBUSD", BUYERS, 500, NOW)
    db.execute(insert(postings).values(transfer="trf_x", account=BUYERS, units=1))
    assert "trf_x is out by 1" in ledger.audit(db)


def test_units_of_thirty_digits_come_back_to_the_unit(db: Connection) -> None:
    units = 123_456_789_012_345_678_901_234_567_891
    ledger.issue(db, "SBUSD", BUYERS, units, NOW)
    assert ledger.balance(db, BUYERS) == units


def test_no_column_of_the_bank_is_a_float_or_a_numeric(tmp_path: Path) -> None:
    assert not [
        column for table in metadata.tables.values() for column in table.c if isinstance(column.type, (Float, Numeric))
    ]
    url = f"sqlite:///{tmp_path / 'books.sqlite3'}"
    Database(url).close()
    engine = create_engine(url)
    kinds = {str(c["type"]) for name in inspect(engine).get_table_names() for c in inspect(engine).get_columns(name)}
    engine.dispose()
    assert kinds <= {"INTEGER", "VARCHAR", "TEXT"}
