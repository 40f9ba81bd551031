"""``deposit-token sandbox`` as a process of its own."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from deposit_token_sdk.sandbox import Sandbox

COMMAND = [sys.executable, "-m", "deposit_token_sdk.cli"]


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60, check=False)


@contextmanager
def _running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([*COMMAND, "sandbox", *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_address_serves_and_stops_cleanly_when_told(tmp_path: Path, number: signal.Signals) -> None:
    with _running("--port", "0", "--data", str(tmp_path), "--quiet") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert requests.get(f"{url}/.well-known/jwks.json", timeout=10).status_code == 200
        process.send_signal(number)
        assert process.wait(timeout=20) == 0
        assert process.stdout.read() == ""


def test_the_settings_it_prints_are_those_of_the_running_bank(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as bank:
        port = bank.url.rsplit(":", 1)[1]
        said = _run(
            "sandbox", "--env", "--port", port, "--data", str(tmp_path), "--webhook-url", "http://127.0.0.1:9/x"
        )
        assert said.returncode == 0, said.stderr
        lines = [shlex.split(line) for line in said.stdout.splitlines()]
        assert {word for word, _ in lines} == {"export"}
        assert dict(setting.split("=", 1) for _, setting in lines) == bank.environment()


def test_settings_without_a_port_and_a_taken_port_are_explained(tmp_path: Path) -> None:
    assert "--port" in _run("sandbox", "--env", "--port", "0", "--data", str(tmp_path)).stderr
    with Sandbox(tmp_path / "first") as bank:
        taken = _run("sandbox", "--port", bank.url.rsplit(":", 1)[1], "--data", str(tmp_path / "second"))
    assert taken.returncode == 1
    assert "port is taken" in taken.stderr
    assert "Traceback" not in taken.stderr


def test_help_names_the_commands_and_the_version_is_the_packages() -> None:
    assert "sandbox" in _run("--help").stdout
    assert _run("--version").stdout.startswith("deposit-token, version ")


@pytest.mark.parametrize(
    ("missing", "arguments", "said"),
    [
        ("click", "[]", "pip install 'deposit-token-sdk[cli]'"),
        ("sqlalchemy", "['sandbox', '--port', '0']", "pip install 'deposit-token-sdk[sandbox]'"),
    ],
)
def test_a_missing_extra_is_named_without_a_traceback(missing: str, arguments: str, said: str) -> None:
    check = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv[1:] = {arguments}\n"
        "from deposit_token_sdk.cli import main; main()"
    )
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert said in ran.stderr
    assert "Traceback" not in ran.stderr
