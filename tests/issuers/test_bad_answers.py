"""What the bank, or something that answers in its place, may get wrong: each refused by its reason, nothing lost."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from requests import PreparedRequest

from deposit_token_sdk import (
    BankRefused,
    Client,
    DepositTokenError,
    NotGenuine,
    NotOurs,
    OutcomeUnknown,
    PriceRefused,
    Unreadable,
)
from deposit_token_sdk.lifecycle import RefundStage, Stage
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from tests.issuers.bank_double import (
    KEY,
    REFERENCE,
    URL,
    Bank,
    invoice,
    movement,
    new_invoice,
    new_quote,
    new_refund,
    refund,
)

BODY = b'{"id": "inv_1"}'


def refused(call: Callable[[], object]) -> DepositTokenError:
    with pytest.raises(DepositTokenError) as caught:
        call()
    return caught.value


# -- answers that cannot be read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"id": "inv_1"', "not_json"),
        (b"", "not_json"),
        (b'{"id": NaN}', "not_json"),
        (b'{"id": "\xff"}', "invalid_utf8"),
        (b'{"id": "a", "id": "b"}', "duplicate_key"),
        (b'["inv_1"]', "not_an_object"),
        (b'{"id": "inv_1"}', "missing_field"),
    ],
)
def test_an_answer_that_is_no_clean_json_is_unreadable(body: bytes, reason: str, bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/inv_1", bank.signed(body))
    error = refused(lambda: client.invoice("inv_1"))
    assert isinstance(error, Unreadable)
    assert error.reason == reason


@pytest.mark.parametrize("kind", ["text/html; charset=utf-8", "", "application/jsonp", "text/json"])
def test_an_answer_of_another_content_type_is_unreadable(kind: str, bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/inv_1", bank.signed(BODY, headers={"content-type": kind}))
    error = refused(lambda: client.invoice("inv_1"))
    assert isinstance(error, Unreadable)
    assert error.reason == "content_type"


def test_a_charset_beside_the_content_type_is_no_matter(bank: Bank, client: Client) -> None:
    bank.answer(
        "GET", "/tokens", bank.signed(b'{"tokens": []}', headers={"content-type": "Application/JSON;charset=utf-8"})
    )
    assert client.tokens() == ()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"due": 14100}, "due"),
        ({"due": "-1"}, "due"),
        ({"due": "141.00"}, "due"),
        ({"version": "1"}, "version"),
        ({"expires_at": "2026-11-24T09:35:00"}, "expires_at"),
        ({"movements": None}, "movements"),
        ({"movements": [movement(units=14100.0)]}, "units"),
        ({"mode": "demo"}, "mode"),
    ],
)
def test_a_member_of_the_wrong_kind_is_named(changes: dict[str, Any], field: str, bank: Bank, client: Client) -> None:
    body = _json(invoice(**changes))
    bank.answer("GET", "/invoices/inv_1", bank.signed(body))
    error = refused(lambda: client.invoice("inv_1"))
    assert isinstance(error, Unreadable)
    assert error.field == field


def test_words_we_do_not_know_are_kept_and_never_final(bank: Bank, client: Client) -> None:
    told = invoice(
        status="reversed_by_committee",
        movements=[movement(status="teleported")],
        refunds=[refund(status="contemplated")],
    )
    bank.answer("GET", "/invoices/inv_1", told)
    read = client.invoice("inv_1")
    assert read.word == "reversed_by_committee"
    assert (read.movements[0].word, read.movements[0].stage) == ("teleported", Stage.UNKNOWN)
    assert (read.refunds[0].word, read.refunds[0].stage) == ("contemplated", RefundStage.UNKNOWN)
    report = client.report_invoice(read)
    assert report.words == frozenset()
    assert report.confirmations == ()


# -- answers that are not the bank's ------------------------------------------------------------------------


def test_an_unsigned_answer_is_not_believed(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/inv_1", lambda _: (200, {"content-type": "application/json"}, _json(invoice())))
    error = refused(lambda: client.invoice("inv_1"))
    assert isinstance(error, NotGenuine)
    assert error.reason == "answer_unsigned"


def test_an_answer_signed_with_a_key_of_the_same_name_but_another_owner_is_not_believed(
    bank: Bank, client: Client
) -> None:
    forger = SigningKey.generate(Algorithm.ED25519, bank.answers_key.kid)
    bank.answer("GET", "/invoices/inv_1", bank.signed(_json(invoice()), key=forger))
    assert refused(lambda: client.invoice("inv_1")).reason == "signature_mismatch"


def test_an_answer_signed_with_an_unknown_key_is_not_believed(bank: Bank, client: Client) -> None:
    stranger = SigningKey.generate(Algorithm.ED25519, "nobody-1")
    bank.answer("GET", "/invoices/inv_1", bank.signed(_json(invoice()), key=stranger))
    assert refused(lambda: client.invoice("inv_1")).reason == "key_unknown"


def test_an_answer_signed_with_the_key_for_statements_is_not_believed(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/inv_1", bank.signed(_json(invoice()), key=bank.statements))
    assert refused(lambda: client.invoice("inv_1")).reason == "wrong_key_purpose"


@pytest.mark.parametrize(
    ("part", "change", "reason"),
    [
        ("body", lambda body: body.replace(b"14100", b"14101"), "digest_mismatch"),
        ("status", lambda _: 201, "signature_mismatch"),
        ("signature", lambda text: text[:-8] + "AAAA" + text[-4:], "signature_mismatch"),
        ("signature", lambda text: f"{text}, {text}", "header_malformed"),
        ("content-digest", lambda _: None, "header_missing"),
        ("signature-input", lambda _: None, "header_missing"),
        ("signature-input", lambda text: text.replace(' "signature";req', ""), "components_missing"),
        ("signature-input", lambda text: text.replace('alg="ed25519"', 'alg="hmac-sha256"'), "algorithm_not_allowed"),
    ],
)
def test_an_answer_changed_on_its_way_is_not_believed(
    part: str, change: Callable[[Any], Any], reason: str, bank: Bank, client: Client
) -> None:
    genuine = bank.signed(_json(invoice()))

    def changed(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        status, headers, body = genuine(request)
        if part == "body":
            return status, headers, change(body)
        if part == "status":
            return change(status), headers, body
        altered = {**headers, part: change(headers[part])}
        return status, {name: value for name, value in altered.items() if value is not None}, body

    bank.answer("GET", "/invoices/inv_1", changed)
    error = refused(lambda: client.invoice("inv_1"))
    assert isinstance(error, NotGenuine)
    assert error.reason == reason


def test_an_old_signed_answer_to_an_earlier_request_is_not_believed(bank: Bank, client: Client) -> None:
    genuine = bank.signed(_json({"invoices": [], "next": None}))
    told: list[tuple[int, dict[str, str], bytes]] = []

    def replayed(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
        told.append(genuine(request))
        return told[0]

    bank.answer("GET", f"/invoices?reference={REFERENCE}", replayed)
    assert client.find_invoice(REFERENCE) is None
    error = refused(lambda: client.find_invoice(REFERENCE))
    assert isinstance(error, NotGenuine)
    assert error.reason == "replayed_answer"


@pytest.mark.parametrize(("late", "reason", "way"), [(425, "too_old", "before"), (-425, "in_the_future", "after")])
def test_an_answer_signed_at_another_time_says_by_how_much(
    late: int, reason: str, way: str, bank: Bank, client: Client
) -> None:
    bank.answer("GET", "/invoices/inv_1", bank.signed(_json(invoice()), late=late))
    error = refused(lambda: client.invoice("inv_1"))
    assert error.reason == reason
    assert "42" in str(error)
    assert f"s {way} our time" in str(error)


@pytest.mark.parametrize(("member", "reason"), [("merchant", "other_merchant"), ("mode", "other_mode")])
def test_another_merchants_or_modes_invoice_is_not_ours(member: str, reason: str, bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/inv_1", invoice(**{member: "live"}))
    error = refused(lambda: client.invoice("inv_1"))
    assert isinstance(error, NotOurs)
    assert error.reason == reason


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": "k7Qm2xVb0002"},
        {"installation": "zzzzzzzz"},
        {"token": "SBEUR"},
        {"due": "14101"},
        {"quote_digest": "other"},
    ],
)
def test_an_invoice_that_is_not_the_one_asked_for_is_refused(
    changes: dict[str, Any], bank: Bank, client: Client
) -> None:
    bank.answer("POST", "/invoices", invoice(**changes), status=201)
    assert refused(lambda: client.create_invoice(new_invoice())).reason == "invoice_for_another_request"


@pytest.mark.parametrize("changes", [{"reference": "k7Qm2xVbR2"}, {"invoice": "inv_2"}, {"units": "501"}])
def test_a_refund_that_is_not_the_one_asked_for_is_refused(changes: dict[str, Any], bank: Bank, client: Client) -> None:
    bank.answer("POST", "/refunds", refund(**changes), status=201)
    assert refused(lambda: client.refund(new_refund())).reason == "refund_for_another_request"


def test_records_of_another_reference_are_not_taken_for_the_one_asked_for(bank: Bank, client: Client) -> None:
    other = invoice(reference="k7Qm2xVb0002")
    bank.answer("GET", f"/invoices?reference={REFERENCE}", {"invoices": [other], "next": None})
    bank.answer("GET", "/refunds?reference=k7Qm2xVbR1", {"refunds": [refund(), refund(id="ref_2")]})
    assert refused(lambda: client.find_invoice(REFERENCE)).reason == "not_the_one_asked_for"
    assert refused(lambda: client.find_refund("k7Qm2xVbR1")).reason == "not_the_one_asked_for"


# -- refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "status"),
    [("quote_expired", 422), ("invoice_not_open", 409), ("signature_invalid", 401), ("unknown_invoice", 404)],
)
def test_a_refusal_carries_the_banks_code_and_request_id(code: str, status: int, bank: Bank, client: Client) -> None:
    bank.refuse("POST", "/invoices", code, status, "Ask for a new one.")
    error = refused(lambda: client.create_invoice(new_invoice()))
    assert isinstance(error, BankRefused)
    assert (error.reason, error.code, error.status, error.request_id) == (code, code, status, "req_17")
    assert "Ask for a new one." in str(error)
    assert len(bank.asked) == 1


def test_an_unsigned_refusal_is_not_the_banks(bank: Bank, client: Client) -> None:
    bank.answer("POST", "/invoices", lambda _: (403, {"content-type": "text/html"}, b"<h1>Forbidden</h1>"))
    assert refused(lambda: client.create_invoice(new_invoice())).reason == "answer_unsigned"


# -- quotes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"due": "14101"}, "due_differs"),
        ({"net": "13925"}, "net_differs"),
        ({"fee": "697", "due": "14623"}, "fee_above_ceiling"),
        ({"fee": "0", "due": "0", "net": "0", "rate": "0"}, "rate_not_positive"),
        ({"bearer": "CRED"}, "quote_for_another_request"),
        ({"price": {"currency": "EUR", "amount": "128.51"}}, "quote_for_another_request"),
        ({"token": "SBEUR"}, "quote_for_another_request"),
        ({"reference": "k7Qm2xVb0002"}, "quote_for_another_request"),
        ({"installation": "zzzzzzzz"}, "quote_for_another_request"),
        ({"mode": "live"}, "other_mode"),
        ({"aud": "other-shop"}, "other_merchant"),
        ({"iss": "other-bank"}, "wrong_issuer"),
        ({"iat": int(time.time()) + 4000}, "in_the_future"),
    ],
)
def test_a_quote_that_does_not_add_up_or_is_not_ours_is_refused(
    claims: dict[str, Any], reason: str, bank: Bank, client: Client
) -> None:
    bank.answer(
        "POST", "/quotes", {"id": "quo_1", "reference": REFERENCE, "statement": bank.quote(**claims)}, status=201
    )
    assert refused(lambda: client.quote(new_quote())).reason == reason


def test_the_shops_own_ceiling_decides_how_high_a_fee_may_be(bank: Bank) -> None:
    answer = {"id": "quo_1", "reference": REFERENCE, "statement": bank.quote()}
    bank.answer("POST", "/quotes", answer, status=201)
    assert bank.client(MAX_FEE="0.0125").quote(new_quote()).fee == 174
    error = refused(lambda: bank.client(MAX_FEE="0.0124").quote(new_quote()))
    assert isinstance(error, PriceRefused)
    assert error.reason == "fee_above_ceiling"


def test_a_statement_of_another_kind_is_no_quote(bank: Bank, client: Client) -> None:
    bank.answer("POST", "/quotes", {"id": "quo_1", "reference": REFERENCE, "statement": bank.settlement()}, status=201)
    assert refused(lambda: client.quote(new_quote())).reason == "wrong_typ"


def test_tokens_that_deposits_do_not_cover_are_refused(bank: Bank, client: Client) -> None:
    statement = bank.state(
        "backing", token="SBUSD", circulation="100001", deposits="100000", as_of="2026-11-24T09:00:00Z"
    )
    bank.answer("GET", "/tokens/SBUSD/backing", {"statement": statement})
    assert refused(lambda: client.backing("SBUSD")).reason == "unbalanced"


def test_an_answer_about_another_than_was_asked_for_is_not_taken_for_it(bank: Bank, client: Client) -> None:
    """A cancellation would pass for done, and a token for backed, by what the bank says about another."""
    other = invoice(id="inv_2", status="cancelled")
    for verb in ("cancel", "release"):
        bank.answer("POST", f"/invoices/inv_1/{verb}", other)
    bank.answer("POST", "/invoices/inv_1/capture", {"invoice": other})
    bank.answer("GET", "/invoices/inv_1", other)
    bank.answer("GET", "/refunds/ref_1", refund(id="ref_2", status="done"))
    now = datetime.now(UTC)
    backed = {"circulation": "1", "deposits": "1", "as_of": strict_json.rfc3339(now)}
    bank.answer("GET", "/tokens/SBEUR/backing", {"statement": bank.state("backing", token="SBUSD", **backed)})
    asked: list[tuple[Callable[[], object], str]] = [
        (lambda: client.cancel("inv_1", KEY), "invoice"),
        (lambda: client.release("inv_1", KEY), "invoice"),
        (lambda: client.capture("inv_1", 14100, KEY, now), "invoice"),
        (lambda: client.invoice("inv_1"), "invoice"),
        (lambda: client.refund_status("ref_1"), "refund"),
        (lambda: client.backing("SBEUR"), "backing"),
    ]
    for ask, what in asked:
        error = refused(ask)
        assert isinstance(error, NotOurs)
        assert error.reason == f"{what}_for_another_request"


# -- webhooks and statements ----------------------------------------------------------------------------------


def test_a_refunds_statement_does_not_settle_an_invoice(bank: Bank, client: Client) -> None:
    done = bank.state(
        "refund", invoice="inv_1", reference=REFERENCE, refund="ref_1", refund_reference="r", token="SBUSD", units="500"
    )
    headers, body = bank.webhook("invoice.settled", statement=done)
    event = client.read_event(headers, body, time.time())
    assert refused(lambda: client.report_event(event, time.time())).reason == "wrong_typ"


def test_a_statement_on_an_event_that_calls_for_none_is_refused(bank: Bank, client: Client) -> None:
    headers, body = bank.webhook("invoice.pending", statement=bank.settlement())
    event = client.read_event(headers, body, time.time())
    error = refused(lambda: client.report_event(event, time.time()))
    assert isinstance(error, Unreadable)
    assert (error.reason, error.field) == ("bad_value", "statement")


def test_a_webhook_of_an_unknown_type_is_read_and_says_nothing_final(bank: Bank, client: Client) -> None:
    headers, body = bank.webhook("invoice.enchanted", movement=movement(status="enchanted"))
    report = client.report_event(client.read_event(headers, body, time.time()), time.time())
    assert report is not None
    assert report.movements[0].stage is Stage.UNKNOWN
    assert report.words == frozenset()
    assert report.confirmations == ()


def test_a_webhook_changed_by_one_byte_is_not_genuine(bank: Bank, client: Client) -> None:
    headers, body = bank.webhook("invoice.settled", statement=bank.settlement())
    error = refused(lambda: client.read_event(headers, body.replace(b"paid", b"Paid"), time.time()))
    assert isinstance(error, NotGenuine)
    assert error.reason == "signature_mismatch"


def test_one_unreadable_statement_among_many_spoils_the_report_and_not_silently(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/inv_1", invoice(status="paid", movements=[movement()]))
    bank.answer("GET", "/invoices/inv_1/statements", {"statements": [bank.settlement(), bank.settlement(units=1)]})
    error = refused(lambda: client.report_invoice(client.invoice("inv_1")))
    assert isinstance(error, Unreadable)
    assert error.field == "units"


# -- what stays unknown -----------------------------------------------------------------------------------------


def test_money_sent_back_whose_answer_cannot_be_checked_is_unknown_and_not_undone(bank: Bank, client: Client) -> None:
    bank.answer("POST", "/refunds", refund(), status=201)
    bank.mock.replace("GET", f"{URL}/.well-known/jwks.json", status=503)
    error = refused(lambda: client.refund(new_refund()))
    assert isinstance(error, OutcomeUnknown)
    assert (error.key, error.reference, error.request_id) == (KEY, "k7Qm2xVbR1", "req_17")


def test_a_500_that_the_bank_keeps_under_the_key_ends_as_unknown(bank: Bank, client: Client) -> None:
    bank.answer("POST", "/refunds", bank.signed(b"{}", 500))
    error = refused(lambda: client.refund(new_refund()))
    assert isinstance(error, OutcomeUnknown)
    assert (error.key, error.reference, error.request_id) == (KEY, "k7Qm2xVbR1", "req_17")
    assert len({one.headers["idempotency-key"] for one in bank.asked}) == 1
    assert len({one.headers["signature"] for one in bank.asked}) == len(bank.asked) > 1


def _json(value: object) -> bytes:
    """As banks may write it, floats included."""
    return json.dumps(value).encode()
