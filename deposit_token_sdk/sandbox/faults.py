"""What goes wrong on demand: rules that match a request or a message, so many times, for one invoice or for all.

A rule is taken when something asks "does this go wrong here?"; what then happens is done where it happens (the web
edge, the outbox). Rules live in memory: a restarted bank behaves.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import Final

from attrs import asdict, evolve, frozen

from deposit_token_sdk.sandbox.problems import Refused

KINDS: Final[dict[str, str]] = {
    "latency": "the answer comes `seconds` late",
    "error_before": "503, and nothing was done",
    "error_after": "500 after the work was done; the key replays the true answer",
    "kept_error": "500 in place of the work, kept under the idempotency key",
    "kept_error_after": "500 after the work was done, kept under the idempotency key",
    "dropped": "the work is done, the connection closed without an answer",
    "rate_limited": "429 with Retry-After of `seconds`, and nothing was done",
    "webhook_lost": "the message is never sent, until it is resent",
    "webhook_repeated": "the message is sent twice",
    "payment_held": "an approved payment stays seen, not settled",
    "refund_pending": "an accepted refund stays pending",
}
"""Every kind of fault and what it does."""


@frozen
class Fault:
    """One rule. `count` None: until cleared. `invoice` (an id or a reference) and `route` (a template such as
    ``POST /invoices``, or an event's type) narrow it."""

    id: int
    kind: str
    count: int | None = 1
    invoice: str | None = None
    route: str | None = None
    seconds: float = 0.0


class Faults:
    """The rules in force, safe to ask from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Fault] = []
        self._made = 0

    def add(
        self,
        kind: str,
        count: int | None = 1,
        invoice: str | None = None,
        route: str | None = None,
        seconds: float = 0.0,
    ) -> Fault:
        """Put a rule in force, after those there are. Raises Refused (``malformed``)."""
        if kind not in KINDS:
            raise Refused("malformed", f"{kind!r} is no fault; there are {', '.join(KINDS)}.")
        if (count is not None and count < 1) or not 0 <= seconds <= 3600:
            raise Refused("malformed", "A fault's count is 1 or more (or none), its seconds 0 to 3600.")
        with self._lock:
            self._made += 1
            rule = Fault(self._made, kind, count, invoice, route, seconds)
            self._rules.append(rule)
            return rule

    def take(self, kind: str, *, about: Collection[str | None] = (), route: str | None = None) -> Fault | None:
        """The first rule of that kind that fits, counted down; None if all goes well.

        `about` are the ids and references at hand.
        """
        with self._lock:
            for position, rule in enumerate(self._rules):
                fits = rule.invoice is None or rule.invoice in about
                if fits and rule.kind == kind and rule.route in (None, route):
                    self._count_down(position, rule)
                    return rule
        return None

    def clear(self, kind: str | None = None) -> None:
        """Take back all rules, or all of one kind."""
        with self._lock:
            self._rules = [rule for rule in self._rules if kind is not None and rule.kind != kind]

    def listed(self) -> list[dict[str, object]]:
        """The rules in force, as JSON."""
        with self._lock:
            return [asdict(rule) for rule in self._rules]

    def _count_down(self, position: int, rule: Fault) -> None:
        if rule.count is None:
            return
        if rule.count == 1:
            del self._rules[position]
        else:
            self._rules[position] = evolve(rule, count=rule.count - 1)
