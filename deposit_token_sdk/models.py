"""The values that pass between bank, client and checkout: frozen, typed, and without behaviour of their own.

Token amounts are integers in the token's smallest unit; prices are `Money`; times are aware datetimes.
"""

# ruff: noqa: PLC0414  # the words are handed on: they belong to these values

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from attrs import Attribute, field, frozen

from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.lifecycle import RefundStage, Stage, Word
from deposit_token_sdk.money import Money
from deposit_token_sdk.words import Bearer as Bearer
from deposit_token_sdk.words import Capture as Capture
from deposit_token_sdk.words import Mode as Mode
from deposit_token_sdk.words import Proof as Proof
from deposit_token_sdk.words import StatementKind as StatementKind
from deposit_token_sdk.words import TokenKind as TokenKind

LONGEST_NAME: Final = 255
"""Bytes of UTF-8 in what rows are found by, whoever gave it: PostgreSQL's indexes take some 2,700 for all columns."""


def _short(_: object, attribute: Attribute[Any], name: str | None) -> None:
    if name is not None and len(name.encode()) > LONGEST_NAME:
        told = f"The {attribute.name} {name[:40]!r}… is longer than {LONGEST_NAME} bytes."
        raise Unreadable("bad_value", told, field=attribute.name)


@frozen
class Token:
    """One deposit token, as its issuer describes it."""

    code: str
    currency: str
    decimals: int
    issuer: str
    kind: TokenKind
    rail: str


@frozen
class NewQuote:
    """What the shop asks a price for. `key` is the idempotency key."""

    reference: str
    installation: str
    price: Money
    token: str
    bearer: Bearer
    key: str


@frozen
class Quote:
    """The bank's price lock. `due` is what the buyer pays and `net` what the merchant gets, in token units.

    `rate` is token currency per unit of price currency. `statement` is the bank's signed word (a compact JWS), or
    None where a bank quotes nothing; `digest` names the statement in invoice and settlement.
    """

    id: str
    reference: str
    merchant: str
    installation: str
    mode: Mode
    price: Money
    token: str
    decimals: int
    rate: Decimal
    fee: int
    bearer: Bearer
    due: int
    net: int
    expires_at: datetime
    digest: str
    statement: str | None = field(default=None, repr=False)


@frozen
class NewInvoice:
    """What the shop asks to have paid, under a quote. `key` is the idempotency key.

    `quote` is the quote itself, for a bank that has its terms repeated.
    """

    reference: str
    installation: str
    quote_id: str
    quote_digest: str
    token: str
    due: int
    capture: Capture
    return_url: str
    key: str
    quote: Quote | None = None


@frozen
class NewCollection:
    """What the merchant starts a debit for, once the buyer has agreed: all that is due under an invoice.

    `account` names the buyer's entitlement, empty where there is one. `asked_at` is when the buyer agreed: it stays
    the same however often this is sent, as the `key` does.
    """

    reference: str
    invoice: str
    account: str
    key: str
    asked_at: datetime


@frozen
class Movement:
    """Money that moves, or is held, towards an invoice or back. `word` is the bank's own word for its stage."""

    id: str = field(validator=_short)
    stage: Stage
    units: int
    accepted_at: datetime
    word: str


@frozen
class NewRefund:
    """What the shop sends back, in token units. `reference` and `key` are the refund's own.

    `asked_at` is when the key was made: a bank that is told a day is told that one, however often this is sent.
    """

    reference: str
    installation: str
    invoice: str
    units: int
    key: str
    asked_at: datetime | None = None


@frozen
class Refund:
    """A refund as the bank tells it. `reference` is the one the shop gave, `word` the bank's own status."""

    id: str = field(validator=_short)
    reference: str = field(validator=_short)
    invoice: str
    units: int
    stage: RefundStage
    word: str
    statement: str | None = field(default=None, repr=False)


@frozen
class Invoice:
    """The bank's request for payment of one attempt. `word` is the bank's own status: kept, not trusted alone."""

    id: str
    reference: str
    merchant: str
    installation: str
    mode: Mode
    token: str
    due: int
    quote_digest: str
    word: str
    version: int
    expires_at: datetime
    pay_url: str | None
    instructions: str | None
    capture: Capture
    movements: tuple[Movement, ...] = ()
    refunds: tuple[Refund, ...] = ()


@frozen
class InvoicePage:
    """A page of invoices and the cursor of the next, None on the last."""

    invoices: tuple[Invoice, ...]
    next: str | None


@frozen
class Evidence:
    """A confirmation as it is kept: kind of proof, the bytes, the keys known then (a JWK set), the time."""

    proof: Proof
    kind: StatementKind
    content: str = field(repr=False)
    keys: str = field(repr=False)
    at: datetime


@frozen
class Confirmation:
    """A bank's verified word that money moved. Made by `evidence.authenticate` and nowhere else.

    `movement` is the id of the payment or return, or of the refund; `of` the payment a return takes back.
    """

    kind: StatementKind
    issuer: str
    merchant: str
    installation: str
    mode: str
    invoice: str
    reference: str
    token: str
    quote_digest: str | None
    movement: str = field(validator=_short)
    units: int
    accepted_at: datetime
    issued_at: datetime
    evidence: Evidence
    of: str | None = None
    refund_reference: str | None = None

    @property
    def proof(self) -> Proof:
        """What makes it believable."""
        return self.evidence.proof


@frozen
class Event:
    """The verified envelope of one webhook, thin: what it is about; the rest is read when asked for.

    `digest` is of the body, so that the same id with other content shows.
    """

    id: str = field(validator=_short)
    type: str
    digest: str
    merchant: str
    installation: str
    mode: str
    invoice: str | None
    reference: str | None = field(validator=_short)
    version: int | None
    statement: str | None = field(repr=False)
    data: dict[str, object] = field(repr=False)


@frozen
class Report:
    """What any message from the bank says about one invoice: webhook, poll or answer.

    `digest` names the report's content where no event id does.
    """

    issuer: str
    merchant: str
    installation: str
    mode: str
    invoice: str
    reference: str = field(validator=_short)
    digest: str
    event_id: str | None = None
    movements: tuple[Movement, ...] = ()
    words: frozenset[Word] = frozenset()
    refunds: tuple[Refund, ...] = ()
    confirmations: tuple[Confirmation, ...] = ()


@frozen
class Backing:
    """The bank's own signed word that tokens in circulation equal deposits held, both in token units.

    It is that and no more: nobody but the bank has counted. `age` is how long before it was read the bank had.
    """

    issuer: str
    token: str
    circulation: int
    deposits: int
    as_of: datetime
    issued_at: datetime
    age: timedelta
    statement: str = field(repr=False)

    def __str__(self) -> str:
        """In one sentence, for people."""
        return (
            f"{self.circulation} units of {self.token} in circulation equal the deposits held, as of "
            f"{self.as_of:%Y-%m-%d %H:%M:%S} UTC, {self.age.total_seconds():.0f} s before it was read: "
            f"{self.issuer}'s own word, signed by it and counted by nobody else."
        )


@frozen
class LedgerEntry:
    """One posting of the bank's ledger of a day, towards (payment, refund_failed) or from (return, refund, fee) the
    merchant.

    `movement` is the refund's id where the entry is about a refund, and `refund_reference` the shop's own for it.
    """

    id: str
    at: datetime
    kind: str
    invoice: str
    reference: str
    movement: str
    token: str
    units: int
    refund_reference: str | None = None


@frozen
class LedgerPage:
    """A page of a day's ledger and the cursor of the next, None on the last."""

    entries: tuple[LedgerEntry, ...]
    next: str | None


@frozen
class WebhookTest:
    """What answered the bank's test event at the shop's webhook address, word for word and not followed.

    `status` is None where nothing answered; `error` then says why in one word (name_unknown, refused, tls_failed,
    timed_out, broken_off, address_unusable) and `detail` in the bank's words. `event` is the event's id, `body` the
    beginning of the answer.
    """

    event: str
    url: str
    status: int | None
    location: str | None
    content_type: str | None
    body: str
    milliseconds: int
    error: str | None
    detail: str
