"""Business time goes forward only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from deposit_token_sdk.sandbox.clock import BusinessClock
from deposit_token_sdk.sandbox.problems import Refused

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


def test_business_time_is_real_time_and_what_it_was_advanced_by() -> None:
    clock = BusinessClock(real=lambda: START)
    assert clock.now() == START
    assert clock.advance(timedelta(days=2)) == START + timedelta(days=2)
    assert clock.offset == timedelta(days=2)


def test_business_time_does_not_go_backwards_when_the_machine_does() -> None:
    moments = [START, START, START - timedelta(hours=1), START + timedelta(seconds=1)]
    clock = BusinessClock(real=lambda: moments.pop(0))
    assert [clock.now(), clock.now(), clock.now()] == [START, START, START + timedelta(seconds=1)]


@pytest.mark.parametrize("by", [timedelta(seconds=-1), timedelta(days=40_000)])
def test_moving_it_back_or_out_of_the_calendar_is_refused(by: timedelta) -> None:
    clock = BusinessClock(real=lambda: START)
    with pytest.raises(Refused):
        clock.advance(by)
    assert clock.now() == START
