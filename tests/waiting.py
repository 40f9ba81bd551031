"""Waiting for what another thread or process does, when nothing tells that it is done: one look after another."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    holds: Callable[[], object], seconds: float = 30.0, complaint: Callable[[], str] = lambda: "it did not come about"
) -> None:
    """Look again until it holds. Raises AssertionError with the complaint when the time is up."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, complaint()
        time.sleep(0.02)
