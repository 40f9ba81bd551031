"""What goes wrong on demand: rules that match a request or a message, by count, by rate, for one invoice or for all.

A rule is taken when something asks "does this go wrong here?"; what then happens is done where it happens (the web
edge, the outbox). A rule with a rate draws from its own seed, so that the same requests meet the same trouble again.
Rules live in memory: a restarted bank behaves.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from random import Random
from typing import Final

from attrs import asdict, define, frozen

from deposit_token_sdk.sandbox.problems import Refused

KINDS: Final[dict[str, str]] = {
    "latency": "the answer comes `seconds` late",
    "dripping": "the answer comes byte by byte, over `seconds`",
    "error_before": "503, and nothing was done",
    "error_after": "500 after the work was done; the key replays the true answer",
    "kept_error": "500 in place of the work, kept under the idempotency key",
    "kept_error_after": "500 after the work was done, kept under the idempotency key",
    "dropped": "the work is done, the connection closed without an answer",
    "rate_limited": "429 with Retry-After of `seconds`, and nothing was done",
    "webhook_lost": "the message is never sent, until it is resent",
    "webhook_repeated": "the message is sent twice",
    "webhook_delayed": "the message is first sent after `seconds`",
    "webhook_reordered": "the message waits until a later one about its invoice went out, `seconds` at most (0: 5)",
    "webhook_corrupted": "one byte of the message is changed on its way; what is sent again is whole",
    "webhook_unanswered": "the message arrives, its answer does not: it comes again after `seconds`, hours if you like",
    "payment_held": "an approved payment stays seen, not settled",
    "approved_twice": "an approval in a page that was opened before the invoice was paid pays the whole once more",
    "refund_pending": "an accepted refund stays pending",
}
"""Every kind of fault and what it does."""

LONGEST: Final = 7 * 86_400.0
"""No fault lasts longer, in seconds: a week."""


@frozen
class Fault:
    """One rule. `count` None: until cleared. `invoice` (an id or a reference) and `route` (a template such as
    ``POST /invoices``, or an event's type) narrow it; of what is left it hits a share of `rate`, drawn by `seed`.
    """

    id: int
    kind: str
    count: int | None = 1
    invoice: str | None = None
    route: str | None = None
    seconds: float = 0.0
    rate: float = 1.0
    seed: int = 0


@define
class _Rule:
    """A fault in force: how often it may still strike, and its dice."""

    fault: Fault
    left: int | None
    dice: Random

    def strikes(self, kind: str, about: Collection[str | None], route: str | None) -> bool:
        fault = self.fault
        fits = fault.kind == kind and fault.invoice in (None, *about) and fault.route in (None, route)
        return fits and (fault.rate >= 1 or self.dice.random() < fault.rate)


class Faults:
    """The rules in force, safe to ask from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self._made = 0
        self._struck: dict[str, int] = {}

    @property
    def in_force(self) -> bool:
        """Whether there is any rule in force."""
        with self._lock:
            return bool(self._rules)

    @property
    def of_one_invoice(self) -> bool:
        """Whether a rule in force waits for one invoice: then it counts by what names that goes."""
        with self._lock:
            return any(rule.fault.invoice is not None for rule in self._rules)

    def add(
        self,
        kind: str,
        count: int | None = 1,
        invoice: str | None = None,
        route: str | None = None,
        seconds: float = 0.0,
        rate: float = 1.0,
        seed: int = 0,
    ) -> Fault:
        """Put a rule in force, after those there are. Raises Refused (``malformed``)."""
        if kind not in KINDS:
            raise Refused("malformed", f"{kind!r} is no fault; there are {', '.join(KINDS)}.")
        if (count is not None and count < 1) or not 0 <= seconds <= LONGEST or not 0 < rate <= 1:
            bounds = f"its seconds 0 to {LONGEST:.0f}, its rate above 0 and at most 1"
            raise Refused("malformed", f"A fault's count is 1 or more (or none), {bounds}.")
        with self._lock:
            self._made += 1
            fault = Fault(self._made, kind, count, invoice, route, seconds, rate, seed)
            self._rules.append(_Rule(fault, count, Random(seed)))  # noqa: S311 - dice, no secret
            return fault

    def take(self, kind: str, *, about: Collection[str | None] = (), route: str | None = None) -> Fault | None:
        """The first rule of that kind that strikes, counted down; None if all goes well.

        `about` are the ids and references at hand.
        """
        with self._lock:
            for rule in self._rules:
                if rule.strikes(kind, about, route):
                    self._struck[kind] = self._struck.get(kind, 0) + 1
                    if rule.left is not None:
                        rule.left -= 1
                        self._rules = [each for each in self._rules if each.left != 0]
                    return rule.fault
        return None

    def clear(self, kind: str | None = None, number: int | None = None) -> None:
        """Take back all rules, or all of one kind, or the one with that id."""
        with self._lock:
            self._rules = [
                rule
                for rule in self._rules
                if (kind is not None and rule.fault.kind != kind) or (number is not None and rule.fault.id != number)
            ]

    def counts(self) -> dict[str, int]:
        """How often each kind has struck since this bank process began; kinds that never did are left out."""
        with self._lock:
            return dict(sorted(self._struck.items()))

    def listed(self) -> list[dict[str, object]]:
        """The rules in force, as JSON; `count` is what is left of it."""
        with self._lock:
            return [{**asdict(rule.fault), "count": rule.left} for rule in self._rules]
