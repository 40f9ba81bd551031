"""The checkout's store on SQLAlchemy, in the shop's own session: `SqlStore`.

A transaction of it is a `sql_tx.SqlTx`; what is claimed by many workers is claimed in `sql_queues`. On SQLite the
first statement of a transaction is always a write, since one that reads first and then writes fails under load.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from sqlalchemy import Engine, func, select, text, true
from sqlalchemy.orm import Session, scoped_session

from deposit_token_sdk.checkout import sql_day, sql_fork, sql_health
from deposit_token_sdk.checkout import sql_queues as queues
from deposit_token_sdk.checkout import sql_session as own
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.books import Booked
from deposit_token_sdk.checkout.sql_seal import SqlSeals
from deposit_token_sdk.checkout.sql_session import prepare_sqlite
from deposit_token_sdk.checkout.sql_tables import metadata
from deposit_token_sdk.checkout.sql_tx import SqlTx
from deposit_token_sdk.checkout.store import Attempt, Decision, OrderRecord, Outgoing, Refusal, Review, Vitals
from deposit_token_sdk.models import Confirmation, Evidence

__all__ = ["SqlStore", "SqlTx", "metadata", "prepare_sqlite"]

_ALPHABET = string.ascii_lowercase + string.digits
_CREATING = 5_282_000_123
"""The key of PostgreSQL's advisory lock under which the tables are created: any number of ours."""


class SqlStore:
    """The checkout's tables in the shop's database, written in the shop's own transactions (`store.Store`).

    `sessions` is the shop's sessionmaker or scoped_session, Flask-SQLAlchemy's ``db.session`` too; anything else
    raises ConfigurationError (``sessions``). An SQLite engine needs `prepare_sqlite`, and PostgreSQL sessions run at
    READ COMMITTED: the first use raises ConfigurationError (``sqlite_settings``, ``postgresql_settings``,
    ``autocommit``) naming what is missing.
    """

    def __init__(self, sessions: own.Sessions) -> None:
        self._sessions = own.accepted(sessions)
        self._checked: WeakSet[Engine] = WeakSet()
        self._installed: WeakKeyDictionary[Engine, str] = WeakKeyDictionary()

    @contextmanager
    def begin(self) -> Iterator[SqlTx]:
        """A transaction in the shop's session: committed at the end of the block, rolled back by an exception.

        Ends what the shop has merely read. Raises NotAllowed: ``uncommitted_changes`` before anything is written,
        where the shop has changes that it has not committed; ``hook_ended_transaction`` where a hook ended it. Raises
        DatabaseBusy where another writer stood in the way for too long.
        """
        with own.naming_what_is_busy(), own.session_of(self._sessions) as session:
            if isinstance(self._sessions, scoped_session):
                own.let_go_of_reads(session)
            self._check(session)
            with own.whole_transaction(session):
                tx = SqlTx(session, batched=True)
                yield tx
                tx.settle()

    def create_schema(self) -> None:
        """Create the tables and indexes that are not there yet, all or none. Shops with Alembic: `migrations`."""
        self._installed.clear()
        with self.begin() as tx:
            connection = own.connection_of(tx.session)
            dbapi: Any = connection.connection.dbapi_connection
            if not getattr(dbapi, "in_transaction", True):  # Python's sqlite3 begins for a write of rows, not for DDL
                tx.session.execute(text("BEGIN IMMEDIATE"))
            if tx.dialect == "postgresql":  # whose IF NOT EXISTS fails where two processes create at once
                tx.session.execute(select(func.pg_advisory_xact_lock(_CREATING)))
            for statement in t.schema(tx.dialect):
                connection.exec_driver_sql(statement)

    def installation(self) -> str:
        """The random id of this shop's database. The first call writes: never make it inside `begin`."""
        engine = own.engine_of(self._sessions)
        known = self._installed.get(engine)
        if known is None:
            known = self._installed[engine] = self._installation()
        return known

    def _installation(self) -> str:
        known = select(t.installations.c.id)
        with self._reading() as tx:
            if found := tx.session.execute(known).scalar():
                return str(found)
        with self.begin() as tx:
            tx.insert(t.installations, {"slot": "this", "id": "".join(map(secrets.choice, [_ALPHABET] * 8))})
            return str(tx.session.execute(known).scalar_one())

    def attempt(self, reference: str) -> Attempt | None:
        with self._reading() as tx:
            return tx.find_attempt(reference)

    def order(self, order_id: str) -> OrderRecord:
        with self._reading() as tx:
            return tx.find_order(order_id)

    def refusals(self, order_id: str) -> tuple[Refusal, ...]:
        with self._reading() as tx:
            return tx.find_refusals(order_id)

    def evidence(self, order_id: str) -> tuple[Confirmation, ...]:
        kept = select(t.evidence).where(t.evidence.c.attempt.in_(_references(order_id))).order_by(t.evidence.c.number)
        with self._reading() as tx:
            rows = tx.session.execute(kept).mappings()
            return tuple(t.from_row(Confirmation, row, evidence=t.from_row(Evidence, row)) for row in rows)

    def reviews(self) -> tuple[Review, ...]:
        with self._reading() as tx:
            return tuple(review for review, _ in queues.reviews(tx, t.decisions.c.review.is_(None)))

    def review(self, number: int) -> tuple[Review, Decision | None] | None:
        with self._reading() as tx:
            return next(iter(queues.reviews(tx, t.reviews.c.number == number)), None)

    def all_reviews(self, order_id: str | None = None, limit: int = 500) -> tuple[tuple[Review, Decision | None], ...]:
        which = true() if order_id is None else t.reviews.c.order_id == order_id
        with self._reading() as tx:
            return queues.reviews(tx, which, newest=limit)

    def within(self, session: Session) -> SqlTx:
        return SqlTx(session)

    def take_due(self, before: datetime, now: datetime, limit: int) -> tuple[str, ...]:
        with self.begin() as tx:
            return queues.take_due(tx, before, now, limit)

    def take_outgoing(
        self, now: datetime, until: datetime, limit: int, topics: Collection[str] | None = None
    ) -> tuple[Outgoing, ...]:
        with self.begin() as tx:
            return queues.take_outgoing(tx, now, until, limit, topics)

    def abandon(self) -> None:
        if isinstance(self._sessions, scoped_session):
            self._sessions.rollback()

    def dead_letters(self, limit: int = 500) -> tuple[Outgoing, ...]:
        with self._reading() as tx:
            return queues.dead_letters(tx, limit)

    def overdue_topics(self, before: datetime) -> tuple[str, ...]:
        with self._reading() as tx:
            return queues.overdue_topics(tx, before)

    def outgoing_depth(self) -> tuple[int, datetime | None, int]:
        with self._reading() as tx:
            return queues.depth(tx)

    @property
    def seals(self) -> SqlSeals:
        """The sealer's side of the same tables."""
        return SqlSeals(self.begin, self._reading)

    def vitals(self, issuers: Iterable[str], since: datetime, until: datetime) -> Vitals:
        with self._reading() as tx:
            return sql_health.vitals(tx, tuple(issuers), since, until)

    def moved_within(self, issuer: str, begin: datetime, end: datetime) -> tuple[str, ...]:
        with self._reading() as tx:
            return sql_day.moved_within(tx, issuer, begin, end)

    def booked(self, references: Iterable[str]) -> tuple[Booked, ...]:
        with self._reading() as tx:
            return sql_day.booked(tx, references)

    def heard(self, issuer: str, key: str) -> str | None:
        with self._reading() as tx:
            return sql_day.heard(tx, issuer, key)

    @contextmanager
    def _reading(self) -> Iterator[SqlTx]:
        """Read in the shop's session: a transaction that is open stays open and as it is, else none is left behind."""
        with own.naming_what_is_busy(), own.session_of(self._sessions) as session:
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
            sql_fork.begins_anew_in_children(engine)


def _references(order_id: str) -> Any:
    return select(t.attempts.c.reference).where(t.attempts.c.order_id == order_id)
