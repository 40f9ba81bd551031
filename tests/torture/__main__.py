"""`make torture`: kill shop, worker and bank again and again during a thousand purchases, and compare the books.

By environment: ``SEED`` repeats the choices of an earlier run, ``ISSUER`` (reference, antom, jpmorgan, jpmorgan-v1)
has the bank speak that API, ``PURCHASES`` (1000; 200 by another API than the reference) and ``MINUTES`` (5, for all
databases together) bound it, ``DATABASES`` (sqlite,postgres) names where the shop keeps its tables, ``KEEP=1`` keeps
databases and logs, ``SABOTAGE`` (lost-commits, older-copy, lost-refund) spoils one side, to see that it shows. The last
line is ``differences: N``; the exit code is 0 only if N is 0.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from attrs import frozen
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.testing import servers
from tests.torture import plan, sabotage
from tests.torture.parts import STOPPING, PartFailed, Stopped
from tests.torture.run import Stage, torture
from tests.torture.sabotage import Sabotage

N = TypeVar("N", int, float)
DATABASES = ("sqlite", "postgres")


@frozen
class Options:
    """What the environment asks for."""

    seed: int
    issuer: str
    purchases: int
    minutes: float
    databases: tuple[str, ...]
    keep: bool
    sabotage: str

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Options:
        """Raises ValueError, with what was expected."""
        databases = tuple(environ.get("DATABASES", ",".join(DATABASES)).replace(",", " ").split())
        issuer = environ.get("ISSUER") or "reference"
        if issuer not in plan.APIS:
            raise ValueError(f"ISSUER is one of {', '.join(plan.APIS)}, not {issuer!r}.")
        options = cls(
            seed=_number(environ, "SEED", secrets.randbelow(1_000_000)),
            issuer=issuer,
            purchases=_number(environ, "PURCHASES", 1000 if issuer == "reference" else 200),
            minutes=_number(environ, "MINUTES", 5.0),
            databases=databases,
            keep=environ.get("KEEP", "") not in ("", "0"),
            sabotage=environ.get("SABOTAGE", ""),
        )
        if not databases or set(databases) - set(DATABASES):
            raise ValueError(f"DATABASES is some of {','.join(DATABASES)}, not {','.join(databases)!r}.")
        if options.sabotage not in sabotage.KINDS:
            raise ValueError(f"SABOTAGE is one of {', '.join(sabotage.KINDS[1:])}, not {options.sabotage!r}.")
        if options.purchases < 1 or options.minutes <= 0:
            raise ValueError("PURCHASES is 1 or more, and MINUTES above 0.")
        return options


def _number(environ: Mapping[str, str], name: str, usual: N) -> N:
    """The number of this name, of the kind that the usual one is. Raises ValueError."""
    try:
        return type(usual)(environ[name]) if environ.get(name) else usual
    except ValueError:
        raise ValueError(f"{name} is a number, not {environ[name]!r}.") from None


def main() -> int:
    """Run, report, and return the exit code."""
    try:
        options = Options.of(os.environ)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: STOPPING.set())
    _say(f"seed {options.seed} (SEED={options.seed} repeats this run's choices)")
    _say(
        f"{options.purchases} purchases by {options.issuer} on each of: {', '.join(options.databases)}; "
        f"{options.minutes:g} minutes in all"
    )
    _say("Processes are killed with SIGKILL. That is no power cut: what a disk does with it, this cannot show.")
    if options.sabotage:
        _say(f"sabotage: {options.sabotage}")
    count = 0
    began = time.monotonic()
    ends = began + options.minutes * 60
    for left, database in zip(range(len(options.databases), 0, -1), options.databases, strict=True):
        try:
            count += _tortured(database, options, (ends - time.monotonic()) / left)
        except Stopped:
            _say("Stopped by a signal; nothing is left running, and nothing was compared.")
            return 1
        except (PartFailed, DepositTokenError, SQLAlchemyError) as error:
            _say(f"difference on {database}: the run could not go on: {str(error).splitlines()[0]}")
            count += 1
    _say(f"differences: {count}")
    return 0 if count == 0 else 1


def _tortured(database: str, options: Options, seconds: float) -> int:
    """One database's run, told; the number of differences."""
    folder = Path(tempfile.mkdtemp(prefix=f"deposit-token-torture-{database}-"))
    began = time.monotonic()
    try:
        with _database(database, folder) as url:
            spoilt = Sabotage(options.sabotage)
            older_than = 5 if options.purchases < 100 else 45
            stage = Stage(folder, url, options.seed, options.issuer, older_than=older_than, told=spoilt.environ())
            result = torture(database, stage, options.purchases, seconds, spoilt)
    finally:
        if options.keep:
            _say(f"({database}'s databases and logs are in {folder})")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    for difference in result.differences:
        _say(f"difference on {database}: {difference}")
    _say(result.line())
    _say(f"({database} took {time.monotonic() - began:.0f} s)")
    return len(result.differences)


@contextmanager
def _database(kind: str, folder: Path) -> Iterator[str]:
    """An empty database for the shop. PostgreSQL's goes with its server."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'shop.sqlite3'}"
        return
    with servers.postgres() as server:
        engine = create_engine(server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE shop")
        engine.dispose()
        yield make_url(server).set(database="shop").render_as_string(hide_password=False)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
