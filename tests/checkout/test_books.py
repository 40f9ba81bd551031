"""What the shop's books and the bank's ledger of a day come to, side by side: pure, one case a difference."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from deposit_token_sdk.checkout.books import (
    KINDS,
    Booked,
    Difference,
    Key,
    Made,
    Sought,
    Span,
    compare,
    compare_invoice,
    missing,
    row,
)
from deposit_token_sdk.lifecycle import History, Observation, RefundStage, Stage, Word
from deposit_token_sdk.models import LedgerEntry
from deposit_token_sdk.testing.values import NOON, a_quote, a_refund, an_attempt

DAY = Span(NOON.replace(hour=0), NOON.replace(hour=0) + timedelta(days=1))
BEFORE = NOON - timedelta(days=1)
DUE = 14100


def seen(movement: str = "mv-1", units: int = DUE, stage: Stage = Stage.SETTLED, at: datetime = NOON) -> Observation:
    return Observation(movement, stage, units, at)


def ours(*observations: Observation, paid: bool = True, ended: str | None = "paid", **changes: Any) -> Booked:
    """The shop's side: an order of 14100 units, a fee of 174 of them, paid by one movement unless told otherwise."""
    attempt = an_attempt(quote=a_quote(), invoice="i-1", ended=ended, history=History(frozenset(observations)))
    plain = Booked("r1", "A-1", attempt, paid_by="r1" if paid else None, paid_at=NOON if paid else None)
    return evolve(plain, **changes)


def line(kind: str = "payment", movement: str = "mv-1", units: int = DUE, **changes: Any) -> LedgerEntry:
    plain = LedgerEntry(f"{kind}-{movement}", NOON, kind, "i-1", "r1", movement, "SBUSD", units)
    return evolve(plain, **changes)


FEE = line("fee", units=174)
PAID = (line(), FEE)
REFUND = a_refund(stage=RefundStage.DONE, bank_id="ref-1")
BACK = line("refund", "ref-1", 60, refund_reference="f1")


def differences(
    shop: Booked, *lines: LedgerEntry, elsewhere: dict[Key, LedgerEntry] | None = None
) -> tuple[Difference, ...]:
    return compare(shop, lines, elsewhere or {}, DAY)


def kinds(found: Iterable[Difference]) -> list[str]:
    return [each.kind for each in found]


AGREE: list[tuple[str, Booked, tuple[LedgerEntry, ...]]] = [
    ("paid", ours(seen()), PAID),
    ("refunded", ours(seen(), refunds=(REFUND,)), (*PAID, BACK)),
    ("refund asked for", ours(seen(), refunds=(a_refund(),)), PAID),
    (
        "refund known by its own reference alone",
        ours(seen(), refunds=(evolve(REFUND, bank_id=None),)),
        (*PAID, BACK),
    ),
    (
        "refund failed afterwards",
        ours(seen(), refunds=(evolve(REFUND, stage=RefundStage.FAILED),), refunded_at={"f1": NOON}),
        (*PAID, BACK, line("refund_failed", "ref-1", 60)),
    ),
    (
        "returned",
        ours(seen(), seen("mv-2", stage=Stage.RETURNED)),
        (*PAID, line("return", "mv-2")),
    ),
    ("half, and waiting", ours(seen(units=100), paid=False, ended=None), (line(units=100),)),
    (
        "second payment under review",
        ours(seen(), seen("mv-2"), reviews=("second_payment",)),
        (*PAID, line("payment", "mv-2")),
    ),
    (
        "half, superseded and sent back but for the fee that the bank keeps",
        ours(
            seen(units=1174),
            paid=False,
            ended="superseded",
            refunds=(evolve(REFUND, units=1000),),
        ),
        (line(units=1174), FEE, evolve(BACK, units=1000)),
    ),
    ("surplus sent back", ours(seen(units=DUE + 60), refunds=(REFUND,)), (line(units=DUE + 60), FEE, BACK)),
]


@pytest.mark.parametrize(("shop", "lines"), [case[1:] for case in AGREE], ids=[case[0] for case in AGREE])
def test_what_has_its_counterpart_to_the_unit_is_no_difference(shop: Booked, lines: tuple[LedgerEntry, ...]) -> None:
    assert differences(shop, *lines) == ()
    made = row(shop, lines, (), DAY)
    assert made.ours == made.banks


DIFFER: list[tuple[str, Booked, tuple[LedgerEntry, ...], int | None, int | None]] = [
    ("payment_unknown", ours(seen()), (*PAID, line("payment", "mv-9", 5)), None, 5),
    ("payment_missing", ours(seen(), paid=False, ended="x", reviews=("late",)), (), DUE, None),
    ("payment_differs", ours(seen(units=DUE + 1), reviews=("overpaid",)), PAID, DUE + 1, DUE),
    ("payment_differs", ours(seen()), (line(token="SBEUR"), FEE), DUE, DUE),
    (
        "payment_differs",
        ours(seen(), seen(units=5, stage=Stage.SEEN), reviews=("conflict",)),
        PAID,
        DUE,
        DUE,
    ),
    ("return_unknown", ours(seen()), (*PAID, line("return", "mv-2")), None, DUE),
    ("return_missing", ours(seen(), seen("mv-2", stage=Stage.RETURNED)), PAID, DUE, None),
    ("return_differs", ours(seen(), seen("mv-2", 5, Stage.RETURNED)), (*PAID, line("return", "mv-2", 6)), 5, 6),
    ("refund_unknown", ours(seen()), (*PAID, BACK), None, 60),
    ("refund_missing", ours(seen(), refunds=(REFUND,), refunded_at={"f1": NOON}), PAID, 60, None),
    ("refund_differs", ours(seen(), refunds=(evolve(REFUND, units=61),)), (*PAID, BACK), 61, 60),
    (
        "refund_unfinished",
        ours(seen(), refunds=(evolve(REFUND, stage=RefundStage.PENDING),)),
        (*PAID, BACK),
        60,
        60,
    ),
    (
        "refund_failure_unknown",
        ours(seen(), refunds=(REFUND,)),
        (*PAID, BACK, line("refund_failed", "ref-1", 60)),
        60,
        60,
    ),
    ("fee_differs", ours(seen()), (line(), line("fee", units=175)), 174, 175),
    ("fee_differs", ours(seen()), (line(), FEE, evolve(FEE, id="again")), 174, 348),
    ("fee_missing", ours(seen()), (line(),), 174, None),
    ("booked_twice", ours(seen()), (*PAID, line(id="again")), DUE, DUE),
    ("line_unknown", ours(seen()), (*PAID, line("interest", "x", 3)), None, 3),
    ("payment_unaccounted", ours(seen(), paid=False), PAID, DUE, DUE),
    ("payment_unaccounted", ours(seen(), seen("mv-2")), (*PAID, line("payment", "mv-2")), 2 * DUE, 2 * DUE),
    (
        "payment_unaccounted",
        ours(seen(), paid=False, reviews=("refund_failed",)),
        PAID,
        DUE,
        DUE,
    ),
    ("payment_unaccounted", ours(seen(units=5), paid=False, ended="expired"), (line(units=5),), 5, 5),
    ("fulfilled_without_money", ours(), (), DUE, 0),
    ("fulfilled_without_money", ours(seen(units=5)), (line(units=5),), DUE, 5),
]


@pytest.mark.parametrize(
    ("kind", "shop", "lines", "units", "banks"), DIFFER, ids=[f"{n}-{case[0]}" for n, case in enumerate(DIFFER)]
)
def test_each_difference_is_named_with_both_amounts(
    kind: str, shop: Booked, lines: tuple[LedgerEntry, ...], units: int | None, banks: int | None
) -> None:
    (found,) = differences(shop, *lines)
    assert (found.kind, found.ours, found.banks) == (kind, units, banks)
    assert (found.order_id, found.reference) == ("A-1", "r1")
    assert found.detail.endswith(".")


def test_an_invoice_that_only_the_bank_has_and_one_over_another_amount_are_named() -> None:
    made = Made("i-1", "r1", "paid", "SBUSD", DUE, DUE)
    assert compare_invoice(ours(seen()), made) == ()
    assert kinds(compare_invoice(Booked("r1", "", None), made)) == ["invoice_unknown"]
    assert kinds(compare_invoice(ours(seen()), evolve(made, due=DUE + 1))) == ["invoice_differs"]
    assert kinds(compare_invoice(ours(seen()), evolve(made, token="SBEUR"))) == ["invoice_differs"]


def test_what_the_shop_has_lost_altogether_is_named_line_by_line() -> None:
    lost = Booked("r1", "A-1", None, paid_by="r1", paid_at=NOON)
    found = differences(lost, line(), FEE, line("return", "mv-2"), BACK, line("interest", "x"))
    assert kinds(found) == [
        "fulfilled_without_money",
        "payment_unknown",
        "fee_differs",
        "return_unknown",
        "refund_unknown",
        "line_unknown",
    ]


def test_every_kind_has_a_case_here_and_a_line_in_the_docs() -> None:
    shown = {case[0] for case in DIFFER} | {"invoice_unknown", "invoice_differs"}
    assert shown == set(KINDS)
    page = Path(__file__).parents[2] / "docs/reconciliation.md"
    rows = [line.split(" | ") for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert {cells[0][3:-1]: cells[1] for cells in rows} == dict(KINDS)


# -- days -----------------------------------------------------------------------------------------------------------


def test_what_was_accepted_on_another_day_is_neither_looked_for_nor_missed() -> None:
    shop = ours(seen(at=BEFORE), seen("mv-2", stage=Stage.RETURNED, at=BEFORE), paid=False, reviews=("late",))
    assert missing(shop, (), DAY) == ()
    assert differences(shop) == ()


def test_what_proves_a_fulfilment_of_the_day_is_looked_for_wherever_it_was_booked() -> None:
    shop = ours(seen(at=BEFORE))
    assert missing(shop, (), DAY) == (Sought(("payment", "mv-1"), BEFORE),)
    found = line(at=BEFORE)
    assert differences(shop, elsewhere={("payment", "mv-1"): found}) == ()
    assert kinds(differences(shop)) == ["fulfilled_without_money"]


def test_what_was_booked_on_another_day_is_in_that_days_totals_alone() -> None:
    shop = ours(seen(at=NOON + timedelta(hours=11)))
    booked = line(at=NOON + timedelta(hours=13))
    found = differences(shop, elsewhere={("payment", "mv-1"): booked})
    assert found == ()
    assert row(shop, (), found, DAY).ours == {}


def test_an_amount_booked_on_another_day_is_compared_all_the_same() -> None:
    booked = line(units=DUE - 1, at=NOON + timedelta(days=1))
    found = differences(ours(seen(), reviews=("x",)), elsewhere={("payment", "mv-1"): booked})
    assert kinds(found) == ["payment_differs", "fulfilled_without_money"]


def test_a_word_of_expiry_changes_nothing_about_money() -> None:
    shop = ours(seen())
    assert shop.attempt is not None
    history = evolve(shop.attempt.history, words=frozenset({Word.EXPIRED}))
    assert differences(evolve(shop, attempt=evolve(shop.attempt, history=history)), *PAID) == ()


@given(
    st.lists(st.integers(1, 10**30), min_size=1, max_size=4),
    st.integers(0, 3),
    st.integers(1, 10**30),
)
def test_whatever_was_paid_a_line_lost_or_changed_at_the_bank_shows_and_moves_the_totals_by_just_that(
    payments: list[int], chosen: int, change: int
) -> None:
    observations = [seen(f"mv-{n}", units) for n, units in enumerate(payments)]
    shop = ours(*observations, paid=False, ended="x", reviews=("late",))
    assert shop.attempt is not None
    shop = evolve(shop, attempt=evolve(shop.attempt, quote=a_quote(fee=0)))
    lines = [line("payment", f"mv-{n}", units) for n, units in enumerate(payments)]
    assert differences(shop, *lines) == ()
    at = chosen % len(lines)
    lost = tuple(lines[:at] + lines[at + 1 :])
    (found,) = differences(shop, *lost)
    assert (found.kind, found.subject, found.ours) == ("payment_missing", f"mv-{at}", payments[at])
    made = row(shop, lost, (found,), DAY)
    assert made.ours["payment"] - made.banks.get("payment", 0) == payments[at]
    changed = (*lost, evolve(lines[at], units=payments[at] + change))
    (found,) = differences(shop, *changed)
    assert found.kind == "payment_differs"
    made = row(shop, changed, (found,), DAY)
    assert made.banks["payment"] - made.ours["payment"] == change
