"""What a fork must not share: a child that speaks on its parent's database connections gets the parent's answers.

gunicorn with ``--preload`` and Celery's prefork make children of a process that may have read the database already.
Each engine that a SqlStore works through is noted here, and in a child it begins with no connections; the parent's
stay open and are the parent's. A session that is open while its process forks is not mended by this: close it first.
"""

from __future__ import annotations

import os
from typing import Final
from weakref import WeakSet

from sqlalchemy import Engine

_ENGINES: Final[WeakSet[Engine]] = WeakSet()


def begins_anew_in_children(engine: Engine) -> None:
    """Have a child process open connections of its own through this engine."""
    _ENGINES.add(engine)


def _after_fork_in_child() -> None:
    for engine in list(_ENGINES):
        engine.dispose(close=False)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
