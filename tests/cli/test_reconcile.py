"""``deposit-token reconcile`` as a process of its own: what it finds, what it prints, and the code it ends with."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, delete, update
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import Checkout, Client, SqlStore
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.cli import day_report, reconcile
from deposit_token_sdk.cli.loading import Loaded
from tests import nursery
from tests.databases import ON_BOTH
from tests.integrations.background import ROOT, Background

SHOP = "tests.integrations.background_shop:checkout"
COMMAND = ("deposit_token_sdk.cli", "reconcile", "--checkout", SHOP, "--older-than", "0")


def run(work: Background, *options: str, older_than: str = "0", checkout: Checkout | None = None) -> Result:
    """The command in this process, which is quicker, over the shop's checkout here or another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reconcile, "checkout_of", lambda spec: Loaded(spec, checkout or work.checkout))
        arguments = ["--checkout", "here", "--older-than", older_than, *options]
        ran = CliRunner().invoke(reconcile.command, arguments)
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran


def paid_and_refunded(work: Background) -> None:
    """Two payments and a refund, of which no webhook told; the refund was not even sent."""
    for order in ("A-1", "A-2"):
        work.pay_unheard(order)
    work.checkout.refresh("A-1")
    work.checkout.refund("A-1", 700, request="page-1")


def lose_fulfilment(work: Background, order_id: str) -> None:
    with work.engine.begin() as connection:
        connection.execute(delete(t.fulfilments).where(t.fulfilments.c.order_id == order_id))


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def told(ran: Result) -> Any:
    return json.loads(ran.stdout)


@ON_BOTH
def test_it_finds_what_no_webhook_told_and_ends_with_0_where_both_sides_agree(work: Background) -> None:
    paid_and_refunded(work)
    ran = nursery.ran(*COMMAND, environ=work.environ)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert work.paid("A-2")
    lines = ran.stdout.splitlines()
    assert re.fullmatch(r"asked 2, had news [12], failed 0", lines[0])
    assert any(line.startswith(today()) and "both sides agree" in line for line in lines)
    (payments,) = [line.split() for line in lines if " payment " in line]
    assert payments == ["SBUSD", "payment", "279.22", "279.22"]
    (refunds,) = [line.split() for line in lines if " refund " in line]
    assert refunds == ["SBUSD", "refund", "7.00", "7.00"]


def test_yesterday_and_today_are_reported_unless_days_are_named(work: Background) -> None:
    days = [each["date"] for each in told(run(work, "--format", "json"))["days"]]
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    assert days == [yesterday, today()]
    ran = run(work, "--format", "json", "--day", "2026-01-02", "--day", "2026-01-01")
    assert [each["date"] for each in told(ran)["days"]] == ["2026-01-02", "2026-01-01"]


def test_a_difference_is_named_and_ends_with_1(work: Background) -> None:
    work.pay_unheard("A-1")
    work.checkout.reconcile()
    lose_fulfilment(work, "A-1")
    ran = run(work)
    assert ran.exit_code == 1
    assert "1 difference" in ran.stdout
    assert "payment_unaccounted order A-1" in ran.stdout
    assert "docs/reconciliation.md" in ran.stdout


def test_the_json_has_every_amount_as_units_and_as_text(work: Background) -> None:
    paid_and_refunded(work)
    work.checkout.reconcile()
    lose_fulfilment(work, "A-2")
    ran = run(work, "--format", "json", "--day", today())
    assert ran.exit_code == 1
    made = told(ran)
    assert made["format"] == day_report.VERSION
    assert (made["agrees"], made["swept"]["failed"]) == (False, [])
    (day,) = made["days"]
    assert (day["agrees"], day["issuer"], day["invoices_made"]) == (False, "sandbox-bank", 2)
    totals = {each["kind"]: each["banks"] for each in day["totals"]}
    assert totals["payment"] == {"units": "27922", "amount": "279.22"}
    assert totals["refund"] == {"units": "700", "amount": "7.00"}
    first, second = day["rows"]
    assert (first["order_id"], first["fulfilled"], second["fulfilled"]) == ("A-1", True, False)
    assert first["ours"] == first["banks"]
    assert len(first["ledger"]) == 3
    (difference,) = day["differences"]
    assert (difference["kind"], difference["order_id"]) == ("payment_unaccounted", "A-2")
    assert difference["ours"] == {"units": "13961", "amount": "139.61"}
    assert not [value for value in numbers(made) if isinstance(value, float)]


def numbers(value: Any) -> list[Any]:
    """All that is a number in the JSON, however deep."""
    if isinstance(value, dict):
        return [found for each in value.values() for found in numbers(each)]
    if isinstance(value, list):
        return [found for each in value for found in numbers(each)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def test_the_csv_has_a_line_for_each_total_row_and_difference(work: Background, tmp_path: Path) -> None:
    paid_and_refunded(work)
    work.checkout.reconcile()
    lose_fulfilment(work, "A-2")
    file = tmp_path / "day.csv"
    ran = run(work, "--format", "csv", "--day", today(), "--output", str(file))
    assert (ran.exit_code, ran.stdout) == (1, "")
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    assert list(rows[0]) == list(day_report.COLUMNS)
    assert [row["record"] for row in rows] == ["total"] * 3 + ["row"] * 5 + ["difference"]
    assert {(row["kind"], row["ours_units"], row["banks_amount"]) for row in rows if row["record"] == "total"} == {
        ("payment", "27922", "279.22"),
        ("refund", "700", "7.00"),
        ("fee", "290", "2.90"),
    }
    assert (rows[-1]["kind"], rows[-1]["order_id"]) == ("payment_unaccounted", "A-2")


def test_no_text_of_a_csv_is_a_formula_to_a_spreadsheet(work: Background) -> None:
    work.pay_unheard("=HYPERLINK(1)")
    rows = list(csv.DictReader(io.StringIO(run(work, "--format", "csv", "--day", today()).stdout)))
    assert {row["order_id"] for row in rows if row["record"] == "row"} == {"'=HYPERLINK(1)"}


def test_markup_in_an_order_is_printed_as_it_is(work: Background) -> None:
    work.pay_unheard("[bold]A-1[/nonsense]")
    ran = run(work)
    assert ran.exit_code == 0
    assert "[bold]A-1[/nonsense]" in ran.stdout


def test_without_a_report_it_only_asks_and_says_how_many(work: Background) -> None:
    work.pay_unheard("A-1")
    ran = run(work, "--no-report")
    assert (ran.exit_code, ran.stdout) == (0, "asked 1, had news 1, failed 0\n")
    assert work.paid("A-1")


def test_what_is_newer_is_left_alone(work: Background) -> None:
    work.pay_unheard("A-1")
    assert run(work, "--no-report", older_than="3600").stdout == "asked 0, had news 0, failed 0\n"
    assert not work.paid("A-1")


def test_more_than_one_batch_is_asked_and_each_attempt_once(work: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        work.start(f"O-{number}")
    with work.engine.begin() as connection:
        connection.execute(update(t.attempts).values(due_at="2026-01-01T00:00:00.000000Z"))
    monkeypatch.setattr(reconcile, "BATCH", 2)
    ran = run(work, "--no-report")
    assert (ran.exit_code, ran.output) == (0, "asked 5, had news 5, failed 0\n")


def test_an_order_that_cannot_be_asked_about_is_named_and_ends_with_1(work: Background) -> None:
    attempt = work.start("A-1")
    with work.engine.begin() as connection:
        connection.execute(update(t.attempts).values(invoice="inv_none"))
    ran = run(work, "--no-report")
    assert (ran.exit_code, ran.stderr) == (1, f"{attempt.reference}: unknown_invoice\n")


@pytest.mark.parametrize("options", [(), ("--no-report",)])
def test_a_bank_that_is_away_ends_with_3_and_a_sentence(work: Background, options: tuple[str, ...]) -> None:
    attempt = work.start("A-1")
    away = Client.from_env({**settings_of(work), "DEPOSIT_TOKEN_URL": "http://127.0.0.1:9"})
    ran = run(work, *options, checkout=Checkout(away, work.checkout.store))
    assert ran.exit_code == 3
    assert (f"{attempt.reference}: unreachable" if options else "no connection could be made") in ran.stderr


def test_a_database_that_is_away_ends_with_3_and_a_sentence(work: Background, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'empty.sqlite'}")
    prepare_sqlite(engine)
    with Client.from_env(settings_of(work)) as client:
        ran = run(work, checkout=Checkout(client, SqlStore(sessionmaker(engine))))
    engine.dispose()
    assert ran.exit_code == 3
    assert "no such table" in ran.stderr


def settings_of(work: Background) -> dict[str, str]:
    return {name: value for name, value in work.environ.items() if name.startswith("DEPOSIT_TOKEN_")}


@pytest.mark.parametrize(
    "options",
    [
        ("--day", "yesterday"),
        ("--format", "xml"),
        ("--no-report", "--day", "2026-01-01"),
        ("--no-report", "--format", "json"),
        ("--older-than", "-1"),
        ("--checkout", "nowhere:checkout"),
    ],
)
def test_what_cannot_be_asked_for_ends_with_2(options: tuple[str, ...]) -> None:
    ran = CliRunner().invoke(reconcile.command, ["--checkout", "nowhere:at_all", *options])
    assert ran.exit_code == 2
    assert isinstance(ran.exception, SystemExit)


def test_a_bar_is_drawn_on_a_terminal_and_never_into_the_report(work: Background) -> None:
    work.pay_unheard("A-1")
    ours, theirs = pty.openpty()
    environ = work.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [sys.executable, "-m", *COMMAND, "--format", "json"],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        drawn = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the terminal is gone with the process
                break
            if not piece:
                break
            drawn += piece
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["agrees"]
        assert process.wait(30) == 0
    os.close(ours)
    assert b"asking about what is due" in drawn
    assert b"\x1b[" in drawn


def test_a_long_table_shows_what_differs_and_counts_the_rest(work: Background, monkeypatch: pytest.MonkeyPatch) -> None:
    for order in ("A-1", "A-2", "A-3"):
        work.pay_unheard(order)
    work.checkout.reconcile()
    lose_fulfilment(work, "A-3")
    monkeypatch.setattr(day_report, "SHOWN", 1)
    ran = run(work)
    assert ran.exit_code == 1
    assert "1 more row agrees" in ran.output
    orders = [line.split()[0] for line in ran.output.splitlines() if line.strip().startswith("A-")]
    assert orders == ["A-3", "A-1"]
