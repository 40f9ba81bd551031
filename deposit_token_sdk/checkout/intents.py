"""What the shop is about to do at the bank, written before the bank is called: reference, keys, and for a refund
the amount, decided under the order's lock so that refunds never exceed what can be sent back.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import uuid4

from attrs import evolve

from deposit_token_sdk import price as pricing
from deposit_token_sdk.checkout.store import Attempt, Intent, RefundRecord, Tx, Verb
from deposit_token_sdk.errors import InvalidInput, NotAllowed
from deposit_token_sdk.lifecycle import RefundStage, Status
from deposit_token_sdk.money import Money

INSTALLATION_LENGTH = 8
ORDER_LIFE = timedelta(seconds=240)
"""How long the merchant's signed word on a capture is taken for fresh; a bank compares its time with its own."""
DECIDED = "review:"
"""What the one-time reference of a refund begins with that was decided about a review; its number follows."""
_CALLS = {Verb.START: 2, Verb.CAPTURE: 1, Verb.CANCEL: 2, Verb.REFUND: 1}
"""How many calls a verb may make, each under a key of its own: quote and invoice, release and cancel."""
_LETTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new_keys(count: int) -> tuple[str, ...]:
    """Fresh idempotency keys: random UUIDs (version 4), which every bank's length limit admits."""
    return tuple(str(uuid4()) for _ in range(count))


def new_reference(installation: str) -> str:
    """26 letters and digits, the installation's id first: within other banks' limits of 34."""
    return installation + "".join(secrets.choice(_LETTERS) for _ in range(18))


def installation_of(reference: str) -> str:
    """The id of the installation that made the reference."""
    return reference[:INSTALLATION_LENGTH]


def to_start(reference: str, now: datetime) -> Intent:
    """The intent to have an attempt quoted and invoiced."""
    return Intent(Verb.START, reference, reference, new_keys(_CALLS[Verb.START]), now)


def intend(tx: Tx, verb: Verb, subject: str, attempt: str, now: datetime) -> tuple[Intent, bool]:
    """A new intent; or the open one, with its keys while they serve; else a new one in its place. And whether it is
    new: no clock can tell, since servers' differ."""
    intent = Intent(verb, subject, attempt, new_keys(_CALLS[verb]), now)
    if not tx.add_intent(intent):
        for standing in tx.open_intents(attempt):
            if (standing.verb, standing.subject) == (verb, subject) and now - standing.made_at < ORDER_LIFE:
                return standing, False
        tx.renew_intent(intent)
    return intent, True


def renew(tx: Tx, intent: Intent, now: datetime) -> Intent | None:
    """The intent under new keys; if another writer has renewed it meanwhile, as that one left it; None if answered.

    The attempt must be locked.
    """
    mine = (intent.verb, intent.subject)
    standing = next((one for one in tx.open_intents(intent.attempt) if (one.verb, one.subject) == mine), None)
    if standing is None or standing.keys != intent.keys:
        return standing
    renewed = evolve(intent, keys=new_keys(len(intent.keys)), made_at=now)
    tx.renew_intent(renewed)
    return renewed


def reserve_refund(
    tx: Tx, attempt: Attempt, amount: int | Money, request: str, now: datetime
) -> tuple[RefundRecord, Intent | None]:
    """The refund, written with its intent; or the one that has the same one-time reference, without one.

    The attempt must be locked and as the store has it. Raises NotAllowed (see `price.refund_units`; ``returned``,
    ``nothing_to_refund``) and InvalidInput (``request_reused``).
    """
    known = tx.refunds(attempt.reference)
    for refund in known:
        if refund.request == request:
            if amount != (refund.units if refund.price is None else refund.price):
                raise InvalidInput(
                    "request_reused", f"The one-time reference {request!r} was used for another amount: make a new one."
                )
            return refund, None
    standing, quote = attempt.standing, attempt.quote
    if standing is None or quote is None:
        raise NotAllowed("nothing_to_refund", f"Attempt {attempt.reference} was never quoted.")
    if standing.status is Status.RETURNED and (sent_back(known) or standing.received <= 0):
        raise NotAllowed("returned", f"The bank took money of attempt {attempt.reference} back.")
    refund = RefundRecord(
        reference=new_reference(installation_of(attempt.reference)),
        attempt=attempt.reference,
        request=request,
        units=pricing.refund_units(
            amount,
            quote,
            standing.received,
            parts(known),
            beside=_is_beside(request, in_price=isinstance(amount, Money)),
        ),
        price=amount if isinstance(amount, Money) else None,
        stage=RefundStage.REQUESTED,
        bank_id=None,
        created_at=now,
    )
    if tx.add_refund(refund) is not None:
        raise InvalidInput("request_reused", f"The one-time reference {request!r} was used for another order.")
    return refund, intend(tx, Verb.REFUND, refund.reference, attempt.reference, now)[0]


def refundable(attempt: Attempt | None, refunds: tuple[RefundRecord, ...]) -> int:
    """Token units of the attempt that can still be sent back; `refunds` may be the whole order's."""
    if attempt is None or attempt.quote is None or attempt.standing is None:
        return 0
    mine = tuple(one for one in refunds if one.attempt == attempt.reference)
    if attempt.standing.status is Status.RETURNED and sent_back(mine):
        return 0
    return max(0, pricing.refundable(attempt.quote, attempt.standing.received, parts(mine)))


def sent_back(refunds: Iterable[RefundRecord]) -> int:
    """Token units of the refunds that count: requested, pending and done."""
    return sum(refund.units for refund in refunds if refund.stage.counts)


def parts(refunds: tuple[RefundRecord, ...]) -> list[pricing.RefundPart]:
    """Refunds as the arithmetic sees them."""
    return [
        pricing.RefundPart(one.units, one.price, one.stage, _is_beside(one.request, in_price=one.price is not None))
        for one in refunds
    ]


def _is_beside(request: str, *, in_price: bool) -> bool:
    """A review's refund in token units is of money that came beside the price: a second payment, a surplus."""
    return request.startswith(DECIDED) and not in_price
