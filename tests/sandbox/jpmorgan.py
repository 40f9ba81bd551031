"""A shop whose bank speaks J.P. Morgan's API: a real sandbox, a real database, and every message judged by the
bank's own documents."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrs import define, field
from flask import Flask
from flask import request as incoming
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import make_server

from deposit_token_sdk import Attempt, Checkout, Client, Money, News, Paid, SqlStore
from deposit_token_sdk.client import Carrier
from deposit_token_sdk.exchange import NoAnswer, Request, Response
from deposit_token_sdk.issuers.jpmorgan.issuer import JPMorganIssuer
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.base64url import decode_url
from deposit_token_sdk.transport import Transport
from tests import databases, documents

ERRORS = {400, 401, 403, 404, 422, 429, 500, 503}


@define
class Recorder:
    """A transport that keeps what went over it."""

    transport: Carrier
    seen: list[tuple[Request, Response | NoAnswer]] = field(factory=list)

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        answer = self.transport.answer(request, deadline, began)
        self.seen.append((request, answer))
        return answer

    def close(self) -> None:
        self.transport.close()


@define
class Shop:
    """One merchant at the bank."""

    version: int
    bank: Sandbox
    checkout: Checkout
    wire: Recorder
    callbacks: list[bytes]
    answered: list[int]
    told: list[tuple[str, str]]
    ahead: timedelta = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    def start(self, order_id: str = "A-1", price: str = "128.50", currency: str = "EUR") -> Attempt:
        return self.checkout.start(
            order_id=order_id,
            price=Money(price, currency),
            token="SBEUR",
            buyer_country="DE",
            content=f"digest of {price}",
            return_url="https://shop.example/back",
        )

    def balance(self, owner: str) -> int:
        return int(self.bank.control.balances()[f"SBEUR:{owner}"])

    def initiations(self) -> list[Request]:
        return [request for request, _ in self.wire.seen if request.route == "POST /payments"]


@contextmanager
def shop(
    tmp_path: Path, version: int, spoken: str = "reference", tls_port: int | None = None, **settings: str
) -> Iterator[Shop]:
    """A shop that is open, its callbacks received over HTTP. `spoken` is the dialect that it spoke before."""
    app = Flask(__name__)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    address = f"http://127.0.0.1:{server.port}/webhooks/sandbox-bank"
    callbacks: list[bytes] = []
    answered: list[int] = []
    told: list[tuple[str, str]] = []
    with (
        databases.fresh("sqlite", empty=False) as engine,
        Sandbox(tmp_path / "bank", tls_port=tls_port) as bank,
    ):
        store = SqlStore(sessionmaker(engine))
        bank.environment(dialect=spoken)
        named = bank.environment(address, "jpmorgan" if version == 2 else "jpmorgan-v1")
        more = {f"DEPOSIT_TOKEN_{name}": value for name, value in settings.items()}
        wire = Recorder(Transport(ca_bundle=named.get("DEPOSIT_TOKEN_CA_BUNDLE", ""), environ={}))
        client = Client(JPMorganIssuer(Settings.from_env(named | more)), transport=wire)
        open_shop = Shop(version, bank, Checkout(client, store), wire, callbacks, answered, told)
        open_shop.checkout = checkout = Checkout(client, store, now=open_shop.now)

        @checkout.on_paid
        def paid(paid: Paid, session: Session) -> None:
            told.append(("paid", paid.order_id))

        @checkout.on_review
        def review(news: News, session: Session) -> None:
            told.append(("review", news.detail))

        @checkout.on_cancelled
        def cancelled(news: News, session: Session) -> None:
            told.append(("cancelled", news.order_id))

        @checkout.on_returned
        def returned(news: News, session: Session) -> None:
            told.append(("returned", news.order_id))

        @app.post("/webhooks/sandbox-bank")
        def receive() -> tuple[str, int]:
            body = incoming.get_data()
            callbacks.append(body)
            answer = checkout.receive(dict(incoming.headers), body)
            answered.append(answer.status)
            return answer.reason, answer.status

        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        serving.start()
        try:
            yield open_shop
        finally:
            bank.control.set_webhook_url(None)
            server.shutdown()
            serving.join()
            server.server_close()
            wire.close()


def judge(open_shop: Shop) -> int:
    """Hold everything that was said against the bank's documents; how many messages that were."""
    version, judged = open_shop.version, 0
    documents.require(version)
    for request, answer in open_shop.wire.seen:
        if request.route == "POST token" or isinstance(answer, NoAnswer):
            continue
        if request.body is not None:
            schema = "Payment" if version == 2 else "PaymentInitationDetails"
            documents.check(version, schema, _sent(version, request.body))
        documents.check(version, _schema(version, request, answer.status), strict_json.parse(answer.body))
        judged += 1
    for body in open_shop.callbacks:
        told = strict_json.parse(body)
        if version == 1:
            documents.check(1, "Callbacks", told["callbacks"])
        elif "events" in told:
            for event in told["events"]:
                status = {name: value for name, value in event.items() if not name.startswith("event")}
                documents.check(2, "PaymentStatus", status)
        else:
            documents.check(2, "Webhook", told)
        judged += 1
    return judged


def _sent(version: int, body: bytes) -> Any:
    return strict_json.parse(body if version == 2 else decode_url(body.decode().split(".")[1]))


def _schema(version: int, request: Request, status: int) -> str:
    if version == 2:
        if status in ERRORS:
            return "Error"
        if request.method == "POST":
            return "PaymentInitiationResponse"
        one = request.route != "GET /payments?endToEndId"
        return "PaymentDetail" if one else "PaymentDetails"
    if status in ERRORS:
        name = "400-BadRequest" if request.method == "POST" else "400-Query-BadRequest"
        return documents.response(name)
    return "PaymentInitiationResponse" if request.method == "POST" else "PaymentDetailsResponse"
