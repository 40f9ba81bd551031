"""Antom's verbs, each of one or two calls (see `calls`); every answer must be about the ids that were asked for.

Notifications are verified and then read again at Antom, so that what counts is always an answer to `inquiryPayment`.
Nothing here sends, sleeps or reads a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import evolve

from deposit_token_sdk import evidence, price
from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    InvalidInput,
    NotOurs,
    PriceRefused,
    Unreadable,
    Unsupported,
)
from deposit_token_sdk.exchange import Exchange, immediately, pause
from deposit_token_sdk.issuers.antom import amounts, messages, words
from deposit_token_sdk.issuers.antom.calls import Answer, Calls, moment_of, written
from deposit_token_sdk.issuers.antom.messages import Lock, Payment
from deposit_token_sdk.issuers.antom.options import Method, Options
from deposit_token_sdk.issuers.lacking import Lacking
from deposit_token_sdk.issuers.protocol import Capability, require
from deposit_token_sdk.lifecycle import RefundStage, Stage
from deposit_token_sdk.models import (
    Bearer,
    Capture,
    Confirmation,
    Event,
    Invoice,
    Mode,
    NewInvoice,
    NewQuote,
    NewRefund,
    Proof,
    Quote,
    Refund,
    Report,
    StatementKind,
    Token,
    TokenKind,
)
from deposit_token_sdk.retry import Retry
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import rsa256, strict_json

LONGEST: Final = timedelta(hours=1)
"""How long a session may stand, and so a price."""
ACKNOWLEDGED: Final = '{"result":{"resultCode":"SUCCESS","resultStatus":"S","resultMessage":"success"}}'
"""What Antom wants to read where a notification was taken; else it sends it again, eight times within a day."""
_PAYMENT, _REFUND = ("PAYMENT_RESULT", "PAYMENT_PENDING"), "REFUND_RESULT"


class AntomIssuer(Lacking):
    """Antom for one merchant. See `issuers.protocol.Issuer` for the verbs.

    Antom lists no payments, holds none (each is captured at once), has no ledger to read and attests no deposits; its
    proof is the signed answer as a whole, and it sends no test notification on request.

    An invoice is a payment session: its id is its `paymentRequestId`, the shop's reference. A movement is a payment,
    by its `paymentId`. Antom's own fee is part of its contract and in no message, so a quote's fee is 0.
    """

    capabilities = frozenset(
        {
            Capability.QUOTES,
            Capability.HOSTED_PAGE,
            Capability.CANCEL,
            Capability.REFUNDS,
            Capability.WEBHOOKS,
            Capability.IDEMPOTENCY,
        }
    )
    proofs = frozenset({Proof.SIGNED_MESSAGE})
    key_lifetime = 86_400.0
    acknowledgement = ACKNOWLEDGED

    def __init__(self, settings: Settings) -> None:
        self.name = settings.bank
        self.merchant = settings.merchant
        self.mode: str = settings.mode
        self._options = Options.of(settings)
        self._skew = settings.skew
        self._max_fee = settings.max_fee
        self._life = min(timedelta(seconds=settings.quote_life), LONGEST)
        policy = Retry(attempts=settings.attempts, deadline=settings.deadline, per_try=settings.timeout)
        self._calls = Calls(self._options, settings.merchant, policy, settings.skew)

    # -- what is offered -------------------------------------------------------------------------------------

    def tokens(self) -> Exchange[tuple[Token, ...]]:
        """Those of the settings: Antom has no list."""
        return immediately(
            tuple(
                Token(one.code, one.currency, one.decimals, self.name, TokenKind.DEPOSIT, "antom")
                for one in self._options.methods.values()
            )
        )

    def exchange_rate(self, base: str, counter: str) -> Exchange[tuple[Lock, ...]]:
        """`inquireExchangeRate`: what Antom would give now, `counter` currency for one of `base`; nothing is locked."""
        body = {"currencyPairs": [{"buyCurrency": base, "sellCurrency": counter}]}
        answer = yield from self._calls.ask("/payments/inquireExchangeRate", body)
        return tuple(messages.read_lock(quote) for quote in strict_json.members(answer.body, "quotes"))

    # -- paying ----------------------------------------------------------------------------------------------

    def quote(self, asked: NewQuote) -> Exchange[Quote]:
        """`createQuote`; where price and token are of one currency, no call: rate 1, for DEPOSIT_TOKEN_QUOTE_LIFE.

        Antom repeats neither reference nor token: they are the asked ones, and what was bought must be the price.
        Raises Unsupported (bearer DEBT), InvalidInput (see `amounts.amount`; ``unknown_token``), PriceRefused and
        NotOurs (see `price.check`).
        """
        method = self._method(asked.token)
        if asked.bearer is not Bearer.CRED:
            told = f"{self.name} takes its fee from the merchant: a fee that the buyer pays (DEBT) cannot be asked for."
            raise Unsupported(self.name, "bearer DEBT", told)
        bought = amounts.of_money(asked.price)
        if asked.price.currency == method.currency:
            lock = messages.no_lock(method.currency)
            now = yield from pause(0.0)
            quote = self._quoted(asked, method, lock, int(bought["value"]), moment_of(now.at) + self._life)
        else:
            quote = yield from self._locked(asked, method, bought)
        price.check(quote, asked, self._max_fee)
        return quote

    def _locked(self, asked: NewQuote, method: Method, bought: dict[str, str]) -> Exchange[Quote]:
        body = {"buyAmount": bought, "sellAmount": {"currency": method.currency}, "exchangeTradeType": "SPOT"}
        answer = yield from self._calls.ask("/aba/funds/createQuote", body, key=asked.key, reference=asked.reference)
        told = strict_json.member(answer.body, "quote")
        lock = messages.read_lock(told)
        wanted = f"{asked.price.currency}/{method.currency}"
        if lock.pair != wanted:
            raise NotOurs(
                "quote_for_another_request", f"The quote is for {lock.pair[:40]}, but {wanted} was asked for."
            )
        if told.get("guaranteed") is not True:
            raise PriceRefused("not_guaranteed", f"Antom does not guarantee the rate of {lock.pair}: ask again later.")
        if answer.body.get("buyAmount") is not None and amounts.read(answer.body, "buyAmount") != (
            asked.price.currency,
            int(bought["value"]),
        ):
            raise NotOurs("quote_for_another_request", "The quote buys another amount than the price asked for.")
        due = price.gross_units(asked.price.amount, lock.price, method.decimals)
        if told.get("exchangeAmount") is not None:
            currency, due = amounts.read(told, "exchangeAmount")
            if currency != method.currency:
                raise NotOurs("quote_for_another_request", f"The quote exchanges {currency}, not {method.currency}.")
        expires_at = messages.moment(told, "quoteExpiryTime")
        if expires_at is None:
            raise Unreadable("missing_field", "The quote has no end.", field="quoteExpiryTime")
        return self._quoted(asked, method, lock, due, min(expires_at.astimezone(UTC), moment_of(answer.at) + LONGEST))

    def _quoted(self, asked: NewQuote, method: Method, lock: Lock, due: int, expires_at: datetime) -> Quote:
        return Quote(
            id=lock.quote or asked.reference,
            reference=asked.reference,
            merchant=self.merchant,
            installation=asked.installation,
            mode=Mode(self.mode),
            price=asked.price,
            token=asked.token,
            decimals=method.decimals,
            rate=lock.price,
            fee=0,
            bearer=asked.bearer,
            due=due,
            net=due,
            expires_at=expires_at.replace(microsecond=0),
            digest=lock.digest,
        )

    def create_invoice(self, asked: NewInvoice) -> Exchange[Invoice]:
        """`createPaymentSession` with the rate lock. The same reference again gives the same session.

        Raises Unsupported (manual capture), InvalidInput (``no_quote``, ``wrong_installation``), BankRefused, NotOurs.
        """
        if asked.capture is Capture.MANUAL:
            require(self, Capability.MANUAL_CAPTURE)
        quote = asked.quote
        if quote is None:
            raise InvalidInput("no_quote", f"Antom is told the terms of the quote {asked.quote_id!r}: give it along.")
        if messages.installation_of(asked.reference) != asked.installation:
            told = f"The reference {asked.reference!r} does not begin with the installation {asked.installation!r}."
            raise InvalidInput("wrong_installation", told)
        body = self._session(asked, quote)
        answer = yield from self._calls.ask(
            "/payments/createPaymentSession", body, key=asked.key, reference=asked.reference, acts=True
        )
        until = messages.moment(answer.body, "paymentSessionExpiryTime") or quote.expires_at
        page = strict_json.optional_text(answer.body, "normalUrl") or strict_json.optional_text(answer.body, "url")
        return Invoice(
            id=asked.reference,
            reference=asked.reference,
            merchant=self.merchant,
            installation=asked.installation,
            mode=Mode(self.mode),
            token=asked.token,
            due=asked.due,
            quote_digest=asked.quote_digest,
            word="PENDING",
            version=0,
            expires_at=until.astimezone(UTC),
            pay_url=_page(page),
            instructions=None,
            capture=asked.capture,
        )

    def _session(self, asked: NewInvoice, quote: Quote) -> dict[str, Any]:
        method, options = self._method(asked.token), self._options
        body: dict[str, Any] = {"productCode": "CASHIER_PAYMENT"}
        if options.product_scene:
            body["productScene"] = options.product_scene
        body |= {
            "paymentRequestId": asked.reference,
            "order": {
                "referenceOrderId": asked.reference,
                "orderDescription": asked.reference,
                "orderAmount": amounts.of_money(quote.price),
            },
            "paymentAmount": amounts.amount(asked.due, method.currency),
            "paymentMethod": {"paymentMethodType": method.method},
            "paymentRedirectUrl": asked.return_url,
            "paymentSessionExpiryTime": written(quote.expires_at),
        }
        if quote.price.currency != method.currency:
            body["paymentQuote"] = {
                "quoteId": quote.id,
                "quoteCurrencyPair": f"{quote.price.currency}/{method.currency}",
                "quotePrice": quote.rate,
                "guaranteed": True,
            }
        if options.settlement_currency:
            body["settlementStrategy"] = {"settlementCurrency": options.settlement_currency}
        return body

    def invoice(self, invoice_id: str) -> Exchange[Invoice]:
        """`inquiryPayment` by `paymentRequestId`."""
        payment, _ = yield from self._payment(invoice_id)
        return self._invoice(payment)

    def find_invoice(self, reference: str) -> Exchange[Invoice | None]:
        """`inquiryPayment`; None if Antom knows no such payment."""
        try:
            return (yield from self.invoice(reference))
        except BankRefused as refusal:
            if words.is_unknown_order(refusal.code):
                return None
            raise

    def cancel(self, invoice_id: str, key: str) -> Exchange[Invoice]:
        """`cancel`, then `inquiryPayment`. Where a payment got in between, Antom gives it back."""
        body = {"paymentRequestId": invoice_id}
        answer = yield from self._calls.ask("/payments/cancel", body, key=key, reference=invoice_id, acts=True)
        _same(answer.body, "paymentRequestId", invoice_id)
        return (yield from self.invoice(invoice_id))

    def _payment(self, reference: str) -> Exchange[tuple[Payment, Answer]]:
        answer = yield from self._calls.ask(messages.INQUIRY, {"paymentRequestId": reference})
        _same(answer.body, "paymentRequestId", reference)
        return messages.read_payment(answer.body), answer

    def _invoice(self, payment: Payment) -> Invoice:
        return Invoice(
            id=payment.reference,
            reference=payment.reference,
            merchant=self.merchant,
            installation=messages.installation_of(payment.reference),
            mode=Mode(self.mode),
            token=self._paid_in(payment).code,
            due=payment.due,
            quote_digest=payment.lock.digest,
            word=payment.status,
            version=payment.version,
            expires_at=payment.expires_at or datetime.max.replace(tzinfo=UTC),
            pay_url=None,
            instructions=None,
            capture=Capture.AUTOMATIC,
            movements=payment.paid,
            refunds=payment.refunds,
        )

    # -- sending back ----------------------------------------------------------------------------------------

    def refund(self, asked: NewRefund) -> Exchange[Refund]:
        """`refund` of the payment, under ``<payment>_<refund>``; the same again is the same refund.

        What Antom works on (REFUND_IN_PROCESS) is pending. Raises BankRefused (``refund_exceeds``,
        ``merchant_balance`` among others: that one wants a refund of its own), NotOurs.
        """
        payment, _ = yield from self._payment(asked.invoice)
        if payment.id is None:
            raise BankRefused(
                "ORDER_NOT_EXIST",
                f"Nothing was paid under {asked.invoice}: there is nothing to refund.",
                status=200,
                request_id=None,
                reason="unknown_invoice",
            )
        request = messages.joined(asked.invoice, asked.reference)
        body = {
            "refundRequestId": request,
            "paymentId": payment.id,
            "refundAmount": amounts.amount(asked.units, payment.currency),
        }
        answer = yield from self._calls.ask(
            "/payments/refund", body, key=asked.key, reference=asked.reference, acts=True, pending=True
        )
        told = Refund(
            strict_json.optional_text(answer.body, "refundId") or request,
            asked.reference,
            asked.invoice,
            asked.units,
            RefundStage.PENDING,
            answer.code,
        )
        if answer.code == words.REFUND_IN_PROCESS:
            return told
        _same(answer.body, "refundRequestId", request)
        if amounts.read(answer.body, "refundAmount") != (payment.currency, asked.units):
            raise NotOurs("refund_for_another_request", f"Antom refunds another amount than {asked.units} units.")
        return evolve(told, stage=RefundStage.DONE)

    def refund_status(self, refund_id: str) -> Exchange[Refund]:
        """`inquiryRefund` by `refundId`."""
        answer = yield from self._calls.ask("/payments/inquiryRefund", {"refundId": refund_id})
        _same(answer.body, "refundId", refund_id)
        return messages.read_refund(answer.body)[0]

    def find_refund(self, reference: str, invoice: str | None = None) -> Exchange[Refund | None]:
        """`inquiryRefund` by `refundRequestId`; None if Antom knows none. `invoice` is part of that id."""
        request = reference if invoice is None else messages.joined(invoice, reference)
        try:
            answer = yield from self._calls.ask("/payments/inquiryRefund", {"refundRequestId": request})
        except BankRefused as refusal:
            if words.is_unknown_order(refusal.code):
                return None
            raise
        _same(answer.body, "refundRequestId", request)
        return messages.read_refund(answer.body)[0]

    # -- what Antom says -------------------------------------------------------------------------------------

    def read_event(self, headers: Mapping[str, str], body: bytes, now: float) -> Exchange[Event]:
        """`notifyPayment` and `notifyRefund`: signed by Antom for the path of the webhook address, and fresh."""
        path = self._options.webhook_path
        message, signature = rsa256.read(headers, body, path=path, time_header=rsa256.REQUEST_TIME)
        rsa256.verify(message, signature, self._options.keys)
        rsa256.require_fresh(message, now=now, skew=self._skew)
        told = strict_json.parse(body)
        kind = strict_json.text(told, "notifyType")
        reference: str | None = None
        if kind in _PAYMENT:
            reference = strict_json.text(told, "paymentRequestId")
        elif kind == _REFUND:
            reference = messages.split(strict_json.text(told, "refundRequestId"))[0] or None
        digest = hashlib.sha256(body).hexdigest()
        event = Event(
            id=f"{kind}:{digest[:40]}",
            type=kind,
            digest=digest,
            merchant=message.client,
            installation="" if reference is None else messages.installation_of(reference),
            mode=messages.mode_of(message.client),
            invoice=reference,
            reference=reference,
            version=None,
            statement=None,
            data=told,
        )
        return immediately(event)

    def report_event(self, event: Event, now: float) -> Exchange[Report | None]:
        """What Antom answers to `inquiryPayment` about the payment that the notification names.

        Raises BankUnavailable (``not_shown_yet``) where it does not show yet what was notified, which is to come again.
        """
        if event.reference is None:
            return None
        payment, answer = yield from self._payment(event.reference)
        if messages.is_behind(payment, event.data):
            told = f"Antom sent {event.type} about {event.reference}, and does not show it so far yet."
            raise BankUnavailable("not_shown_yet", told)
        return self._report(payment, answer, event.id)

    def report_invoice(self, invoice: Invoice) -> Exchange[Report]:
        """The invoice, read again: the answer is the proof of what it shows."""
        payment, answer = yield from self._payment(invoice.id)
        return self._report(payment, answer, None)

    def _report(self, payment: Payment, answer: Answer, event_id: str | None) -> Report:
        confirmations = self._confirmations(payment, answer)
        told = (payment.version, payment.word, sorted((one.kind.value, one.movement) for one in confirmations))
        return Report(
            issuer=self.name,
            merchant=answer.message.client,
            installation=messages.installation_of(payment.reference),
            mode=messages.mode_of(answer.message.client),
            invoice=payment.reference,
            reference=payment.reference,
            digest=hashlib.sha256(repr(told).encode()).hexdigest(),
            event_id=event_id,
            movements=payment.paid,
            words=frozenset() if payment.word is None else frozenset({payment.word}),
            refunds=payment.refunds,
            confirmations=confirmations,
        )

    def _confirmations(self, payment: Payment, answer: Answer) -> tuple[Confirmation, ...]:
        done = [(moved.id, StatementKind.SETTLEMENT) for moved in payment.paid if moved.stage is Stage.SETTLED]
        done += [(one.id, StatementKind.REFUND) for one in payment.refunds if one.stage is RefundStage.DONE]
        method = self._paid_in(payment)
        kept = partial(messages.evidence_of, answer.message, answer.signature, answer.key, method, self.name)
        return tuple(evidence.authenticate_stored(kept(subject, kind)) for subject, kind in done)

    # -- below the verbs -------------------------------------------------------------------------------------

    def _method(self, token: str) -> Method:
        method = self._options.methods.get(token)
        if method is None:
            known = ", ".join(self._options.methods)
            raise InvalidInput("unknown_token", f"DEPOSIT_TOKEN_ANTOM_TOKENS lists {known}, not {token[:40]!r}.")
        return method

    def _paid_in(self, payment: Payment) -> Method:
        """The token of a payment. Where Antom names no method, its currency must tell. Raises NotOurs."""
        fitting = [
            one
            for one in self._options.methods.values()
            if one.currency == payment.currency and payment.method in (None, one.method)
        ]
        if len(fitting) != 1:
            told = f"A payment in {payment.currency} by {payment.method} is in none of the tokens of the settings."
            raise NotOurs("other_token", told)
        return fitting[0]


def _same(body: dict[str, Any], name: str, asked: str) -> None:
    told = strict_json.text(body, name)
    if told != asked:
        raise NotOurs("answer_for_another_request", f"The answer's {name} is {told[:64]!r}; {asked!r} was asked for.")


def _page(address: str | None) -> str | None:
    """An address that a buyer may be sent to: https, or http on loopback."""
    parts = urlsplit(address or "")
    loopback = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if address is None or (address.isascii() and address.isprintable() and (parts.scheme == "https" or loopback)):
        return address
    raise Unreadable("bad_value", f"The page is {address[:60]!r}; an https address was due.", field="normalUrl")
