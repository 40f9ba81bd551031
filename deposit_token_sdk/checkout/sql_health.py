"""The figures that `checkout.health` needs of the tables, each by an index and none by counting what is done with."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select

from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.sql_tx import SqlTx
from deposit_token_sdk.checkout.store import MOVED, POLLED, TESTED, Vitals

_MOST_NAMED = 100


def vitals(tx: SqlTx, issuers: Sequence[str], since: datetime, until: datetime) -> Vitals:
    """The figures now; invoices that moved without a webhook are looked for from `since` until `until`."""
    execute = tx.session.execute
    intents = select(func.count(), func.min(t.intents.c.made_at)).where(t.intents.c.answered_at.is_(None))
    due = select(func.min(t.attempts.c.due_at)).where(t.attempts.c.due_at.is_not(None))
    both = t.reviews.outerjoin(t.decisions, t.decisions.c.review == t.reviews.c.number)
    reviews = select(func.count(), func.min(t.reviews.c.opened_at)).select_from(both)
    open_intents, oldest_intent = execute(intents).one()
    open_reviews, oldest_review = execute(reviews.where(t.decisions.c.review.is_(None))).one()
    return Vitals(
        last_events=_last_events(tx, issuers),
        unheard=_unheard(tx, issuers, since, until),
        open_intents=open_intents,
        oldest_intent=_time(oldest_intent),
        oldest_due=_time(execute(due).scalar()),
        open_reviews=open_reviews,
        oldest_review=_time(oldest_review),
    )


def _last_events(tx: SqlTx, issuers: Sequence[str]) -> tuple[tuple[str, datetime, bool], ...]:
    """Of each issuer the last webhook, found from the newest row back."""
    found = []
    for issuer in issuers:
        events = select(t.events.c.received_at, t.events.c.outcome).where(t.events.c.issuer == issuer)
        webhooks = events.where(t.events.c.key.not_like(f"{POLLED}%")).order_by(t.events.c.received_at.desc())
        last = tx.session.execute(webhooks.limit(1)).first()
        if last is not None:
            found.append((issuer, datetime.fromisoformat(last.received_at), last.outcome == TESTED))
    return tuple(found)


def _unheard(tx: SqlTx, issuers: Sequence[str], since: datetime, until: datetime) -> tuple[str, ...]:
    """References that an answer moved in this time, and of which no webhook has told since it began."""
    polled = t.events.c.key.like(f"{POLLED}%")
    of_late = (t.events.c.issuer.in_(issuers), t.events.c.received_at >= t.as_text(since))
    told = select(t.events.c.reference).where(*of_late, ~polled)
    moved = select(t.events.c.reference).where(
        *of_late, t.events.c.received_at <= t.as_text(until), polled, t.events.c.outcome == MOVED
    )
    unheard = moved.where(t.events.c.reference.not_in(told)).distinct().order_by(t.events.c.reference)
    return tuple(tx.session.execute(unheard.limit(_MOST_NAMED)).scalars())


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
