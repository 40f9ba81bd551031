"""The three jobs of the background, each in bounded batches: the outbox is sent, what is due is asked about, and what
is new is sealed.

`deposit-token worker` and the Celery tasks run these, and so can any other scheduler. Nothing here decides who works
on what: the store's claims do, so that any number of workers may run any of them at once. A batch that was cut off
leaves claims that run out, and the next worker does what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.flow import Checkout

OUTBOX_BATCH: Final = 20
"""Messages sent in one batch. Each may take a mail server's time, and a worker that is to end waits for the batch."""

SWEEP_BATCH: Final = 20
"""Attempts asked about in one batch: each is a call or two at the bank."""

SEAL_BATCH: Final = 1_000
"""Rows sealed in one batch."""

OLDER_THAN: Final = timedelta(minutes=1)
"""How long a sweep leaves news the time to come by itself, and the least time from question to question."""


@frozen
class Batch:
    """What one batch did: `counts` by name, in words `told`. `failed` is what will be tried again, or lies dead.

    `more` says that there is work left and reason to believe that it succeeds: run the next batch at once.
    """

    counts: Mapping[str, int]
    failed: int
    more: bool
    reasons: frozenset[str] = field(default=frozenset[str]())

    @property
    def idle(self) -> bool:
        """Whether there was nothing to do."""
        return not any(self.counts.values())

    @property
    def told(self) -> str:
        """For a log: ``asked 3, had news 1, failed 1 (unreachable)``."""
        reasons = f" ({', '.join(sorted(self.reasons))})" if self.reasons else ""
        return ", ".join(f"{name} {count}" for name, count in self.counts.items()) + reasons

    def then(self, following: Batch) -> Batch:
        """Both in one, as far as they are of one job."""
        counts = {name: self.counts.get(name, 0) + count for name, count in following.counts.items()}
        return Batch(counts, self.failed + following.failed, following.more, self.reasons | following.reasons)


def send_outbox(checkout: Checkout, limit: int = OUTBOX_BATCH) -> Batch:
    """Hand the messages that are due to their handlers. What fails is put off, so the next batch is of others."""
    result = checkout.outbox.deliver(limit)
    failed = result.failed + result.dead
    counts = {"sent": result.sent, "failed": result.failed, "dead": result.dead}
    return Batch(counts, failed, more=result.sent + failed >= limit and result.sent > 0)


def sweep(checkout: Checkout, before: datetime, limit: int = SWEEP_BATCH) -> Batch:
    """Ask the bank about what has been due since `before`, and apply its answers.

    The same `before` given to each batch makes them come to an end: what was asked is due later than that. Where not
    one question of a batch was answered there is no `more`: the bank is likely to be away.
    """
    done = checkout.reconcile(max(datetime.now(UTC) - before, timedelta(0)), limit)
    failed = len(done.failed)
    counts = {"asked": done.asked, "had news": done.applied, "failed": failed}
    reasons = frozenset(reason for _, reason in done.failed)
    return Batch(counts, failed, more=done.asked >= limit and failed < done.asked, reasons=reasons)


def seal(checkout: Checkout, limit: int = SEAL_BATCH) -> Batch:
    """Seal the evidence that is not sealed yet."""
    sealed = checkout.seal(limit)
    rows = 0 if sealed is None else sealed.size
    return Batch({"sealed": rows}, 0, more=rows >= limit)


JOBS: Final[Mapping[str, Callable[[Checkout, datetime], Batch]]] = {
    "outbox": lambda checkout, _: send_outbox(checkout),
    "sweep": sweep,
    "seal": lambda checkout, _: seal(checkout),
}
"""The jobs by name, each called with the checkout and the time that a sweep looks back to."""
