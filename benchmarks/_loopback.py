"""A bank on loopback, in a process of its own, that costs both sides of a comparison the same, and next to nothing.

It signs the answer to a request when it first sees it; the same request again is answered from memory. So the
sides are to send the same few requests in turns.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from time import time
from typing import BinaryIO

from benchmarks._messages import ANSWER_KEY, invoice
from deposit_token_sdk.signing import http_signatures, strict_json
from deposit_token_sdk.signing.keys import Algorithm, SigningKey

_NUMBER = re.compile(r"(?:inv|quo)_0*([0-9]+)")


@contextmanager
def bank() -> Iterator[str]:
    """Its address, for as long as it runs. The environment's proxies are forgotten, for either side."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)
        os.environ.pop(name.upper(), None)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, ANSWER_KEY.to_pem(), ANSWER_KEY.kid), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{here.recv()}"
    finally:
        process.terminate()
        process.join()


def _serve(told: Connection, pem: bytes, kid: str) -> None:
    key = SigningKey.from_pem(pem, Algorithm.ED25519, kid)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        told.send(port)
        desk = _Desk(key, f"http://127.0.0.1:{port}")
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=desk.serve, args=(connection,), daemon=True).start()


class _Desk:
    def __init__(self, key: SigningKey, url: str) -> None:
        self._key = key
        self._url = url
        self._known: dict[bytes, bytes] = {}

    def serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream:
            while request := _hear(stream):
                answer = self._known.get(request)
                if answer is None:
                    answer = self._known[request] = self._answer(request)
                connection.sendall(answer)

    def _answer(self, request: bytes) -> bytes:
        head, _, body = request.partition(b"\r\n\r\n")
        first, *lines = head.decode("ascii").split("\r\n")
        method, target, _ = first.split(" ")
        asked = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        known = invoice(_number_in(json.loads(body)["quote"] if body else target), self._url)
        content = strict_json.dumps(known)
        headers = {
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
            "Date": "Tue, 24 Nov 2026 09:20:00 GMT",
            "Server": "bank",
            "Request-Id": f"req_{known['id']}",
        }
        status = 201 if method == "POST" else 200
        if "signature" in asked:
            url = self._url + target
            headers |= http_signatures.sign_answer(
                status, headers, content, method, url, asked, self._key, created=int(time())
            )
        written = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {status} OK\r\n{written}\r\n".encode("ascii") + content


def _number_in(text: str) -> int:
    found = _NUMBER.search(text)
    assert found is not None
    return int(found[1])


def _hear(stream: BinaryIO) -> bytes:
    """One whole request, or nothing at the end of the connection."""
    lines: list[bytes] = []
    length = 0
    while (line := stream.readline()) not in (b"\r\n", b""):
        lines.append(line)
        if line.lower().startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    return b"".join(lines) + line + stream.read(length) if lines else b""
