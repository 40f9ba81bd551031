"""The one door through which every report of a bank passes: webhook, poll, or the answer to a verb.

One transaction claims the message, locks the order, asks `evidence.accept`, joins the news, writes what follows
and calls the shop's hooks last. It commits whole or not at all; a hook that failed is recorded in a second
transaction, so that a paid order that cannot be fulfilled is seen.
"""

from __future__ import annotations

import logging
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from attrs import evolve, frozen

from deposit_token_sdk import evidence, lifecycle
from deposit_token_sdk.checkout import decisions
from deposit_token_sdk.checkout.decisions import Doubt, Plan
from deposit_token_sdk.checkout.hooks import HookFailed, Hooks, Late, News, Paid
from deposit_token_sdk.checkout.intents import installation_of, refundable, reserve_refund, sent_back
from deposit_token_sdk.checkout.store import (
    MOVED,
    POLLED,
    Attempt,
    Decision,
    Inbox,
    Intent,
    RefundRecord,
    Review,
    Store,
    Tx,
    Verb,
    Verdict,
)
from deposit_token_sdk.errors import InvalidInput, NotAllowed, NotOurs
from deposit_token_sdk.evidence import Accepted, Expected
from deposit_token_sdk.issuers.protocol import Issuer
from deposit_token_sdk.lifecycle import History, RefundStage
from deposit_token_sdk.models import Proof, Refund, Report, StatementKind

_LOG = logging.getLogger("deposit_token_sdk")

_SOMEBODY_ELSES = frozenset({"other_issuer", "other_merchant", "other_installation", "other_mode"})
"""What a message can be without anybody having to look at it; any other refusal may be about money of ours."""


class Outcome(StrEnum):
    """What became of a message. Kept beside it."""

    APPLIED = "applied"
    NOTHING_TO_APPLY = "nothing_to_apply"
    REPEATED = "repeated"
    CONTENT_CHANGED = "content_changed"
    NOT_OURS = "not_ours"
    PARKED = "parked"
    UNREADABLE = "unreadable"
    HOOK_FAILED = "hook_failed"


_APPLIED = f"{Outcome.APPLIED}:applied"
"""What is noted of a message from the start: it is rolled back with the rest where that does not come true."""

UNFINISHED = frozenset({Outcome.HOOK_FAILED, Outcome.NOT_OURS, Outcome.PARKED, Outcome.CONTENT_CHANGED})
"""Outcomes of a poll that somebody must look at."""


@frozen
class Applied:
    """The outcome, why, and the reserved refund of a late payment that is to be sent back now, if there is one.

    `moved` says that it showed something that was not known.
    """

    outcome: Outcome
    reason: str
    send_back: Intent | None = None
    moved: bool = False


AUTOMATIC: Final = "deposit-token"
"""Who has decided what the checkout closed itself."""


class Door:
    """Applies reports to a store. Decides nothing itself: `evidence` and `decisions` do.

    `by` and `note` stand in the decision by which the door closes the review of a hook that failed and now has not.
    """

    def __init__(self, store: Store, hooks: Hooks, by: str = AUTOMATIC, note: str = "Applied meanwhile.") -> None:
        self.store = store
        self._hooks = hooks
        self._by = by
        self._note = note

    def note(self, message: Inbox, outcome: Outcome, reason: str) -> Applied:
        """Record a message of which nothing is applied; one that cannot be read goes before a person."""
        try:
            with self.store.begin() as tx:
                known = tx.claim(evolve(message, outcome=f"{outcome}:{reason}"))
                if known is not None:
                    return self._again(tx, message, known)
                if outcome is Outcome.UNREADABLE:
                    self._park(tx, message, outcome, reason, "")
                self._close(tx, message, whole=False)
        except HookFailed as failure:
            return self._record_failure(message, failure)
        return Applied(outcome, reason)

    def apply(self, report: Report, issuer: Issuer, message: Inbox, allowed: frozenset[Proof]) -> Applied:
        """Apply one report, once. Raises only what the database raises; nothing is applied then."""
        try:
            with self.store.begin() as tx:
                known = tx.claim(evolve(message, outcome=_APPLIED))
                if known is not None:
                    return self._again(tx, message, known)
                applied = self._applied(tx, report, issuer, message, allowed)
                asked_for = message.key.startswith(POLLED)
                told = MOVED if applied.moved and asked_for else f"{applied.outcome}:{applied.reason}"
                if told != _APPLIED:
                    tx.record(message.issuer, message.key, told)
                if report.event_id is None and applied.outcome is not Outcome.APPLIED:
                    tx.unclaim(message.issuer, message.key)
                self._close(tx, message, whole=asked_for and applied.outcome is Outcome.APPLIED)
        except HookFailed as failure:
            return self._record_failure(message, failure)
        except NotAllowed as ended:
            if ended.reason != "hook_ended_transaction":
                raise
            return self._record_failure(message, ended)
        return applied

    def refund_refused(
        self, attempt: Attempt, refund: RefundRecord, reason: str, at: datetime, *, unseen: bool
    ) -> None:
        """The bank refused the refund at once: its amount is free again. `unseen`: a review tells of it.

        A refund that the bank has shown meanwhile was sent by another worker, and stands. Raises NotAllowed
        (``hook_failed``), and the refund stands as it was.
        """
        detail = f"The bank refused the refund of {refund.units} units ({reason}): its amount is free again."
        review = Review(attempt.order_id, attempt.reference, "refund_failed", refund.reference, detail, at)
        try:
            with self.store.begin() as tx:
                tx.lock_attempt(attempt.reference)
                if any(one.reference == refund.reference and one.bank_id for one in tx.refunds(attempt.reference)):
                    return
                tx.save_refund(refund.reference, RefundStage.FAILED, None)
                tx.answer_intent(Verb.REFUND, refund.reference, reason)
                if unseen and tx.open_review(review):
                    told = (attempt.order_id, attempt.reference, attempt, attempt.standing)
                    self._hooks.call("refund_failed", News(*told, refund.reference), tx)
                    self._hooks.call("review", News(*told, f"refund_failed: {detail}"), tx)
        except HookFailed as failure:
            raise NotAllowed("hook_failed", f"{failure} about a refund that the bank refused.") from failure

    def _applied(self, tx: Tx, report: Report, issuer: Issuer, message: Inbox, allowed: frozenset[Proof]) -> Applied:
        attempts = tx.lock_attempt(report.reference)
        attempt = next((one for one in attempts if one.reference == report.reference), None)
        if attempt is None:
            self._park(tx, message, Outcome.PARKED, "unknown_reference", "")
            return Applied(Outcome.PARKED, "unknown_reference")
        try:
            accepted = evidence.accept(report, _expected(attempt, issuer, allowed))
        except NotOurs as refusal:
            if refusal.reason not in _SOMEBODY_ELSES:
                self._park(tx, message, Outcome.NOT_OURS, refusal.reason, attempt.order_id)
            return Applied(Outcome.NOT_OURS, refusal.reason)
        one = _Application(tx, self._hooks, report, attempts, attempt, message.received_at)
        return one.run(accepted)

    def _again(self, tx: Tx, message: Inbox, known: str) -> Applied:
        if known == message.digest:
            return Applied(Outcome.REPEATED, "repeated")
        self._park(tx, message, Outcome.CONTENT_CHANGED, "event_id_reused", "")
        return Applied(Outcome.CONTENT_CHANGED, "event_id_reused")

    def _park(self, tx: Tx, message: Inbox, outcome: Outcome, reason: str, order_id: str) -> None:
        detail = f"A message in the name of {message.issuer} was not applied ({outcome}): {reason}."
        review = Review(order_id, message.reference, reason, message.key, detail, message.received_at)
        if tx.open_review(review):
            _LOG.error("%s Its reference is %r.", detail, message.reference)
            self._hooks.call("review", News(order_id, message.reference, None, None, detail), tx)

    def _close(self, tx: Tx, message: Inbox, *, whole: bool) -> None:
        """Close the reviews of this message's failed hooks; those of all earlier ones where it shows the `whole`."""
        for review in tx.open_reviews(message.reference):
            if review.reason == "hook_failed" and (whole or review.subject == message.key):
                tx.decide(Decision(review.number, Verdict.RETRY, self._by, self._note, message.received_at))

    def _record_failure(self, message: Inbox, failure: HookFailed | NotAllowed) -> Applied:
        detail = f"{failure} while applying the bank's news; the next delivery tries again."
        _LOG.error("Order news of %r was rolled back: %s", message.reference, detail, exc_info=failure)
        with self.store.begin() as tx:
            attempts = tx.lock_attempt(message.reference)
            order_id = attempts[0].order_id if attempts else ""
            review = Review(order_id, message.reference, "hook_failed", message.key, detail, message.received_at)
            tx.open_review(review)
        return Applied(Outcome.HOOK_FAILED, str(failure))


def _expected(attempt: Attempt, issuer: Issuer, allowed: frozenset[Proof]) -> Expected:
    return Expected(
        issuer=attempt.issuer,
        merchant=issuer.merchant,
        installation=installation_of(attempt.reference),
        mode=issuer.mode,
        reference=attempt.reference,
        invoice=attempt.invoice,
        token=attempt.token,
        quote_digest=None if attempt.quote is None else attempt.quote.digest,
        proofs=issuer.proofs & allowed,
    )


class _Application:
    """One report on its way through one transaction."""

    def __init__(
        self, tx: Tx, hooks: Hooks, report: Report, attempts: tuple[Attempt, ...], attempt: Attempt, at: datetime
    ) -> None:
        self._tx = tx
        self._hooks = hooks
        self._report = report
        self._attempts = attempts
        self._attempt = attempt
        self._at = at

    def run(self, accepted: Accepted) -> Applied:
        tx, attempt = self._tx, self._attempt
        if attempt.invoice is None:
            tx.save_invoice(attempt.reference, self._report.invoice, None, None)
        shown, doubts = self._claimed(accepted.history)
        tx.add_observations(attempt.reference, shown)
        for confirmation in self._report.confirmations:
            tx.keep_evidence(attempt.reference, confirmation)
        history = lifecycle.join(attempt.history, shown)
        plan = decisions.after_report(
            attempt,
            history,
            tx.fulfilled_by(attempt.order_id),
            superseded=attempt.reference != self._attempts[-1].reference,
            refunded=sent_back(self._refunds()),
        )
        self._attempt = evolve(attempt, history=history, ended=attempt.ended or plan.ended)
        if plan.ended is not None:
            tx.end_attempt(attempt.reference, plan.ended)
        turns = [turn for refund in accepted.refunds for turn in self._refund(refund)]
        applied = self._hooked(plan, (*doubts, *plan.doubts), turns)
        return evolve(applied, moved=history != attempt.history)

    def _claimed(self, shown: History) -> tuple[History, tuple[Doubt, ...]]:
        """Movements pay one invoice, once: what another attempt has is left out, and put up for review."""
        mine, doubts = set(), []
        owners: dict[str, str] = {}
        for seen in sorted(shown.observations, key=lambda seen: (seen.movement, seen.stage, seen.units)):
            if seen.movement not in owners:
                owners[seen.movement] = self._tx.claim_movement(
                    self._report.issuer, seen.movement, self._attempt.reference
                )
                if owners[seen.movement] != self._attempt.reference:
                    detail = f"This movement has already been shown for {owners[seen.movement]}."
                    doubts.append(Doubt("movement_reused", seen.movement, detail))
            if owners[seen.movement] == self._attempt.reference:
                mine.add(seen)
        return evolve(shown, observations=frozenset(mine)), tuple(doubts)

    def _refund(self, told: Refund) -> list[tuple[str | None, Doubt | None, str]]:
        known = next((one for one in self._refunds() if one.reference == told.reference), None)
        if known is None:
            detail = f"The bank shows a refund {told.id} of {told.units} units that this shop did not ask for."
            return [(None, Doubt("refund_unknown", told.id, detail), told.reference)]
        news = decisions.after_refund(known, told)
        self._tx.save_refund(known.reference, news.stage, told.id)
        self._tx.answer_intent(Verb.REFUND, known.reference, told.word)
        return [(news.hook, news.doubt, known.reference)]

    def _refunds(self) -> tuple[RefundRecord, ...]:
        return self._tx.refunds(self._attempt.reference)

    def _hooked(
        self, plan: Plan, doubts: tuple[Doubt, ...], turns: list[tuple[str | None, Doubt | None, str]]
    ) -> Applied:
        """All rows are written by now but those that a hook's answer decides."""
        fulfil, send_back = plan.fulfil, None
        if plan.late:
            late = self._hooks.ask_late(self._news("The money came after the quote had expired."), self._tx)
            fulfil = late is Late.ACCEPT
            send_back = self._late_refund() if late is Late.REFUND else None
            if not fulfil and send_back is None:
                doubts += self._late(late)
        if fulfil and self._tx.fulfil(self._attempt.order_id, self._attempt.reference, self._at):
            self._hooks.call("paid", self._paid(), self._tx)
        for name in plan.hooks:
            self._call(name, name)
        for hook, doubt, reference in turns:
            doubts += () if doubt is None else (doubt,)
            if hook is not None:
                self._call(hook, reference)
        if "returned" in plan.hooks and any(refund.stage.counts for refund in self._refunds()):
            detail = "The bank took the money back after a refund was asked for: further refunds are refused."
            doubts += (Doubt("returned_after_refund", self._attempt.reference, detail),)
        for doubt in doubts:
            self._review(doubt)
        return Applied(Outcome.APPLIED, "applied", send_back)

    def _late(self, answer: Late) -> tuple[Doubt, ...]:
        """Late money is for a person: with what is open about this attempt already, or anew where that was decided."""
        if any(one.reason == "late" for one in self._tx.open_reviews(self._attempt.reference)):
            return ()
        came = lifecycle.settled(self._attempt.history)
        return (Doubt("late", f"{answer}:{came}", "Paid after the quote had expired."),)

    def _late_refund(self) -> Intent | None:
        """The refund of all that can be sent back, reserved; None where it cannot be, which is for a person then."""
        attempt = self._attempt
        left = refundable(attempt, self._refunds())
        request = f"late:{attempt.reference}:{lifecycle.settled(attempt.history)}"  # a second late payment is another
        try:
            refund, intent = reserve_refund(self._tx, attempt, left, request, self._at)
        except (NotAllowed, InvalidInput):
            return None
        if intent is not None:
            self._note_sent_back(refund.reference)
        return intent

    def _note_sent_back(self, refund: str) -> None:
        """Money that fulfils nothing has its review, also where `on_late` has decided about it already."""
        attempt = self._attempt
        detail = "Paid after the quote had expired, and sent back as on_late said."
        tx, review = self._tx, Review(attempt.order_id, attempt.reference, "late", refund, detail, self._at)
        if tx.open_review(review):
            number = next(one.number for one in tx.open_reviews(attempt.reference) if one == review)
            tx.decide(Decision(number, Verdict.REFUND, AUTOMATIC, "on_late", self._at, refund))

    def _review(self, doubt: Doubt) -> None:
        attempt = self._attempt
        review = Review(attempt.order_id, attempt.reference, doubt.reason, doubt.subject, doubt.detail, self._at)
        if self._tx.open_review(review):
            self._call("review", f"{doubt.reason}: {doubt.detail}")

    def _paid(self) -> Paid:
        settled = tuple(c for c in self._report.confirmations if c.kind is StatementKind.SETTLEMENT)
        received = lifecycle.received(self._attempt.history)
        return Paid(self._attempt.order_id, self._attempt.reference, self._attempt, received, settled)

    def _call(self, name: str, detail: str) -> Any:
        return self._hooks.call(name, self._news(detail), self._tx)

    def _news(self, detail: str) -> News:
        attempt = self._attempt
        return News(attempt.order_id, attempt.reference, attempt, attempt.standing, detail)
