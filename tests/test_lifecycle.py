"""Where an invoice stands, whatever order the bank's news comes in and however often."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deposit_token_sdk.lifecycle import (
    History,
    Observation,
    RefundStage,
    Stage,
    Standing,
    Status,
    Terms,
    Word,
    conflicts,
    join,
    received,
    standing,
)

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
EXPIRY = NOON + timedelta(minutes=15)
AFTER = EXPIRY + timedelta(seconds=1)
TERMS = Terms(due=14100, expires_at=EXPIRY)


def seen(movement: str, stage: Stage, units: int = 14100, at: datetime = NOON) -> Observation:
    return Observation(movement, stage, units, at)


def paid(movement: str, units: int, at: datetime = NOON) -> Observation:
    return seen(movement, Stage.SETTLED, units, at)


def history(*news: Observation | Word) -> History:
    return History(
        frozenset(one for one in news if isinstance(one, Observation)),
        frozenset(one for one in news if isinstance(one, Word)),
    )


def stand(*news: Observation | Word, terms: Terms = TERMS) -> Standing:
    return standing(history(*news), terms)


observations = st.builds(
    Observation,
    movement=st.sampled_from("abcd"),
    stage=st.sampled_from(Stage),
    units=st.sampled_from([1, 7050, 14100, 20000]),
    accepted_at=st.sampled_from([NOON, EXPIRY, AFTER]),
)
histories = st.builds(
    History, observations=st.frozensets(observations, max_size=6), words=st.frozensets(st.sampled_from(Word))
)
reports = st.lists(histories, max_size=6)


# -- the laws --------------------------------------------------------------------------------------------------


@given(histories, histories, histories)
def test_joining_is_commutative_associative_and_idempotent_and_nothing_is_its_zero(
    one: History, other: History, third: History
) -> None:
    assert join(one, other) == join(other, one)
    assert join(join(one, other), third) == join(one, join(other, third))
    assert join(one, one) == one
    assert join(one, History()) == one


@given(reports, st.data())
def test_any_order_and_repetition_of_reports_ends_in_the_same_state(news: list[History], data: st.DataObject) -> None:
    straight = reduce(join, news, History())
    repeated = news + data.draw(st.lists(st.sampled_from(news), max_size=4)) if news else news
    shuffled = reduce(join, data.draw(st.permutations(repeated)), History())
    assert shuffled == straight
    assert standing(shuffled, TERMS) == standing(straight, TERMS)
    assert received(shuffled) == received(straight) == standing(straight, TERMS).received


@given(st.lists(observations, max_size=8), st.data())
def test_the_order_in_which_a_set_is_built_decides_nothing(news: list[Observation], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(news))
    assert stand(*shuffled) == stand(*news)


@given(histories, histories)
def test_what_is_known_is_never_forgotten(known: History, shown: History) -> None:
    both = join(known, shown)
    assert known.observations <= both.observations
    assert known.words <= both.words
    assert conflicts(known) <= conflicts(both)


@given(histories)
def test_a_movement_in_conflict_counts_for_nothing(shown: History) -> None:
    doubtful = conflicts(shown)
    clear = History(frozenset(one for one in shown.observations if one.movement not in doubtful), shown.words)
    whole, without = standing(shown, TERMS), standing(clear, TERMS)
    assert (whole.status, whole.received, whole.late) == (without.status, without.received, without.late)
    assert whole.conflicts == doubtful
    assert without.conflicts == frozenset()


@given(histories)
def test_the_figures_of_a_standing_agree_with_each_other(shown: History) -> None:
    stands = standing(shown, TERMS)
    assert (stands.status is Status.PAID) is (stands.received >= TERMS.due)
    assert not (stands.underpaid and stands.overpaid)
    if stands.received > 0:
        assert stands.received + stands.underpaid - stands.overpaid == TERMS.due
    assert not (stands.late and not stands.received and Stage.RETURNED not in {o.stage for o in shown.observations})


@given(histories)
def test_a_stage_we_do_not_know_never_makes_anything_final(shown: History) -> None:
    unknown = seen("z", Stage.UNKNOWN)
    before, after = standing(shown, TERMS), standing(join(shown, history(unknown)), TERMS)
    assert (after.received, after.late) == (before.received, before.late)
    assert after.status is (Status.PENDING if before.status is Status.OPEN else before.status)


# -- each status by example ------------------------------------------------------------------------------------

HALVES = (paid("a", 7050), paid("b", 7050))


@pytest.mark.parametrize(
    ("news", "status"),
    [
        ((), Status.OPEN),
        ((seen("a", Stage.RELEASED),), Status.OPEN),
        ((seen("a", Stage.HELD), seen("a", Stage.RELEASED)), Status.OPEN),
        ((paid("a", 14099),), Status.OPEN),
        ((seen("a", Stage.SEEN),), Status.PENDING),
        ((seen("a", Stage.UNKNOWN),), Status.PENDING),
        ((seen("a", Stage.SEEN), Word.EXPIRED), Status.PENDING),
        ((paid("a", 7050), seen("b", Stage.SEEN, 7050)), Status.PENDING),
        ((seen("a", Stage.HELD),), Status.AUTHORIZED),
        ((seen("a", Stage.SEEN), seen("a", Stage.HELD)), Status.AUTHORIZED),
        ((seen("a", Stage.HELD), seen("b", Stage.SEEN)), Status.AUTHORIZED),
        ((seen("a", Stage.HELD), Word.CANCELLED), Status.AUTHORIZED),
        ((paid("a", 14100),), Status.PAID),
        ((seen("a", Stage.SEEN), paid("a", 14100)), Status.PAID),
        ((seen("a", Stage.RELEASED), paid("a", 14100)), Status.PAID),
        (HALVES, Status.PAID),
        ((paid("a", 14101),), Status.PAID),
        ((paid("a", 14100), seen("b", Stage.HELD)), Status.PAID),
        ((paid("a", 14100), Word.EXPIRED), Status.PAID),
        ((paid("a", 14100), Word.CANCELLED), Status.PAID),
        ((Word.EXPIRED,), Status.EXPIRED),
        ((paid("a", 7050), Word.EXPIRED), Status.EXPIRED),
        ((seen("a", Stage.RELEASED), Word.EXPIRED), Status.EXPIRED),
        ((Word.CANCELLED,), Status.CANCELLED),
        ((Word.CANCELLED, Word.EXPIRED), Status.CANCELLED),
        ((paid("a", 14100), seen("r", Stage.RETURNED)), Status.RETURNED),
        ((paid("a", 14100), seen("r", Stage.RETURNED, 1)), Status.RETURNED),
        ((seen("r", Stage.RETURNED),), Status.RETURNED),
        ((*HALVES, seen("r", Stage.RETURNED, 7050)), Status.RETURNED),
        ((paid("a", 14100), seen("r", Stage.RETURNED), Word.EXPIRED), Status.RETURNED),
        ((paid("a", 14100), paid("b", 14100), seen("r", Stage.RETURNED)), Status.PAID),
    ],
)
def test_the_status_follows_from_what_the_bank_has_shown(news: tuple[Observation | Word, ...], status: Status) -> None:
    assert stand(*news).status is status


def test_two_halves_pay() -> None:
    first, both = stand(HALVES[0]), stand(*HALVES)
    assert (first.status, first.received, first.underpaid) == (Status.OPEN, 7050, 7050)
    assert (both.status, both.received, both.underpaid, both.overpaid) == (Status.PAID, 14100, 0, 0)


def test_one_unit_short_is_not_paid_and_one_over_is_noticed() -> None:
    assert (stand(paid("a", 14099)).status, stand(paid("a", 14099)).underpaid) == (Status.OPEN, 1)
    assert (stand(paid("a", 14101)).status, stand(paid("a", 14101)).overpaid) == (Status.PAID, 1)


def test_held_or_seen_money_is_on_its_way_and_received_is_not_yet_it() -> None:
    for stage in (Stage.UNKNOWN, Stage.SEEN, Stage.HELD):
        on_its_way = stand(seen("a", stage))
        assert on_its_way.money_on_its_way
        assert on_its_way.received == on_its_way.underpaid == 0
    for news in ((), (paid("a", 14100),), (seen("a", Stage.HELD), seen("a", Stage.RELEASED)), (Word.EXPIRED,)):
        assert not stand(*news).money_on_its_way


def test_the_same_movement_with_two_amounts_is_a_conflict_kept_and_not_counted() -> None:
    shown = history(paid("a", 14100), paid("a", 141), paid("b", 7050))
    assert conflicts(shown) == {"a"}
    assert received(shown) == 7050
    assert standing(shown, TERMS).conflicts == {"a"}
    assert len(shown.observations) == 3


def test_two_amounts_at_two_stages_are_a_conflict_too() -> None:
    stands = stand(seen("a", Stage.SEEN, 100), paid("a", 14100))
    assert (stands.status, stands.received, stands.conflicts) == (Status.OPEN, 0, frozenset({"a"}))


def test_a_return_changes_the_status_back_and_the_sum() -> None:
    stands = stand(paid("a", 14100), seen("r", Stage.RETURNED, 14100, AFTER))
    assert (stands.status, stands.received, stands.late) == (Status.RETURNED, 0, False)


def test_a_refund_is_no_observation_so_that_it_can_never_change_a_status() -> None:
    assert "refund" not in " ".join(field.name for field in History.__attrs_attrs__)
    assert not {stage.name for stage in Stage} & {"REFUNDED"}
    assert not {status.name for status in Status} & {"REFUNDED"}


# -- late ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("news", "late"),
    [
        ((paid("a", 14100, NOON),), False),
        ((paid("a", 14100, EXPIRY),), False),
        ((paid("a", 14100, AFTER),), True),
        ((paid("a", 7050, NOON), paid("b", 7050, AFTER)), True),
        ((paid("a", 14100, NOON), paid("b", 7050, AFTER)), False),
        ((seen("a", Stage.HELD, 14100, AFTER),), False),
        ((paid("a", 7050, AFTER),), True),
    ],
)
def test_late_is_decided_by_when_the_bank_accepted_the_money_against_the_quotes_expiry(
    news: tuple[Observation, ...], late: bool
) -> None:
    assert stand(*news).late is late


def test_the_banks_word_on_expiry_does_not_make_money_late_that_was_accepted_before() -> None:
    stands = stand(Word.EXPIRED, paid("a", 14100, NOON))
    assert (stands.status, stands.late) == (Status.PAID, False)


def test_settling_a_held_payment_days_later_does_not_make_it_late() -> None:
    held, settled = seen("a", Stage.HELD, 14100, NOON), paid("a", 14100, NOON)
    assert stand(held, settled, Word.EXPIRED).late is False


def test_what_was_due_and_until_when_comes_from_the_terms_alone() -> None:
    news = history(paid("a", 14100, AFTER))
    assert standing(news, Terms(14100, AFTER)).late is False
    assert standing(news, Terms(14101, AFTER)).status is Status.OPEN


# -- refunds' own life -----------------------------------------------------------------------------------------


def test_a_failed_or_cancelled_refund_frees_its_amount_and_every_other_lays_claim_to_it() -> None:
    assert {stage for stage in RefundStage if not stage.counts} == {RefundStage.FAILED, RefundStage.CANCELLED}


def test_a_refund_that_is_done_can_still_fail() -> None:
    assert max(RefundStage.DONE, RefundStage.FAILED) is RefundStage.FAILED
    assert RefundStage.UNKNOWN < RefundStage.DONE
