"""What a store must tell for the day's report and for doctor, as tests.

`stores.StoreConformance` contains it; nobody needs to subclass anything here.
"""
# ruff: noqa: S101

from __future__ import annotations

from datetime import timedelta

from deposit_token_sdk.checkout.books import Booked
from deposit_token_sdk.checkout.store import Review, Store
from deposit_token_sdk.lifecycle import RefundStage, Stage
from deposit_token_sdk.models import StatementKind
from deposit_token_sdk.testing.values import (
    LATER,
    NOON,
    a_confirmation,
    a_message,
    a_quote,
    a_refund,
    a_refusal,
    an_attempt,
    paid,
)

DAY = timedelta(days=1)


class BooksConformance:
    """What moved on a day, and what is kept of many attempts at once."""

    def test_what_moved_is_found_by_acceptance_fulfilment_or_refund_and_named_once(self, store: Store) -> None:
        with store.begin() as tx:
            for number in range(1, 6):
                tx.add_attempt(an_attempt(f"r{number}", f"A-{number}"))
            tx.keep_evidence("r1", a_confirmation("r1", "mv-1"))
            tx.keep_evidence("r1", a_confirmation("r1", "mv-2", accepted_at=LATER))
            tx.fulfil("A-1", "r1", NOON)
            tx.fulfil("A-2", "r2", NOON)
            tx.add_refund(a_refund("f3", "r3"))
            tx.keep_evidence("r4", a_confirmation("r4", "mv-4", accepted_at=NOON - DAY))
        assert sorted(store.moved_within("sandbox", NOON, NOON + DAY)) == ["r1", "r2", "r3"]
        assert store.moved_within("sandbox", NOON - DAY, NOON) == ("r4",)
        assert store.moved_within("sandbox", NOON + DAY, NOON + 2 * DAY) == ()

    def test_a_days_end_belongs_to_the_next_day(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.keep_evidence("r1", a_confirmation())
        assert store.moved_within("sandbox", NOON - DAY, NOON) == ()
        assert store.moved_within("sandbox", NOON, NOON + timedelta(microseconds=1)) == ("r1",)

    def test_another_issuers_movements_are_not_named_but_a_fulfilment_without_an_attempt_is(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt("r1", issuer="another"))
            tx.keep_evidence("r1", a_confirmation("r1", issuer="another"))
            tx.fulfil("A-1", "r1", NOON)
            tx.fulfil("A-2", "lost", NOON)
        assert store.moved_within("sandbox", NOON, NOON + DAY) == ("lost",)
        assert sorted(store.moved_within("another", NOON, NOON + DAY)) == ["lost", "r1"]

    def test_all_that_is_kept_of_many_attempts_is_read_at_once_in_the_order_asked_for(self, store: Store) -> None:
        refund = a_refund("f1", "r1", stage=RefundStage.DONE, bank_id="ref-1")
        back = a_confirmation("r1", "ref-1", kind=StatementKind.REFUND, refund_reference="f1", accepted_at=LATER)
        with store.begin() as tx:
            tx.add_attempt(an_attempt("r1", ruling=a_refusal().ruling, quote=a_quote(), history=paid()))
            tx.add_attempt(an_attempt("r2", "A-2", history=paid("mv-2", stage=Stage.HELD)))
            tx.add_refund(refund)
            tx.keep_evidence("r1", back)
            tx.fulfil("A-1", "r1", NOON)
            tx.fulfil("A-9", "lost", LATER)
            tx.open_review(Review("A-1", "r1", "overpaid", "mv-1", "Too much.", NOON))
        first, second, third = store.booked(["r2", "nowhere", "r1", "lost"])
        assert first == Booked("r2", "A-2", store.attempt("r2"))
        assert second == Booked("r1", "A-1", store.attempt("r1"), (refund,), "r1", NOON, ("overpaid",), {"f1": LATER})
        assert third == Booked("lost", "A-9", None, paid_by="lost", paid_at=LATER)
        assert store.booked([]) == ()

    def test_an_attempt_is_told_what_else_paid_its_order(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt("r1", ended="superseded"))
            tx.add_attempt(an_attempt("r2"))
            tx.fulfil("A-1", "r2", NOON)
        (old,) = store.booked(["r1"])
        assert (old.paid_by, old.paid_at, old.pays) == ("r2", NOON, False)

    def test_of_a_statement_that_was_signed_again_the_earliest_acceptance_counts(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.add_refund(a_refund())
            for at, movement in ((LATER, "ref-1"), (NOON, "ref-1b")):
                tx.keep_evidence(
                    "r1",
                    a_confirmation(movement=movement, kind=StatementKind.REFUND, refund_reference="f1", accepted_at=at),
                )
        (kept,) = store.booked(["r1"])
        assert kept.refunded_at == {"f1": NOON}

    def test_it_can_be_asked_what_became_of_a_message(self, store: Store) -> None:
        with store.begin() as tx:
            tx.claim(a_message(outcome="applied:applied"))
            tx.claim(a_message("ev-3", outcome="applied:applied"))
            tx.record("sandbox", "ev-3", "parked:unknown_reference")
        assert store.heard("sandbox", "ev-1") == "applied:applied"
        assert store.heard("sandbox", "ev-3") == "parked:unknown_reference"
        assert store.heard("sandbox", "ev-2") is None
        assert store.heard("another", "ev-1") is None
