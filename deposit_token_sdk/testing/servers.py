"""PostgreSQL and Redis for an hour, for tests and demonstrations: `postgres` and `redis`.

Each starts Debian's own binary on a free port of 127.0.0.1, its data in a folder of its own, and stops it and removes
the folder at the end, whatever happened in between. Neither touches a server that the machine runs already, and
neither is for keeping data. A caller that may be ended by a signal must turn that into an exception (`sys.exit` in
its handler), or the end never comes.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from attrs import frozen

from deposit_token_sdk.errors import ConfigurationError, DepositTokenError

__all__ = ["ServerFailed", "postgres", "redis"]

_DEBIANS = Path("/usr/lib/postgresql")
"""Where Debian keeps PostgreSQL's own binaries: outside of PATH, one folder for each version."""
_HOST = "127.0.0.1"
_USER = "deposit_token"
_PATIENCE = 60.0
"""Seconds that a server may take to start, or to stop."""
_TRIES = 3
"""A port that was free a moment ago can be taken by the time a server wants it: then it is another's turn."""
_HASTY = ("fsync=off", "full_page_writes=off")


class ServerFailed(DepositTokenError):
    """A server did not start: ``server_failed``, with the end of what it wrote."""


@frozen
class _Account:
    """Whom a server runs as: these are the arguments of Popen. PostgreSQL refuses to be root."""

    identity: dict[str, Any]


@contextmanager
def postgres(folder: Path | None = None, *, durable: bool = True) -> Iterator[str]:
    """A new PostgreSQL cluster, as an SQLAlchemy URL for psycopg 3: ``postgresql+psycopg://…``.

    Its user may create databases and has a password. With `durable` false a power cut loses commits and the password is
    checked by MD5, of which SCRAM takes thousands of rounds for each connection: that makes tests quicker, and is no
    use where losing none is what is tested. The data is in a new folder (in `folder`, or else where
    temporary files are). Raises ConfigurationError (``server_missing``) naming the package to install; ServerFailed.
    """
    binaries = _postgres_binaries()
    with _new_folder(folder, "postgres") as (place, account):
        data, password = place / "data", secrets.token_urlsafe(18)
        _initialise(binaries, place, data, password, account, "scram-sha-256" if durable else "md5")
        settings = [
            f"listen_addresses={_HOST}",
            "unix_socket_directories=",
            "max_connections=200",
            *(() if durable else _HASTY),
        ]
        command = [str(binaries / "postgres"), "-D", str(data), *(part for one in settings for part in ("-c", one))]

        def ready(port: int) -> bool:
            asked = [str(binaries / "pg_isready"), "-q", "-h", _HOST, "-p", str(port)]
            return subprocess.run(asked, check=False).returncode == 0  # noqa: S603  # our own arguments

        with _running("PostgreSQL", [*command, "-p"], place, account, ready, signal.SIGINT) as port:
            yield f"postgresql+psycopg://{_USER}:{password}@{_HOST}:{port}/postgres"


@contextmanager
def redis(folder: Path | None = None) -> Iterator[str]:
    """A new Redis that keeps nothing on disk, as a URL: ``redis://127.0.0.1:port/0``. Folder and errors: `postgres`."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise _missing("Redis", "redis-server")
    with _new_folder(folder, "redis") as (place, account):
        command = [binary, "--bind", _HOST, "--save", "", "--appendonly", "no", "--dir", str(place), "--port"]
        with _running("Redis", command, place, account, _answers_ping, signal.SIGTERM) as port:
            yield f"redis://{_HOST}:{port}/0"


def _answers_ping(port: int) -> bool:
    try:
        with socket.create_connection((_HOST, port), 1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(7) == b"+PONG\r\n"
    except OSError:
        return False


def _postgres_binaries() -> Path:
    """The folder of the newest server binaries."""
    found = [path.parent for path in _DEBIANS.glob("*/bin/postgres")]
    if found:
        return max(found, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)
    elsewhere = shutil.which("postgres")
    if elsewhere is None:
        raise _missing("PostgreSQL", "postgresql")
    return Path(elsewhere).resolve().parent


def _missing(server: str, package: str) -> ConfigurationError:
    return ConfigurationError(
        "server_missing",
        f"{server} is not installed here: install Debian's package {package!r} (apt-get install {package}; in this "
        f"project also: make servers).",
    )


@contextmanager
def _new_folder(parent: Path | None, server: str) -> Iterator[tuple[Path, _Account]]:
    """A new folder and the account that owns it: Debian's account of this name if we are root, else our own."""
    place = Path(mkdtemp(prefix=f"deposit-token-{server}-", dir=parent))
    try:
        yield place, _account(server, place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _account(name: str, place: Path) -> _Account:
    if os.geteuid() != 0:
        return _Account({})
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise _missing(f"The account {name!r}", {"postgres": "postgresql", "redis": "redis-server"}[name]) from None
    os.chown(place, found.pw_uid, found.pw_gid)
    return _Account({"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []})


def _initialise(binaries: Path, place: Path, data: Path, password: str, account: _Account, checks: str) -> None:
    """Make the cluster, which checks the password in this way. It goes by a file that only the account can read, and
    that is removed at once.
    """
    told = place / "password"
    told.touch(0o600)
    told.write_text(password)
    if account.identity:
        os.chown(told, account.identity["user"], account.identity["group"])
    command = [str(binaries / "initdb"), "-D", str(data), "-U", _USER, f"--auth={checks}", f"--pwfile={told}"]
    done = subprocess.run(  # noqa: S603  # our own arguments
        [*command, "--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        cwd=place,
        **account.identity,
    )
    told.unlink()
    if done.returncode:
        raise _failed("PostgreSQL", "initdb", done.stdout + done.stderr)


@contextmanager
def _running(
    server: str,
    command: Sequence[str],
    place: Path,
    account: _Account,
    ready: Callable[[int], bool],
    stop: signal.Signals,
) -> Iterator[int]:
    """The port on which the command, which ends in the port's number, is ready; stopped by this signal at the end."""
    log = place / "log"
    for left in reversed(range(_TRIES)):
        port = _free_port()
        with log.open("wb") as told:
            process = subprocess.Popen(  # noqa: S603  # our own arguments
                [*command, str(port)],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=subprocess.STDOUT,
                cwd=place,
                start_new_session=True,  # a terminal's Ctrl-C is for us, who stop it in order
                **account.identity,
            )
        try:
            if _until_ready(process, lambda port=port: ready(port)):  # type: ignore[misc]  # of this round
                yield port
                return
        finally:
            _stop(process, stop)
        if not left:
            raise _failed(server, "it", log.read_bytes())


def _until_ready(process: subprocess.Popen[bytes], ready: Callable[[], bool]) -> bool:
    """False if it ended, or took too long."""
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if ready():
            return process.poll() is None
        time.sleep(0.02)
    return False


def _stop(process: subprocess.Popen[bytes], gently: signal.Signals) -> None:
    process.send_signal(gently)
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


def _failed(server: str, what: str, told: bytes) -> ServerFailed:
    end = told[-2000:].decode(errors="replace").strip()
    return ServerFailed("server_failed", f"{server} did not start: {what} ended with\n{end}")
