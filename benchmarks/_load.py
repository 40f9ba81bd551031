"""A load of prepared HTTP requests over loopback, from a few threads, and gunicorn as the server under it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from time import perf_counter
from typing import BinaryIO

from attrs import frozen

CLIENTS = 4
"""Requests under way at once: two for each worker, so that none of the two waits for the next to come."""


@frozen
class Volley:
    """What came of one load: requests a second, and how often each answer came (status and text)."""

    rate: float
    answers: Counter[str]


@contextmanager
def gunicorn(app: str, environ: Mapping[str, str]) -> Iterator[int]:
    """The port at which two workers serve `module:factory()`, started as a shop would start them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--log-level", "warning"]
        served = subprocess.Popen(
            [*command, "--bind", f"fd://{listening.fileno()}", app],
            pass_fds=[listening.fileno()],
            env={**os.environ, **environ},
        )
    try:
        yield port
    finally:
        served.terminate()
        try:
            served.wait(10)
        except subprocess.TimeoutExpired:
            served.kill()
            served.wait()


def posted(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """One POST as it goes over the wire."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def fire(port: int, requests: Sequence[bytes]) -> Volley:
    """Send every request once, several at a time, and wait for all the answers."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        began = perf_counter()
        answers = list(pool.map(_drained, [port] * CLIENTS, [requests[turn::CLIENTS] for turn in range(CLIENTS)]))
        seconds = perf_counter() - began
    return Volley(len(requests) / seconds, sum(answers, Counter()))


def _drained(port: int, requests: Sequence[bytes]) -> Counter[str]:
    answers: Counter[str] = Counter()
    link = _Link(port)
    for request in requests:
        answers[link.exchange(request)] += 1
    link.close()
    return answers


class _Link:
    """A connection that is kept for as long as the server keeps it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open: tuple[socket.socket, BinaryIO] | None = None

    def exchange(self, request: bytes) -> str:
        if self._open is None:
            link = socket.create_connection(("127.0.0.1", self._port), 60)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open = link, link.makefile("rb")
        link, stream = self._open
        link.sendall(request)
        status = stream.readline().split(b" ", 2)[1]
        length, keep = 0, True
        while (line := stream.readline().lower()) not in (b"\r\n", b""):
            if line.startswith(b"content-length:"):
                length = int(line[15:])
            elif line.startswith(b"connection:") and b"close" in line:
                keep = False
        body = stream.read(length)
        if not keep:
            self.close()
        return f"{status.decode()} {body[:40].decode('utf-8', 'replace').strip()}"

    def close(self) -> None:
        if self._open is not None:
            link, stream = self._open
            stream.close()
            link.close()
            self._open = None
