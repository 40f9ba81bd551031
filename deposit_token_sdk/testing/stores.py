"""What every store must keep, as tests: subclass `StoreConformance` and give it a fresh, empty store.

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(...)

Some tests run sixteen threads at once, so the store's database must be one that threads can share; override
`around_thread` where a thread needs a context to work in. Nothing here looks inside a store.
"""
# ruff: noqa: S101

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk.checkout.store import Decision, Review, Store, Tx, Verb, Verdict
from deposit_token_sdk.lifecycle import History, RefundStage, Stage, Status, Word
from deposit_token_sdk.models import Evidence, Proof, StatementKind
from deposit_token_sdk.money import Money
from deposit_token_sdk.offers.policy import Ground, Ruling
from deposit_token_sdk.testing.store_books import BooksConformance
from deposit_token_sdk.testing.store_queues import THREADS, QueueConformance
from deposit_token_sdk.testing.store_seals import SealConformance
from deposit_token_sdk.testing.values import (
    HUGE,
    LATER,
    NOON,
    a_confirmation,
    a_message,
    a_quote,
    a_refund,
    a_refusal,
    an_attempt,
    an_intent,
    paid,
)


def _write_and_fail(tx: Tx) -> None:
    assert tx.claim(a_message()) is None
    assert tx.add_attempt(an_attempt())
    assert tx.fulfil("A-1", "r1", NOON)
    assert tx.refuse(a_refusal())
    raise ZeroDivisionError


class StoreConformance(QueueConformance, SealConformance, BooksConformance):
    """The tests. A subclass overrides the fixture `store`, and `around_thread` where needed."""

    # --- transactions -------------------------------------------------------------------------------------------

    def test_an_exception_rolls_back_all_that_the_block_wrote(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.begin() as tx:
            _write_and_fail(tx)
        assert store.order("A-1").attempts == ()
        assert store.refusals("A-1") == ()
        assert store.order("A-1").paid_by is None
        with store.begin() as tx:
            assert tx.claim(a_message()) is None

    def test_a_store_can_begin_again_after_an_exception(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.begin():
            raise ZeroDivisionError
        with store.begin() as tx:
            assert tx.add_attempt(an_attempt())
        assert store.attempt("r1") == an_attempt()

    # --- messages -----------------------------------------------------------------------------------------------

    def test_a_message_is_claimed_once_and_a_repetition_tells_the_first_digest(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.claim(a_message()) is None
            tx.record("sandbox", "ev-1", "applied")
        with store.begin() as tx:
            assert tx.claim(a_message(digest="another")) == "digest of the body"
            assert tx.claim(a_message("ev-2")) is None

    def test_two_issuers_may_use_the_same_event_id(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.claim(a_message()) is None
            assert tx.claim(a_message(issuer="other")) is None

    def test_of_many_threads_with_the_same_message_one_claims_it(
        self, store: Store, at_once: Callable[..., list[Any]]
    ) -> None:
        def claim(_: int) -> str | None:
            with store.begin() as tx:
                return tx.claim(a_message())

        told = at_once(claim)
        assert told.count(None) == 1
        assert told.count("digest of the body") == THREADS - 1

    # --- attempts -----------------------------------------------------------------------------------------------

    def test_an_attempt_comes_back_as_it_was_written(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.add_attempt(an_attempt())
        assert store.attempt("r1") == an_attempt()
        assert store.attempt("r2") is None

    def test_an_attempt_may_be_written_whole(self, store: Store) -> None:
        words = frozenset({Word.EXPIRED})
        whole = an_attempt(
            price=Money("1000", "JPY"), quote=a_quote(), invoice="i-1", pay_url="https://bank.example/p", ended="paid"
        )
        whole = evolve(whole, history=History(paid().observations, words))
        with store.begin() as tx:
            assert tx.add_attempt(whole)
            assert tx.add_attempt(an_attempt("r2"))
        assert store.attempt("r1") == whole

    def test_quote_and_invoice_come_back_to_the_unit_and_microsecond(self, store: Store) -> None:
        zone = timezone(timedelta(hours=2))
        quote = a_quote(due=HUGE, net=HUGE - 174, expires_at=LATER.astimezone(zone), rate=Decimal("0.0000001"))
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.save_quote("r1", quote)
            tx.save_invoice("r1", "i-1", "https://bank.example/i-1", None)
        kept = store.attempt("r1")
        assert kept == an_attempt(quote=quote, invoice="i-1", pay_url="https://bank.example/i-1")
        assert kept is not None
        assert kept.quote is not None
        assert str(kept.quote.rate) == str(quote.rate)
        assert kept.quote.expires_at.utcoffset() == timedelta(0)

    def test_a_quote_without_a_statement_comes_back_without_one(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.save_quote("r1", a_quote(statement=None))
            tx.save_invoice("r1", "i-1", None, "Pay 141.00 to DE00 …")
        assert store.attempt("r1") == an_attempt(
            quote=a_quote(statement=None), invoice="i-1", instructions="Pay 141.00 to DE00 …"
        )

    def test_why_a_token_was_offered_comes_back_with_the_attempt(self, store: Store) -> None:
        ruling = Ruling("allowed", "Nichts spricht dagegen.", Ground.SHOP, "a rule", "2026-02")
        with store.begin() as tx:
            assert tx.add_attempt(an_attempt(ruling=ruling))
        kept = store.attempt("r1")
        assert kept == an_attempt(ruling=ruling)
        assert kept is not None
        assert kept.ruling is not None
        assert kept.ruling.allowed
        assert kept.ruling.ground is Ground.SHOP

    def test_why_tokens_were_not_offered_is_kept_once_each_without_an_attempt(self, store: Store) -> None:
        later = a_refusal("A-1", "SBEUR", at=LATER)
        with store.begin() as tx:
            assert tx.refuse(later)
            assert tx.refuse(a_refusal())
            assert not tx.refuse(a_refusal(at=LATER))
            assert tx.refuse(a_refusal("A-2", buyer_country="KP"))
        assert store.refusals("A-1") == (a_refusal(), later)
        assert [refusal.buyer_country for refusal in store.refusals("A-2")] == ["KP"]
        assert store.order("A-1").attempts == ()
        assert store.refusals("A-3") == ()

    def test_an_order_has_one_live_attempt(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.add_attempt(an_attempt("r1"))
            assert tx.add_attempt(an_attempt("s1", "A-2"))
        with store.begin() as tx:
            assert not tx.add_attempt(an_attempt("r2"))
        assert [attempt.reference for attempt in store.order("A-1").attempts] == ["r1"]

    def test_an_order_whose_attempt_ended_can_be_tried_again(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt("r2"))
            tx.end_attempt("r2", "superseded")
            assert tx.add_attempt(an_attempt("r1"))
        assert [(attempt.reference, attempt.ended) for attempt in store.order("A-1").attempts] == [
            ("r2", "superseded"),
            ("r1", None),
        ]

    def test_the_first_word_on_an_attempts_end_stays(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.end_attempt("r1", "paid")
            tx.end_attempt("r1", "expired")
        kept = store.attempt("r1")
        assert kept is not None
        assert kept.ended == "paid"

    def test_of_many_threads_that_start_an_order_one_adds_the_attempt(
        self, store: Store, at_once: Callable[..., list[Any]]
    ) -> None:
        def start(number: int) -> bool:
            with store.begin() as tx:
                return tx.add_attempt(an_attempt(f"r{number}"))

        assert at_once(start).count(True) == 1
        assert len(store.order("A-1").attempts) == 1

    # --- locks --------------------------------------------------------------------------------------------------

    def test_an_order_without_an_attempt_can_be_locked(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.lock_order("A-1") == ()
            assert tx.add_attempt(an_attempt())
            assert tx.lock_order("A-1") == (an_attempt(),)

    def test_a_locked_order_shows_all_its_attempts_oldest_first(self, store: Store) -> None:
        old, new = an_attempt("r9", created_at=LATER, ended="expired"), an_attempt("r1", created_at=NOON)
        with store.begin() as tx:
            tx.add_attempt(old)
            tx.add_attempt(new)
        with store.begin() as tx:
            assert tx.lock_order("A-1") == (old, new)

    def test_an_attempt_is_locked_with_all_attempts_of_its_order(self, store: Store) -> None:
        old, new = an_attempt("r1", ended="expired"), an_attempt("r2", created_at=LATER)
        with store.begin() as tx:
            tx.add_attempt(old)
            tx.add_attempt(new)
            tx.add_attempt(an_attempt("s1", "A-2"))
        for reference in ("r1", "r2"):
            with store.begin() as tx:
                assert tx.lock_attempt(reference) == (old, new)
        with store.begin() as tx:
            assert tx.lock_attempt("unknown") == ()

    @pytest.mark.parametrize("by", ["attempt", "order"])
    def test_refunds_decided_under_the_lock_never_exceed_what_came(
        self, store: Store, at_once: Callable[..., list[Any]], by: str
    ) -> None:
        paid_ones = [f"r{number}" for number in range(8)]
        with store.begin() as tx:
            for reference in paid_ones:
                tx.add_attempt(an_attempt(reference, f"order of {reference}", ended="paid"))

        def refund_60_of_100(reference: str, thread: int) -> bool:
            with store.begin() as tx:
                if by == "attempt":
                    tx.lock_attempt(reference)
                else:
                    tx.lock_order(f"order of {reference}")
                if sum(refund.units for refund in tx.refunds(reference)) + 60 > 100:
                    return False
                name = f"{reference} {thread}"
                return tx.add_refund(a_refund(f"f {name}", reference, f"page {name}")) is None

        done = at_once(lambda thread: [refund_60_of_100(reference, thread) for reference in paid_ones])
        assert [sum(of_one) for of_one in zip(*done, strict=True)] == [1] * len(paid_ones)
        assert [len(store.order(f"order of {reference}").refunds) for reference in paid_ones] == [1] * len(paid_ones)

    # --- what the bank has shown --------------------------------------------------------------------------------

    def test_observations_and_words_are_joined_and_repetition_changes_nothing(self, store: Store) -> None:
        held, settled = paid(stage=Stage.HELD), paid(units=HUGE)
        both = History(held.observations | settled.observations, frozenset(Word))
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.add_observations("r1", held)
        with store.begin() as tx:
            tx.add_observations("r1", settled)
            tx.add_observations("r1", both)
            tx.add_observations("r1", held)
            tx.add_observations("r1", History())
            (kept,) = tx.lock_attempt("r1")
        assert kept.history == both
        assert store.attempt("r1") == kept

    def test_a_kept_history_yields_its_standing(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.save_quote("r1", a_quote())
            tx.add_observations("r1", paid())
        kept = store.attempt("r1")
        assert kept is not None
        assert kept.standing is not None
        assert kept.standing.status is Status.PAID

    def test_histories_of_two_attempts_do_not_mix(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt("r1", ended="expired"))
            tx.add_attempt(an_attempt("r2"))
            tx.add_observations("r2", paid())
        assert [attempt.history for attempt in store.order("A-1").attempts] == [History(), paid()]

    def test_a_movement_pays_the_reference_that_had_it_first(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.claim_movement("sandbox", "mv-1", "r1") == "r1"
        with store.begin() as tx:
            assert tx.claim_movement("sandbox", "mv-1", "r1") == "r1"
            assert tx.claim_movement("sandbox", "mv-1", "r2") == "r1"
            assert tx.claim_movement("other", "mv-1", "r2") == "r2"

    def test_of_many_threads_with_one_movement_all_name_one_reference(
        self, store: Store, at_once: Callable[..., list[Any]]
    ) -> None:
        def claim(number: int) -> str:
            with store.begin() as tx:
                return tx.claim_movement("sandbox", "mv-1", f"r{number}")

        assert len(set(at_once(claim))) == 1

    def test_evidence_comes_back_whole_and_the_same_statement_once(self, store: Store) -> None:
        settled = a_confirmation(units=HUGE)
        taken_back = a_confirmation("r1", "mv-2", kind=StatementKind.RETURN, of="mv-1", quote_digest=None)
        taken_back = evolve(taken_back, evidence=evolve(taken_back.evidence, kind=StatementKind.RETURN))
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.keep_evidence("r1", settled)
            tx.keep_evidence("r1", taken_back)
            tx.keep_evidence("r1", settled)
        assert store.evidence("A-1") == (settled, taken_back)
        assert store.evidence("A-2") == ()

    def test_one_answer_of_a_bank_may_prove_two_movements(self, store: Store) -> None:
        answer = Evidence(Proof.CHANNEL, StatementKind.SETTLEMENT, '{"payments":[…]}', "", NOON)
        first, second = (a_confirmation(movement=movement, evidence=answer) for movement in ("mv-1", "mv-2"))
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.keep_evidence("r1", first)
            tx.keep_evidence("r1", second)
        assert store.evidence("A-1") == (first, second)

    # --- fulfilment and review ----------------------------------------------------------------------------------

    def test_an_order_is_fulfilled_once(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.fulfilled_by("A-1") is None
            assert tx.fulfil("A-1", "r1", NOON)
            assert tx.fulfilled_by("A-1") == "r1"
        with store.begin() as tx:
            assert not tx.fulfil("A-1", "r2", LATER)
        assert store.order("A-1").paid_by == "r1"
        assert store.order("A-2").paid_by is None

    def test_of_many_threads_one_fulfils_the_order(self, store: Store, at_once: Callable[..., list[Any]]) -> None:
        def fulfil(number: int) -> bool:
            with store.begin() as tx:
                return tx.fulfil("A-1", f"r{number}", NOON)

        assert at_once(fulfil).count(True) == 1

    def test_a_review_is_opened_once_for_reference_reason_and_subject(self, store: Store) -> None:
        first = Review("A-1", "r1", "second_payment", "mv-2", "141.00 SBUSD more", NOON)
        other = evolve(first, subject="mv-3", opened_at=LATER)
        with store.begin() as tx:
            assert tx.open_review(first)
            assert tx.open_review(other)
            assert not tx.open_review(evolve(first, detail="again", opened_at=LATER))
        assert store.reviews() == (first, other)

    def test_a_review_is_open_until_it_is_decided_and_decided_once(self, store: Store) -> None:
        first = Review("A-1", "r1", "second_payment", "mv-2", "141.00 SBUSD more", NOON)
        with store.begin() as tx:
            tx.open_review(first)
            tx.open_review(evolve(first, order_id="A-2", reference="r2"))
        one, two = (review.number for review in store.reviews())
        assert 0 < one < two
        decision = Decision(one, Verdict.REFUND, "Ms Ito", "called the buyer", LATER, "f1")
        with store.begin() as tx:
            assert tx.decision(one) is None
            assert tx.decide(decision)
            assert not tx.decide(evolve(decision, verdict=Verdict.ACCEPT))
            assert tx.decision(one) == decision
            kept = tx.review(one)
            assert kept == first
            assert kept is not None
            assert kept.number == one
            assert tx.review(two + 1) is None
            assert not tx.open_review(first)
        assert [review.number for review in store.reviews()] == [two]
        assert store.all_reviews("A-1") == ((first, decision),)
        assert [(review.number, told) for review, told in store.all_reviews()] == [(two, None), (one, decision)]
        assert [review.number for review, _ in store.all_reviews(limit=1)] == [two]
        assert store.review(one) == (first, decision)
        assert store.review(two + 1) is None
        with store.begin() as tx:
            assert [tx.open_reviews(reference) for reference in ("r1", "r2")] == [(), (store.reviews()[0],)]

    def test_of_many_threads_one_decides(self, store: Store, at_once: Callable[..., list[Any]]) -> None:
        with store.begin() as tx:
            tx.open_review(Review("A-1", "r1", "second_payment", "mv-2", "141.00 SBUSD more", NOON))
        (number,) = (review.number for review in store.reviews())

        def decide(thread: int) -> bool:
            with store.begin() as tx:
                return tx.decide(Decision(number, Verdict.ACCEPT, f"clerk {thread}", "", LATER))

        assert at_once(decide).count(True) == 1
        assert store.reviews() == ()

    # --- intents ------------------------------------------------------------------------------------------------

    def test_an_intent_is_written_once_and_open_until_it_is_answered(self, store: Store) -> None:
        intent = an_intent()
        with store.begin() as tx:
            assert tx.add_intent(intent)
            assert tx.add_intent(an_intent(Verb.CANCEL))
            assert not tx.add_intent(evolve(intent, keys=("key-3",)))
            assert set(tx.open_intents("r1")) == {intent, an_intent(Verb.CANCEL)}
        with store.begin() as tx:
            tx.answer_intent(Verb.START, "r1", "invoiced")
            assert tx.open_intents("r1") == (an_intent(Verb.CANCEL),)
            assert not tx.add_intent(intent)

    @pytest.mark.parametrize("answered", [False, True])
    def test_a_renewed_intent_has_new_keys_and_is_open(self, store: Store, answered: bool) -> None:
        renewed = an_intent(keys=("key-3",), made_at=LATER)
        with store.begin() as tx:
            tx.add_intent(an_intent())
            if answered:
                tx.answer_intent(Verb.START, "r1", "unavailable")
            tx.renew_intent(renewed)
            assert tx.open_intents("r1") == (renewed,)
            assert not tx.add_intent(an_intent())
            tx.answer_intent(Verb.START, "r1", "invoiced")
            assert tx.open_intents("r1") == ()

    def test_intents_of_refunds_are_found_by_their_attempt(self, store: Store) -> None:
        refund = an_intent(Verb.REFUND, "f1", "r1", keys=())
        with store.begin() as tx:
            tx.add_intent(refund)
            assert tx.open_intents("r1") == (refund,)
            assert tx.open_intents("f1") == ()

    # --- refunds ------------------------------------------------------------------------------------------------

    def test_a_double_click_is_one_refund(self, store: Store) -> None:
        first = a_refund(units=HUGE, price=Money("12.345", "KWD"))
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            assert tx.add_refund(first) is None
            assert tx.add_refund(a_refund("f2")) == first
            assert tx.add_refund(a_refund("f3", request="page-2")) is None
            assert tx.refunds("r1") == (first, a_refund("f3", request="page-2"))
        assert store.order("A-1").refunds == (first, a_refund("f3", request="page-2"))
        assert store.order("A-2").refunds == ()

    def test_a_refunds_progress_is_kept_and_a_known_bank_id_stays(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_refund(a_refund())
            tx.save_refund("f1", RefundStage.PENDING, "bank-1")
            tx.save_refund("f1", RefundStage.FAILED, None)
            assert tx.refunds("r1") == (a_refund(stage=RefundStage.FAILED, bank_id="bank-1"),)

    # --- the whole database -------------------------------------------------------------------------------------

    def test_the_installation_is_eight_letters_and_digits_and_stays(
        self, store: Store, at_once: Callable[..., list[Any]]
    ) -> None:
        told = set(at_once(lambda _: store.installation()))
        assert told == {store.installation()}
        (installation,) = told
        assert len(installation) == 8
        assert set(installation) <= set("abcdefghijklmnopqrstuvwxyz0123456789")

    # --- what happened, again and for the first time ------------------------------------------------------------

    def test_a_message_that_is_unclaimed_is_new_again(self, store: Store) -> None:
        with store.begin() as tx:
            assert tx.claim(a_message()) is None
            tx.unclaim(a_message().issuer, a_message().key)
        with store.begin() as tx:
            assert tx.claim(a_message()) is None

    def test_the_first_quote_of_an_attempt_stays(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.save_quote("r1", a_quote())
            tx.save_quote("r1", a_quote(id="another", digest="another"))
        kept = store.attempt("r1")
        assert kept is not None
        assert kept.quote == a_quote()

    def test_the_unanswered_intents_of_an_order_are_read_without_a_lock(self, store: Store) -> None:
        with store.begin() as tx:
            tx.add_attempt(an_attempt())
            tx.add_intent(an_intent())
        assert store.order("A-1").intents == (an_intent(),)
        with store.begin() as tx:
            tx.answer_intent(Verb.START, "r1", "invoiced")
        assert store.order("A-1").intents == ()
