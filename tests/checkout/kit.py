"""What the tests of the checkout share: a shop, a bank that signs whatever it is told to, transports that break on
cue, threads that start at once, and what can be read off an attempt or off the bank's ledger.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from attrs import define, field
from sqlalchemy import Column, MetaData, String, Table, event, insert, select
from sqlalchemy.orm import Session, sessionmaker
from werkzeug.serving import BaseWSGIServer

from deposit_token_sdk import Attempt, Checkout, Client, Money, Paid
from deposit_token_sdk.checkout.hooks import News
from deposit_token_sdk.checkout.store import RefundRecord
from deposit_token_sdk.client import Carrier
from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.issuers import issuer_from
from deposit_token_sdk.lifecycle import Standing
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.keys import SigningKey
from deposit_token_sdk.signing.standard_webhooks import WebhookSigner
from deposit_token_sdk.transport import Transport

Claims: TypeAlias = dict[str, Any]
Answer: TypeAlias = Response | NoAnswer
SHOP = MetaData()
fulfilments = Table("shop_fulfilments", SHOP, Column("order_id", String), Column("reference", String))


@define
class Shop:
    """One merchant's shop: its checkout, its own table of fulfilled orders, and what its hooks were told."""

    bank: Sandbox
    merchant: str
    environment: dict[str, str]
    checkout: Checkout
    sessions: sessionmaker[Session]
    server: BaseWSGIServer
    changed: threading.Condition = field(factory=threading.Condition)
    serving: int = 0
    told: list[tuple[str, str]] = field(factory=list)
    received: list[tuple[dict[str, str], bytes]] = field(factory=list)

    @property
    def webhook_url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/webhooks/sandbox-bank"

    def start(
        self, order_id: str = "A-1", price: Money | None = None, checkout: Checkout | None = None, **more: Any
    ) -> Attempt:
        asked: dict[str, Any] = {
            "order_id": order_id,
            "price": price or Money("128.50", "EUR"),
            "token": "SBUSD",
            "buyer_country": "DE",
            "content": "basket-1",
            "return_url": "http://127.0.0.1:9/orders/A-1",
        }
        return (checkout or self.checkout).start(**{**asked, **more})

    def buy(self, order_id: str = "A-1", **more: Any) -> Attempt:
        """Start and pay, and wait until the bank's webhooks have marked the order paid and are answered.

        While one is being applied, a sweep on PostgreSQL passes over the order.
        """
        attempt = self.start(order_id, **more)
        self.bank.control.pay(attempt.reference)
        self.until(lambda: self.checkout.view(order_id).paid)
        self.until(lambda: not any(one["state"] == "queued" for one in self.bank.control.webhooks(attempt.reference)))
        return attempt

    def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        """Wait until webhooks have brought the condition about."""
        deadline = time.monotonic() + seconds
        with self.changed:
            while not condition():
                assert time.monotonic() < deadline, "the bank's webhook did not bring it about"
                self.changed.wait(0.05)

    def lose_webhooks(self) -> None:
        """The bank's webhooks reach nobody from now on; those that are being applied are waited for."""
        self.bank.control.set_webhook_url(None, merchant=self.merchant)
        self.rest()

    def rest(self) -> None:
        """Until nothing is being answered."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.serving == 0, 15)

    def fulfilled(self) -> list[tuple[str, str]]:
        with self.sessions() as session:
            return [(row.order_id, row.reference) for row in session.execute(select(fulfilments))]

    def reviews(self) -> list[str]:
        return [review.reason for review in self.checkout.store.reviews()]

    def decided(self) -> list[tuple[str, str, str]]:
        """Reason, verdict and who decided, of each review that is open no more, newest first."""
        reviews = self.checkout.store.all_reviews()
        return [(review.reason, made.verdict, made.by) for review, made in reviews if made is not None]

    def bank_received(self, invoice: str) -> int:
        """What the bank's own ledger says has reached the merchant for this invoice, in units, fees apart."""
        signs = {"payment": 1, "return": -1, "refund": -1, "refund_failed": 1}
        return sum(signs.get(entry["kind"], 0) * int(entry["units"]) for entry in self.bank.control.ledger(invoice))

    def restarted(self, **more: Any) -> Checkout:
        """The same shop in a new process, as far as the SDK can tell: a new client over the same database."""
        return Checkout(more.pop("client", None) or Client.from_env(self.environment), self.checkout.store, **more)


def register_hooks(shop: Shop) -> None:
    def fulfil(paid: Paid, session: Session) -> None:
        session.execute(insert(fulfilments).values(order_id=paid.order_id, reference=paid.reference))

    shop.checkout.on_paid(fulfil)
    names = ("authorized", "underpaid", "overpaid", "expired", "cancelled", "refunded", "refund_failed", "returned")
    for name in (*names, "review"):

        def note(news: News, session: Session, name: str = name) -> None:
            """Told is what was committed: who waits for it finds the tables as it says."""
            what = (name, news.detail)
            event.listen(session, "after_commit", lambda _: shop.told.append(what), once=True)

        getattr(shop.checkout, f"on_{name}")(note)


# -- what an attempt and the bank's books say --------------------------------------------------------------------


def attempt_of(shop: Shop, reference: str) -> Attempt:
    attempt = shop.checkout.store.attempt(reference)
    assert attempt is not None
    return attempt


def standing_of(shop: Shop, reference: str) -> Standing:
    standing = attempt_of(shop, reference).standing
    assert standing is not None
    return standing


def due_of(attempt: Attempt) -> int:
    assert attempt.quote is not None
    return attempt.quote.due


def refund_of(shop: Shop, order_id: str = "A-1") -> RefundRecord:
    """The order's only refund."""
    (refund,) = shop.checkout.store.order(order_id).refunds
    return refund


def refunds_sent(shop: Shop, attempt: Attempt) -> list[int]:
    """Token units of each refund that the bank's ledger shows, in order."""
    return [int(entry["units"]) for entry in shop.bank.control.ledger(attempt.reference) if entry["kind"] == "refund"]


def invoices_of(shop: Shop) -> list[dict[str, Any]]:
    return shop.bank.control.invoices(merchant=shop.merchant)


def details_of(shop: Shop, reason: str) -> list[str]:
    return [review.detail for review in shop.checkout.store.reviews() if review.reason == reason]


def answers_to(shop: Shop, attempt: Attempt, kind: str) -> list[int]:
    """What the shop answered the bank's messages of this type, by the bank's own record."""
    return [
        attempted["status"]
        for message in shop.bank.control.webhooks(attempt.reference)
        for attempted in message["tries"]
        if message["type"] == kind
    ]


def after_expiry(attempt: Attempt) -> str:
    """A time of acceptance one minute too late, as the bank writes it."""
    assert attempt.quote is not None
    return strict_json.rfc3339(attempt.quote.expires_at + timedelta(minutes=1))


# -- processes that die, lose answers and meet -------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here; nothing after this runs."""


class Fragile:
    """A real transport that dies, or loses the answer, at the first request of a route."""

    def __init__(self, route: str, *, after: bool, lose: bool = False) -> None:
        self.route = route
        self.after = after
        self.lose = lose
        self.keys: list[str] = []
        self._transport = Transport()

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Answer:
        if request.route != self.route:
            return self._transport.answer(request, deadline, began)
        self.keys.append(request.headers.get("idempotency-key", ""))
        if not self.after:
            raise Killed
        answer = self._transport.answer(request, deadline, began)
        if self.lose:
            return NoAnswer(Sent.MAYBE_PROCESSED, "the connection broke", request, answer.at, answer.elapsed)
        raise Killed

    def close(self) -> None:
        self._transport.close()


class Watched:
    """A real transport: `before` is called with each request, and `after` may put another answer in its place."""

    def __init__(
        self,
        *,
        before: Callable[[Request], object] | None = None,
        after: Callable[[Request, Answer], Answer] | None = None,
    ) -> None:
        self._before = before or (lambda _: None)
        self._after = after or (lambda _, answer: answer)
        self._transport = Transport()

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Answer:
        self._before(request)
        return self._after(request, self._transport.answer(request, deadline, began))

    def close(self) -> None:
        self._transport.close()


class Slow:
    """A real transport, whose first request of a route stays under way until the third; the second is lost."""

    def __init__(self, route: str) -> None:
        self.route = route
        self.under_way: list[Request] = []
        self._transport = Transport()

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Answer:
        if request.route != self.route:
            return self._transport.answer(request, deadline, began)
        self.under_way.append(request)
        if len(self.under_way) < 3:
            return unanswered(request, Sent.MAYBE_PROCESSED)
        if len(self.under_way) == 3:
            self.arrive(deadline)
        return self._transport.answer(request, deadline, began)

    def arrive(self, deadline: float = 10.0) -> Answer:
        """The first request reaches the bank after all."""
        return self._transport.answer(self.under_way[0], deadline)

    def close(self) -> None:
        self._transport.close()


def unanswered(request: Request, sent: Sent) -> NoAnswer:
    return NoAnswer(sent, "the connection broke", request, time.time(), 0.0)


def losing(route: str) -> Watched:
    """Every answer on this route is lost on its way back, as if nothing had been sent."""
    return Watched(
        after=lambda request, answer: unanswered(request, Sent.NOT_SENT) if request.route == route else answer
    )


def fragile(shop: Shop, carrier: Carrier, attempts: int = 1, **more: Any) -> Checkout:
    """The shop in a process of its own, over this transport."""
    environment = {**shop.environment, "DEPOSIT_TOKEN_ATTEMPTS": str(attempts)}
    return shop.restarted(client=Client(issuer_from(Settings.from_env(environment)), transport=carrier), **more)


def later(**by: float) -> Callable[[], datetime]:
    """The clock of a process that runs at another time; nothing to it but the time that has passed."""
    return lambda: datetime.now(UTC) + timedelta(**by)


def at_once(*works: Callable[[], object]) -> list[Exception | None]:
    """Run all in threads of their own; what each raised."""

    def outcome(work: Callable[[], object]) -> Exception | None:
        try:
            work()
        except Exception as error:  # noqa: BLE001  # told to the test, which judges it
            return error
        return None

    with ThreadPoolExecutor(len(works)) as threads:
        return list(threads.map(outcome, works))


def again(shop: Shop, checkout: Checkout | None = None) -> Checkout:
    """The shop after its restart, hooks registered as before."""
    checkout = checkout or shop.restarted()
    before, shop.checkout = shop.checkout, checkout
    register_hooks(shop)
    shop.checkout = before
    return checkout


# -- a bank with keys of our own ------------------------------------------------------------------------------------


@define
class ForgingBank:
    """Signs whatever it is told to, with the keys that the shop trusts."""

    shop: Shop
    attempt: Attempt
    client: Client
    checkout: Checkout
    statement_key: SigningKey
    webhooks: WebhookSigner
    alarms: list[str] = field(factory=list)

    def settlement(self, **changed: Any) -> Claims:
        quote = self.attempt.quote
        assert quote is not None
        claims = {
            "iss": "sandbox-bank",
            "aud": self.shop.merchant,
            "iat": int(time.time()),
            "jti": "statement-1",
            "installation": self.attempt.reference[:8],
            "mode": "test",
            "invoice": self.attempt.invoice,
            "reference": self.attempt.reference,
            "token": "SBUSD",
            "quote_digest": quote.digest,
            "movement": "mov-1",
            "units": str(quote.due),
            "accepted_at": strict_json.rfc3339(quote.expires_at - timedelta(minutes=1)),
        }
        return {**claims, **changed}

    def event(self, statement: str | None, kind: str = "invoice.settled", **changed: Any) -> bytes:
        data: Claims = {
            "merchant": self.shop.merchant,
            "installation": self.attempt.reference[:8],
            "mode": "test",
            "invoice": self.attempt.invoice,
            "reference": self.attempt.reference,
            "version": 2,
            "status": "paid",
        }
        if statement is not None:
            data["statement"] = statement
        stamp = strict_json.rfc3339(datetime.now(UTC).replace(microsecond=0))
        return strict_json.dumps({"type": kind, "timestamp": stamp, "data": {**data, **changed}})

    def state(self, claims: Claims, typ: str = "deposit-settlement+jws", key: SigningKey | None = None) -> str:
        return jws.sign(strict_json.dumps(claims), key or self.statement_key, typ)

    def deliver(self, body: bytes, event_id: str = "msg_1") -> tuple[int, str]:
        answer = self.checkout.receive(self.webhooks.sign(event_id, int(time.time()), body), body)
        return answer.status, answer.reason

    @property
    def paid(self) -> bool:
        return self.checkout.view("A-1").paid
