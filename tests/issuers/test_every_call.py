"""Every call of the client as a shop makes it, over mocked HTTP: what goes out, and what comes back as a value."""

from __future__ import annotations

import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from deposit_token_sdk import Client, Money
from deposit_token_sdk.evidence import digest_of
from deposit_token_sdk.lifecycle import RefundStage, Stage, Word
from deposit_token_sdk.models import Bearer, Capture, Mode, Proof, StatementKind, Token, TokenKind
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.keys import KeySet
from tests.issuers.bank_double import (
    BANK,
    INSTALLATION,
    KEY,
    MERCHANT,
    REFERENCE,
    Bank,
    invoice,
    movement,
    new_invoice,
    new_quote,
    new_refund,
    refund,
)

ACCEPTED = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)


def test_a_shop_lists_the_tokens_it_can_take(bank: Bank, client: Client) -> None:
    listed = {"code": "SBUSD", "currency": "USD", "decimals": 2, "issuer": BANK, "kind": "deposit", "rail": "ledger"}
    bank.answer("GET", "/tokens", {"tokens": [listed, listed | {"code": "SBX", "kind": "something new"}]})
    assert client.tokens() == (
        Token("SBUSD", "USD", 2, BANK, TokenKind.DEPOSIT, "ledger"),
        Token("SBX", "USD", 2, BANK, TokenKind.STABLECOIN, "ledger"),
    )
    assert bank.asked[0].signed


def test_a_shop_asks_for_a_price_and_gets_the_banks_signed_lock(bank: Bank, client: Client) -> None:
    statement = bank.quote()
    bank.answer("POST", "/quotes", {"id": "quo_1", "reference": REFERENCE, "statement": statement}, status=201)
    quote = client.quote(new_quote())
    assert (quote.id, quote.due, quote.net, quote.fee, quote.rate) == ("quo_1", 14100, 13926, 174, Decimal("1.0837"))
    assert quote.price == Money("128.50", "EUR")
    assert quote.bearer is Bearer.DEBT
    assert quote.expires_at == datetime(2026, 11, 24, 9, 35, tzinfo=UTC)
    assert (quote.statement, quote.digest) == (statement, digest_of(statement))
    asked = bank.asked[0]
    assert asked.signed
    assert asked.headers["idempotency-key"] == KEY
    assert asked.body == {
        "reference": REFERENCE,
        "installation": INSTALLATION,
        "mode": "test",
        "price": {"currency": "EUR", "amount": "128.50"},
        "token": "SBUSD",
        "bearer": "DEBT",
    }


def test_a_shop_has_an_invoice_made_under_the_quote(bank: Bank, client: Client) -> None:
    bank.answer("POST", "/invoices", invoice(), status=201)
    made = client.create_invoice(new_invoice())
    assert (made.id, made.reference, made.due, made.word, made.version) == ("inv_1", REFERENCE, 14100, "open", 1)
    assert (made.mode, made.capture, made.pay_url) == (Mode.TEST, Capture.AUTOMATIC, "https://bank.example/pay/x")
    assert bank.asked[0].headers["idempotency-key"] == KEY
    assert bank.asked[0].body == {
        "reference": REFERENCE,
        "installation": INSTALLATION,
        "mode": "test",
        "quote": "quo_1",
        "quote_digest": "digest",
        "capture": "automatic",
        "return_url": "https://shop.example/orders/1",
    }


def test_a_shop_reads_an_invoice_with_its_movements_and_refunds(bank: Bank, client: Client) -> None:
    told = invoice(status="paid", version=4, capture="manual", movements=[movement()], refunds=[refund()])
    bank.answer("GET", "/invoices/inv_1", told)
    read = client.invoice("inv_1")
    assert (read.word, read.version, read.capture) == ("paid", 4, Capture.MANUAL)
    (paid,) = read.movements
    assert (paid.id, paid.stage, paid.units, paid.accepted_at) == ("mov_1", Stage.SETTLED, 14100, ACCEPTED)
    (back,) = read.refunds
    assert (back.id, back.stage, back.units) == ("ref_1", RefundStage.PENDING, 500)


def test_an_id_cannot_leave_its_place_in_the_address(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/..%2Fledger%3Fx", invoice(id="../ledger?x"))
    client.invoice("../ledger?x")
    assert bank.asked[0].target == "/invoices/..%2Fledger%3Fx"


def test_a_shop_finds_an_invoice_by_its_own_reference_or_learns_that_there_is_none(bank: Bank, client: Client) -> None:
    bank.answer("GET", f"/invoices?reference={REFERENCE}", {"invoices": [invoice()], "next": None})
    bank.answer("GET", "/invoices?reference=k7Qm2xVb0002", {"invoices": [], "next": None})
    found = client.find_invoice(REFERENCE)
    assert found is not None
    assert found.id == "inv_1"
    assert client.find_invoice("k7Qm2xVb0002") is None


def test_a_shop_pages_through_all_invoices(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices?limit=1", {"invoices": [invoice()], "next": "c/2"})
    bank.answer("GET", "/invoices?limit=1&cursor=c%2F2", {"invoices": [invoice(id="inv_2")], "next": None})
    first = client.invoices(limit=1)
    last = client.invoices(first.next, limit=1)
    assert [one.id for one in (*first.invoices, *last.invoices)] == ["inv_1", "inv_2"]
    assert last.next is None
    bank.answer("GET", "/invoices?limit=100&date=2026-11-24", {"invoices": [invoice()], "next": None})
    assert [one.id for one in client.invoices(day=date(2026, 11, 24)).invoices] == ["inv_1"]


@pytest.mark.parametrize("verb", ["cancel", "release"])
def test_a_shop_ends_an_unpaid_invoice_or_lets_a_held_payment_go(verb: str, bank: Bank, client: Client) -> None:
    bank.answer("POST", f"/invoices/inv_1/{verb}", invoice(status="cancelled", version=2))
    ended = client.cancel("inv_1", KEY) if verb == "cancel" else client.release("inv_1", KEY)
    assert (ended.word, ended.version) == ("cancelled", 2)
    assert bank.asked[0].body == {}
    assert bank.asked[0].headers["idempotency-key"] == KEY


def test_a_shop_captures_a_held_payment_by_an_order_signed_with_its_own_key(bank: Bank, client: Client) -> None:
    paid = invoice(status="paid", movements=[movement()])
    bank.answer("POST", "/invoices/inv_1/capture", {"invoice": paid, "statement": bank.settlement()})
    captured = client.capture("inv_1", 14100, KEY, ordered_at=ACCEPTED)
    assert captured.movements[0].stage is Stage.SETTLED
    order = jws.verify(
        bank.asked[0].body["order"],
        KeySet((bank.merchant.verification_key(),)),
        typ="deposit-capture+jws",
        purpose=None,
    )
    assert strict_json.parse(order.payload) == {
        "iss": MERCHANT,
        "aud": BANK,
        "iat": int(ACCEPTED.timestamp()),
        "jti": KEY,
        "invoice": "inv_1",
        "units": "14100",
    }


def test_a_shop_sends_money_back(bank: Bank, client: Client) -> None:
    bank.answer("POST", "/refunds", refund(), status=201)
    asked_back = client.refund(new_refund())
    assert (asked_back.id, asked_back.units, asked_back.stage) == ("ref_1", 500, RefundStage.PENDING)
    assert bank.asked[0].body == {
        "reference": "k7Qm2xVbR1",
        "installation": INSTALLATION,
        "mode": "test",
        "invoice": "inv_1",
        "units": "500",
    }
    assert bank.asked[0].headers["idempotency-key"] == KEY


def test_a_shop_asks_how_far_a_refund_has_come(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/refunds/ref_1", refund(status="failed"))
    assert client.refund_status("ref_1").stage is RefundStage.FAILED


def test_a_shop_finds_a_refund_by_its_own_reference_or_learns_that_there_is_none(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/refunds?reference=k7Qm2xVbR1", {"refunds": [refund()]})
    bank.answer("GET", "/refunds?reference=k7Qm2xVbR2", {"refunds": []})
    found = client.find_refund("k7Qm2xVbR1")
    assert found is not None
    assert found.id == "ref_1"
    assert client.find_refund("k7Qm2xVbR2") is None


def test_a_shop_fetches_the_banks_statements_again(bank: Bank, client: Client) -> None:
    statement = bank.settlement()
    bank.answer("GET", "/invoices/inv_1/statements", {"statements": [statement]})
    assert client.statements("inv_1") == (statement,)


def test_a_shop_checks_that_the_tokens_are_backed(bank: Bank, client: Client) -> None:
    counted = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    as_of = f"{counted:%Y-%m-%dT%H:%M:%SZ}"
    statement = bank.state("backing", token="SBUSD", circulation="100000", deposits="100000", as_of=as_of)
    bank.answer("GET", "/tokens/SBUSD/backing", {"statement": statement})
    backing = client.backing("SBUSD")
    assert (backing.token, backing.circulation, backing.deposits) == ("SBUSD", 100000, 100000)
    assert (backing.as_of, backing.issuer) == (counted, client.issuer.name)
    assert timedelta(hours=1) <= backing.age < timedelta(hours=2)


def test_a_shop_reads_the_banks_ledger_of_a_day(bank: Bank, client: Client) -> None:
    entry = {
        "id": "e1",
        "at": "2026-11-24T09:30:00Z",
        "kind": "payment",
        "invoice": "inv_1",
        "reference": REFERENCE,
        "movement": "mov_1",
        "token": "SBUSD",
        "units": "14100",
    }
    back = entry | {"id": "e2", "kind": "refund", "movement": "ref_1", "refund_reference": "k7Qm2xVbR1"}
    day = date(2026, 11, 24)
    bank.answer("GET", "/ledger/2026-11-24?limit=1000", {"date": "2026-11-24", "entries": [entry], "next": "c/1"})
    bank.answer(
        "GET", "/ledger/2026-11-24?limit=1000&cursor=c%2F1", {"date": "2026-11-24", "entries": [back], "next": None}
    )
    first = client.ledger(day)
    last = client.ledger(day, first.next)
    ((posting,), (refunded,)) = first.entries, last.entries
    assert (posting.kind, posting.movement, posting.units, posting.at) == ("payment", "mov_1", 14100, ACCEPTED)
    assert (posting.refund_reference, refunded.refund_reference, last.next) == (None, "k7Qm2xVbR1", None)


def test_a_shop_has_the_bank_try_its_webhook_address_and_learns_what_answered(bank: Bank, client: Client) -> None:
    told = {
        "event": "msg_1",
        "url": "https://shop.example/webhooks/sandbox-bank",
        "status": 301,
        "location": "https://www.shop.example/",
        "content_type": "text/html",
        "body": "<html>",
        "milliseconds": 12,
        "error": None,
        "detail": "",
    }
    bank.answer("POST", "/webhook-tests", told, status=201)
    tried = client.test_webhook(KEY)
    assert (tried.event, tried.status, tried.location) == ("msg_1", 301, "https://www.shop.example/")
    assert (tried.content_type, tried.body, tried.milliseconds) == ("text/html", "<html>", 12)
    assert bank.asked[0].headers["idempotency-key"] == KEY
    assert bank.asked[0].body == {}


def test_a_webhook_address_at_which_nothing_answers_is_told_with_the_reason(bank: Bank, client: Client) -> None:
    nothing = {
        "event": "msg_1",
        "url": "https://shop.example/w",
        "status": None,
        "location": None,
        "content_type": None,
        "body": "",
        "milliseconds": 2003,
        "error": "timed_out",
        "detail": "ConnectTimeout",
    }
    bank.answer("POST", "/webhook-tests", nothing, status=201)
    tried = client.test_webhook(KEY)
    assert (tried.status, tried.error, tried.detail) == (None, "timed_out", "ConnectTimeout")


def test_a_shop_reads_a_webhook_without_asking_the_bank(bank: Bank, client: Client) -> None:
    headers, body = bank.webhook("invoice.settled", statement=bank.settlement())
    event = client.read_event(headers, body, time.time())
    assert (event.id, event.type, event.invoice, event.reference) == ("msg_1", "invoice.settled", "inv_1", REFERENCE)
    assert (event.merchant, event.installation, event.mode, event.version) == (MERCHANT, INSTALLATION, "test", 3)
    assert bank.asked == []
    assert bank.keys_asked == 0


def test_a_ping_names_no_invoice_and_reports_nothing(bank: Bank, client: Client) -> None:
    headers, body = bank.webhook("test.ping", invoice=None, installation="")
    event = client.read_event(headers, body, time.time())
    assert (event.invoice, event.reference, event.version) == (None, None, None)
    assert client.report_event(event, time.time()) is None


def test_a_webhook_becomes_a_report_with_the_banks_statement_verified(bank: Bank, client: Client) -> None:
    headers, body = bank.webhook("invoice.settled", movement=movement(), statement=bank.settlement())
    report = client.report_event(client.read_event(headers, body, time.time()), time.time())
    assert report is not None
    assert (report.issuer, report.invoice, report.reference, report.event_id) == (BANK, "inv_1", REFERENCE, "msg_1")
    assert report.movements[0].stage is Stage.SETTLED
    (confirmed,) = report.confirmations
    assert (confirmed.kind, confirmed.units, confirmed.accepted_at) == (StatementKind.SETTLEMENT, 14100, ACCEPTED)
    assert confirmed.proof is Proof.JWS
    assert bank.keys_asked == 1


def test_a_webhook_about_expiry_or_a_refund_says_so_in_its_report(bank: Bank, client: Client) -> None:
    headers, body = bank.webhook("invoice.expired", status="expired")
    expired = client.report_event(client.read_event(headers, body, time.time()), time.time())
    assert expired is not None
    assert expired.words == {Word.EXPIRED}
    done = bank.state(
        "refund",
        invoice="inv_1",
        reference=REFERENCE,
        refund="ref_1",
        refund_reference="k7Qm2xVbR1",
        token="SBUSD",
        units="500",
    )
    headers, body = bank.webhook("refund.done", refund=refund(status="done"), statement=done)
    refunded = client.report_event(client.read_event(headers, body, time.time()), time.time())
    assert refunded is not None
    assert refunded.refunds[0].stage is RefundStage.DONE
    assert refunded.confirmations[0].refund_reference == "k7Qm2xVbR1"


def test_a_polled_invoice_on_which_money_moved_is_reported_with_the_banks_statements(
    bank: Bank, client: Client
) -> None:
    bank.answer("GET", "/invoices/inv_1", invoice(status="paid", movements=[movement()]))
    bank.answer("GET", "/invoices/inv_1/statements", {"statements": [bank.settlement()]})
    report = client.report_invoice(client.invoice("inv_1"))
    assert [one.movement for one in report.confirmations] == ["mov_1"]
    assert report.event_id is None
    assert report.digest


def test_a_polled_invoice_on_which_nothing_moved_is_reported_without_asking_again(bank: Bank, client: Client) -> None:
    bank.answer("GET", "/invoices/inv_1", invoice(status="expired"))
    report = client.report_invoice(client.invoice("inv_1"))
    assert report.words == {Word.EXPIRED}
    assert report.confirmations == ()
    assert len(bank.asked) == 1


def test_a_client_that_signs_nothing_takes_unsigned_answers(bank: Bank) -> None:
    bank.answer("GET", "/invoices/inv_1", invoice())
    with bank.client(MESSAGE_SIGNATURES="off") as unsigned:
        assert unsigned.invoice("inv_1").id == "inv_1"
    assert not bank.asked[0].signed
    assert bank.keys_asked == 0
