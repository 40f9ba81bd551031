"""What one call of the client came to, as a value handed to hooks.

Telemetry only listens: a hook that raises is logged and breaks nothing, and nothing in the value is secret (no
address, no header, no body, no amount). Logging is the hook that always runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import TypeAlias

from attrs import frozen

LOGGER = logging.getLogger("deposit_token_sdk")

OK = "ok"


@frozen
class CallDetails:
    """One call of the client, all tries together.

    `verb` is the client's method. `route` is the template of the last request (``POST /invoices/{id}/cancel``),
    None if nothing was sent; `status` is the last answer's, None if none came; `tries` counts the requests.
    `seconds` is the whole call, waits included. `request_id` is the bank's id of the last request that it gave one.
    `outcome` is ``ok``, the `reason` of our error, or the class name of another.
    """

    verb: str
    issuer: str
    route: str | None
    status: int | None
    tries: int
    seconds: float
    request_id: str | None
    outcome: str


Hook: TypeAlias = Callable[[CallDetails], object]


def log_call(call: CallDetails) -> None:
    """Write the call to the logger ``deposit_token_sdk``: DEBUG if it went well, else WARNING."""
    level = logging.DEBUG if call.outcome == OK else logging.WARNING
    if LOGGER.isEnabledFor(level):
        LOGGER.log(
            level,
            "%s at %s: %s (route=%s status=%s tries=%d seconds=%.3f request_id=%s)",
            call.verb,
            call.issuer,
            call.outcome,
            call.route,
            call.status,
            call.tries,
            call.seconds,
            call.request_id,
        )


def tell(hooks: Iterable[Hook], call: CallDetails) -> None:
    """Hand the call to every hook; what a hook raises is logged and goes no further."""
    for hook in hooks:
        try:
            hook(call)
        except Exception:
            LOGGER.exception("A hook failed on %s at %s; the call itself is not affected.", call.verb, call.issuer)
