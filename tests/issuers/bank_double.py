"""A bank that answers over mocked HTTP what a test tells it to, and signs it as a bank does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import responses
from attrs import define, field, frozen
from requests import PreparedRequest

from deposit_token_sdk.client import Client, Clock
from deposit_token_sdk.evidence import digest_of
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.models import Bearer, Capture, NewInvoice, NewQuote, NewRefund
from deposit_token_sdk.money import Money
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import http_signatures, jws, strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner
from deposit_token_sdk.transport import Transport

URL = "https://bank.example"
BANK, MERCHANT, INSTALLATION, REFERENCE = "sandbox-bank", "demo-shop", "k7Qm2xVb", "k7Qm2xVb0001"
KEY = "0b6d1f0a-6f58-4f0c-9d0e-3f6a7f3c2a11"

Callback: TypeAlias = Callable[[PreparedRequest], tuple[int, dict[str, str], bytes]]


@frozen
class Asked:
    """A request as the bank received it, its signature verified where there was one."""

    method: str
    target: str
    headers: dict[str, str]
    body: Any
    signed: bool


@define
class Bank:
    """One bank double: keys, and what is to be answered where. `asked` lists the requests but those for keys."""

    mock: responses.RequestsMock
    statements: SigningKey = field(factory=lambda: SigningKey.generate(Algorithm.ES256, "statements-1"))
    answers_key: SigningKey = field(factory=lambda: SigningKey.generate(Algorithm.ED25519, "answers-1"))
    merchant: SigningKey = field(factory=lambda: SigningKey.generate(Algorithm.ED25519, "demo-shop-1"))
    webhooks: WebhookSigner = field(factory=lambda: WebhookSigner.generate()[0])
    asked: list[Asked] = field(factory=list)
    keys_asked: int = 0

    def environment(self, **settings: str) -> dict[str, str]:
        """What a shop sets to be this bank's client."""
        values = {
            "BANK": BANK,
            "URL": URL,
            "MERCHANT": MERCHANT,
            "MODE": "test",
            "SIGNING_KEY": self.merchant.to_pem().decode(),
            "SIGNING_KEY_ID": self.merchant.kid,
            "WEBHOOK_KEYS": self.webhooks.public_text,
        } | settings
        return {f"DEPOSIT_TOKEN_{name}": value for name, value in values.items()}

    def client(self, **settings: str) -> Client:
        """A client of this bank that waits for nothing."""
        issuer = ReferenceIssuer(Settings.from_env(self.environment(**settings)))
        return Client(issuer, transport=_transport(), clock=Clock(sleep=lambda _: None))

    def answer(self, method: str, path: str, *answers: object, status: int = 200) -> None:
        """What to answer there: JSON, signed with the answer key; or a callback that does as it likes."""
        for one in answers:
            callback = one if callable(one) else self.signed(strict_json.dumps(one), status)
            self.mock.add_callback(method, f"{URL}{path}", self._listening(callback), content_type=None)

    def refuse(self, method: str, path: str, code: str, status: int, detail: str = "") -> None:
        """A signed problem (RFC 9457) there."""
        problem = {"type": f"/problems/{code}", "title": code.replace("_", " "), "status": status, "detail": detail}
        body = strict_json.dumps(problem)
        self.answer(method, path, self.signed(body, status, {"content-type": "application/problem+json"}))

    def signed(
        self,
        body: bytes,
        status: int = 200,
        headers: dict[str, str] | None = None,
        *,
        key: SigningKey | None = None,
        late: int = 0,
    ) -> Callback:
        """An answer signed over the request that it answers, `late` seconds ago."""

        def answer(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
            told = {"content-type": "application/json", "request-id": "req_17", **(headers or {})}
            asked = _lower(request)
            if "signature" in asked:
                created = int(time.time()) - late
                told |= http_signatures.sign_answer(
                    status,
                    told,
                    body,
                    str(request.method),
                    str(request.url),
                    asked,
                    key or self.answers_key,
                    created=created,
                )
            return status, told, body

        return answer

    def publish(self, **changes: Any) -> None:
        """The key set at its usual address; `changes` are members of the statement key (`revoked`)."""

        def answer(_: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
            self.keys_asked += 1
            keys = KeySet(
                (
                    self.statements.verification_key(purpose="statement", **changes),
                    self.answers_key.verification_key(purpose="answer"),
                )
            )
            return 200, {"content-type": "application/json"}, strict_json.dumps(keys.jwks())

        self.mock.remove("GET", f"{URL}/.well-known/jwks.json")
        self.mock.add_callback("GET", f"{URL}/.well-known/jwks.json", answer, content_type=None)

    def state(self, typ: str, **claims: Any) -> str:
        """A statement of the bank, signed; `claims` beside those that every statement has."""
        common = {
            "iss": BANK,
            "aud": MERCHANT,
            "iat": int(time.time()),
            "jti": "st_1",
            "installation": INSTALLATION,
            "mode": "test",
        }
        return jws.sign(strict_json.dumps(common | claims), self.statements, f"deposit-{typ}+jws")

    def settlement(self, **claims: Any) -> str:
        """A settlement of the whole invoice."""
        usual = {
            "invoice": "inv_1",
            "reference": REFERENCE,
            "token": "SBUSD",
            "quote_digest": "digest",
            "movement": "mov_1",
            "units": "14100",
            "accepted_at": "2026-11-24T09:30:00Z",
        }
        return self.state("settlement", **usual | claims)

    def quote(self, **claims: Any) -> str:
        """The price lock on 128.50 EUR at 1.0837: gross 13926, and a fee of 174 that the buyer pays."""
        usual = {
            "jti": "quo_1",
            "reference": REFERENCE,
            "price": {"currency": "EUR", "amount": "128.50"},
            "token": "SBUSD",
            "decimals": 2,
            "rate": "1.0837",
            "fee": "174",
            "bearer": "DEBT",
            "due": "14100",
            "net": "13926",
            "expires_at": "2026-11-24T09:35:00Z",
        }
        return self.state("quote", **usual | claims)

    def webhook(self, type_: str, **data: Any) -> tuple[dict[str, str], bytes]:
        """Headers and body of a webhook about the invoice."""
        about = {
            "merchant": MERCHANT,
            "installation": INSTALLATION,
            "mode": "test",
            "invoice": "inv_1",
            "reference": REFERENCE,
            "version": 3,
            "status": "paid",
        }
        body = strict_json.dumps({"type": type_, "timestamp": "2026-11-24T09:30:01Z", "data": about | data})
        return self.webhooks.sign("msg_1", int(time.time()), body), body

    def _listening(self, answer: Callback) -> Callback:
        def heard(request: PreparedRequest) -> tuple[int, dict[str, str], bytes]:
            self.asked.append(self._verified(request))
            return answer(request)

        return heard

    def _verified(self, request: PreparedRequest) -> Asked:
        headers, body = _lower(request), request.body
        assert body is None or isinstance(body, bytes)
        if signed := "signature" in headers:
            keys = KeySet((self.merchant.verification_key(),))
            http_signatures.verify_request(str(request.method), str(request.url), headers, body, keys, now=time.time())
        parts = urlsplit(str(request.url))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        return Asked(str(request.method), target, headers, json.loads(body) if body else None, signed)


def invoice(**changes: Any) -> dict[str, Any]:
    """An Invoice resource, open and unpaid."""
    return {
        "id": "inv_1",
        "reference": REFERENCE,
        "merchant": MERCHANT,
        "installation": INSTALLATION,
        "mode": "test",
        "token": "SBUSD",
        "due": "14100",
        "quote_digest": "digest",
        "status": "open",
        "version": 1,
        "created_at": "2026-11-24T09:20:00Z",
        "expires_at": "2026-11-24T09:35:00Z",
        "pay_url": f"{URL}/pay/x",
        "capture": "automatic",
        "movements": [],
        "refunds": [],
    } | changes


def movement(**changes: Any) -> dict[str, Any]:
    """A payment of the whole invoice, settled."""
    return {
        "id": "mov_1",
        "kind": "payment",
        "status": "settled",
        "units": "14100",
        "accepted_at": "2026-11-24T09:30:00Z",
    } | changes


def refund(**changes: Any) -> dict[str, Any]:
    """A Refund resource, pending."""
    return {
        "id": "ref_1",
        "reference": "k7Qm2xVbR1",
        "invoice": "inv_1",
        "invoice_reference": REFERENCE,
        "units": "500",
        "status": "pending",
        "created_at": "2026-11-24T10:00:00Z",
        "statement": None,
    } | changes


def new_quote() -> NewQuote:
    """What the shop asks a price for."""
    return NewQuote(REFERENCE, INSTALLATION, Money("128.50", "EUR"), "SBUSD", Bearer.DEBT, KEY)


def new_invoice(statement: str = "") -> NewInvoice:
    """What the shop asks to have paid."""
    digest = digest_of(statement) if statement else "digest"
    return NewInvoice(
        REFERENCE,
        INSTALLATION,
        "quo_1",
        digest,
        "SBUSD",
        14100,
        Capture.AUTOMATIC,
        "https://shop.example/orders/1",
        KEY,
    )


def new_refund() -> NewRefund:
    """What the shop sends back."""
    return NewRefund("k7Qm2xVbR1", INSTALLATION, "inv_1", 500, KEY)


def _lower(request: PreparedRequest) -> dict[str, str]:
    return {name.lower(): str(value) for name, value in request.headers.items()}


@cache
def _transport() -> Transport:
    """One for all tests: making a TLS context takes longer than most of them."""
    return Transport(environ={})
