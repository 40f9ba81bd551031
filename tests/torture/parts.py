"""The parts of a run as processes: started, killed with SIGKILL, started again, and ended whatever happens.

Each stands in a session of its own, so that a kill takes all of its processes at once. Ports are fixed for the run,
and outside the range from which the system takes the near end of connections: else a client that knocks while a part
is down could be given that very port, and talk to itself.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from random import Random

import requests

from tests.nursery import born

PATIENCE = 60.0
"""Seconds that a part may take to begin, or to end by itself."""


STOPPING = threading.Event()
"""Set by a signal that asks us to end. It is looked at between two steps, so that no step is left half done."""


class Stopped(Exception):
    """A signal asked us to end."""


class PartFailed(Exception):
    """A part did not start, or ended by itself; the message has the last lines of its log."""


class Part:
    """One program: its module and arguments, its log, and how to know that it serves."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environ: Mapping[str, str], serves: Callable[[], bool]
    ) -> None:
        self.name = name
        self.kills = 0
        self._module, *self._arguments = command
        self._log = log
        self._environ = dict(environ)
        self._serves = serves
        self._process: ForkServerProcess | None = None

    def start(self) -> None:
        """Start it and wait until it serves. Raises PartFailed, and Stopped."""
        self._process = born(self._module, self._arguments, self._log, self._environ)
        ends = time.monotonic() + PATIENCE
        while not self._serves():
            self.check()
            check_signals()
            if time.monotonic() > ends:
                raise PartFailed(f"the {self.name} did not serve within {PATIENCE:.0f} s; its log ends:\n{self.tail()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise PartFailed if it has ended by itself."""
        code = None if self._process is None else self._process.exitcode
        if code is not None:
            raise PartFailed(f"the {self.name} ended by itself (exit code {code}); its log ends:\n{self.tail()}")

    def kill(self) -> None:
        """kill -9, now, and count it."""
        self._signal(signal.SIGKILL)
        self.kills += 1
        self._wait()

    def end(self) -> None:
        """Ask it to end; kill it, uncounted, if it does not."""
        self._signal(signal.SIGTERM)
        if not self._wait():
            self._signal(signal.SIGKILL)
            self._wait()

    def finish(self, ends: float) -> None:
        """Wait until it has ended by itself. Raises PartFailed if it has not, or not with 0."""
        if self._process is None:
            return
        while (code := self._process.exitcode) is None:
            check_signals()
            if time.monotonic() > ends:
                raise PartFailed(f"the {self.name} was not done in time; its log ends:\n{self.tail()}")
            time.sleep(0.05)
        self._process = None
        if code != 0:
            raise PartFailed(f"the {self.name} ended with exit code {code}; its log ends:\n{self.tail()}")

    def tail(self) -> str:
        """The last lines of its log."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(f"    {line}" for line in lines[-15:])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and (pid := self._process.pid) is not None:
            try:
                os.killpg(pid, number)
            except ProcessLookupError:  # it has ended, or does not lead its session yet
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _wait(self) -> bool:
        """Whether it has ended in time."""
        if self._process is not None:
            self._process.join(PATIENCE)
            if self._process.exitcode is None:
                return False
            self._process = None
        return True


def check_signals() -> None:
    """Raise Stopped after a signal."""
    if STOPPING.is_set():
        raise Stopped


def answers(url: str) -> Callable[[], bool]:
    """Whether something answers 200 there."""

    def ask() -> bool:
        with requests.Session() as session:
            session.trust_env = False
            try:
                return session.get(url, timeout=5).status_code == 200
            except requests.RequestException:
                return False

    return ask


def fixed_ports(count: int) -> list[int]:
    """So many free ports of 127.0.0.1 that no outgoing connection will be given."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    dice = Random(os.getpid() ^ time.time_ns())  # noqa: S311 - any free port will do
    chosen: list[int] = []
    while len(chosen) < count:
        port = dice.randint(max(10_000, lowest - 20_000), lowest - 1)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            if port not in chosen:
                chosen.append(port)
    return chosen
