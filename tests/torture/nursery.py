"""Where the parts are born: a process that has imported all that they need, and does nothing but fork.

To import Flask, SQLAlchemy and the SDK takes a second of a processor's time, and a run starts some fifty parts. What
they do from then on is the same: each is a process of its own, with its own environment, arguments and log, and leads
a session of its own, so that a kill takes all of its processes at once.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

ROOT = Path(__file__).resolve().parent.parent.parent

NEEDED: Final = (
    *("flask", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite"),
    *("waitress.server", "tests.torture.run"),
    *(
        f"deposit_token_sdk.checkout.{name}"
        for name in ("door", "flow", "offering", "proving", "receiving", "review", "sql")
    ),
    *(f"deposit_token_sdk.cli.{name}" for name in ("evidence", "sandbox", "worker")),
    *(f"deposit_token_sdk.issuers.{name}" for name in ("antom", "jpmorgan", "reference")),
    *(f"deposit_token_sdk.sandbox.{name}" for name in ("approval", "dashboard", "embedded", "web")),
    *(f"deposit_token_sdk.sandbox.dialects.{name}" for name in ("antom", "jpmorgan_v1", "jpmorgan_v2")),
    *(f"deposit_token_sdk.{name}" for name in ("client", "integrations.flask", "offers.directory", "transport")),
)
"""What bank, shop, worker and harness import sooner or later, but for what reads the environment then."""

_forks = get_context("forkserver")
_forks.set_forkserver_preload(list(NEEDED))


def born(module: str, arguments: Sequence[str], log: Path, environ: Mapping[str, str]) -> ForkServerProcess:
    """`python -m module …`, already running, with its output at the end of the log."""
    process = _forks.Process(target=_live, args=(module, list(arguments), str(log), dict(environ)), daemon=True)
    process.start()
    return process


def _live(module: str, arguments: list[str], log: str, environ: dict[str, str]) -> None:
    os.setsid()
    os.chdir(ROOT)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
