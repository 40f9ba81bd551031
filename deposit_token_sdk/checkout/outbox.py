"""Work that cannot be in the transaction (a mail, a warehouse, another service): done at least once, after it.

A hook puts a message into the outbox in its own transaction: if that is rolled back there is no message, and if it is
committed the message goes out, whatever is killed in between. `deliver` claims one message at a time for a while, calls
its topic's handler with no transaction open, and notes what came of it. A worker that dies leaves its claim to run out,
and the message goes out again *under the same key*: that is what a handler, or the service behind it, knows it by.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar
from uuid import uuid4

from attrs import frozen

from deposit_token_sdk.checkout.store import Outgoing, Store, require_names
from deposit_token_sdk.errors import InvalidInput, NotAllowed
from deposit_token_sdk.signing import strict_json

_LOG = logging.getLogger("deposit_token_sdk")

TRIES: Final = 12
"""How often a message is tried before a person is asked. With the pauses between them that takes about 14 hours."""

LEASE: Final = timedelta(minutes=10)
"""How long one call of a handler may take. After that another worker takes the message for abandoned."""

FIRST_PAUSE: Final = timedelta(seconds=30)
LONGEST_PAUSE: Final = timedelta(hours=6)

WITHOUT_HANDLER: Final = timedelta(minutes=5)
"""How long another worker has for a message whose topic nobody here handles before the log says so, and how often."""

_MOST_OF_AN_ERROR = 500

Handler: TypeAlias = Callable[[Outgoing], object]
H = TypeVar("H", bound=Handler)


@frozen
class Delivered:
    """What one batch did: how many went out, how many failed and are tried again, how many are dead letters now."""

    sent: int
    failed: int
    dead: int


def pause(tries: int) -> timedelta:
    """How long to wait after this many tries: half a minute first, twice as long each time, six hours at most."""
    seconds = FIRST_PAUSE.total_seconds() * 2.0 ** (min(max(tries, 1), 32) - 1)
    return min(timedelta(seconds=seconds), LONGEST_PAUSE)


def next_try(tries: int, most: int, now: datetime) -> datetime | None:
    """When a message that has just failed for the `tries`-th time is tried again; None once `most` tries are made."""
    return None if tries >= most else now + pause(tries)


class Outbox:
    """The messages of one checkout, and who sends which: `Checkout.outbox`. Safe to share between threads."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._handlers: dict[str, tuple[Handler, int]] = {}
        self._looked_at: datetime | None = None  # for what waits and has no handler here

    def handler(self, topic: str, tries: int = TRIES) -> Callable[[H], H]:
        """Register who sends the messages of this topic; registering another replaces it.

        The handler is called with the message and no transaction open, and may be called twice with the same
        `message.key`. If it raises, or leaves changes in the shop's session that it has not committed, the message
        is tried again after a pause that grows, and after `tries` tries it is a dead letter.
        """
        if tries < 1:
            raise InvalidInput("tries_not_positive", f"{tries} tries send nothing: one at least.")

        def register(handler: H) -> H:
            self._handlers[topic] = (handler, tries)
            return handler

        return register

    def put(
        self, session: Any, topic: str, payload: Mapping[str, object], *, order_id: str, key: str | None = None
    ) -> bool:
        """Have this sent once the session's transaction is committed; False, and nothing done, if the key stands.

        `session` is the one that a hook was given, or the shop's own with its own transaction. `payload` is what JSON
        can say exactly: amounts as texts. Without a `key` the message gets one of its own; with one, such as
        ``receipt:A-1001``, it is put once however often it is asked for. Raises InvalidType (``json_type``) for a
        float, and InvalidInput (``text_missing``, ``text_too_long``).
        """
        if not topic or key == "":
            raise InvalidInput(
                "text_missing", "A message has a topic and, where it is given one, a key that is not empty."
            )
        now = self._now()
        named = key or f"{topic}:{uuid4()}"
        require_names(key=named)
        message = Outgoing(
            key=named,
            topic=topic,
            payload=strict_json.dumps(dict(payload)).decode(),
            order_id=order_id,
            made_at=now,
            due_at=now,
        )
        return self._store.within(session).put(message)

    def deliver(self, limit: int = 100) -> Delivered:
        """Send at most so many of the messages that are due, the longest due first. Workers may do so side by side.

        Messages of a topic without a handler in this process are left, untouched, to one that has it.
        """
        counts: Counter[str] = Counter()
        self._tell_unhandled()
        for _ in range(limit):
            now = self._now()
            taken = self._store.take_outgoing(now, now + LEASE, 1, tuple(self._handlers))
            if not taken:
                break
            counts[self._delivered(taken[0])] += 1
        return Delivered(counts["sent"], counts["failed"], counts["dead"])

    def dead(self, limit: int = 500) -> tuple[Outgoing, ...]:
        """The dead letters, the longest dead first, each with what its last try said."""
        return self._store.dead_letters(limit)

    def send_again(self, key: str) -> bool:
        """Have a dead letter tried again, at once and as if for the first time; False if no such one is dead."""
        with self._store.begin() as tx:
            return tx.revive(key, self._now())

    def _delivered(self, message: Outgoing) -> str:
        handler, most = self._handlers[message.topic]
        if message.tries > most:
            return self._buried(message, f"Taken {most} times, and the process ended each time before the handler did.")
        try:
            handler(message)
            with self._store.begin() as tx:
                tx.sent(message.key, self._now())
        except Exception as error:  # noqa: BLE001  # a handler is the shop's own code and may raise anything
            if isinstance(error, NotAllowed) and error.reason == "uncommitted_changes":
                error = NotAllowed(error.reason, "The handler left changes in the shop's session: it must commit them.")
            return self._failed(message, most, error)
        return "sent"

    def _failed(self, message: Outgoing, most: int, error: Exception) -> str:
        self._store.abandon()
        told = f"{type(error).__name__}: {error}"[:_MOST_OF_AN_ERROR]
        due = next_try(message.tries, most, self._now())
        if due is None:
            return self._buried(message, told, error)
        _LOG.warning(
            "Message %s failed (try %d of %d), next at %s: %s",
            message.key,
            message.tries,
            most,
            due,
            told,
            exc_info=error,
        )
        with self._store.begin() as tx:
            tx.put_off(message.key, due, told)
        return "failed"

    def _tell_unhandled(self) -> None:
        """Have the log name the topics that wait and that nobody handles here, once in a while."""
        now = self._now()
        if self._looked_at is not None and abs(now - self._looked_at) < WITHOUT_HANDLER:
            return
        self._looked_at = now
        for topic in self._store.overdue_topics(now - WITHOUT_HANDLER):
            if topic not in self._handlers:
                _LOG.error(
                    "Messages of the topic %r wait, and this process has no handler for it: register it with "
                    "`checkout.outbox.handler`, or see that a worker runs that has it.",
                    topic,
                )

    def _buried(self, message: Outgoing, told: str, error: Exception | None = None) -> str:
        _LOG.error("Message %s is a dead letter after %d tries: %s", message.key, message.tries, told, exc_info=error)
        with self._store.begin() as tx:
            tx.bury(message.key, self._now(), told)
        return "dead"
