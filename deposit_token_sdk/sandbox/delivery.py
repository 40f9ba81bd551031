"""Webhooks on their way: read from the outbox in the bank's database, signed anew at each try, repeated by schedule.

Message times are real time, never business time. No transaction is open while a shop is being called. Messages
about one invoice go out in the order in which they were written, one at a time; a shop that is slow with one
does not hold up the others.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from attrs import frozen
from sqlalchemy import RowMapping, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError

from deposit_token_sdk.sandbox import clock, keyring
from deposit_token_sdk.sandbox.bank import Bank
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import deliveries, merchants, messages

if TYPE_CHECKING:
    import requests

_LOG = logging.getLogger("deposit_token_sdk.sandbox")
_WORKERS = 8
_AT_ONCE = 500
_LONGEST_NAP = 1.0
_TIMEOUT = (3.0, 10.0)
_KEPT_ANSWER = 500


@frozen
class _Outgoing:
    id: str
    lane: str
    url: str
    headers: dict[str, str]
    body: bytes


class Delivery:
    """The thread that empties the outbox, and a few workers that call the shops."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self._lock = threading.Condition()
        self._stopping = False
        self._news = False
        self._busy: set[str] = set()
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
                outgoing = self._due(desk)
                following = desk.db.execute(
                    select(func.min(messages.c.due_at)).where(
                        messages.c.state == "queued", messages.c.due_at > desk.real
                    )
                ).scalar()
                wait = _LONGEST_NAP if following is None else (following - desk.real).total_seconds()
        except SQLAlchemyError:
            _LOG.exception("The sandbox bank cannot read its outbox.")
            return _LONGEST_NAP
        for each in outgoing:
            with self._lock:
                self._busy.add(each.lane)
            self._pool.submit(self._deliver, each)
        return min(max(wait, 0.001), _LONGEST_NAP)

    def _due(self, desk: Desk) -> list[_Outgoing]:
        """The first message due of every lane that is not busy, ready to send."""
        with self._lock:
            busy = set(self._busy)
        chosen = (
            select(messages, merchants.c.webhook_url)
            .join(merchants, merchants.c.id == messages.c.merchant)
            .where(messages.c.state == "queued", messages.c.due_at <= desk.real, merchants.c.webhook_url.is_not(None))
            .order_by(messages.c.seq)
            .limit(_AT_ONCE)
        )
        due: list[_Outgoing] = []
        for row in desk.db.execute(chosen).mappings().all():
            lane = row["invoice"] or row["id"]
            if lane not in busy:
                busy.add(lane)
                body = row["body"].encode()
                due.append(_Outgoing(row["id"], lane, row["webhook_url"], signed_headers(desk, row, body), body))
        return due

    def _deliver(self, outgoing: _Outgoing) -> None:
        try:
            status, answer = self._send(outgoing)
            with self._bank.desk() as desk:
                _record(desk, outgoing, status, answer)
        except SQLAlchemyError:
            _LOG.exception("The sandbox bank cannot record a delivery.")
        finally:
            with self._lock:
                self._busy.discard(outgoing.lane)
            self.wake()

    def _send(self, outgoing: _Outgoing) -> tuple[int | None, str]:
        import requests  # noqa: PLC0415 - only a bank that delivers needs it

        try:
            with self._session().post(
                outgoing.url,
                data=outgoing.body,
                headers=outgoing.headers,
                timeout=_TIMEOUT,
                allow_redirects=False,
                stream=True,
            ) as answer:
                text = next(answer.iter_content(_KEPT_ANSWER), b"")
                return answer.status_code, text.decode("utf-8", "replace")
        except (requests.RequestException, ValueError) as error:
            return None, f"{type(error).__name__}: {error}"[:_KEPT_ANSWER]

    def _session(self) -> requests.Session:
        import requests  # noqa: PLC0415

        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = requests.Session()
            session.trust_env = False
            self._local.session = session
            self._sessions.append(session)
        return session


def signed_headers(desk: Desk, row: RowMapping, body: bytes) -> dict[str, str]:
    """A message's headers for one try, signed now by every key of the endpoint."""
    at = int(clock.real_now().timestamp())
    signers = keyring.webhook_signers(desk.db, row["merchant"])
    signed = signers[0].sign(row["id"], at, body)
    signed["webhook-signature"] = " ".join(signer.signature(row["id"], at, body) for signer in signers)
    return {"content-type": "application/json", "user-agent": "deposit-token-sandbox", **signed}


def _record(desk: Desk, outgoing: _Outgoing, status: int | None, answer: str) -> None:
    """Keep what was answered, and when to try again: after a 2xx never, unless the message goes out twice."""
    desk.db.execute(
        insert(deliveries).values(
            message=outgoing.id,
            url=outgoing.url,
            at=desk.real,
            signature=outgoing.headers["webhook-signature"],
            status=status,
            answer=answer,
        )
    )
    row = desk.row(select(messages).where(messages.c.id == outgoing.id), "malformed", "no such message")
    values: dict[str, object] = {"tries": row["tries"] + 1}
    if status is not None and 200 <= status < 300:
        left = row["copies"] - 1
        values |= {"copies": left, "due_at": desk.real if left else None}
        values |= {"state": "queued" if left else "delivered"}
    else:
        due = _next_try(desk, row["tries"] + 1)
        values |= {"state": "queued" if due else "given_up", "due_at": due}
    desk.db.execute(update(messages).where(messages.c.id == outgoing.id).values(values))


def _next_try(desk: Desk, tries: int) -> datetime | None:
    schedule = desk.house.schedule
    return desk.real + timedelta(seconds=schedule[tries]) if tries < len(schedule) else None


def resend(desk: Desk, message: str, copies: int = 1) -> None:
    """Send a message again, now, and on by schedule if it is not taken. Raises Refused (``malformed``)."""
    if not 1 <= copies <= 100:
        raise Refused("malformed", "A message is sent 1 to 100 times.")
    row = desk.row(select(messages).where(messages.c.id == message), "malformed", f"No message {message[:60]!r}.")
    values = {"state": "queued", "tries": 0, "copies": copies, "due_at": desk.real}
    desk.db.execute(update(messages).where(messages.c.id == row["id"]).values(values))
    desk.woke.append(row["id"])
