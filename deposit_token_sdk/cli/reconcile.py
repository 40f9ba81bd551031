"""``deposit-token reconcile``: ask the banks about everything that is due, then set whole days side by side.

For people it prints tables, for machines CSV or JSON, and for a monitor it ends with a code: 0 all agrees, 1 something
differs or was not answered, 2 it was called wrongly, 3 a bank or the database could not be asked, so nothing is known.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from deposit_token_sdk.cli.loading import Loaded, checkout_of, checkout_option
from deposit_token_sdk.errors import ConfigurationError, DepositTokenError

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.day import DayReport, Progress
    from deposit_token_sdk.cli.day_report import Swept

AGREES, DIFFERS, UNKNOWN = 0, 1, 3
"""The exit codes; 2 is click's own, for a command line that cannot be."""

BATCH: Final = 50
"""Attempts asked about in one batch."""

MARGIN: Final = timedelta(milliseconds=50)
"""So much earlier than our beginning a later batch looks, lest it takes again what the first one has asked about."""

AWAY: Final = frozenset({"unreachable", "no_answer", "server_error", "rate_limited", "keys_unavailable"})
"""Reasons that say that the bank itself could not be asked."""

_DATE = click.DateTime(["%Y-%m-%d"])


@click.command("reconcile")
@checkout_option
@click.option(
    "--older-than",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Ask about nothing that was asked, or began, less than this ago.",
)
@click.option(
    "--day",
    "days",
    type=_DATE,
    multiple=True,
    metavar="YYYY-MM-DD",
    help="The day of the report, in UTC; may be given several times.  [default: yesterday and today]",
)
@click.option("--no-report", is_flag=True, help="Only ask about what is due.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json"]),
    default="table",
    show_default=True,
    help="Of the report.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write the report there instead of to standard output.",
)
@click.pass_context
def command(
    context: click.Context,
    spec: str | None,
    older_than: float,
    days: tuple[datetime, ...],
    no_report: bool,
    form: str,
    output: Path | None,
) -> None:
    """Ask the bank about what is due, and compare whole days with its ledger.

    Exit codes: 0 all agrees, 1 something differs or was not answered, 2 wrong usage, 3 the bank or the database could
    not be asked.
    """
    if no_report and (days or output or form != "table"):
        raise click.UsageError("--no-report makes no report: leave out --day, --format and --output.")
    shop = checkout_of(spec)
    with _errors_logged():
        swept, reports = _done(shop, timedelta(seconds=older_than), () if no_report else _days(days))
    if no_report:
        click.echo(_in_words(swept))
    else:
        _write(swept, reports, form, output)
    for reference, reason in swept.failed:
        click.echo(f"{reference}: {reason}", err=True)
    agrees = not swept.failed and all(report.agrees for report in reports)
    away = no_report and bool(swept.failed) and all(reason in AWAY for _, reason in swept.failed)
    context.exit(AGREES if agrees else UNKNOWN if away and len(swept.failed) == swept.asked else DIFFERS)


@contextmanager
def _errors_logged() -> Iterator[None]:
    """What fails is listed at the end, in a line each; only what nobody foresaw is worth a traceback."""
    handler = logging.StreamHandler()
    handler.setLevel(logging.ERROR)
    logger = logging.getLogger("deposit_token_sdk")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def _days(given: tuple[datetime, ...]) -> tuple[date, ...]:
    today = datetime.now(UTC).date()
    return tuple(dict.fromkeys(each.date() for each in given)) or (today - timedelta(days=1), today)


def _done(shop: Loaded, older_than: timedelta, days: tuple[date, ...]) -> tuple[Swept, tuple[DayReport, ...]]:
    """The sweep and the reports; what keeps either from being made ends the command, in a sentence."""
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - not for --help

    try:
        with _progress() as progress:
            swept = _sweep(shop, older_than, progress)
            reports: list[DayReport] = []
            for day in days:
                with shop.open() as checkout:
                    reports += checkout.day(day, progress)
        if days and not reports:
            raise _Unknown("No bank of this shop offers its ledger: nothing was compared.")
        return swept, tuple(reports)
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except DepositTokenError as error:
        raise _Unknown(f"{error} ({error.reason}) Nothing was compared.") from None
    except SQLAlchemyError as error:
        raise _Unknown(
            f"The shop's database could not be asked ({type(error).__name__}): {_first_line(error)}"
        ) from None


class _Unknown(click.ClickException):
    """Neither yes nor no: the question could not be put."""

    exit_code = UNKNOWN


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:300]


def _sweep(shop: Loaded, older_than: timedelta, progress: Progress) -> Swept:
    """Batch after batch of what was due when we began, until nothing is left or the bank does not answer at all."""
    from deposit_token_sdk.cli.day_report import Swept  # noqa: PLC0415 - loaded when it is used

    began = time.monotonic()
    asked = applied = 0
    failed: list[tuple[str, str]] = []
    while True:
        age = older_than + timedelta(seconds=time.monotonic() - began)
        with shop.open() as checkout:
            done = checkout.reconcile(age + MARGIN if asked else age, BATCH)
        asked, applied = asked + done.asked, applied + done.applied
        failed += done.failed
        progress("due", asked, None)
        if done.asked < BATCH or len(done.failed) == done.asked:
            return Swept(asked, applied, tuple(failed))


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _of: None
        return
    from rich.console import Console  # noqa: PLC0415 - slow to load
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - loaded when it is used

    names = {
        "due": "asking about what is due",
        "ledger": "the bank's ledger",
        "invoices": "the bank's invoices",
        "orders": "comparing",
        "asking": "asking about what differs",
    }
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(names["due"], total=None)

        def tell(what: str, done: int, of: int | None) -> None:
            bars.update(task, description=names.get(what, what), completed=done, total=of)

        yield tell


def _write(swept: Swept, reports: tuple[DayReport, ...], form: str, output: Path | None) -> None:
    from deposit_token_sdk.cli import day_report  # noqa: PLC0415 - loaded when it is used

    if form == "table":
        _print(swept, reports, output)
        return
    text = day_report.as_json(swept, reports) if form == "json" else day_report.as_csv(reports)
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8", newline="")


def _print(swept: Swept, reports: tuple[DayReport, ...], output: Path | None) -> None:
    from rich.console import Console  # noqa: PLC0415 - slow to load

    from deposit_token_sdk.cli import day_report  # noqa: PLC0415 - loaded when it is used

    with nullcontext(sys.stdout) if output is None else output.open("w", encoding="utf-8") as file:
        console = Console(file=file, width=None if file.isatty() else day_report.WIDTH, highlight=False)
        console.print(_in_words(swept))
        for report in reports:
            console.print()
            day_report.show(console, report)


def _in_words(swept: Swept) -> str:
    return f"asked {swept.asked}, had news {swept.applied}, failed {len(swept.failed)}"
