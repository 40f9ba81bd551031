"""What a bank posted to the webhook address: verified, sorted, applied through the one door, and answered.

The answer says to the bank whether to send again: 400 for what is not genuine, 200 for all that is done with,
500 and 503 for what must come again. Nothing genuine is dropped: what cannot be applied is recorded.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TypeAlias

from attrs import evolve, frozen

from deposit_token_sdk.checkout.door import Applied, Door, Outcome
from deposit_token_sdk.checkout.store import Inbox
from deposit_token_sdk.client import Client
from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    DepositTokenError,
    NotGenuine,
    NotOurs,
    OutcomeUnknown,
    Unreadable,
)
from deposit_token_sdk.issuers.protocol import Acknowledges, Splits, TakesHints
from deposit_token_sdk.models import Event, Proof

_LOG = logging.getLogger("deposit_token_sdk")


@frozen
class Answer:
    """What to answer a webhook: the HTTP status, and the reason for logs and counters.

    `detail` says for the shop's own eyes what was wrong and, where that can be known, why: a body that was parsed and
    written again, the other mode's key, a clock that is off. It is logged, too. `body` is what to send along, as JSON,
    where the bank asks for that; else it is empty, and what is sent along does not matter.
    """

    status: int
    reason: str
    detail: str = ""
    body: str = ""


Received: TypeAlias = tuple[Answer, Applied | None]

_UNVERIFIED = (NotGenuine, BankUnavailable, BankRefused, OutcomeUnknown)


class Receiver:
    """Takes webhooks for all clients of one checkout."""

    def __init__(
        self, door: Door, clients: Mapping[str, Client], now: Callable[[], datetime], proofs: frozenset[Proof]
    ) -> None:
        self._door = door
        self._clients = clients
        issuers = {name: client.issuer for name, client in clients.items()}
        self._pieces = {name: one.split for name, one in issuers.items() if isinstance(one, Splits)}
        self._taken = {name: one.acknowledgement for name, one in issuers.items() if isinstance(one, Acknowledges)}
        self._hinting = {name for name, one in issuers.items() if isinstance(one, TakesHints) and one.hints}
        self._now = now
        self._proofs = proofs

    def receive(self, headers: Mapping[str, str], body: bytes, issuer: str | None) -> Received:
        """What to answer, and what was applied; see `Checkout.receive`."""
        if issuer is None and len(self._clients) == 1:
            issuer = next(iter(self._clients))
        client = self._clients.get(issuer or "")
        if client is None:
            return Answer(404, "unknown_issuer"), None
        answer, applied = self._read(client, headers, body)
        if answer.status == 200 and client.issuer.name in self._taken:
            answer = evolve(answer, body=self._taken[client.issuer.name])
        return answer, applied

    def _read(self, client: Client, headers: Mapping[str, str], body: bytes) -> Received:
        now = self._now()
        try:
            event = client.read_event(headers, body, now.timestamp())
            split = self._pieces.get(client.issuer.name)
            events = (event,) if split is None else split(event)
        except _UNVERIFIED as why:
            return _refused(why)
        except Unreadable as unreadable:
            return self._noted(client, None, body, Outcome.UNREADABLE, unreadable.reason)
        pieces = [self._received(client, piece, body, now) for piece in events]
        return max(pieces, key=lambda piece: piece[0].status)  # the bank sends all again where one must come again

    def _received(self, client: Client, event: Event, body: bytes, now: datetime) -> Received:
        try:
            self._require_ours(client, event)
            report = client.report_event(event, now.timestamp())
        except _UNVERIFIED as why:
            return _refused(why)
        except NotOurs as other:
            return self._noted(client, event, body, Outcome.NOT_OURS, other.reason)
        except Unreadable as unreadable:
            return self._noted(client, event, body, Outcome.UNREADABLE, unreadable.reason)
        if report is None:
            return self._noted(client, event, body, Outcome.NOTHING_TO_APPLY, event.type)
        message = self._message(client, event, body)
        return _answered(self._door.apply(report, client.issuer, message, self._proofs))

    def _require_ours(self, client: Client, event: Event) -> None:
        installation = self._door.store.installation()
        pairs = [
            ("merchant", event.merchant, client.issuer.merchant),
            ("mode", event.mode, client.issuer.mode),
        ]
        if event.invoice is not None or event.installation:
            pairs.append(("installation", event.installation, installation))
        if event.reference is not None:
            pairs.append(("installation", event.reference[: len(installation)], installation))
        for name, told, ours in pairs:
            if told != ours:
                raise NotOurs(f"other_{name}", f"The event is for {name} {told!r}; ours is {ours!r}.")

    def _noted(self, client: Client, event: Event | None, body: bytes, outcome: Outcome, reason: str) -> Received:
        message = self._message(client, event, body)
        if message.issuer in self._hinting:
            if event is None:  # one a day for each reason goes before a person, however many are posted
                _LOG.warning("A webhook of %s, signed by nobody, cannot be read (%s).", message.issuer, reason)
                day = f"unreadable:{reason}:{message.received_at:%Y-%m-%d}"
                message = evolve(message, key=day, digest=day)
            elif self._door.store.attempt(message.reference) is None:
                _LOG.warning("A webhook of %s, signed by nobody, is about nothing of ours: left.", message.issuer)
                return Answer(200, reason), None
        return _answered(self._door.note(message, outcome, reason))

    def _message(self, client: Client, event: Event | None, body: bytes) -> Inbox:
        digest = hashlib.sha256(body).hexdigest() if event is None else event.digest
        return Inbox(
            issuer=client.issuer.name,
            key=f"body:{digest}" if event is None else event.id,
            digest=digest,
            reference="" if event is None else event.reference or "",
            received_at=self._now(),
            body=body.decode("utf-8", "backslashreplace").replace("\0", "\\x00"),  # PostgreSQL's text holds no NUL
        )


def _refused(error: DepositTokenError) -> Received:
    """400 for what is forged, 503 for what cannot be checked now: neither its answer nor its key is to be had."""
    status = 400 if isinstance(error, NotGenuine) else 503
    _LOG.warning("A webhook was answered %d (%s): %s", status, error.reason, error)
    return Answer(status, error.reason, str(error)), None


def _answered(applied: Applied) -> Received:
    return Answer(_STATUS[applied.outcome], applied.reason), applied


_STATUS: Mapping[Outcome, int] = {
    Outcome.APPLIED: 200,
    Outcome.NOTHING_TO_APPLY: 200,
    Outcome.REPEATED: 200,
    Outcome.NOT_OURS: 200,
    Outcome.PARKED: 200,
    Outcome.UNREADABLE: 200,
    Outcome.CONTENT_CHANGED: 400,
    Outcome.HOOK_FAILED: 500,
}
"""What a webhook is answered: 200 ends the bank's retries, 500 asks for another delivery."""
