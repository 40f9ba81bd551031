"""One open transaction of the checkout's store on SQLAlchemy: `SqlTx`, the verbs that every other room writes by.

It writes what it is told through the session that the shop's hooks are given, and decides nothing. What must be
unique is so by a constraint, and whether an insert was new is told by RETURNING, which holds on SQLite and
PostgreSQL alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from attrs import define, field, frozen
from sqlalchemy import ColumnElement, Connection, Table, literal_column, select, update
from sqlalchemy.orm import Session

from deposit_token_sdk.checkout import sql_driver as driver
from deposit_token_sdk.checkout import sql_session as own
from deposit_token_sdk.checkout import sql_statements as sql
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.decisions import UNFINISHED
from deposit_token_sdk.checkout.store import (
    Attempt,
    Decision,
    Inbox,
    Intent,
    OrderRecord,
    Outgoing,
    RefundRecord,
    Refusal,
    Review,
    Verb,
)
from deposit_token_sdk.errors import NotAllowed
from deposit_token_sdk.lifecycle import History, Observation, RefundStage, Word
from deposit_token_sdk.models import Confirmation, Quote
from deposit_token_sdk.offers.policy import Ruling


@define(eq=False)
class _Memory:
    """What was read of an order when it was locked, so that nobody else can have added to it since.

    `locked` is the reference whose order was locked with the claim of a message: on SQLite that locks everything.
    `paid_by` is by order; the others are references of attempts that have no refund, no review, no open intent.
    """

    dialect: str = ""
    connection: Connection | None = None
    locked: str | None = None
    paid_by: dict[str, str | None] = field(factory=dict)
    unrefunded: set[str] = field(factory=set)
    unreviewed: set[str] = field(factory=set)
    unintended: set[str] = field(factory=set)

    def read(self, row: t.Row) -> None:
        """Remember what a row of `sql_statements.histories` says."""
        self.paid_by[row["order_id"]] = row["paid_by"]
        if not row["refunds"]:
            self.unrefunded.add(row["reference"])
        if not row["reviews"]:
            self.unreviewed.add(row["reference"])
        if not row["intents"]:
            self.unintended.add(row["reference"])


@frozen
class SqlTx:
    """One open transaction (`store.Tx`). `session` is the shop's own: what hooks write through it is part of it.

    With `batched`, on PostgreSQL, writes whose answer is known beforehand wait until something else is to be run, and
    go there as one statement; `settle` must then be called before the commit.
    """

    _session: Session
    _batched: bool = False
    _memory: _Memory = field(factory=_Memory, init=False, eq=False, repr=False)
    _waiting: list[tuple[sql.Write, sql.Values]] = field(factory=list, init=False, eq=False, repr=False)

    @property
    def session(self) -> Session:
        """The shop's session, everything that this transaction was told being written."""
        if self._waiting:
            self.settle()
        return self._session

    def settle(self) -> None:
        """Write what waits. Raises NotAllowed (``written_meanwhile``) where something stood that could not."""
        waiting = self._waiting.copy()
        self._waiting.clear()
        if waiting:
            writes = tuple(write for write, _ in waiting)
            counts = self._run(sql.together(writes), sql.parameters(waiting))[0]
            for write, count in zip(writes, counts, strict=True):
                if write.fresh and count != write.rows:
                    raise _written_meanwhile(write.table)

    def claim(self, message: Inbox) -> str | None:
        row = t.as_row(t.events, message)
        if self.dialect == "sqlite":
            new = self.insert(t.events, row, "issuer", "key")
        else:
            row |= sql.old({"reference": message.reference})
            new, locked = self._run(sql.claiming(), row)[0]
            if new and not locked:
                return None
        if new:
            self._memory.locked = message.reference
            return None
        return str(self._value(t.events, "digest", issuer=message.issuer, key=message.key))

    def record(self, issuer: str, key: str, outcome: str) -> None:
        self._update(t.events, {"issuer": issuer, "key": key}, outcome=outcome)

    def unclaim(self, issuer: str, key: str) -> None:
        mine = {"issuer": issuer, "key": key}
        self.session.execute(sql.deleting(t.events, tuple(mine)), sql.old(mine))

    def flush(self) -> None:
        self._session.flush()

    def refuse(self, refusal: Refusal) -> bool:
        ruling = refusal.ruling
        return self.insert(t.refusals, t.as_row(t.refusals, refusal, reason=ruling.reason, ruling=t.as_json(ruling)))

    def add_attempt(self, attempt: Attempt) -> bool:
        live = attempt.order_id if attempt.ended is None else None
        ruling = None if attempt.ruling is None else t.as_json(attempt.ruling)
        given = {"live_order": live, "ruling": ruling, "quote": None, "due_at": t.as_text(attempt.created_at)}
        row = t.as_row(t.attempts, attempt, **given)
        if not self.insert(t.attempts, row, "live_order"):
            return False
        if attempt.quote is not None:
            self.save_quote(attempt.reference, attempt.quote)
        self.add_observations(attempt.reference, attempt.history)
        return True

    def lock_order(self, order_id: str) -> tuple[Attempt, ...]:
        return self._locked("order_id", order_id)

    def lock_attempt(self, reference: str) -> tuple[Attempt, ...]:
        return self._locked("reference", reference)

    def watch(self, reference: str, due_at: datetime | None) -> None:
        self._update(t.attempts, {"reference": reference}, due_at=t.as_text(due_at))

    def save_quote(self, reference: str, quote: Quote) -> None:
        told = {"quote": t.as_json(quote, without="statement"), "statement": quote.statement}
        self._update(t.attempts, {"reference": reference}, "quote", **told)

    def save_invoice(self, reference: str, invoice: str, pay_url: str | None, instructions: str | None) -> None:
        told = {"invoice": invoice, "pay_url": pay_url, "instructions": instructions}
        self._update(t.attempts, {"reference": reference}, **told)

    def end_attempt(self, reference: str, why: str) -> None:
        self._update(t.attempts, {"reference": reference}, "ended", ended=why, live_order=None)

    def add_observations(self, reference: str, shown: History) -> None:
        seen = [t.as_row(t.observations, one, reference=reference) for one in shown.observations]
        self._insert(t.observations, seen)
        self._insert(t.words, [{"reference": reference, "word": word.value} for word in shown.words])

    def claim_movement(self, issuer: str, movement: str, reference: str) -> str:
        row: dict[str, str | None] = {"issuer": issuer, "movement": movement, "reference": reference}
        if self.insert(t.movements, row, "issuer", "movement"):
            return reference
        return str(self._value(t.movements, "reference", issuer=issuer, movement=movement))

    def keep_evidence(self, reference: str, confirmation: Confirmation) -> None:
        digest = sha256(confirmation.evidence.content.encode()).hexdigest()
        row = t.as_row(t.evidence, confirmation, confirmation.evidence, attempt=reference, digest=digest)
        self._insert(t.evidence, [row])

    def fulfil(self, order_id: str, reference: str, at: datetime) -> bool:
        row = {"order_id": order_id, "reference": reference, "at": t.as_text(at)}
        if self._memory.paid_by.pop(order_id, "") is None and self._waits:
            self._insert(t.fulfilments, [row], fresh=True)
            return True
        return self.insert(t.fulfilments, row, "order_id")

    def fulfilled_by(self, order_id: str) -> str | None:
        if order_id in self._memory.paid_by:
            return self._memory.paid_by[order_id]
        return self._value(t.fulfilments, "reference", order_id=order_id)

    def open_review(self, review: Review) -> bool:
        self._memory.unreviewed.discard(review.reference)
        return self.insert(t.reviews, t.as_row(t.reviews, review), "reference", "reason", "subject")

    def review(self, number: int) -> Review | None:
        found = self.session.execute(select(t.reviews).where(t.reviews.c.number == number)).mappings().first()
        return None if found is None else t.from_row(Review, found)

    def open_reviews(self, reference: str) -> tuple[Review, ...]:
        if reference in self._memory.unreviewed:
            return ()
        both = t.reviews.outerjoin(t.decisions, t.decisions.c.review == t.reviews.c.number)
        mine = (t.reviews.c.reference == reference, t.decisions.c.review.is_(None))
        found = select(t.reviews).select_from(both).where(*mine).order_by(t.reviews.c.number)
        return tuple(t.from_row(Review, row) for row in self.session.execute(found).mappings())

    def decide(self, decision: Decision) -> bool:
        return self.insert(t.decisions, {**t.as_row(t.decisions, decision), "review": decision.review})

    def decision(self, number: int) -> Decision | None:
        found = self.session.execute(select(t.decisions).where(t.decisions.c.review == number)).mappings().first()
        return None if found is None else t.from_row(Decision, found)

    def put(self, message: Outgoing) -> bool:
        return self.insert(t.outgoing, t.as_row(t.outgoing, message))

    def sent(self, key: str, at: datetime) -> None:
        self._update(t.outgoing, {"key": key}, "sent_at", sent_at=t.as_text(at), dead_at=None)

    def put_off(self, key: str, due_at: datetime, error: str) -> None:
        self._update(t.outgoing, {"key": key}, "sent_at", "dead_at", due_at=t.as_text(due_at), error=error)

    def bury(self, key: str, at: datetime, error: str) -> None:
        self._update(t.outgoing, {"key": key}, "sent_at", "dead_at", dead_at=t.as_text(at), error=error)

    def revive(self, key: str, at: datetime) -> bool:
        dead = (t.outgoing.c.key == key, t.outgoing.c.dead_at.is_not(None), t.outgoing.c.sent_at.is_(None))
        again = update(t.outgoing).where(*dead).values(dead_at=None, due_at=t.as_text(at), tries="0")
        return self.session.execute(again.returning(literal_column("1"))).first() is not None

    def add_intent(self, intent: Intent) -> bool:
        self._memory.unintended.discard(intent.attempt)
        added = self.insert(t.intents, t.as_row(t.intents, intent), "verb", "subject")
        if added:
            self.watch(intent.attempt, intent.made_at)
        return added

    def renew_intent(self, intent: Intent) -> None:
        self._memory.unintended.discard(intent.attempt)
        row = t.as_row(t.intents, intent, answered_at=None, outcome=None)
        self._update(t.intents, {"verb": intent.verb.value, "subject": intent.subject}, **row)
        self.watch(intent.attempt, intent.made_at)

    def answer_intent(self, verb: Verb, subject: str, outcome: str) -> None:
        mine = {"verb": verb.value, "subject": subject}
        self._update(t.intents, mine, "answered_at", answered_at=t.as_text(datetime.now(UTC)), outcome=outcome)

    def open_intents(self, attempt: str) -> tuple[Intent, ...]:
        if attempt in self._memory.unintended:
            return ()
        return self.find_intents(t.intents.c.attempt == attempt)

    def add_refund(self, refund: RefundRecord) -> RefundRecord | None:
        self._memory.unrefunded.discard(refund.attempt)
        if self.insert(t.refunds, t.as_row(t.refunds, refund), "request"):
            self.watch(refund.attempt, refund.created_at)
            return None
        return self.find_refunds(t.refunds.c.request == refund.request)[0]

    def refunds(self, attempt: str) -> tuple[RefundRecord, ...]:
        if attempt in self._memory.unrefunded:
            return ()
        return self.find_refunds(t.refunds.c.attempt == attempt)

    def save_refund(self, reference: str, stage: RefundStage, bank_id: str | None) -> None:
        known = {} if bank_id is None else {"bank_id": bank_id}
        self._update(t.refunds, {"reference": reference}, stage=stage.name, **known)
        if stage in UNFINISHED:
            mine = (
                select(t.refunds.c.attempt, t.refunds.c.created_at).where(t.refunds.c.reference == reference).subquery()
            )
            idle = (t.attempts.c.reference == mine.c.attempt, t.attempts.c.due_at.is_(None))
            self.session.execute(update(t.attempts).where(*idle).values(due_at=mine.c.created_at))

    def find_attempt(self, reference: str) -> Attempt | None:
        """The attempt with its history, read without a lock."""
        found = self._attempts("reference", reference, _Memory())
        return next((one for one in found if one.reference == reference), None)

    def find_refusals(self, order_id: str) -> tuple[Refusal, ...]:
        """The order's refusals, oldest first."""
        found = select(t.refusals).where(t.refusals.c.order_id == order_id)
        rows = self.session.execute(found.order_by(t.refusals.c.at, t.refusals.c.token)).mappings()
        return tuple(t.from_row(Refusal, row, ruling=t.from_json(Ruling, row["ruling"])) for row in rows)

    def find_order(self, order_id: str) -> OrderRecord:
        """What is kept of the order, read without a lock."""
        seen = _Memory()
        attempts = self._attempts("order_id", order_id, seen)
        mine = [one.reference for one in attempts]
        refunded, intended = (any(one not in none for one in mine) for none in (seen.unrefunded, seen.unintended))
        return OrderRecord(
            attempts=attempts,
            paid_by=seen.paid_by[order_id] if attempts else self.fulfilled_by(order_id),
            refunds=self.find_refunds(t.refunds.c.attempt.in_(mine)) if refunded else (),
            intents=self.find_intents(t.intents.c.attempt.in_(mine)) if intended else (),
        )

    def find_intents(self, which: ColumnElement[bool]) -> tuple[Intent, ...]:
        """The unanswered intents of this condition, oldest first."""
        found = select(t.intents).where(which, t.intents.c.answered_at.is_(None))
        rows = self.session.execute(found.order_by(t.intents.c.made_at, t.intents.c.verb)).mappings()
        return tuple(t.from_row(Intent, row) for row in rows)

    def find_refunds(self, which: ColumnElement[bool]) -> tuple[RefundRecord, ...]:
        """The refunds of this condition, oldest first."""
        rows = self.session.execute(select(t.refunds).where(which).order_by(t.refunds.c.number)).mappings()
        return tuple(t.from_row(RefundRecord, row) for row in rows)

    def insert(self, table: Table, row: Mapping[str, str | int | None], *unique: str) -> bool:
        """Insert unless a row with the same `unique` columns (by default the primary key) stands; whether it did."""
        self.settle()
        return bool(self._run(sql.inserting(self.dialect, table, unique), row))

    def write_first(self) -> None:
        """Take SQLite's one write lock before anything is read, where the first statement would be a reading one."""
        if self.dialect == "sqlite":
            self._update(t.installations, {"slot": ""}, slot="this")

    def _locked(self, of: str, which: str) -> tuple[Attempt, ...]:
        """Reads in a statement of its own: one that waits for a lock sees other rows as they were before it waited."""
        claimed = self._memory.locked
        if claimed is None or (self.dialect != "sqlite" and (of, which) != ("reference", claimed)):
            self.settle()
            self._run(sql.locking(self.dialect, of), sql.old({of: which}))
        return self._attempts(of, which, self._memory)

    def _attempts(self, of: str, which: str, memory: _Memory) -> tuple[Attempt, ...]:
        self.settle()
        known = driver.named(self._session, self._connection, sql.histories(self.dialect, of), sql.old({of: which}))
        for row in known:
            memory.read(row)
        return tuple(attempt_of(row, _history(row)) for row in known)

    def _insert(self, table: Table, rows: list[dict[str, str | None]], *, fresh: bool = False) -> None:
        """Insert the rows that do not stand already. `fresh`: none of them can."""
        if rows:
            self._write(sql.Write(table, tuple(rows[0]), len(rows), fresh=fresh), rows)

    def _update(self, table: Table, which: Mapping[str, str | None], *null: str, **values: str | None) -> None:
        """Set the values in the rows that hold those of `which`, and nothing in the columns of `null`."""
        self._write(sql.Write(table, tuple(values), which=tuple(which), null=null), (values, which))

    def _write(self, write: sql.Write, values: sql.Values) -> None:
        """Now, or with others; a statement of several writes must not write twice to one table."""
        if not self._waits:
            self._run(sql.writing(write), sql.parameters([(write, values)]))
            return
        if any(other.table is write.table for other, _ in self._waiting):
            self.settle()
        self._waiting.append((write, values))

    def _value(self, table: Table, wanted: str, **which: str | None) -> str | None:
        self.settle()
        found = self._run(sql.reading(table, wanted, tuple(which)), sql.old(which))
        return found[0][0] if found else None

    def _run(self, statement: Any, parameters: driver.Parameters) -> Sequence[Sequence[Any]]:
        return driver.rows(self._session, self._connection, statement, parameters)

    @property
    def _waits(self) -> bool:
        return self._batched and self.dialect == "postgresql"

    @property
    def _connection(self) -> Connection:
        memory = self._memory
        if memory.connection is None:
            memory.connection = own.connection_of(self._session)
        return memory.connection

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        memory = self._memory
        if not memory.dialect:
            memory.dialect = self._session.get_bind(clause=t.attempts).dialect.name
        return memory.dialect


def _history(row: t.Row) -> History:
    seen, said = (json.loads(row[name] or "[]") for name in ("seen", "said"))
    return History(frozenset(t.from_row(Observation, one) for one in seen), frozenset(map(Word, said)))


def _written_meanwhile(table: Table) -> NotAllowed:
    return NotAllowed(
        "written_meanwhile",
        f"A row of {table.name} stood already, although its order was locked and it had none: something writes to the "
        f"checkout's tables past the checkout. Nothing was applied; the bank delivers again.",
    )


def attempt_of(row: Any, history: History) -> Attempt:
    """The attempt that a row holds, with what is kept of its history elsewhere."""
    ruling = None if row["ruling"] is None else t.from_json(Ruling, row["ruling"])
    quote = None if row["quote"] is None else t.from_json(Quote, row["quote"], statement=row["statement"])
    return t.from_row(Attempt, row, ruling=ruling, quote=quote, history=history)
