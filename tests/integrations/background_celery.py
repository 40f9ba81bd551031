"""The Celery app of the shop in `background_shop`, over the broker that BROKER names: ``celery -A`` on this module."""

from __future__ import annotations

import os
from contextlib import nullcontext

from celery import Celery  # type: ignore[import-untyped]  # Celery ships no types

from deposit_token_sdk.integrations.celery import deposit_token_tasks
from tests.integrations.background_shop import checkout

app = Celery("shop", broker=os.environ["BROKER"])
app.conf.broker_connection_retry_on_startup = True
app.conf.worker_prefetch_multiplier = 1
deposit_token_tasks(app, lambda: nullcontext(checkout()))
checkout()  # in the process that the workers are forked from
