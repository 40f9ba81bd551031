"""Antom's gateway as a test tells it to answer: each request's signature verified, each answer signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.exchange import Exchange, Request
from deposit_token_sdk.issuers.antom import AntomIssuer
from deposit_token_sdk.models import Bearer, Capture, Invoice, NewInvoice, NewQuote, NewRefund, Quote, Report
from deposit_token_sdk.money import Money
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.testing.rehearsal import START, Reply, Scripted, rehearse

T = TypeVar("T")
CLIENT, BANK, URL = "SANDBOX_5YC1E", "antom", "https://open-sea-global.alipay.com"
INSTALLATION, REFERENCE, REFUND = "k7Qm2xVb", "k7Qm2xVb0001", "k7Qm2xVbR001"
KEY = "0b6d1f0a-6f58-4f0c-9d0e-3f6a7f3c2a11"
MERCHANT_KEY = rsa.generate_private_key(65537, 2048)
ANTOM_KEY = rsa.generate_private_key(65537, 2048)
PAID_AT = "2026-09-21T14:10:00Z"


def environment(**settings: str) -> dict[str, str]:
    """What a shop sets to be this gateway's client."""
    values = {
        "ISSUER": "antom",
        "BANK": BANK,
        "URL": "sea",
        "MERCHANT": CLIENT,
        "MODE": "test",
        "SIGNING_KEY": pkcs8(MERCHANT_KEY),
        "ANTOM_TOKENS": "SBUSD=USD:SB_USD SBEUR=EUR:SB_EUR SBJPY=JPY:SB_JPY",
        "ANTOM_PUBLIC_KEY": spki(ANTOM_KEY),
    } | settings
    return {f"DEPOSIT_TOKEN_{name}": value for name, value in values.items() if value}


def issuer(**settings: str) -> AntomIssuer:
    """A client's issuer."""
    return AntomIssuer(Settings.from_env(environment(**settings)))


def pkcs8(key: rsa.RSAPrivateKey) -> str:
    """A private key as Antom's tool writes it."""
    return base64.b64encode(key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).decode()


def spki(key: rsa.RSAPrivateKey) -> str:
    """A public key as Antom's dashboard shows it."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def signature(path: str, time: str, body: bytes, *, client: str = CLIENT, key: rsa.RSAPrivateKey = ANTOM_KEY) -> str:
    """The header, made with pyca/cryptography alone."""
    raw = key.sign(f"POST {path}\n{client}.{time}.".encode() + body, padding.PKCS1v15(), SHA256())
    return f"algorithm=RSA256, keyVersion=1, signature={quote(base64.b64encode(raw).decode(), safe='')}"


def iso(at: float) -> str:
    """A time as Antom writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat()


def signed(
    body: dict[str, Any] | str,
    *,
    status: int = 200,
    at: float = START,
    client: str = CLIENT,
    key: rsa.RSAPrivateKey = ANTOM_KEY,
    path: str | None = None,
) -> Callable[[Request], Reply]:
    """An answer to whatever is asked, signed at `at`; the request's own signature must verify."""

    def answer(request: Request) -> Reply:
        asked = urlsplit(request.url).path
        verify(request)
        raw = (body if isinstance(body, str) else json.dumps(body)).encode()
        time = iso(at)
        headers = {"client-id": client, "response-time": time, "content-type": "application/json"}
        headers["signature"] = signature(path or asked, time, raw, client=client, key=key)
        return Reply(status, raw, headers)

    return answer


def verify(request: Request) -> None:
    """Check a request's signature as Antom's documents say, with pyca/cryptography alone."""
    path = urlsplit(request.url).path
    _, _, encoded = request.headers["signature"].partition("signature=")
    content = f"POST {path}\n{request.headers['client-id']}.{request.headers['request-time']}.".encode()
    raw = base64.b64decode(unquote(encoded))
    MERCHANT_KEY.public_key().verify(raw, content + (request.body or b""), padding.PKCS1v15(), SHA256())


def result(code: str = "SUCCESS", status: str = "S") -> dict[str, Any]:
    """A result member."""
    return {"result": {"resultCode": code, "resultStatus": status, "resultMessage": code.lower()}}


def usd(value: object) -> dict[str, Any]:
    """An Amount in USD."""
    return {"currency": "USD", "value": value}


LOCK = {"quoteId": "quo_1", "quoteCurrencyPair": "EUR/USD", "quotePrice": "1.0837", "guaranteed": True}


def quoted(**changes: Any) -> dict[str, Any]:
    """The answer to createQuote on 128.50 EUR: gross 13926."""
    told = LOCK | {"quoteStartTime": iso(START), "quoteExpiryTime": iso(START + 900), "exchangeAmount": usd("13926")}
    return result() | {"quote": told | changes}


def payment(status: str = "SUCCESS", **changes: Any) -> dict[str, Any]:
    """The answer to inquiryPayment: the whole, paid."""
    told = {
        "paymentStatus": status,
        "paymentResultCode": status,
        "paymentRequestId": REFERENCE,
        "paymentId": "pay_1",
        "paymentMethodType": "SB_USD",
        "paymentAmount": usd("13926"),
        "paymentQuote": LOCK | {"quoteExpiryTime": iso(START + 900)},
        "paymentCreateTime": PAID_AT,
        "paymentTime": PAID_AT,
    }
    return result() | {name: value for name, value in (told | changes).items() if value is not None}


def transaction(kind: str = "REFUND", status: str = "SUCCESS", **changes: Any) -> dict[str, Any]:
    """One of a payment's transactions: a refund of 5.00."""
    return {
        "transactionType": kind,
        "transactionStatus": status,
        "transactionId": "ref_1",
        "transactionRequestId": f"{REFERENCE}_{REFUND}",
        "transactionAmount": usd("500"),
        "transactionTime": PAID_AT,
    } | changes


def notification(
    body: dict[str, Any], *, at: float = START, path: str = "/webhooks/antom", client: str = CLIENT
) -> tuple[dict[str, str], bytes]:
    """Headers and body of a notification."""
    raw = json.dumps(body).encode()
    time = iso(at)
    return {"Client-Id": client, "Request-Time": time, "Signature": signature(path, time, raw, client=client)}, raw


def new_quote(price: str = "128.50", currency: str = "EUR", token: str = "SBUSD") -> NewQuote:  # noqa: S107
    """What the shop asks a price for."""
    return NewQuote(REFERENCE, INSTALLATION, Money(price, currency), token, Bearer.CRED, KEY)


def new_invoice(quote: Quote, capture: Capture = Capture.AUTOMATIC) -> NewInvoice:
    """What the shop asks to have paid."""
    told = (quote.id, quote.digest, quote.token, quote.due)
    return NewInvoice(REFERENCE, INSTALLATION, *told, capture, "https://shop.example/orders/1", KEY, quote=quote)


def new_refund(units: int = 500) -> NewRefund:
    """What the shop sends back."""
    return NewRefund(REFUND, INSTALLATION, REFERENCE, units, KEY)


ANTOM = issuer()
API = f"{URL}/ams/sandbox/api/v1"
SESSION = result() | {
    "paymentSessionId": "ses_1",
    "paymentSessionData": "data",
    "paymentSessionExpiryTime": "2026-09-21T14:28:20Z",
    "normalUrl": "https://pay.example/ses_1",
}


def told(exchange: Exchange[T], *replies: Scripted | dict[str, Any]) -> T:
    """What an exchange returns, played on these answers."""
    return rehearse(exchange, [signed(one) if isinstance(one, dict) else one for one in replies])[0]


def sent(exchange: Exchange[T], *replies: Scripted | dict[str, Any]) -> list[Request]:
    """The requests that an exchange sends, played on these answers."""
    return list(rehearse(exchange, [signed(one) if isinstance(one, dict) else one for one in replies])[1])


def refused(
    exchange: Exchange[object], replies: Iterable[Scripted | dict[str, Any]], kind: type[DepositTokenError]
) -> DepositTokenError:
    """The error that an exchange ends in."""
    with pytest.raises(kind) as error:
        told(exchange, *replies)
    return error.value


def body_of(request: Request) -> dict[str, Any]:
    """The JSON of a request."""
    assert request.body is not None
    read: dict[str, Any] = json.loads(request.body, parse_float=Decimal)
    return read


def a_quote() -> Quote:
    """128.50 EUR in SBUSD: 13926 units."""
    return told(ANTOM.quote(new_quote()), quoted())


def an_invoice() -> Invoice:
    """The invoice under that quote, paid."""
    return told(ANTOM.invoice(REFERENCE), payment())


def a_report(**changes: Any) -> Report:
    """What Antom reports about the paid invoice; `changes` are members of its answer."""
    return told(ANTOM.report_invoice(an_invoice()), payment(**changes))
