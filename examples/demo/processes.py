"""The demo's processes: started, watched, and ended whatever happens.

They share our process group, so a terminal's Ctrl-C reaches all of them, and write to a log in the demo's folder.
"""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

ADDRESS = re.compile(r"http://127\.0\.0\.1:[0-9]+")
PATIENCE = 30.0
"""Seconds that any step may take."""

_LOOK_EVERY = 2.0
"""Seconds between two looks at a server that is not our own process."""

MERCY = 10.0
"""Seconds a process gets to end by itself."""


class StepFailed(Exception):
    """A step of the demo did not work; the message says which and why."""


class Stopped(Exception):
    """A signal asked us to end."""


class Signals:
    """Remembers the signal that asks us to end, so that it is acted on between two steps and never within one."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number

    def check(self) -> None:
        """Raise Stopped if a signal has come."""
        if self.number:
            raise Stopped


class Process:
    """One running program and its log."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(  # noqa: S603 - the demo's own programs
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environ
            )

    def check(self) -> None:
        """Raise StepFailed if the process has ended."""
        code = self._popen.poll()
        if code is not None:
            raise StepFailed(f"the {self.name} ended by itself (exit code {code}); its last lines:\n{self._tail()}")

    def said(self, pattern: re.Pattern[str]) -> str | None:
        """The first place in its log that fits, once there is one."""
        found = pattern.search(self._log.read_text(encoding="utf-8", errors="replace"))
        return found[0] if found else None

    def ask_to_end(self) -> None:
        """Send SIGTERM."""
        self._popen.terminate()

    def end(self) -> None:
        """Wait until it has ended; kill it if it does not."""
        try:
            self._popen.wait(MERCY)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def _tail(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(f"    {line}" for line in lines[-12:])


class Watch:
    """All processes of the demo. Waiting for anything stops when one of them dies, a signal comes or time is up."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._processes: list[Process] = []
        self._servers: dict[str, tuple[str, int]] = {}
        self._looked_at = 0.0

    def start(
        self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str], says: re.Pattern[str] = ADDRESS
    ) -> str:
        """Start a process and return what it says once it is ready: by default the address it prints."""
        return self.until_ready(self.launch(name, command, log, environ), says)

    def launch(self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str]) -> Process:
        """Start a process without waiting for it."""
        self._signals.check()
        process = Process(name, command, log, environ)
        self._processes.append(process)
        return process

    def until_ready(self, process: Process, says: re.Pattern[str] = ADDRESS) -> str:
        """What it says once it is ready."""
        return self.until(lambda: process.said(says), f"the {process.name} did not say that it is ready")

    def answers(self, name: str, url: str) -> None:
        """Watch a server that somebody else has started: from now on it must take connections."""
        parts = urlsplit(url)
        self._servers[name] = (parts.hostname or "", parts.port or 0)

    def until(self, look: Callable[[], T | None], otherwise: str) -> T:
        """What `look` finds, looking again and again. Raises StepFailed(`otherwise`) when time is up."""
        ends = time.monotonic() + PATIENCE
        while True:
            self.check()
            found = look()
            if found:
                return found
            if time.monotonic() > ends:
                raise StepFailed(f"{otherwise} within {PATIENCE:.0f} seconds")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise Stopped after a signal, StepFailed after a death."""
        self._signals.check()
        for process in self._processes:
            process.check()
        if self._servers and time.monotonic() - self._looked_at > _LOOK_EVERY:
            self._looked_at = time.monotonic()
            for name, address in self._servers.items():
                _connect(name, address)

    def forever(self) -> None:
        """Stay until a signal comes or a process dies."""
        while True:
            self.check()
            time.sleep(0.2)

    def end(self) -> None:
        """End all of them, the last one started first."""
        for process in reversed(self._processes):
            process.ask_to_end()
        for process in reversed(self._processes):
            process.end()


def _connect(name: str, address: tuple[str, int]) -> None:
    try:
        socket.create_connection(address, timeout=5).close()
    except OSError as error:
        raise StepFailed(f"{name} is gone: {error}") from None


def free_port(usual: int) -> int:
    """The usual port, or any free one if it is taken."""
    for port in (usual, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            chosen: int = probe.getsockname()[1]
            return chosen
    raise StepFailed("no port is free on 127.0.0.1")
