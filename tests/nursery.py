"""Where tests' other processes are born: a process that has imported all that they need, and does nothing but fork.

To import Flask, SQLAlchemy and the SDK takes a second of a processor's time, and a run of the tests starts some twenty
such processes, one of torture some fifty. What they do from then on is the same: each is a process of its own, with
its own environment, arguments and output, and leads a session of its own, so that a kill takes all of its processes at
once. That a command starts where nothing is imported yet, tests/cli/test_doctor and test_sandbox_command see.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Final

from attrs import frozen

ROOT = Path(__file__).resolve().parent.parent

NEEDED: Final = (
    *("flask", "psycopg", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite.pysqlite"),
    *("examples.flask_shop.app", "rich.progress", "waitress.server", "tests.torture.run"),
    *(
        f"deposit_token_sdk.checkout.{name}"
        for name in ("day", "door", "flow", "offering", "proving", "receiving", "review", "sql")
    ),
    *(
        f"deposit_token_sdk.cli.{name}"
        for name in ("day_report", "doctor", "evidence", "reconcile", "sandbox", "worker")
    ),
    *(f"deposit_token_sdk.issuers.{name}" for name in ("antom", "jpmorgan", "reference")),
    *(f"deposit_token_sdk.sandbox.{name}" for name in ("approval", "dashboard", "embedded", "web")),
    *(f"deposit_token_sdk.sandbox.dialects.{name}" for name in ("antom", "jpmorgan_v1", "jpmorgan_v2")),
    *(f"deposit_token_sdk.{name}" for name in ("client", "integrations.flask", "offers.directory", "transport")),
)
"""What they import sooner or later, but for what reads the environment then."""

_forks = get_context("forkserver")
_forks.set_forkserver_preload(list(NEEDED))


@frozen
class Child:
    """`python -m module …`, already running."""

    process: ForkServerProcess
    output: Path
    errors: Path

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def said(self) -> str:
        """What it has printed."""
        return self.output.read_text(encoding="utf-8")

    def complained(self) -> str:
        """What it has printed as errors."""
        return self.errors.read_text(encoding="utf-8")

    def ended(self, seconds: float = 60.0) -> int:
        """How it ended: its exit code, or the signal as a negative number."""
        self.process.join(seconds)
        code = self.process.exitcode
        assert code is not None, f"still running; it said:\n{self.said()}{self.complained()}"
        return code


@contextmanager
def running(module: str, *arguments: str, environ: Mapping[str, str]) -> Iterator[Child]:
    """`python -m module …` with output of its own, killed at the end if it is still there."""
    with TemporaryDirectory() as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        child = Child(born(module, arguments, output, environ, errors), output, errors)
        try:
            yield child
        finally:
            child.process.kill()
            child.process.join()


def ran(module: str, *arguments: str, environ: Mapping[str, str]) -> CompletedProcess[str]:
    """`python -m module …`, and what came of it."""
    with running(module, *arguments, environ=environ) as child:
        code = child.ended()
        return CompletedProcess([module, *arguments], code, child.said(), child.complained())


def born(
    module: str, arguments: Sequence[str], output: Path, environ: Mapping[str, str], errors: Path | None = None
) -> ForkServerProcess:
    """`python -m module …`, already running; what it prints is added to the files, or all of it to the one."""
    files = [str(output), str(errors or output)]
    process = _forks.Process(target=_live, args=(module, list(arguments), files, dict(environ)), daemon=True)
    for file in files:
        Path(file).touch(0o600)
    process.start()
    return process


def _live(module: str, arguments: list[str], files: list[str], environ: dict[str, str]) -> None:
    os.setsid()
    os.chdir(ROOT)
    for descriptor, file in enumerate(files, 1):
        told = os.open(file, os.O_WRONLY | os.O_APPEND)
        os.dup2(told, descriptor)
        os.close(told)
    sys.stdout, sys.stderr = (open(number, "w", 1, "utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environ)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
