"""Debits that the merchant starts, at banks where nothing else starts them: once, when the buyer has agreed.

A collection is sent once. Where its fate is unknown the bank is asked; it is sent again only under a key that the bank
still honours. What the bank does not know some time later never arrived: that ends the attempt, so that the buyer is
asked anew and no reference is used twice. Should it come after all, it is money on an ended attempt, and for a person.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from deposit_token_sdk.checkout.intents import new_keys
from deposit_token_sdk.checkout.store import Attempt, Intent, Tx, Verb
from deposit_token_sdk.errors import NotAllowed, OrderChanged, OutcomeUnknown, Unsupported
from deposit_token_sdk.issuers.protocol import Capability, Collects, Issuer
from deposit_token_sdk.lifecycle import Status
from deposit_token_sdk.models import NewCollection

NEVER_ARRIVED = "never_arrived"


def intend(tx: Tx, attempt: Attempt, account: str, now: datetime) -> tuple[Intent, bool]:
    """The intent to collect, written; or the one that has no answer yet, as it is. And whether it is new: no clock can
    tell, since servers' differ. The attempt must be locked.

    Its last key is the account's name. Raises NotAllowed (``no_invoice``, ``attempt_ended``, ``not_open``,
    ``quote_expired``).
    """
    standing = next((one for one in tx.open_intents(attempt.reference) if one.verb is Verb.COLLECT), None)
    if standing is not None:
        return standing, False
    _require_payable(attempt, now)
    intent = Intent(Verb.COLLECT, attempt.reference, attempt.reference, (*new_keys(1), account), now)
    if not tx.add_intent(intent):
        tx.renew_intent(intent)  # the one before was answered: the bank did nothing
    return intent, True


def _require_payable(attempt: Attempt, now: datetime) -> None:
    if attempt.invoice is None or attempt.quote is None or attempt.standing is None:
        raise NotAllowed("no_invoice", f"Attempt {attempt.reference} has no invoice yet: reconcile first.")
    if attempt.ended is not None:
        raise NotAllowed("attempt_ended", f"Attempt {attempt.reference} has ended ({attempt.ended}): start anew.")
    if attempt.standing.status is not Status.OPEN:
        raise NotAllowed("not_open", f"Attempt {attempt.reference} is {attempt.standing.status}: nothing to collect.")
    if attempt.quote.expires_at <= now:
        raise NotAllowed("quote_expired", f"The price of {attempt.reference} stood until {attempt.quote.expires_at}.")


def require_none(tx: Tx, attempt: Attempt) -> None:
    """Raise OrderChanged where a collection has no answer yet: its money may be on its way. The attempt is locked."""
    if any(one.verb is Verb.COLLECT for one in tx.open_intents(attempt.reference)):
        raise OrderChanged(
            "order_changed",
            f"Order {attempt.order_id!r} changed, but the payment of what was ordered before has been started: wait "
            f"for the bank's word on it.",
        )


def asked(attempt: Attempt, intent: Intent) -> NewCollection:
    """What is asked of the bank, the same however often."""
    if attempt.invoice is None:
        raise NotAllowed("no_invoice", f"Attempt {attempt.reference} has no invoice yet: reconcile first.")
    key, account = intent.keys
    return NewCollection(attempt.reference, attempt.invoice, account, key, intent.made_at)


def able(issuer: Issuer) -> Collects:
    """The issuer as one that collects. Raises Unsupported (COLLECT)."""
    if Capability.COLLECT in issuer.capabilities and isinstance(issuer, Collects):
        return issuer
    raise Unsupported(issuer.name, Capability.COLLECT, f"{issuer.name} cannot do {Capability.COLLECT}.")


def may_send_again(issuer: Issuer, intent: Intent, now: datetime) -> bool:
    """Whether what the bank does not know may be sent once more: while its key lives, and the bank has keys at all.

    A clock that is behind the one of the intent cannot say how old its key is.
    """
    living = timedelta(0) <= now - intent.made_at < timedelta(seconds=issuer.key_lifetime)
    return living and Capability.IDEMPOTENCY in issuer.capabilities


def require_arrived(issuer: Issuer, intent: Intent, now: datetime) -> None:
    """Raise OutcomeUnknown as long as what the bank does not know may still be on its way there.

    It may have been sent again for as long as its key lived, and the bank has its time to show it from then on.
    """
    sent_for = issuer.key_lifetime if Capability.IDEMPOTENCY in issuer.capabilities else 0.0
    if now - intent.made_at < timedelta(seconds=sent_for + able(issuer).unseen_for):
        raise OutcomeUnknown(
            f"The bank does not know the payment of {intent.subject} yet. It may still be on its way: ask again.",
            key=intent.keys[0],
            request_id=None,
            reference=intent.subject,
        )
