"""`make demo` as it runs: processes of their own, one purchase, and nothing left behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0
STEPS = ["quote", "invoice", "approval", "webhook", "order paid", "confirmation", "supply"]


@contextmanager
def demo(tmp_path: Path, module: str = "examples.demo", **environ: str) -> Iterator[subprocess.Popen[str]]:
    """The demo running, its data under `tmp_path`; killed at the end if it is still there."""
    process = subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path), "BANK_PORT": "0", "SHOP_PORT": "0"} | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    guard = threading.Timer(PATIENCE, process.kill)
    guard.start()
    try:
        with process:
            yield process
    finally:
        guard.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    """What it says, up to the line that begins with `last`."""
    assert process.stdout
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1].startswith(last):
            return lines
    raise AssertionError("\n".join(lines))


def rest_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    text = process.stdout.read()
    process.wait(PATIENCE)
    return text


def listening(address: str) -> bool:
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def group_is_gone(process: subprocess.Popen[str]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_demo_buys_once_and_ends(tmp_path: Path) -> None:
    with demo(tmp_path, ONCE="1") as process:
        said = rest_of(process)
    assert process.returncode == 0, said
    assert [step for step in STEPS if not re.search(rf"^ +[0-9.]+ s  {step}", said, re.MULTILINE)] == []
    assert re.search(r"^order [A-Za-z0-9-]+ paid$", said, re.MULTILINE)
    assert re.search(r"http://127\.0\.0\.1:[0-9]+", said)
    assert list(tmp_path.iterdir()) == []
    assert group_is_gone(process)


def test_the_same_demo_buys_by_antom_s_api_with_other_settings_alone(tmp_path: Path) -> None:
    with demo(tmp_path, ONCE="1", ISSUER="antom") as process:
        said = rest_of(process)
    assert process.returncode == 0, said
    assert [step for step in STEPS if not re.search(rf"^ +[0-9.]+ s  {step}", said, re.MULTILINE)] == []
    assert "signed_message verified offline" in said
    assert list(tmp_path.iterdir()) == []


def test_the_same_demo_buys_where_the_merchant_starts_the_debit(tmp_path: Path) -> None:
    with demo(tmp_path, ONCE="1", ISSUER="jpmorgan-v1") as process:
        said = rest_of(process)
    assert process.returncode == 0, said
    steps = ["consent" if step == "approval" else step for step in STEPS]
    assert [step for step in steps if not re.search(rf"^ +[0-9.]+ s  {step}", said, re.MULTILINE)] == []
    assert "written by the shop, since the bank quotes none" in said
    assert "told by the bank over its own channel" in said
    assert list(tmp_path.iterdir()) == []


def test_a_buyer_in_mainland_china_is_refused_before_the_bank_is_asked(tmp_path: Path) -> None:
    with demo(tmp_path, ONCE="1", BUYER_COUNTRY="CN") as process:
        said = rest_of(process)
    assert process.returncode == 1, said
    assert "SBUSD is not offered to a buyer in CN (mainland_china)" in said
    assert "[this SDK's own default: China, joint notice Yinfa [2026] 42" in said
    assert "The bank was asked for no invoices" in said
    assert not re.search(r"^ +[0-9.]+ s  (quote|invoice)", said, re.MULTILINE)
    assert group_is_gone(process)


def test_a_taken_port_is_stepped_around_and_no_column_of_the_kept_databases_rounds_money(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        with demo(tmp_path, ONCE="1", KEEP="1", BANK_PORT=port, SHOP_PORT=port) as process:
            said = rest_of(process)
    assert process.returncode == 0, said
    assert f"127.0.0.1:{port}" not in said
    databases = [path for path in tmp_path.rglob("*") if path.suffix in (".db", ".sqlite", ".sqlite3")]
    assert len(databases) == 2
    kinds = {f"{table}.{column}": kind.upper() for path in databases for table, column, kind in columns_of(path)}
    assert len(kinds) > 40
    assert {name for name, kind in kinds.items() if re.search("REAL|FLOA|DOUB|NUMERIC|DECIMAL", kind)} == set()


def columns_of(database: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(
            "SELECT m.name, c.name, c.type FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        ).fetchall()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_running_demo_and_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    with demo(tmp_path) as process:
        said = "\n".join(lines_until(process, "the bank at"))
        addresses = set(re.findall(r"http://127\.0\.0\.1:[0-9]+", said))
        assert len(addresses) == 2
        assert all(listening(address) for address in addresses)
        process.send_signal(number)
        rest = rest_of(process)
    assert process.returncode == 0, rest
    assert group_is_gone(process)
    assert not any(listening(address) for address in addresses)
    assert list(tmp_path.iterdir()) == []


def test_a_shop_that_dies_fails_the_demo_and_says_why(tmp_path: Path) -> None:
    with demo(tmp_path, ONCE="1", DEPOSIT_TOKEN_MAX_FEE="a lot") as process:
        said = rest_of(process)
    assert process.returncode == 1
    assert "The demo failed: the shop ended by itself" in said
    assert "DEPOSIT_TOKEN_MAX_FEE" in said
    assert group_is_gone(process)
    assert list(tmp_path.iterdir()) == []


def test_a_refused_price_fails_the_demo_at_its_step(tmp_path: Path) -> None:
    with demo(tmp_path, ONCE="1", DEPOSIT_TOKEN_MAX_FEE="0") as process:
        said = rest_of(process)
    assert process.returncode == 1
    assert "The demo failed: basket and checkout" in said
    assert group_is_gone(process)
