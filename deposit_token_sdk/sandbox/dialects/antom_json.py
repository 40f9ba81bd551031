"""Antom's JSON, as this bank writes and reads it: amounts, times, results, and the words for what the bank decided."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from attrs import frozen
from sqlalchemy import RowMapping

from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.sandbox.pricing import TOKENS
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.keys import Algorithm, SigningKey

_TWO = frozenset("AUD BDT BRL CAD CNY EUR GBP HKD IDR MXN MYR NZD PEN PHP PKR PLN SGD THB TWD USD".split())
_NONE = frozenset("CLP JPY KRW VND".split())

METHODS: Final = tuple((token.code, token.currency) for token in TOKENS.values() if token.currency in _TWO)
"""Token and currency of each payment method: those of this bank's tokens that Antom has a currency for."""

_ID: Final = re.compile(r"[A-Za-z0-9_.@:-]{1,64}", re.ASCII)
_REFERENCE: Final = re.compile(r"[A-Za-z0-9]{1,33}", re.ASCII)
HASHED: Final = 34
"""Characters of a reference that stands for another text."""
_DIGITS: Final = re.compile(r"[0-9]{1,16}", re.ASCII)

REFUSALS: Final = {
    "malformed": "PARAM_ILLEGAL",
    "wrong_mode": "ACCESS_DENIED",
    "quote_used": "REPEAT_REQ_INCONSISTENT",
    "quote_expired": "ORDER_IS_CLOSED",
    "digest_mismatch": "PARAM_ILLEGAL",
    "unknown_quote": "PARAM_ILLEGAL",
    "unknown_token": "CURRENCY_NOT_SUPPORT",
    "unknown_invoice": "ORDER_NOT_EXIST",
    "unknown_refund": "ORDER_NOT_EXIST",
    "unsupported_currency": "CURRENCY_NOT_SUPPORT",
    "nets_nothing": "PARAM_ILLEGAL",
    "invoice_not_open": "ORDER_IS_CLOSED",
    "refund_exceeds": "REFUND_AMOUNT_EXCEED",
    "idempotency_key_reused": "REPEAT_REQ_INCONSISTENT",
    "reference_taken": "REPEAT_REQ_INCONSISTENT",
    "insufficient_balance": "MERCHANT_BALANCE_NOT_ENOUGH",
}
"""The bank's refusals in Antom's codes; any other is PROCESS_FAIL."""

PAYMENT_NEWS: Final = {
    "invoice.pending": ("PAYMENT_IN_PROCESS", "U", "PAYMENT_PENDING"),
    "invoice.settled": ("SUCCESS", "S", "PAYMENT_RESULT"),
    "invoice.released": ("PROCESS_FAIL", "F", "PAYMENT_RESULT"),
    "invoice.expired": ("ORDER_IS_CLOSED", "F", "PAYMENT_RESULT"),
    "invoice.cancelled": ("ORDER_IS_CLOSED", "F", "PAYMENT_RESULT"),
}
"""By the bank's event: code and status of the payment's result, and the notifyType."""
REFUND_NEWS: Final = frozenset({"refund.done", "refund.failed"})
REFUND_STATUSES: Final = {"pending": "PROCESSING", "done": "SUCCESS", "failed": "FAIL"}

_STANDINGS: Final = {
    "expired": ("FAIL", "ORDER_IS_CLOSED"),
    "cancelled": ("CANCELLED", "ORDER_IS_CLOSED"),
}
_PAYMENTS: Final = {"settled": "SUCCESS", "seen": "PROCESSING", "held": "PROCESSING", "released": "FAIL"}


@frozen
class Amount:
    """An Amount as it was asked, in minor units."""

    currency: str
    units: int

    @property
    def shown(self) -> dict[str, str]:
        """As Antom writes it."""
        return {"currency": self.currency, "value": str(self.units)}

    @property
    def plain(self) -> str:
        """As this bank's API writes it: a plain decimal."""
        return f"{Decimal(self.units).scaleb(-minor_digits(self.currency)):f}"


def minor_digits(currency: str) -> int:
    """Antom's minor unit digits. Raises Refused (``unsupported_currency``)."""
    if currency not in _TWO | _NONE:
        raise Refused("unsupported_currency", f"Antom takes no {currency[:10]!r}.")
    return 0 if currency in _NONE else 2


def read_amount(asked: dict[str, Any], name: str) -> Amount:
    """An Amount of a request: digits, as a string or a number. Raises Refused, Unreadable."""
    told = strict_json.member(asked, name)
    currency, value = strict_json.text(told, "currency"), told.get("value")
    minor_digits(currency)
    digits = str(value) if type(value) in (str, int) else ""
    if not _DIGITS.fullmatch(digits):
        raise Unreadable("bad_value", f"{name}.value is at most 16 digits of minor units.", field=name)
    if currency == "IDR" and int(digits) % 100:
        raise Unreadable("bad_value", f"{name}.value of IDR is a multiple of 100.", field=name)
    return Amount(currency, int(digits))


def read_id(asked: dict[str, Any], name: str) -> str:
    """A merchant's own id. Raises Unreadable."""
    told = strict_json.text(asked, name)
    if not _ID.fullmatch(told):
        raise Unreadable("bad_value", f"{name} is 1 to 64 characters.", field=name)
    return told


def is_reference(told: str) -> bool:
    """Whether this bank's books can name it as it stands."""
    return _REFERENCE.fullmatch(told) is not None


def read_moment(asked: dict[str, Any], name: str) -> datetime | None:
    """A time, where there is one. Raises Unreadable."""
    return strict_json.optional_moment(asked, name)


def written(at: datetime) -> str:
    """A time as Antom writes it."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def result(code: str, status: str, message: str = "") -> dict[str, Any]:
    """The `result` member of every answer and notification."""
    told = {"resultCode": code, "resultStatus": status, "resultMessage": (message or code.lower())[:256]}
    return {"result": told}


def token_in(currency: str) -> str:
    """The token that is paid in this currency. Raises Refused (``unsupported_currency``)."""
    for token, known in METHODS:
        if known == currency:
            return token
    raise Refused("unsupported_currency", f"No payment method is in {currency[:10]!r}.")


def token_of(method: str, due: Amount) -> str:
    """The token of a payment method, in the currency of the payment. Raises Refused (``unknown_token``)."""
    if (method, due.currency) not in METHODS:
        known = ", ".join(f"{token} in {currency}" for token, currency in METHODS)
        raise Refused("unknown_token", f"Payment methods are {known}.")
    return method


def currency_of(token: str) -> str:
    """The currency that a token is paid in."""
    return TOKENS[token].currency


def quote(row: RowMapping, since: datetime) -> dict[str, Any]:
    """A Quote, its price a JSON number."""
    return {
        "quoteId": row["id"],
        "quoteCurrencyPair": f"{row['currency']}/{currency_of(row['token'])}",
        "quotePrice": Decimal(row["rate"]),
        "quoteStartTime": written(since),
        "quoteExpiryTime": written(row["expires_at"]),
        "guaranteed": True,
    }


def indication(base: str, counter: str, rate: str, now: datetime) -> dict[str, Any]:
    """A rate that nobody has locked."""
    told = {"quoteId": f"indication-{base}-{counter}", "quoteCurrencyPair": f"{base}/{counter}"}
    return {**told, "quotePrice": Decimal(rate), "quoteStartTime": written(now), "guaranteed": False}


def first(moved: Sequence[RowMapping], *statuses: str) -> RowMapping | None:
    """The first movement in one of these statuses."""
    return next((each for each in moved if each["status"] in statuses), None)


def standing(invoice: str, main: RowMapping | None) -> tuple[str, str]:
    """paymentStatus and paymentResultCode, by the invoice's status and its payment."""
    if main is None:
        return _STANDINGS.get(invoice, ("PENDING", "PAYMENT_IN_PROCESS"))
    status = _PAYMENTS[main["status"]]
    return status, "SUCCESS" if status == "SUCCESS" else "PAYMENT_IN_PROCESS"


def other_payment(moved: RowMapping, currency: str) -> dict[str, Any]:
    """A further payment under the same request, as a transaction."""
    return {
        "transactionType": "PAYMENT",
        "transactionStatus": _PAYMENTS[moved["status"]],
        "transactionId": moved["id"],
        "transactionAmount": {"currency": currency, "value": str(moved["units"])},
        "transactionTime": written(moved["accepted_at"]),
    }


def refund_transaction(refund: RowMapping, currency: str, request_id: str) -> dict[str, Any]:
    """A refund, as a transaction of its payment."""
    return {
        "transactionType": "REFUND",
        "transactionStatus": REFUND_STATUSES[refund["status"]],
        "transactionId": refund["id"],
        "transactionRequestId": request_id,
        "transactionAmount": {"currency": currency, "value": str(refund["units"])},
        "transactionTime": written(refund["created_at"]),
    }


@lru_cache(maxsize=8)
def signing_key(pem: str, version: str) -> SigningKey:
    """A key is read once."""
    return SigningKey.from_pem(pem, Algorithm.RS256, version)
