"""The shop's work behind the pages, for Celery: ``celery -A examples.flask_shop.background worker`` and ``… beat``.

SHOP_BROKER is the broker's address (Redis on this machine if missing); everything else is set as for the shop itself.
The app is made in the process that does the work, so that no connection is shared with the one that it was forked
from. Without Celery, ``deposit-token worker --checkout examples.flask_shop:create_app`` does the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache

from celery import Celery  # type: ignore[import-untyped]  # Celery ships no types
from flask import Flask

from deposit_token_sdk import Checkout
from deposit_token_sdk.integrations.celery import deposit_token_tasks
from examples.flask_shop.app import create_app
from examples.flask_shop.payments import payments


@cache
def _shop() -> Flask:
    return create_app()


@contextmanager
def _checkout() -> Iterator[Checkout]:
    """The shop's checkout in an app context of its own, which ends the database session with it."""
    with _shop().app_context():
        yield payments().checkout


def _seconds(name: str, usual: float) -> float:
    return float(os.environ.get(name) or usual)


celery = Celery("fernhill", broker=os.environ.get("SHOP_BROKER", "redis://127.0.0.1:6379/0"))
_tasks = deposit_token_tasks(celery, _checkout, older_than=timedelta(seconds=_seconds("SHOP_SWEEP_OLDER_THAN", 60)))
celery.conf.update(
    broker_connection_retry_on_startup=True,
    worker_prefetch_multiplier=1,  # a busy process leaves the next message to an idle one
    beat_schedule=_tasks.schedule(
        outbox=_seconds("SHOP_OUTBOX_EVERY", 5),
        sweep=_seconds("SHOP_SWEEP_EVERY", 60),
        seal=_seconds("SHOP_SEAL_EVERY", 10),
    ),
)
