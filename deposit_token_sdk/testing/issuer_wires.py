"""What goes between a shop and its bank, for the conformance suite of issuers: kept as it went, cut off, or lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from wsgiref.types import StartResponse, WSGIEnvironment

from attrs import define, evolve, field, frozen
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request as Incoming
from werkzeug.wrappers import Response as Outgoing

from deposit_token_sdk.checkout.receiving import Answer
from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.transport import Transport

if TYPE_CHECKING:
    from deposit_token_sdk.testing.issuer_shop import Shop


@define
class Wire:
    """A real transport that keeps what went over it. `cut` sends nothing; `recalled` answers in the bank's place."""

    seen: list[tuple[Request, Response | NoAnswer]] = field(factory=list)
    cut: bool = False
    recalled: Callable[[Request], Response | None] | None = None
    _transport: Transport = field(factory=lambda: Transport(environ={}))

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        """Send once, and keep request and answer."""
        answer = self._recalled(request) or self._transport.answer(request, deadline, began)
        self.seen.append((request, answer))
        return answer

    def _recalled(self, request: Request) -> Response | NoAnswer | None:
        if self.cut:
            return NoAnswer(Sent.NOT_SENT, "the wire is cut", request, time.time(), 0.0)
        found = None if self.recalled is None else self.recalled(request)
        return None if found is None else evolve(found, request=request, at=time.time())

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


@frozen
class Message:
    """A webhook as it came, and what it was answered; None while the shop is not listening."""

    headers: Mapping[str, str]
    body: bytes
    answer: Answer | None


class _Quiet(WSGIRequestHandler):
    """Logs no request."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing."""


class Door:
    """One address for the webhooks of all shops, each under ``?shop=<merchant>&line=<number>``.

    What is still on its way to a line that the shop has given up since is answered as by a shop that is closed.
    """

    def __init__(self) -> None:
        self.shops: dict[str, Shop] = {}
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=_Quiet)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def url(self, shop: Shop) -> str:
        """Where that shop's webhooks go."""
        path = f"/webhooks/{shop.environment['DEPOSIT_TOKEN_BANK']}"
        return f"http://127.0.0.1:{self._server.port}{path}?shop={shop.merchant}&line={shop.line}"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Any:
        request = Incoming(environ)
        shop = self.shops.get(request.args.get("shop", ""))
        heard = shop and shop.hear(request.args.get("line", ""), dict(request.headers), request.get_data())
        answer = heard or Answer(503, "closed")
        return Outgoing(answer.body or answer.reason, answer.status)(environ, start_response)

    def close(self) -> None:
        """Close the address."""
        self._server.shutdown()
        self._thread.join(5)
        self._server.server_close()
