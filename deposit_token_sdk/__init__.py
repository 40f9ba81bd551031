"""Take payment in bank-issued deposit tokens.

The names below are the public face. They are loaded when first used (PEP 562): importing the package does no work
and imports neither requests nor any extra.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deposit_token_sdk.checkout.flow import Checkout as Checkout
    from deposit_token_sdk.checkout.hooks import Late as Late
    from deposit_token_sdk.checkout.hooks import News as News
    from deposit_token_sdk.checkout.hooks import Paid as Paid
    from deposit_token_sdk.checkout.receiving import Answer as Answer
    from deposit_token_sdk.checkout.sql import SqlStore as SqlStore
    from deposit_token_sdk.checkout.store import Attempt as Attempt
    from deposit_token_sdk.checkout.store import Verdict as Verdict
    from deposit_token_sdk.checkout.view import OrderView as OrderView
    from deposit_token_sdk.client import Client as Client
    from deposit_token_sdk.errors import BankRefused as BankRefused
    from deposit_token_sdk.errors import BankUnavailable as BankUnavailable
    from deposit_token_sdk.errors import ConfigurationError as ConfigurationError
    from deposit_token_sdk.errors import DatabaseBusy as DatabaseBusy
    from deposit_token_sdk.errors import DepositTokenError as DepositTokenError
    from deposit_token_sdk.errors import InvalidInput as InvalidInput
    from deposit_token_sdk.errors import InvalidType as InvalidType
    from deposit_token_sdk.errors import NotAllowed as NotAllowed
    from deposit_token_sdk.errors import NotGenuine as NotGenuine
    from deposit_token_sdk.errors import NotOurs as NotOurs
    from deposit_token_sdk.errors import OrderChanged as OrderChanged
    from deposit_token_sdk.errors import OutcomeUnknown as OutcomeUnknown
    from deposit_token_sdk.errors import PriceRefused as PriceRefused
    from deposit_token_sdk.errors import Unreadable as Unreadable
    from deposit_token_sdk.errors import Unsupported as Unsupported
    from deposit_token_sdk.lifecycle import RefundStage as RefundStage
    from deposit_token_sdk.lifecycle import Status as Status
    from deposit_token_sdk.money import Money as Money
    from deposit_token_sdk.offers.directory import tokens as tokens
    from deposit_token_sdk.offers.policy import Ruling as Ruling
    from deposit_token_sdk.settings import OfferRules as OfferRules
    from deposit_token_sdk.words import Bearer as Bearer
    from deposit_token_sdk.words import Capture as Capture
    from deposit_token_sdk.words import Proof as Proof

_HOMES = {
    "checkout.flow": ("Checkout",),
    "checkout.hooks": ("Late", "News", "Paid"),
    "checkout.receiving": ("Answer",),
    "checkout.sql": ("SqlStore",),
    "checkout.store": ("Attempt", "Verdict"),
    "checkout.view": ("OrderView",),
    "client": ("Client",),
    "errors": (
        "BankRefused",
        "BankUnavailable",
        "ConfigurationError",
        "DatabaseBusy",
        "DepositTokenError",
        "InvalidInput",
        "InvalidType",
        "NotAllowed",
        "NotGenuine",
        "NotOurs",
        "OrderChanged",
        "OutcomeUnknown",
        "PriceRefused",
        "Unreadable",
        "Unsupported",
    ),
    "lifecycle": ("RefundStage", "Status"),
    "money": ("Money",),
    "offers.directory": ("tokens",),
    "offers.policy": ("Ruling",),
    "settings": ("OfferRules",),
    "words": ("Bearer", "Capture", "Proof"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = list(_HOME_OF)


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
