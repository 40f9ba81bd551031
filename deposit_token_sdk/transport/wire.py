"""Connections that keep the deadline and the size of the try they serve.

The stock timeouts hold for each piece that is received, so that a bank which sends a byte a second outlives them.
Here every piece waits no longer than what is left of the whole try: connecting, a proxy's tunnel, TLS, sending, and
every byte of the answer, "100 Continue" and chunk marks included.
"""

from __future__ import annotations

import io
import re
import socket
import threading
from http.client import HTTPMessage, HTTPResponse
from time import monotonic
from typing import Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

_HEADER_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*\r?\n")
_DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
_MOST_HEADERS = 100
_LONGEST_LINE = 64 * 1024
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
    """Reads an answer's head itself (RFC 9112): stricter than the stock class, which takes a cut-off head for whole
    and mends malformed lines, and in a third of its time."""

    fp: io.BufferedReader
    _method: str

    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(_Wire(sock, this_try.bounds), *args, **kwargs)  # type: ignore[arg-type]

    def begin(self) -> None:
        if self.headers is not None:
            return
        version, status, reason = self._read_status()
        while status == 100:
            self._head()
            version, status, reason = self._read_status()
        if not version.startswith("HTTP/1."):
            raise Unusable(f"the answer is not HTTP/1.1 but {version[:20]!r}")
        self.code = self.status = status
        self.reason = reason.strip()
        self.version = 10 if version == "HTTP/1.0" else 11
        self.headers = self.msg = self._head()
        self._frame(self.headers)

    def _head(self) -> HTTPMessage:
        """The header lines up to the empty one."""
        headers = HTTPMessage()
        for _ in range(_MOST_HEADERS):
            line = self.fp.readline(_LONGEST_LINE)
            if line in (b"\r\n", b"\n"):
                return headers
            found = _HEADER_LINE.fullmatch(line)
            if found is None:
                raise Unusable("the answer's head is cut off or malformed")
            headers[found[1].decode("ascii")] = found[2].decode("latin-1")
        raise Unusable(f"the answer has more than {_MOST_HEADERS} headers")

    def _frame(self, headers: HTTPMessage) -> None:
        """Where the body ends (RFC 9112, section 6.3); two answers to that question are refused."""
        lengths = set(headers.get_all("content-length", ()))
        coding = headers.get_all("transfer-encoding")
        if len(lengths) + (coding is not None) > 1:
            raise Unusable("the answer has two lengths")
        length = next(iter(lengths), None)
        if length is not None and not _DIGITS.fullmatch(length):
            raise Unusable(f"the answer's length is {length[:20]!r}")
        if coding is not None and [name.lower() for name in coding] != ["chunked"]:
            raise Unusable("the answer has a Transfer-Encoding that was not asked for")
        empty = self.status in (204, 304) or self.status < 200 or self._method == "HEAD"
        self.chunked = coding is not None
        self.chunk_left = None
        self.length = 0 if empty else None if length is None else int(length)
        self.will_close = self._check_close() or not (self.chunked or self.length is not None)  # type: ignore[attr-defined]


class _PlainConnection(HTTPConnection):
    """Keeps the deadline in all that a connection does."""

    response_class = _TimedResponse
    _held: list[bytes] | None = None

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

    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **options: Any) -> None:
        """Head and body leave together, in one piece for one wake-up of the bank."""
        held: list[bytes] = []
        self._held = held
        try:
            super().request(method, url, body, headers, **options)
        finally:
            self._held = None
        self.send(b"".join(held))

    def putheader(self, header: str, *values: str) -> None:  # type: ignore[override]
        """Our headers are checked before they come here; those the libraries add take the stock way."""
        if self._held is not None and len(values) == 1 and isinstance(values[0], str):
            self._output(f"{header}: {values[0]}".encode("ascii"))  # type: ignore[attr-defined]
        else:
            super().putheader(header, *values)

    def send(self, data: Any) -> None:
        if self._held is not None:
            self._held.append(data)
            return
        if self.sock is not None:
            self.sock.settimeout(this_try.bounds.seconds())
        super().send(data)


class _TLSConnection(_PlainConnection, HTTPSConnection):
    """The same over TLS; its handshake, too, is bounded by what was left when the connection was made."""


class PlainPool(HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection
