"""When a sweep asks the bank about an attempt next: at once while anything is open, ever more rarely once it ended."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deposit_token_sdk.checkout.decisions import FRESH, ask_again
from deposit_token_sdk.testing.values import NOON, an_attempt

LIVE, ENDED = an_attempt(created_at=NOON), an_attempt(created_at=NOON, ended="paid")
DAYS = timedelta(days=3)
AGES = st.timedeltas(timedelta(0), timedelta(days=4000))


@given(AGES)
def test_what_is_live_is_asked_about_each_time_at_any_age(age: timedelta) -> None:
    assert ask_again(LIVE, NOON + age, unfinished=False, ended_within=DAYS) == NOON + age


@given(AGES)
def test_what_is_unfinished_is_asked_about_each_time_at_any_age(age: timedelta) -> None:
    assert ask_again(ENDED, NOON + age, unfinished=True, ended_within=DAYS) == NOON + age


@pytest.mark.parametrize(
    ("age", "pause"),
    [
        (timedelta(0), timedelta(0)),
        (FRESH, timedelta(0)),
        (timedelta(minutes=125), timedelta(minutes=30)),
        (timedelta(hours=24, minutes=5), timedelta(hours=6)),
        (DAYS, timedelta(hours=17, minutes=58, seconds=45)),
        (DAYS + timedelta(microseconds=1), None),
    ],
)
def test_what_has_ended_is_asked_about_ever_more_rarely_and_then_no_more(
    age: timedelta, pause: timedelta | None
) -> None:
    now = NOON + age
    assert ask_again(ENDED, now, unfinished=False, ended_within=DAYS) == (None if pause is None else now + pause)


@given(AGES)
def test_without_a_limit_what_has_ended_stays_watched_and_never_goes_back_in_time(age: timedelta) -> None:
    told = ask_again(ENDED, NOON + age, unfinished=False)
    assert told is not None
    assert told >= NOON + age


def test_a_clock_that_runs_behind_the_attempts_own_does_no_harm() -> None:
    before = NOON - timedelta(hours=5)
    assert ask_again(ENDED, before, unfinished=False, ended_within=DAYS) == before


def test_three_days_of_a_paid_order_are_few_questions_although_a_sweep_runs_each_minute() -> None:
    now, asked = NOON, 0
    while (told := ask_again(ENDED, now, unfinished=False, ended_within=DAYS)) is not None:
        now, asked = max(told, now + timedelta(minutes=1)), asked + 1
    assert 20 <= asked <= 50
