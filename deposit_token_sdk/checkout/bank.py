"""The steps at the bank: an intent is written and committed, the bank is called with no transaction open, and what
it answered is applied.

A kill between any two of the three leaves an open intent; `resume` repairs it by asking the bank by reference, and
sends again only what the bank does not know, under the same key while that lives and serves, and a new one after.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeVar

from attrs import evolve

from deposit_token_sdk.checkout import collecting, own_quotes
from deposit_token_sdk.checkout.decisions import UNFINISHED, ask_again
from deposit_token_sdk.checkout.door import Applied, Door, Outcome
from deposit_token_sdk.checkout.intents import ORDER_LIFE, installation_of, renew
from deposit_token_sdk.checkout.store import POLLED, Attempt, Inbox, Intent, RefundRecord, Tx, Verb
from deposit_token_sdk.client import Client
from deposit_token_sdk.errors import (
    BankRefused,
    DepositTokenError,
    InvalidInput,
    NotAllowed,
    NotOurs,
    OutcomeUnknown,
    PriceRefused,
    Unsupported,
)
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.lifecycle import Status, held
from deposit_token_sdk.models import Invoice, NewInvoice, NewQuote, NewRefund, Proof, Quote
from deposit_token_sdk.retry import BEFORE_THE_KEY

T = TypeVar("T")

_LOG = logging.getLogger("deposit_token_sdk")

_REFUSED = (BankRefused, PriceRefused, NotOurs, InvalidInput, Unsupported)
"""What asking for a quote or an invoice ends in that is the same however often it is asked."""


class Desk:
    """Carries out intents at the banks and brings the answers to the door."""

    def __init__(
        self, door: Door, clients: dict[str, Client], now: Callable[[], datetime], proofs: frozenset[Proof]
    ) -> None:
        self._door = door
        self._store = door.store
        self._clients = clients
        self._now = now
        self._proofs = proofs

    def client(self, issuer: str) -> Client:
        """The client of this issuer. Raises InvalidInput (``unknown_issuer``)."""
        try:
            return self._clients[issuer]
        except KeyError:
            raise InvalidInput(
                "unknown_issuer", f"This checkout has no client for {issuer!r}, only for {', '.join(self._clients)}."
            ) from None

    def attempt(self, reference: str) -> Attempt:
        """The attempt as the store has it now. Raises InvalidInput (``unknown_reference``)."""
        return _known(self._store.attempt(reference), reference)

    # -- start ---------------------------------------------------------------------------------------------

    def open(self, attempt: Attempt, intent: Intent) -> Attempt:
        """Have the attempt quoted and invoiced. What bank or issuer refuses ends the attempt, and is raised."""
        reference = attempt.reference
        client = self.client(attempt.issuer)
        quote_key, invoice_key = intent.keys
        try:
            if attempt.quote is None:
                asked = NewQuote(
                    reference, installation_of(reference), attempt.price, attempt.token, attempt.bearer, quote_key
                )
                attempt = self._quoted(reference, own_quotes.quote_of(client, asked, self._now()))
            return self._opened(attempt, client.create_invoice(_new_invoice(attempt, invoice_key)))
        except _REFUSED as refusal:
            found = client.find_invoice(reference) if isinstance(refusal, BankRefused) else None
            if found is not None and attempt.quote is not None:
                return self._opened(attempt, found)
            self._refused(reference, refusal)
            raise

    def _quoted(self, reference: str, quote: Quote) -> Attempt:
        """Keep the quote, unless another process has brought one meanwhile: that one stands then."""
        with self._store.begin() as tx:
            attempt = _locked(tx, reference)
            tx.save_quote(reference, quote)
        return evolve(attempt, quote=attempt.quote or quote)

    def _refused(self, reference: str, refusal: DepositTokenError) -> None:
        with self._store.begin() as tx:
            tx.end_attempt(reference, f"refused:{refusal.reason}")
            tx.answer_intent(Verb.START, reference, refusal.reason)

    def _opened(self, attempt: Attempt, invoice: Invoice) -> Attempt:
        if attempt.quote is None or invoice.quote_digest != attempt.quote.digest:
            told = f"The bank's invoice {invoice.id} is under another quote than attempt {attempt.reference}."
            refusal = NotOurs("other_quote", told)
            self._refused(attempt.reference, refusal)
            raise refusal
        with self._store.begin() as tx:
            attempt = _locked(tx, attempt.reference)
            tx.save_invoice(attempt.reference, invoice.id, invoice.pay_url, invoice.instructions)
            tx.answer_intent(Verb.START, attempt.reference, "invoiced")
        return evolve(attempt, invoice=invoice.id, pay_url=invoice.pay_url, instructions=invoice.instructions)

    # -- the other verbs -----------------------------------------------------------------------------------

    def capture(self, attempt: Attempt, intent: Intent) -> Applied | None:
        """Give the merchant's signed word for the whole of what is held."""
        units = held(attempt.history)
        return self._acted(
            attempt,
            intent,
            lambda client, invoice: client.capture(invoice, units, intent.keys[0], intent.made_at),
        )

    def collect(self, attempt: Attempt, intent: Intent, *, again: bool = False) -> Applied | None:
        """Start the debit that the buyer agreed to, and apply what the bank shows of it.

        The intent stays open until the bank has shown the payment: what was accepted may not be seen yet. So it does
        where it may have been sent before (`again`), and neither a mistake found now nor the bank's refusal says what
        became of that.
        """
        client = self.client(attempt.issuer)
        try:
            client.collect(collecting.asked(attempt, intent))
        except (BankRefused, InvalidInput) as refusal:
            silent = isinstance(refusal, InvalidInput) or refusal.status in BEFORE_THE_KEY
            if not (again and silent):
                self._over(intent, refusal.reason)
            raise
        return self._followed_up(intent, lambda: self._shown(client, attempt, intent))

    def _shown(self, client: Client, attempt: Attempt, intent: Intent) -> Applied | None:
        """What the bank shows of a collection; None if it shows nothing of it."""
        invoice = client.invoice(_invoice_of(attempt))
        if not invoice.movements:
            return None
        applied = self._apply(client, invoice)
        self._answer(intent, invoice.word)
        return applied

    def _resume_collect(self, client: Client, attempt: Attempt, intent: Intent) -> Applied | None:
        """Ask what became of it; see `collecting` for what may follow."""
        applied = self._shown(client, attempt, intent)
        if applied is not None:
            return applied
        if attempt.ended is None and collecting.may_send_again(client.issuer, intent, self._now()):
            return self.collect(attempt, intent, again=True)
        collecting.require_arrived(client.issuer, intent, self._now())
        self._over(intent, collecting.NEVER_ARRIVED, ends=True)
        return None

    def _over(self, intent: Intent, outcome: str, *, ends: bool = False) -> None:
        """This collection came to nothing, which `ends` its attempt; unless it was begun anew, or shown, meanwhile."""
        with self._store.begin() as tx:
            attempt = _locked(tx, intent.attempt)
            if intent not in tx.open_intents(intent.attempt) or (ends and attempt.history.observations):
                return
            if ends:
                tx.end_attempt(intent.attempt, outcome)
            tx.answer_intent(intent.verb, intent.subject, outcome)

    def cancel(self, attempt: Attempt, intent: Intent) -> Applied | None:
        """Ask the bank to end an unpaid invoice; what it holds is let go first."""
        release_key, cancel_key = intent.keys

        def act(client: Client, invoice: str) -> Invoice:
            if held(attempt.history):
                client.release(invoice, release_key)
            return client.cancel(invoice, cancel_key)

        return self._acted(attempt, intent, act)

    def _acted(self, attempt: Attempt, intent: Intent, act: Callable[[Client, str], Invoice]) -> Applied | None:
        client = self.client(attempt.issuer)
        try:
            invoice = act(client, _invoice_of(attempt))
        except BankRefused as refusal:
            self._answer(intent, refusal.reason)
            raise
        applied = self._followed_up(intent, lambda: self._apply(client, invoice))
        if applied is not None:
            self._answer(intent, invoice.word)
        return applied

    def refund(self, attempt: Attempt, refund: RefundRecord, intent: Intent, *, unseen: bool = False) -> Applied | None:
        """Ask the bank to send money back; what it refuses frees the amount, and is raised.

        `unseen`: nobody waits for the answer, so a refusal is put up for review. It may have been sent before then, and
        what is refused before the bank looks at its key says nothing about that.
        """
        client = self.client(attempt.issuer)
        invoice = _invoice_of(attempt)
        key, at = intent.keys[0], intent.made_at
        asked = NewRefund(refund.reference, installation_of(refund.reference), invoice, refund.units, key, at)
        try:
            client.refund(asked)
        except BankRefused as refusal:
            if unseen and refusal.status in BEFORE_THE_KEY:
                raise
            if client.find_refund(refund.reference, invoice) is None:
                self._door.refund_refused(attempt, refund, refusal.reason, self._now(), unseen=unseen)
                raise
        return self._followed_up(intent, lambda: self._apply(client, client.invoice(invoice)))

    def send_back(self, intent: Intent) -> Applied | None:
        """Send a refund whose intent this process has just written, and for which nobody waits: the first time.

        Whoever merely found the intent cannot know whether it was sent, and asks: see `resume`.
        """
        attempt = self.attempt(intent.attempt)
        refund = next(one for one in self._store.order(attempt.order_id).refunds if one.reference == intent.subject)
        return self.refund(attempt, refund, intent, unseen=True)

    def _followed_up(self, intent: Intent, read: Callable[[], Applied | None]) -> Applied | None:
        """What the bank has done, read and applied; None where it cannot be read now: the intent stays open then."""
        try:
            return read()
        except DepositTokenError as error:
            _LOG.warning("The bank took the %s of %s, but has not shown it yet: %s", intent.verb, intent.subject, error)
            return None

    def _answer(self, intent: Intent, outcome: str) -> None:
        with self._store.begin() as tx:
            tx.answer_intent(intent.verb, intent.subject, outcome)

    # -- asking --------------------------------------------------------------------------------------------

    def ask(self, reference: str, ended_within: timedelta | None = None) -> Applied | None:
        """Apply what the bank says now and repair what is open; None if the bank knows nothing to apply.

        News comes first, so that an intent that cannot be finished hides none; its error is raised at the end. When
        to ask again is written down once the bank has answered (`decisions.ask_again`).
        """
        with self._store.begin() as tx:
            attempt = _locked(tx, reference)
            tx.watch(reference, self._now())
            intents = tx.open_intents(reference)
        try:
            applied = self._asked(attempt, intents)
        except BankRefused:
            self._rest(reference, None)  # not for the last time: it has told nothing
            raise
        if attempt.ended is not None or applied is None or applied.outcome is not Outcome.REPEATED:
            self._rest(reference, ended_within)
        return applied

    def _rest(self, reference: str, ended_within: timedelta | None) -> None:
        """The bank has answered: an attempt that has ended is asked about more rarely from now on, and then no more."""
        with self._store.begin() as tx:
            attempt = _locked(tx, reference)
            if attempt.ended is not None:
                refunds = tx.refunds(reference)
                unfinished = bool(tx.open_intents(reference)) or any(one.stage in UNFINISHED for one in refunds)
                tx.watch(reference, ask_again(attempt, self._now(), unfinished=unfinished, ended_within=ended_within))

    def _asked(self, attempt: Attempt, intents: tuple[Intent, ...]) -> Applied | None:
        reference = attempt.reference
        for intent in intents:
            if intent.verb is Verb.START:
                self.resume(intent)
                attempt = self.attempt(reference)
        client = self.client(attempt.issuer)
        invoice = client.find_invoice(reference) if attempt.invoice is None else client.invoice(attempt.invoice)
        collected = any(intent.verb is Verb.COLLECT for intent in intents)
        known = invoice is not None and not (collected and not invoice.movements)  # no end while a debit may be coming
        applied = self._apply(client, invoice) if invoice is not None and known else None
        failures: list[DepositTokenError] = []
        for intent in intents:
            if intent.verb is not Verb.START:
                try:
                    applied = _both(applied, self.resume(intent))
                except DepositTokenError as error:
                    failures.append(error)
        if failures:
            raise failures[0]
        return applied

    def resume(self, intent: Intent) -> Applied | None:
        """Finish an intent that has no answer, as the bank's own word on it requires; what that made known."""
        attempt = self.attempt(intent.attempt)
        client = self.client(attempt.issuer)
        if intent.verb is Verb.REFUND:
            return self._resume_refund(client, attempt, intent)
        if intent.verb is Verb.COLLECT:
            return self._resume_collect(client, attempt, intent)
        invoice = client.find_invoice(attempt.reference)
        if intent.verb is Verb.START:
            self._resume_start(client, attempt, invoice, intent)
        elif invoice is None:
            self._answer(intent, "unknown_invoice")
        else:
            return self._resume_act(client, attempt, invoice, intent)
        return None

    def _resume_start(self, client: Client, attempt: Attempt, invoice: Invoice | None, intent: Intent) -> None:
        if invoice is not None and attempt.quote is not None and not self._lacks_its_page(attempt, invoice):
            self._opened(attempt, invoice)
        elif attempt.ended is None:
            self._repeat(
                client,
                intent,
                lambda keyed: self.open(attempt, keyed),
                lambda: client.find_invoice(attempt.reference) is None,
            )
        else:
            self._answer(intent, "never_sent")

    def _lacks_its_page(self, attempt: Attempt, invoice: Invoice) -> bool:
        """Whether the bank names its page only when asked to make the invoice: then it is asked that again."""
        unpaid = not invoice.movements and attempt.ended is None
        return unpaid and invoice.pay_url is None and self.can(attempt.issuer, Capability.HOSTED_PAGE)

    def _resume_act(self, client: Client, attempt: Attempt, invoice: Invoice, intent: Intent) -> Applied | None:
        applied = self._apply(client, invoice)
        attempt = self.attempt(attempt.reference)
        standing = attempt.standing
        status = None if standing is None else standing.status
        due = (Status.AUTHORIZED,) if intent.verb is Verb.CAPTURE else (Status.OPEN, Status.AUTHORIZED)
        if status not in due:
            self._answer(intent, invoice.word)
            return applied
        act = self.capture if intent.verb is Verb.CAPTURE else self.cancel
        return self._repeat(
            client,
            intent,
            lambda keyed: act(attempt, keyed),
            lambda: client.invoice(invoice.id).version == invoice.version,
        )

    def _resume_refund(self, client: Client, attempt: Attempt, intent: Intent) -> Applied | None:
        found = client.find_refund(intent.subject, attempt.invoice)
        if found is not None:
            return self._apply(client, client.invoice(found.invoice))
        with self._store.begin() as tx:
            tx.lock_attempt(attempt.reference)
            refund = next(one for one in tx.refunds(attempt.reference) if one.reference == intent.subject)
        if Capability.COLLECT in client.issuer.capabilities:
            return self._resume_payment_back(client, attempt, refund, intent)
        return self._repeat(
            client,
            intent,
            lambda keyed: self.refund(attempt, refund, keyed, unseen=True),
            lambda: client.find_refund(refund.reference, attempt.invoice) is None,
        )

    def _resume_payment_back(
        self, client: Client, attempt: Attempt, refund: RefundRecord, intent: Intent
    ) -> Applied | None:
        """A refund that is a payment of its own, and unknown to the bank: as with a collection, see `collecting`."""
        if collecting.may_send_again(client.issuer, intent, self._now()):
            return self.refund(attempt, refund, intent, unseen=True)
        collecting.require_arrived(client.issuer, intent, self._now())
        self._door.refund_refused(attempt, refund, collecting.NEVER_ARRIVED, self._now(), unseen=True)
        return None

    def _repeat(
        self, client: Client, intent: Intent, send: Callable[[Intent], T], undone: Callable[[], bool]
    ) -> T | None:
        """Send again what the bank has just said it does not know: under the same keys while they live.

        None if another process has finished it meanwhile. Where the bank keeps a failure under a key, it is asked once
        more and then sent under a new one; that the reference is unique at the bank guards against a first try that
        was merely slow.
        """
        life = ORDER_LIFE if intent.verb is Verb.CAPTURE else timedelta(seconds=client.issuer.key_lifetime)
        living = self._now() - intent.made_at < life
        keyed = intent if living else self._renewed(intent)
        try:
            return None if keyed is None else send(keyed)
        except OutcomeUnknown:
            if not living or not undone():
                raise
        keyed = self._renewed(intent)
        return None if keyed is None else send(keyed)

    def _renewed(self, intent: Intent) -> Intent | None:
        with self._store.begin() as tx:
            tx.lock_attempt(intent.attempt)
            return renew(tx, intent, self._now())

    def _apply(self, client: Client, invoice: Invoice) -> Applied:
        report = client.report_invoice(self._with_refunds(client, invoice))
        message = Inbox(
            issuer=client.issuer.name,
            key=f"{POLLED}{report.reference}:{report.digest}",
            digest=report.digest,
            reference=report.reference,
            received_at=self._now(),
        )
        return self._door.apply(report, client.issuer, message, self._proofs)

    def _with_refunds(self, client: Client, invoice: Invoice) -> Invoice:
        """The invoice, and its refunds, each asked about where they are payments by themselves at the bank.

        Also those that it did not know when they were given up: they may arrive after all, and count then.
        """
        attempt = self._store.attempt(invoice.reference) if Capability.COLLECT in client.issuer.capabilities else None
        if attempt is None:
            return invoice
        mine = [one for one in self._store.order(attempt.order_id).refunds if one.attempt == invoice.reference]
        asked = [one.reference for one in mine if one.stage.counts or one.bank_id is None]
        found = [client.find_refund(reference) for reference in asked]
        return evolve(invoice, refunds=tuple(one for one in found if one is not None))

    def can(self, issuer: str, capability: Capability) -> bool:
        """Whether this issuer offers the capability."""
        return capability in self.client(issuer).issuer.capabilities


def _locked(tx: Tx, reference: str) -> Attempt:
    """The attempt, its order locked until the commit. Raises InvalidInput (``unknown_reference``)."""
    return _known(next((one for one in tx.lock_attempt(reference) if one.reference == reference), None), reference)


def _known(attempt: Attempt | None, reference: str) -> Attempt:
    if attempt is None:
        raise InvalidInput("unknown_reference", f"No attempt has the reference {reference!r}.")
    return attempt


def _both(first: Applied | None, second: Applied | None) -> Applied | None:
    """What two answers of the bank came to: the second, unless it only repeated the first."""
    if first is None or second is None:
        return second or first
    told = first if second.outcome is Outcome.REPEATED else second
    return evolve(told, send_back=first.send_back or second.send_back)


def _invoice_of(attempt: Attempt) -> str:
    if attempt.invoice is None:
        raise NotAllowed("no_invoice", f"Attempt {attempt.reference} has no invoice at the bank yet: reconcile first.")
    return attempt.invoice


def _new_invoice(attempt: Attempt, key: str) -> NewInvoice:
    quote = attempt.quote
    if quote is None:
        raise InvalidInput("no_quote", f"Attempt {attempt.reference} has no quote to invoice.")
    return NewInvoice(
        reference=attempt.reference,
        installation=installation_of(attempt.reference),
        quote_id=quote.id,
        quote_digest=quote.digest,
        token=quote.token,
        due=quote.due,
        capture=attempt.capture,
        return_url=attempt.return_url,
        key=key,
        quote=quote,
    )
