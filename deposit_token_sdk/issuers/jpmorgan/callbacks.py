"""The bank's webhooks, in every published shape: hints at what to read again, never believed for what they say.

Version 2 has two shapes: a list of events (developer portal) and a CloudEvents 1.0 envelope around up to fifty payments
(Global Payments 2.0.22, `Webhook`); version 1 has a list of callbacks (1.1.11, `Callbacks`). One body may hold several.
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


def read(body: bytes, merchant: str, mode: str) -> Event:
    """The event in a body; one that holds several is taken apart by `split`. Raises Unreadable."""
    notices = list(_notices(strict_json.parse(body)))
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


def _notices(parsed: dict[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Id, reference, the bank's word, and digest of each payment told of."""
    if "events" in parsed:
        for told in strict_json.members(parsed, "events"):
            identifiers = strict_json.member(told, "paymentIdentifiers")
            yield _notice(strict_json.text(told, "eventId"), strict_json.text(identifiers, "endToEndId"), told)
    elif "callbacks" in parsed:
        for told in strict_json.members(parsed, "callbacks"):
            yield _notice(f"callback:{_digest(told)}", strict_json.text(told, "endToEndId"), told)
    elif "specversion" in parsed:
        envelope = strict_json.text(parsed, "id")
        for number, told in enumerate(strict_json.members(strict_json.member(parsed, "data"), "payments"), 1):
            identifiers = strict_json.member(told, "paymentIdentifiers")
            yield _notice(f"{envelope}/{number}", strict_json.text(identifiers, "endToEndId"), told)
    else:
        raise Unreadable("bad_value", "The callback has neither `events` nor `callbacks`, and is no CloudEvent.")


def _notice(name: str, reference: str, told: dict[str, Any]) -> tuple[str, str, str, str]:
    return name, reference, strict_json.text(told, "paymentStatus"), _digest(told)


def _digest(told: dict[str, Any]) -> str:
    return hashlib.sha256(strict_json.dumps_exact({name: told[name] for name in sorted(told)})).hexdigest()


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
