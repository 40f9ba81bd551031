"""Why a message that did not verify may have failed: for the person who has to mend it.

A refused message stays refused, whatever is found here; nothing found here is believed. The work is bounded, since
whoever sends rubbish decides how often it is done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import product

MAX_BODY = 65536
"""Longer bodies are not spelt anew."""

EMPTY_BODY = (
    "The body is empty: something read it before we did. Hand over the raw bytes, read once, "
    "ahead of any parsing middleware."
)
RESERIALISED = (
    "The signature fits the same JSON spelt differently: the body was parsed and written anew on its way. "
    "Hand over the raw bytes as they were received."
)

_LAYOUTS: tuple[tuple[int | None, tuple[str, str] | None], ...] = ((None, (",", ":")), (None, None), (2, None))


def why_the_body_differs(body: bytes, fits: Callable[[bytes], bool]) -> str | None:
    """A hint where `body` is empty, or where another spelling of its JSON passes `fits`."""
    if not body:
        return EMPTY_BODY
    return RESERIALISED if any(fits(spelling) for spelling in other_spellings(body)) else None


def other_spellings(body: bytes) -> Iterator[bytes]:
    """The JSON of `body` as common libraries would write it, each spelling once and not as it stands."""
    if len(body) > MAX_BODY:
        return
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    seen = {body}
    for (indent, separators), sort_keys, ensure_ascii in product(_LAYOUTS, (False, True), (True, False)):
        spelling = _spelt(value, indent, separators, sort_keys=sort_keys, ensure_ascii=ensure_ascii)
        if spelling not in seen:
            seen.add(spelling)
            yield spelling


def _spelt(
    value: object, indent: int | None, separators: tuple[str, str] | None, *, sort_keys: bool, ensure_ascii: bool
) -> bytes:
    text = json.dumps(value, indent=indent, separators=separators, sort_keys=sort_keys, ensure_ascii=ensure_ascii)
    return text.encode("utf-8", "surrogatepass")


def clock_hint(behind: float, skew: float) -> str:
    """What a message `behind` seconds older than our time (negative: ahead of it) says about the two clocks."""
    seconds = round(abs(behind))
    allowed = f"{skew:g} s are allowed"
    if behind > 0:
        return (
            f"It was signed {seconds} s before our time ({allowed}): it is late or replayed, "
            f"or our clock is ahead of the signer's by up to {seconds} s."
        )
    return (
        f"It was signed {seconds} s after our time ({allowed}): "
        f"our clock is behind the signer's by at least {seconds} s."
    )
