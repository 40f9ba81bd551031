"""A signed test event sent to a merchant's own webhook address, and word for word what answered there.

Nothing of the answer is followed or believed: a redirect, a login page or a refusal is what the merchant wants to
hear of. The address is the one the merchant has at this bank and never one that a request names. No transaction is
open while the shop is called: `begin` signs, `go` calls, `end` records.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from deposit_token_sdk.sandbox import bank as bank_room
from deposit_token_sdk.sandbox import clock, outbox
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.problems import Refused

if TYPE_CHECKING:
    import requests

SHOWN: Final = 500
"""Bytes of the answer that are told again."""

_TIMEOUT = (2.0, 5.0)
"""Seconds to connect, and between two bytes: shorter than a merchant's own patience with this bank."""

_LONGEST_HEADER = 500


@frozen
class Sent:
    """The test event as it goes out."""

    message: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    at: datetime


@frozen
class Reached:
    """What answered. Without a status `error` is one word for why, and `detail` says it in the machine's words."""

    milliseconds: int
    status: int | None = None
    location: str | None = None
    content_type: str | None = None
    body: str = ""
    error: str | None = None
    detail: str = ""


def begin(desk: Desk, merchant: str) -> Sent:
    """The event, signed for the merchant's endpoint. Raises Refused (``no_webhook_address``)."""
    _, url = bank_room.merchant_of(desk, merchant)
    if url is None:
        raise Refused("no_webhook_address", "This merchant has no webhook address at this bank: events wait for one.")
    at = clock.real_now().replace(microsecond=0)
    message, body = bank_room.test_event(desk, merchant)
    headers = outbox.signed_headers(desk, merchant, message, body.encode(), at)
    return Sent(message, url, headers, body.encode(), at)


def go(sent: Sent) -> Reached:
    """Call the shop once."""
    began = time.monotonic()
    with outbox.session() as session:
        return _called(session, sent, began)


def end(desk: Desk, sent: Sent, reached: Reached) -> dict[str, Any]:
    """Keep the try beside the event, and say what answered."""
    told = reached.body if reached.status is not None else f"{reached.error}: {reached.detail}"
    outbox.record(desk, sent.message, sent.url, dict(sent.headers), sent.at, reached.status, told)
    outbox.finish(desk, sent.message, reached.status)
    return {
        "event": sent.message,
        "url": sent.url,
        "status": reached.status,
        "location": reached.location,
        "content_type": reached.content_type,
        "body": reached.body,
        "milliseconds": reached.milliseconds,
        "error": reached.error,
        "detail": reached.detail,
    }


def _called(session: requests.Session, sent: Sent, began: float) -> Reached:
    import requests  # noqa: PLC0415 - only a bank that delivers needs it

    try:
        with session.post(
            sent.url,
            data=sent.body,
            headers=dict(sent.headers),
            timeout=_TIMEOUT,
            allow_redirects=False,
            stream=True,
        ) as answer:
            text = next(answer.iter_content(SHOWN), b"").decode("utf-8", "replace")
            named = {name: _header(answer.headers.get(name)) for name in ("location", "content-type")}
            return Reached(_since(began), answer.status_code, named["location"], named["content-type"], _plain(text))
    except (requests.RequestException, ValueError) as error:
        inmost = list(_causes(error))[-1]
        detail = _plain(f"{type(inmost).__name__}: {inmost}"[:SHOWN])
        return Reached(_since(began), error=_word(error), detail=detail)


def _since(began: float) -> int:
    return int((time.monotonic() - began) * 1000)


def _header(value: str | None) -> str | None:
    return None if value is None else _plain(value[:_LONGEST_HEADER])


def _plain(text: str) -> str:
    """Nothing that moves a terminal's cursor or cannot stand in JSON text; lines stay lines."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


def _word(error: Exception) -> str:
    """Which of the closed list of mishaps this is."""
    import requests  # noqa: PLC0415 - loaded when it is used

    causes = list(_causes(error))
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (socket.gaierror, "name_unknown"),
        ((ssl.SSLError, requests.exceptions.SSLError), "tls_failed"),
        ((requests.Timeout, TimeoutError), "timed_out"),
        (ConnectionRefusedError, "refused"),
        ((requests.exceptions.InvalidURL, requests.exceptions.MissingSchema), "address_unusable"),
    )
    return next((word for kind, word in kinds if any(isinstance(each, kind) for each in causes)), "broken_off")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it wraps."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, BaseException) and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__context__, each.__cause__, *each.args, getattr(each, "reason", None)]
