"""Where an invoice stands, worked out from what the bank has shown.

News only accumulates: a history is a set of observations and joining two is set union, so that late, repeated
and reordered news cannot hurt. All else is read from the set. Whether news is genuine is evidence's question;
what was due and until when is the quote's; saving and calling hooks is checkout's.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import IntEnum, StrEnum

from attrs import frozen


class Stage(IntEnum):
    """How far one movement of money has come; a later stage supersedes an earlier one.

    UNKNOWN is a word of the bank that we do not know: kept, and never final.
    """

    UNKNOWN = 0
    SEEN = 1
    HELD = 2
    RELEASED = 3
    SETTLED = 4
    RETURNED = 5


class Word(StrEnum):
    """What the bank itself says about an invoice's end; nobody else's clock decides it."""

    EXPIRED = "expired"
    CANCELLED = "cancelled"


class RefundStage(IntEnum):
    """How far a refund has come; a later stage supersedes an earlier one, so that one done can still fail."""

    REQUESTED = 0
    UNKNOWN = 1
    PENDING = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5

    @property
    def counts(self) -> bool:
        """Whether the refund still lays claim to its amount; a failed or cancelled one frees it."""
        return self < RefundStage.FAILED


class Status(StrEnum):
    """Where an invoice stands as a whole."""

    OPEN = "open"
    PENDING = "pending"
    AUTHORIZED = "authorized"
    PAID = "paid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    RETURNED = "returned"


@frozen
class Observation:
    """One movement at one stage, in the bank's own words. A return has an id of its own.

    `units` are token units, `accepted_at` is when the bank accepted the payment (ISO 20022 AccptncDtTm).
    """

    movement: str
    stage: Stage
    units: int
    accepted_at: datetime


@frozen
class History:
    """All that the bank has shown about one invoice."""

    observations: frozenset[Observation] = frozenset()
    words: frozenset[Word] = frozenset()


@frozen
class Terms:
    """What was due, in token units, and until when: the quote's word, never the shop's clock."""

    due: int
    expires_at: datetime


@frozen
class Standing:
    """What follows from a history: the status, and beside it what no status can say."""

    status: Status
    due: int
    received: int
    late: bool
    conflicts: frozenset[str]

    @property
    def underpaid(self) -> int:
        """Units that are still missing where some, but not all, have come."""
        return self.due - self.received if 0 < self.received < self.due else 0

    @property
    def overpaid(self) -> int:
        """Units that came beyond what was due."""
        return max(0, self.received - self.due)

    @property
    def money_on_its_way(self) -> bool:
        """Whether the bank has shown money that is neither settled nor let go."""
        return self.status in (Status.PENDING, Status.AUTHORIZED)


def join(known: History, shown: History) -> History:
    """All that either side knows: commutative, associative, idempotent."""
    return History(known.observations | shown.observations, known.words | shown.words)


def received(history: History) -> int:
    """Token units settled and not sent back by the bank; what is in conflict does not count."""
    standing = _furthest(history)
    return _units(standing, Stage.SETTLED) - _units(standing, Stage.RETURNED)


def settled(history: History) -> int:
    """Token units that were ever settled, whatever the bank took back later; what is in conflict does not count."""
    return _units(_furthest(history), Stage.SETTLED)


def held(history: History) -> int:
    """Token units that the bank holds now, neither settled nor let go."""
    return _units(_furthest(history), Stage.HELD)


def conflicts(history: History) -> frozenset[str]:
    """Movements of which the bank has named two amounts: for a person to decide, never for us."""
    named: dict[str, set[int]] = {}
    for seen in history.observations:
        named.setdefault(seen.movement, set()).add(seen.units)
    return frozenset(movement for movement, units in named.items() if len(units) > 1)


def standing(history: History, terms: Terms) -> Standing:
    """What the history amounts to under these terms: derived anew each time, stored nowhere as truth."""
    furthest = _furthest(history)
    got = _units(furthest, Stage.SETTLED) - _units(furthest, Stage.RETURNED)
    return Standing(
        status=_status(history, furthest, got, terms.due),
        due=terms.due,
        received=got,
        late=_late(furthest, terms),
        conflicts=conflicts(history),
    )


def _status(history: History, furthest: list[Observation], got: int, due: int) -> Status:
    stages = {seen.stage for seen in furthest}
    if Stage.RETURNED in stages and got < due:
        return Status.RETURNED
    if got >= due:
        return Status.PAID
    if Stage.HELD in stages:
        return Status.AUTHORIZED
    if Stage.SEEN in stages:
        return Status.PENDING
    if Word.CANCELLED in history.words:
        return Status.CANCELLED
    if Word.EXPIRED in history.words:
        return Status.EXPIRED
    return Status.PENDING if Stage.UNKNOWN in stages else Status.OPEN


def _late(furthest: list[Observation], terms: Terms) -> bool:
    settled = [seen for seen in furthest if seen.stage is Stage.SETTLED]
    in_time = sum(seen.units for seen in settled if seen.accepted_at <= terms.expires_at)
    return in_time < terms.due and any(seen.accepted_at > terms.expires_at for seen in settled)


def _furthest(history: History) -> list[Observation]:
    """Of each movement the observation at its latest stage; movements in conflict are left out."""
    doubtful = conflicts(history)
    latest: dict[str, Observation] = {}
    for seen in sorted(history.observations, key=lambda seen: (seen.stage, seen.accepted_at)):
        if seen.movement not in doubtful:
            latest[seen.movement] = seen
    return list(latest.values())


def _units(furthest: Iterable[Observation], stage: Stage) -> int:
    return sum(seen.units for seen in furthest if seen.stage is stage)
