"""Banks' APIs: what each can be asked, and which installed one the settings name."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from deposit_token_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoints

    from deposit_token_sdk.issuers.protocol import Issuer
    from deposit_token_sdk.settings import Settings

GROUP = "deposit_token_sdk.issuers"


def issuer_from(settings: Settings) -> Issuer:
    """The issuer that DEPOSIT_TOKEN_ISSUER names, made with these settings. Third parties' are found by entry point.

    Raises ConfigurationError (``issuer_unknown``).
    """
    found = _installed()
    for entry in found.select(name=settings.issuer):
        make: Callable[[Settings], Issuer] = entry.load()
        return make(settings)
    names = ", ".join(sorted(found.names))
    raise ConfigurationError(
        "issuer_unknown", f"No issuer {settings.issuer!r} is installed; DEPOSIT_TOKEN_ISSUER can be one of: {names}."
    )


@cache
def _installed() -> EntryPoints:
    from importlib.metadata import entry_points  # noqa: PLC0415  # slow to import, needed once

    return entry_points(group=GROUP)
