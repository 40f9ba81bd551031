"""What a checkout asks of the shop's database: small, atomic, and without decisions.

A store opens transactions in which the shop's own hooks run too. It commits what it is told and decides nothing;
what must be unique (an event, a movement, a fulfilled order, a live attempt) is unique in the database.
Implementations run one conformance suite, `deposit_token_sdk.testing.stores`.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from attrs import field, frozen

from deposit_token_sdk import lifecycle
from deposit_token_sdk.lifecycle import History, RefundStage, Standing, Terms
from deposit_token_sdk.models import Bearer, Capture, Confirmation, Quote
from deposit_token_sdk.money import Money


class Verb(StrEnum):
    """The steps at a bank that an intent is written for."""

    START = "start"
    CAPTURE = "capture"
    CANCEL = "cancel"
    REFUND = "refund"


@frozen
class Attempt:
    """One try to have an order paid. `reference` is what the bank knows it by; `ended` says why it is live no more.

    `quote` is None until the bank has quoted, `invoice` (the bank's id) until it has invoiced.
    """

    reference: str
    order_id: str
    issuer: str
    token: str
    price: Money
    content: str
    bearer: Bearer
    capture: Capture
    buyer_country: str
    return_url: str
    created_at: datetime
    quote: Quote | None = None
    invoice: str | None = None
    pay_url: str | None = None
    instructions: str | None = None
    ended: str | None = None
    history: History = field(factory=History)

    @property
    def standing(self) -> Standing | None:
        """What the bank has shown amounts to; None before there is a quote."""
        if self.quote is None:
            return None
        return lifecycle.standing(self.history, Terms(self.quote.due, self.quote.expires_at))


@frozen
class RefundRecord:
    """A refund as the shop keeps it. `request` is the page's one-time reference: a double click is one refund.

    `price` is the part of the price it was asked in, None where it was asked in token units.
    """

    reference: str
    attempt: str
    request: str
    units: int
    price: Money | None
    stage: RefundStage
    bank_id: str | None
    created_at: datetime


@frozen
class Intent:
    """What the shop set out to do at the bank, written before the bank was called. `subject` is the reference.

    The idempotency keys are those of the calls (a start makes two); `attempt` is the reference of the attempt.
    """

    verb: Verb
    subject: str
    attempt: str
    keys: tuple[str, ...]
    made_at: datetime


@frozen
class Review:
    """Something a person must look at. The triple of reference, reason and subject is unique."""

    order_id: str
    reference: str
    reason: str
    subject: str
    detail: str
    opened_at: datetime


@frozen
class Inbox:
    """A message of the bank as it is claimed: `key` is the event's id or a digest, `digest` that of its content."""

    issuer: str
    key: str
    digest: str
    reference: str
    received_at: datetime
    body: str = ""


class Tx(Protocol):
    """One open transaction in the shop's database. Every method writes or reads at once; none commits."""

    @property
    def session(self) -> Any:
        """What the shop's hooks are given to write through (SQLAlchemy: the shop's own Session)."""
        ...

    def claim(self, message: Inbox) -> str | None:
        """Insert the message; None if it is new, else the digest under which it is known. The first statement."""
        ...

    def record(self, issuer: str, key: str, outcome: str) -> None:
        """Note what became of a claimed message."""
        ...

    def unclaim(self, issuer: str, key: str) -> None:
        """Forget a claimed message, so that the same one is looked at again."""
        ...

    def flush(self) -> None:
        """Have written what hooks have only put into the session, so that what is wrong with it is theirs."""
        ...

    def add_attempt(self, attempt: Attempt) -> bool:
        """Insert; False, and nothing inserted, if the order has a live attempt. May be the first statement."""
        ...

    def lock_order(self, order_id: str) -> tuple[Attempt, ...]:
        """All attempts of the order, oldest first, locked against every other writer until the commit."""
        ...

    def lock_attempt(self, reference: str) -> tuple[Attempt, ...]:
        """All attempts of the order that this attempt is for, as `lock_order` does; empty if there is none."""
        ...

    def asked(self, reference: str, at: datetime) -> None:
        """Note that the bank is asked about this attempt now: `Store.due` names the least recently asked first."""
        ...

    def save_quote(self, reference: str, quote: Quote) -> None:
        """Keep the attempt's quote. The first one stays."""
        ...

    def save_invoice(self, reference: str, invoice: str, pay_url: str | None, instructions: str | None) -> None: ...

    def end_attempt(self, reference: str, why: str) -> None:
        """The attempt is live no more (paid, expired, cancelled, superseded, refused). The first word stays."""
        ...

    def add_observations(self, reference: str, shown: History) -> None:
        """Set union with what is kept."""
        ...

    def claim_movement(self, issuer: str, movement: str, reference: str) -> str:
        """The reference whose movement this is: the one given, unless another has it already."""
        ...

    def keep_evidence(self, reference: str, confirmation: Confirmation) -> None:
        """Keep kind of proof, bytes, keys and time; the same statement once."""
        ...

    def fulfil(self, order_id: str, reference: str, at: datetime) -> bool:
        """Mark the order paid by this attempt; False if it has been marked already."""
        ...

    def fulfilled_by(self, order_id: str) -> str | None:
        """The reference of the attempt that paid the order."""
        ...

    def open_review(self, review: Review) -> bool:
        """Insert; False if it stands already."""
        ...

    def add_intent(self, intent: Intent) -> bool:
        """Insert; False if one for the same verb and subject is open or was answered."""
        ...

    def renew_intent(self, intent: Intent) -> None:
        """Put this intent in the place of the one for the same verb and subject; it is open (again)."""
        ...

    def answer_intent(self, verb: Verb, subject: str, outcome: str) -> None:
        """The bank's answer is applied; the intent is open no more."""
        ...

    def open_intents(self, attempt: str) -> tuple[Intent, ...]:
        """Intents of this attempt that have no answer yet."""
        ...

    def add_refund(self, refund: RefundRecord) -> RefundRecord | None:
        """Insert; None if it is new, else the refund that has the same one-time reference."""
        ...

    def refunds(self, attempt: str) -> tuple[RefundRecord, ...]: ...

    def save_refund(self, reference: str, stage: RefundStage, bank_id: str | None) -> None: ...


class Store(Protocol):
    """The shop's database as the checkout sees it."""

    def begin(self) -> AbstractContextManager[Tx]:
        """A transaction: committed at the end of the block, rolled back by an exception."""
        ...

    def installation(self) -> str:
        """The random id of this shop's database (8 lower-case letters and digits), made at the first call."""
        ...

    def attempt(self, reference: str) -> Attempt | None:
        """The attempt, read without a lock."""
        ...

    def attempts(self, order_id: str) -> tuple[Attempt, ...]:
        """All attempts of the order, oldest first."""
        ...

    def refunds_of(self, order_id: str) -> tuple[RefundRecord, ...]: ...

    def fulfilled_by(self, order_id: str) -> str | None: ...

    def evidence(self, order_id: str) -> tuple[Confirmation, ...]:
        """The order's stored confirmations."""
        ...

    def open_intents(self, order_id: str) -> tuple[Intent, ...]:
        """The order's intents that have no answer yet, read without a lock."""
        ...

    def reviews(self) -> tuple[Review, ...]:
        """All open reviews, oldest first."""
        ...

    def due(self, before: datetime, limit: int, ended_since: datetime) -> Iterable[str]:
        """References that a sweep must ask about, the least recently asked first, each once.

        Live attempts, open intents and unfinished refunds that were made before `before`; and attempts that have
        ended, if they were made after `ended_since`: a bank can still take money back, or get it late.
        """
        ...
