"""Whether genuine news is for this attempt and may count: whose, which, how. Never how much."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk.errors import NotOurs
from deposit_token_sdk.evidence import Expected, accept
from deposit_token_sdk.lifecycle import Observation, RefundStage, Stage, Status, Terms, Word, standing
from deposit_token_sdk.models import Movement, Proof, Refund, Report, StatementKind
from tests.evidence.bank import ACCEPTED, Bank, expected, report

SETTLEMENT, REFUND, RETURN = StatementKind.SETTLEMENT, StatementKind.REFUND, StatementKind.RETURN
TERMS = Terms(due=14100, expires_at=ACCEPTED)

REFUNDED = Refund("ref-1", "abcd1234REFUND", "inv-1", 500, RefundStage.DONE, "done")


def told(stage: Stage, units: int = 14100, movement: str = "mov-1") -> Movement:
    return Movement(movement, stage, units, ACCEPTED, stage.name.lower())


def refused(news: Report, known: Expected) -> str:
    with pytest.raises(NotOurs) as error:
        accept(news, known)
    return error.value.reason


# -- whose, which ----------------------------------------------------------------------------------------------

WHOSE = [
    ({"issuer": "other-bank"}, "other_issuer"),
    ({"merchant": "other-shop"}, "other_merchant"),
    ({"installation": "copy5678"}, "other_installation"),
    ({"mode": "live"}, "other_mode"),
    ({"reference": "abcd1234OTHER"}, "other_reference"),
    ({"invoice": "inv-2"}, "other_invoice"),
]


@pytest.mark.parametrize(("change", "reason"), WHOSE, ids=[reason for _, reason in WHOSE])
def test_news_about_something_else_is_not_ours_with_money_or_without(
    bank: Bank, change: dict[str, Any], reason: str
) -> None:
    assert refused(report(**change), expected()) == reason
    assert refused(report(bank.confirmation(), **change), expected()) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"installation": "copy5678"}, "other_installation"),
        ({"mode": "live"}, "other_mode"),
        ({"reference": "abcd1234OTHER"}, "other_reference"),
        ({"invoice": "inv-2"}, "other_invoice"),
        ({"token": "SBEUR"}, "other_token"),
        ({"quote_digest": "digest-2"}, "other_quote"),
    ],
)
def test_an_envelope_about_this_attempt_cannot_carry_anothers_confirmation(
    bank: Bank, change: dict[str, Any], reason: str
) -> None:
    assert refused(report(bank.confirmation(**change)), expected()) == reason


@pytest.mark.parametrize("name", ["issuer", "merchant"])
def test_a_confirmation_of_another_bank_or_merchant_is_not_ours(bank: Bank, name: str) -> None:
    ours = bank.confirmation()
    foreign = evolve(ours, issuer="other") if name == "issuer" else evolve(ours, merchant="other")
    assert refused(report(foreign), expected()) == f"other_{name}"


def test_one_foreign_confirmation_among_ours_keeps_all_out(bank: Bank) -> None:
    ours, foreign = bank.confirmation(), bank.confirmation(movement="mov-2", token="SBEUR")
    assert refused(report(ours, foreign), expected()) == "other_token"


@pytest.mark.parametrize("kind", [RETURN, REFUND])
def test_returns_and_refunds_name_no_quote_but_must_be_in_the_attempts_token(bank: Bank, kind: StatementKind) -> None:
    accepted = accept(report(bank.confirmation(kind)), expected(quote_digest="another"))
    assert len(accepted.history.observations) == (kind is RETURN)
    assert refused(report(bank.confirmation(kind, token="SBEUR")), expected()) == "other_token"


def test_news_may_come_before_the_banks_invoice_id_is_known_but_must_agree_with_itself(bank: Bank) -> None:
    early = expected(invoice=None)
    assert accept(report(bank.confirmation()), early).history.observations
    assert refused(report(bank.confirmation(invoice="inv-2")), early) == "other_invoice"


def test_a_settlement_for_an_attempt_without_a_quote_is_not_ours(bank: Bank) -> None:
    assert refused(report(bank.confirmation()), expected(quote_digest=None)) == "other_quote"


# -- how -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("allowed", [frozenset(), frozenset({Proof.CHANNEL, Proof.CHAIN})], ids=["none", "others"])
@pytest.mark.parametrize("kind", list(StatementKind))
def test_a_proof_of_a_kind_that_is_not_allowed_counts_for_nothing(
    bank: Bank, kind: StatementKind, allowed: frozenset[Proof]
) -> None:
    assert refused(report(bank.confirmation(kind)), expected(proofs=allowed)) == "proof_not_allowed"


def test_confirmed_money_is_settled(bank: Bank) -> None:
    accepted = accept(report(bank.confirmation(), movements=(told(Stage.SETTLED),)), expected())
    assert Observation("mov-1", Stage.SETTLED, 14100, ACCEPTED) in accepted.history.observations
    assert standing(accepted.history, TERMS).status is Status.PAID


def test_a_confirmation_needs_no_movement_beside_it(bank: Bank) -> None:
    accepted = accept(report(bank.confirmation()), expected())
    assert accepted.history.observations == {Observation("mov-1", Stage.SETTLED, 14100, ACCEPTED)}


@pytest.mark.parametrize("stage", [Stage.SETTLED, Stage.RETURNED])
def test_money_that_is_only_said_to_have_moved_is_seen_and_pays_nothing(stage: Stage) -> None:
    accepted = accept(report(movements=(told(stage),)), expected())
    assert accepted.history.observations == {Observation("mov-1", Stage.SEEN, 14100, ACCEPTED)}
    stands = standing(accepted.history, TERMS)
    assert (stands.status, stands.received) == (Status.PENDING, 0)


def test_a_refunds_statement_confirms_no_payment(bank: Bank) -> None:
    confirmed = bank.confirmation(REFUND, refund="mov-1", units="14100")
    accepted = accept(report(confirmed, movements=(told(Stage.SETTLED),)), expected())
    assert standing(accepted.history, TERMS).received == 0


@pytest.mark.parametrize("stage", [Stage.UNKNOWN, Stage.SEEN, Stage.HELD, Stage.RELEASED])
def test_what_is_not_settled_needs_no_confirmation(stage: Stage) -> None:
    accepted = accept(report(movements=(told(stage),)), expected())
    assert accepted.history.observations == {Observation("mov-1", stage, 14100, ACCEPTED)}


def test_a_short_payment_is_news_and_not_a_forgery(bank: Bank) -> None:
    accepted = accept(report(bank.confirmation(units="1")), expected())
    stands = standing(accepted.history, TERMS)
    assert (stands.status, stands.received, stands.underpaid) == (Status.OPEN, 1, 14099)


def test_a_confirmed_return_takes_the_money_back(bank: Bank) -> None:
    accepted = accept(report(bank.confirmation(), bank.confirmation(RETURN)), expected())
    stands = standing(accepted.history, TERMS)
    assert (stands.status, stands.received) == (Status.RETURNED, 0)


def test_a_movement_told_with_another_amount_than_confirmed_is_a_conflict(bank: Bank) -> None:
    accepted = accept(report(bank.confirmation(), movements=(told(Stage.SETTLED, 99),)), expected())
    stands = standing(accepted.history, TERMS)
    assert (stands.received, stands.conflicts) == (0, frozenset({"mov-1"}))


def test_the_banks_word_on_an_end_is_taken_over() -> None:
    assert accept(report(words=frozenset({Word.EXPIRED})), expected()).history.words == {Word.EXPIRED}


# -- refunds ---------------------------------------------------------------------------------------------------


def test_a_refund_is_done_by_the_banks_signed_word(bank: Bank) -> None:
    accepted = accept(report(bank.confirmation(REFUND), refunds=(REFUNDED,)), expected())
    assert accepted.refunds == (REFUNDED,)
    assert not accepted.history.observations


@pytest.mark.parametrize(
    "change",
    [None, {"refund": "ref-2"}, {"refund_reference": "abcd1234OTHER"}, {"units": "499"}],
    ids=["no statement", "another refund", "another reference", "another amount"],
)
def test_a_refund_that_is_only_said_to_be_done_is_pending(bank: Bank, change: dict[str, Any] | None) -> None:
    confirmations = () if change is None else (bank.confirmation(REFUND, **change),)
    (refund,) = accept(report(*confirmations, refunds=(REFUNDED,)), expected()).refunds
    assert refund.stage is RefundStage.PENDING
    assert refund.word == "done"


def test_a_settlement_of_the_same_amount_and_name_finishes_no_refund(bank: Bank) -> None:
    settled = bank.confirmation(movement="ref-1", units="500")
    (refund,) = accept(report(settled, refunds=(REFUNDED,)), expected()).refunds
    assert refund.stage is RefundStage.PENDING


@pytest.mark.parametrize(
    "stage", [stage for stage in RefundStage if stage is not RefundStage.DONE], ids=lambda stage: stage.name
)
def test_any_other_word_on_a_refund_is_taken_as_it_is(stage: RefundStage) -> None:
    news = evolve(REFUNDED, stage=stage)
    assert accept(report(refunds=(news,)), expected()).refunds == (news,)


def test_a_refund_changes_no_status(bank: Bank) -> None:
    paid = report(bank.confirmation())
    refunded = report(bank.confirmation(), bank.confirmation(REFUND), refunds=(REFUNDED,))
    before, after = (standing(accept(news, expected()).history, TERMS) for news in (paid, refunded))
    assert after == before
