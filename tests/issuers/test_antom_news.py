from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk.checkout.decisions import after_report
from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    NotGenuine,
    NotOurs,
    OutcomeUnknown,
    Unreadable,
)
from deposit_token_sdk.evidence import Expected, accept, authenticate_stored
from deposit_token_sdk.lifecycle import RefundStage, Stage, Word
from deposit_token_sdk.models import StatementKind
from deposit_token_sdk.testing.rehearsal import START, Lost
from deposit_token_sdk.testing.values import an_attempt
from tests.issuers.antom_double import (
    ANTOM,
    BANK,
    CLIENT,
    INSTALLATION,
    LOCK,
    PAID_AT,
    REFERENCE,
    REFUND,
    a_quote,
    a_report,
    an_invoice,
    body_of,
    new_refund,
    notification,
    payment,
    refused,
    result,
    sent,
    signed,
    told,
    transaction,
    usd,
)

# -- what was paid ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("SUCCESS", Stage.SETTLED),
        ("PROCESSING", Stage.SEEN),
        ("PENDING", Stage.SEEN),
        ("FAIL", Stage.RELEASED),
        ("CANCELLED", Stage.RELEASED),
        ("IN_A_NEW_WAY", Stage.UNKNOWN),
    ],
)
def test_a_payment_s_status_is_kept_and_read(status: str, stage: Stage) -> None:
    (movement,) = told(ANTOM.invoice(REFERENCE), payment(status)).movements
    assert (movement.id, movement.stage, movement.units, movement.word) == ("pay_1", stage, 13926, status)
    assert movement.accepted_at == datetime(2026, 9, 21, 14, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        ("PENDING", "PENDING", set()),
        ("PROCESSING", "PAYMENT_IN_PROCESS", set()),
        ("FAIL", "ORDER_IS_CLOSED", {Word.EXPIRED}),
        ("FAIL", "RISK_REJECT", {Word.CANCELLED}),
        ("CANCELLED", "SUCCESS", {Word.CANCELLED}),
        ("IN_A_NEW_WAY", "SUCCESS", set()),
    ],
)
def test_an_end_is_antom_s_word_alone(status: str, code: str, words: set[Word]) -> None:
    report = a_report(status=status, paymentResultCode=code)
    assert report.words == words
    assert report.confirmations == ()


def test_a_session_that_nobody_has_paid_on_shows_no_money() -> None:
    assert told(ANTOM.invoice(REFERENCE), payment("PENDING", paymentId=None)).movements == ()


def test_a_payment_whose_result_is_still_to_come_is_money_on_its_way() -> None:
    """Antom calls it PENDING. Taken for an unpaid session, the buyer could be asked to pay again meanwhile."""
    report = a_report(status="PENDING", paymentTime=None)
    attempt = an_attempt(quote=a_quote(), invoice=REFERENCE)
    standing = evolve(attempt, history=accept(report, expected()).history).standing
    assert standing is not None
    assert standing.money_on_its_way
    assert report.words == set()


def test_what_the_buyer_paid_counts_not_what_was_asked() -> None:
    report = a_report(actualPaymentAmount=usd("100"))
    assert [one.units for one in report.confirmations] == [100]


def test_a_short_payment_ends_the_session_so_that_a_person_looks_at_it() -> None:
    report = a_report(actualPaymentAmount=usd("100"))
    assert report.words == {Word.EXPIRED}
    attempt = an_attempt(quote=a_quote(), invoice=REFERENCE)
    plan = after_report(attempt, accept(report, expected()).history, None, superseded=False)
    assert (plan.fulfil, plan.ended) == (False, "expired")
    assert [doubt.reason for doubt in plan.doubts] == ["partly_paid"]
    assert a_report().words == set()
    second = transaction("PAYMENT", transactionId="pay_2", transactionAmount=usd("26"))
    assert a_report(actualPaymentAmount=usd("13900"), transactions=[second]).words == set()


def test_further_payments_under_one_request_are_movements_too() -> None:
    second = transaction("PAYMENT", transactionId="pay_2", transactionAmount=usd("26"))
    report = a_report(actualPaymentAmount=usd("13900"), transactions=[second])
    assert {(one.movement, one.units) for one in report.confirmations} == {("pay_1", 13900), ("pay_2", 26)}


def test_a_confirmation_is_what_the_signed_answer_says_and_fits_its_quote() -> None:
    report = a_report()
    (one,) = report.confirmations
    assert (one.kind, one.issuer, one.merchant, one.mode) == (StatementKind.SETTLEMENT, BANK, CLIENT, "test")
    assert (one.invoice, one.movement, one.units, one.token) == (REFERENCE, "pay_1", 13926, "SBUSD")
    assert accept(report, expected()).history.observations


def expected(**changes: Any) -> Expected:
    known = Expected(BANK, CLIENT, INSTALLATION, "test", REFERENCE, REFERENCE, "SBUSD", a_quote().digest, ANTOM.proofs)
    return evolve(known, **changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"merchant": "SANDBOX_OTHER"}, "other_merchant"),
        ({"installation": "otherone"}, "other_installation"),
        ({"mode": "live"}, "other_mode"),
        ({"reference": "k7Qm2xVb0002"}, "other_reference"),
        ({"token": "SBEUR"}, "other_token"),
        ({"quote_digest": "another"}, "other_quote"),
        ({"proofs": frozenset()}, "proof_not_allowed"),
    ],
)
def test_another_s_confirmation_is_not_applied(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotOurs) as error:
        accept(a_report(), expected(**changes))
    assert error.value.reason == reason


@pytest.mark.parametrize("lock", [LOCK | {"quotePrice": "1.0838"}, LOCK | {"quoteId": "quo_2"}, None])
def test_a_payment_under_another_rate_is_not_this_attempt_s(lock: dict[str, Any] | None) -> None:
    with pytest.raises(NotOurs) as error:
        accept(a_report(paymentQuote=lock), expected())
    assert error.value.reason == "other_quote"


def test_evidence_proves_itself_years_later_and_not_once_it_was_touched() -> None:
    (one,) = a_report().confirmations
    kept = one.evidence
    assert authenticate_stored(kept) == one
    forged = evolve(kept, content=kept.content.replace("13926", "13927"))
    assert refused_evidence(forged) == "signature_mismatch"
    assert refused_evidence(evolve(kept, content=kept.content.replace("pay_1", "pay_2", 1))) == "not_shown"
    assert refused_evidence(evolve(kept, kind=StatementKind.REFUND)) == "not_shown"
    assert refused_evidence(evolve(kept, content=kept.content.replace("SBUSD=USD", "SBEUR=EUR"))) == "other_token"
    assert refused_evidence(evolve(kept, content=kept.content.replace("SB_USD", "SB_XXX", 1))) == "other_token"
    assert refused_evidence(evolve(kept, content=kept.content.replace('"antom"', '"nobody"', 1))) == "proof_unknown"
    assert refused_evidence(evolve(kept, content="no JSON")) == "proof_unknown"


def refused_evidence(kept: Any) -> str:
    with pytest.raises((NotGenuine, Unreadable)) as error:
        authenticate_stored(kept)
    return error.value.reason


def test_an_answer_to_another_question_proves_no_payment() -> None:
    (one,) = a_report().confirmations
    kept = json.loads(one.evidence.content)
    path = "/ams/sandbox/api/v1/payments/inquiryRefund"
    reply = signed(payment(), path=path)
    with pytest.raises(NotGenuine, match="does not fit"):
        told(ANTOM.report_invoice(an_invoice()), reply)
    assert kept["path"].endswith("/payments/inquiryPayment")


# -- refunds ---------------------------------------------------------------------------------------------------


def test_a_refund_names_payment_and_refund_and_goes_to_the_payment() -> None:
    done = result() | {"refundId": "ref_1", "refundRequestId": f"{REFERENCE}_{REFUND}", "refundAmount": usd("500")}
    requests = sent(ANTOM.refund(new_refund()), payment(), done)
    assert body_of(requests[1]) == {
        "refundRequestId": f"{REFERENCE}_{REFUND}",
        "paymentId": "pay_1",
        "refundAmount": usd("500"),
    }
    refund = told(ANTOM.refund(new_refund()), payment(), done)
    assert (refund.id, refund.reference, refund.units, refund.stage) == ("ref_1", REFUND, 500, RefundStage.DONE)


@pytest.mark.parametrize(
    "changes", [{"refundAmount": usd("501")}, {"refundAmount": {"currency": "EUR", "value": "500"}}]
)
def test_a_refund_of_another_amount_is_not_taken_for_ours(changes: dict[str, Any]) -> None:
    done = result() | {"refundId": "ref_1", "refundRequestId": f"{REFERENCE}_{REFUND}"} | changes
    error = refused(ANTOM.refund(new_refund()), [payment(), done], NotOurs)
    assert error.reason == "refund_for_another_request"


def test_a_refund_in_process_is_pending_and_a_lost_one_unknown() -> None:
    refund = told(ANTOM.refund(new_refund()), payment(), signed(result("REFUND_IN_PROCESS", "U")))
    assert (refund.stage, refund.word) == (RefundStage.PENDING, "REFUND_IN_PROCESS")
    refused(ANTOM.refund(new_refund()), [payment(), *[Lost()] * 5], OutcomeUnknown)


def test_nothing_is_refunded_where_nothing_was_paid() -> None:
    unpaid = payment("PENDING", paymentId=None)
    assert refused(ANTOM.refund(new_refund()), [unpaid], BankRefused).reason == "unknown_invoice"


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("SUCCESS", RefundStage.DONE),
        ("PROCESSING", RefundStage.PENDING),
        ("FAIL", RefundStage.FAILED),
        ("CANCELLED", RefundStage.CANCELLED),
        ("NEW", RefundStage.UNKNOWN),
    ],
)
def test_a_refund_s_status_is_kept_and_read(status: str, stage: RefundStage) -> None:
    answer = result() | {
        "refundStatus": status,
        "refundId": "ref_1",
        "refundRequestId": f"{REFERENCE}_{REFUND}",
        "refundAmount": usd("500"),
    }
    by_reference = told(ANTOM.find_refund(REFUND, REFERENCE), answer)
    by_id = told(ANTOM.refund_status("ref_1"), answer)
    assert by_reference == by_id
    assert (by_id.stage, by_id.word, by_id.reference, by_id.invoice) == (stage, status, REFUND, REFERENCE)


def test_what_antom_does_not_know_is_none_and_no_error() -> None:
    unknown = signed(result("ORDER_NOT_EXIST", "F"))
    assert told(ANTOM.find_invoice(REFERENCE), unknown) is None
    assert told(ANTOM.find_refund(REFUND, REFERENCE), unknown) is None
    denied = refused(ANTOM.find_invoice(REFERENCE), [signed(result("ACCESS_DENIED", "F"))], BankRefused)
    assert denied.reason == "access_denied"


def test_a_refund_is_confirmed_by_the_answer_about_its_payment() -> None:
    report = a_report(transactions=[transaction()])
    refund = next(one for one in report.confirmations if one.kind is StatementKind.REFUND)
    assert (refund.movement, refund.refund_reference, refund.units) == ("ref_1", REFUND, 500)
    (accepted,) = accept(report, expected()).refunds
    assert accepted.stage is RefundStage.DONE


def test_a_refund_made_elsewhere_keeps_its_own_name() -> None:
    report = a_report(transactions=[transaction(transactionRequestId="made-by-hand")])
    assert [one.reference for one in report.refunds] == ["made-by-hand"]


def test_a_cancelled_session_is_read_again() -> None:
    done = result() | {"paymentRequestId": REFERENCE, "paymentId": "pay_1", "cancelTime": PAID_AT}
    invoice = told(ANTOM.cancel(REFERENCE, "key"), done, payment("CANCELLED", paymentId=None))
    assert invoice.word == "CANCELLED"


def test_a_rate_can_be_asked_for_without_locking_it() -> None:
    (lock,) = told(ANTOM.exchange_rate("EUR", "USD"), result() | {"quotes": [LOCK]})
    assert (lock.pair, lock.price) == ("EUR/USD", Decimal("1.0837"))


# -- notifications ---------------------------------------------------------------------------------------------

PAID = result() | {"notifyType": "PAYMENT_RESULT", "paymentRequestId": REFERENCE, "paymentId": "pay_1"}
REFUNDED = result() | {
    "notifyType": "REFUND_RESULT",
    "refundStatus": "SUCCESS",
    "refundRequestId": f"{REFERENCE}_{REFUND}",
    "refundId": "ref_1",
}


@pytest.mark.parametrize("body", [PAID, PAID | {"notifyType": "PAYMENT_PENDING"}, REFUNDED])
def test_a_notification_is_verified_and_then_antom_is_asked(body: dict[str, Any]) -> None:
    event = told(ANTOM.read_event(*notification(body), START))
    assert (event.reference, event.invoice, event.installation) == (REFERENCE, REFERENCE, INSTALLATION)
    assert (event.merchant, event.mode) == (CLIENT, "test")
    report = told(ANTOM.report_event(event, START), payment(transactions=[transaction()]))
    assert report is not None
    assert (report.event_id, len(report.confirmations)) == (event.id, 2)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (PAID, payment("PROCESSING")),
        (PAID, payment("PENDING")),
        (PAID, payment("PENDING", paymentId=None)),
        (REFUNDED, payment()),
        (REFUNDED, payment(transactions=[transaction(status="PROCESSING")])),
        (REFUNDED | {"refundStatus": "FAIL"}, payment(transactions=[transaction()])),
    ],
)
def test_a_notification_that_is_ahead_of_what_antom_shows_must_come_again(
    body: dict[str, Any], shown: dict[str, Any]
) -> None:
    event = told(ANTOM.read_event(*notification(body), START))
    assert refused(ANTOM.report_event(event, START), [shown], BankUnavailable).reason == "not_shown_yet"


def test_a_notification_of_something_else_is_taken_and_nothing_follows() -> None:
    for body in (PAID | {"notifyType": "DISPUTE_CREATED"}, REFUNDED | {"refundRequestId": "made-by-hand"}):
        event = told(ANTOM.read_event(*notification(body), START))
        assert told(ANTOM.report_event(event, START)) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"path": "/webhooks/other"}, "signature_mismatch"),
        ({"at": START - 301}, "too_old"),
        ({"at": START + 301}, "in_the_future"),
    ],
)
def test_a_notification_for_another_address_or_time_is_refused(changes: dict[str, Any], reason: str) -> None:
    assert refused_notification(*notification(PAID, **changes)) == reason


def test_a_notification_that_was_touched_is_refused() -> None:
    headers, body = notification(PAID)
    assert refused_notification(headers, body.replace(b"pay_1", b"pay_2")) == "signature_mismatch"
    assert refused_notification(headers | {"Client-Id": "OTHER"}, body) == "signature_mismatch"
    assert refused_notification({}, body) == "header_missing"


def refused_notification(headers: dict[str, str], body: bytes) -> str:
    with pytest.raises(NotGenuine) as error:
        told(ANTOM.read_event(headers, body, START))
    return error.value.reason
