"""The checkout's store on SQLAlchemy, in the shop's own session: `SqlStore`.

It writes what it is told through the session that the shop's hooks are given, and decides nothing. What must be
unique is so by a constraint, and whether an insert was new is told by RETURNING, which holds on SQLite and
PostgreSQL alike. On SQLite the first statement of a transaction is always a write, since one that reads first and
then writes fails under load.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from weakref import WeakSet

from attrs import frozen
from sqlalchemy import ColumnElement, Engine, Table, delete, func, literal_column, select, text, union, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.schema import CreateIndex, CreateTable

from deposit_token_sdk.checkout import sql_session as own
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.sql_session import prepare_sqlite
from deposit_token_sdk.checkout.sql_tables import metadata
from deposit_token_sdk.checkout.store import Attempt, Inbox, Intent, RefundRecord, Review, Verb
from deposit_token_sdk.lifecycle import History, Observation, RefundStage, Word
from deposit_token_sdk.models import Confirmation, Evidence, Quote

__all__ = ["SqlStore", "SqlTx", "metadata", "prepare_sqlite"]

_INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_UNFINISHED = (RefundStage.REQUESTED, RefundStage.UNKNOWN, RefundStage.PENDING)
_ALPHABET = string.ascii_lowercase + string.digits


@frozen
class SqlTx:
    """One open transaction (`store.Tx`). `session` is the shop's own: what hooks write through it is part of it."""

    session: Session

    def claim(self, message: Inbox) -> str | None:
        if self.insert(t.events, t.as_row(t.events, message), "issuer", "key"):
            return None
        known = select(t.events.c.digest).where(t.events.c.issuer == message.issuer, t.events.c.key == message.key)
        return str(self.session.execute(known).scalar_one())

    def record(self, issuer: str, key: str, outcome: str) -> None:
        self._update(t.events, t.events.c.issuer == issuer, t.events.c.key == key, outcome=outcome)

    def unclaim(self, issuer: str, key: str) -> None:
        self.session.execute(delete(t.events).where(t.events.c.issuer == issuer, t.events.c.key == key))

    def flush(self) -> None:
        self.session.flush()

    def add_attempt(self, attempt: Attempt) -> bool:
        row = t.as_row(t.attempts, attempt, live_order=attempt.order_id if attempt.ended is None else None, quote=None)
        if not self.insert(t.attempts, row, "live_order"):
            return False
        if attempt.quote is not None:
            self.save_quote(attempt.reference, attempt.quote)
        self.add_observations(attempt.reference, attempt.history)
        return True

    def lock_order(self, order_id: str) -> tuple[Attempt, ...]:
        return self._locked(t.attempts.c.order_id == order_id)

    def lock_attempt(self, reference: str) -> tuple[Attempt, ...]:
        named = t.attempts.alias()
        order_id = select(named.c.order_id).where(named.c.reference == reference).scalar_subquery()
        return self._locked(t.attempts.c.order_id == order_id)

    def asked(self, reference: str, at: datetime) -> None:
        self._update(t.attempts, t.attempts.c.reference == reference, asked_at=t.as_text(at))

    def save_quote(self, reference: str, quote: Quote) -> None:
        unquoted = (t.attempts.c.reference == reference, t.attempts.c.quote.is_(None))
        self._update(t.attempts, *unquoted, quote=t.as_json(quote, without="statement"), statement=quote.statement)

    def save_invoice(self, reference: str, invoice: str, pay_url: str | None, instructions: str | None) -> None:
        told = {"invoice": invoice, "pay_url": pay_url, "instructions": instructions}
        self._update(t.attempts, t.attempts.c.reference == reference, **told)

    def end_attempt(self, reference: str, why: str) -> None:
        live = t.attempts.c.ended.is_(None)
        self._update(t.attempts, t.attempts.c.reference == reference, live, ended=why, live_order=None)

    def add_observations(self, reference: str, shown: History) -> None:
        for seen in shown.observations:
            self.insert(t.observations, t.as_row(t.observations, seen, reference=reference))
        for word in shown.words:
            self.insert(t.words, {"reference": reference, "word": word.value})

    def claim_movement(self, issuer: str, movement: str, reference: str) -> str:
        row: dict[str, str | None] = {"issuer": issuer, "movement": movement, "reference": reference}
        if self.insert(t.movements, row, "issuer", "movement"):
            return reference
        mine = (t.movements.c.issuer == issuer, t.movements.c.movement == movement)
        return str(self.session.execute(select(t.movements.c.reference).where(*mine)).scalar_one())

    def keep_evidence(self, reference: str, confirmation: Confirmation) -> None:
        digest = sha256(confirmation.evidence.content.encode()).hexdigest()
        row = t.as_row(t.evidence, confirmation, confirmation.evidence, attempt=reference, digest=digest)
        self.insert(t.evidence, row, "attempt", "digest", "kind", "movement")

    def fulfil(self, order_id: str, reference: str, at: datetime) -> bool:
        row = {"order_id": order_id, "reference": reference, "at": t.as_text(at)}
        return self.insert(t.fulfilments, row, "order_id")

    def fulfilled_by(self, order_id: str) -> str | None:
        paid = select(t.fulfilments.c.reference).where(t.fulfilments.c.order_id == order_id)
        return self.session.execute(paid).scalar()

    def open_review(self, review: Review) -> bool:
        return self.insert(t.reviews, t.as_row(t.reviews, review), "reference", "reason", "subject")

    def add_intent(self, intent: Intent) -> bool:
        return self.insert(t.intents, t.as_row(t.intents, intent), "verb", "subject")

    def renew_intent(self, intent: Intent) -> None:
        row = t.as_row(t.intents, intent, answered_at=None, outcome=None)
        self._update(t.intents, t.intents.c.verb == row["verb"], t.intents.c.subject == intent.subject, **row)

    def answer_intent(self, verb: Verb, subject: str, outcome: str) -> None:
        mine = (t.intents.c.verb == verb.value, t.intents.c.subject == subject, t.intents.c.answered_at.is_(None))
        self._update(t.intents, *mine, answered_at=t.as_text(datetime.now(UTC)), outcome=outcome)

    def open_intents(self, attempt: str) -> tuple[Intent, ...]:
        return self.find_intents(t.intents.c.attempt == attempt)

    def add_refund(self, refund: RefundRecord) -> RefundRecord | None:
        if self.insert(t.refunds, t.as_row(t.refunds, refund), "request"):
            return None
        return self.find_refunds(t.refunds.c.request == refund.request)[0]

    def refunds(self, attempt: str) -> tuple[RefundRecord, ...]:
        return self.find_refunds(t.refunds.c.attempt == attempt)

    def save_refund(self, reference: str, stage: RefundStage, bank_id: str | None) -> None:
        known = {} if bank_id is None else {"bank_id": bank_id}
        self._update(t.refunds, t.refunds.c.reference == reference, stage=stage.name, **known)

    def find_attempts(self, which: ColumnElement[bool]) -> tuple[Attempt, ...]:
        """The attempts of this condition with their histories, oldest first, read without a lock."""
        found = select(t.attempts).where(which).order_by(t.attempts.c.number)
        return tuple(
            t.from_row(Attempt, row, quote=_quote(row), history=self._history(row["reference"]))
            for row in self.session.execute(found).mappings().all()
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

    def insert(self, table: Table, row: dict[str, str | None], *unique: str) -> bool:
        """Insert unless a row with the same `unique` columns (by default the primary key) stands; whether it did."""
        columns = unique or table.primary_key.columns.keys()
        insert = _INSERTS[self._dialect](table).values(row).on_conflict_do_nothing(index_elements=columns)
        return self.session.execute(insert.returning(literal_column("1"))).first() is not None

    def _history(self, reference: str) -> History:
        seen = self.session.execute(select(t.observations).where(t.observations.c.reference == reference)).mappings()
        said = self.session.execute(select(t.words.c.word).where(t.words.c.reference == reference)).scalars()
        return History(frozenset(t.from_row(Observation, row) for row in seen), frozenset(map(Word, said)))

    def _locked(self, which: ColumnElement[bool]) -> tuple[Attempt, ...]:
        if self._dialect == "sqlite":
            self.session.execute(update(t.attempts).where(which).values(live_order=t.attempts.c.live_order))
        else:
            rows = select(t.attempts.c.number).where(which).order_by(t.attempts.c.number).with_for_update()
            self.session.execute(rows).all()
        return self.find_attempts(which)

    def _update(self, table: Table, *which: ColumnElement[bool], **values: str | None) -> None:
        self.session.execute(update(table).where(*which).values(values))

    @property
    def _dialect(self) -> str:
        return self.session.get_bind(clause=t.attempts).dialect.name


class SqlStore:
    """The checkout's tables in the shop's database, written in the shop's own transactions (`store.Store`).

    `sessions` is the shop's sessionmaker or scoped_session, Flask-SQLAlchemy's ``db.session`` too; anything else
    raises ConfigurationError (``sessions``). An SQLite engine needs `prepare_sqlite`: the first use raises
    ConfigurationError (``sqlite_settings``) naming what is missing.
    """

    def __init__(self, sessions: own.Sessions) -> None:
        self._sessions = own.accepted(sessions)
        self._checked: WeakSet[Engine] = WeakSet()

    @contextmanager
    def begin(self) -> Iterator[SqlTx]:
        """A transaction in the shop's session: committed at the end of the block, rolled back by an exception.

        Ends what the shop has merely read. Raises NotAllowed: ``uncommitted_changes`` before anything is written,
        where the shop has changes that it has not committed; ``hook_ended_transaction`` where a hook ended it.
        """
        with own.session_of(self._sessions) as session:
            if isinstance(self._sessions, scoped_session):
                own.let_go_of_reads(session)
            self._check(session)
            with own.whole_transaction(session):
                yield SqlTx(session)

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet, all or none. Shops with Alembic take `metadata`."""
        with self.begin() as tx:
            dbapi: Any = own.connection_of(tx.session).connection.dbapi_connection
            if not getattr(dbapi, "in_transaction", True):  # Python's sqlite3 begins for a write of rows, not for DDL
                tx.session.execute(text("BEGIN IMMEDIATE"))
            for table in metadata.sorted_tables:
                tx.session.execute(CreateTable(table, if_not_exists=True))
                for index in sorted(table.indexes, key=lambda index: str(index.name)):
                    tx.session.execute(CreateIndex(index, if_not_exists=True))

    def installation(self) -> str:
        """The random id of this shop's database. The first call writes: never make it inside `begin`."""
        known = select(t.installations.c.id)
        with self._reading() as tx:
            if found := tx.session.execute(known).scalar():
                return str(found)
        with self.begin() as tx:
            tx.insert(t.installations, {"slot": "this", "id": "".join(map(secrets.choice, [_ALPHABET] * 8))})
            return str(tx.session.execute(known).scalar_one())

    def attempt(self, reference: str) -> Attempt | None:
        with self._reading() as tx:
            return next(iter(tx.find_attempts(t.attempts.c.reference == reference)), None)

    def attempts(self, order_id: str) -> tuple[Attempt, ...]:
        with self._reading() as tx:
            return tx.find_attempts(t.attempts.c.order_id == order_id)

    def refunds_of(self, order_id: str) -> tuple[RefundRecord, ...]:
        with self._reading() as tx:
            return tx.find_refunds(t.refunds.c.attempt.in_(_references(order_id)))

    def fulfilled_by(self, order_id: str) -> str | None:
        with self._reading() as tx:
            return tx.fulfilled_by(order_id)

    def evidence(self, order_id: str) -> tuple[Confirmation, ...]:
        kept = select(t.evidence).where(t.evidence.c.attempt.in_(_references(order_id))).order_by(t.evidence.c.number)
        with self._reading() as tx:
            rows = tx.session.execute(kept).mappings()
            return tuple(t.from_row(Confirmation, row, evidence=t.from_row(Evidence, row)) for row in rows)

    def open_intents(self, order_id: str) -> tuple[Intent, ...]:
        with self._reading() as tx:
            return tx.find_intents(t.intents.c.attempt.in_(_references(order_id)))

    def reviews(self) -> tuple[Review, ...]:
        with self._reading() as tx:
            rows = tx.session.execute(select(t.reviews).order_by(t.reviews.c.number)).mappings()
            return tuple(t.from_row(Review, row) for row in rows)

    def due(self, before: datetime, limit: int, ended_since: datetime) -> tuple[str, ...]:
        """References to ask the bank about, the least recently asked first, each once."""
        made, ended = t.as_text(before), t.attempts.c.ended.is_not(None)
        unfinished = t.refunds.c.stage.in_([stage.name for stage in _UNFINISHED])
        waiting = union(
            select(t.attempts.c.reference).where(t.attempts.c.ended.is_(None), t.attempts.c.created_at < made),
            select(t.attempts.c.reference).where(
                ended, t.attempts.c.created_at < made, t.attempts.c.created_at > t.as_text(ended_since)
            ),
            select(t.intents.c.attempt).where(t.intents.c.answered_at.is_(None), t.intents.c.made_at < made),
            select(t.refunds.c.attempt).where(unfinished, t.refunds.c.created_at < made),
        )
        found = select(t.attempts.c.reference).where(t.attempts.c.reference.in_(waiting))
        with self._reading() as tx:
            longest = found.order_by(func.coalesce(t.attempts.c.asked_at, ""), t.attempts.c.number).limit(limit)
            return tuple(tx.session.execute(longest).scalars())

    @contextmanager
    def _reading(self) -> Iterator[SqlTx]:
        """Read in the shop's session: a transaction that is open stays open and as it is, else none is left behind."""
        with own.session_of(self._sessions) as session:
            if session.in_transaction():
                with session.no_autoflush:
                    yield SqlTx(session)
                return
            self._check(session)
            with session.begin():
                yield SqlTx(session)

    def _check(self, session: Session) -> None:
        """At the first use of an engine, and in a transaction of its own: the next must begin with its write."""
        engine = session.get_bind(clause=t.attempts).engine
        if engine not in self._checked:
            with session.begin():
                own.check_settings(own.connection_of(session))
            self._checked.add(engine)


def _quote(row: Any) -> Quote | None:
    return None if row["quote"] is None else t.from_json(Quote, row["quote"], statement=row["statement"])


def _references(order_id: str) -> Any:
    return select(t.attempts.c.reference).where(t.attempts.c.order_id == order_id)
