"""What follows for an order from what its bank has shown: tables of cases, and the rule that holds over all of them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from deposit_token_sdk.checkout.decisions import (
    Doubt,
    Plan,
    after_refund,
    after_report,
    may_cancel,
    may_capture,
    may_replace,
    may_start,
    same_order,
)
from deposit_token_sdk.checkout.store import RefundRecord
from deposit_token_sdk.errors import NotAllowed, OrderChanged
from deposit_token_sdk.lifecycle import History, Observation, RefundStage, Stage, Status, Word, join
from deposit_token_sdk.models import Capture, Refund
from deposit_token_sdk.money import Money
from deposit_token_sdk.testing.values import NOON, a_quote, an_attempt

EXPIRY = NOON + timedelta(minutes=15)
AFTER = EXPIRY + timedelta(seconds=1)

QUOTE = a_quote(expires_at=EXPIRY)
ATTEMPT = an_attempt(quote=QUOTE, invoice="inv-1")


def seen(movement: str, stage: Stage, units: int = 14100, at: datetime = NOON) -> Observation:
    return Observation(movement, stage, units, at)


def paid(movement: str = "a", units: int = 14100, at: datetime = NOON) -> Observation:
    return seen(movement, Stage.SETTLED, units, at)


def history(*news: Observation | Word) -> History:
    return History(
        frozenset(one for one in news if isinstance(one, Observation)),
        frozenset(one for one in news if isinstance(one, Word)),
    )


def plan(
    *news: Observation | Word,
    known: tuple[Observation | Word, ...] = (),
    fulfilled_by: str | None = None,
    superseded: bool = False,
    ended: str | None = None,
) -> Plan:
    before = history(*known)
    attempt = evolve(ATTEMPT, history=before, ended=ended)
    return after_report(attempt, join(before, history(*news)), fulfilled_by, superseded=superseded)


def doubted(made: Plan) -> list[tuple[str, str]]:
    return [(doubt.reason, doubt.subject) for doubt in made.doubts]


# -- after a report --------------------------------------------------------------------------------------------

HELD = seen("a", Stage.HELD)
RETURNED = seen("r", Stage.RETURNED)


@pytest.mark.parametrize(
    ("known", "news", "wanted"),
    [
        ((), (), Plan()),
        ((), (seen("a", Stage.SEEN),), Plan()),
        ((), (seen("a", Stage.UNKNOWN),), Plan()),
        ((), (HELD,), Plan(hooks=("authorized",))),
        ((HELD,), (HELD,), Plan()),
        ((HELD,), (seen("a", Stage.RELEASED),), Plan()),
        ((), (paid(),), Plan(fulfil=True, ended="paid")),
        ((HELD,), (paid(),), Plan(fulfil=True, ended="paid")),
        ((paid("a", 7050),), (paid("b", 7050),), Plan(fulfil=True, ended="paid")),
        ((), (paid("a", 7050), paid("b", 7050)), Plan(fulfil=True, ended="paid")),
        ((), (paid("a", 14099),), Plan(hooks=("underpaid",))),
        ((), (paid("a", 7050), seen("b", Stage.HELD, 7050)), Plan(hooks=("underpaid", "authorized"))),
        ((), (Word.EXPIRED,), Plan(hooks=("expired",), ended="expired")),
        ((Word.EXPIRED,), (Word.EXPIRED,), Plan(ended="expired")),
        ((), (Word.CANCELLED,), Plan(hooks=("cancelled",), ended="cancelled")),
        ((HELD,), (Word.CANCELLED,), Plan()),
        ((Word.EXPIRED,), (seen("a", Stage.SEEN),), Plan()),
    ],
)
def test_what_follows_for_an_order_that_nobody_has_paid_yet(
    known: tuple[Observation | Word, ...], news: tuple[Observation | Word, ...], wanted: Plan
) -> None:
    assert plan(*news, known=known) == wanted


def test_a_repeated_report_has_nothing_fresh_in_it() -> None:
    assert plan(paid(), known=(paid(),), fulfilled_by="r1", ended="paid") == Plan(ended="paid")


def test_a_settled_payment_that_the_bank_lets_go_after_all_goes_before_a_person() -> None:
    """As where a cancellation and the payment cross, and the bank gives back what paid the order."""
    released = seen("a", Stage.RELEASED)
    made = plan(released, Word.CANCELLED, known=(paid(),), fulfilled_by="r1", ended="paid")
    assert doubted(made) == [("settled_then_released", "a")]
    again = plan(released, known=(paid(), released, Word.CANCELLED), fulfilled_by="r1", ended="paid")
    assert doubted(again) == []
    assert doubted(plan(paid(), known=(released,))) == []
    assert doubted(plan(seen("b", Stage.RELEASED), known=(paid(),), fulfilled_by="r1", ended="paid")) == []


def test_late_money_is_for_the_shop_to_decide_and_does_not_fulfil_by_itself() -> None:
    assert plan(paid(at=AFTER)) == Plan(late=True, ended="paid")
    assert plan(paid(at=EXPIRY)) == Plan(fulfil=True, ended="paid")
    assert plan(paid("b", 7050, AFTER), known=(paid("a", 7050),)) == Plan(late=True, ended="paid")


def test_money_accepted_in_time_revives_an_attempt_that_the_bank_called_expired() -> None:
    assert plan(paid(), known=(Word.EXPIRED,), ended="expired") == Plan(fulfil=True, ended="paid")
    assert plan(paid(at=AFTER), known=(Word.EXPIRED,), ended="expired") == Plan(late=True, ended="paid")


def test_a_surplus_fulfils_once_and_goes_before_a_person() -> None:
    made = plan(paid("a", 20000))
    assert (made.fulfil, made.hooks, made.ended) == (True, ("overpaid",), "paid")
    assert doubted(made) == [("overpaid", "a")]
    assert "5900" in made.doubts[0].detail


@pytest.mark.parametrize("by", ["r1", "r0"])
def test_a_second_payment_never_fulfils_and_is_never_dropped(by: str) -> None:
    made = plan(paid("b"), known=(paid("a"),), fulfilled_by=by, ended="paid")
    assert not made.fulfil
    assert not made.late
    assert doubted(made) == [("second_payment", "b")]
    assert made.hooks == (("overpaid",) if by == "r1" else ())
    assert by in made.doubts[0].detail


def test_a_second_payment_on_another_attempt_of_a_paid_order_goes_before_a_person() -> None:
    made = plan(paid("b"), fulfilled_by="r0")
    assert (made.fulfil, doubted(made)) == (False, [("second_payment", "b")])


@pytest.mark.parametrize(
    ("superseded", "ended"),
    [(True, None), (True, "expired"), (False, "superseded"), (False, "cancelled"), (False, "refused"), (False, "paid")],
)
def test_money_on_an_old_attempt_never_fulfils_and_is_never_dropped(superseded: bool, ended: str | None) -> None:
    made = plan(paid("a"), paid("b", 7), superseded=superseded, ended=ended)
    assert not made.fulfil
    assert not made.late
    assert doubted(made) == [("old_attempt", "a"), ("old_attempt", "b")]


def test_a_conflict_is_reported_once_and_pays_nothing() -> None:
    made = plan(paid("a", 141), known=(paid("a", 14100),))
    assert (made.fulfil, doubted(made), made.ended) == (False, [("conflict", "a")], None)
    again = plan(paid("a", 141), known=(paid("a", 14100), paid("a", 141)))
    assert doubted(again) == []


def test_a_conflict_beside_sound_money_does_not_keep_the_order_from_being_paid() -> None:
    made = plan(paid("a"), paid("b", 1), paid("b", 2))
    assert made.fulfil
    assert doubted(made) == [("conflict", "b")]


@pytest.mark.parametrize(("word", "hook"), [(Word.EXPIRED, "expired"), (Word.CANCELLED, "cancelled")])
def test_an_invoice_that_ends_half_paid_goes_before_a_person_once(word: Word, hook: str) -> None:
    made = plan(word, known=(paid("a", 7050),))
    assert (made.hooks, made.ended) == ((hook,), hook)
    assert doubted(made) == [("partly_paid", f"{hook}:7050")]
    assert doubted(plan(word, known=(paid("a", 7050), word), ended=hook)) == []


def test_more_short_money_on_an_expired_invoice_is_noticed_again() -> None:
    made = plan(paid("b", 100), known=(paid("a", 7050), Word.EXPIRED), ended="expired")
    assert not made.fulfil
    assert made.hooks == ("underpaid",)
    assert doubted(made) == [("partly_paid", "expired:7150")]


def test_a_return_calls_its_hook_once_and_unfulfils_nothing_by_itself() -> None:
    made = plan(RETURNED, known=(paid(),), fulfilled_by="r1", ended="paid")
    assert made == Plan(hooks=("returned",))
    assert plan(RETURNED, known=(paid(), RETURNED), fulfilled_by="r1", ended="paid") == Plan()


def test_money_and_its_return_in_one_report_fulfil_nothing() -> None:
    made = plan(paid(), RETURNED)
    assert (made.fulfil, made.hooks) == (False, ("returned",))


def test_news_of_an_attempt_without_a_quote_goes_before_a_person() -> None:
    made = after_report(evolve(ATTEMPT, quote=None), history(paid()), None, superseded=False)
    assert (made.fulfil, doubted(made)) == (False, [("no_quote", "r1")])


observations = st.builds(
    Observation,
    movement=st.sampled_from("abcr"),
    stage=st.sampled_from(Stage),
    units=st.sampled_from([7050, 14100]),
    accepted_at=st.sampled_from([NOON, AFTER]),
)
news_of_the_bank = st.builds(
    History, observations=st.frozensets(observations, max_size=3), words=st.frozensets(st.sampled_from(Word))
)


@given(st.lists(news_of_the_bank, max_size=7), st.booleans())
def test_an_order_is_fulfilled_at_most_once_by_sufficient_money_and_no_settled_money_passes_unnoticed(
    reports: list[History], superseded: bool
) -> None:
    attempt, fulfilled_by, noticed = ATTEMPT, None, set[str]()
    for shown in reports:
        known = join(attempt.history, shown)
        made = after_report(attempt, known, fulfilled_by, superseded=superseded)
        stands = evolve(attempt, history=known).standing
        assert stands is not None
        assert not (made.fulfil and made.late)
        if made.fulfil or made.late:
            assert not superseded
            assert fulfilled_by is None
            assert stands.received >= QUOTE.due
            assert made.late is stands.late
        fresh = _settled(known) - _settled(attempt.history)
        if fresh and (superseded or fulfilled_by is not None):
            noticed = {doubt.subject for doubt in made.doubts}
            assert fresh - stands.conflicts <= noticed
        fulfilled_by = attempt.reference if made.fulfil else fulfilled_by
        attempt = evolve(attempt, history=known, ended=attempt.ended or made.ended)


def _settled(known: History) -> set[str]:
    return {one.movement for one in known.observations if one.stage is Stage.SETTLED}


# -- after a refund's news -------------------------------------------------------------------------------------

KNOWN = RefundRecord("rf1", "r1", "page-1", 500, None, RefundStage.PENDING, "ref-1", NOON)


def told(stage: RefundStage, units: int = 500) -> Refund:
    return Refund("ref-1", "rf1", "inv-1", units, stage, stage.name.lower())


R = RefundStage


@pytest.mark.parametrize(
    ("known", "news", "stage", "hook"),
    [
        (R.REQUESTED, R.PENDING, R.PENDING, None),
        (R.REQUESTED, R.UNKNOWN, R.UNKNOWN, None),
        (R.UNKNOWN, R.PENDING, R.PENDING, None),
        (R.PENDING, R.UNKNOWN, R.PENDING, None),
        (R.PENDING, R.PENDING, R.PENDING, None),
        (R.PENDING, R.DONE, R.DONE, "refunded"),
        (R.REQUESTED, R.DONE, R.DONE, "refunded"),
        (R.DONE, R.DONE, R.DONE, None),
        (R.DONE, R.PENDING, R.DONE, None),
        (R.PENDING, R.FAILED, R.FAILED, "refund_failed"),
        (R.DONE, R.FAILED, R.FAILED, "refund_failed"),
        (R.REQUESTED, R.CANCELLED, R.CANCELLED, "refund_failed"),
        (R.FAILED, R.DONE, R.FAILED, None),
        (R.FAILED, R.FAILED, R.FAILED, None),
        (R.FAILED, R.CANCELLED, R.CANCELLED, None),
        (R.CANCELLED, R.FAILED, R.CANCELLED, None),
    ],
)
def test_a_refunds_news_only_goes_forward_and_one_that_was_done_can_still_fail(
    known: RefundStage, news: RefundStage, stage: RefundStage, hook: str | None
) -> None:
    follows = after_refund(evolve(KNOWN, stage=known), told(news))
    assert (follows.stage, follows.hook) == (stage, hook)
    if hook == "refund_failed":
        assert follows.doubt is not None
        assert (follows.doubt.reason, follows.doubt.subject) == ("refund_failed", "rf1")
        assert "free again" in follows.doubt.detail
    else:
        assert follows.doubt is None


@pytest.mark.parametrize("stage", list(RefundStage), ids=lambda stage: stage.name)
@pytest.mark.parametrize("units", [0, 499, 501])
def test_a_refund_of_another_amount_than_was_asked_for_goes_before_a_person_and_changes_nothing(
    stage: RefundStage, units: int
) -> None:
    follows = after_refund(KNOWN, told(stage, units))
    assert (follows.stage, follows.hook) == (RefundStage.PENDING, None)
    assert isinstance(follows.doubt, Doubt)
    assert follows.doubt.reason == "refund_differs"


@given(st.lists(st.sampled_from(RefundStage), max_size=6), st.data())
def test_a_refund_ends_in_the_same_stage_in_any_order_and_each_hook_is_called_at_most_once(
    stages: list[RefundStage], data: st.DataObject
) -> None:
    ends = []
    for order in (stages, data.draw(st.permutations(stages + stages))):
        known, hooks = KNOWN, []
        for stage in order:
            follows = after_refund(known, told(stage))
            known = evolve(known, stage=follows.stage)
            hooks += [follows.hook] if follows.hook else []
        assert len(hooks) == len(set(hooks))
        assert ("refund_failed" in hooks) is not known.stage.counts
        ends.append(known.stage)
    assert ends[0] is ends[1]


# -- replacing and repeating an attempt ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "news",
    [
        (seen("a", Stage.SEEN),),
        (seen("a", Stage.UNKNOWN),),
        (HELD,),
        (paid("a", 1),),
        (paid("a"),),
        (paid("a", 7050), Word.EXPIRED),
    ],
)
def test_an_order_with_money_under_way_cannot_be_changed(news: tuple[Observation | Word, ...]) -> None:
    with pytest.raises(OrderChanged) as refused:
        may_replace(evolve(ATTEMPT, history=history(*news)), 0)
    assert refused.value.reason == "order_changed"
    assert "A-1" in str(refused.value)


@pytest.mark.parametrize(
    "news", [(), (Word.EXPIRED,), (Word.CANCELLED,), (HELD, seen("a", Stage.RELEASED)), (paid("a"), RETURNED)]
)
def test_an_order_without_money_under_way_can_be_changed(news: tuple[Observation | Word, ...]) -> None:
    may_replace(evolve(ATTEMPT, history=history(*news)), 0)


def test_an_attempt_that_was_never_quoted_can_be_replaced() -> None:
    may_replace(evolve(ATTEMPT, quote=None), 0)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({}, True),
        ({"reference": "r2", "created_at": AFTER, "quote": None, "invoice": None}, True),
        ({"return_url": "https://shop.example/elsewhere"}, True),
        ({"buyer_country": "FR"}, False),
        ({"price": Money("128.51", "EUR")}, False),
        ({"price": Money("128.50", "USD")}, False),
        ({"token": "SBEUR"}, False),
        ({"content": "basket-2"}, False),
        ({"capture": Capture.MANUAL}, False),
    ],
)
def test_the_same_order_is_the_same_price_token_content_country_and_capture(change: dict[str, Any], same: bool) -> None:
    assert same_order(ATTEMPT, evolve(ATTEMPT, **change)) is same


def test_money_that_was_sent_back_no_longer_stands_in_the_way() -> None:
    half = evolve(ATTEMPT, history=history(paid("a", 7050)))
    may_replace(half, 7050)
    with pytest.raises(OrderChanged):
        may_replace(half, 7049)


def test_a_held_payment_can_be_cancelled_but_not_replaced() -> None:
    holding = evolve(ATTEMPT, history=history(HELD))
    may_cancel(holding, 0)
    for news in ((seen("a", Stage.SEEN),), (HELD, paid("b", 1)), (paid("a"),)):
        with pytest.raises(OrderChanged):
            may_cancel(evolve(ATTEMPT, history=history(*news)), 0)


def test_an_unpaid_order_whose_payment_waits_for_a_person_is_not_started_again() -> None:
    waiting = evolve(ATTEMPT, history=history(paid()), ended="paid")
    with pytest.raises(NotAllowed) as refused:
        may_start((waiting, ATTEMPT), lambda _: 0)
    assert refused.value.reason == "payment_in_review"
    may_start((waiting, ATTEMPT), lambda _: 1)
    may_start((evolve(ATTEMPT, history=history(paid("a", 7050))), evolve(ATTEMPT, quote=None)), lambda _: 0)


# -- capturing -------------------------------------------------------------------------------------------------


def test_a_payment_is_captured_only_while_all_of_it_is_held() -> None:
    assert may_capture(evolve(ATTEMPT, history=history(HELD))).status is Status.AUTHORIZED
    for other in (ATTEMPT, evolve(ATTEMPT, quote=None), evolve(ATTEMPT, history=history(paid()))):
        with pytest.raises(NotAllowed) as refused:
            may_capture(other)
        assert refused.value.reason == "not_authorized"
    with pytest.raises(NotAllowed) as refused:
        may_capture(evolve(ATTEMPT, history=history(seen("a", Stage.HELD, 500))))
    assert refused.value.reason == "held_too_little"


def test_money_that_was_sent_back_before_the_rest_came_does_not_fulfil() -> None:
    half = evolve(ATTEMPT, history=history(paid("a", 7050)))
    both = history(paid("a", 7050), paid("b", 7050))
    made = after_report(half, both, None, superseded=False, refunded=1)
    assert not made.fulfil
    assert [doubt.reason for doubt in made.doubts] == ["refunded_before_paid"]
    assert after_report(half, both, None, superseded=False, refunded=0).fulfil


def test_a_refund_that_the_bank_refused_and_then_shows_is_kept_and_reviewed() -> None:
    refused = evolve(KNOWN, stage=RefundStage.FAILED, bank_id=None)
    news = after_refund(refused, told(RefundStage.DONE))
    assert (news.stage, news.hook) == (RefundStage.DONE, "refunded")
    assert news.doubt is not None
    assert news.doubt.reason == "refund_revived"
    failed_at_the_bank = evolve(KNOWN, stage=RefundStage.FAILED, bank_id="ref-1")
    assert after_refund(failed_at_the_bank, told(RefundStage.DONE)).stage is RefundStage.FAILED
