"""The bank's webhooks, in every published shape: hints at what to read again, never believed for what they say.

Version 2 has two shapes: a list of events (developer portal) and a CloudEvents 1.0 envelope around up to fifty payments
(Global Payments 2.0.22, `Webhook`); version 1 has a list of callbacks (1.1.11, `Callbacks`). One body may hold several.

Anybody may have written one that is not signed, under the id of any event. So it is known by its content as well: what
was altered on its way, or made up, is another hint, and keeps nothing of the bank's from being heard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.issuers.jpmorgan.record import INSTALLATION
from deposit_token_sdk.models import Event
from deposit_token_sdk.signing import strict_json

MANY = "payments"
"""The type of an event that holds several."""
_NAMELESS = "callback"
"""What goes before the digest of a callback of version 1, which has no id."""


def read(body: bytes, merchant: str, mode: str, *, signed: bool) -> Event:
    """The event in a body; one that holds several is taken apart by `split`. Raises Unreadable."""
    notices = list(_notices(strict_json.parse(body), signed=signed))
    if not notices:
        raise Unreadable("bad_value", "The callback is about no payment.")
    if len(notices) == 1:
        return _event(notices[0], merchant, mode)
    digest = hashlib.sha256(body).hexdigest()
    return Event(
        id=f"many:{digest}",
        type=MANY,
        digest=digest,
        merchant=merchant,
        installation="",
        mode=mode,
        invoice=None,
        reference=None,
        version=None,
        statement=None,
        data={"notices": [dict(zip(("id", "reference", "word", "digest"), one, strict=True)) for one in notices]},
    )


def split(event: Event) -> tuple[Event, ...]:
    """The events in an event, each under an id of its own."""
    notices = event.data.get("notices")
    if event.type != MANY or not isinstance(notices, list):
        return (event,)
    names = ("id", "reference", "word", "digest")
    return tuple(_event(tuple(one[name] for name in names), event.merchant, event.mode) for one in notices)


def _notices(parsed: dict[str, Any], *, signed: bool) -> Iterator[tuple[str, str, str, str]]:
    """Id, reference, the bank's word, and digest of each payment told of."""

    def notice(name: str, told: dict[str, Any], reference: str) -> tuple[str, str, str, str]:
        digest = hashlib.sha256(strict_json.dumps_exact({each: told[each] for each in sorted(told)})).hexdigest()
        unique = signed and name != _NAMELESS
        return name if unique else f"{name}:{digest[:32]}", reference, strict_json.text(told, "paymentStatus"), digest

    if "events" in parsed:
        for told in strict_json.members(parsed, "events"):
            yield notice(strict_json.text(told, "eventId"), told, _end_to_end(told))
    elif "callbacks" in parsed:
        for told in strict_json.members(parsed, "callbacks"):
            yield notice(_NAMELESS, told, strict_json.text(told, "endToEndId"))
    elif "specversion" in parsed:
        envelope = strict_json.text(parsed, "id")
        for number, told in enumerate(strict_json.members(strict_json.member(parsed, "data"), "payments"), 1):
            yield notice(f"{envelope}/{number}", told, _end_to_end(told))
    else:
        raise Unreadable("bad_value", "The callback has neither `events` nor `callbacks`, and is no CloudEvent.")


def _end_to_end(told: dict[str, Any]) -> str:
    return strict_json.text(strict_json.member(told, "paymentIdentifiers"), "endToEndId")


def _event(notice: tuple[str, ...], merchant: str, mode: str) -> Event:
    name, reference, word, digest = notice
    return Event(
        id=name,
        type=f"payment.{word}",
        digest=digest,
        merchant=merchant,
        installation=reference[:INSTALLATION],
        mode=mode,
        invoice=None,
        reference=reference,
        version=None,
        statement=None,
        data={},
    )
