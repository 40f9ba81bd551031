"""The harness itself: a short run ends without differences, a sabotaged one with some, and either leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from tests import nursery
from tests.torture.__main__ import main

ROOT = Path(__file__).resolve().parent.parent.parent
PATIENCE = 240.0
LINE = (
    r"^{database}: purchases {count}; faults [a-z_]+ \d+(, [a-z_]+ \d+)*; "
    r"kills shop \d+, worker \d+, bank \d+; reviews \d+$"
)


@contextmanager
def torture(tmp_path: Path, **environ: str) -> Iterator[subprocess.Popen[str]]:
    """`python -m tests.torture` under way, its data under `tmp_path`."""
    plain = {name: text for name, text in os.environ.items() if name not in ("SEED", "KEEP", "SABOTAGE")}
    with subprocess.Popen(
        [sys.executable, "-m", "tests.torture"],
        cwd=ROOT,
        env=plain | {"TMPDIR": str(tmp_path), "MINUTES": "4"} | environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        guard = threading.Timer(PATIENCE, process.terminate)
        guard.start()
        try:
            yield process
        finally:
            guard.cancel()
            process.terminate()


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout
    lines = process.stdout.read().splitlines()
    process.wait(PATIENCE)
    return lines


def left_running(tmp_path: Path) -> list[str]:
    """Command lines and environments that still name the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(tmp_path) in (process / "environ").read_text(errors="replace"):
                found.append((process / "cmdline").read_text(errors="replace"))
        except OSError:
            continue
    return found


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder that PostgreSQL's own account may pass through; pytest's is for us alone."""
    folder = Path(mkdtemp(prefix="torture-"))
    folder.chmod(0o711)
    yield folder
    rmtree(folder)


def test_a_short_run_ends_without_differences(tmp_path: Path) -> None:
    """On PostgreSQL: on SQLite the sabotaged run below goes all the same way."""
    with torture(tmp_path, SEED="5", PURCHASES="8", DATABASES="postgres") as process:
        lines = said(process)
    assert lines[0] == "seed 5 (SEED=5 repeats this run's choices)"
    assert lines[-1] == "differences: 0", "\n".join(lines)
    assert process.returncode == 0
    (line,) = [line for line in lines if line.startswith("postgres: ")]
    assert re.search(LINE.format(database="postgres", count=8), line), line
    assert all(int(count) >= 1 for count in re.findall(r"(?:shop|worker|bank) (\d+)", line))
    assert list(tmp_path.iterdir()) == []
    assert left_running(tmp_path) == []


def test_a_database_that_loses_what_it_committed_shows_as_differences(tmp_path: Path) -> None:
    """One whole run, with purchases enough that some loss cannot be made up; test_audit has each kind of loss."""
    environ = {"SEED": "9", "PURCHASES": "20", "MINUTES": "0.6", "DATABASES": "sqlite", "SABOTAGE": "lost-commits"}
    with torture(tmp_path, **environ) as process:
        lines = said(process)
    assert process.returncode == 1
    count = re.fullmatch(r"differences: (\d+)", lines[-1])
    assert count, "\n".join(lines)
    assert int(count[1]) == len([line for line in lines if line.startswith("difference on sqlite: ")]) >= 1
    assert list(tmp_path.iterdir()) == []


def test_what_the_nursery_imports_is_there() -> None:
    """A name that has gone would be passed over, and each part would import for itself again."""
    for name in nursery.NEEDED:
        import_module(name)


def test_purchases_that_were_not_made_in_the_time_are_differences(tmp_path: Path) -> None:
    with torture(tmp_path, SEED="1", PURCHASES="900", MINUTES="0.05", DATABASES="sqlite") as process:
        lines = said(process)
    assert process.returncode == 1
    assert lines[-1] != "differences: 0"
    assert list(tmp_path.iterdir()) == []


def test_a_signal_ends_the_run_and_leaves_nothing(tmp_path: Path) -> None:
    with torture(tmp_path, SEED="1", PURCHASES="900", DATABASES="sqlite", KEEP="") as process:
        assert process.stdout
        while not list(tmp_path.glob("deposit-token-torture-sqlite-*/worker.log")):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
            assert process.returncode is None
        process.send_signal(signal.SIGTERM)
        assert said(process)[-1].startswith("Stopped by a signal")
    assert process.returncode == 1
    assert list(tmp_path.iterdir()) == []
    assert left_running(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("DATABASES", "sqlite,oracle", "DATABASES is some of sqlite,postgres"),
        ("SABOTAGE", "fire", "SABOTAGE is one of lost-commits, older-copy, lost-refund"),
        ("ISSUER", "hsbc", "ISSUER is one of reference, antom, jpmorgan, jpmorgan-v1"),
        ("PURCHASES", "0", "PURCHASES is 1 or more"),
        ("MINUTES", "-1", "MINUTES above 0"),
    ],
)
def test_an_option_that_cannot_be_is_a_usage_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    assert main() == 2
    assert told in capsys.readouterr().err


def test_a_usage_error_is_the_exit_code_of_the_command_too(tmp_path: Path) -> None:
    with torture(tmp_path, SEED="x") as process:
        lines = said(process)
    assert process.returncode == 2
    assert "SEED" in "\n".join(lines)
