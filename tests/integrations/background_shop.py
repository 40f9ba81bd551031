"""A shop in a process of its own, for tests of the work behind the pages.

Its outbox has one topic. The handler leaves a file for each call, named by the message's key and unlike any other; it
waits while the payload's file `gate` is missing, and raises where the payload says so.
"""

from __future__ import annotations

import json
import os
import time
from functools import cache
from pathlib import Path
from tempfile import mkstemp

from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import Checkout, Client, SqlStore
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.checkout.store import Outgoing

TOPIC = "note"


@cache
def checkout() -> Checkout:
    """The shop's checkout, by the variables DATABASE, NOTES and DEPOSIT_TOKEN_*."""
    engine = create_engine(os.environ["DATABASE"])
    prepare_sqlite(engine)
    made = Checkout(Client.from_env(), SqlStore(sessionmaker(engine)))
    made.outbox.handler(TOPIC)(note)
    made.store.installation()  # as a shop that reads its database before it is forked
    return made


def note(message: Outgoing) -> None:
    payload = json.loads(message.payload)
    handle, _ = mkstemp(prefix=f"{message.key}.", dir=os.environ["NOTES"])
    os.close(handle)
    while "gate" in payload and not Path(payload["gate"]).exists():
        time.sleep(0.02)
    if payload.get("fails"):
        raise RuntimeError("no mail server answers")
