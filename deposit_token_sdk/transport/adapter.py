"""The one adapter: our pools and our TLS context under the stock `send`, which is what mocks patch.

Requests are prepared by hand, so the checks that a session would make are made here, and stricter: what is sent is
exactly what was signed.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import requests
from requests.adapters import HTTPAdapter
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.poolmanager import PoolManager, ProxyManager
from urllib3.util import make_headers, parse_url

from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.exchange import Request
from deposit_token_sdk.transport.environment import proxy_for, shared_context
from deposit_token_sdk.transport.wire import PlainPool, TLSPool

_POOLS = 16

# Only characters that no layer below rewrites, so that the address sent is the address signed.
_URL = re.compile(
    r"(https?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
    r"(/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-F]{2})+)?)",
    re.ASCII,
)
_DOT_SEGMENT = re.compile(r"/(?:\.|%2E){1,2}(?:[/?]|\Z)")
_METHOD = re.compile(r"[A-Z]{1,20}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_HEADER_VALUE = re.compile(r"[\t -~]*", re.ASCII)


class _Headers(dict[str, str]):
    """Headers found by a name of any case, as mocks look for them; the stock class for it is slow."""

    def __missing__(self, name: str) -> str:
        wanted = name.lower()
        for known, value in self.items():
            if known.lower() == wanted:
                return value
        raise KeyError(name)


class Prepared(requests.PreparedRequest):
    """A request prepared by hand, with the pool and the target already chosen."""

    pool: HTTPConnectionPool
    target: str


class Adapter(HTTPAdapter):
    """Keeps pools of deadline-keeping connections, one for each origin, through its proxy where it has one."""

    def __init__(self, tls: ssl.SSLContext, threads: int, proxies: Mapping[str, str]) -> None:
        self._tls = tls
        self._proxies = proxies
        self._threads = threads
        self._routes: dict[str, tuple[HTTPConnectionPool, str]] = {}
        super().__init__(pool_connections=_POOLS, pool_maxsize=threads)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **_: Any) -> None:
        self.poolmanager = _with_our_pools(
            PoolManager(connections, maxsize=maxsize, block=block, ssl_context=self._tls)
        )

    def prepare(self, request: Request, common: Mapping[str, str]) -> Prepared:
        origin, target = _parts(request.url)
        _check_headers(request.headers)
        if not _METHOD.fullmatch(request.method):
            raise InvalidInput("method_unusable", f"{request.method!r} is no HTTP method: write it in capitals.")
        pool, before = self._routes.get(origin) or self._route(origin)
        prepared = Prepared()
        prepared.method = request.method
        prepared.url = request.url
        prepared.body = request.body
        headers = _Headers(common)
        if request.body is not None:
            headers["Content-Length"] = str(len(request.body))
        headers.update(request.headers)
        prepared.headers = headers  # type: ignore[assignment]
        prepared.pool = pool
        prepared.target = before + target
        return prepared

    def _route(self, origin: str) -> tuple[HTTPConnectionPool, str]:
        """The pool for an origin, and what precedes the path in the request line: a plain proxy wants all of it."""
        url = parse_url(origin)
        if url.scheme is None or url.host is None:
            raise InvalidInput("address_unusable", f"{origin!r} names no host.")
        proxy = proxy_for(url.scheme, url.host, url.port, self._proxies)
        manager = self._proxy(proxy) if proxy else self.poolmanager
        pool = manager.connection_from_host(url.host, url.port, url.scheme)
        route = pool, origin if proxy and url.scheme == "http" else ""
        if len(self._routes) >= _POOLS:  # the managers close their oldest pool now; it may be one we remember
            self._routes.clear()
        return self._routes.setdefault(origin, route)

    def _proxy(self, proxy: str) -> PoolManager:
        if proxy not in self.proxy_manager:
            named = parse_url(proxy)
            through = ProxyManager(
                proxy,
                num_pools=_POOLS,
                maxsize=self._threads,
                proxy_headers=make_headers(proxy_basic_auth=unquote(named.auth)) if named.auth else None,
                ssl_context=self._tls,
                proxy_ssl_context=shared_context() if named.scheme == "https" else None,
            )
            self.proxy_manager[proxy] = _with_our_pools(through)
        manager: PoolManager = self.proxy_manager[proxy]
        return manager

    def close(self) -> None:
        """Close the idle connections; what is asked next opens new ones."""
        self._routes.clear()
        super().close()

    def abandon(self) -> None:
        """Close this process's copies of the idle sockets, touching no lock and saying nothing to the bank."""
        for pool, _ in self._routes.values():
            if pool.pool is not None:
                idle = [connection for connection in pool.pool.queue if connection is not None]
                type(pool.pool).__init__(pool.pool, pool.pool.maxsize)
                for connection in idle:
                    connection.close()

    # What the stock `send` asks for, answered from the prepared request.

    def get_connection_with_tls_context(self, request: Any, *_: Any, **__: Any) -> Any:
        return request.pool

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Nothing: trust is in our TLS context, and the stock method would add the public authorities to it."""

    def request_url(self, request: Any, *_: Any, **__: Any) -> str:
        target: str = request.target
        return target

    def build_response(self, req: requests.PreparedRequest, resp: Any) -> requests.Response:
        """The answer as it came: no cookies, no guessed encoding."""
        reply = requests.Response()
        reply.status_code = resp.status
        reply.headers = _Headers({name: resp.headers[name] for name in resp.headers})  # type: ignore[assignment]
        reply.raw = resp
        reply.reason = resp.reason
        reply.url = req.url or ""
        reply.request = req
        return reply


def _with_our_pools(manager: PoolManager) -> PoolManager:
    manager.pool_classes_by_scheme = {"http": PlainPool, "https": TLSPool}
    return manager


def _check_headers(headers: Mapping[str, str]) -> None:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidInput(
                "header_unusable",
                f"Header {name!r} holds what a header must not (a line break, a control or a non-ASCII character): "
                f"encode it first.",
            )


def _parts(url: str) -> tuple[str, str]:
    """The origin and the target of an address that nobody will rewrite on the way."""
    parts = _URL.fullmatch(url)
    if parts is None or _DOT_SEGMENT.search(url):
        raise InvalidInput(
            "address_unusable",
            f"{url[:200]!r} cannot be sent as it stands: an absolute http or https address with a path is due, every "
            f"other character percent-encoded (%2F), without user, fragment, line break or dot segment.",
        )
    start = parts.start(4)
    return url[:start], url[start:]
