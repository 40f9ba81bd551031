"""One request out, one answer or none back, by a deadline: the edge towards the bank, over requests.

It decides nothing about trying again and believes nothing. The rules it keeps: a try ends by its deadline and
within its size whatever the bank does; what is sent is exactly what was signed; "not sent" is a closed list and
everything else may have been processed. It follows no redirect, keeps no cookie and reads no ``.netrc``.

One limit is the operating system's: looking up a name cannot be interrupted.
"""

from __future__ import annotations

import os
import socket
import ssl
import weakref
from collections.abc import Iterator, Mapping
from functools import cache
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, version
from time import monotonic, time
from typing import TYPE_CHECKING, Final, Self

import requests
from urllib3.exceptions import ConnectTimeoutError, HTTPError, MaxRetryError, NewConnectionError
from urllib3.exceptions import TimeoutError as PoolTimeoutError

from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.transport.adapter import Adapter, Prepared
from deposit_token_sdk.transport.environment import context_of, present, proxies_of, shared_context
from deposit_token_sdk.transport.wire import Bounds, Unusable, this_try, too_large

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

MAX_BYTES: Final = 1024 * 1024
"""The largest answer that is read, by default."""

THREADS: Final = 64
"""Connections kept per bank, by default."""

_CHUNK = 64 * 1024


class Transport:
    """Sends requests to banks; one for all threads of a process, and for its children after a fork.

    `ca_bundle` is a path of certificate authorities trusted instead of all others; `client_cert` and `client_key`
    are paths for mutual TLS. Proxies and, without `ca_bundle`, ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE`` are read
    from `environ` once. Raises ConfigurationError (``ca_bundle_unusable``, ``client_certificate_unusable``).
    """

    def __init__(
        self,
        *,
        ca_bundle: str = "",
        client_cert: str = "",
        client_key: str = "",
        max_bytes: int = MAX_BYTES,
        threads: int = THREADS,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        authorities = ca_bundle or environ.get("REQUESTS_CA_BUNDLE") or environ.get("CURL_CA_BUNDLE") or ""
        shows = client_cert or client_key
        self.tls = context_of(authorities) if shows else shared_context(authorities)
        if shows:
            present(self.tls, client_cert, client_key)
        self._proxies = proxies_of(environ)
        self._max_bytes = max_bytes
        self._threads = threads
        self._common = {"User-Agent": _user_agent(), "Accept-Encoding": "identity", "Connection": "keep-alive"}
        self._adapter = Adapter(self.tls, threads, self._proxies)
        _living.add(self)

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        """Send once and return what came of it within `deadline` seconds.

        `began` is when the exchange began, on the monotonic clock (default: now); `elapsed` counts from it.
        Raises InvalidInput (``address_unusable``, ``header_unusable``, ``method_unusable``) before anything is sent.
        """
        start = monotonic()
        began = start if began is None else began
        prepared = self._adapter.prepare(request, self._common)
        this_try.bounds = Bounds(start + deadline, self._max_bytes)
        try:
            status, headers, body = self._ask(prepared, deadline)
        except _FAILURES as failure:
            return NoAnswer(_sent(failure), _in_words(failure, deadline), request, time(), monotonic() - began)
        return Response(status, headers, body, request, time(), monotonic() - began)

    def close(self) -> None:
        """Close the idle connections. The transport stays usable."""
        self._adapter.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, prepared: Prepared, deadline: float) -> tuple[int, dict[str, str], bytes]:
        if deadline <= 0:
            raise ConnectTimeoutError("no time was left for another try")
        reply = self._adapter.send(prepared, stream=True, timeout=deadline)
        raw = reply.raw
        whole = False
        try:
            headers = {name.lower(): value for name, value in reply.headers.items()}
            _check_head(reply.status_code, headers)
            body = _body(raw, self._max_bytes)
            whole = True
        finally:
            if not whole:
                raw.close()
            raw.release_conn()
        return reply.status_code, headers, body

    def _leave_to_the_parent(self) -> None:
        """After a fork, in the child: the parent's connections carry the parent's answers, so start afresh.

        No lock is taken: a thread that does not exist here may hold it.
        """
        self._adapter.abandon()
        self._adapter = Adapter(self.tls, self._threads, self._proxies)


@cache
def _user_agent() -> str:
    try:
        return f"deposit-token-sdk/{version('deposit-token-sdk')}"
    except PackageNotFoundError:
        return "deposit-token-sdk"


def _check_head(status: int, headers: Mapping[str, str]) -> None:
    if not 200 <= status <= 599:
        raise Unusable(f"the bank answered with status {status}, which ends no request")
    if headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise Unusable("the answer has a Content-Encoding that was not asked for")
    if any("\n" in value or "\r" in value for value in headers.values()):
        raise Unusable("the answer has a header that is folded over several lines")


def _body(raw: BaseHTTPResponse, most: int) -> bytes:
    """The whole body or an error. Only reading to the end shows that a body is cut off."""
    announced = raw.length_remaining
    if announced is not None and announced > most:
        raise too_large(most)
    piece = raw.read(_CHUNK, decode_content=False)
    pieces = [piece]
    size = len(piece)
    while piece and size != announced:
        if size > most:
            raise too_large(most)
        piece = raw.read(_CHUNK, decode_content=False)
        pieces.append(piece)
        size += len(piece)
    if announced is not None and size != announced:
        raise Unusable(f"the answer was cut off after {size} of {announced} bytes")
    return b"".join(pieces)


_FAILURES = (requests.RequestException, HTTPError, HTTPException, OSError, ValueError)
_NEVER_CONNECTED = (NewConnectionError, ConnectTimeoutError)  # a name that does not resolve is of the first kind


def _sent(failure: BaseException) -> Sent:
    """The closed list of what certainly did not reach the bank. Proxies and TLS are not on it."""
    if isinstance(failure, requests.ConnectTimeout):
        return Sent.NOT_SENT
    inner = failure.args[0] if isinstance(failure, requests.RequestException) and failure.args else failure
    reason = inner.reason if isinstance(inner, MaxRetryError) else inner
    return Sent.NOT_SENT if isinstance(reason, _NEVER_CONNECTED) else Sent.MAYBE_PROCESSED


def _in_words(failure: BaseException, deadline: float) -> str:
    causes = tuple(_causes(failure))
    for cause in causes:
        if isinstance(cause, Unusable):
            return str(cause)
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (socket.gaierror, "the bank's name could not be resolved"),
        (ssl.SSLError, "TLS with the bank failed"),
        (NewConnectionError, "no connection could be made"),
        (ConnectTimeoutError, f"no connection within {deadline:.3g} s"),
        ((TimeoutError, PoolTimeoutError, requests.Timeout), f"no whole answer within {deadline:.3g} s"),
    )
    broke = "the connection broke before the whole answer was there"
    words = next((words for kind, words in kinds if any(isinstance(cause, kind) for cause in causes)), broke)
    last = causes[-1]
    return f"{words} ({type(last).__name__}: {str(last)[:200]!r})"


def _causes(failure: BaseException) -> Iterator[BaseException]:
    """The failure and what it wraps, outermost first; the libraries wrap in four ways."""
    seen: set[int] = set()
    current: object = failure
    while isinstance(current, BaseException) and id(current) not in seen:
        seen.add(id(current))
        yield current
        wrapped = (getattr(current, "reason", None), *reversed(current.args), current.__cause__, current.__context__)
        current = next((inner for inner in wrapped if isinstance(inner, BaseException)), None)


_living: weakref.WeakSet[Transport] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for transport in list(_living):
        transport._leave_to_the_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
