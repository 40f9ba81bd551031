"""Paying and refunding at J.P. Morgan, both versions: what is sent, what is believed, and what stays unknown."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from deposit_token_sdk import evidence
from deposit_token_sdk.errors import (
    BankRefused,
    InvalidInput,
    NotAllowed,
    NotOurs,
    OutcomeUnknown,
    Unreadable,
    Unsupported,
)
from deposit_token_sdk.evidence import Expected
from deposit_token_sdk.exchange import Request, Sent
from deposit_token_sdk.issuers.jpmorgan import record
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.lifecycle import RefundStage, Stage, Word, received
from deposit_token_sdk.models import Proof, Report, StatementKind
from deposit_token_sdk.signing import rs256, strict_json
from deposit_token_sdk.testing.rehearsal import START, Lost, Reply, rehearse
from tests import documents
from tests.issuers.jpmorgan import bank
from tests.issuers.jpmorgan.bank import INVOICE, KEY, LINE, REFERENCE, REFUND, TOKEN

VERSIONS = pytest.mark.parametrize("version", [2, 1])


def first(version: int) -> list[Reply]:
    """What the bank is asked first: an access token, in version 2."""
    return [TOKEN] if version == 2 else []


def body_of(version: int, request: Request) -> Any:
    """The body of an initiation, its signature verified where it is a JWS."""
    assert request.body is not None
    if version == 2:
        return json.loads(request.body, parse_float=Decimal)
    payload = rs256.verify_compact(request.body.decode(), bank.rsa_key().verification_key())
    return strict_json.parse(payload)


def collected(version: int, amount: int = 12850) -> tuple[str, Request]:
    issuer = bank.issuer(version)
    invoice = INVOICE.replace(".12850.", f".{amount}.")
    result, sent = rehearse(issuer.collect(bank.collection(invoice=invoice)), [*first(version), bank.accepted(version)])
    return result, sent[-1]


def expected(issuer_name: str = "jpmorgan") -> Expected:
    """The attempt that the bank's news must be about."""
    return Expected(
        issuer=issuer_name,
        merchant="demo-shop",
        installation=REFERENCE[:8],
        mode="test",
        reference=REFERENCE,
        invoice=INVOICE,
        token="SBEUR",
        quote_digest=bank.DIGEST,
        proofs=frozenset({Proof.CHANNEL}),
    )


def reported(*payments: dict[str, Any]) -> Report:
    """What version 2's payments under the reference say of the invoice."""
    issuer = bank.issuer()
    read = bank.told(*payments)
    invoice, _ = rehearse(issuer.invoice(INVOICE), [TOKEN, read])
    report, _ = rehearse(issuer.report_invoice(invoice), [read] if invoice.movements else [])
    return report


# -- the invoice is the merchant's own record --------------------------------------------------------------------


@VERSIONS
def test_an_invoice_is_made_without_asking_the_bank_and_says_that_the_shop_asks_for_consent(version: int) -> None:
    invoice, sent = rehearse(bank.issuer(version).create_invoice(bank.new_invoice()), [])
    assert sent == ()
    assert invoice.pay_url is None
    assert "agreed" in (invoice.instructions or "")
    assert (invoice.reference, invoice.due, invoice.quote_digest) == (REFERENCE, 12850, bank.DIGEST)
    assert record.read_id(invoice.id).expires_at == bank.EXPIRES


@pytest.mark.parametrize("reference", ["k7qm2xvb", "k7qm2xvb-001", "k" * 35, "k7qm2xvb€001", ""])
def test_a_reference_that_the_bank_does_not_take_is_refused_before_anything_is_sent(reference: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        rehearse(bank.issuer().create_invoice(bank.new_invoice(reference=reference)), [])
    assert refused.value.reason == "bad_reference"


def test_an_invoice_without_its_quote_is_refused() -> None:
    with pytest.raises(InvalidInput) as refused:
        rehearse(bank.issuer().create_invoice(bank.new_invoice(quote=None)), [])
    assert refused.value.reason == "no_quote"


def test_the_remittance_line_fits_the_banks_one_line_and_is_read_back_whole() -> None:
    assert len(LINE) <= record.LONGEST_LINE
    line = record.read_line(LINE)
    assert line is not None
    assert (line.record.id, line.asked_at, line.refund) == (INVOICE, bank.ASKED_AT, False)
    with pytest.raises(InvalidInput) as refused:
        record.line_of(record.Record("k" * 34, "SBEUR", 10**19, 10**10, bank.DIGEST), bank.ASKED_AT)
    assert refused.value.reason == "too_long"


# -- collecting --------------------------------------------------------------------------------------------------


@VERSIONS
@pytest.mark.parametrize("units", [12850, 1, 100, 1234567890123456789])
def test_a_collection_pays_from_the_buyers_account_to_the_merchants_to_the_unit(version: int, units: int) -> None:
    number, request = collected(version, units)
    assert number == "pay-1"
    assert request.url.startswith(
        "https://bank.example/payment/v2" if version == 2 else "https://bank.example/tsapi/v1"
    )
    sent = body_of(version, request)
    amount = f"{units // 100}.{units % 100:02}"
    if version == 2:
        assert sent["value"] == {"currency": "EUR", "amount": amount}
        assert sent["debtor"]["account"]["accountNumber"] == bank.BUYER_ACCOUNT
        assert sent["creditor"]["account"]["accountNumber"] == bank.MERCHANT_ACCOUNT
    else:
        assert str(sent["payments"]["paymentAmount"]) == amount
        assert sent["payments"]["debtor"]["debtorAccount"]["accountId"] == bank.BUYER_ACCOUNT
        assert sent["payments"]["creditor"]["creditorAccount"]["accountId"] == bank.MERCHANT_ACCOUNT


@VERSIONS
def test_every_initiation_is_what_the_banks_document_asks(version: int) -> None:
    documents.require(version)
    schema = "Payment" if version == 2 else "PaymentInitationDetails"
    documents.check(version, schema, body_of(version, collected(version)[1]))
    documents.check(version, schema, body_of(version, refunded(version)))
    if version == 2:
        documents.check(2, "IdempotencyKey", collected(2)[1].headers["idempotency-key"])
        documents.check(2, "RequestId", collected(2)[1].headers["request-id"])


def test_a_body_of_version_1_is_a_jws_with_nothing_but_alg_in_its_header_and_no_idempotency_key() -> None:
    _, request = collected(1)
    header = (request.body or b"").decode().partition(".")[0]
    assert header == "eyJhbGciOiJSUzI1NiJ9"  # {"alg":"RS256"}
    assert request.headers["content-type"] == "text/xml"
    assert "idempotency-key" not in request.headers


def test_version_2_sends_the_key_and_the_token_with_each_payment() -> None:
    _, request = collected(2)
    assert request.headers["idempotency-key"] == KEY
    assert request.headers["authorization"] == "Bearer token-1"


def test_version_2_tries_again_under_one_key_and_version_1_sends_once_and_leaves_it_unknown() -> None:
    lost = Lost(Sent.MAYBE_PROCESSED)
    number, sent = rehearse(bank.issuer(2).collect(bank.collection()), [TOKEN, lost, bank.accepted(2)])
    assert number == "pay-1"
    assert [request.headers["idempotency-key"] for request in sent[1:]] == [KEY, KEY]
    assert sent[1].headers["request-id"] != sent[2].headers["request-id"]
    for reply in (lost, Reply(503, b"")):
        with pytest.raises(OutcomeUnknown) as unknown:
            rehearse(bank.issuer(1).collect(bank.collection()), [reply])
        assert unknown.value.reference == REFERENCE


def test_version_1_sends_again_what_certainly_did_not_reach_the_bank() -> None:
    number, sent = rehearse(bank.issuer(1).collect(bank.collection()), [Lost(Sent.NOT_SENT), bank.accepted(1)])
    assert number == "pay-1"
    assert sent[0].body == sent[1].body


@pytest.mark.parametrize(
    ("version", "code", "reason"),
    [
        (2, "11001", "account_refused"),
        (2, "11600", "business_rule"),
        (2, "10103", "field_value"),
        (2, "", "http_400"),
        (1, "GCA-150", "account_refused"),
        (1, "10005", "amount_too_large"),
    ],
)
def test_a_refusal_keeps_the_banks_code_beside_our_word(version: int, code: str, reason: str) -> None:
    with pytest.raises(BankRefused) as refused:
        rehearse(bank.issuer(version).collect(bank.collection()), [*first(version), bank.refusal(version, code)])
    assert (refused.value.reason, refused.value.code) == (reason, code or reason)
    assert refused.value.request_id


@pytest.mark.parametrize(
    ("version", "code"), [(2, "10106"), (2, "10107"), (2, "12001"), (2, "15000"), (1, "12000"), (1, "GCA-030")]
)
def test_a_code_that_does_not_say_that_nothing_was_done_leaves_the_outcome_unknown(version: int, code: str) -> None:
    with pytest.raises(OutcomeUnknown):
        rehearse(bank.issuer(version).collect(bank.collection()), [*first(version), bank.refusal(version, code)])


@VERSIONS
def test_an_accepted_answer_that_cannot_be_read_leaves_the_outcome_unknown(version: int) -> None:
    with pytest.raises(OutcomeUnknown):
        rehearse(bank.issuer(version).collect(bank.collection()), [*first(version), Reply.json({}, 202)])


@VERSIONS
def test_an_account_that_is_not_configured_is_refused_before_anything_is_sent(version: int) -> None:
    with pytest.raises(InvalidInput) as refused:
        rehearse(bank.issuer(version).collect(bank.collection(account="mallory")), [])
    assert refused.value.reason == "unknown_account"


# -- what is believed --------------------------------------------------------------------------------------------


def test_a_completed_payment_is_confirmed_by_the_channel_and_counts_to_the_unit() -> None:
    report = reported(bank.payment())
    (confirmed,) = report.confirmations
    assert (confirmed.proof, confirmed.kind, confirmed.units) == (Proof.CHANNEL, StatementKind.SETTLEMENT, 12850)
    assert json.loads(confirmed.evidence.content)["paymentStatus"] == "COMPLETED"
    accepted = evidence.accept(report, expected())
    assert received(accepted.history) == 12850
    assert report.movements[0].word == "COMPLETED/COMPLETED_BY_JPM"
    assert confirmed.accepted_at == bank.ASKED_AT


@pytest.mark.parametrize("status", ["RECEIVED", "ACCEPTED", "PROCESSING"])
def test_a_payment_that_is_on_its_way_confirms_nothing(status: str) -> None:
    report = reported(bank.payment(status))
    assert report.confirmations == ()
    assert report.movements[0].stage is Stage.SEEN


@pytest.mark.parametrize("sub", ["PENDING_FRAUD_REVIEW", "REJECTED_BY_JPM", "RETURNED", "SOMETHING_NEW"])
def test_a_sub_status_that_contradicts_completed_settles_nothing(sub: str) -> None:
    report = reported(bank.payment(paymentSubStatus=sub))
    assert report.confirmations == ()
    assert received(evidence.accept(report, expected()).history) == 0


def test_an_unknown_status_is_kept_and_never_final() -> None:
    report = reported(bank.payment("FROBNICATED"))
    assert (report.movements[0].stage, report.words) == (Stage.UNKNOWN, frozenset())


@pytest.mark.parametrize("status", ["REJECTED", "CANCELED"])
def test_a_rejected_payment_ends_the_invoice_since_its_reference_is_spent(status: str) -> None:
    assert reported(bank.payment(status)).words == {Word.CANCELLED}


def test_a_returned_payment_had_come_and_went_back_as_a_movement_of_its_own() -> None:
    report = reported(bank.payment("RETURNED"))
    assert {one.kind for one in report.confirmations} == {StatementKind.SETTLEMENT, StatementKind.RETURN}
    assert received(evidence.accept(report, expected()).history) == 0


@pytest.mark.parametrize(
    ("bic", "ours"), [("CHASDEFXXXX", True), ("CHASDEFX", True), ("CHASDEFX123", False), ("CHASUS33", False)]
)
def test_a_bic_of_the_head_office_is_the_same_in_eight_and_in_eleven_characters(bic: str, ours: bool) -> None:
    payment = bank.payment(creditorAgent={"financialInstitutionIds": [{"id": bic, "idType": "BIC"}]})
    if ours:
        assert received(evidence.accept(reported(payment), expected()).history) == 12850
        return
    with pytest.raises(NotOurs):
        reported(payment)


def test_one_euro_for_a_large_order_is_one_euro() -> None:
    report = reported(bank.payment(value={"currency": "EUR", "amount": "1.00"}))
    assert received(evidence.accept(report, expected()).history) == 100


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"value": {"currency": "USD", "amount": "128.50"}}, "other_token"),
        ({"remittanceInformation": {"unstructuredInformation": [{"text": "for tea"}]}}, "other_quote"),
        ({"remittanceInformation": {}}, "other_quote"),
        (
            {"remittanceInformation": {"unstructuredInformation": [{"text": LINE.replace(bank.DIGEST, "cd" * 32)}]}},
            "other_invoice",
        ),
    ],
)
def test_money_for_something_else_is_not_taken_for_this_invoice(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(NotOurs) as refused:
        evidence.accept(reported(bank.payment(**changed)), expected())
    assert refused.value.reason == reason


def test_a_payment_to_somebody_elses_account_is_none_of_ours() -> None:
    """It is not told as a payment that never arrived either: then the buyer would be asked to pay again."""
    with pytest.raises(NotOurs) as refused:
        reported(bank.payment(**bank.parties(bank.BUYER_ACCOUNT, "999")))
    assert refused.value.reason == "other_payment"


@pytest.mark.parametrize("amount", ["128.505", "1e2", "-5", "NaN", ""])
def test_an_amount_that_cannot_be_is_unreadable_and_never_rounded(amount: str) -> None:
    with pytest.raises(Unreadable):
        reported(bank.payment(value={"currency": "EUR", "amount": amount}))


@pytest.mark.parametrize(
    ("amount", "units"), [("128.50", 12850), ("128.5", 12850), ("6500", 650000), ("0.1", 10), ("1.285E2", 12850)]
)
def test_version_1_reads_the_number_digit_for_digit(amount: str, units: int) -> None:
    invoice, _ = rehearse(bank.issuer(1).invoice(INVOICE), [bank.payment_1(amount=amount)])
    assert invoice.movements[0].units == units


@pytest.mark.parametrize("amount", ['"128.50"', "null", "true", "-1", "1e40", "1e-40", "128.505"])
def test_version_1_refuses_what_is_no_exact_amount(amount: str) -> None:
    with pytest.raises(Unreadable):
        rehearse(bank.issuer(1).invoice(INVOICE), [bank.payment_1(amount=amount)])


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("PENDING", Stage.SEEN),
        ("PENDING_POSTING", Stage.SEEN),
        ("BLOCKED", Stage.SEEN),
        ("COMPLETED", Stage.SETTLED),
        ("COMPLETED_CREDITED", Stage.SETTLED),
        ("REJECTED", Stage.RELEASED),
        ("NEW_WORD", Stage.UNKNOWN),
    ],
)
def test_each_status_of_version_1_has_its_stage(status: str, stage: Stage) -> None:
    invoice, _ = rehearse(bank.issuer(1).invoice(INVOICE), [bank.payment_1(status)])
    assert invoice.movements[0].stage is stage


@VERSIONS
def test_what_the_bank_does_not_know_is_open_and_expires_only_when_nothing_can_be_on_its_way(version: int) -> None:
    issuer = bank.issuer(version)
    reports = []
    for after, word, ended in (
        (0.0, "not_collected", set()),
        (950.0, "not_collected", set()),
        (1021.0, "expired", {Word.EXPIRED}),
    ):
        replies = [*(first(version) if after == 0.0 else []), bank.missing(version)]
        invoice, _ = rehearse(issuer.invoice(INVOICE), replies, start=START + after)
        assert (invoice.word, invoice.movements) == (word, ())
        report, _ = rehearse(issuer.report_invoice(invoice), [])
        assert report.words == ended
        reports.append(report.digest)
    assert reports[0] == reports[1] != reports[2]  # else the end would pass for what has been applied already


@VERSIONS
def test_an_invoice_is_found_by_the_reference_of_its_payment(version: int) -> None:
    known = bank.told(bank.payment()) if version == 2 else bank.payment_1()
    found, _ = rehearse(bank.issuer(version).find_invoice(REFERENCE), [*first(version), known])
    assert found is not None
    assert (found.id, found.due) == (INVOICE, 12850)
    none, _ = rehearse(bank.issuer(version).find_invoice(REFERENCE), [*first(version), bank.missing(version)])
    assert none is None


def test_payments_of_another_reference_are_not_what_was_asked_for() -> None:
    other = bank.payment(paymentIdentifiers={"endToEndId": REFUND})
    with pytest.raises(Unreadable) as refused:
        rehearse(bank.issuer().invoice(INVOICE), [TOKEN, bank.told(other)])
    assert refused.value.reason == "not_the_one_asked_for"


# -- refunds -----------------------------------------------------------------------------------------------------


def refunded(version: int) -> Request:
    known = bank.told(bank.payment()) if version == 2 else bank.payment_1()
    replies = [*first(version), known, bank.accepted(version, REFUND)]
    refund, sent = rehearse(bank.issuer(version).refund(bank.new_refund()), replies)
    assert (refund.reference, refund.units, refund.stage) == (REFUND, 500, RefundStage.PENDING)
    return sent[-1]


@VERSIONS
def test_a_refund_is_the_payment_with_its_parties_swapped(version: int) -> None:
    sent = body_of(version, refunded(version))
    if version == 2:
        assert sent["debtor"]["account"]["accountNumber"] == bank.MERCHANT_ACCOUNT
        assert sent["creditor"]["account"]["accountNumber"] == bank.BUYER_ACCOUNT
        assert sent["value"]["amount"] == "5.00"
    else:
        assert sent["payments"]["debtor"]["debtorAccount"]["accountId"] == bank.MERCHANT_ACCOUNT
        assert sent["payments"]["creditor"]["creditorAccount"]["accountId"] == bank.BUYER_ACCOUNT
        assert sent["payments"]["paymentAmount"] == Decimal("5.00")


def test_nothing_is_refunded_of_what_was_not_paid() -> None:
    for known in (bank.missing(2), bank.told(bank.payment("PROCESSING"))):
        with pytest.raises(NotAllowed) as refused:
            rehearse(bank.issuer().refund(bank.new_refund()), [TOKEN, known])
        assert refused.value.reason == "nothing_to_refund"


def refund_payment(status: str) -> dict[str, Any]:
    return bank.payment(
        status,
        paymentId="pay-2",
        paymentIdentifiers={"endToEndId": REFUND},
        value={"currency": "EUR", "amount": "5.00"},
        remittanceInformation={"unstructuredInformation": [{"text": record.refund_line(bank.RECORD)}]},
        **bank.parties(bank.MERCHANT_ACCOUNT, bank.BUYER_ACCOUNT),
    )


@pytest.mark.parametrize(
    ("status", "stage"),
    [
        ("PROCESSING", RefundStage.PENDING),
        ("COMPLETED", RefundStage.DONE),
        ("REJECTED", RefundStage.FAILED),
        ("RETURNED", RefundStage.FAILED),
        ("NEW_WORD", RefundStage.UNKNOWN),
    ],
)
def test_a_refund_is_followed_by_its_own_reference(status: str, stage: RefundStage) -> None:
    refund, _ = rehearse(bank.issuer().find_refund(REFUND), [TOKEN, bank.told(refund_payment(status))])
    assert refund is not None
    assert (refund.stage, refund.units, refund.invoice) == (stage, 500, INVOICE)


def test_a_finished_refund_is_confirmed_by_the_channel_through_its_callback() -> None:
    issuer = bank.issuer()
    told = {"eventId": "e-9", "paymentStatus": "COMPLETED", "paymentIdentifiers": {"endToEndId": REFUND}}
    body = strict_json.dumps({"events": [told]})
    event, _ = rehearse(issuer.read_event({}, body, 0), [])
    report, _ = rehearse(issuer.report_event(event, 0), [TOKEN, bank.told(refund_payment("COMPLETED"))])
    assert report is not None
    (refund,) = evidence.accept(report, expected()).refunds
    assert (refund.reference, refund.stage) == (REFUND, RefundStage.DONE)


@pytest.mark.parametrize("changed", [{"remittanceInformation": {}}, bank.parties("999", bank.BUYER_ACCOUNT)])
def test_a_payment_under_a_refund_s_reference_that_is_not_known_for_it_is_no_absent_refund(changed: Any) -> None:
    """What the bank does not know frees its amount after a while, and could be sent back twice."""
    other = refund_payment("COMPLETED") | changed
    with pytest.raises(NotOurs) as refused:
        rehearse(bank.issuer().find_refund(REFUND), [TOKEN, bank.told(other)])
    assert refused.value.reason == "other_payment"


@VERSIONS
def test_a_refund_is_read_by_the_banks_id(version: int) -> None:
    if version == 2:
        refund, sent = rehearse(bank.issuer().refund_status("pay-2"), [TOKEN, Reply.json(refund_payment("COMPLETED"))])
        assert (refund.reference, sent[-1].url) == (REFUND, "https://bank.example/payment/v2/payments/pay-2")
    with pytest.raises(BankRefused) as refused:
        rehearse(bank.issuer(version).refund_status("pay-3"), [*first(version), bank.missing(version)])
    assert refused.value.reason == "unknown_refund"


# -- what the bank does not offer -----------------------------------------------------------------------------------


@VERSIONS
def test_what_the_bank_cannot_do_is_refused_before_anything_is_sent(version: int) -> None:
    issuer = bank.issuer(version)
    now = datetime.now(UTC)
    asked: list[tuple[Any, Capability]] = [
        (lambda: issuer.cancel(INVOICE, KEY), Capability.CANCEL),
        (lambda: issuer.capture(INVOICE, 1, KEY, now), Capability.MANUAL_CAPTURE),
        (lambda: issuer.release(INVOICE, KEY), Capability.MANUAL_CAPTURE),
        (lambda: issuer.statements(INVOICE), Capability.SIGNED_STATEMENTS),
        (lambda: issuer.backing("SBEUR"), Capability.SIGNED_STATEMENTS),
        (lambda: issuer.ledger(now.date()), Capability.LEDGER),
        (issuer.invoices, Capability.LEDGER),
        (lambda: issuer.test_webhook(KEY), Capability.WEBHOOK_TESTS),
        (lambda: issuer.quote(None), Capability.QUOTES),  # type: ignore[arg-type]  # it is not looked at
    ]
    for ask, capability in asked:
        with pytest.raises(Unsupported) as refused:
            rehearse(ask(), [])
        assert (refused.value.issuer, refused.value.capability) == ("jpmorgan", capability)
    assert Capability.HOSTED_PAGE not in issuer.capabilities
    assert (Capability.IDEMPOTENCY in issuer.capabilities) is (version == 2)
