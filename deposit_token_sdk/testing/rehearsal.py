"""Run an exchange on a list of replies: no network, no mock, no clock.

An exchange yields what it wants to send and is sent what came of it, so that a list can stand for the bank. Time is
part of the list: it begins at `START` and passes only as replies and pauses say, so that a rehearsal of thirty
seconds takes none. The rule it keeps: every request has one reply and every reply one request.

    result, requests = rehearse(issuer.tokens(), [Lost(Sent.NOT_SENT), Reply.json({"tokens": []})])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Self, TypeAlias, TypeVar

from attrs import field, frozen

from deposit_token_sdk.exchange import Exchange, NoAnswer, Pause, Request, Response, Resumed, Sent
from deposit_token_sdk.signing.strict_json import dumps

T = TypeVar("T")

START: Final = 1_790_000_000.0
"""When a rehearsal begins, in seconds since 1970, unless told otherwise."""


@frozen
class Reply:
    """What the bank answers; `seconds` is how long it takes. Header names are lower case."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(factory=dict)
    seconds: float = 0.0

    @classmethod
    def json(cls, value: Any, status: int = 200, *, seconds: float = 0.0, **headers: str) -> Self:
        """An answer in JSON; `headers` are further ones, with ``_`` for ``-``: ``retry_after="2"``."""
        more = {name.replace("_", "-"): text for name, text in headers.items()}
        return cls(status, dumps(value), {"content-type": "application/json", **more}, seconds)


@frozen
class Lost:
    """No answer comes: `sent` says whether the request can have reached the bank, `seconds` how long that took."""

    sent: Sent = Sent.MAYBE_PROCESSED
    problem: str = "no answer came"
    seconds: float = 0.0


Outcome: TypeAlias = Reply | Lost | Response | NoAnswer
"""What can come of a request. Of a Response or NoAnswer only what it says is taken, not its request and times."""

Scripted: TypeAlias = Outcome | Callable[[Request], Outcome]
"""One entry of the list. A function is handed the request as it was sent, signature included: it can check and sign."""


def rehearse(
    exchange: Exchange[T], replies: Iterable[Scripted], *, start: float = START, sent: list[Request] | None = None
) -> tuple[T, tuple[Request, ...]]:
    """Run `exchange` to its end: what it returned, and the requests it sent, each as signed.

    What the exchange raises is raised here; hand in a list as `sent` to see the requests then too. Pauses are granted
    at once and counted as time passed. Raises AssertionError where the replies are too few or too many.
    """
    requests = [] if sent is None else sent
    waiting = list(replies)
    try:
        result = _played(exchange, waiting, requests, start)
    finally:
        exchange.close()
    if waiting:
        raise AssertionError(f"The exchange ended after {len(requests)} requests; {len(waiting)} replies are left.")
    return result, tuple(requests)


def _played(exchange: Exchange[T], waiting: list[Scripted], requests: list[Request], start: float) -> T:
    elapsed = 0.0
    news: Response | NoAnswer | Resumed | None = None
    while True:
        try:
            step = exchange.send(news)  # type: ignore[arg-type]  # None starts it
        except StopIteration as end:
            result: T = end.value
            return result
        if isinstance(step, Pause):
            elapsed += step.seconds
            news = Resumed(start + elapsed, elapsed)
            continue
        request = step if step.sign is None else step.sign(step, start + elapsed, f"nonce-{len(requests) + 1}")
        requests.append(request)
        if not waiting:
            raise AssertionError(f"No reply is left for request {len(requests)}: {request.method} {request.url}")
        scripted = waiting.pop(0)
        outcome = scripted(request) if callable(scripted) else scripted
        elapsed += outcome.seconds if isinstance(outcome, (Reply, Lost)) else 0.0
        news = _news(outcome, request, start + elapsed, elapsed)


def _news(outcome: Outcome, request: Request, at: float, elapsed: float) -> Response | NoAnswer:
    if isinstance(outcome, (Reply, Response)):
        return Response(outcome.status, outcome.headers, outcome.body, request, at, elapsed)
    return NoAnswer(outcome.sent, outcome.problem, request, at, elapsed)
