"""The verbs of a J.P. Morgan client. The bank has payments and nothing else; the rest is the merchant's own record.

A payment is believed because the bank, asked over its own channel, tells of it: to the merchant's account, with the
reference and the remittance line that the merchant gave it. What a webhook says is only asked about.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from attrs import evolve

from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    ConfigurationError,
    InvalidInput,
    NotAllowed,
    NotGenuine,
    NotOurs,
    OutcomeUnknown,
    Unreadable,
)
from deposit_token_sdk.exchange import Exchange, Request, Response, immediately, pause
from deposit_token_sdk.issuers.bank_keys import BankKeys
from deposit_token_sdk.issuers.jpmorgan import callbacks, record, telling, words
from deposit_token_sdk.issuers.jpmorgan.access import Access
from deposit_token_sdk.issuers.jpmorgan.options import Account, Options
from deposit_token_sdk.issuers.jpmorgan.payment import NewPayment, Payment, Version
from deposit_token_sdk.issuers.jpmorgan.v1 import Version1
from deposit_token_sdk.issuers.jpmorgan.v2 import Version2
from deposit_token_sdk.issuers.lacking import Lacking
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.lifecycle import RefundStage, Stage
from deposit_token_sdk.models import (
    Event,
    Invoice,
    NewCollection,
    NewInvoice,
    NewRefund,
    Proof,
    Refund,
    Report,
    Token,
)
from deposit_token_sdk.money import decimal_of
from deposit_token_sdk.retry import BEFORE_THE_KEY, Retry, persist
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing import ecdsa_body, strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.signing.rs256 import certificate_thumbprint, sign_compact

_JSON: Final = "application/json"


class JPMorganIssuer(Lacking):
    """J.P. Morgan, for one merchant. See `issuers.protocol.Issuer` and `Collects` for the verbs, `TakesHints` for
    its callbacks.

    The price is the checkout's own, and the bank keeps no invoices. What was not collected needs no cancelling, and
    what was cannot be; nothing is held. The bank signs no statements, its account statements are another API, and it
    sends no test event on demand.
    """

    proofs = frozenset({Proof.CHANNEL})

    def __init__(self, settings: Settings) -> None:
        options = Options.of(settings)
        self.name = settings.bank
        self.merchant = settings.merchant
        self.mode: str = settings.mode
        self.quote_life = settings.quote_life
        self.unseen_for = options.unseen_for
        self.key_lifetime = options.key_lifetime
        able = {Capability.COLLECT, Capability.REFUNDS, Capability.WEBHOOKS}
        self.capabilities = frozenset(able | ({Capability.IDEMPOTENCY} if options.version == 2 else set()))
        self._options = options
        self._version: Version = Version2() if options.version == 2 else Version1(options.content_type)
        self._policy = Retry(attempts=settings.attempts, deadline=settings.deadline, per_try=settings.timeout)
        self._key = _signing_key(settings)
        if options.version == 1 and self._key is None:
            raise ConfigurationError(
                "setting_missing", "Set DEPOSIT_TOKEN_SIGNING_KEY_FILE: version 1 signs each body."
            )
        self._access = Access(options, self._key, _key_id(settings, options), self._policy)
        self._keys = _callback_keys(options, self._policy)
        self.hints = self._keys is None
        self._teller = telling.Teller(self.name, self.merchant, self.mode, options)

    # -- what there is ---------------------------------------------------------------------------------------

    def tokens(self) -> Exchange[tuple[Token, ...]]:
        """The tokens of the setting: the bank lists none."""
        return immediately(self._options.tokens)

    def create_invoice(self, asked: NewInvoice) -> Exchange[Invoice]:
        """The merchant's own record of what is due; nothing is sent until the buyer agrees. Raises InvalidInput."""
        if asked.quote is None:
            raise InvalidInput(
                "no_quote", "An invoice of this issuer needs its quote, whose expiry goes with the payment."
            )
        token = self._options.token(asked.token)
        if token is None:
            raise InvalidInput("unknown_token", f"{self.name} takes {self._listed()}, not {asked.token!r}.")
        expires = int(asked.quote.expires_at.timestamp())
        reference = record.check_reference(asked.reference)
        known = record.Record(reference, token.code, asked.due, expires, asked.quote_digest)
        record.line_of(record.read_id(known.id), asked.quote.expires_at)  # what cannot be paid is refused at once
        return immediately(self._teller.invoice(known))

    def _listed(self) -> str:
        return ", ".join(token.code for token in self._options.tokens)

    def invoice(self, invoice_id: str) -> Exchange[Invoice]:
        """The record, with the payments that the bank knows under its reference.

        Raises NotOurs (``other_payment``) where the bank knows others alone: what is there has arrived.
        """
        known = record.read_id(invoice_id)
        payments, at = yield from self._payments(known.reference)
        told = self._teller.invoice(known, self._teller.all_towards_us(payments))
        if not told.movements and at > known.expires + self.unseen_for:
            return evolve(told, word=telling.EXPIRED)
        return told

    def find_invoice(self, reference: str) -> Exchange[Invoice | None]:
        """The record as the bank's payment under this reference carries it; None if the bank knows none."""
        payments, _ = yield from self._payments(record.check_reference(reference))
        ours = self._teller.towards_us(payments)
        for payment in ours:
            line = record.read_line(payment.line)
            if line is not None and not line.refund and line.record.reference == reference:
                return self._teller.invoice(line.record, ours)
        return None

    # -- paying ------------------------------------------------------------------------------------------------

    def collect(self, asked: NewCollection) -> Exchange[str]:
        """`POST /payments` from the buyer's account to the merchant's: all that is due.

        Raises InvalidInput (``unknown_account``), BankRefused, BankUnavailable, OutcomeUnknown.
        """
        known = record.read_id(asked.invoice)
        if known.reference != asked.reference:
            raise InvalidInput("other_reference", f"{asked.invoice} is no invoice of {asked.reference}.")
        token = self._options.token(known.token)
        if token is None:
            raise InvalidInput("unknown_token", f"{self.name} takes {self._listed()}, not {known.token!r}.")
        payment = NewPayment(
            reference=asked.reference,
            amount=decimal_of(known.due, token.decimals),
            currency=token.currency,
            debtor=self._debtor(asked.account),
            creditor=self._options.account,
            line=record.line_of(known, asked.asked_at),
            on=asked.asked_at.astimezone(UTC).date(),
        )
        return (yield from self._initiate(payment, asked.key, asked.asked_at))

    def _debtor(self, name: str) -> Account:
        debtors = self._options.debtors
        if not name and len(debtors) == 1:
            return next(iter(debtors.values()))
        if name not in debtors:
            raise InvalidInput(
                "unknown_account", f"No buyer's account is configured as {name!r}, only {', '.join(debtors)}."
            )
        return debtors[name]

    def refund(self, asked: NewRefund) -> Exchange[Refund]:
        """`POST /payments` with the parties of the payment swapped. Raises NotAllowed (``nothing_to_refund``)."""
        known = record.read_id(asked.invoice)
        try:
            payments, at = yield from self._payments(known.reference)
        except BankRefused as refusal:  # of the question alone, which says nothing about an earlier sending of it
            told = f"The payment to be sent back cannot be read now: {refusal}"
            raise BankUnavailable(refusal.reason, told, request_id=refusal.request_id) from refusal
        paid = [one for one in self._teller.towards_us(payments) if one.stage is Stage.SETTLED]
        debtor = paid[-1].debtor if paid else None
        token = self._options.token_in(paid[-1].currency) if paid else None
        if debtor is None or token is None:
            raise NotAllowed("nothing_to_refund", f"The bank shows no completed payment of {known.reference}.")
        asked_at = datetime.fromtimestamp(at, UTC) if asked.asked_at is None else asked.asked_at.astimezone(UTC)
        payment = NewPayment(
            reference=record.check_reference(asked.reference),
            amount=decimal_of(asked.units, token.decimals),
            currency=token.currency,
            debtor=self._options.account,
            creditor=debtor,
            line=record.refund_line(known),
            on=asked_at.date(),
        )
        number = yield from self._initiate(payment, asked.key, asked_at)
        return Refund(number, asked.reference, asked.invoice, asked.units, RefundStage.PENDING, "initiated")

    def refund_status(self, refund_id: str) -> Exchange[Refund]:
        """The refund by the bank's id. Raises BankRefused (``unknown_refund``)."""
        answer, _ = yield from self._get(self._version.id_path(refund_id), "GET /payments/{id}")
        found = [] if answer is None else [self._teller.refund(one) for one in self._version.payments(answer)]
        for refund in found:
            if refund is not None:
                return refund
        raise BankRefused("unknown_refund", f"The bank knows no refund {refund_id!r}.", status=404, request_id=None)

    def find_refund(self, reference: str, invoice: str | None = None) -> Exchange[Refund | None]:
        """The refund by the shop's reference; None if the bank knows none. It is found without its invoice.

        Raises NotOurs (``other_payment``) where the bank knows a payment under it that is no refund of ours.
        """
        payments, _ = yield from self._payments(record.check_reference(reference))
        found = next((refund for one in payments if (refund := self._teller.refund(one)) is not None), None)
        if payments and found is None:
            raise telling.other_payment(payments[0])
        return found

    # -- what the bank says ------------------------------------------------------------------------------------

    def read_event(self, headers: Mapping[str, str], body: bytes, now: float) -> Exchange[Event]:
        """The envelope in any published shape; its ECDSA signature is checked where the settings name the header."""
        if self._keys is not None:
            named = {name.lower(): value for name, value in headers.items()}
            signature, kid = (named.get(name) for name in (self._options.signature_header, self._options.key_id_header))
            if not signature or not kid:
                raise NotGenuine("callback_unsigned", "The callback lacks the signature that the settings call for.")
            check = partial(_check_signature, body, signature, kid, now)
            yield from self._keys.with_keys(check, now)
        return callbacks.read(body, self.merchant, self.mode, signed=self._keys is not None)

    def split(self, event: Event) -> tuple[Event, ...]:
        """The payments that one callback tells of."""
        return callbacks.split(event)

    def report_event(self, event: Event, now: float) -> Exchange[Report | None]:
        """What the bank says of the event's payment when it is asked; None if it knows none.

        Raises NotOurs (``other_payment``) where the payment is between other accounts, and BankUnavailable
        (``not_shown_yet``) where the bank shows it as not so far as the event has it: the event is to come again.
        """
        if event.reference is None:
            return None
        payments, at = yield from self._payments(event.reference)
        if words.is_behind([one.word for one in payments], event.type.partition(".")[2]):
            told = f"The bank sent {event.type} about {event.reference}, and does not show it so far yet."
            raise BankUnavailable("not_shown_yet", told)
        report = self._teller.report(event.reference, payments, at)
        return None if report is None else evolve(report, event_id=event.id, digest=event.digest)

    def report_invoice(self, invoice: Invoice) -> Exchange[Report]:
        """The invoice as read; where money moved, the payments read once more for what is kept as evidence."""
        known = record.read_id(invoice.id)
        payments: tuple[Payment, ...] = ()
        refunds: list[Payment] = []
        at = 0.0
        if invoice.movements:
            payments, at = yield from self._payments(known.reference)
        for refund in invoice.refunds:
            found, at = yield from self._payments(refund.reference)
            refunds.extend(found)
        said = telling.words_of(invoice.word)
        return self._teller.of_record(known, self._teller.towards_us(payments), tuple(refunds), at, said)

    # -- below the verbs ---------------------------------------------------------------------------------------

    def _payments(self, reference: str) -> Exchange[tuple[tuple[Payment, ...], float]]:
        """The payments the bank knows under exactly this reference, and when it said so."""
        answer, at = yield from self._get(self._version.find_path(reference), "GET /payments?endToEndId")
        found = () if answer is None else self._version.payments(answer)
        if any(one.reference != reference for one in found):
            raise Unreadable("not_the_one_asked_for", f"The bank answered with other payments than {reference!r}.")
        return found, at

    def _get(self, path: str, route: str) -> Exchange[tuple[dict[str, Any] | None, float]]:
        response = yield from self._ask("GET", path, route, None, {}, key=None, reference=None)
        answer = _read(response)
        if response.status < 300:
            return answer, response.at
        if self._version.knows_none(response, answer):
            return None, response.at
        raise self._refused(response, answer, route)

    def _initiate(self, payment: NewPayment, key: str, made_at: datetime) -> Exchange[str]:
        """Send it, once where the bank keeps no key, and not again once a key made then may have been forgotten.

        Raises OutcomeUnknown wherever it may have been done.
        """
        route = "POST /payments"
        body = self._version.body(payment)
        if self._version.number == 1:
            body = sign_compact(body, self._signing()).encode("ascii")
        headers = {"content-type": self._version.content_type}
        if Capability.IDEMPOTENCY in self.capabilities:
            headers["idempotency-key"] = key
        began = yield from pause(0)
        alive = began.elapsed + made_at.timestamp() + self.key_lifetime - began.at
        response = yield from self._ask("POST", "/payments", route, body, headers, key, payment.reference, alive)
        try:
            answer = _read(response)
            if not 200 <= response.status < 300:
                self._require_its_words(response, answer)
                raise self._refused(response, answer, route)
            reference, number = self._version.accepted(answer)
        except (Unreadable, BankUnavailable) as error:
            raise OutcomeUnknown(
                f"{route}: the bank answered {response.status}, which does not say what became of the payment "
                f"({error}): ask by reference {payment.reference} before anything else.",
                key=key,
                request_id=response.request.headers.get("request-id"),
                reference=payment.reference,
            ) from error
        if reference != payment.reference:
            raise NotOurs("payment_for_another_request", f"The bank accepted {reference!r}, not {payment.reference!r}.")
        return number

    def _ask(
        self,
        method: str,
        path: str,
        route: str,
        body: bytes | None,
        headers: dict[str, str],
        key: str | None,
        reference: str | None,
        alive: float = math.inf,
    ) -> Exchange[Response]:
        """Ask with the token that serves; where the bank takes it no more, once again with another."""
        idempotent = method == "GET" or Capability.IDEMPOTENCY in self.capabilities
        response: Response | None = None
        for _ in range(2 if self._access.needed else 1):
            token = (yield from self._access.bearer()) if self._access.needed else None
            sent = {"accept": _JSON, **headers, **({} if token is None else {"authorization": f"Bearer {token}"})}
            make = partial(self._request, method, path, route, body, sent)
            elapsed = 0.0 if response is None else response.elapsed
            response = yield from persist(
                make, self._policy, idempotent=idempotent, key=key, reference=reference, elapsed=elapsed, alive=alive
            )
            if response.status != 401 or token is None:
                break
            self._access.refuse(token)
        if response is None:
            raise RuntimeError("Nothing was asked.")
        return response

    def _request(
        self, method: str, path: str, route: str, body: bytes | None, headers: dict[str, str], timeout: float
    ) -> Request:
        return Request(method, self._options.url + path, route, headers, body, timeout, _name_request)

    def _refused(self, response: Response, answer: dict[str, Any], route: str) -> BankRefused | BankUnavailable:
        """The refusal as an error: `code` is the bank's, `reason` ours. What does not exclude that it was done is
        no refusal."""
        told = self._version.refusal(answer)
        reason = words.reason_of(self._version.number, told.code) if told.code else f"http_{response.status}"
        request_id = told.request_id or response.request.headers.get("request-id")
        text = f"The bank refused {route} ({response.status}, {told.code or 'no code'}): {told.told or reason}."
        if reason in words.UNCERTAIN:
            return BankUnavailable(reason, text, request_id=request_id)
        return BankRefused(told.code or reason, text, status=response.status, request_id=request_id, reason=reason)

    def _require_its_words(self, response: Response, answer: dict[str, Any]) -> None:
        """Raise Unreadable where something between us and the bank may have answered while the bank was at work."""
        told = self._version.refusal(answer)
        its_own = response.status >= 400 and (told.code or told.told)
        if not its_own and response.status not in BEFORE_THE_KEY:
            raise Unreadable("bad_value", f"This answer of {response.status} is no refusal in the bank's own words.")

    def _signing(self) -> SigningKey:
        if self._key is None:
            raise ConfigurationError("setting_missing", "Set DEPOSIT_TOKEN_SIGNING_KEY_FILE.")
        return self._key


def _name_request(request: Request, now: float, nonce: str) -> Request:
    """Each sending has a Request-Id of its own, by which the bank's support finds it."""
    return evolve(request, headers={**request.headers, "request-id": nonce})


def _read(response: Response) -> dict[str, Any]:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind == _JSON or kind.endswith("+json")):
        raise Unreadable("content_type", f"The bank answered {response.status} as {kind or 'nothing'!r}; JSON was due.")
    return strict_json.parse(response.body)


def _check_signature(body: bytes, signature: str, kid: str, now: float, keys: KeySet) -> None:
    ecdsa_body.verify(body, signature, kid, keys, now=now)


def _signing_key(settings: Settings) -> SigningKey | None:
    if not settings.signing_key:
        return None
    return SigningKey.from_pem(settings.signing_key.reveal(), Algorithm.RS256, settings.signing_key_id)


def _key_id(settings: Settings, options: Options) -> str:
    """The id under which the bank knows the key: set, or the thumbprint of its certificate."""
    if settings.signing_key_id or not options.certificate:
        return settings.signing_key_id
    try:
        return certificate_thumbprint(Path(options.certificate).read_bytes())
    except OSError as error:
        raise ConfigurationError(
            "setting_invalid", f"DEPOSIT_TOKEN_JPMORGAN_CERTIFICATE cannot be read ({type(error).__name__})."
        ) from None


def _callback_keys(options: Options, policy: Retry) -> BankKeys | None:
    if not options.signature_header:
        return None
    at = options.signature_keys
    url, file = (at, "") if urlsplit(at).scheme in ("http", "https") else ("", at)
    return BankKeys(url, file, frozenset(), policy, ecdsa_body.keys_of)
