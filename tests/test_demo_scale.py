"""`make demo-scale` as it runs: the same purchase on PostgreSQL, Redis, gunicorn and Celery; nothing is left behind."""

from __future__ import annotations

import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.test_demo import STEPS, demo, group_is_gone, lines_until, listening, rest_of

MODULE = "examples.demo.scale"
SCALE_STEPS = [*STEPS, "receipt", "sweep", "seal"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL's own account can reach, which pytest's are not."""
    if not shutil.which("redis-server") or not any(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.skip("PostgreSQL and Redis are not installed: make servers")
    made = Path(tempfile.mkdtemp(prefix="deposit-token-test-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def addresses(said: str) -> set[str]:
    return set(re.findall(r"127\.0\.0\.1:[0-9]+", said))


def test_the_demo_at_scale_buys_once_shows_the_three_tasks_and_leaves_nothing(folder: Path) -> None:
    with demo(folder, MODULE, ONCE="1") as process:
        said = rest_of(process)
    assert process.returncode == 0, said
    assert [step for step in SCALE_STEPS if not re.search(rf"^ +[0-9.]+ s  {step}", said, re.MULTILINE)] == []
    assert len(re.findall(r"^order [A-Za-z0-9-]+ paid$", said, re.MULTILINE)) == 1
    assert len(re.findall(r"by Celery's ForkPoolWorker-[0-9]+$", said, re.MULTILINE)) == 3
    assert len(addresses(said)) == 4
    assert not any(listening(address) for address in addresses(said))
    assert group_is_gone(process)
    assert list(folder.iterdir()) == []


def test_a_signal_in_the_middle_of_its_start_leaves_nothing(folder: Path) -> None:
    with demo(folder, MODULE) as process:
        said = "\n".join(lines_until(process, "  bank at"))
        process.send_signal(signal.SIGTERM)
        said += rest_of(process)
    assert process.returncode == 128 + signal.SIGTERM, said
    assert "Stopped by SIGTERM; nothing is left running." in said
    assert not any(listening(address) for address in addresses(said))
    assert group_is_gone(process)
    assert list(folder.iterdir()) == []
