"""What follows for an order from what its bank has shown: pure, over values, the same for webhook, poll and answer.

The rule it keeps: an order is fulfilled once, by the live attempt's accepted, settled and sufficient money. Any
other money is for a person: it is put up for review, never dropped and never fulfilled twice.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from attrs import evolve, frozen

from deposit_token_sdk.checkout.store import Attempt, OrderRecord, RefundRecord
from deposit_token_sdk.errors import NotAllowed, OrderChanged
from deposit_token_sdk.lifecycle import History, RefundStage, Stage, Standing, Status, held, settled
from deposit_token_sdk.models import Refund

UNFINISHED = (RefundStage.REQUESTED, RefundStage.UNKNOWN, RefundStage.PENDING)
"""Stages of a refund about which the bank is still to be asked."""

EXPIRED = "expired"
_REVIVABLE = (None, EXPIRED)


def unfinished(kept: OrderRecord) -> tuple[Attempt, ...]:
    """The attempts of an order about which its bank has more to say: the live one, what something waits for, and the
    last one of an order that is not paid."""
    waiting = {one.attempt for one in kept.refunds if one.stage in UNFINISHED} | {one.attempt for one in kept.intents}
    last = kept.attempts[-1:] if kept.paid_by is None else ()
    return tuple(one for one in kept.attempts if one.ended is None or one.reference in waiting or one in last)


@frozen
class Doubt:
    """Something a person must look at: a reason and the movement, refund or event it is about."""

    reason: str
    subject: str
    detail: str


@frozen
class Plan:
    """What is to be done in the transaction that applies a report. `hooks` are names, in calling order.

    `fulfil`: this money pays the order. `late`: it would, but came after the quote's expiry: the shop decides.
    """

    fulfil: bool = False
    late: bool = False
    hooks: tuple[str, ...] = ()
    doubts: tuple[Doubt, ...] = ()
    ended: str | None = None


def after_report(
    attempt: Attempt, history: History, fulfilled_by: str | None, *, superseded: bool, refunded: int = 0
) -> Plan:
    """What follows when `history` is all that is now known of the attempt, which is as it was before.

    `fulfilled_by` is the reference that paid the order, `superseded` whether the order has a newer attempt, and
    `refunded` the token units of the attempt's refunds that count: money sent back pays for nothing.
    """
    before, after = attempt.standing, evolve(attempt, history=history).standing
    if before is None or after is None:
        return Plan(
            doubts=(Doubt("no_quote", attempt.reference, "The bank shows news of an attempt without a quote."),)
        )
    fresh = _fresh(Stage.SETTLED, attempt.history, before, history, after)
    returned = _fresh(Stage.RETURNED, attempt.history, before, history, after)
    conflicts = tuple(
        Doubt("conflict", movement, "The bank has named two amounts for this movement; it is not counted.")
        for movement in sorted(after.conflicts - before.conflicts)
    )
    gone = _at(Stage.RELEASED, history, after) - _at(Stage.RELEASED, attempt.history, before)
    undone = tuple(
        Doubt("settled_then_released", movement, "The bank had settled this payment and now says that it let it go.")
        for movement in sorted(gone & _at(Stage.SETTLED, attempt.history, before))
    )
    plan = Plan()
    if fresh:
        plan = _money(attempt, after, fresh, fulfilled_by, superseded=superseded, refunded=refunded)
    return evolve(
        plan,
        hooks=plan.hooks + (("returned",) if returned else ()) + _turns(before, after),
        doubts=conflicts + undone + plan.doubts + _left_over(before, after, history, fulfilled_by),
        ended=_end(after),
    )


def _money(
    attempt: Attempt,
    after: Standing,
    fresh: tuple[str, ...],
    fulfilled_by: str | None,
    *,
    superseded: bool,
    refunded: int,
) -> Plan:
    if fulfilled_by is not None:
        reason = "second_payment"
        hooks = ("overpaid",) if fulfilled_by == attempt.reference else ()
        return Plan(hooks=hooks, doubts=_each(fresh, reason, f"The order was already paid by {fulfilled_by}."))
    if superseded or attempt.ended not in _REVIVABLE:
        return Plan(doubts=_each(fresh, "old_attempt", f"The attempt had ended ({attempt.ended or 'superseded'})."))
    if after.status is not Status.PAID:
        return Plan(hooks=("underpaid",) if after.underpaid else ())
    if after.received - refunded < after.due:
        sent_back = f"{after.received} units came for the {after.due} due, but {refunded} of them were sent back."
        return Plan(doubts=_each(fresh, "refunded_before_paid", sent_back))
    surplus = after.received - refunded - after.due
    over = ("overpaid",) if surplus else ()
    detail = f"{surplus} units came beyond the {after.due} that were due."
    doubts = (Doubt("overpaid", fresh[-1], detail),) if surplus else ()
    return Plan(fulfil=not after.late, late=after.late, hooks=over, doubts=doubts)


def _each(movements: tuple[str, ...], reason: str, detail: str) -> tuple[Doubt, ...]:
    return tuple(
        Doubt(reason, movement, f"{detail} Refund this payment, or look at why it came.") for movement in movements
    )


def _turns(before: Standing, after: Standing) -> tuple[str, ...]:
    if before.status is after.status:
        return ()
    turns = {
        Status.AUTHORIZED: "authorized",
        Status.EXPIRED: "expired",
        Status.CANCELLED: "cancelled",
    }
    return (turns[after.status],) if after.status in turns else ()


def _left_over(before: Standing, after: Standing, history: History, fulfilled_by: str | None) -> tuple[Doubt, ...]:
    """Money that is less than was due, of an invoice that has ended. One of which the bank took back a part need not
    end any more by its word. The subject is all that ever came: what came after a return is not what came before."""
    over = after.status in (Status.EXPIRED, Status.CANCELLED)
    over |= after.status is Status.RETURNED and fulfilled_by is None
    if not over or not after.received or (before.status is after.status and before.received == after.received):
        return ()
    detail = f"The invoice ended as {after.status} with {after.received} of {after.due} units received."
    return (Doubt("partly_paid", f"{after.status}:{settled(history)}", detail),)


def _end(after: Standing) -> str | None:
    return after.status.value if after.status in (Status.PAID, Status.EXPIRED, Status.CANCELLED) else None


def _fresh(stage: Stage, known: History, before: Standing, shown: History, after: Standing) -> tuple[str, ...]:
    """The movements that the new history shows at this stage and the old one did not, the first accepted first.

    None that are in conflict.
    """
    when = {seen.movement: seen.accepted_at for seen in shown.observations if seen.stage is stage}
    new = _at(stage, shown, after) - _at(stage, known, before)
    return tuple(sorted(new, key=lambda movement: (when[movement], movement)))


def _at(stage: Stage, history: History, standing: Standing) -> set[str]:
    return {
        seen.movement
        for seen in history.observations
        if seen.stage is stage and seen.movement not in standing.conflicts
    }


@frozen
class RefundNews:
    """What follows from the bank's word on one refund: the stage it is in now, a hook, a doubt."""

    stage: RefundStage
    hook: str | None
    doubt: Doubt | None


def after_refund(known: RefundRecord, told: Refund) -> RefundNews:
    """A refund's stages only go forward; one done can still fail, and then frees its amount."""
    if told.units != known.units:
        detail = f"The bank refunds {told.units} units where {known.units} were asked for."
        return RefundNews(known.stage, None, Doubt("refund_differs", known.reference, detail))
    if known.stage is RefundStage.FAILED and known.bank_id is None and told.stage.counts:
        detail = f"The bank had refused this refund of {known.units} units and now says that it is {told.word}."
        hook = "refunded" if told.stage is RefundStage.DONE else None
        return RefundNews(told.stage, hook, Doubt("refund_revived", known.reference, detail))
    stage = max(known.stage, told.stage)
    if stage is known.stage or stage < RefundStage.DONE or not known.stage.counts:
        return RefundNews(stage, None, None)
    if stage is RefundStage.DONE:
        return RefundNews(stage, "refunded", None)
    detail = f"The bank's word on the refund of {known.units} units is {told.word}: its amount is free again."
    return RefundNews(stage, "refund_failed", Doubt("refund_failed", known.reference, detail))


FRESH = timedelta(minutes=5)
"""For so long after an attempt was made, a sweep asks about it each time, ended or not."""


def ask_again(
    attempt: Attempt, now: datetime, *, unfinished: bool, ended_within: timedelta | None = None
) -> datetime | None:
    """When a sweep is to ask the bank about this attempt next, it having been asked just now.

    That is at once for an attempt that is live, or has an intent without an answer or an unfinished refund. What has
    ended is asked about ever more rarely, since a bank can take money back, or receive it late; None, so no more,
    once it was made longer than `ended_within` ago (by default never).
    """
    if unfinished or attempt.ended is None:
        return now
    age = now - attempt.created_at
    if ended_within is not None and age > ended_within:
        return None
    return now + max(timedelta(0), age - FRESH) / 4


def may_replace(live: Attempt, refunded: int) -> None:
    """Raise OrderChanged if money for the live attempt is on its way or has come and was not sent back."""
    standing = live.standing
    if standing is not None and (standing.money_on_its_way or standing.received > refunded):
        raise OrderChanged(
            "order_changed",
            f"Order {live.order_id!r} changed, but money for what was ordered before is {standing.status} "
            f"({standing.received} of {standing.due} units): wait for it, or refund it, before starting anew.",
        )


def may_cancel(live: Attempt, refunded: int) -> None:
    """Raise OrderChanged if money has come and was not sent back, or is on its way and not merely held."""
    standing = live.standing
    if standing is None or standing.status is not Status.AUTHORIZED or standing.received > refunded:
        may_replace(live, refunded)


def same_order(live: Attempt, asked: Attempt) -> bool:
    """Whether the live attempt is for just what is asked for now."""
    names = ("price", "token", "content", "capture", "buyer_country")
    return all(getattr(live, name) == getattr(asked, name) for name in names)


def may_start(attempts: tuple[Attempt, ...], refunded: Callable[[Attempt], int]) -> None:
    """Raise NotAllowed (``payment_in_review``) if an attempt of this unpaid order was paid and waits for a person.

    Asking the buyer to pay again would take the money twice.
    """
    for attempt in attempts:
        standing = attempt.standing
        if standing is None or standing.status is not Status.PAID:
            continue
        if standing.received - refunded(attempt) >= standing.due:
            raise NotAllowed(
                "payment_in_review",
                f"Order {attempt.order_id!r} was paid by attempt {attempt.reference}, and that payment waits for a "
                f"decision: accept it, or refund it, before the buyer is asked to pay again (`deposit-token review`).",
            )


def may_capture(attempt: Attempt) -> Standing:
    """The attempt's standing, if what is held covers what is due; else NotAllowed (``not_authorized``,
    ``held_too_little``)."""
    standing = attempt.standing
    if standing is None or standing.status is not Status.AUTHORIZED:
        status = "without a quote" if standing is None else standing.status
        raise NotAllowed(
            "not_authorized", f"A payment is captured while it is held; attempt {attempt.reference} is {status}."
        )
    holding = held(attempt.history)
    if holding + standing.received < standing.due:
        raise NotAllowed(
            "held_too_little",
            f"{holding} units are held of the {standing.due} due: wait for the rest, or cancel.",
        )
    return standing
