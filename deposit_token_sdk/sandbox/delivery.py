"""Webhooks on their way: read from the outbox in the bank's database, signed anew at each try, repeated by schedule.

Message times are real time, never business time. No transaction is open while a shop is being called. Messages
about one invoice go out in the order in which they were written, one at a time; a shop that is slow with one
does not hold up the others.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import TYPE_CHECKING

from attrs import frozen
from sqlalchemy import RowMapping, bindparam, func, select
from sqlalchemy.exc import SQLAlchemyError

from deposit_token_sdk.sandbox import clock, dialects, outbox
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.tables import merchants, messages

if TYPE_CHECKING:
    import requests

_LOG = logging.getLogger("deposit_token_sdk.sandbox")
_WORKERS = 8
_AT_ONCE = 500
_LONGEST_NAP = 1.0

_DUE = (
    select(messages, merchants.c.webhook_url)
    .join(merchants, merchants.c.id == messages.c.merchant)
    .where(
        messages.c.state.in_(outbox.WAITING),
        messages.c.due_at <= bindparam("now"),
        merchants.c.webhook_url.is_not(None),
    )
    .order_by(messages.c.seq)
    .limit(_AT_ONCE)
)
_NEXT = select(func.min(messages.c.due_at)).where(
    messages.c.state.in_(outbox.WAITING), messages.c.due_at > bindparam("now")
)


@frozen
class _Outgoing:
    """One try: what is sent where. `unheard`: seconds until it comes again, whatever is answered (None: heard)."""

    id: str
    lane: str
    url: str
    headers: dict[str, str]
    body: bytes
    at: datetime
    unheard: float | None = None
    merchant: str = ""


class Delivery:
    """The thread that empties the outbox, and a few workers that call the shops."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._lock = threading.Condition()
        self._stopping = False
        self._news = False
        self._busy: set[str] = set()
        self._held_up: set[str] = set()
        """The lanes in which something is due and was left, since they were busy."""
        self._crowded = False
        """Whether more was due than is read at once."""
        self._local = threading.local()
        self._sessions: list[requests.Session] = []
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="sandbox-webhook")
        self._thread = threading.Thread(target=self._run, name="sandbox-delivery", daemon=True)
        bank.on_news(self.wake)

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def stop(self) -> None:
        """Let what is on its way arrive, then stop; what is left waits in the outbox."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        self._thread.join()
        self._pool.shutdown(wait=True, cancel_futures=True)
        for session in self._sessions:
            session.close()

    def wake(self) -> None:
        """There may be something to send."""
        with self._lock:
            self._news = True
            self._lock.notify_all()

    def _run(self) -> None:
        while True:
            nap = self._once()
            with self._lock:
                self._lock.wait_for(lambda: self._news or self._stopping, timeout=nap)
                self._news = False
                if self._stopping:
                    return

    def _once(self) -> float:
        """Hand out what is due; returns the seconds until something may be due again."""
        try:
            with self._bank.desk() as desk:
                outgoing, held_up = self._due(desk)
                following = desk.db.execute(_NEXT, {"now": desk.real}).scalar()
                wait = _LONGEST_NAP if following is None else (following - desk.real).total_seconds()
        except SQLAlchemyError:
            _LOG.exception("The sandbox bank cannot read its outbox.")
            return _LONGEST_NAP
        with self._lock:
            if held_up - self._busy - {each.lane for each in outgoing}:
                self._news = True  # a lane was left that is free by now
            self._held_up = held_up
            self._busy |= {each.lane for each in outgoing}
        for each in outgoing:
            self._pool.submit(self._deliver, each)
        return min(max(wait, 0.001), _LONGEST_NAP)

    def _due(self, desk: Desk) -> tuple[list[_Outgoing], set[str]]:
        """The first message due of every lane that is not busy, ready to send; and the lanes with more to come."""
        with self._lock:
            busy = set(self._busy)
        due: list[_Outgoing] = []
        held_up: set[str] = set()
        found = desk.db.execute(_DUE, {"now": desk.real}).mappings().all()
        for row in found:
            lane = row["invoice"] or row["id"]
            if lane in busy:
                held_up.add(lane)
                continue
            outgoing = _prepared(desk, row, lane)
            if outgoing is None:
                outbox.pass_over(desk, row["id"])
                continue
            busy.add(lane)
            due.append(outgoing)
        self._crowded = len(found) == _AT_ONCE
        return due, held_up

    def _deliver(self, outgoing: _Outgoing) -> None:
        more = True
        try:
            status, answer = outbox.post(self._session(), outgoing.url, outgoing.headers, outgoing.body)
            if outgoing.unheard is not None:
                status, answer = None, f"The answer was lost on its way. (It was {status}.)"
            with self._bank.desk() as desk:
                outbox.record(desk, outgoing.id, outgoing.url, outgoing.headers, outgoing.at, status, answer)
                taken = status is not None and dialects.taken(desk, outgoing.merchant, status, answer)
                more = outbox.move_on(desk, outgoing.id, taken=taken, unheard=outgoing.unheard)
        except SQLAlchemyError:
            _LOG.exception("The sandbox bank cannot record a delivery.")
        finally:
            with self._lock:
                self._busy.discard(outgoing.lane)
                more = more or self._crowded or outgoing.lane in self._held_up
            if more:
                self.wake()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = outbox.session()
            self._sessions.append(session)
        return session


def _prepared(desk: Desk, row: RowMapping, lane: str) -> _Outgoing | None:
    """One try of a message, signed now; changed on its way or unanswered where a fault says so.

    None where it is in a dialect that has no word for such news.
    """
    at = clock.real_now().replace(microsecond=0)
    body = row["body"].encode()
    if dialects.spoken(desk.db, row["merchant"]) is None:
        headers = outbox.signed_headers(desk, row["merchant"], row["id"], body, at)
    else:
        written = dialects.message(desk, row["merchant"], body)
        if written is None:
            return None
        headers, body = written
    about = (row["invoice"], outbox.reference(row["body"]))
    if desk.faults.take("webhook_corrupted", about=about, route=row["type"]):
        body = outbox.corrupted(body)
    silence = desk.faults.take("webhook_unanswered", about=about, route=row["type"])
    unheard = None if silence is None else silence.seconds
    return _Outgoing(row["id"], lane, row["webhook_url"], headers, body, at, unheard, row["merchant"])
