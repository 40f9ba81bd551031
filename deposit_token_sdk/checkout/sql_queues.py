"""What waits in the database for somebody: attempts to ask about, work to send out, reviews to decide.

Any number of workers take from these at once. What one has taken is moved to a later time in the same transaction,
and what another has locked is passed over, so no two are given the same row and none waits for the other; a worker
that dies leaves what it took to the next. On SQLite, which has one writer, they take turns.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime

from attrs import evolve
from sqlalchemy import ColumnElement, func, select, text, true, update

from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.sql_tx import SqlTx
from deposit_token_sdk.checkout.store import Decision, Outgoing, Review


def take_due(tx: SqlTx, before: datetime, now: datetime, limit: int) -> tuple[str, ...]:
    """References of attempts that are due, the longest due first; each is due at `now` from then on."""
    tx.write_first()
    due = select(t.attempts.c.reference).where(t.attempts.c.due_at <= t.as_text(before))
    longest = due.order_by(t.attempts.c.due_at, t.attempts.c.number).limit(limit).with_for_update(skip_locked=True)
    taken = tuple(tx.session.execute(longest).scalars())
    if taken:
        tx.session.execute(
            update(t.attempts).where(t.attempts.c.reference.in_(taken)).values(due_at=t.as_text(now)),
            execution_options={"synchronize_session": False},
        )
    return taken


def take_outgoing(
    tx: SqlTx, now: datetime, until: datetime, limit: int, topics: Collection[str] | None
) -> tuple[Outgoing, ...]:
    """What is to go out and is due, the longest due first; each with one try more, and due again at `until`."""
    tx.write_first()
    these = true() if topics is None else t.outgoing.c.topic.in_(topics)
    due = select(t.outgoing).where(t.outgoing.c.due_at <= t.as_text(now), text(t.WAITING), these)
    longest = due.order_by(t.outgoing.c.due_at, t.outgoing.c.key).limit(limit).with_for_update(skip_locked=True)
    taken = tuple(
        evolve(message, tries=message.tries + 1, due_at=until)
        for message in _outgoing(tx.session.execute(longest).mappings().all())
    )
    for message in taken:
        mine = update(t.outgoing).where(t.outgoing.c.key == message.key)
        tx.session.execute(mine.values(tries=str(message.tries), due_at=t.as_text(until)))
    return taken


def dead_letters(tx: SqlTx, limit: int) -> tuple[Outgoing, ...]:
    """What is tried no more, the longest dead first."""
    dead = select(t.outgoing).where(t.outgoing.c.dead_at.is_not(None))
    longest = dead.order_by(t.outgoing.c.dead_at, t.outgoing.c.key).limit(limit)
    return _outgoing(tx.session.execute(longest).mappings())


def overdue_topics(tx: SqlTx, before: datetime) -> tuple[str, ...]:
    """The topics of what waits and has been due since then or longer."""
    overdue = select(t.outgoing.c.topic).where(t.outgoing.c.due_at <= t.as_text(before), text(t.WAITING))
    return tuple(tx.session.execute(overdue.distinct().order_by(t.outgoing.c.topic)).scalars())


def depth(tx: SqlTx) -> tuple[int, datetime | None, int]:
    """How many wait to go out, when the first of them is due, and how many are dead."""
    waiting = select(func.count(), func.min(t.outgoing.c.due_at)).select_from(t.outgoing).where(text(t.WAITING))
    dead = select(func.count()).select_from(t.outgoing).where(t.outgoing.c.dead_at.is_not(None))
    count, first = tx.session.execute(waiting).one()
    return count, None if first is None else datetime.fromisoformat(first), tx.session.execute(dead).scalar_one()


def reviews(
    tx: SqlTx, which: ColumnElement[bool], newest: int | None = None
) -> tuple[tuple[Review, Decision | None], ...]:
    """The reviews of this condition and what was decided about each: oldest first, or so many of the newest first."""
    both = t.reviews.outerjoin(t.decisions, t.decisions.c.review == t.reviews.c.number)
    found = select(t.reviews, t.decisions).select_from(both).where(which)
    number = t.reviews.c.number
    ordered = found.order_by(number) if newest is None else found.order_by(number.desc()).limit(newest)
    return tuple(
        (t.from_row(Review, row), None if row["review"] is None else t.from_row(Decision, row))
        for row in tx.session.execute(ordered).mappings()
    )


def _outgoing(rows: Iterable[t.Row]) -> tuple[Outgoing, ...]:
    return tuple(t.from_row(Outgoing, row) for row in rows)
