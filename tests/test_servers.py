"""PostgreSQL and Redis for an hour: they start beside whatever else runs, and nothing of them is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from shutil import which
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.testing import servers
from deposit_token_sdk.testing.servers import ServerFailed, postgres, redis

Start = Callable[[Path], AbstractContextManager[str]]


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that PostgreSQL's account can reach, too, where the tests run as root."""
    made = tmp_path_factory.mktemp("servers")
    for above in (made, *made.parents):
        if above.stat().st_uid == os.geteuid():
            above.chmod(above.stat().st_mode | 0o111)
    return made


def start(server: str) -> Start:
    installed = bool(list(servers._DEBIANS.glob("*/bin/postgres"))) if server == "postgres" else which("redis-server")
    if not installed:
        pytest.skip(f"{server} is not installed here: make servers")
    return (lambda folder: postgres(folder, durable=False)) if server == "postgres" else redis


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_server_answers_and_nothing_of_it_is_left(server: str, folder: Path) -> None:
    run = start(server)
    with run(folder) as url, run(folder) as other:
        assert url != other
        assert answers(url)
        assert answers(other)
        assert len(list(folder.iterdir())) == 2
    assert not answers(url)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("server", ["postgres", "redis"])
def test_a_server_ends_with_whatever_ends_its_user(server: str, folder: Path) -> None:
    run, addresses = start(server), []

    def fail() -> None:
        with run(folder) as url:
            addresses.append(url)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not answers(addresses[0])
    assert not list(folder.iterdir())


def test_a_program_that_turns_its_signal_into_an_exit_leaves_no_server(folder: Path) -> None:
    start("redis")
    program = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from deposit_token_sdk.testing.servers import redis\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
        "with redis(Path(sys.argv[1])) as url:\n"
        "    print(url, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert answers(url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 3
    assert not answers(url)
    assert not list(folder.iterdir())


def test_postgres_asks_for_its_password(folder: Path) -> None:
    with start("postgres")(folder) as url:
        guess = sa.create_engine(sa.make_url(url).set(password="guessed"), poolclass=NullPool)
        with pytest.raises(sa.exc.OperationalError, match="password authentication failed"), guess.connect():
            pytest.fail("nobody must get in with it")


@pytest.mark.parametrize(("server", "package"), [(postgres, "postgresql"), (redis, "redis-server")])
def test_what_is_not_installed_is_named_with_the_package_that_has_it(
    server: Callable[[], AbstractContextManager[str]], package: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(servers, "_DEBIANS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match=f"apt-get install {package}") as refused, server():
        pytest.fail("there is nothing to start")
    assert refused.value.reason == "server_missing"


def test_a_server_that_ends_at_once_says_what_it_said(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    program = folder / "redis-server"
    program.write_text("#!/bin/sh\necho 'no memory today' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    start_it = redis(folder)
    with pytest.raises(ServerFailed, match="no memory today") as failed, start_it:
        pytest.fail("it did not start")
    assert failed.value.reason == "server_failed"
    assert [path.name for path in folder.iterdir()] == ["redis-server"]


def answers(url: str) -> bool:
    found = urlsplit(url)
    assert found.hostname
    assert found.port
    try:
        socket.create_connection((found.hostname, found.port), 2).close()
    except OSError:
        return False
    return True
