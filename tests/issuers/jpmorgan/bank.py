"""A merchant at a bank that is a list of replies: settings, keys, and payments as each version tells them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

from deposit_token_sdk.checkout.own_quotes import own_quote
from deposit_token_sdk.exchange import Request
from deposit_token_sdk.issuers.jpmorgan import record
from deposit_token_sdk.issuers.jpmorgan.issuer import JPMorganIssuer
from deposit_token_sdk.models import (
    Bearer,
    Capture,
    Mode,
    NewCollection,
    NewInvoice,
    NewQuote,
    NewRefund,
    Token,
    TokenKind,
)
from deposit_token_sdk.money import Money
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from deposit_token_sdk.testing.rehearsal import START, Reply

REFERENCE = "k7qm2xvb0001ABCDEFGHijklmn"
REFUND = "k7qm2xvb0002ABCDEFGHijklmn"
DIGEST = "ab" * 32
KEY = "0b6d1f0a-6f58-4f0c-9d0e-3f6a7f3c2a11"
EXPIRES = datetime.fromtimestamp(START + 900, UTC)
ASKED_AT = datetime.fromtimestamp(START + 30, UTC)
RECORD = record.Record(REFERENCE, "SBEUR", 12850, int(START) + 900, DIGEST)
INVOICE = RECORD.id
LINE = record.line_of(RECORD, ASKED_AT)
MERCHANT_ACCOUNT, BUYER_ACCOUNT = "0070103277", "8830699900"
QUOTE = own_quote(
    NewQuote(REFERENCE, REFERENCE[:8], Money("128.50", "EUR"), "SBEUR", Bearer.CRED, KEY),
    Token("SBEUR", "EUR", 2, "jpmorgan", TokenKind.DEPOSIT, "kinexys"),
    "demo-shop",
    Mode.TEST,
    EXPIRES,
)
TOKEN = Reply.json({"access_token": "token-1", "token_type": "bearer", "expires_in": 3600})


@cache
def rsa_key() -> SigningKey:
    """One for all tests: an RSA key takes a while to make."""
    return SigningKey.generate(Algorithm.RS256, "4F2A")


def settings(version: int = 2, **more: str) -> Settings:
    """The settings of a shop; `more` names are those after DEPOSIT_TOKEN_."""
    values = {
        "ISSUER": "jpmorgan",
        "BANK": "jpmorgan",
        "URL": "https://bank.example",
        "MERCHANT": "demo-shop",
        "MODE": "test",
        "SIGNING_KEY": rsa_key().to_pem().decode(),
        "SIGNING_KEY_ID": "4F2A",
        "JPMORGAN_VERSION": str(version),
        "JPMORGAN_ACCOUNT": f"{MERCHANT_ACCOUNT}:BDA:CHASDEFX",
        "JPMORGAN_NAME": "Fernhill Tea",
        "JPMORGAN_DEBTORS": f"anna={BUYER_ACCOUNT}:BDA:CHASDEFX",
        "JPMORGAN_TOKENS": "SBEUR=EUR:2 SBUSD=USD:2",
    }
    if version == 2:
        values |= {
            "JPMORGAN_TOKEN_URL": "https://id.bank.example/token",
            "JPMORGAN_CLIENT_ID": "client-1",
            "JPMORGAN_RESOURCE": "JPMC:URI:RS-1",
        }
    return Settings.from_env({f"DEPOSIT_TOKEN_{name}": value for name, value in (values | more).items() if value})


def issuer(version: int = 2, **more: str) -> JPMorganIssuer:
    return JPMorganIssuer(settings(version, **more))


def new_invoice(**more: Any) -> NewInvoice:
    values: dict[str, Any] = {
        "reference": REFERENCE,
        "installation": REFERENCE[:8],
        "quote_id": f"own-{REFERENCE}",
        "quote_digest": DIGEST,
        "token": "SBEUR",
        "due": 12850,
        "capture": Capture.AUTOMATIC,
        "return_url": "https://shop.example/back",
        "key": KEY,
        "quote": QUOTE,
    }
    return NewInvoice(**(values | more))


def collection(**more: Any) -> NewCollection:
    values: dict[str, Any] = {"reference": REFERENCE, "invoice": INVOICE, "account": "", "key": KEY}
    return NewCollection(**(values | {"asked_at": ASKED_AT} | more))


def new_refund(units: int = 500, asked_at: datetime | None = None) -> NewRefund:
    return NewRefund(REFUND, REFUND[:8], INVOICE, units, KEY, asked_at)


def accepted(version: int, reference: str = REFERENCE) -> Reply:
    """202 to an initiation."""
    if version == 1:
        told: Any = {"paymentInitiationResponse": {"endToEndId": reference, "firmRootId": "pay-1"}}
    else:
        told = {"endToEndId": reference, "paymentId": "pay-1"}
    return Reply.json(told, 202)


STATUSES = {"COMPLETED": "COMPLETED_BY_JPM", "PROCESSING": "PENDING_POSTING", "REJECTED": "REJECTED_BY_JPM"}


def payment(status: str = "COMPLETED", **more: Any) -> dict[str, Any]:
    """A payment as version 2 tells it."""
    told: dict[str, Any] = {
        "paymentId": "pay-1",
        "paymentStatus": status,
        "paymentSubStatus": STATUSES.get(status, status),
        "statusUpdatedAt": "2026-09-21T17:40:31Z",
        "requestedExecutionDate": "2026-09-21",
        "paymentIdentifiers": {"endToEndId": REFERENCE},
        "value": {"currency": "EUR", "amount": "128.50"},
        "transferType": "CREDIT",
        "paymentType": "BLOCKCHAIN",
        **parties(BUYER_ACCOUNT, MERCHANT_ACCOUNT),
        "remittanceInformation": {"unstructuredInformation": [{"text": LINE}]},
    }
    return told | more


def parties(debtor: str, creditor: str) -> dict[str, Any]:
    agent = {"financialInstitutionIds": [{"id": "CHASDEFX", "idType": "BIC"}]}
    sides = {"debtor": debtor, "creditor": creditor}
    named = {side: {"account": {"accountNumber": number, "accountType": "BDA"}} for side, number in sides.items()}
    return {**named, "debtorAgent": agent, "creditorAgent": agent}


def payment_1(status: str = "COMPLETED", amount: str = "128.50", line: str = LINE) -> Reply:
    """A payment as version 1 tells it; the amount is written into the JSON as it stands here."""
    body = f"""{{"payments": {{"requestedExecutionDate": "2026-09-21",
        "paymentIdentifiers": {{"endToEndId": "{REFERENCE}"}}, "paymentCurrency": "EUR", "paymentAmount": {amount},
        "transferType": "CREDIT", "paymentType": "BLOCKCHAIN",
        "debtor": {{"debtorAccount": {{"accountId": "{BUYER_ACCOUNT}", "accountType": "BDA"}}, "debtorName": "anna"}},
        "debtorAgent": {{"financialInstitutionId": {{"bic": "CHASDEFX"}}}},
        "creditorAgent": {{"financialInstitutionId": {{"bic": "CHASDEFX"}}}},
        "creditor": {{"creditorName": "Fernhill Tea",
            "creditorAccount": {{"accountId": "{MERCHANT_ACCOUNT}", "accountType": "BDA"}}}},
        "remittanceInformation": {{"unstructuredInformation": ["{line}"]}}}},
        "paymentStatus": {{"createDateTime": "2026-09-21T17:40:31.000", "status": "{status}"}},
        "firmRootId": "pay-1"}}"""
    return Reply(200, body.encode(), {"content-type": "application/json"})


def told(*payments: dict[str, Any]) -> Reply:
    """The answer of version 2 to a query by reference."""
    return Reply.json({"payments": list(payments)}) if payments else missing(2)


def missing(version: int) -> Reply:
    """What a bank says that knows no such payment."""
    if version == 1:
        details = [{"errorCode": "GCA-095", "errorDescription": "endToEndId or firmRootId is required"}]
        return Reply.json({"errors": [{"errorDetails": details}]}, 400)
    return Reply.json({"title": "Not Found", "httpStatus": 404}, 404)


def refusal(version: int, code: str, status: int = 400, words: str = "No.") -> Reply:
    """A refused initiation."""
    if version == 1:
        return Reply.json({"errors": {"errorDetails": [{"errorCode": code, "errorDescription": words}]}}, status)
    context = [{"code": code, "message": words, "location": "BODY"}]
    return Reply.json({"title": "Bad Request", "httpStatus": status, "traceId": "t-1", "context": context}, status)


def form(request: Request) -> dict[str, str]:
    """The fields of a form that was sent."""
    return dict(parse_qsl((request.body or b"").decode(), keep_blank_values=True))
