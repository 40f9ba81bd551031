"""The reckoning finds what it is there to find: books that agree are changed in one place, and that place is named.

The books are small and made by hand: order A paid and partly refunded, with a second payment under review; order B
that came late and was sent back; order C that was captured.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from typing import Any, TypeAlias

import pytest

from tests.torture.audit import differences, purchases_made
from tests.torture.books import BankBooks, ShopBooks

Books: TypeAlias = dict[str, list[Any]]
Posted: TypeAlias = tuple[str, str, str | None, str | None, list[tuple[str, int]]]
FEE = 3


def rows(names: str, *lines: str) -> list[dict[str, Any]]:
    """Rows from lines of words; a dash is an empty column."""
    return [
        dict(zip(names.split(), (None if word == "-" else word for word in line.split()), strict=True))
        for line in lines
    ]


def bank() -> Books:
    transfers: list[Posted] = [
        ("t1", "issue", None, "m", [("T:reserve:bank", -500), ("T:merchant:m", 500)]),
        ("t2", "issue", None, None, [("T:reserve:bank", -900), ("T:buyer:b", 900)]),
    ]
    for number, (invoice, movement) in enumerate((("iA", "m1"), ("iA", "m2"), ("iB", "m3"), ("iC", "m4")), 3):
        transfers += [
            (f"h{number}", "hold", invoice, movement, [("T:buyer:b", -100), ("T:clearing:bank", 100)]),
            (f"p{number}", "payment", invoice, movement, [("T:clearing:bank", -100), ("T:merchant:m", 100)]),
        ]
        if movement != "m2":
            fee = [("T:merchant:m", -FEE), ("T:fees:bank", FEE)]
            transfers.append((f"f{number}", "fee", invoice, movement, fee))
    for invoice, refund, units in (("iA", "r1", 40), ("iB", "r2", 100)):
        asked = [("T:merchant:m", -units), ("T:clearing:bank", units)]
        done = [("T:clearing:bank", -units), ("T:buyer:b", units)]
        transfers += [
            (f"a{refund}", "refund_asked", invoice, refund, asked),
            (f"d{refund}", "refund", invoice, refund, done),
        ]
    balances: dict[str, int] = {}
    for *_, postings in transfers:
        for account, units in postings:
            balances[account] = balances.get(account, 0) + units
    return {
        "invoices": rows(
            "id reference token due fee capture status",
            f"iA refA T 100 {FEE} automatic paid",
            f"iB refB T 100 {FEE} automatic expired",
            f"iC refC T 100 {FEE} manual paid",
            f"iD refD T 100 {FEE} automatic cancelled",
        ),
        "movements": rows(
            "id invoice kind status units",
            "m1 iA payment settled 100",
            "m2 iA payment settled 100",
            "m3 iB payment settled 100",
            "m4 iC payment settled 100",
        ),
        "refunds": rows("id reference invoice units status", "r1 fA iA 40 done", "r2 fB iB 100 done"),
        "transfers": [
            {"id": id_, "kind": kind, "invoice": invoice, "movement": movement, "units": str(abs(postings[0][1]))}
            for id_, kind, invoice, movement, postings in transfers
        ],
        "postings": [
            {"transfer": id_, "account": account, "units": str(units)}
            for id_, *_, postings in transfers
            for account, units in postings
        ],
        "accounts": [
            {"id": name, "kind": name.split(":")[1], "balance": str(units)} for name, units in balances.items()
        ],
        "deliveries": [
            {"message": "e1", "status": 200},
            {"message": "e2", "status": 500},
            {"message": "e3", "status": None},
        ],
    }


def shop() -> Books:
    attempts = rows("reference order_id token", "refA A T", "refB B T", "refC C T", "refD D T")
    seen = ("refA m1", "refA m2", "refB m3", "refC m4")
    return {
        "orders": rows("id", "A", "B", "C", "D"),
        "fulfilments": rows("order_id reference received", "A refA 100", "C refC 100"),
        "paid_with": rows("order_id reference movement units", "A refA m1 100", "C refC m4 100"),
        "asked": rows("verb order_id request answer", "refund A page-1 done", "capture C - done", "cancel D - done"),
        "refunded": rows("order_id refund", "A fA", "B fB"),
        "receipts": rows("key order_id", "k1 A", "k1 A", "k2 C"),
        "attempts": [{**row, "quote": json.dumps({"fee": str(FEE)})} for row in attempts],
        "observations": rows("reference movement stage units", *(f"{each} SETTLED 100" for each in seen)),
        "marks": rows("order_id reference", "A refA", "C refC"),
        "reviews": rows("number reference reason subject", "1 refA second_payment m2", "2 refB late fB"),
        "decisions": rows("review verdict", "2 refund"),
        "intents": rows("verb attempt answered_at", "start refA now"),
        "refunds": rows(
            "reference attempt request units stage", "fA refA page-1 40 DONE", "fB refB late:refB:100 100 DONE"
        ),
        "evidence": rows("reference movement units kind", *(f"{each} 100 settlement" for each in seen)),
        "outgoing": rows("key sent_at error", "k1 now -", "k2 now -"),
        "events": rows("key", "e1"),
    }


def reckoned(bank_side: Books, shop_side: Books) -> list[str]:
    return differences(BankBooks(**bank_side), ShopBooks(**shop_side), 4)


def test_books_that_agree_have_no_differences() -> None:
    assert reckoned(bank(), shop()) == []
    assert purchases_made(BankBooks(**bank()), ShopBooks(**shop())) == 4


def drop(table: str, **which: str) -> Callable[[Books], None]:
    def act(books: Books) -> None:
        kept = [row for row in books[table] if any(row[name] != value for name, value in which.items())]
        assert len(kept) < len(books[table])
        books[table][:] = kept

    return act


def double(table: str, **which: str) -> Callable[[Books], None]:
    def act(books: Books) -> None:
        found = [row for row in books[table] if all(row[name] == value for name, value in which.items())]
        assert found
        books[table] += deepcopy(found)

    return act


def change(table: str, name: str, value: str | None, **which: str) -> Callable[[Books], None]:
    def act(books: Books) -> None:
        found = [row for row in books[table] if all(row[key] == text for key, text in which.items())]
        assert found
        for row in found:
            row[name] = value

    return act


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (drop("orders", id="D"), "purchases: expected 4 orders with an invoice at the bank, found 3"),
        (drop("attempts", reference="refD"), "invoice refD: expected an attempt in the shop, found none"),
        (drop("reviews", reason="second_payment"), "payment m2 of refA (order A): expected one fulfilled order or one"),
        (double("reviews", reason="second_payment"), "found review second_payment, review second_payment"),
        (drop("reviews", reason="late"), "payment m3 of refB (order B): expected one fulfilled order or one review"),
        (double("fulfilments", order_id="A"), "order A: expected to be fulfilled once, found 2 times"),
        (drop("fulfilments", order_id="A"), "order A: expected what is marked as paid to be fulfilled, found no"),
        (drop("marks", order_id="A"), "order A: fulfilled by refA, marked as paid by None"),
        (drop("paid_with", order_id="A"), "order A: fulfilled with 0 units settled at the bank, expected 100"),
        (change("paid_with", "units", "99", order_id="A"), "order A: counted 99 units of m1, the bank settled 100"),
        (drop("refunds", reference="fA"), "refund fA of 40 units: expected one that the shop asked for, found none"),
        (change("refunds", "stage", "REQUESTED", reference="fA"), "done at the bank, found REQUESTED of 40 units"),
        (change("refunds", "stage", "PENDING", reference="fA"), "refund fA: expected an end, found PENDING"),
        (change("refunds", "units", "41", reference="fA"), "found DONE of 41 units in the shop"),
        (double("refunded", refund="fA"), "sent 1 times, expected the hook as often, found 2"),
        (drop("refunded", refund="fA"), "sent 1 times, expected the hook as often, found 0"),
        (change("observations", "units", "90", movement="m1"), "sum of T: the bank has 251 units for the merchant"),
        (change("refunds", "request", "page-7", reference="fA"), "expected a page or a person that asked for it"),
        (drop("events", key="e1"), "webhook e1: answered as taken, expected among the shop's events, found none"),
        (drop("outgoing", key="k2"), "receipt of order C: sent as k2, expected in the outbox, found none"),
        (drop("evidence", movement="m1"), "payment m1: expected the bank's stored confirmation, found none"),
        (drop("receipts", order_id="C"), "receipt of order C: expected under 1 keys, found 0"),
        (change("intents", "answered_at", None, verb="start"), "start of refA (order A): expected an answer"),
        (change("outgoing", "sent_at", None, key="k1"), "message k1: expected to have gone out, found it waiting"),
    ],
)
def test_what_the_shop_has_lost_or_done_twice_is_named(spoil: Callable[[Books], None], told: str) -> None:
    mine = shop()
    spoil(mine)
    assert any(told in line for line in reckoned(bank(), mine))


def test_a_receipt_under_two_keys_is_named() -> None:
    mine = shop()
    mine["receipts"] += rows("key order_id", "k1 C")
    assert reckoned(bank(), mine) == ["receipt of order C: expected under 1 keys, found 2"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (drop("invoices", id="iA"), "order A: fulfilled by refA, which the bank does not know"),
        (
            change("movements", "status", "held", id="m4"),
            "payment m4 of refC (order C): expected to be settled or let go",
        ),
        (change("movements", "status", "released", id="m4"), "order C: fulfilled with 0 units settled at the bank"),
        (change("movements", "status", "released", id="m4"), "order C: captured, expected a settled payment"),
        (change("movements", "units", "60", id="m1"), "order A: fulfilled with 60 units settled at the bank"),
        (change("invoices", "status", "paid", id="iD"), "order D: cancelled, expected a cancelled invoice"),
        (double("refunds", id="r1"), "refund fA of 40 units: expected to be sent once, found 2 refunds"),
        (double("refunds", id="r1"), "refund request page-1: expected one refund at the bank at most, found 2"),
        (drop("refunds", id="r1"), "refund request page-1: answered as done, expected one refund at the bank, found 0"),
        (drop("refunds", id="r1"), "refund fA: done in the shop, expected at the bank, found none"),
        (drop("refunds", id="r1"), "bank's refund r1: booked, expected among its refunds, found none"),
        (double("transfers", movement="r1", kind="refund"), "found 1 refunds, 2 transfers"),
        (double("transfers", movement="r2", kind="refund_asked"), "at most 100 units to go back, found 200"),
        (drop("transfers", movement="m1", kind="payment"), "payment m1: expected 1 bookings at the bank, found 0"),
        (
            change("postings", "units", "99", transfer="p3", account="T:merchant:m"),
            "transfer p3: expected to add up to 0",
        ),
        (change("accounts", "balance", "1", id="T:merchant:m"), "bank's account T:merchant:m: expected"),
        (change("accounts", "balance", "1", id="T:clearing:bank"), "expected 0 after the run, found 1"),
    ],
)
def test_what_the_bank_has_lost_or_done_twice_is_named(spoil: Callable[[Books], None], told: str) -> None:
    banks = bank()
    spoil(banks)
    assert any(told in line for line in reckoned(banks, shop()))


def test_a_payment_that_was_accepted_from_review_counts_as_fulfilled() -> None:
    mine = shop()
    change("reviews", "reason", "old_attempt", number="1")(mine)
    mine["paid_with"] += rows("order_id reference movement units", "A refA m2 100")
    assert any("found fulfilled 1 times, review old_attempt" in line for line in reckoned(bank(), mine))
    mine["decisions"] += rows("review verdict", "1 accept")
    assert reckoned(bank(), mine) == []


def test_halves_are_of_one_order_together_and_a_short_payment_has_its_entry() -> None:
    mine, banks = shop(), bank()
    change("invoices", "due", "200", id="iA")(banks)
    drop("reviews", reason="second_payment")(mine)
    mine["paid_with"] += rows("order_id reference movement units", "A refA m2 100")
    assert reckoned(banks, mine) == []
    for table in ("fulfilments", "marks", "paid_with", "receipts"):
        mine[table] = [row for row in mine[table] if row["order_id"] != "A"]
    mine["reviews"] += rows("number reference reason subject", "3 refA partly_paid expired:200")
    assert reckoned(banks, mine) == []
    change("reviews", "subject", "expired:100", number="3")(mine)
    mine["reviews"] += rows("number reference reason subject", "4 refA refunded_before_paid m2")
    assert reckoned(banks, mine) == []
    change("reviews", "subject", "expired:90", number="3")(mine)
    assert any("found nothing" in line for line in reckoned(banks, mine))
