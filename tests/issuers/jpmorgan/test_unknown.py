"""What nobody knows yet at J.P. Morgan is not taken for absent, not sent under a key that is over, and not altered."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deposit_token_sdk.errors import BankRefused, BankUnavailable, OutcomeUnknown, Unreadable
from deposit_token_sdk.exchange import Exchange, Request, Sent
from deposit_token_sdk.testing.rehearsal import START, Lost, Reply, rehearse
from tests.issuers.jpmorgan import bank
from tests.issuers.jpmorgan.bank import INVOICE, REFUND, TOKEN

VERSIONS = pytest.mark.parametrize("version", [2, 1])


def first(version: int) -> list[Reply]:
    """What the bank is asked first: an access token, in version 2."""
    return [TOKEN] if version == 2 else []


@VERSIONS
@pytest.mark.parametrize("body", [{}, {"message": "no route"}, {"status": 404, "error": "Not Found"}])
def test_a_404_that_is_not_in_the_bank_s_words_is_not_its_word_that_there_is_no_payment(
    version: int, body: dict[str, Any]
) -> None:
    """A gateway without its bank would have each payment under way given up, and paid or sent back once more."""
    lost = Reply.json(body, 404)
    for ask in (bank.issuer(version).invoice(INVOICE), bank.issuer(version).find_refund(REFUND)):
        with pytest.raises(BankRefused) as refused:
            rehearse(ask, [*first(version), lost])
        assert refused.value.reason == "http_404"


@pytest.mark.parametrize(
    "body",
    [
        {"errors": [{"errorDetails": [{"errorCode": "GCA-099", "errorDescription": "System Unavailable"}]}]},
        {"firmRootId": "pay-1", "paymentStatus": {"createDateTime": "2026-09-21T17:40:31.000", "status": "COMPLETED"}},
    ],
)
def test_an_answer_of_version_1_that_lacks_its_payment_does_not_say_that_there_is_none(body: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        rehearse(bank.issuer(1).invoice(INVOICE), [Reply.json(body)])


@VERSIONS
def test_a_question_that_is_refused_refuses_no_refund(version: int) -> None:
    with pytest.raises(BankUnavailable):
        rehearse(bank.issuer(version).refund(bank.new_refund()), [*first(version), Reply.json({}, 403)])


def test_a_refund_that_is_sent_again_is_the_same_to_the_letter_also_after_midnight() -> None:
    """The bank refuses a key under which another body comes, and would be taken to have done nothing."""
    midnight = datetime(2026, 9, 23, tzinfo=UTC)
    asked = bank.new_refund(asked_at=midnight - timedelta(seconds=10))
    bodies = []
    for start in (-10, 60):
        replies = [TOKEN, bank.told(bank.payment()), bank.accepted(2, REFUND)]
        _, sent = rehearse(bank.issuer().refund(asked), replies, start=midnight.timestamp() + start)
        bodies.append(sent[-1].body)
    assert bodies[0] == bodies[1]
    assert b'"requestedExecutionDate":"2026-09-22"' in (bodies[0] or b"")


@pytest.mark.parametrize("kind", ["collect", "refund"])
def test_what_may_have_been_done_is_not_sent_again_once_its_key_is_no_longer_relied_on(kind: str) -> None:
    issuer, asked_at = bank.issuer(JPMORGAN_KEY_LIFETIME="300"), datetime.fromtimestamp(START - 299, UTC)
    lost = Lost(Sent.MAYBE_PROCESSED, seconds=2)
    sent: list[Request] = []
    exchange: Exchange[object] = issuer.collect(bank.collection(asked_at=asked_at))
    replies: list[Reply | Lost] = [TOKEN, lost]
    if kind == "refund":
        exchange = issuer.refund(bank.new_refund(asked_at=asked_at))
        replies = [TOKEN, bank.told(bank.payment()), lost]
    with pytest.raises(OutcomeUnknown):
        rehearse(exchange, replies, sent=sent)
    assert [request.method for request in sent].count("POST") == 2  # one of them for the token


def test_what_the_bank_cannot_have_heard_is_sent_again_also_then() -> None:
    issuer, asked_at = bank.issuer(JPMORGAN_KEY_LIFETIME="300"), datetime.fromtimestamp(START - 299, UTC)
    unheard = Lost(Sent.NOT_SENT, seconds=2)
    number, _ = rehearse(issuer.collect(bank.collection(asked_at=asked_at)), [TOKEN, unheard, bank.accepted(2)])
    assert number == "pay-1"


@VERSIONS
@pytest.mark.parametrize("status", [302, 400, 404, 409, 422, 499])
def test_a_refusal_that_is_not_in_the_bank_s_words_does_not_say_that_nothing_was_paid(
    version: int, status: int
) -> None:
    """A gateway may have given up waiting for its bank. Taken for a refusal, the buyer could pay twice."""
    for body in ({}, {"message": "gone away"}):
        with pytest.raises(OutcomeUnknown):
            rehearse(bank.issuer(version).collect(bank.collection()), [*first(version), Reply.json(body, status)])


@VERSIONS
def test_who_is_not_let_in_has_paid_nothing_whoever_says_so(version: int) -> None:
    with pytest.raises(BankRefused) as refused:
        rehearse(bank.issuer(version).collect(bank.collection()), [*first(version), Reply.json({}, 403)])
    assert refused.value.reason == "http_403"
