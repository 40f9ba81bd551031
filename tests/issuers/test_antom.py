from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    ConfigurationError,
    DepositTokenError,
    InvalidInput,
    NotGenuine,
    NotOurs,
    OutcomeUnknown,
    PriceRefused,
    Unreadable,
    Unsupported,
)
from deposit_token_sdk.exchange import Request
from deposit_token_sdk.models import Bearer, Capture
from deposit_token_sdk.testing.rehearsal import START, Lost, Reply, Scripted, rehearse
from tests.issuers.antom_double import (
    ANTOM,
    ANTOM_KEY,
    API,
    BANK,
    CLIENT,
    LOCK,
    MERCHANT_KEY,
    REFERENCE,
    SESSION,
    a_quote,
    body_of,
    environment,
    issuer,
    new_invoice,
    new_quote,
    new_refund,
    payment,
    quoted,
    refused,
    result,
    sent,
    signed,
    spki,
    told,
    usd,
)

# -- the price -------------------------------------------------------------------------------------------------


def test_a_quote_buys_the_price_and_sells_the_token_s_currency() -> None:
    (request,) = sent(ANTOM.quote(new_quote()), quoted())
    assert request.url == f"{API}/aba/funds/createQuote"
    assert body_of(request) == {
        "buyAmount": {"currency": "EUR", "value": "12850"},
        "sellAmount": {"currency": "USD"},
        "exchangeTradeType": "SPOT",
    }


@pytest.mark.parametrize("price", ["1.0837", 'NUMBER"1.0837"'])
def test_a_rate_is_read_exactly_whether_it_is_a_number_or_a_string(price: str) -> None:
    text = json.dumps(quoted(quotePrice=price))
    quote = told(ANTOM.quote(new_quote()), signed(text.replace('"NUMBER\\"1.0837\\""', "1.0837")))
    assert (quote.rate, quote.due, quote.net, quote.fee) == (Decimal("1.0837"), 13926, 13926, 0)
    assert (quote.id, quote.token, quote.decimals, quote.bearer) == ("quo_1", "SBUSD", 2, Bearer.CRED)
    assert quote.expires_at == datetime.fromtimestamp(START + 900, UTC)


def test_an_amount_may_be_a_number_too() -> None:
    assert told(ANTOM.quote(new_quote()), quoted(exchangeAmount=usd(13926))).due == 13926


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"exchangeAmount": usd("13927")}, PriceRefused, "due_differs"),
        ({"exchangeAmount": usd("13925")}, PriceRefused, "due_differs"),
        ({"exchangeAmount": {"currency": "EUR", "value": "13926"}}, NotOurs, "quote_for_another_request"),
        ({"quoteCurrencyPair": "USD/EUR"}, NotOurs, "quote_for_another_request"),
        ({"quoteCurrencyPair": "EURUSD"}, Unreadable, "bad_value"),
        ({"guaranteed": False}, PriceRefused, "not_guaranteed"),
        ({"quotePrice": "0", "exchangeAmount": None}, PriceRefused, "rate_not_positive"),
        ({"quotePrice": "1e3"}, Unreadable, "bad_value"),
        ({"quotePrice": True}, Unreadable, "wrong_type"),
        ({"exchangeAmount": usd("139.26")}, Unreadable, "bad_value"),
        ({"exchangeAmount": usd("1" * 17)}, Unreadable, "bad_value"),
        ({"exchangeAmount": usd("-1")}, Unreadable, "bad_value"),
        ({"quoteExpiryTime": None}, Unreadable, "missing_field"),
    ],
)
def test_a_quote_that_is_not_the_one_asked_for_is_refused(
    changes: dict[str, Any], kind: type[DepositTokenError], reason: str
) -> None:
    assert refused(ANTOM.quote(new_quote()), [quoted(**changes)], kind).reason == reason


def test_in_one_currency_nothing_is_asked_and_the_price_stands_for_the_setting() -> None:
    quote, requests = rehearse(issuer(QUOTE_LIFE="600").quote(new_quote(currency="USD")), [])
    assert requests == ()
    assert (quote.due, quote.rate, quote.fee) == (12850, Decimal(1), 0)
    assert quote.expires_at == datetime.fromtimestamp(START + 600, UTC)


def test_a_price_stands_for_an_hour_at_most_as_a_session_does() -> None:
    quote = told(ANTOM.quote(new_quote()), quoted(quoteExpiryTime="2026-09-22T14:13:20Z"))
    assert quote.expires_at == datetime.fromtimestamp(START, UTC) + timedelta(hours=1)


def test_minor_units_go_by_antom_s_table() -> None:
    lock = {
        "quoteCurrencyPair": "EUR/JPY",
        "quotePrice": "163.5",
        "exchangeAmount": {"currency": "JPY", "value": "164"},
    }
    quote = told(ANTOM.quote(new_quote("1.00", token="SBJPY")), quoted(**lock))
    assert (quote.due, quote.decimals) == (164, 0)


def test_what_antom_cannot_do_is_refused_before_anything_is_sent() -> None:
    debt = evolve(new_quote(), bearer=Bearer.DEBT)
    assert refused(ANTOM.quote(debt), [], Unsupported).reason == "unsupported"
    manual = new_invoice(a_quote(), Capture.MANUAL)
    assert refused(ANTOM.create_invoice(manual), [], Unsupported).reason == "unsupported"
    lacking: list[Callable[[], object]] = [
        lambda: ANTOM.capture(REFERENCE, 1, "k", datetime.now(UTC)),
        lambda: ANTOM.release(REFERENCE, "k"),
        lambda: ANTOM.statements(REFERENCE),
        lambda: ANTOM.backing("SBUSD"),
        lambda: ANTOM.ledger(datetime.now(UTC).date()),
        ANTOM.invoices,
        lambda: ANTOM.test_webhook("k"),
    ]
    for ask in lacking:
        with pytest.raises(Unsupported) as error:
            ask()
        assert error.value.issuer == BANK
        assert error.value.capability not in ANTOM.capabilities


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (new_quote(token="SBXXX"), "unknown_token"),
        (new_quote(currency="CHF"), "currency_not_taken"),
        (new_quote("123456789012345.67"), "too_large"),
    ],
)
def test_what_antom_does_not_take_is_refused_before_anything_is_sent(asked: Any, reason: str) -> None:
    assert refused(ANTOM.quote(asked), [], InvalidInput).reason == reason


# -- the session -----------------------------------------------------------------------------------------------


def test_a_session_names_price_due_and_rate_lock() -> None:
    exact = issuer(ANTOM_PRODUCT_SCENE="CHECKOUT", ANTOM_SETTLEMENT_CURRENCY="HKD")
    (request,) = sent(exact.create_invoice(new_invoice(a_quote())), SESSION)
    assert request.url == f"{API}/payments/createPaymentSession"
    assert body_of(request) == {
        "productCode": "CASHIER_PAYMENT",
        "productScene": "CHECKOUT",
        "paymentRequestId": REFERENCE,
        "order": {
            "referenceOrderId": REFERENCE,
            "orderDescription": REFERENCE,
            "orderAmount": {"currency": "EUR", "value": "12850"},
        },
        "paymentAmount": usd("13926"),
        "paymentMethod": {"paymentMethodType": "SB_USD"},
        "paymentRedirectUrl": "https://shop.example/orders/1",
        "paymentSessionExpiryTime": "2026-09-21T14:28:20Z",
        "paymentQuote": LOCK | {"quotePrice": Decimal("1.0837")},
        "settlementStrategy": {"settlementCurrency": "HKD"},
    }


def test_a_session_is_the_invoice_with_the_page_to_pay_on() -> None:
    invoice = told(ANTOM.create_invoice(new_invoice(a_quote())), SESSION)
    assert (invoice.id, invoice.reference, invoice.merchant) == (REFERENCE, REFERENCE, CLIENT)
    assert (invoice.due, invoice.pay_url, invoice.quote_digest) == (13926, SESSION["normalUrl"], a_quote().digest)


@pytest.mark.parametrize("page", ["http://pay.example/x", "javascript:alert(1)", "https://pay.example/\nx"])
def test_no_buyer_is_sent_to_a_page_without_tls(page: str) -> None:
    session = SESSION | {"normalUrl": page}
    assert refused(ANTOM.create_invoice(new_invoice(a_quote())), [session], Unreadable).reason == "bad_value"


def test_a_session_without_a_rate_lock_where_there_is_nothing_to_exchange() -> None:
    quote, _ = rehearse(ANTOM.quote(new_quote(currency="USD")), [])
    (request,) = sent(ANTOM.create_invoice(new_invoice(quote)), SESSION)
    assert "paymentQuote" not in body_of(request)


def test_u_is_asked_again_under_the_same_ids() -> None:
    waiting = signed(result("PAYMENT_IN_PROCESS", "U"))
    requests = sent(ANTOM.create_invoice(new_invoice(a_quote())), waiting, waiting, SESSION)
    assert len(requests) == 3
    assert len({request.body for request in requests}) == 1


def test_each_try_is_signed_with_its_own_time() -> None:
    requests = sent(ANTOM.create_invoice(new_invoice(a_quote())), Lost(seconds=2), SESSION)
    assert requests[0].headers["request-time"] < requests[1].headers["request-time"]
    assert requests[0].headers["signature"] != requests[1].headers["signature"]


def test_what_stays_unknown_is_unknown_and_never_refused() -> None:
    waiting = [signed(result("UNKNOWN_EXCEPTION", "U"), at=START + 2 * n) for n in range(5)]
    unknown = refused(ANTOM.create_invoice(new_invoice(a_quote())), waiting, OutcomeUnknown)
    assert isinstance(unknown, OutcomeUnknown)
    assert (unknown.reference, unknown.key) == (REFERENCE, new_invoice(a_quote()).key)
    asked = refused(ANTOM.invoice(REFERENCE), waiting, BankUnavailable)
    assert asked.reason == "unknown_yet"


def test_a_lost_answer_is_asked_for_again_and_then_unknown() -> None:
    invoice = told(ANTOM.create_invoice(new_invoice(a_quote())), Lost(), SESSION)
    assert invoice.pay_url
    refused(ANTOM.create_invoice(new_invoice(a_quote())), [Lost()] * 5, OutcomeUnknown)
    assert refused(ANTOM.invoice(REFERENCE), [Lost()] * 5, BankUnavailable).reason == "no_answer"


# -- answers that are not to be believed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (signed(payment(), key=MERCHANT_KEY), NotGenuine, "signature_mismatch"),
        (signed(payment(), path="/ams/api/v1/payments/inquiryPayment"), NotGenuine, "signature_mismatch"),
        (signed(payment(), at=START - 301), NotGenuine, "too_old"),
        (signed(payment(), at=START + 301), NotGenuine, "in_the_future"),
        (signed(payment(), client="SANDBOX_OTHER"), NotOurs, "other_merchant"),
        (signed(payment(paymentRequestId="k7Qm2xVb0002")), NotOurs, "answer_for_another_request"),
        (signed(payment(paymentAmount=usd(139.26))), Unreadable, "bad_value"),
        (signed(payment(paymentAmount={"currency": "XAU", "value": "1"})), Unreadable, "bad_value"),
        (signed(payment(actualPaymentAmount={"currency": "EUR", "value": "1"})), Unreadable, "bad_value"),
        (signed(payment(paymentTime=None, paymentCreateTime=None)), Unreadable, "missing_field"),
        (signed(payment(paymentMethodType="CARD")), NotOurs, "other_token"),
        (Reply.json(payment()), NotGenuine, "answer_unsigned"),
        (signed("[]"), Unreadable, "not_an_object"),
    ],
)
def test_an_answer_that_is_not_antom_s_or_not_to_what_was_asked_is_refused(
    answer: Scripted, kind: type[DepositTokenError], reason: str
) -> None:
    assert refused(ANTOM.invoice(REFERENCE), [answer], kind).reason == reason


def test_what_an_unsigned_refusal_says_is_a_hint_and_no_more() -> None:
    error = refused(ANTOM.invoice(REFERENCE), [Reply.json(result("INVALID_SIGNATURE", "F"))], NotGenuine)
    assert "INVALID_SIGNATURE" in str(error)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("REFUND_AMOUNT_EXCEED", "refund_exceeds"),
        ("MERCHANT_BALANCE_NOT_ENOUGH", "merchant_balance"),
        ("RISK_REJECT", "risk_refused"),
        ("SOMETHING_NEW", "something_new"),
    ],
)
def test_a_refusal_keeps_antom_s_code_and_has_our_reason(code: str, reason: str) -> None:
    refusal = refused(ANTOM.refund(new_refund()), [payment(), result(code, "F")], BankRefused)
    assert isinstance(refusal, BankRefused)
    assert (refusal.code, refusal.reason) == (code, reason)


# -- settings --------------------------------------------------------------------------------------------------


def test_live_is_another_path_and_each_gateway_has_a_name() -> None:
    live = issuer(MODE="live", MERCHANT="5YC1E", URL="de")
    with pytest.raises(NotOurs):
        told(live.invoice(REFERENCE), payment())
    calls: list[Request] = []
    with pytest.raises(NotOurs):
        rehearse(live.invoice(REFERENCE), [signed(payment())], sent=calls)
    assert calls[0].url == "https://open-de-global.alipay.com/ams/api/v1/payments/inquiryPayment"


@pytest.mark.parametrize(
    ("changes", "reason", "named"),
    [
        ({"MODE": "live"}, "mode_mismatch", "SANDBOX_"),
        ({"MERCHANT": "5YC1E"}, "mode_mismatch", "SANDBOX_"),
        ({"URL": "moon"}, "setting_invalid", "DEPOSIT_TOKEN_URL"),
        ({"ANTOM_TOKENS": ""}, "setting_missing", "DEPOSIT_TOKEN_ANTOM_TOKENS"),
        ({"ANTOM_TOKENS": "SBUSD"}, "setting_invalid", "CODE=CURRENCY:METHOD"),
        ({"ANTOM_TOKENS": "A=USD:X A=EUR:Y"}, "setting_invalid", "each code once"),
        ({"ANTOM_TOKENS": "AA=USD:X BB=USD:X"}, "setting_invalid", "twice"),
        ({"ANTOM_TOKENS": "AA=CNH:X"}, "setting_invalid", "CNH"),
        ({"ANTOM_SETTLEMENT_CURRENCY": "XXX"}, "setting_invalid", "SETTLEMENT_CURRENCY"),
        ({"ANTOM_WEBHOOK_PATH": "webhooks"}, "setting_invalid", "WEBHOOK_PATH"),
        ({"ANTOM_PUBLIC_KEY": ""}, "setting_invalid", "PUBLIC_KEY"),
        ({"ANTOM_PUBLIC_KEY_FILE": "/nowhere"}, "setting_invalid", "PUBLIC_KEY_FILE"),
        ({"ANTOM_PUBLIC_KEY": "no key"}, "bad_key", "public key"),
        ({"ANTOM_PUBLIC_KEY": "{}"}, "setting_invalid", "PUBLIC_KEY"),
        ({"ANTOM_COLOUR": "red"}, "setting_unknown", "ANTOM_COLOUR"),
        ({"SIGNING_KEY": ""}, "setting_missing", "SIGNING_KEY_FILE"),
        ({"SIGNING_KEY": spki(ANTOM_KEY)}, "bad_key", "private key"),
    ],
)
def test_a_setting_that_cannot_be_is_named(changes: dict[str, str], reason: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        issuer(**changes)
    assert error.value.reason == reason
    assert named in str(error.value)


def test_tokens_are_those_of_the_settings() -> None:
    tokens = told(ANTOM.tokens())
    assert [(one.code, one.currency, one.decimals, one.issuer) for one in tokens] == [
        ("SBUSD", "USD", 2, BANK),
        ("SBEUR", "EUR", 2, BANK),
        ("SBJPY", "JPY", 0, BANK),
    ]


def test_no_secret_shows() -> None:
    assert environment()["DEPOSIT_TOKEN_SIGNING_KEY"] not in repr(ANTOM.__dict__)
