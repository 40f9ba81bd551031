"""One description of a call to a bank, run alike by the synchronous and the asynchronous client.

An exchange is a generator that yields what to send (`Request`) or how long to wait (`Pause`) and is sent what
came of it. It never sends, sleeps or reads a clock: the edge that runs it does, and tells it the time with each
answer. A request describes how it is to be signed; the edge has it signed at every sending, because a replayed
signature is what a good bank refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from enum import Enum
from typing import TypeAlias, TypeVar

from attrs import field, frozen

T = TypeVar("T")

_REQUEST_ID = re.compile(r"[!-~]{1,200}")


@frozen
class Request:
    """One HTTP request. `route` is its template for telemetry (``POST /invoices/{id}/cancel``), never the address.

    `sign` is called by the edge at each sending with the request, the time (seconds since 1970) and a fresh nonce,
    and returns the request with its signature headers. `timeout` bounds this try, in seconds.
    """

    method: str
    url: str
    route: str
    headers: Mapping[str, str] = field(factory=dict)
    body: bytes | None = field(default=None, repr=False)
    timeout: float = 10.0
    sign: Callable[[Request, float, str], Request] | None = field(default=None, repr=False)


@frozen
class Response:
    """The bank's answer. Header names are lower case. `request` is what was sent, signature included.

    `at` is the time of receipt (seconds since 1970), `elapsed` the seconds since the exchange began.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    request: Request
    at: float
    elapsed: float


class Sent(Enum):
    """Whether a request without an answer can have reached the bank."""

    NOT_SENT = "not_sent"
    MAYBE_PROCESSED = "maybe_processed"


@frozen
class NoAnswer:
    """No answer came: a value, not an exception. `problem` says in words what happened."""

    sent: Sent
    problem: str
    request: Request
    at: float
    elapsed: float


@frozen
class Pause:
    """Wait this many seconds."""

    seconds: float


@frozen
class Resumed:
    """The wait is over."""

    at: float
    elapsed: float


Exchange: TypeAlias = Generator[Request | Pause, Response | NoAnswer | Resumed, T]


def send(request: Request) -> Exchange[Response | NoAnswer]:
    """Send one request and return what came of it."""
    answer = yield request
    if isinstance(answer, Resumed):
        raise TypeError("The edge answered a Request with Resumed: a Request is answered by Response or NoAnswer.")
    return answer


def pause(seconds: float) -> Exchange[Resumed]:
    """Wait, then go on."""
    answer = yield Pause(seconds)
    if not isinstance(answer, Resumed):
        raise TypeError("The edge answered a Pause with an answer of the bank: a Pause is answered by Resumed.")
    return answer


def immediately(value: T) -> Exchange[T]:
    """An exchange of no request: the value is known already."""
    yield from ()
    return value


def request_id(answer: Response | NoAnswer) -> str | None:
    """The bank's id of the request (header ``Request-Id``), where it gave a printable one."""
    if isinstance(answer, NoAnswer):
        return None
    named = answer.headers.get("request-id")
    return named if named is not None and _REQUEST_ID.fullmatch(named) else None
