"""Banks on real sockets that behave as badly as a test asks, and transports that are closed afterwards."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest
from attrs import define, field

from deposit_token_sdk.transport import Transport


@define
class Line:
    """One connection as the bank sees it. `stopped` is set when the test is over."""

    sock: socket.socket
    stopped: threading.Event
    bank: Bank
    _rest: bytes = b""

    def hear(self) -> tuple[str, dict[str, str], bytes] | None:
        """The next request: its first line, its headers (lower case) and its body; None once the line is closed."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return None
        head, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        while len(self._rest) < length:
            if not self._more():
                return None
        body, self._rest = self._rest[:length], self._rest[length:]
        self.bank.heard.append((first, headers, body))
        return first, headers, body

    def _more(self) -> bool:
        piece = self.sock.recv(65536)
        self._rest += piece
        return bool(piece)

    def say(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, every: float = 0.02) -> None:
        """Send a byte at a time for as long as the test lasts, from the beginning again at the end."""
        while True:
            for byte in data:
                if self.stopped.wait(every):
                    return
                self.say(bytes([byte]))

    def flood(self, data: bytes) -> None:
        """Send without end, as fast as it is taken."""
        while not self.stopped.is_set():
            self.say(data)

    def keep_silent(self) -> None:
        self.stopped.wait()


Script: TypeAlias = Callable[[Line], object]


@define
class Bank:
    """A listening socket whose every connection plays a script."""

    script: Script
    tls: ssl.SSLContext | None = None
    heard: list[tuple[str, dict[str, str], bytes]] = field(factory=list)
    connections: int = 0
    _stopped: threading.Event = field(factory=threading.Event)
    _threads: list[threading.Thread] = field(factory=list)
    _lines: list[socket.socket] = field(factory=list)
    _socket: socket.socket = field(factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=256))

    @property
    def port(self) -> int:
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> Bank:
        self._run(self._accept)
        return self

    def stop(self) -> None:
        self._stopped.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in self._threads)

    def _run(self, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            self._lines.append(line)
            self._run(lambda line=line: self._play(line))  # type: ignore[misc]

    def _play(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError), line:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls is None:
                self.script(Line(line, self._stopped, self))
                return
            with self.tls.wrap_socket(line, server_side=True) as wrapped:
                self._lines.append(wrapped)
                self.script(Line(wrapped, self._stopped, self))


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A well-formed answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def echo(line: Line) -> None:
    """Answer every request with its own path."""
    while (request := line.hear()) is not None:
        line.say(answer(request[0].split(" ")[1].encode(), "Content-Type: text/plain", "Request-Id: r1"))


@pytest.fixture
def bank() -> Iterator[Callable[..., Bank]]:
    """Start a bank that plays this script on every connection."""
    banks: list[Bank] = []

    def start(script: Script, tls: ssl.SSLContext | None = None) -> Bank:
        banks.append(Bank(script, tls).start())
        return banks[-1]

    yield start
    for each in banks:
        each.stop()


@pytest.fixture
def echoing(bank: Callable[..., Bank]) -> Bank:
    """A bank that answers every request with its own path."""
    return bank(echo)


@pytest.fixture
def transport() -> Iterator[Transport]:
    """A transport that knows no proxies."""
    with Transport(environ={}) as plain:
        yield plain


@pytest.fixture
def says() -> Callable[..., Script]:
    """A script: hear one request, say these bytes, hang up."""

    def made(data: bytes) -> Script:
        def script(line: Line) -> None:
            line.hear()
            line.say(data)

        return script

    return made
