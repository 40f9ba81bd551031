"""A shop of a few lines that talks to the bank by hand, and holds every answer against the API's description."""

from __future__ import annotations

import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.signing import http_signatures, jws, strict_json
from deposit_token_sdk.signing.base64url import encode_url
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey

OPENAPI = Path(__file__).parents[2] / "deposit_token_sdk" / "sandbox" / "openapi.yaml"
DESCRIPTION: dict[str, Any] = yaml.safe_load(OPENAPI.read_text(encoding="utf-8"))
_REGISTRY: Registry[Any] = Registry().with_resource(
    "urn:api", Resource.from_contents(DESCRIPTION, default_specification=DRAFT202012)
)
INSTALLATION = "a1b2c3"


def conforms(value: object, schema: str) -> None:
    """Fail unless `value` is what the description calls `schema`."""
    Draft202012Validator(
        {"$ref": f"urn:api#/components/schemas/{schema}"},
        registry=_REGISTRY,
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    ).validate(value)


def described_answer(method: str, path: str, status: int) -> str:
    """The schema that the description names for an answer."""
    for template, item in DESCRIPTION["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path.partition("?")[0]) and method.lower() in item:
            answer = item[method.lower()]["responses"].get(str(status))
            if answer is None:
                assert status >= 400, f"{method} {template} answers {status}, which is not described"
                return "Problem"
            content = answer["content"]["application/json"]
            return str(content["schema"]["$ref"]).rsplit("/", 1)[1]
    raise AssertionError(f"{method} {path} is not described")


class Answer:
    """An answer whose signature and schema have been checked."""

    def __init__(self, status: int, body: dict[str, Any], headers: dict[str, str], signed: bool) -> None:
        self.status = status
        self.body = body
        self.headers = headers
        self.signed = signed

    @property
    def code(self) -> str:
        """The problem's code."""
        return str(self.body["type"]).rsplit("/", 1)[1]


class Shop:
    """One merchant's shop."""

    def __init__(self, bank: Sandbox, environment: dict[str, str] | None = None) -> None:
        self.bank = bank
        self.environment = environment or bank.environment()
        self.merchant = self.environment["DEPOSIT_TOKEN_MERCHANT"]
        pem = Path(self.environment["DEPOSIT_TOKEN_SIGNING_KEY_FILE"]).read_bytes()
        self.key = SigningKey.from_pem(pem, Algorithm.ED25519, self.environment["DEPOSIT_TOKEN_SIGNING_KEY_ID"])
        self.http = requests.Session()
        self.http.trust_env = False
        self._count = 0
        self._answer_keys = self.keys()

    def keys(self) -> KeySet:
        """The bank's public keys, as published now."""
        published = self.http.get(self.environment["DEPOSIT_TOKEN_JWKS_URL"])
        conforms(published.json(), "Keys")
        return KeySet.from_jwks(published.content)

    def signed(self, method: str, path: str, body: bytes | None, key: str | None, **changed: Any) -> dict[str, str]:
        """The headers of a signed request."""
        headers = {} if body is None else {"content-type": "application/json"}
        if key is not None:
            headers["idempotency-key"] = key
        given: dict[str, Any] = {"created": int(time.time()), "nonce": secrets.token_hex(12), **changed}
        return headers | http_signatures.sign_request(method, self.bank.url + path, headers, body, self.key, **given)

    def call(self, method: str, path: str, body: object = None, key: str | None = None) -> Answer:
        """Call the bank as a shop must; check the answer's signature and shape."""
        content = None if method == "GET" else json.dumps({} if body is None else body).encode()
        headers = self.signed(method, path, content, None if method == "GET" else key or secrets.token_hex(16))
        return self.send(method, path, headers, content)

    def send(self, method: str, path: str, headers: dict[str, str], content: bytes | None) -> Answer:
        """Send a request as it is, and check the answer."""
        url = self.bank.url + path
        answer = self.http.request(method, url, data=content, headers=headers, allow_redirects=False)
        shown = {name.lower(): value for name, value in answer.headers.items()}
        if "signature" in shown:
            if f'keyid="{self._answer_keys.keys[-1].kid}"' not in shown["signature-input"]:
                self._answer_keys = self.keys()
            http_signatures.verify_answer(
                answer.status_code,
                shown,
                answer.content,
                request_method=method,
                request_url=url,
                request_headers=headers,
                keys=self._answer_keys,
                now=time.time(),
            )
        conforms(answer.json(), described_answer(method, path, answer.status_code))
        assert shown["request-id"]
        return Answer(answer.status_code, answer.json(), shown, "signature" in shown)

    def reference(self) -> str:
        """A fresh reference."""
        self._count += 1
        return f"{INSTALLATION}{self._count:04d}{secrets.token_hex(4)}"

    def terms(self, reference: str | None = None) -> dict[str, str]:
        """What quotes, invoices and refunds all say."""
        return {"reference": reference or self.reference(), "installation": INSTALLATION, "mode": "test"}

    def quote(self, reference: str | None = None, **changed: Any) -> Answer:
        """Ask for a quote: 128.50 EUR in SBUSD, the buyer bearing the fee, unless told otherwise."""
        asked = {"price": {"currency": "EUR", "amount": "128.50"}, "token": "SBUSD", "bearer": "DEBT", **changed}
        return self.call("POST", "/quotes", self.terms(reference) | asked)

    def order(self, quote: dict[str, Any], /, **changed: Any) -> dict[str, Any]:
        """The body that asks for an invoice under a quote."""
        return {
            **self.terms(quote["reference"]),
            "quote": quote["id"],
            "quote_digest": encode_url(sha256(quote["statement"].encode()).digest()),
            "capture": "automatic",
            "return_url": "http://127.0.0.1:5000/orders/1",
            **changed,
        }

    def invoice(self, *, capture: str = "automatic", **changed: Any) -> dict[str, Any]:
        """A fresh invoice."""
        made = self.call("POST", "/invoices", self.order(self.quote(**changed).body, capture=capture))
        assert made.status == 201, made.body
        return made.body

    def read(self, invoice: dict[str, Any]) -> dict[str, Any]:
        """The invoice as it stands."""
        return self.call("GET", f"/invoices/{invoice['id']}").body

    def refund(self, invoice: dict[str, Any], units: int, reference: str | None = None) -> Answer:
        """Ask for a refund."""
        return self.call("POST", "/refunds", self.terms(reference) | {"invoice": invoice["id"], "units": str(units)})

    def capture(self, invoice: dict[str, Any], units: int, /, key: SigningKey | None = None, **changed: Any) -> Answer:
        """Order the capture of what is held."""
        claims = {
            "iss": self.merchant,
            "aud": "sandbox-bank",
            "iat": int(time.time()),
            "jti": secrets.token_hex(8),
            "invoice": invoice["id"],
            "units": str(units),
            **changed,
        }
        order = jws.sign(strict_json.dumps(claims), key or self.key, "deposit-capture+jws")
        return self.call("POST", f"/invoices/{invoice['id']}/capture", {"order": order})

    def statements(self, invoice: dict[str, Any]) -> list[str]:
        """The bank's statements about an invoice."""
        return list(self.call("GET", f"/invoices/{invoice['id']}/statements").body["statements"])

    def claims(self, statement: str, typ: str, schema: str) -> dict[str, Any]:
        """A statement's claims, its signature and shape checked."""
        claims = strict_json.parse(jws.verify(statement, self.keys(), typ=typ).payload)
        conforms(claims, schema)
        return claims


def at_once(bank: Sandbox, count: int, act: Callable[[Shop], Answer]) -> list[Answer]:
    """What so many shops are answered that all do this at the same moment."""
    shops, answers, together = [Shop(bank) for _ in range(count)], list[Answer](), threading.Barrier(count)

    def one(shop: Shop) -> None:
        together.wait()
        answers.append(act(shop))
        shop.http.close()

    threads = [threading.Thread(target=one, args=(shop,)) for shop in shops]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


class Inbox:
    """Where webhooks arrive. `answers` decides the status of each, by its number from 0."""

    def __init__(self) -> None:
        self.answers: Callable[[int], int] = lambda _number: 204
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self._news = threading.Condition()
        inbox = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                with inbox._news:
                    number = len(inbox.messages)
                    inbox.messages.append(({name.lower(): value for name, value in self.headers.items()}, body))
                    inbox._news.notify_all()
                self.send_response(inbox.answers(number))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks/sandbox-bank"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def wait(self, count: int) -> list[dict[str, Any]]:
        """The first `count` events, once so many have come; each is checked against the description."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.messages) >= count, timeout=10), self.types()
        events = [json.loads(body) for _, body in self.messages]
        for event in events:
            conforms(event, "Event")
        return events

    def types(self) -> list[str]:
        """The types of the events that came."""
        return [json.loads(body)["type"] for _, body in self.messages]

    def close(self) -> None:
        """Take no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail after ten seconds."""
    pause = threading.Event()
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "the condition never held"
        pause.wait(0.01)
