"""How the checkout fares, worked out from the shop's own tables: is somebody doing the work that waits?

The database is read and nothing else: the bank is not asked, and no clock but the shop's is compared (`deposit-token
doctor` does both). What counts as a problem is decided by `problems`, a pure function over the figures, whose limits
stand below. A problem is for people: nothing that the checkout does depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import frozen

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.store import Store

WINDOW: Final = timedelta(days=1)
"""How far back invoices are looked for that moved without a webhook."""

WEBHOOK_WITHIN: Final = timedelta(minutes=15)
"""How long a bank has to tell by webhook what the shop has already learnt by asking."""

ANSWERED_WITHIN: Final = timedelta(minutes=10)
"""How long a call to the bank may be without a known outcome."""

SWEPT_WITHIN: Final = timedelta(hours=2)
"""How long an attempt that is due to be asked about may wait for a sweep."""

SENT_WITHIN: Final = timedelta(minutes=10)
"""How long after its time a message of the outbox may wait for somebody to take it."""

SEALED_WITHIN: Final = timedelta(hours=2)
"""How long a row of evidence may stand without a seal."""


@frozen
class Problem:
    """Something is not as it should be: a stable `reason`, the figures, and what to do about it."""

    reason: str
    detail: str
    advice: str


@frozen
class LastEvent:
    """When a bank's last genuine webhook came; None if none ever did. `test`: it was one that was asked for."""

    issuer: str
    at: datetime | None
    test: bool = False


@frozen
class Health:
    """The figures as they were at `at`. Times are those of the oldest one, None where there is none.

    `unheard` are references of invoices that moved in the last day and of which only asking told: no webhook came.
    `oldest_due` is since when an attempt waits to be asked about, `oldest_outgoing` since when a message could go out,
    and `overdue_topics` are those of messages that could have for longer than the limit.
    """

    at: datetime
    last_events: tuple[LastEvent, ...] = ()
    unheard: tuple[str, ...] = ()
    open_intents: int = 0
    oldest_intent: datetime | None = None
    oldest_due: datetime | None = None
    outgoing: int = 0
    oldest_outgoing: datetime | None = None
    overdue_topics: tuple[str, ...] = ()
    dead_letters: int = 0
    open_reviews: int = 0
    oldest_review: datetime | None = None
    unsealed: int = 0
    oldest_unsealed: datetime | None = None

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is beyond its limit, the most urgent first; empty if all is well."""
        return problems(self)


def look(store: Store, issuers: Iterable[str], now: datetime) -> Health:
    """The figures, read without a lock."""
    names = tuple(issuers)
    vitals = store.vitals(names, now - WINDOW, now - WEBHOOK_WITHIN)
    outgoing, oldest_outgoing, dead = store.outgoing_depth()
    unsealed, oldest_unsealed = store.seals.waiting()
    told = {issuer: (at, test) for issuer, at, test in vitals.last_events}
    return Health(
        at=now,
        last_events=tuple(LastEvent(issuer, *told.get(issuer, (None, False))) for issuer in names),
        unheard=vitals.unheard,
        open_intents=vitals.open_intents,
        oldest_intent=vitals.oldest_intent,
        oldest_due=vitals.oldest_due,
        outgoing=outgoing,
        oldest_outgoing=oldest_outgoing,
        overdue_topics=store.overdue_topics(now - SENT_WITHIN) if outgoing else (),
        dead_letters=dead,
        open_reviews=vitals.open_reviews,
        oldest_review=vitals.oldest_review,
        unsealed=unsealed,
        oldest_unsealed=oldest_unsealed,
    )


def problems(health: Health) -> tuple[Problem, ...]:
    """What is beyond its limit, the most urgent first. Pure."""
    return (*_of_people(health), *_of_news(health), *_of_work(health))


def _of_people(health: Health) -> Iterator[Problem]:
    """What waits for a person, however short its wait."""
    if health.open_reviews:
        yield Problem(
            "reviews_open",
            f"{health.open_reviews} {_one(health.open_reviews, 'review waits', 'reviews wait')} for a decision, "
            f"the oldest for {_age(health.at, health.oldest_review)}.",
            "List them with `deposit-token review`, and decide each: refund, accept or retry.",
        )
    if health.dead_letters:
        yield Problem(
            "dead_letters",
            f"{health.dead_letters} {_one(health.dead_letters, 'message', 'messages')} of the outbox could not be sent "
            f"and {_one(health.dead_letters, 'is', 'are')} tried no more.",
            "See why with `deposit-token outbox`, mend it, and send them again.",
        )


def _of_news(health: Health) -> Iterator[Problem]:
    if health.unheard:
        named = ", ".join(health.unheard[:3]) + (" and more" if len(health.unheard) > 3 else "")
        last = "; ".join(
            f"{event.issuer}: {'none ever' if event.at is None else _age(health.at, event.at) + ' ago'}"
            for event in health.last_events
        )
        yield Problem(
            "webhooks_missing",
            f"{len(health.unheard)} {_one(len(health.unheard), 'invoice', 'invoices')} moved in the last day and no "
            f"webhook told of it ({named}). Last webhook of {last}.",
            "Run `deposit-token doctor`: it has the bank send a test event to the address and says what answered.",
        )
    if _older(health, health.oldest_intent, ANSWERED_WITHIN):
        yield Problem(
            "intents_unanswered",
            f"{health.open_intents} {_one(health.open_intents, 'call', 'calls')} to the bank without a known outcome, "
            f"the oldest for {_age(health.at, health.oldest_intent)}.",
            "Run `deposit-token reconcile`: it asks the bank about each, and says why where that fails.",
        )


def _of_work(health: Health) -> Iterator[Problem]:
    worker = "Is `deposit-token worker`, or the Celery worker, running?"
    if _older(health, health.oldest_due, SWEPT_WITHIN):
        yield Problem(
            "sweep_behind",
            f"Attempts have been due to be asked about for {_age(health.at, health.oldest_due)}.",
            f"Nobody sweeps, or too slowly. {worker}",
        )
    if _older(health, health.oldest_outgoing, SENT_WITHIN):
        yield Problem(
            "outbox_behind",
            f"{health.outgoing} {_one(health.outgoing, 'message waits', 'messages wait')} in the outbox, the first of "
            f"them due for {_age(health.at, health.oldest_outgoing)} (topics: {', '.join(health.overdue_topics)}).",
            f"Nobody sends, or too slowly, or nobody has a handler for the topic. {worker} Are the handlers registered "
            f"in it?",
        )
    if _older(health, health.oldest_unsealed, SEALED_WITHIN):
        yield Problem(
            "evidence_unsealed",
            f"{health.unsealed} {_one(health.unsealed, 'row', 'rows')} of evidence without a seal, the oldest for "
            f"{_age(health.at, health.oldest_unsealed)}.",
            f"Nobody seals, or too slowly. {worker}",
        )


def _older(health: Health, since: datetime | None, limit: timedelta) -> bool:
    return since is not None and health.at - since > limit


def _one(count: int, singular: str, plural: str) -> str:
    return singular if count == 1 else plural


def _age(now: datetime, since: datetime | None) -> str:
    """In the largest unit that fits, for people: ``3 hours``."""
    seconds = 0 if since is None else max(0, int((now - since).total_seconds()))
    for size, name in ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if seconds >= size:
            return f"{seconds // size} {name}{'' if seconds // size == 1 else 's'}"
    return "a moment"
