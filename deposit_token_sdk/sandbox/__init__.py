"""The embedded bank: a real server with a double-entry ledger, for development and tests. Never for money.

It stands apart from the rest: it imports errors, money and signing of this package and nothing else, prices with
its own code and keeps its own states, so that a mistake in the client shows as a disagreement. What it needs
beyond the package itself is the extra ``sandbox``; nothing of that is imported before `Sandbox` is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deposit_token_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from deposit_token_sdk.sandbox.embedded import Sandbox

__all__ = ["Sandbox"]


def __getattr__(name: str) -> object:
    if name == "Sandbox":
        try:
            from deposit_token_sdk.sandbox.embedded import Sandbox  # noqa: PLC0415 - Flask is an extra
        except ModuleNotFoundError as error:
            raise _missing(error) from None
        return Sandbox
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _missing(error: ModuleNotFoundError) -> Exception:
    if error.name is None or error.name.startswith("deposit_token_sdk"):
        return error
    return ConfigurationError(
        "extra_missing", f"The sandbox bank needs {error.name}: pip install 'deposit-token-sdk[sandbox]'."
    )
