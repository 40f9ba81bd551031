"""A payment as both versions of the API mean it, and what a version must know: how to write one and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Protocol

from attrs import frozen

from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.exchange import Response
from deposit_token_sdk.issuers.jpmorgan import words
from deposit_token_sdk.issuers.jpmorgan.options import Account
from deposit_token_sdk.lifecycle import Stage
from deposit_token_sdk.signing import strict_json


@frozen
class NewPayment:
    """A payment to be initiated. `amount` is in whole units of `currency`; `on` is the requested execution date."""

    reference: str
    amount: Decimal
    currency: str
    debtor: Account
    creditor: Account
    line: str
    on: date


@frozen
class Payment:
    """A payment as the bank tells it. `word` and `sub_word` are its own; `at` is its time, `raw` what it said, as JSON.

    `debtor` and `creditor` are None where the bank does not name them.
    """

    id: str
    reference: str
    amount: Decimal
    currency: str
    debtor: Account | None
    creditor: Account | None
    line: str
    word: str
    sub_word: str | None
    at: datetime
    raw: str

    @property
    def stage(self) -> Stage:
        """How far it has come."""
        return words.stage_of(self.word, self.sub_word)


@frozen
class Refusal:
    """What a refusal says: the bank's code and words, and its own id of the request where it names one."""

    code: str
    told: str
    request_id: str | None


class Version(Protocol):
    """What differs between the versions of the API. Paths are below the base address."""

    number: int
    content_type: str

    def find_path(self, reference: str) -> str:
        """Where all payments of a reference are read, in full."""
        ...

    def id_path(self, payment: str) -> str:
        """Where one payment is read by the bank's id."""
        ...

    def status_path(self, payment: str) -> str:
        """Where the status of one payment is read by the bank's id."""
        ...

    def body(self, payment: NewPayment) -> bytes:
        """The body that initiates a payment, as JSON, not yet signed."""
        ...

    def accepted(self, answer: dict[str, Any]) -> tuple[str, str]:
        """Reference and the bank's id in the answer to an initiation."""
        ...

    def payments(self, answer: dict[str, Any]) -> tuple[Payment, ...]:
        """The payments in the answer to a query."""
        ...

    def refusal(self, answer: Mapping[str, Any]) -> Refusal:
        """What an answer of 400 and above says."""
        ...

    def knows_none(self, response: Response, answer: Mapping[str, Any]) -> bool:
        """Whether the refusal of a query says that there is no such payment, and the bank itself says it."""
        ...


def moment(obj: dict[str, Any], name: str) -> datetime:
    """A time of the bank: RFC 3339, or in UTC without an offset, as its documents say. Raises Unreadable."""
    text = strict_json.text(obj, name)
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise Unreadable("bad_value", f"The member {name!r} is {text[:60]!r}: a time was due.", field=name) from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def raw(detail: dict[str, Any]) -> str:
    """The bank's words on one payment, written alike each time they are the same."""
    return strict_json.dumps_exact({name: detail[name] for name in sorted(detail)}).decode()
