"""What a checkout asks of the shop's database: small, atomic, and without decisions.

A store opens transactions in which the shop's own hooks run too. It commits what it is told and decides nothing;
what must be unique (an event, a movement, a fulfilled order, a live attempt) is unique in the database.
Implementations run one conformance suite, `deposit_token_sdk.testing.stores`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import AbstractContextManager
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import field, frozen

from deposit_token_sdk import lifecycle
from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.lifecycle import History, RefundStage, Standing, Terms
from deposit_token_sdk.models import LONGEST_NAME, Bearer, Capture, Confirmation, Quote
from deposit_token_sdk.money import Money
from deposit_token_sdk.offers.policy import Ruling

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.books import Booked
    from deposit_token_sdk.checkout.seal import Seals


def require_names(**names: str) -> None:
    """Refuse what no database finds rows by. Raises InvalidInput (``text_too_long``, ``not_unicode``), naming it."""
    for name, text in names.items():
        try:
            length = len(text.encode())
        except UnicodeEncodeError:
            raise InvalidInput("not_unicode", f"{name} holds half a character (a lone surrogate).") from None
        if length > LONGEST_NAME:
            told = f"{name} has {length} bytes of UTF-8 where {LONGEST_NAME} are allowed: {text[:40]!r}…"
            raise InvalidInput("text_too_long", told)


class Verb(StrEnum):
    """The steps at a bank that an intent is written for."""

    START = "start"
    CAPTURE = "capture"
    CANCEL = "cancel"
    REFUND = "refund"
    COLLECT = "collect"


@frozen
class Attempt:
    """One try to have an order paid. `reference` is what the bank knows it by; `ended` says why it is live no more.

    `quote` is None until the bank has quoted, `invoice` (the bank's id) until it has invoiced. `ruling` is why the
    token could be offered.
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
    ruling: Ruling | None = None
    history: History = field(factory=History)

    @property
    def standing(self) -> Standing | None:
        """What the bank has shown amounts to; None before there is a quote."""
        if self.quote is None:
            return None
        return lifecycle.standing(self.history, Terms(self.quote.due, self.quote.expires_at))


@frozen
class Refusal:
    """A token that was not offered for an order: nothing was written for it but this. The same again is the same."""

    order_id: str
    token: str
    buyer_country: str
    ruling: Ruling
    at: datetime


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

    The idempotency keys are those of the calls (a start makes two); behind a collection's stands the account's name.
    `attempt` is the reference of the attempt.
    """

    verb: Verb
    subject: str
    attempt: str
    keys: tuple[str, ...]
    made_at: datetime


@frozen
class OrderRecord:
    """What is kept of an order, read at once and without a lock: its attempts and refunds, each oldest first.

    `paid_by` is the reference of the attempt that paid it, `intents` are those that have no answer yet.
    """

    attempts: tuple[Attempt, ...]
    paid_by: str | None
    refunds: tuple[RefundRecord, ...]
    intents: tuple[Intent, ...]


@frozen
class Review:
    """Something a person must look at. The triple of reference, reason and subject is unique.

    `number` is the row's running number, given by the database: 0 before that, and no part of what is compared.
    """

    order_id: str
    reference: str
    reason: str
    subject: str
    detail: str
    opened_at: datetime
    number: int = field(default=0, eq=False)


class Verdict(StrEnum):
    """What can be decided about a review: send the money back, take it as it is, or look at the news again."""

    REFUND = "refund"
    ACCEPT = "accept"
    RETRY = "retry"


@frozen
class Decision:
    """What a person decided about a review; never changed, never deleted, one for each review.

    `review` is the review's number and `by` who decided: ``deposit-token`` where the checkout closed it itself.
    `refund` is the reference of the refund that came of it.
    """

    review: int
    verdict: Verdict
    by: str
    note: str
    at: datetime
    refund: str | None = None


@frozen
class Outgoing:
    """Work that cannot be in the transaction (a mail, a warehouse): done at least once, under a key that stays.

    `payload` is JSON text. It is to be tried at `due_at`; `tries` counts the times that somebody took it, `error` is
    what the last try said, and from `dead_at` on it is tried no more until a person says so.
    """

    key: str
    topic: str
    payload: str
    order_id: str
    made_at: datetime
    due_at: datetime
    tries: int = 0
    error: str | None = None
    dead_at: datetime | None = None


@frozen
class Inbox:
    """A message of the bank as it is claimed: `key` is the event's id or a digest, `digest` that of its content.

    `outcome` is what is noted beside it, until `Tx.record` says otherwise.
    """

    issuer: str
    key: str
    digest: str
    reference: str
    received_at: datetime
    body: str = ""
    outcome: str | None = None


POLLED: Final = "poll:"
"""What the key of a message begins with that the bank was asked for; any other came by itself."""

MOVED: Final = "applied:moved"
"""The outcome of an answer that showed something new."""

TESTED: Final = "nothing_to_apply:test.ping"
"""The outcome of a webhook that the bank was asked to send, to see whether it arrives."""


@frozen
class Vitals:
    """What health is worked out from. Times are those of the oldest, None where there is none.

    `last_events` names of each issuer when its last webhook came, and whether that was a test; `unheard` are
    references that an answer moved and of which no webhook told, the first hundred.
    """

    last_events: tuple[tuple[str, datetime, bool], ...]
    unheard: tuple[str, ...]
    open_intents: int
    oldest_intent: datetime | None
    oldest_due: datetime | None
    open_reviews: int
    oldest_review: datetime | None


class Tx(Protocol):
    """One open transaction in the shop's database. Each method has written, for all that is read here; none commits."""

    @property
    def session(self) -> Any:
        """What the shop's hooks are given to write through (SQLAlchemy: the shop's own Session)."""
        ...

    def claim(self, message: Inbox) -> str | None:
        """Insert the message; None if it is new, else the digest under which it is known. The first statement."""
        ...

    def record(self, issuer: str, key: str, outcome: str) -> None:
        """Note what became of a claimed message, where it is not what was noted when it was claimed."""
        ...

    def unclaim(self, issuer: str, key: str) -> None:
        """Forget a claimed message, so that the same one is looked at again."""
        ...

    def flush(self) -> None:
        """Have written what hooks have only put into the session, so that what is wrong with it is theirs."""
        ...

    def refuse(self, refusal: Refusal) -> bool:
        """Keep why a token was not offered; False if the same stands already. May be the first statement."""
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

    def watch(self, reference: str, due_at: datetime | None) -> None:
        """When a sweep is to ask the bank about this attempt next (`Store.take_due`); None: no more.

        A new attempt is due when it was made. Whatever opens something at the bank makes its attempt due as well: an
        intent or a refund that is added or renewed, when that was made; a refund that is saved as unfinished and of
        whose attempt nothing is due, when the refund was made.
        """
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
        """Insert; False if it stands already. The number is the database's to give."""
        ...

    def review(self, number: int) -> Review | None:
        """The review of this number, open or decided. Lock its order before you act on it."""
        ...

    def open_reviews(self, reference: str) -> tuple[Review, ...]:
        """The reviews of this attempt about which nothing is decided, oldest first."""
        ...

    def decide(self, decision: Decision) -> bool:
        """Insert; False if the review has a decision already. It is open no more."""
        ...

    def decision(self, number: int) -> Decision | None:
        """What was decided about the review of this number."""
        ...

    def put(self, message: Outgoing) -> bool:
        """Insert what is to go out once the transaction is committed; False if the key stands already."""
        ...

    def sent(self, key: str, at: datetime) -> None:
        """It went out: it is taken no more, and is no dead letter, though somebody gave it up meanwhile."""
        ...

    def put_off(self, key: str, due_at: datetime, error: str) -> None:
        """The try failed; the next is at `due_at`. What was sent or buried meanwhile stays so."""
        ...

    def bury(self, key: str, at: datetime, error: str) -> None:
        """The last try failed: it is tried no more, and a person is shown it."""
        ...

    def revive(self, key: str, at: datetime) -> bool:
        """Have a dead one tried again, from `at` on and as if for the first time; False if it is not dead."""
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

    @property
    def seals(self) -> Seals:
        """The sealer's side of it: rows not sealed yet, seals, and what is erased by age."""
        ...

    def begin(self) -> AbstractContextManager[Tx]:
        """A transaction: committed at the end of the block, rolled back by an exception."""
        ...

    def installation(self) -> str:
        """The random id of this shop's database (8 lower-case letters and digits), made at the first call."""
        ...

    def attempt(self, reference: str) -> Attempt | None:
        """The attempt, read without a lock."""
        ...

    def order(self, order_id: str) -> OrderRecord:
        """What is kept of the order; of one that is not known, nothing."""
        ...

    def refusals(self, order_id: str) -> tuple[Refusal, ...]:
        """Which tokens were not offered for the order, and why, oldest first."""
        ...

    def evidence(self, order_id: str) -> tuple[Confirmation, ...]:
        """The order's stored confirmations."""
        ...

    def reviews(self) -> tuple[Review, ...]:
        """The reviews about which nothing is decided, oldest first."""
        ...

    def review(self, number: int) -> tuple[Review, Decision | None] | None:
        """The review of this number, and what was decided about it."""
        ...

    def all_reviews(self, order_id: str | None = None, limit: int = 500) -> tuple[tuple[Review, Decision | None], ...]:
        """Reviews with what was decided about each, the newest `limit` of them, newest first; of one order or all."""
        ...

    def within(self, session: Any) -> Tx:
        """The transaction that is open in a session, which a hook was given: what it writes is part of that."""
        ...

    def take_due(self, before: datetime, now: datetime, limit: int) -> tuple[str, ...]:
        """References that a sweep must ask about: those due at `before` or earlier, the longest due first.

        They are claimed, which is committed: each is due at `now` from then on. So of many workers no two are told
        the same one, until somebody asks for a `before` that is not earlier than `now`.
        """
        ...

    def take_outgoing(
        self, now: datetime, until: datetime, limit: int, topics: Collection[str] | None = None
    ) -> tuple[Outgoing, ...]:
        """What is to go out and is due, the longest due first, as it is when claimed, which is committed.

        Of these topics alone, or of any. Each has one try more and is due again at `until`: a worker that dies leaves
        it to the next one.
        """
        ...

    def abandon(self) -> None:
        """Roll back what the shop's code has left in a session that this thread shares with it; else nothing.

        Never inside `begin`. It is for what an outbox handler left behind when it raised.
        """
        ...

    def dead_letters(self, limit: int = 500) -> tuple[Outgoing, ...]:
        """What is tried no more, the longest dead first."""
        ...

    def overdue_topics(self, before: datetime) -> tuple[str, ...]:
        """The topics, by name, of what waits to go out and has been due since `before` or longer."""
        ...

    def outgoing_depth(self) -> tuple[int, datetime | None, int]:
        """How many wait to go out, when the first of them is due, and how many are dead."""
        ...

    def vitals(self, issuers: Iterable[str], since: datetime, until: datetime) -> Vitals:
        """The figures of `checkout.health`: what is unheard is looked for from `since` until `until`."""
        ...

    def moved_within(self, issuer: str, begin: datetime, end: datetime) -> tuple[str, ...]:
        """References of the issuer's attempts of which the bank accepted something from `begin` until before `end`,
        or which were fulfilled or asked back then; each once. A fulfilment without an attempt is every issuer's."""
        ...

    def booked(self, references: Iterable[str]) -> tuple[Booked, ...]:
        """What is kept of these attempts, in the order given; of a reference that is not there, nothing."""
        ...

    def heard(self, issuer: str, key: str) -> str | None:
        """What became of the bank's message of this id; None where it never came."""
        ...
