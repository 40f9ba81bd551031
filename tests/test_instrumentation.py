"""Telemetry listens and never interferes."""

from __future__ import annotations

import logging

import pytest
from attrs.exceptions import FrozenInstanceError

from deposit_token_sdk.instrumentation import CallDetails, log_call, tell

CALL = CallDetails(
    verb="create_invoice",
    issuer="test-bank",
    route="POST /invoices",
    status=201,
    tries=2,
    seconds=0.1234,
    request_id="r7",
    outcome="ok",
)
LOST = CallDetails(
    verb="refund",
    issuer="test-bank",
    route="POST /refunds",
    status=None,
    tries=4,
    seconds=30.0,
    request_id=None,
    outcome="outcome_unknown",
)


def test_an_account_of_a_call_cannot_be_altered() -> None:
    with pytest.raises(FrozenInstanceError):
        CALL.tries = 1  # type: ignore[misc]


def test_a_call_that_went_well_is_logged_for_those_who_look(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "deposit_token_sdk"):
        log_call(CALL)
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert record.name == "deposit_token_sdk"
    assert record.getMessage() == (
        "create_invoice at test-bank: ok (route=POST /invoices status=201 tries=2 seconds=0.123 request_id=r7)"
    )


def test_a_call_that_failed_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "deposit_token_sdk"):
        log_call(CALL)
        log_call(LOST)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "refund at test-bank: outcome_unknown" in record.getMessage()


def test_a_hook_that_raises_is_logged_and_the_next_is_still_told(caplog: pytest.LogCaptureFixture) -> None:
    told: list[CallDetails] = []

    def broken(call: CallDetails) -> None:
        raise RuntimeError("telemetry is down")

    tell([broken, told.append], CALL)
    assert told == [CALL]
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None


def test_a_hook_may_not_swallow_an_interrupt() -> None:
    def interrupted(call: CallDetails) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tell([interrupted], CALL)
