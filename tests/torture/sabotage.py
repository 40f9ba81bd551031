"""Losing what was committed, on purpose: a run that is sabotaged must end with differences.

``lost-commits``: one commit in ten of the shop's database is said to have been made and was not (`shop` does it).
``older-copy`` puts an older copy of the shop's database in the place of the real one in the middle of the run.
``lost-refund`` takes a refund out of the bank's books at the end, as a bank does that sent it and forgot.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import define
from sqlalchemy import create_engine, make_url

from tests.torture.plan import SHOP, WORKER

if TYPE_CHECKING:
    from tests.torture.run import Stage

KINDS: Final = ("", "lost-commits", "older-copy", "lost-refund")


@define
class Sabotage:
    """What is done, if anything, and how far it has come."""

    kind: str = ""
    _copied: bool = False
    _restored: bool = False

    def meanwhile(self, stage: Stage, done: int, count: int) -> None:
        """Copy the shop's database at a third of the purchases, and put the copy back at two thirds."""
        if self.kind != "older-copy":
            return
        if not self._copied and done >= count // 3:
            self._at_rest(stage, _copy)
            self._copied = True
        elif not self._restored and done >= count * 2 // 3:
            self.restore(stage)

    def restore(self, stage: Stage) -> None:
        """Put the older copy back, if there is one and it has not been put back yet."""
        if self._copied and not self._restored:
            self._at_rest(stage, _restore)
            self._restored = True

    @property
    def threads(self) -> int:
        """How many buyers there are at once: few where a third of the purchases must not be over in a moment."""
        return 3 if self.kind == "older-copy" else 40

    def environ(self) -> dict[str, str]:
        """What the shop's processes are told."""
        return {"TORTURE_LOSES": "0.1"} if self.kind == "lost-commits" else {}

    def _at_rest(self, stage: Stage, act: Callable[[str], None]) -> None:
        """Between an end and a new start of everything that has the database open."""
        for name in (SHOP, WORKER):
            stage.parts[name].end()
        act(stage.url)
        for name in (SHOP, WORKER):
            stage.parts[name].start()

    def at_the_end(self, stage: Stage) -> None:
        """Forget the last refund that was done, with all that was booked for it."""
        if self.kind != "lost-refund":
            return
        stage.end()
        with closing(sqlite3.connect(stage.bank_file)) as connection, connection:
            (refund,) = connection.execute("SELECT id FROM refunds WHERE status = 'done' ORDER BY seq DESC").fetchone()
            connection.execute("DELETE FROM refunds WHERE id = ?", (refund,))


def _copy(url: str) -> None:
    if url.startswith("sqlite"):
        _checkpoint(_file(url))
        shutil.copy(_file(url), _file(url).with_suffix(".older"))
    else:
        _in_postgres(url, "DROP DATABASE IF EXISTS older", 'CREATE DATABASE older TEMPLATE "{name}"')


def _restore(url: str) -> None:
    if url.startswith("sqlite"):
        _checkpoint(_file(url))
        shutil.copy(_file(url).with_suffix(".older"), _file(url))
    else:
        _in_postgres(url, 'DROP DATABASE "{name}"', 'ALTER DATABASE older RENAME TO "{name}"')


def _file(url: str) -> Path:
    return Path(make_url(url).database or "")


def _checkpoint(file: Path) -> None:
    """Have everything in the one file, so that a copy of it is whole."""
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _in_postgres(url: str, *statements: str) -> None:
    name = make_url(url).database
    engine = create_engine(make_url(url).set(database="postgres"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement.format(name=name))
    engine.dispose()
