"""Connections that keep the deadline and the size of the try they serve.

The stock timeouts hold for each piece that is received, so that a bank which sends a byte a second outlives them.
Here every piece waits no longer than what is left of the whole try: connecting, a proxy's tunnel, TLS, sending, and
every byte of the answer, "100 Continue" and chunk marks included.
"""

from __future__ import annotations

import io
import socket
import threading
from http.client import HTTPResponse
from time import monotonic
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

_HEAD_BYTES = 128 * 1024
_BUFFER = 64 * 1024


class Unusable(OSError):
    """The bank answers, but not in a way that can be read."""


def too_large(most: int) -> Unusable:
    return Unusable(f"the answer is larger than {most} bytes")


class Bounds:
    """What is left of one try: seconds, and bytes on the wire (head and chunk marks included)."""

    __slots__ = ("_bytes_left", "_most", "_until")

    def __init__(self, until: float, most: int) -> None:
        self._until = until
        self._most = most
        self._bytes_left = most + _HEAD_BYTES

    def seconds(self) -> float:
        left = self._until - monotonic()
        if left <= 0:
            raise TimeoutError("the deadline is over")
        return left

    def took(self, count: int) -> None:
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise too_large(self._most)


class _ThisTry(threading.local):
    """The bounds of the try that this thread is in. A connection serves one thread at a time, tries in turn."""

    bounds = Bounds(0.0, 0)


this_try = _ThisTry()


class _Wire(io.RawIOBase):
    """The reading end of a socket, which waits before each piece no longer than what is left of the try."""

    def __init__(self, sock: socket.socket, bounds: Bounds) -> None:
        self._sock = sock
        self._bounds = bounds
        self._stream = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._bounds.seconds())
        count = self._stream.readinto(buffer)
        self._bounds.took(count or 0)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()

    def makefile(self, mode: str) -> io.BufferedReader:
        """What http.client asks a socket for."""
        return io.BufferedReader(self, _BUFFER)


class _TimedResponse(HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Wire(sock, this_try.bounds), *args, **kwargs)  # type: ignore[arg-type]


class _PlainConnection(HTTPConnection):
    """Keeps the deadline in all that a connection does."""

    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        """Connect to the first address that answers; each gets its part of the time that is left."""
        try:
            found = socket.getaddrinfo(self._dns_host, self.port, type=socket.SOCK_STREAM)
        except socket.gaierror as unknown:
            raise NewConnectionError(self, f"{self.host} is not known: {unknown}") from unknown
        failure = OSError("the name has no address")
        for untried, (family, kind, protocol, _, address) in zip(range(len(found), 0, -1), found, strict=True):
            try:
                return self._connected(socket.socket(family, kind, protocol), address, untried)
            except OSError as problem:
                failure = problem
        if isinstance(failure, TimeoutError):
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time") from failure
        raise NewConnectionError(self, f"no connection to {self.host}: {failure}") from failure

    def _connected(self, sock: socket.socket, address: Any, untried: int) -> socket.socket:
        try:
            for option in self.socket_options or ():
                sock.setsockopt(*option)
            sock.settimeout(this_try.bounds.seconds() / untried)
            sock.connect(address)
            sock.settimeout(this_try.bounds.seconds())
        except BaseException:
            sock.close()
            raise
        return sock

    def _tunnel(self) -> None:
        super()._tunnel()
        self.sock.settimeout(this_try.bounds.seconds())

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(this_try.bounds.seconds())
        super().send(data)


class _TLSConnection(_PlainConnection, HTTPSConnection):
    """The same over TLS; its handshake, too, is bounded by what was left when the connection was made."""


class PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection
