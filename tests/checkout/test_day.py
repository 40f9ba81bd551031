"""A day's report: what both sides say is set side by side, to the unit, and whatever is tampered with is named."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, delete, func, insert, select, update
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import Attempt, BankUnavailable, Capture, Checkout, Client, RefundStage, SqlStore
from deposit_token_sdk.checkout import day as day_room
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.books import Row
from deposit_token_sdk.checkout.day import DayReport
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.tables import transfers
from deposit_token_sdk.signing import strict_json
from tests.checkout.kit import Shop, due_of, refund_of
from tests.databases import ON_BOTH


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A bank whose day no other test has moved."""
    with Sandbox(tmp_path_factory.mktemp("bank"), webhook_schedule=(0.0, 0.1, 0.2, 0.5)) as sandbox:
        yield sandbox


def bank_day(shop: Shop) -> date:
    return strict_json.moment(shop.bank.control.time(), "now").date()


def report(shop: Shop, day: date | None = None) -> DayReport:
    (made,) = shop.checkout.day(day or bank_day(shop))
    return made


def kinds(report: DayReport) -> list[str]:
    return sorted(each.kind for each in report.differences)


def row_of(report: DayReport, attempt: Attempt) -> Row:
    return next(row for row in report.rows if row.reference == attempt.reference)


def sums_of_the_bank(shop: Shop) -> dict[str, int]:
    """What the bank's own books say moved for this merchant, by kind of line."""
    summed: dict[str, int] = {}
    for entry in shop.bank.control.ledger():
        if entry["merchant"] == shop.merchant and entry["kind"] in ("payment", "return", "refund", "fee"):
            summed[entry["kind"]] = summed.get(entry["kind"], 0) + int(entry["units"])
    return summed


@contextmanager
def shops_tables(shop: Shop) -> Iterator[Any]:
    """Where somebody with access to the database changes what the shop has."""
    with shop.sessions() as session, session.begin():
        yield session


@contextmanager
def banks_tables(shop: Shop) -> Iterator[Connection]:
    """Where somebody at the bank changes what it has."""
    engine = create_engine(f"sqlite:///{shop.bank._data / 'bank.sqlite3'}")
    with engine.begin() as connection:
        yield connection
    engine.dispose()


def refunded(shop: Shop, units: int = 700) -> str:
    refund = shop.checkout.refund("A-1", units, request="page-1")
    shop.until(lambda: refund_of(shop).stage is RefundStage.DONE)
    return refund.reference


@ON_BOTH
def test_a_day_of_payments_refunds_returns_and_reviews_agrees_to_the_unit(shop: Shop) -> None:
    first = shop.buy()
    refunded(shop)
    shop.bank.control.pay(first.reference)  # a second payment, which goes up for review
    shop.until(lambda: "second_payment" in shop.reviews())
    returned = shop.buy("A-2")
    shop.bank.control.return_payment(returned.reference)
    shop.until(lambda: ("returned", "returned") in shop.told)
    half = shop.start("A-3")
    shop.bank.control.pay(half.reference, units=100)
    shop.until(lambda: ("underpaid", "underpaid") in shop.told)
    shop.start("A-4")
    made = report(shop)
    assert made.differences == ()
    assert made.agrees
    assert {total.kind: total.banks for total in made.totals} == sums_of_the_bank(shop)
    assert [total for total in made.totals if total.ours != total.banks] == []
    assert {total.token for total in made.totals} == {"SBUSD"}
    assert made.decimals["SBUSD"] == 2
    assert (made.issuer, made.invoices, made.others) == ("sandbox-bank", 4, 0)
    assert [row.order_id for row in made.rows] == ["A-1", "A-2", "A-3"]
    row = row_of(made, first)
    assert (row.order_id, row.fulfilled, row.due, row.status) == ("A-1", True, due_of(first), "paid")
    assert row.ours == row.banks
    assert (row.banks["payment"], row.banks["refund"]) == (2 * due_of(first), 700)
    assert len(row.lines) == 4


def test_what_a_lost_webhook_left_out_is_asked_for_and_is_no_difference(shop: Shop) -> None:
    attempt = shop.start()
    shop.lose_webhooks()
    shop.bank.control.pay(attempt.reference)
    assert not shop.checkout.view("A-1").paid
    assert report(shop).agrees
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_what_cannot_be_asked_about_is_a_difference_and_says_why(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    attempt = shop.start()
    shop.lose_webhooks()
    shop.bank.control.pay(attempt.reference)

    def unavailable(*_: object) -> None:
        raise BankUnavailable("no_answer", "The bank is away.")

    monkeypatch.setattr(shop.checkout._desk, "ask", unavailable)
    made = report(shop)
    assert made.failed == ((attempt.reference, "no_answer"),)
    assert kinds(made) == ["payment_unknown"]
    assert not made.agrees


# -- what somebody did to the shop's database ------------------------------------------------------------------------


def lost_fulfilment(shop: Shop, attempt: Attempt) -> None:
    with shops_tables(shop) as db:
        db.execute(delete(t.fulfilments).where(t.fulfilments.c.order_id == attempt.order_id))


def other_amount(shop: Shop, attempt: Attempt) -> None:
    with shops_tables(shop) as db:
        db.execute(update(t.observations).where(t.observations.c.reference == attempt.reference).values(units="14101"))


def invented_payment(shop: Shop, attempt: Attempt) -> None:
    with shops_tables(shop) as db:
        for table, mine in ((t.observations, t.observations.c.reference), (t.evidence, t.evidence.c.attempt)):
            rows = db.execute(select(table).where(mine == attempt.reference)).mappings().all()
            for row in rows:
                db.execute(insert(table).values({**row, "movement": "mov_none"} | _unnumbered(db, table, row)))


def _unnumbered(db: Any, table: Any, row: Any) -> dict[str, int]:
    return {"number": db.execute(select(func.max(table.c.number))).scalar() + 1} if "number" in row else {}


def invented_fulfilment(shop: Shop, _: Attempt) -> None:
    unpaid = shop.start("A-7")
    with shops_tables(shop) as db:
        now = t.as_text(datetime.now(UTC))
        db.execute(insert(t.fulfilments).values(order_id="A-7", reference=unpaid.reference, at=now))


def fulfilment_of_nothing(shop: Shop, _: Attempt) -> None:
    with shops_tables(shop) as db:
        now = t.as_text(datetime.now(UTC))
        db.execute(insert(t.fulfilments).values(order_id="A-8", reference="nowhere", at=now))


def lost_refund(shop: Shop, _: Attempt) -> None:
    refunded(shop)
    with shops_tables(shop) as db:
        db.execute(delete(t.refunds))


def other_refund(shop: Shop, _: Attempt) -> None:
    refunded(shop)
    with shops_tables(shop) as db:
        db.execute(update(t.refunds).values(units="701"))


def lost_review(shop: Shop, attempt: Attempt) -> None:
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: "second_payment" in shop.reviews())
    with shops_tables(shop) as db:
        db.execute(delete(t.reviews))


# -- what somebody did to the bank's books -----------------------------------------------------------------------------


def _of(attempt: Attempt, kind: str) -> Any:
    return (transfers.c.reference == attempt.reference) & (transfers.c.kind == kind)


def payment_lost_at_the_bank(shop: Shop, attempt: Attempt) -> None:
    with banks_tables(shop) as db:
        db.execute(delete(transfers).where(_of(attempt, "payment")))


def payment_changed_at_the_bank(shop: Shop, attempt: Attempt) -> None:
    with banks_tables(shop) as db:
        db.execute(update(transfers).where(_of(attempt, "payment")).values(units=due_of(attempt) + 1))


def refund_lost_at_the_bank(shop: Shop, attempt: Attempt) -> None:
    refunded(shop)
    with banks_tables(shop) as db:
        db.execute(delete(transfers).where(_of(attempt, "refund")))


def return_lost_at_the_bank(shop: Shop, attempt: Attempt) -> None:
    shop.bank.control.return_payment(attempt.reference)
    shop.until(lambda: ("returned", "returned") in shop.told)
    with banks_tables(shop) as db:
        db.execute(delete(transfers).where(_of(attempt, "return")))


def fee_changed_at_the_bank(shop: Shop, attempt: Attempt) -> None:
    with banks_tables(shop) as db:
        db.execute(update(transfers).where(_of(attempt, "fee")).values(units=1))


def fee_lost_at_the_bank(shop: Shop, attempt: Attempt) -> None:
    with banks_tables(shop) as db:
        db.execute(delete(transfers).where(_of(attempt, "fee")))


def booked_twice_at_the_bank(shop: Shop, attempt: Attempt) -> None:
    with banks_tables(shop) as db:
        row = db.execute(select(transfers).where(_of(attempt, "payment"))).mappings().one()
        db.execute(insert(transfers).values({**row, "seq": None, "id": f"{row['id']}x"}))


TAMPERINGS: list[tuple[Callable[[Shop, Attempt], None], list[str]]] = [
    (lost_fulfilment, ["payment_unaccounted"]),
    (other_amount, ["payment_differs"]),
    (invented_payment, ["payment_missing", "payment_unaccounted"]),
    (invented_fulfilment, ["fulfilled_without_money"]),
    (fulfilment_of_nothing, ["fulfilled_without_money"]),
    (lost_refund, ["refund_unknown"]),
    (other_refund, ["refund_differs"]),
    (lost_review, ["payment_unaccounted"]),
    (payment_lost_at_the_bank, ["fulfilled_without_money", "payment_missing"]),
    (payment_changed_at_the_bank, ["payment_differs"]),
    (refund_lost_at_the_bank, ["refund_missing"]),
    (return_lost_at_the_bank, ["return_missing"]),
    (fee_changed_at_the_bank, ["fee_differs"]),
    (fee_lost_at_the_bank, ["fee_missing"]),
    (booked_twice_at_the_bank, ["booked_twice"]),
]


@pytest.mark.parametrize(("tamper", "named"), TAMPERINGS, ids=[each.__name__ for each, _ in TAMPERINGS])
def test_whatever_is_changed_on_either_side_is_named(
    shop: Shop, tamper: Callable[[Shop, Attempt], None], named: list[str]
) -> None:
    attempt = shop.buy()
    tamper(shop, attempt)
    made = report(shop)
    assert kinds(made) == named
    assert all(each.detail for each in made.differences)
    mine = [each for row in made.rows for each in row.differences]
    assert sorted(each.kind for each in mine) == named


def test_the_totals_differ_by_just_what_the_bank_has_lost(shop: Shop) -> None:
    attempt = shop.buy()
    shop.buy("A-2")
    payment_lost_at_the_bank(shop, attempt)
    (total,) = [total for total in report(shop).totals if total.kind == "payment"]
    assert total.ours - total.banks == due_of(attempt)


def test_a_restored_backup_shows_by_invoices_that_only_the_bank_has(shop: Shop) -> None:
    kept = shop.buy()
    paid, open_one = shop.buy("A-2"), shop.start("A-3")
    with shops_tables(shop) as db:  # as the database was before the last two orders
        for table, column in (
            (t.attempts, t.attempts.c.reference),
            (t.observations, t.observations.c.reference),
            (t.movements, t.movements.c.reference),
            (t.evidence, t.evidence.c.attempt),
            (t.fulfilments, t.fulfilments.c.reference),
            (t.events, t.events.c.reference),
        ):
            db.execute(delete(table).where(column.in_([paid.reference, open_one.reference])))
    made = report(shop)
    named = {(each.kind, each.reference) for each in made.differences}
    assert ("invoice_unknown", paid.reference) in named
    assert ("payment_unknown", paid.reference) in named
    assert ("invoice_unknown", open_one.reference) in named
    assert not any(reference == kept.reference for _, reference in named)


def test_a_payment_captured_the_next_day_is_booked_there_and_both_days_agree(shop: Shop) -> None:
    attempt = shop.start(capture=Capture.MANUAL)
    accepted_on = bank_day(shop)
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: ("authorized", "authorized") in shop.told)
    shop.bank.control.advance(86_400)
    shop.checkout.capture("A-1")
    shop.until(lambda: shop.checkout.view("A-1").paid)
    before, after = report(shop, accepted_on), report(shop)
    assert (before.differences, after.differences) == ((), ())
    assert before.totals == ()
    (paid,) = [total for total in after.totals if total.kind == "payment"]
    assert paid.ours == paid.banks == due_of(attempt)


def test_a_refund_that_failed_a_day_later_stands_in_both_days(shop: Shop) -> None:
    attempt = shop.buy()
    refunded(shop)
    done_on = bank_day(shop)
    shop.bank.control.advance(86_400)
    bank_id = refund_of(shop).bank_id
    assert bank_id is not None
    shop.bank.control.fail_refund(bank_id)
    shop.until(lambda: refund_of(shop).stage is RefundStage.FAILED)
    before, after = report(shop, done_on), report(shop)
    assert (before.differences, after.differences) == ((), ())
    assert row_of(before, attempt).ours["refund"] == 700
    assert row_of(after, attempt).ours == row_of(after, attempt).banks == {"refund_failed": 700}


def test_another_shop_of_the_same_merchant_is_counted_and_not_compared(shop: Shop, tmp_path: Path) -> None:
    shop.buy()
    engine = create_engine(f"sqlite:///{tmp_path / 'other.sqlite'}")
    prepare_sqlite(engine)
    store = SqlStore(sessionmaker(engine))
    store.create_schema()
    with Client.from_env(shop.environment) as client:
        (made,) = Checkout(client, store).day(bank_day(shop))
    engine.dispose()
    assert (made.differences, made.rows, made.invoices) == ((), (), 0)
    assert made.others == 2  # the payment and its fee


def test_a_long_day_is_read_a_page_and_a_piece_at_a_time(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(day_room, "PAGE", 2)
    monkeypatch.setattr(day_room, "PIECE", 2)
    for number in range(3):
        shop.buy(f"O-{number}")
    told: list[tuple[str, int, int | None]] = []
    (made,) = shop.checkout.day(bank_day(shop), lambda what, done, of: told.append((what, done, of)))
    assert made.agrees
    assert len(made.rows) == 3
    assert [done for what, done, _ in told if what == "ledger"] == [2, 4, 6]
    assert [(done, of) for what, done, of in told if what == "orders"] == [(2, 3), (3, 3)]


def test_a_bank_without_a_ledger_has_no_report(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    able = ReferenceIssuer.capabilities - {Capability.LEDGER}
    monkeypatch.setattr(ReferenceIssuer, "capabilities", able)
    assert shop.checkout.day(bank_day(shop)) == ()


def test_a_day_on_which_nothing_happened_agrees(shop: Shop) -> None:
    made = report(shop, bank_day(shop) - timedelta(days=400))
    assert made.agrees
    assert (made.rows, made.totals, made.invoices) == ((), (), 0)


def test_a_bank_that_cannot_be_reached_has_no_report(shop: Shop) -> None:
    nobody = {**shop.environment, "DEPOSIT_TOKEN_URL": "http://127.0.0.1:9", "DEPOSIT_TOKEN_ATTEMPTS": "1"}
    with pytest.raises(BankUnavailable):
        shop.restarted(client=Client.from_env(nobody)).day(bank_day(shop))
