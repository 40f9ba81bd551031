"""The reference API of a token-issuing bank, as the sandbox serves it: JSON, signed both ways.

Requests are signed by RFC 9421 and answers verified the same way, with bodies bound by RFC 9530 digests; errors are
RFC 9457 problems; what the bank states about money is a JWS of its own that outlives the connection. The contract is
`sandbox/openapi.yaml`. Nothing here sends, sleeps or reads a clock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date, datetime
from functools import partial
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote as percent

from deposit_token_sdk import evidence, price
from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    ConfigurationError,
    NotGenuine,
    NotOurs,
    OutcomeUnknown,
    Unreadable,
)
from deposit_token_sdk.evidence import Signer
from deposit_token_sdk.exchange import Exchange, Request, Response, immediately
from deposit_token_sdk.issuers import reference_json as wire
from deposit_token_sdk.issuers.bank_keys import BankKeys
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.lifecycle import RefundStage, Stage
from deposit_token_sdk.models import (
    Backing,
    Confirmation,
    Event,
    Invoice,
    InvoicePage,
    LedgerPage,
    NewInvoice,
    NewQuote,
    NewRefund,
    Proof,
    Quote,
    Refund,
    Report,
    Token,
    WebhookTest,
)
from deposit_token_sdk.retry import Retry, persist
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import http_signatures, jws, strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.signing.standard_webhooks import Verifier, webhook_text

_JSON: Final = "application/json"
_PROBLEM: Final = "application/problem+json"
_MOVED: Final = frozenset({Stage.SETTLED, Stage.RETURNED})

_Answer: TypeAlias = tuple[dict[str, Any], float]
"""The JSON of an answer, and the time of its receipt."""

_Named = TypeVar("_Named", Invoice, Refund)


class ReferenceIssuer:
    """One bank that speaks the reference API, for one merchant. See `issuers.protocol.Issuer` for the verbs."""

    capabilities = frozenset(
        {
            Capability.QUOTES,
            Capability.HOSTED_PAGE,
            Capability.MANUAL_CAPTURE,
            Capability.CANCEL,
            Capability.REFUNDS,
            Capability.WEBHOOKS,
            Capability.SIGNED_STATEMENTS,
            Capability.IDEMPOTENCY,
            Capability.LEDGER,
            Capability.WEBHOOK_TESTS,
        }
    )
    proofs = frozenset({Proof.JWS})
    key_lifetime = 86_400.0

    def __init__(self, settings: Settings) -> None:
        self.name = settings.bank
        self.merchant = settings.merchant
        self.mode: str = settings.mode
        self._url = settings.url
        self._max_fee = settings.max_fee
        self._skew = settings.skew
        self._backing_age = settings.backing_age
        self._signed = settings.message_signatures
        self._signer = Signer(settings.bank, settings.merchant, settings.skew)
        self._policy = Retry(attempts=settings.attempts, deadline=settings.deadline, per_try=settings.timeout)
        self._key = _signing_key(settings)
        self._keys = BankKeys(settings.jwks_url, settings.jwks_file, settings.jwks_thumbprints, self._policy)
        self._verifier = _verifier(settings, self._key)

    # -- what the bank offers ------------------------------------------------------------------------------

    def tokens(self) -> Exchange[tuple[Token, ...]]:
        """`GET /tokens`."""
        answer, _ = yield from self._get("/tokens", "GET /tokens")
        return tuple(wire.read_token(token) for token in strict_json.members(answer, "tokens"))

    def backing(self, token: str) -> Exchange[Backing]:
        """`GET /tokens/{code}/backing`. Raises NotGenuine (``unbalanced``, ``stale``)."""
        answer, at = yield from self._get(f"/tokens/{_segment(token)}/backing", "GET /tokens/{code}/backing")
        statement = strict_json.text(answer, "statement")
        read = partial(evidence.authenticate_backing, statement, signer=self._signer, now=at, oldest=self._backing_age)
        backing = yield from self._keys.with_keys(read, at)
        wire.require_same("backing", "token", backing.token, token)
        return backing

    def ledger(self, day: date, cursor: str | None = None, limit: int = 1000) -> Exchange[LedgerPage]:
        """`GET /ledger/{date}`."""
        path = f"/ledger/{day.isoformat()}?limit={limit:d}{_after(cursor)}"
        answer, _ = yield from self._get(path, "GET /ledger/{date}")
        entries = tuple(wire.read_ledger_entry(entry) for entry in strict_json.members(answer, "entries"))
        return LedgerPage(entries, strict_json.optional_text(answer, "next"))

    # -- paying ----------------------------------------------------------------------------------------------

    def quote(self, asked: NewQuote) -> Exchange[Quote]:
        """`POST /quotes`. Raises PriceRefused and NotOurs (see `price.check`), NotGenuine, BankRefused."""
        body = {
            "reference": asked.reference,
            "installation": asked.installation,
            "mode": self.mode,
            "price": {"currency": asked.price.currency, "amount": f"{asked.price.amount:f}"},
            "token": asked.token,
            "bearer": asked.bearer.value,
        }
        answer, at = yield from self._post("/quotes", "POST /quotes", body, asked.key, asked.reference)
        statement = strict_json.text(answer, "statement")
        read = partial(evidence.authenticate_quote, statement, signer=self._signer, now=at)
        quote = yield from self._keys.with_keys(read, at)
        if quote.mode != self.mode:
            raise NotOurs("other_mode", f"The quote is for mode {quote.mode}, but this client's is {self.mode}.")
        price.check(quote, asked, self._max_fee)
        return quote

    def create_invoice(self, asked: NewInvoice) -> Exchange[Invoice]:
        """`POST /invoices`. Raises BankRefused (``quote_expired`` among others), NotOurs."""
        body = {
            "reference": asked.reference,
            "installation": asked.installation,
            "mode": self.mode,
            "quote": asked.quote_id,
            "quote_digest": asked.quote_digest,
            "capture": asked.capture.value,
            "return_url": asked.return_url,
        }
        answer, _ = yield from self._post("/invoices", "POST /invoices", body, asked.key, asked.reference)
        invoice = self._ours(wire.read_invoice(answer))
        wire.require_as_asked("invoice", invoice, asked, ("reference", "installation", "token", "due", "quote_digest"))
        return invoice

    def invoice(self, invoice_id: str) -> Exchange[Invoice]:
        """`GET /invoices/{id}`."""
        answer, _ = yield from self._get(f"/invoices/{_segment(invoice_id)}", "GET /invoices/{id}")
        return self._ours(wire.read_invoice(answer), invoice_id)

    def find_invoice(self, reference: str) -> Exchange[Invoice | None]:
        """`GET /invoices?reference=…`."""
        answer, _ = yield from self._get(f"/invoices?reference={_segment(reference)}", "GET /invoices?reference")
        found = [self._ours(wire.read_invoice(one)) for one in strict_json.members(answer, "invoices")]
        return _only(found, reference)

    def invoices(self, cursor: str | None = None, limit: int = 100, day: date | None = None) -> Exchange[InvoicePage]:
        """`GET /invoices?cursor=…`."""
        made = "" if day is None else f"&date={day.isoformat()}"
        answer, _ = yield from self._get(f"/invoices?limit={limit:d}{made}{_after(cursor)}", "GET /invoices?cursor")
        found = tuple(self._ours(wire.read_invoice(one)) for one in strict_json.members(answer, "invoices"))
        return InvoicePage(found, strict_json.optional_text(answer, "next"))

    def cancel(self, invoice_id: str, key: str) -> Exchange[Invoice]:
        """`POST /invoices/{id}/cancel`."""
        return (yield from self._act(invoice_id, "cancel", key))

    def release(self, invoice_id: str, key: str) -> Exchange[Invoice]:
        """`POST /invoices/{id}/release`."""
        return (yield from self._act(invoice_id, "release", key))

    def capture(self, invoice_id: str, units: int, key: str, ordered_at: datetime) -> Exchange[Invoice]:
        """`POST /invoices/{id}/capture`, with the merchant's signed order over invoice, amount and time.

        The order's `jti` is the idempotency key and its time the shop's decision's: a repeated order is the same.
        """
        path = f"/invoices/{_segment(invoice_id)}/capture"
        order = {
            "iss": self.merchant,
            "aud": self.name,
            "iat": int(ordered_at.timestamp()),
            "jti": key,
            "invoice": invoice_id,
            "units": str(units),
        }
        body = {"order": jws.sign(strict_json.dumps(order), self._signing(), evidence.CAPTURE_TYP)}
        answer, _ = yield from self._post(path, "POST /invoices/{id}/capture", body, key, invoice_id)
        return self._ours(wire.read_invoice(strict_json.member(answer, "invoice")), invoice_id)

    def _act(self, invoice_id: str, verb: str, key: str) -> Exchange[Invoice]:
        path = f"/invoices/{_segment(invoice_id)}/{verb}"
        answer, _ = yield from self._post(path, f"POST /invoices/{{id}}/{verb}", {}, key, invoice_id)
        return self._ours(wire.read_invoice(answer), invoice_id)

    # -- sending back ----------------------------------------------------------------------------------------

    def refund(self, asked: NewRefund) -> Exchange[Refund]:
        """`POST /refunds`. Raises BankRefused (``refund_exceeds`` among others), NotOurs."""
        body = {
            "reference": asked.reference,
            "installation": asked.installation,
            "mode": self.mode,
            "invoice": asked.invoice,
            "units": str(asked.units),
        }
        answer, _ = yield from self._post("/refunds", "POST /refunds", body, asked.key, asked.reference)
        refund = wire.read_refund(answer)
        wire.require_as_asked("refund", refund, asked, ("reference", "invoice", "units"))
        return refund

    def refund_status(self, refund_id: str) -> Exchange[Refund]:
        """`GET /refunds/{id}`."""
        answer, _ = yield from self._get(f"/refunds/{_segment(refund_id)}", "GET /refunds/{id}")
        refund = wire.read_refund(answer)
        wire.require_same("refund", "id", refund.id, refund_id)
        return refund

    def find_refund(self, reference: str, invoice: str | None = None) -> Exchange[Refund | None]:
        """`GET /refunds?reference=…`."""
        answer, _ = yield from self._get(f"/refunds?reference={_segment(reference)}", "GET /refunds?reference")
        return _only([wire.read_refund(one) for one in strict_json.members(answer, "refunds")], reference)

    # -- what the bank says ----------------------------------------------------------------------------------

    def test_webhook(self, key: str) -> Exchange[WebhookTest]:
        """`POST /webhook-tests`. Raises BankRefused (``no_webhook_address``)."""
        answer, _ = yield from self._post("/webhook-tests", "POST /webhook-tests", {}, key, key)
        return wire.read_webhook_test(answer)

    def statements(self, invoice_id: str) -> Exchange[tuple[str, ...]]:
        """`GET /invoices/{id}/statements`."""
        statements, _ = yield from self._statements(invoice_id)
        return statements

    def read_event(self, headers: Mapping[str, str], body: bytes, now: float) -> Exchange[Event]:
        """The envelope by Standard Webhooks: one of the endpoint's keys, and fresh."""
        return immediately(self.event(headers, body, now))

    def event(self, headers: Mapping[str, str], body: bytes, now: float) -> Event:
        """`read_event` as a plain function: it needs no request."""
        if self._verifier is None:
            raise ConfigurationError("setting_missing", "Set DEPOSIT_TOKEN_WEBHOOK_KEYS to receive webhooks.")
        event_id = self._verifier.verify(headers, body, now=now)
        parsed = strict_json.parse(body)
        data = strict_json.member(parsed, "data")
        invoice = strict_json.optional_text(data, "invoice")
        return Event(
            id=event_id,
            type=strict_json.text(parsed, "type"),
            digest=hashlib.sha256(body).hexdigest(),
            merchant=strict_json.text(data, "merchant"),
            installation=strict_json.text(data, "installation"),
            mode=strict_json.text(data, "mode"),
            invoice=invoice,
            reference=None if invoice is None else strict_json.text(data, "reference"),
            version=None if invoice is None else strict_json.integer(data, "version"),
            statement=strict_json.optional_text(data, "statement"),
            data=data,
        )

    def report_event(self, event: Event, now: float) -> Exchange[Report | None]:
        """The event's movement or refund, and its statement, of the kind that the event's type calls for."""
        if event.invoice is None or event.reference is None:
            return None
        confirmations: tuple[Confirmation, ...] = ()
        if event.statement is not None:
            kind = wire.EVENT_STATEMENTS.get(event.type)
            if kind is None:
                raise Unreadable("bad_value", f"A {event.type} event carries no statement.", field="statement")
            read = partial(evidence.authenticate, event.statement, signer=self._signer, now=now, kind=kind)
            confirmations = ((yield from self._keys.with_keys(read, now)),)
        movement = wire.optional_member(event.data, "movement")
        refund = wire.optional_member(event.data, "refund")
        word = wire.EVENT_WORDS.get(event.type)
        return Report(
            issuer=self.name,
            merchant=event.merchant,
            installation=event.installation,
            mode=event.mode,
            invoice=event.invoice,
            reference=event.reference,
            digest=event.digest,
            event_id=event.id,
            movements=() if movement is None else (wire.read_movement(movement),),
            words=frozenset() if word is None else frozenset({word}),
            refunds=() if refund is None else (wire.read_refund(refund),),
            confirmations=confirmations,
        )

    def report_invoice(self, invoice: Invoice) -> Exchange[Report]:
        """The invoice as read; where money moved, with the bank's statements, fetched and verified."""
        confirmations = yield from self._confirmations(invoice)
        word = wire.STATUS_WORDS.get(invoice.word)
        refunds = [(refund.id, refund.word) for refund in invoice.refunds]
        proven = sorted((one.kind.value, one.movement, one.units) for one in confirmations)
        told = (invoice.version, invoice.word, invoice.movements, refunds, proven)
        return Report(
            issuer=self.name,
            merchant=invoice.merchant,
            installation=invoice.installation,
            mode=invoice.mode,
            invoice=invoice.id,
            reference=invoice.reference,
            digest=hashlib.sha256(repr(told).encode()).hexdigest(),
            movements=invoice.movements,
            words=frozenset() if word is None else frozenset({word}),
            refunds=invoice.refunds,
            confirmations=confirmations,
        )

    def _confirmations(self, invoice: Invoice) -> Exchange[tuple[Confirmation, ...]]:
        moved = any(movement.stage in _MOVED for movement in invoice.movements)
        if not moved and not any(refund.stage is RefundStage.DONE for refund in invoice.refunds):
            return ()
        statements, at = yield from self._statements(invoice.id)
        found: list[Confirmation] = []
        for statement in statements:
            kind = evidence.kind_of(statement)
            if kind is not None:  # a kind that a later version of the API adds says nothing that we could act on
                read = partial(evidence.authenticate, statement, signer=self._signer, now=at, kind=kind)
                found.append((yield from self._keys.with_keys(read, at)))
        return tuple(found)

    def _statements(self, invoice_id: str) -> Exchange[tuple[tuple[str, ...], float]]:
        path = f"/invoices/{_segment(invoice_id)}/statements"
        answer, at = yield from self._get(path, "GET /invoices/{id}/statements")
        return tuple(strict_json.texts(answer, "statements")), at

    # -- the merchant's own word -------------------------------------------------------------------------------

    def sign_seal(self, head: bytes) -> tuple[str, str] | None:
        """A seal over the shop's own evidence, signed with the merchant's key; nothing of it goes to the bank."""
        if self._key is None:
            return None
        keys = KeySet((self._key.verification_key(),)).jwks()
        return jws.sign(head, self._key, evidence.SEAL_TYP), strict_json.dumps(keys).decode()

    # -- below the verbs -------------------------------------------------------------------------------------

    def _ours(self, invoice: Invoice, asked: str | None = None) -> Invoice:
        wire.require_same("invoice", "id", invoice.id, invoice.id if asked is None else asked)
        for name, wanted in (("merchant", self.merchant), ("mode", self.mode)):
            if getattr(invoice, name) != wanted:
                raise NotOurs(
                    f"other_{name}",
                    f"The invoice's {name} is {getattr(invoice, name)!r}, but this client's is {wanted!r}.",
                )
        return invoice

    def _get(self, path: str, route: str) -> Exchange[_Answer]:
        make = partial(self._request, "GET", path, route, None, {"accept": _JSON})
        response = yield from persist(make, self._policy, idempotent=True, key=None, reference=None)
        return (yield from self._read(response))

    def _post(self, path: str, route: str, body: dict[str, Any], key: str, reference: str) -> Exchange[_Answer]:
        headers = {"accept": _JSON, "content-type": _JSON, "idempotency-key": key}
        make = partial(self._request, "POST", path, route, strict_json.dumps(body), headers)
        response = yield from persist(make, self._policy, idempotent=True, key=key, reference=reference)
        try:
            return (yield from self._read(response))
        except BankUnavailable as unavailable:
            raise OutcomeUnknown(
                f"{route}: the bank answered, but its answer could not be checked ({unavailable.reason}): the bank may "
                f"have done it. Ask by reference {reference} before anything is sent again.",
                key=key,
                request_id=response.headers.get("request-id"),
                reference=reference,
            ) from unavailable

    def _request(
        self, method: str, path: str, route: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Request:
        sign = self._sign if self._signed else None
        return Request(method, self._url + path, route, headers, body, timeout, sign)

    def _sign(self, request: Request, now: float, nonce: str) -> Request:
        added = http_signatures.sign_request(
            request.method,
            request.url,
            request.headers,
            request.body,
            self._signing(),
            created=int(now),
            nonce=nonce,
        )
        headers = {**request.headers, **added}
        return Request(request.method, request.url, request.route, headers, request.body, request.timeout, request.sign)

    def _signing(self) -> SigningKey:
        if self._key is None:
            raise ConfigurationError(
                "setting_missing", "Set DEPOSIT_TOKEN_SIGNING_KEY_FILE and DEPOSIT_TOKEN_SIGNING_KEY_ID."
            )
        return self._key

    def _read(self, response: Response) -> Exchange[_Answer]:
        """The verified JSON of an answer, or the refusal it is."""
        if self._signed:
            yield from self._keys.with_keys(partial(self._verify_answer, response), response.at)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (_JSON, _PROBLEM):
            raise Unreadable(
                "content_type", f"The bank answered {response.status} as {kind or 'nothing'!r}; {_JSON} was due."
            )
        answer = strict_json.parse(response.body)
        if not 200 <= response.status < 300:
            raise _refusal(response, answer)
        return answer, response.at

    def _verify_answer(self, response: Response, keys: KeySet) -> None:
        if "signature" not in response.headers:
            raise NotGenuine(
                "answer_unsigned",
                f"The answer ({response.status}, {response.headers.get('content-type', 'no content type')}) is not "
                f"signed: something between us and the bank answered in its place.",
            )
        http_signatures.verify_answer(
            response.status,
            response.headers,
            response.body,
            request_method=response.request.method,
            request_url=response.request.url,
            request_headers=response.request.headers,
            keys=keys,
            now=response.at,
            skew=self._skew,
        )


def _refusal(response: Response, problem: dict[str, Any]) -> BankRefused:
    code = strict_json.text(problem, "type").rpartition("/")[2]
    title = strict_json.optional_text(problem, "title") or code
    detail = strict_json.optional_text(problem, "detail") or ""
    return BankRefused(
        code,
        f"The bank refused {response.request.route} ({response.status}, {code}): {title}. {detail}".rstrip(),
        status=response.status,
        request_id=response.headers.get("request-id"),
    )


def _after(cursor: str | None) -> str:
    return "" if cursor is None else f"&cursor={_segment(cursor)}"


def _segment(text: str) -> str:
    return percent(text, safe="")


def _only(found: list[_Named], reference: str) -> _Named | None:
    if len(found) > 1 or any(one.reference != reference for one in found):
        raise Unreadable(
            "not_the_one_asked_for", f"The bank answered {len(found)} records for reference {reference!r}."
        )
    return found[0] if found else None


def _signing_key(settings: Settings) -> SigningKey | None:
    if not settings.signing_key:
        return None
    return SigningKey.from_pem(settings.signing_key.reveal(), Algorithm.ED25519, settings.signing_key_id)


def _verifier(settings: Settings, key: SigningKey | None) -> Verifier | None:
    if not settings.webhook_keys:
        return None
    ours = None if key is None else webhook_text(key.verification_key())
    if ours in [text.reveal() for text in settings.webhook_keys]:
        raise ConfigurationError(
            "own_webhook_key",
            "DEPOSIT_TOKEN_WEBHOOK_KEYS holds the public half of your own signing key: the bank's is due, which it "
            "shows where the webhook address is set.",
        )
    others = {f"another mode's key ({n})": text.reveal() for n, text in enumerate(settings.other_webhook_keys, 1)}
    if ours is not None:
        others["your own signing key"] = ours
    return Verifier([text.reveal() for text in settings.webhook_keys], tolerance=settings.skew, other_keys=others)
