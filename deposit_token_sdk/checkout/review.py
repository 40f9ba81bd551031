"""What a person decides about a review, carried out and recorded once: send the money back, accept it, or ask again.

A decision is a row of its own that is never changed. It is written in the transaction that does what was decided, under
the order's lock, so that of two people who click at once one decides and the other is told what was. Nothing here
fulfils an order twice, or with less money than is due, or sends back more than can be; what cannot be done is refused
and nothing is recorded then. Which verdicts there are for which reason is the table `RULES`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from typing import Final

from attrs import evolve, frozen

from deposit_token_sdk.checkout.bank import Desk
from deposit_token_sdk.checkout.door import AUTOMATIC, UNFINISHED, Applied, Outcome
from deposit_token_sdk.checkout.hooks import HookFailed, Hooks, News, Paid
from deposit_token_sdk.checkout.intents import DECIDED, intend, refundable, reserve_refund, sent_back
from deposit_token_sdk.checkout.store import Attempt, Decision, Intent, RefundRecord, Review, Store, Tx, Verb, Verdict
from deposit_token_sdk.errors import BankRefused, DepositTokenError, InvalidInput, NotAllowed
from deposit_token_sdk.issuers.protocol import Capability, require
from deposit_token_sdk.lifecycle import Stage
from deposit_token_sdk.models import Confirmation, StatementKind
from deposit_token_sdk.money import Money

_LOG = logging.getLogger("deposit_token_sdk")

REFUND, ACCEPT, RETRY = Verdict.REFUND, Verdict.ACCEPT, Verdict.RETRY


class Share(StrEnum):
    """How much of an attempt's money a refund sends back."""

    ALL = "all"
    MOVEMENT = "movement"
    SURPLUS = "surplus"
    AGAIN = "again"


@frozen
class Rule:
    """What can be decided about a review of one reason; the first verdict is the one to offer.

    `share` says what REFUND sends back. `fulfils`: ACCEPT fulfils an unpaid order that the money covers; otherwise it
    records that the matter was seen to. `until_paid`: RETRY closes the review only once the order is paid; otherwise
    as soon as the bank's word has been applied.
    """

    verdicts: tuple[Verdict, ...]
    share: Share = Share.ALL
    fulfils: bool = False
    until_paid: bool = False


_SEEN_TO = Rule((ACCEPT,))
_ASK = Rule((RETRY, ACCEPT))

RULES: Final[Mapping[str, Rule]] = {
    "second_payment": Rule((REFUND, ACCEPT), Share.MOVEMENT),
    "old_attempt": Rule((REFUND, ACCEPT), Share.MOVEMENT, fulfils=True),
    "late": Rule((ACCEPT, REFUND), fulfils=True),
    "overpaid": Rule((REFUND, ACCEPT), Share.SURPLUS),
    "partly_paid": Rule((REFUND, ACCEPT, RETRY), fulfils=True, until_paid=True),
    "refunded_before_paid": Rule((REFUND, ACCEPT), fulfils=True),
    "no_quote": Rule((RETRY, ACCEPT), fulfils=True, until_paid=True),
    "conflict": Rule((ACCEPT, RETRY), until_paid=True),
    "movement_reused": _SEEN_TO,
    "settled_then_released": _SEEN_TO,
    "hook_failed": Rule((RETRY,)),
    "unknown_reference": _ASK,
    "event_id_reused": _ASK,
    "other_invoice": _ASK,
    "other_quote": _ASK,
    "other_reference": _ASK,
    "other_token": _ASK,
    "proof_not_allowed": _ASK,
    "wrong_issuer": _ASK,
    "refund_failed": Rule((REFUND, ACCEPT), Share.AGAIN, fulfils=True),
    "refund_unknown": _SEEN_TO,
    "refund_differs": _SEEN_TO,
    "refund_revived": _SEEN_TO,
    "returned_after_refund": _SEEN_TO,
}
"""The reasons of a review. Any other is that of a message that could not be read: ask the bank, or see to it."""


def rule_of(review: Review) -> Rule:
    """The rule for this review's reason. A hook that failed on a message about no order of ours can be seen to."""
    if review.reason == "hook_failed" and not review.order_id:
        return _ASK
    return RULES.get(review.reason, _ASK)


def allowed(review: Review) -> tuple[Verdict, ...]:
    """What can be decided about this review, the first being the one to offer."""
    return rule_of(review).verdicts


# -- how much, and whether: pure ---------------------------------------------------------------------------------


def to_refund(review: Review, attempt: Attempt, refunds: tuple[RefundRecord, ...], *, paid_by_it: bool) -> int | Money:
    """What REFUND sends back, in token units or as a part of the price. `refunds` are the attempt's.

    `paid_by_it`: this attempt paid the order. Raises NotAllowed: ``nothing_to_refund``; ``refund_unclear`` where
    refunds already made leave open whether this money is still there.
    """
    share, left = rule_of(review).share, refundable(attempt, refunds)
    if share is Share.AGAIN:
        failed = next((one for one in refunds if one.reference == review.subject), None)
        if failed is not None and failed.stage.counts:
            raise NotAllowed(
                "nothing_to_refund",
                f"The refund {failed.reference} is {failed.stage.name.lower()} after all: accept the review.",
            )
        if failed is not None:
            return failed.units if failed.price is None else failed.price
    units = min(_share(share, review, attempt), left)
    if units <= 0:
        raise NotAllowed(
            "nothing_to_refund",
            f"Nothing of what review {review.number} is about can still be sent back: accept it.",
        )
    standing = attempt.standing
    if paid_by_it and standing is not None and units > standing.received - standing.due - _sent_in_units(refunds):
        raise NotAllowed(
            "refund_unclear",
            f"{_sent_in_units(refunds)} units of this payment were sent back before, so {units} more would take from "
            f"what paid the order. Refund what is meant on the order itself, and accept the review.",
        )
    return units


def _sent_in_units(refunds: tuple[RefundRecord, ...]) -> int:
    """Sent back without being a part of the price: it may have been the very money that a review is about."""
    return sent_back(one for one in refunds if one.price is None)


def _share(share: Share, review: Review, attempt: Attempt) -> int:
    standing, units = attempt.standing, _settled(attempt)
    everything = 0 if standing is None else standing.received
    if share is Share.MOVEMENT:
        return units.get(review.subject, (0, everything))[1]
    if share is Share.SURPLUS and standing is not None and review.subject in units:
        until = units[review.subject][0]
        return sum(amount for at, amount in units.values() if at <= until) - standing.due
    return everything


def _settled(attempt: Attempt) -> dict[str, tuple[datetime, int]]:
    """Of each settled movement when it was accepted and how much it was; without those in conflict."""
    conflicts = frozenset() if attempt.standing is None else attempt.standing.conflicts
    return {
        seen.movement: (seen.accepted_at, seen.units)
        for seen in attempt.history.observations
        if seen.stage is Stage.SETTLED and seen.movement not in conflicts
    }


def covers(attempt: Attempt, refunds: tuple[RefundRecord, ...]) -> bool:
    """Whether what has come for the attempt, and was not sent back, is all that is due."""
    standing = attempt.standing
    return standing is not None and standing.received - sent_back(refunds) >= standing.due


# -- carried out -------------------------------------------------------------------------------------------------


@frozen
class Resolver:
    """Carries out one person's verdict. `desk` is one that closes reviews in that person's name."""

    store: Store
    hooks: Hooks
    desk: Desk
    now: datetime

    def resolve(self, number: int, verdict: Verdict, by: str, note: str) -> Decision:
        """The decision, carried out; see `Checkout.resolve`."""
        found = self.store.review(number)
        if found is None:
            raise InvalidInput("unknown_review", f"There is no review {number}: `deposit-token review` lists them.")
        review, decided = found
        if decided is not None:
            raise _decided(decided)
        if verdict not in allowed(review):
            choice = " or ".join(allowed(review))
            raise NotAllowed(
                "verdict_not_allowed",
                f"Review {number} ({review.reason}) cannot be decided by {verdict}: choose {choice}.",
            )
        decision = Decision(number, verdict, by, note, self.now)
        if verdict is REFUND:
            return self._refunded(review, decision)
        if verdict is ACCEPT:
            return self._accepted(review, decision)
        return self._retried(review, decision)

    # -- refund ------------------------------------------------------------------------------------------------

    def _refunded(self, review: Review, decision: Decision) -> Decision:
        """Reserve the refund and record the decision in one, then send it: what is cut off there, a sweep ends."""
        if rule_of(review).share is Share.AGAIN:
            self._ask_first(review)
        with self.store.begin() as tx:
            attempt = self._locked(tx, review)
            if attempt is None:
                raise NotAllowed("nothing_to_refund", f"Review {review.number} is about no payment of this shop.")
            require(self.desk.client(attempt.issuer).issuer, Capability.REFUNDS)
            known = tx.refunds(attempt.reference)
            paid_by_it = tx.fulfilled_by(attempt.order_id) == attempt.reference and review.reason != "refund_failed"
            amount = to_refund(review, attempt, known, paid_by_it=paid_by_it)
            refund, intent = reserve_refund(tx, attempt, amount, f"{DECIDED}{review.number}", self.now)
            decision = evolve(decision, refund=refund.reference)
            self._record(tx, decision)
        if intent is not None:
            self._send(intent)
        return decision

    def _ask_first(self, review: Review) -> None:
        """A refund that the bank never took for one may have arrived meanwhile: it is not sent beside another then."""
        found = self.store.order(review.order_id).refunds
        if any(one.reference == review.subject and one.bank_id is None for one in found):
            with suppress(BankRefused):
                self._ask(review)

    def _ask(self, review: Review) -> Applied | None:
        applied = self.desk.ask(review.reference)
        if applied is not None and applied.send_back is not None:
            self._send(applied.send_back)
        return applied

    def _send(self, intent: Intent) -> None:
        """Send what is reserved; raise the bank's refusal. Without a word of the bank the next sweep sends it."""
        try:
            self.desk.send_back(intent)
        except DepositTokenError as error:
            order_id = self.desk.attempt(intent.attempt).order_id
            waiting = any(one.subject == intent.subject for one in self.store.order(order_id).intents)
            if isinstance(error, BankRefused) and not waiting:
                raise
            _LOG.warning("The refund %s is not sent yet, and a sweep will end it: %s", intent.subject, error)

    # -- accept ------------------------------------------------------------------------------------------------

    def _accepted(self, review: Review, decision: Decision) -> Decision:
        """Record the decision, with what follows from it for the order; then cancel what it superseded at the bank."""
        kept = self.store.evidence(review.order_id)
        superseded: list[tuple[Attempt, Intent]] = []
        try:
            with self.store.begin() as tx:
                attempt = self._locked(tx, review)
                self._record(tx, decision)
                if attempt is not None and rule_of(review).fulfils:
                    paid_by, refunds = tx.fulfilled_by(attempt.order_id), tx.refunds(attempt.reference)
                    if paid_by is None and covers(attempt, refunds):
                        superseded = self._fulfilled(tx, attempt, decision, kept)
                    elif paid_by not in (None, attempt.reference) and refundable(attempt, refunds):
                        self._second_payment(tx, review, attempt, f"The order was meanwhile paid by {paid_by}.")
        except HookFailed as failure:
            raise NotAllowed(
                "hook_failed", f"{failure}: nothing was recorded. Mend the hook, and decide again."
            ) from failure
        for live, intent in superseded:
            with suppress(DepositTokenError):  # a sweep goes on with it, and money that still comes has its review
                self.desk.cancel(live, intent)
        return decision

    def _fulfilled(
        self, tx: Tx, attempt: Attempt, decision: Decision, kept: Iterable[Confirmation]
    ) -> list[tuple[Attempt, Intent]]:
        """The order is paid by this attempt: what else is open about its money is closed, and no other is to be paid.

        Those that the bank is to cancel, with the intent that is written for each.
        """
        tx.fulfil(attempt.order_id, attempt.reference, self.now)
        for other in tx.open_reviews(attempt.reference):
            if other.number != decision.review and RULES.get(other.reason, _ASK).fulfils:
                note = f"With review {decision.review}: the order is fulfilled by all that came for this attempt."
                tx.decide(evolve(decision, review=other.number, note=note))
        superseded = self._superseded(tx, attempt)
        tx.end_attempt(attempt.reference, "paid")
        self._surplus(tx, attempt)
        confirmations = tuple(
            one for one in kept if one.reference == attempt.reference and one.kind is StatementKind.SETTLEMENT
        )
        received = 0 if attempt.standing is None else attempt.standing.received
        self.hooks.call("paid", Paid(attempt.order_id, attempt.reference, attempt, received, confirmations), tx)
        return superseded

    def _superseded(self, tx: Tx, attempt: Attempt) -> list[tuple[Attempt, Intent]]:
        """End the order's other live attempt, and set out to cancel it where that can be done."""
        to_cancel = []
        for one in tx.lock_order(attempt.order_id):
            if one.ended is None and one.reference != attempt.reference:
                tx.end_attempt(one.reference, "superseded")
                if one.invoice is not None and self.desk.can(one.issuer, Capability.CANCEL):
                    to_cancel.append((one, intend(tx, Verb.CANCEL, one.reference, one.reference, self.now)[0]))
        return to_cancel

    def _surplus(self, tx: Tx, attempt: Attempt) -> None:
        """What came beyond what was due is for a person, as it is where an order is paid without one."""
        standing, settled = attempt.standing, _settled(attempt)
        over = 0 if standing is None else standing.received - sent_back(tx.refunds(attempt.reference)) - standing.due
        if over > 0:
            last = max(settled, key=lambda movement: (settled[movement][0], movement))
            self._put_up(tx, attempt, "overpaid", last, f"{over} units came beyond what was due.")

    def _put_up(self, tx: Tx, attempt: Attempt, reason: str, subject: str, detail: str) -> None:
        review = Review(attempt.order_id, attempt.reference, reason, subject, detail, self.now)
        if tx.open_review(review):
            told = f"{reason}: {detail}"
            self.hooks.call("review", News(attempt.order_id, attempt.reference, attempt, attempt.standing, told), tx)

    def _second_payment(self, tx: Tx, review: Review, attempt: Attempt, why: str) -> None:
        """Accepted was this money as the order's. Another's came first, and so it is a second one: asked about anew."""
        detail = f"{why} Refund this payment, or accept it as it is."
        self._put_up(tx, attempt, "second_payment", review.subject, detail)

    # -- retry -------------------------------------------------------------------------------------------------

    def _retried(self, review: Review, decision: Decision) -> Decision:
        """Ask the bank again. The door closes what it has applied; what it has not stays open, and says why."""
        if self.store.attempt(review.reference) is None:
            raise NotAllowed(
                "nothing_to_ask",
                f"Review {review.number} is about no attempt in this database, so the bank cannot be asked about it.",
            )
        self._require_applied(review, self._ask(review))
        with self.store.begin() as tx:
            attempt = self._locked(tx, review, decided_by=decision.by)
            closed = tx.decision(review.number)
            if closed is not None:
                return closed
            if rule_of(review).until_paid and attempt is not None and tx.fulfilled_by(attempt.order_id) is None:
                raise NotAllowed("review_unchanged", "The bank was asked again, and the order is still not paid by it.")
            self._record(tx, decision)
        return decision

    def _require_applied(self, review: Review, applied: Applied | None) -> None:
        if applied is None:
            raise NotAllowed(
                "review_unchanged", f"The bank knows nothing of {review.reference}: the review stays open."
            )
        if applied.outcome is Outcome.HOOK_FAILED:
            raise NotAllowed("hook_failed", f"{applied.reason} again: the review stays open. Mend the hook first.")
        if applied.outcome in UNFINISHED:
            raise NotAllowed(
                "review_unchanged",
                f"The bank was asked again, and its answer was not applied ({applied.reason}): the review stays open.",
            )

    # -- under the lock ----------------------------------------------------------------------------------------

    def _locked(self, tx: Tx, review: Review, decided_by: str | None = None) -> Attempt | None:
        """The review's attempt, its order locked. Raises NotAllowed (``review_decided``) if somebody was quicker.

        What the door closed in the name of `decided_by`, or by itself, is none of that.
        """
        attempts = tx.lock_attempt(review.reference)
        decided = tx.decision(review.number)
        if decided is not None:
            own = decided_by is not None and decided.by in (decided_by, AUTOMATIC) and decided.verdict is RETRY
            if not own:
                raise _decided(decided)
        return next((one for one in attempts if one.reference == review.reference), None)

    def _record(self, tx: Tx, decision: Decision) -> None:
        if not tx.decide(decision):
            first = tx.decision(decision.review)
            raise _decided(first if first is not None else decision)


def verdict_of(verdict: Verdict | str) -> Verdict:
    """The verdict of this name. Raises InvalidInput (``verdict_unknown``)."""
    try:
        return Verdict(verdict)
    except ValueError:
        raise InvalidInput("verdict_unknown", f"{verdict!r} is no verdict: {', '.join(Verdict)}.") from None


def _decided(first: Decision) -> NotAllowed:
    note = f" ({first.note})" if first.note else ""
    return NotAllowed(
        "review_decided",
        f"Review {first.review} was decided before: {first.verdict}, by {first.by} at {first.at:%Y-%m-%d %H:%M} "
        f"UTC{note}. That stands.",
    )
