"""What the day's report reads of the shop's tables, many attempts at a time: no query an attempt, and nothing written.

A confirmation's time of acceptance is indexed; fulfilments and refunds are narrow rows, of which a day's are found
in passing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from attrs import evolve
from sqlalchemy import exists, select, union

from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.books import Booked
from deposit_token_sdk.checkout.sql_tx import SqlTx, attempt_of
from deposit_token_sdk.checkout.store import Attempt, RefundRecord
from deposit_token_sdk.lifecycle import History, Observation, Word
from deposit_token_sdk.models import StatementKind


def moved_within(tx: SqlTx, issuer: str, begin: datetime, end: datetime) -> tuple[str, ...]:
    """References of the issuer's attempts of which something was accepted, fulfilled or asked back in that time.

    A fulfilment whose attempt is lost is named for every issuer.
    """
    since, until = t.as_text(begin), t.as_text(end)
    accepted = select(t.evidence.c.attempt).where(
        t.evidence.c.accepted_at >= since, t.evidence.c.accepted_at < until, t.evidence.c.issuer == issuer
    )
    elsewhere = exists().where(t.attempts.c.reference == t.fulfilments.c.reference, t.attempts.c.issuer != issuer)
    fulfilled = select(t.fulfilments.c.reference).where(
        t.fulfilments.c.at >= since, t.fulfilments.c.at < until, ~elsewhere
    )
    mine = exists().where(t.attempts.c.reference == t.refunds.c.attempt, t.attempts.c.issuer == issuer)
    refunded = select(t.refunds.c.attempt).where(t.refunds.c.created_at >= since, t.refunds.c.created_at < until, mine)
    return tuple(tx.session.execute(union(accepted, fulfilled, refunded)).scalars())


def booked(tx: SqlTx, references: Iterable[str]) -> tuple[Booked, ...]:
    """What is kept of these attempts, in the order given; of what is not there, nothing."""
    named = tuple(references)
    attempts = _attempts(tx, named)
    refunds = _listed(tx, t.refunds, t.refunds.c.attempt, named)
    orders = {row["order_id"] for row in attempts.values()}
    payers = {row["order_id"]: row for row in _rows(tx, t.fulfilments, t.fulfilments.c.order_id, orders)}
    lost = [reference for reference in named if reference not in attempts]
    paid = {row["reference"]: row for row in _rows(tx, t.fulfilments, t.fulfilments.c.reference, lost)}
    reviews = _listed(tx, t.reviews, t.reviews.c.reference, named)
    refunded = _refunded(tx, named)
    seen = _listed(tx, t.observations, t.observations.c.reference, named)
    said = _listed(tx, t.words, t.words.c.reference, named)
    found = []
    for reference in named:
        row = attempts.get(reference)
        order = paid.get(reference) if row is None else payers.get(row["order_id"])
        if row is not None:
            attempt = _attempt(row, seen[reference], said[reference])
            found.append(_booked(reference, attempt.order_id, attempt, order))
        elif order is not None:
            found.append(_booked(reference, order["order_id"], None, order))
    return tuple(
        evolve(
            each,
            refunds=tuple(t.from_row(RefundRecord, row) for row in refunds[each.reference]),
            reviews=tuple(row["reason"] for row in reviews[each.reference]),
            refunded_at=refunded[each.reference],
        )
        for each in found
    )


def heard(tx: SqlTx, issuer: str, key: str) -> str | None:
    """What became of the message of this id; None where it never came."""
    mine = (t.events.c.issuer == issuer, t.events.c.key == key)
    row = tx.session.execute(select(t.events.c.outcome).where(*mine)).first()
    return None if row is None else str(row.outcome or "")


def _booked(reference: str, order_id: str, attempt: Attempt | None, order: t.Row | None) -> Booked:
    if order is None:
        return Booked(reference, order_id, attempt)
    paid_at = datetime.fromisoformat(order["at"])
    return Booked(reference, order_id, attempt, paid_by=order["reference"], paid_at=paid_at)


def _attempts(tx: SqlTx, references: tuple[str, ...]) -> dict[str, Any]:
    return {row["reference"]: row for row in _rows(tx, t.attempts, t.attempts.c.reference, references)}


def _attempt(row: Any, seen: list[Any], said: list[Any]) -> Attempt:
    observations = frozenset(t.from_row(Observation, each) for each in seen)
    return attempt_of(row, History(observations, frozenset(Word(each["word"]) for each in said)))


def _refunded(tx: SqlTx, references: tuple[str, ...]) -> defaultdict[str, dict[str, datetime]]:
    """When each refund was accepted, by attempt and reference: the earliest, should a statement be signed again."""
    columns = (t.evidence.c.attempt, t.evidence.c.refund_reference, t.evidence.c.accepted_at)
    mine = (t.evidence.c.attempt.in_(references), t.evidence.c.kind == StatementKind.REFUND.value)
    found: defaultdict[str, dict[str, datetime]] = defaultdict(dict)
    for attempt, refund, accepted in tx.session.execute(select(*columns).where(*mine)):
        at = datetime.fromisoformat(accepted)
        found[attempt][refund] = min(found[attempt].get(refund, at), at)
    return found


def _listed(tx: SqlTx, table: Any, column: Any, values: Iterable[str]) -> defaultdict[str, list[Any]]:
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for row in _rows(tx, table, column, values):
        found[row[column.name]].append(row)
    return found


def _rows(tx: SqlTx, table: Any, column: Any, values: Iterable[str]) -> list[Any]:
    wanted = list(values)
    if not wanted:
        return []
    chosen = select(table).where(column.in_(wanted))
    ordered = chosen.order_by(table.c.number) if "number" in table.c else chosen
    return list(tx.session.execute(ordered).mappings())
