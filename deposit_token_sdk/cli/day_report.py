"""A day's report as a table for people, and as CSV and JSON for machines: stable, documented in docs/reconciliation.md.

Amounts are written twice, as whole token units and as decimal text, and never as a number that a reader could round.
Nothing here decides: `checkout.books` does.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from deposit_token_sdk.checkout.books import BOOKED, KINDS, Difference, Row
from deposit_token_sdk.checkout.day import DayReport
from deposit_token_sdk.money import decimal_of

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

VERSION: Final = "deposit-token-reconciliation/1"
"""Named in the JSON; it changes when a reader of the old form would misread the new one."""

COLUMNS: Final = (
    "date",
    "issuer",
    "record",
    "kind",
    "order_id",
    "reference",
    "invoice",
    "subject",
    "status",
    "fulfilled",
    "token",
    "ours_units",
    "banks_units",
    "ours_amount",
    "banks_amount",
    "detail",
)
"""The columns of the CSV, in this order."""

SHOWN: Final = 40
"""Rows without a difference that the table shows; all of them are in the CSV and the JSON."""

WIDTH: Final = 160
"""Columns of the table where it does not go to a terminal."""

_FORMULAS = ("=", "+", "-", "@", "\t", "\r")


@frozen
class Swept:
    """What the sweeps before the reports came to."""

    asked: int = 0
    applied: int = 0
    failed: tuple[tuple[str, str], ...] = ()


def as_json(swept: Swept | None, reports: Iterable[DayReport]) -> str:
    """The whole as one JSON object, indented."""
    listed = list(reports)
    failed = () if swept is None else swept.failed
    told = {
        "format": VERSION,
        "agrees": not failed and all(report.agrees for report in listed),
        "swept": None
        if swept is None
        else {"asked": swept.asked, "applied": swept.applied, "failed": _failed(swept.failed)},
        "days": [_day(report) for report in listed],
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def as_csv(reports: Iterable[DayReport]) -> str:
    """One line for each total, for each row and kind of line, and for each difference."""
    written = io.StringIO()
    writer = csv.DictWriter(written, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for report in reports:
        for line in _records(report):
            common = {"date": report.day.isoformat(), "issuer": report.issuer}
            writer.writerow({name: _safe(value) for name, value in {**common, **line}.items()})
    return written.getvalue()


def show(console: Console, report: DayReport) -> None:
    """The report as tables, and a sentence for each difference."""
    from rich.markup import escape  # noqa: PLC0415 - slow to load

    console.print(f"[bold]{report.day}  {escape(report.issuer)}[/bold]  {_summary(report)}")
    if report.totals:
        console.print(_totals(report))
    rows, hidden = _shown(report.rows)
    if rows:
        console.print(_table(report, rows))
    if hidden:
        more = "more row agrees" if hidden == 1 else "more rows agree"
        console.print(f"{hidden} {more}; --format csv and --format json list all.")
    for each in report.differences:
        about = escape(" ".join(filter(None, ("order", each.order_id or "unknown", each.subject))))
        told = f"{KINDS.get(each.kind, each.kind)}. {escape(each.detail)}"
        console.print(f"[red]{each.kind}[/red] {about}: {told}", soft_wrap=True)
    if report.differences:
        console.print("docs/reconciliation.md says what to do about each.")
    for reference, reason in report.failed:
        console.print(f"[red]not answered[/red] {escape(reference)}: {escape(reason)}")


def _totals(report: DayReport) -> Table:
    from rich import box  # noqa: PLC0415 - loaded when it is used
    from rich.table import Table  # noqa: PLC0415 - loaded when it is used

    table = Table("token", "kind", box=box.SIMPLE_HEAD)
    for name in ("shop", "bank", "difference"):
        table.add_column(name, justify="right")
    for total in report.totals:
        amounts = (_text(report, total.token, each) for each in (total.ours, total.banks))
        apart = total.ours - total.banks
        differ = f"[red]{_text(report, total.token, apart)}[/red]" if apart else ""
        table.add_row(total.token, total.kind, *amounts, differ)
    return table


def _table(report: DayReport, rows: list[Row]) -> Table:
    from rich import box  # noqa: PLC0415 - loaded when it is used
    from rich.markup import escape  # noqa: PLC0415 - loaded when it is used
    from rich.table import Table  # noqa: PLC0415 - loaded when it is used

    table = Table("order", "invoice", "status", box=box.SIMPLE_HEAD)
    for name in ("payments", "refunds", "returns", "bank's lines"):
        table.add_column(name, justify="right")
    table.add_column("differences")
    for row in rows:
        table.add_row(
            escape(row.order_id or "?"),
            escape(row.invoice),
            f"{row.status}{'' if row.fulfilled else ', not fulfilled'}",
            _both(report, row, "payment"),
            _both(report, row, "refund", "refund_failed"),
            _both(report, row, "return"),
            str(len(row.lines)),
            "[red]" + ", ".join(sorted({each.kind for each in row.differences})) + "[/red]",
        )
    return table


def _summary(report: DayReport) -> str:
    told = [f"{report.invoices} invoice{'' if report.invoices == 1 else 's'} made"]
    if report.others:
        told.append(f"{report.others} lines of other installations")
    count = len(report.differences)
    verdict = (
        "[green]both sides agree[/green]" if report.agrees else f"[red]{count} difference{'s' * (count != 1)}[/red]"
    )
    return ", ".join([*told, verdict])


def _shown(rows: tuple[Row, ...]) -> tuple[list[Row], int]:
    """All rows that differ and the first of the others; and how many are left out."""
    differ = [row for row in rows if row.differences]
    agree = [row for row in rows if not row.differences]
    return differ + agree[:SHOWN], max(0, len(agree) - SHOWN)


def _both(report: DayReport, row: Row, *kinds: str) -> str:
    """The amount where both sides have the same, else both."""
    ours, banks = (sum(side.get(kind, 0) for kind in kinds) for side in (row.ours, row.banks))
    if ours == banks:
        return _text(report, row.token, ours) if any(kind in row.banks for kind in kinds) else ""
    return f"[red]{_text(report, row.token, ours)} / {_text(report, row.token, banks)}[/red]"


def _day(report: DayReport) -> dict[str, Any]:
    return {
        "date": report.day.isoformat(),
        "issuer": report.issuer,
        "agrees": report.agrees,
        "invoices_made": report.invoices,
        "lines_of_other_installations": report.others,
        "totals": [
            {
                "token": total.token,
                "kind": total.kind,
                "ours": _amount(report, total.token, total.ours),
                "banks": _amount(report, total.token, total.banks),
            }
            for total in report.totals
        ],
        "rows": [_row(report, row) for row in report.rows],
        "differences": [_difference(report, each) for each in report.differences],
        "failed": _failed(report.failed),
    }


def _row(report: DayReport, row: Row) -> dict[str, Any]:
    return {
        "order_id": row.order_id or None,
        "reference": row.reference,
        "invoice": row.invoice or None,
        "token": row.token or None,
        "status": row.status,
        "fulfilled": row.fulfilled,
        "due": _amount(report, row.token, row.due),
        "ours": {kind: _amount(report, row.token, units) for kind, units in row.ours.items()},
        "banks": {kind: _amount(report, row.token, units) for kind, units in row.banks.items()},
        "ledger": list(row.lines),
        "differences": [each.kind for each in row.differences],
    }


def _difference(report: DayReport, each: Difference) -> dict[str, Any]:
    return {
        "kind": each.kind,
        "order_id": each.order_id or None,
        "reference": each.reference,
        "subject": each.subject or None,
        "token": each.token or None,
        "ours": _amount(report, each.token, each.ours),
        "banks": _amount(report, each.token, each.banks),
        "detail": each.detail,
    }


def _failed(failed: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"reference": reference, "reason": reason} for reference, reason in failed]


def _records(report: DayReport) -> Iterable[dict[str, str]]:
    for total in report.totals:
        sides = _sides(report, total.token, total.ours, total.banks)
        yield {"record": "total", "kind": total.kind, "token": total.token, **sides}
    for row in report.rows:
        about = {
            "order_id": row.order_id,
            "reference": row.reference,
            "invoice": row.invoice,
            "status": row.status,
            "fulfilled": "yes" if row.fulfilled else "no",
            "token": row.token,
        }
        named = row.ours.keys() | row.banks.keys()
        for kind in [kind for kind in BOOKED if kind in named] + sorted(named - set(BOOKED)):
            sides = _sides(report, row.token, row.ours.get(kind, 0), row.banks.get(kind, 0))
            yield {"record": "row", "kind": kind, **about, **sides}
    for each in report.differences:
        sides = _sides(report, each.token, each.ours, each.banks)
        names = ("kind", "order_id", "reference", "subject", "token", "detail")
        yield {"record": "difference", **{name: getattr(each, name) for name in names}, **sides}
    for reference, reason in report.failed:
        yield {"record": "failed", "reference": reference, "detail": reason}


def _sides(report: DayReport, token: str, ours: int | None, banks: int | None) -> dict[str, str]:
    return {
        "ours_units": "" if ours is None else str(ours),
        "banks_units": "" if banks is None else str(banks),
        "ours_amount": "" if ours is None else _text(report, token, ours),
        "banks_amount": "" if banks is None else _text(report, token, banks),
    }


def _amount(report: DayReport, token: str, units: int | None) -> Mapping[str, str] | None:
    return None if units is None else {"units": str(units), "amount": _text(report, token, units)}


def _text(report: DayReport, token: str, units: int) -> str:
    """Decimal text with the token's own decimals; plain units where the bank does not list the token any more."""
    decimals = report.decimals.get(token)
    if decimals is None:
        return str(units)
    return f"{'-' if units < 0 else ''}{decimal_of(abs(units), decimals):f}"


def _safe(value: str) -> str:
    """A text that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if value.startswith(_FORMULAS) else value
