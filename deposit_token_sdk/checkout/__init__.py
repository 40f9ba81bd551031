"""From an order to a paid order, exactly once, in the shop's own database.

The rooms below are loaded when first used (PEP 562), so that importing `Checkout` brings neither signing nor a store.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from deposit_token_sdk.checkout import (
        bank,
        collecting,
        day,
        decisions,
        door,
        health,
        intents,
        offering,
        outbox,
        own_quotes,
        receiving,
        review,
        seal,
        store,
        sweeping,
        view,
    )

__all__ = [
    "bank",
    "collecting",
    "day",
    "decisions",
    "door",
    "health",
    "intents",
    "offering",
    "outbox",
    "own_quotes",
    "receiving",
    "review",
    "seal",
    "store",
    "sweeping",
    "view",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")
