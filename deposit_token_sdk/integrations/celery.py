"""The three jobs of the background as Celery tasks: outbox, sweep and seal, over Redis or any other broker.

A task does one bounded batch and queues the next while there is more, so that none of them runs for long and workers
share what there is. All of them may run on any number of workers at once, twice for one message of the broker too:
the store's claims keep two from taking the same piece. Losing the broker loses no work, since every tick of the
schedule looks in the database for what is left.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen
from celery import Celery  # type: ignore[import-untyped]  # Celery ships no types

from deposit_token_sdk.integrations.jobs import JOBS, OLDER_THAN

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.flow import Checkout

_LOG = logging.getLogger("deposit_token_sdk.celery")

PREFIX: Final = "deposit_token"
"""The tasks are named ``deposit_token.outbox``, ``deposit_token.sweep`` and ``deposit_token.seal``."""


@frozen
class Tasks:
    """The tasks as Celery knows them, and when its beat should start them."""

    outbox: Any
    sweep: Any
    seal: Any

    def schedule(self, *, outbox: float = 5.0, sweep: float = 60.0, seal: float = 10.0) -> dict[str, dict[str, Any]]:
        """Entries for ``app.conf.beat_schedule``: each task is started every so many seconds.

        A start that no worker has taken by the next one is dropped, so that a worker that was away comes back to no
        crowd.
        """
        every = ((self.outbox, outbox), (self.sweep, sweep), (self.seal, seal))
        return {
            task.name: {"task": task.name, "schedule": seconds, "options": {"expires": seconds}}
            for task, seconds in every
        }


def deposit_token_tasks(
    app: Celery,
    open_checkout: Callable[[], AbstractContextManager[Checkout]],
    *,
    older_than: timedelta = OLDER_THAN,
) -> Tasks:
    """Make the three tasks known to the shop's Celery app; add `Tasks.schedule()` to its ``beat_schedule``.

    `open_checkout` gives the checkout for one batch: ``lambda: nullcontext(checkout)``, or a Flask app's inside its
    app context. It is called in the process that does the work. `older_than` is what `Checkout.reconcile` takes. A
    batch that raises is logged by Celery and done again at the next tick.
    """
    return Tasks(*(_task(app, name, open_checkout, older_than) for name in ("outbox", "sweep", "seal")))


def _task(
    app: Celery, name: str, open_checkout: Callable[[], AbstractContextManager[Checkout]], older_than: timedelta
) -> Any:
    def batch(before: str | None = None) -> None:
        since = datetime.now(UTC) - older_than if before is None else datetime.fromisoformat(before)
        with open_checkout() as checkout:
            did = JOBS[name](checkout, since)
        if not did.idle:
            _LOG.log(logging.WARNING if did.failed else logging.INFO, "%s: %s", name, did.told)
        if did.more:
            task.apply_async(kwargs={"before": since.isoformat()})

    # Acknowledged when done, so that a message outlives its worker. The result is in the database. Not shared: Celery
    # would give these to every other app of the process as well.
    task: Any = app.task(batch, name=f"{PREFIX}.{name}", shared=False, acks_late=True, ignore_result=True)
    return task
