"""What a shop calls to have an order paid in deposit tokens, and the hooks it is called back by.

Every verb that costs money reserves, calls and applies (`bank`); all news passes one door (`door`). The shop's own
clock decides nothing: an expiry or a failure is believed on the bank's word alone, and what is unknown stays so
until the bank has been asked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, NoReturn

from deposit_token_sdk import checkout as rooms
from deposit_token_sdk.checkout.hooks import Hooks
from deposit_token_sdk.client import Client
from deposit_token_sdk.errors import (
    BankRefused,
    DepositTokenError,
    InvalidInput,
    InvalidType,
    NotAllowed,
)
from deposit_token_sdk.issuers.protocol import Capability, require
from deposit_token_sdk.money import Money
from deposit_token_sdk.words import Bearer, Capture, Proof

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.day import DayReport, Progress
    from deposit_token_sdk.checkout.door import Applied
    from deposit_token_sdk.checkout.health import Health
    from deposit_token_sdk.checkout.offering import Offers
    from deposit_token_sdk.checkout.receiving import Answer
    from deposit_token_sdk.checkout.seal import Seal
    from deposit_token_sdk.checkout.store import (
        Attempt,
        Decision,
        Intent,
        RefundRecord,
        Refusal,
        Review,
        Store,
        Verb,
        Verdict,
    )
    from deposit_token_sdk.checkout.sweeping import Reconciled
    from deposit_token_sdk.checkout.view import OrderView
    from deposit_token_sdk.settings import OfferRules

_LOG = logging.getLogger("deposit_token_sdk")
_KEPT = 64  # characters of a token's or country's code that a refusal keeps: a form may send anything


class Checkout(Hooks):
    """One shop's checkout, over one client or several, in the shop's own database.

    `bearer` says who pays the bank's fee; `proofs` which kinds of proof the shop believes; `rules` what may be offered
    to whom, by default as the clients' settings have it. Safe to share between threads. Hooks are registered as
    decorators: see `checkout.hooks.Hooks`.
    """

    def __init__(
        self,
        clients: Client | Iterable[Client],
        store: Store,
        *,
        bearer: Bearer = Bearer.CRED,
        proofs: Iterable[Proof] = tuple(Proof),
        rules: OfferRules | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__()
        listed = [clients] if isinstance(clients, Client) else list(clients)
        self.store = store
        self._clients = {client.issuer.name: client for client in listed}
        self._bearer = bearer
        self._now = now
        self._proofs = frozenset(proofs)
        self._door = rooms.door.Door(store, self)
        self._desk = rooms.bank.Desk(self._door, self._clients, now, self._proofs)
        self._receiver = rooms.receiving.Receiver(self._door, self._clients, now, self._proofs)
        self.outbox = rooms.outbox.Outbox(store, now)
        self._offering = rooms.offering.Offering(self._clients, self, rules, now)

    # -- paying --------------------------------------------------------------------------------------------

    def start(
        self,
        *,
        order_id: str,
        price: Money,
        token: str,
        buyer_country: str,
        content: str,
        return_url: str,
        capture: Capture = Capture.AUTOMATIC,
    ) -> Attempt:
        """The order's live attempt to be paid, opened if need be: send the buyer to its `pay_url`.

        `order_id` has 255 bytes at most, `content` is a digest of what was ordered, `buyer_country` an ISO 3166 code,
        `return_url` where the bank sends the buyer back. The same price, token, content and country return the live
        attempt; anything else ends it first. Commit the order before you call. What the offer policy refuses is
        NotAllowed with one of `offers.policy.REASONS`, before the bank is asked and with nothing written but the
        refusal. Raises OrderChanged, NotAllowed (``order_paid``, ``payment_in_review``, ``start_in_progress``),
        ConfigurationError, PriceRefused, BankRefused, BankUnavailable, OutcomeUnknown, NotGenuine, NotOurs, Unreadable,
        Unsupported, InvalidInput and InvalidType.
        """
        _require_texts(
            order_id=order_id, token=token, buyer_country=buyer_country, content=content, return_url=return_url
        )
        rooms.store.require_names(order_id=order_id)
        if not isinstance(price, Money):
            raise InvalidType("amount_type", "The price is Money, as in Money('128.50', 'EUR').")
        if price.amount <= 0:
            raise InvalidInput("price_not_positive", f"A price of {price} cannot be paid.")
        if not isinstance(capture, Capture):
            raise InvalidInput("capture_unknown", f"{capture!r} is no Capture: it is AUTOMATIC or MANUAL.")
        if capture is Capture.MANUAL and len(self._clients) == 1:
            require(next(iter(self._clients.values())).issuer, Capability.MANUAL_CAPTURE)
        client, ruling = self._offering.judge(token, price, buyer_country, order_id)
        if not ruling.allowed:
            self._refuse(rooms.store.Refusal(order_id, token[:_KEPT], buyer_country[:_KEPT], ruling, self._now()))
        rooms.own_quotes.require_price(client, price, token)
        if capture is Capture.MANUAL:
            require(client.issuer, Capability.MANUAL_CAPTURE)
        asked = rooms.store.Attempt(
            reference=rooms.intents.new_reference(self.store.installation()),
            order_id=order_id,
            issuer=client.issuer.name,
            token=token,
            price=price,
            content=content,
            bearer=self._bearer,
            capture=capture,
            buyer_country=buyer_country,
            return_url=return_url,
            created_at=self._now(),
            ruling=ruling,
        )
        intent = rooms.intents.to_start(asked.reference, asked.created_at)
        live = self._reserve(asked, intent)
        return self._desk.open(asked, intent) if live is None else self._continue(live, asked, intent)

    def _refuse(self, refusal: Refusal) -> NoReturn:
        """Keep why the token is not offered, and nothing else."""
        with self.store.begin() as tx:
            tx.refuse(refusal)
        raise NotAllowed(refusal.ruling.reason, f"{refusal.ruling.text} [{refusal.ruling.basis}]")

    def offers(self, price: Money, buyer_country: str, order_id: str = "") -> Offers:
        """The tokens that the shop may show this buyer for this price, and the others with the reason of each.

        Iterate over it for those that may be shown: the ones that `start` takes. A bank's tokens are asked for again
        after five minutes; the last known ones serve while it is away, and what asking raises is raised where there
        are none. Raises ConfigurationError (``tokens_file``, ``embargo_file``) too. Nothing is written.
        """
        if not isinstance(price, Money):
            raise InvalidType("amount_type", "The price is Money, as in Money('128.50', 'EUR').")
        return self._offering.offers(price, buyer_country, order_id)

    def _reserve(self, asked: Attempt, intent: Intent) -> Attempt | None:
        """Insert the attempt with its intent; or the live attempt that stands in its way."""
        with self.store.begin() as tx:
            added = tx.add_attempt(asked)
            attempts = tx.lock_order(asked.order_id)
            paid_by = tx.fulfilled_by(asked.order_id)
            if paid_by is not None:
                raise NotAllowed("order_paid", f"Order {asked.order_id!r} is already paid, by attempt {paid_by}.")
            rooms.decisions.may_start(attempts, lambda attempt: rooms.intents.sent_back(tx.refunds(attempt.reference)))
            if added:
                tx.add_intent(intent)
                return None
        live = next((attempt for attempt in attempts if attempt.ended is None), None)
        if live is None:
            raise _in_progress(asked)
        return live

    def _continue(self, live: Attempt, asked: Attempt, intent: Intent) -> Attempt:
        """The live attempt if it is for the same order and not ended by the bank's word, else a new one."""
        if rooms.decisions.same_order(live, asked):
            run_out = live.quote is not None and live.quote.expires_at <= self._now()
            if run_out or live.invoice is None or self._is_unsettled(live):
                self._quietly(live.reference)
                live = self._desk.attempt(live.reference)
            if live.ended is None and live.invoice is not None:
                return live
        else:
            self._replace(live)
        if self._reserve(asked, intent) is None:
            return self._desk.open(asked, intent)
        raise _in_progress(asked)

    def _is_unsettled(self, live: Attempt) -> bool:
        """Whether a start or a cancellation was begun and has no answer: the buyer must not be sent to pay then."""
        verbs = (rooms.store.Verb.START, rooms.store.Verb.CANCEL, rooms.store.Verb.COLLECT)
        intents = self.store.order(live.order_id).intents
        return any(one.verb in verbs and one.attempt == live.reference for one in intents)

    def _replace(self, live: Attempt) -> None:
        """End the live attempt: at the bank where it can be, here in any case. Raises OrderChanged."""
        rooms.decisions.may_replace(live, self._sent_back(live))
        self._quietly(live.reference)
        live = self._desk.attempt(live.reference)
        rooms.decisions.may_replace(live, self._sent_back(live))
        if live.ended is None and live.invoice is not None and self._desk.can(live.issuer, Capability.CANCEL):
            try:
                self._cancelled(live)
            except BankRefused as refusal:
                _LOG.warning("%s is superseded here, since the bank does not cancel it: %s", live.reference, refusal)
        self._supersede(live)

    def _supersede(self, live: Attempt) -> None:
        """End it here, if no money of it has come meanwhile. Raises OrderChanged."""
        with self.store.begin() as tx:
            locked = tx.lock_attempt(live.reference)
            live = next(one for one in locked if one.reference == live.reference)
            rooms.decisions.may_replace(live, rooms.intents.sent_back(tx.refunds(live.reference)))
            rooms.collecting.require_none(tx, live)
            tx.end_attempt(live.reference, "superseded")

    def _sent_back(self, attempt: Attempt) -> int:
        refunds = self.store.order(attempt.order_id).refunds
        return rooms.intents.sent_back(one for one in refunds if one.attempt == attempt.reference)

    def _quietly(self, reference: str) -> None:
        """Ask the bank; what it refuses has ended the attempt, and the caller looks at that."""
        try:
            self._send_back(self._desk.ask(reference))
        except BankRefused:
            if self._desk.attempt(reference).ended is None:
                raise

    def cancel(self, order_id: str) -> OrderView:
        """End the order's live attempt at the bank; a payment that is held goes back to the buyer.

        Raises NotAllowed (``nothing_to_cancel``), OrderChanged where money is on its way or has come, Unsupported,
        BankRefused, BankUnavailable, OutcomeUnknown.
        """
        live = next((one for one in self.store.order(order_id).attempts if one.ended is None), None)
        if live is None:
            raise NotAllowed("nothing_to_cancel", f"Order {order_id!r} has no live attempt.")
        require(self._desk.client(live.issuer).issuer, Capability.CANCEL)
        if live.invoice is None:
            self._quietly(live.reference)
            live = self._desk.attempt(live.reference)
        rooms.decisions.may_cancel(live, self._sent_back(live))
        if live.ended is None:
            self._end(live)
        return self.view(order_id)

    def _end(self, live: Attempt) -> None:
        """Cancel at the bank. Where that refuses because of money that came and was sent back, it ends here alone."""
        try:
            self._cancelled(live)
        except BankRefused as refusal:
            if not self._sent_back(live):
                raise
            _LOG.warning("%s is ended here, since the bank does not cancel it: %s", live.reference, refusal)
            self._supersede(live)

    def _cancelled(self, live: Attempt) -> None:
        intent, new = self._intend(rooms.store.Verb.CANCEL, live.reference, live.reference)
        try:
            if new:
                self._send_back(self._desk.cancel(live, intent))
            else:
                self._send_back(self._desk.resume(intent))
                rooms.decisions.may_replace(self._desk.attempt(live.reference), self._sent_back(live))
        except BankRefused:
            self._send_back(self._desk.ask(live.reference))
            rooms.decisions.may_replace(self._desk.attempt(live.reference), self._sent_back(live))
            raise

    def collect(self, order_id: str, *, account: str = "") -> OrderView:
        """The buyer has agreed in the shop: start the debit of all that is due (Capability.COLLECT).

        `account` names the buyer's entitlement. Called again after an OutcomeUnknown it asks the bank first. Raises
        Unsupported, NotAllowed (see `collecting.intend`; ``nothing_to_collect``), and what a capture raises.
        """
        with self.store.begin() as tx:
            live = next((one for one in tx.lock_order(order_id) if one.ended is None), None)
            if live is None:
                raise NotAllowed("nothing_to_collect", f"Order {order_id!r} has no live attempt.")
            rooms.collecting.able(self._desk.client(live.issuer).issuer)
            intent, new = rooms.collecting.intend(tx, live, account, self._now())
        self._send_back(self._desk.collect(live, intent) if new else self._desk.resume(intent))
        return self.view(order_id)

    def capture(self, order_id: str) -> OrderView:
        """Give the merchant's signed word that the held payment may settle, whole.

        Called again after an OutcomeUnknown it asks the bank first. Raises NotAllowed (``not_authorized``,
        ``held_too_little``), BankRefused, BankUnavailable, OutcomeUnknown.
        """
        with self.store.begin() as tx:
            attempts = tx.lock_order(order_id)
            if not attempts:
                raise InvalidInput("unknown_order", f"There is no attempt to pay order {order_id!r}.")
            attempt = next((one for one in attempts if one.ended is None), attempts[-1])
            rooms.decisions.may_capture(attempt)
            subject, verb = attempt.reference, rooms.store.Verb.CAPTURE
            intent, new = rooms.intents.intend(tx, verb, subject, subject, self._now())
        self._send_back(self._desk.capture(attempt, intent) if new else self._desk.resume(intent))
        return self.view(order_id)

    # -- sending back --------------------------------------------------------------------------------------

    def refund(self, order_id: str, amount: int | Money, *, request: str, reference: str | None = None) -> RefundRecord:
        """Send money of the order back: token units, or a part of the price.

        `request` is the page's one-time reference, of 255 bytes at most: the same again is the same refund. `reference`
        names the attempt where it is not the one that paid the order (a second payment). Raises NotAllowed
        (``refund_exceeds``, ``refund_mixed``, ``refund_currency``, ``refund_not_positive``, ``returned``,
        ``nothing_to_refund``), InvalidInput (``request_reused``, ``text_too_long``), BankRefused, BankUnavailable and
        OutcomeUnknown: after the last two the refund stands as requested, and `reconcile` ends it.
        """
        _require_texts(order_id=order_id, request=request)
        rooms.store.require_names(request=request)
        if isinstance(amount, bool) or not isinstance(amount, (int, Money)):
            raise InvalidType("amount_type", "A refund is asked in whole token units (int) or as Money.")
        with self.store.begin() as tx:
            attempts = tx.lock_order(order_id)
            wanted = reference or tx.fulfilled_by(order_id)
            attempt = next((one for one in attempts if one.reference == wanted), None)
            if attempt is None:
                raise NotAllowed("nothing_to_refund", f"Order {order_id!r} has no payment to refund.")
            require(self._desk.client(attempt.issuer).issuer, Capability.REFUNDS)
            refund, intent = rooms.intents.reserve_refund(tx, attempt, amount, request, self._now())
        if intent is not None:
            self._send_back(self._desk.refund(attempt, refund, intent))
        return next(one for one in self.store.order(order_id).refunds if one.reference == refund.reference)

    def refundable(self, reference: str) -> int:
        """Token units of this attempt that can still be sent back. Raises InvalidInput (``unknown_reference``)."""
        attempt = self._desk.attempt(reference)
        return rooms.intents.refundable(attempt, self.store.order(attempt.order_id).refunds)

    # -- the bank's news -----------------------------------------------------------------------------------

    def receive(self, headers: Mapping[str, str], body: bytes, issuer: str | None = None) -> Answer:
        """What the bank posted to the webhook address, bytes as they came, and what to answer it.

        `issuer` is the last part of the address; it may be left out where there is one client.
        """
        answer, applied = self._receiver.receive(headers, body, issuer)
        self._send_back(applied)
        return answer

    def _send_back(self, applied: Applied | None) -> None:
        """`on_late` asked for a refund, which is reserved by now: send it. What fails here, `reconcile` ends."""
        if applied is None or applied.send_back is None:
            return
        with suppress(DepositTokenError):
            self._desk.send_back(applied.send_back)

    def refresh(self, order_id: str) -> OrderView:
        """Ask the bank about what is unfinished in this order, apply its answer, and return how the order stands.

        Raises BankUnavailable, OutcomeUnknown, NotGenuine, NotOurs and Unreadable: what was known before stands.
        """
        for attempt in rooms.decisions.unfinished(self.store.order(order_id)):
            try:
                self._send_back(self._desk.ask(attempt.reference))
            except BankRefused as refusal:
                _LOG.warning("Asking about %s: %s", attempt.reference, refusal)
        return self.view(order_id)

    def view(self, order_id: str) -> OrderView:
        """How the order stands, read from the shop's own tables; the bank is not asked."""
        return rooms.view.view(order_id, self.store.order(order_id))

    def reconcile(
        self,
        older_than: timedelta = timedelta(0),
        limit: int = 500,
        ended_within: timedelta = timedelta(days=3),
    ) -> Reconciled:
        """Find what a lost webhook, a lost answer or a kill left undone, ask the bank, and apply its answer.

        Asks about at most `limit` attempts that nobody asked about for `older_than`, the longest due first: live ones,
        those with an intent without an answer or an unfinished refund; and ended ones ever more rarely, since a bank
        can take money back, or receive it late: for the last time when they were made `ended_within` ago or longer.
        Sweeps at once share the work. What fails for one attempt does not stop the others.
        """
        now = self._now()
        return rooms.sweeping.sweep(self.store, self._asking(ended_within), now - older_than, now, limit)

    def _asking(self, ended_within: timedelta) -> Callable[[str], Applied | None]:
        def ask(reference: str) -> Applied | None:
            applied = self._desk.ask(reference, ended_within)
            self._send_back(applied)
            return applied

        return ask

    # -- evidence for later ----------------------------------------------------------------------------------

    def seal(self, limit: int = 1_000) -> Seal | None:
        """Put rows of evidence that are not sealed yet under one signed seal; None where there are none.

        Call it every few seconds, from as many workers as there are. Nothing that a buyer waits for waits for it.
        """
        return rooms.seal.seal(self.store, self._clients.values(), self._now(), limit)

    def erase(self, before: datetime) -> int:
        """Erase personal data older than `before`, once it is sealed: how many rows. The proof stays whole.

        Raises InvalidInput (``naive_time``).
        """
        return rooms.seal.erase(self.store, self._clients.values(), before, self._now())

    def reviews(self) -> tuple[Review, ...]:
        """What waits for a person's decision, oldest first; `checkout.review.allowed` says which verdicts there are."""
        return self.store.reviews()

    def resolve(self, number: int, verdict: Verdict, *, by: str, note: str = "") -> Decision:
        """Decide about a review, once: carried out and recorded under the name of who decided.

        REFUND sends back what the review is about, ACCEPT keeps it and fulfils an unpaid order that it covers, RETRY
        asks the bank again. Raises NotAllowed (``review_decided``, ``verdict_not_allowed``, ``nothing_to_refund``,
        ``refund_unclear`` and those of `refund`, ``nothing_to_ask``, ``review_unchanged``, ``hook_failed``) and
        InvalidInput (``unknown_review``, ``verdict_unknown``): nothing is recorded then. BankRefused says that the
        refund was decided and the bank will not do it, which a review of its own shows too.
        """
        _require_texts(by=by)
        door = rooms.door.Door(self.store, self, by, note)
        desk = rooms.bank.Desk(door, self._clients, self._now, self._proofs)
        resolver = rooms.review.Resolver(self.store, self, desk, self._now())
        return resolver.resolve(number, rooms.review.verdict_of(verdict), by, note)

    def health(self) -> Health:
        """How the checkout fares, from the shop's own tables; `problems` are what is beyond its documented limits."""
        return rooms.health.look(self.store, self._clients, self._now())

    # -- the books -----------------------------------------------------------------------------------------

    def day(self, day: date, progress: Progress | None = None) -> tuple[DayReport, ...]:
        """Set the shop's orders, invoices, payments and refunds of a day (UTC) beside each bank's ledger of that day.

        What differs is asked about first, so that every difference reported is one that asking does not mend. A bank
        without Capability.LEDGER has no report. Raises what reading a ledger raises: BankUnavailable, NotGenuine.
        """
        able = [one for one in self._clients.values() if Capability.LEDGER in one.issuer.capabilities]
        return tuple(rooms.day.report(self.store, client, self._asked_about, day, progress) for client in able)

    def _asked_about(self, reference: str) -> str:
        """Ask the bank about one attempt; the reason where that came to nothing, else an empty text."""
        return rooms.sweeping.failure(self._asking(timedelta(days=3)), reference)

    # -- below the verbs -----------------------------------------------------------------------------------

    def _intend(self, verb: Verb, subject: str, attempt: str) -> tuple[Intent, bool]:
        with self.store.begin() as tx:
            tx.lock_attempt(attempt)
            return rooms.intents.intend(tx, verb, subject, attempt, self._now())


def _in_progress(asked: Attempt) -> NotAllowed:
    return NotAllowed(
        "start_in_progress", f"Another start of order {asked.order_id!r} is under way: try again in a moment."
    )


def _require_texts(**texts: object) -> None:
    for name, text in texts.items():
        if not isinstance(text, str) or not text:
            raise InvalidInput("text_missing", f"{name} must be a text that is not empty.")
