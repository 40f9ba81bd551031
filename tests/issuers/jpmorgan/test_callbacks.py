"""Callbacks: every published shape is read, nothing in them is believed, and what they name is asked about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deposit_token_sdk.errors import BankUnavailable, NotGenuine, NotOurs, Unreadable
from deposit_token_sdk.exchange import Sent
from deposit_token_sdk.lifecycle import Stage
from deposit_token_sdk.models import Event
from deposit_token_sdk.signing import ecdsa_body, strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.testing.rehearsal import START, Lost, rehearse
from tests import documents
from tests.issuers.jpmorgan import bank
from tests.issuers.jpmorgan.bank import REFERENCE, TOKEN

NOTICE: dict[str, Any] = {
    "paymentId": "pay-1",
    "paymentStatus": "COMPLETED",
    "paymentSubStatus": "COMPLETED_BY_JPM",
    "paymentIdentifiers": {"endToEndId": REFERENCE},
}
LISTED = {"events": [{"eventId": "e-1", "eventTimestamp": "2026-09-21T17:40:31Z", **NOTICE}]}
WHOLE = NOTICE | {
    "statusUpdatedAt": "2026-09-21T17:40:31Z",
    "paymentType": "BLOCKCHAIN",
    "transferType": "CREDIT",
    "requestedExecutionDate": "2026-09-21",
}
CLOUD = {
    "id": "c-1",
    "specversion": "1.0",
    "type": "PaymentInstruction.Completed",
    "time": "2026-09-21T17:40:31Z",
    "source": "/payments",
    "data": {"payments": [WHOLE]},
}
FIRST_VERSION = {"callbacks": [{"endToEndId": REFERENCE, "firmRootId": "pay-1", "paymentStatus": "COMPLETED"}]}


def read(shape: dict[str, Any], version: int = 2) -> Event:
    event, sent = rehearse(bank.issuer(version).read_event({}, strict_json.dumps(shape), START), [])
    assert sent == ()
    return event


@pytest.mark.parametrize("shape", [LISTED, CLOUD, FIRST_VERSION])
def test_each_published_shape_names_the_payment(shape: dict[str, Any]) -> None:
    event = read(shape)
    assert (event.reference, event.type) == (REFERENCE, "payment.COMPLETED")
    assert (event.merchant, event.installation, event.mode) == ("demo-shop", REFERENCE[:8], "test")


def test_the_shapes_of_these_tests_are_those_of_the_documents() -> None:
    documents.require(2)
    documents.check(2, "Webhook", CLOUD)
    documents.check(1, "Callbacks", FIRST_VERSION["callbacks"])


def test_the_same_callback_has_the_same_id_and_another_has_another() -> None:
    assert read(FIRST_VERSION).id == read(FIRST_VERSION).id
    other = {"callbacks": [{"endToEndId": REFERENCE, "firmRootId": "pay-1", "paymentStatus": "PENDING_POSTING"}]}
    assert read(FIRST_VERSION).id != read(other).id
    assert [read(shape).id.partition(":")[0] for shape in (LISTED, CLOUD)] == ["e-1", "c-1/1"]


@pytest.mark.parametrize("altered", ["statusUpdatedAt", "paymentSubStatus"])
def test_what_is_not_signed_takes_no_event_s_place(altered: str) -> None:
    """Whoever writes first under the id of an event that is to come would have the bank's own refused."""
    event = LISTED["events"][0]
    forged = {"events": [event | {altered: "2026-09-21T17:40:32Z"}]}
    assert read(forged).id != read(LISTED).id
    assert read(LISTED).id == read(LISTED).id


def test_a_body_with_several_payments_is_taken_apart() -> None:
    second = WHOLE | {"paymentIdentifiers": {"endToEndId": bank.REFUND}, "paymentStatus": "PROCESSING"}
    event = read(CLOUD | {"data": {"payments": [WHOLE, second]}})
    assert event.reference is None
    pieces = bank.issuer().split(event)
    assert [(one.id.partition(":")[0], one.reference, one.type) for one in pieces] == [
        ("c-1/1", REFERENCE, "payment.COMPLETED"),
        ("c-1/2", bank.REFUND, "payment.PROCESSING"),
    ]
    assert pieces[0].digest != pieces[1].digest
    assert bank.issuer().split(pieces[0]) == (pieces[0],)


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("COMPLETED", "PROCESSING"),
        ("COMPLETED", "RECEIVED"),
        ("REJECTED", "ACCEPTED"),
        ("RETURNED", "PROCESSING"),
        ("RETURNED", "COMPLETED"),
    ],
)
def test_a_callback_that_is_ahead_of_what_the_bank_shows_must_come_again(told: str, shown: str) -> None:
    """Taken now it would show nothing, and pass for a repetition when the bank does show it."""
    event = read({"events": [LISTED["events"][0] | {"paymentStatus": told}]})
    with pytest.raises(BankUnavailable) as refused:
        rehearse(bank.issuer().report_event(event, START), [TOKEN, bank.told(bank.payment(shown))])
    assert refused.value.reason == "not_shown_yet"


@pytest.mark.parametrize(
    ("told", "payment"),
    [
        ("COMPLETED", bank.payment("REJECTED")),
        ("COMPLETED", bank.payment("RETURNED")),
        ("COMPLETED", bank.payment("NEW_WORD")),
        ("COMPLETED", bank.payment("COMPLETED", paymentSubStatus="PENDING_FRAUD_REVIEW")),
        ("NEW_WORD", bank.payment("PROCESSING")),
    ],
)
def test_a_callback_that_the_bank_s_answer_only_contradicts_is_asked_about_once(told: str, payment: Any) -> None:
    event = read({"events": [LISTED["events"][0] | {"paymentStatus": told}]})
    report, _ = rehearse(bank.issuer().report_event(event, START), [TOKEN, bank.told(payment)])
    assert report is not None


def test_a_callback_is_worth_what_the_bank_says_when_it_is_asked() -> None:
    event = read({"events": [LISTED["events"][0] | {"paymentStatus": "PROCESSING"}]})
    report, sent = rehearse(bank.issuer().report_event(event, START), [TOKEN, bank.told(bank.payment("PROCESSING"))])
    assert report is not None
    assert (report.confirmations, report.movements[0].stage) == ((), Stage.SEEN)
    assert report.event_id == event.id
    assert f"endToEndId={REFERENCE}" in sent[-1].url


def test_a_forged_callback_about_a_payment_that_the_bank_does_not_know_applies_nothing() -> None:
    report, _ = rehearse(bank.issuer().report_event(read(LISTED), START), [TOKEN, bank.missing(2)])
    assert report is None


def test_a_callback_while_the_bank_cannot_be_asked_must_come_again() -> None:
    with pytest.raises(BankUnavailable):
        rehearse(bank.issuer(ATTEMPTS="1").report_event(read(LISTED), START), [TOKEN, Lost(Sent.NOT_SENT)])


def test_a_payment_between_other_accounts_is_not_ours() -> None:
    other = bank.payment(**bank.parties("1", "2"))
    with pytest.raises(NotOurs) as refused:
        rehearse(bank.issuer().report_event(read(LISTED), START), [TOKEN, bank.told(other)])
    assert refused.value.reason == "other_payment"


def test_money_under_our_reference_without_our_line_is_shown_for_a_person_to_look_at() -> None:
    by_hand = bank.payment(remittanceInformation={"unstructuredInformation": [{"text": "tea"}]})
    report, _ = rehearse(bank.issuer().report_event(read(LISTED), START), [TOKEN, bank.told(by_hand)])
    assert report is not None
    assert report.invoice == "tea"  # which is no invoice of the attempt: the door puts it before a person


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"events": []}',
        b'{"events": [{}]}',
        b'{"callbacks": [{"endToEndId": 1}]}',
        b'{"specversion": "1.0", "id": "c", "data": {}}',
        b'{"events": [{"eventId": "e", "paymentStatus": "X"}]}',
    ],
)
def test_what_is_no_callback_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        rehearse(bank.issuer().read_event({}, body, START), [])


# -- the signature over the body, where the settings name its headers -----------------------------------------------

EC = SigningKey.generate(Algorithm.ES256, "ec-1")


def keys_file(folder: Path, **more: Any) -> str:
    jwk = {name: value for name, value in EC.verification_key().jwk().items() if name != "use"}
    path = folder / "keys.json"
    path.write_bytes(strict_json.dumps({"keys": [jwk | {"alg": "EC"} | more]}))
    return str(path)


def signed(tmp_path: Path, headers: dict[str, str], body: bytes, **more: Any) -> Event:
    names = {"SIGNATURE_HEADER": "X-Sig", "KEY_ID_HEADER": "X-Kid", "SIGNATURE_KEYS": keys_file(tmp_path, **more)}
    issuer = bank.issuer(2, **{f"JPMORGAN_{name}": value for name, value in names.items()})
    event, _ = rehearse(issuer.read_event(headers, body, START), [])
    return event


def test_a_signed_callback_is_read(tmp_path: Path) -> None:
    body = strict_json.dumps(LISTED)
    headers = {"X-SIG": ecdsa_body.sign(body, EC), "x-kid": "ec-1"}
    assert signed(tmp_path, headers, body).id == "e-1"
    assert signed(tmp_path, headers, body, exp=int(START) + 60).id == "e-1"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda headers, body: ({}, body), "callback_unsigned"),
        (lambda headers, body: (headers | {"x-kid": "ec-2"}, body), "key_unknown"),
        (lambda headers, body: (headers | {"x-sig": "!"}, body), "signature_malformed"),
        (lambda headers, body: (headers | {"x-sig": "AAAA"}, body), "signature_malformed"),
        (lambda headers, body: (headers, body.replace(b"COMPLETED", b"completed")), "signature_mismatch"),
    ],
)
def test_a_callback_that_is_not_signed_as_it_must_be_is_refused(tmp_path: Path, change: Any, reason: str) -> None:
    body = strict_json.dumps(LISTED)
    headers, changed = change({"x-sig": ecdsa_body.sign(body, EC), "x-kid": "ec-1"}, body)
    with pytest.raises(NotGenuine) as refused:
        signed(tmp_path, headers, changed)
    assert refused.value.reason == reason


def test_a_key_that_has_ended_signs_nothing_more(tmp_path: Path) -> None:
    body = strict_json.dumps(LISTED)
    with pytest.raises(NotGenuine) as refused:
        signed(tmp_path, {"x-sig": ecdsa_body.sign(body, EC), "x-kid": "ec-1"}, body, exp=int(START) - 1)
    assert refused.value.reason == "key_retired"


def test_keys_of_another_curve_are_left_out() -> None:
    jwks = strict_json.dumps({"keys": [{"kty": "EC", "crv": "P-384", "kid": "x"}, {"kty": "RSA", "kid": "y"}]})
    assert ecdsa_body.keys_of(jwks) == KeySet(())
