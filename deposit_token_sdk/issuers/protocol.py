"""What every issuer can be asked, as exchanges, and what it can do at all, as capabilities.

An issuer is a bank's API in one class. Its verbs are generators: they describe the call and are run by a client.
Third parties add one by the entry point ``deposit_token_sdk.issuers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from deposit_token_sdk.errors import Unsupported

if TYPE_CHECKING:
    from deposit_token_sdk.exchange import Exchange
    from deposit_token_sdk.models import (
        Backing,
        Event,
        Invoice,
        InvoicePage,
        LedgerPage,
        NewCollection,
        NewInvoice,
        NewQuote,
        NewRefund,
        Proof,
        Quote,
        Refund,
        Report,
        Token,
        WebhookTest,
    )


class Capability(StrEnum):
    """What a bank's API offers. Asking for what is lacking raises Unsupported before anything is sent."""

    QUOTES = "quotes"
    HOSTED_PAGE = "hosted_page"
    MANUAL_CAPTURE = "manual_capture"
    COLLECT = "collect"
    CANCEL = "cancel"
    REFUNDS = "refunds"
    WEBHOOKS = "webhooks"
    SIGNED_STATEMENTS = "signed_statements"
    IDEMPOTENCY = "idempotency"
    ON_CHAIN = "on_chain"
    LEDGER = "ledger"
    WEBHOOK_TESTS = "webhook_tests"


class Issuer(Protocol):
    """One bank, for one merchant. `name` is the bank's own name for itself, `mode` test or live.

    `key_lifetime` is how long an idempotency key protects, in seconds; 0 where the bank defines none.
    """

    @property
    def name(self) -> str: ...
    @property
    def merchant(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def capabilities(self) -> frozenset[Capability]: ...
    @property
    def proofs(self) -> frozenset[Proof]: ...
    @property
    def key_lifetime(self) -> float: ...

    def tokens(self) -> Exchange[tuple[Token, ...]]:
        """The tokens the bank takes payment in."""
        ...

    def quote(self, asked: NewQuote) -> Exchange[Quote]:
        """A locked price, its statement verified and recomputed. Raises PriceRefused, NotGenuine, NotOurs."""
        ...

    def create_invoice(self, asked: NewInvoice) -> Exchange[Invoice]:
        """A request for payment under a quote."""
        ...

    def invoice(self, invoice_id: str) -> Exchange[Invoice]:
        """The invoice by the bank's id."""
        ...

    def find_invoice(self, reference: str) -> Exchange[Invoice | None]:
        """The invoice by the shop's reference; None if the bank knows none."""
        ...

    def invoices(self, cursor: str | None = None, limit: int = 100, day: date | None = None) -> Exchange[InvoicePage]:
        """All invoices, or those made on a day (UTC, by the bank's clock), a page at a time."""
        ...

    def cancel(self, invoice_id: str, key: str) -> Exchange[Invoice]:
        """End an unpaid invoice."""
        ...

    def capture(self, invoice_id: str, units: int, key: str, ordered_at: datetime) -> Exchange[Invoice]:
        """The merchant's signed word, given at `ordered_at`, that the bank may settle the held payment, whole."""
        ...

    def release(self, invoice_id: str, key: str) -> Exchange[Invoice]:
        """Let a held payment go back to the buyer."""
        ...

    def refund(self, asked: NewRefund) -> Exchange[Refund]:
        """Send money of a paid invoice back."""
        ...

    def refund_status(self, refund_id: str) -> Exchange[Refund]:
        """The refund by the bank's id."""
        ...

    def find_refund(self, reference: str, invoice: str | None = None) -> Exchange[Refund | None]:
        """The refund by the shop's reference; None if the bank knows none. `invoice` is the bank's id of the invoice
        it is of, where that is known: some banks name a refund by both."""
        ...

    def statements(self, invoice_id: str) -> Exchange[tuple[str, ...]]:
        """The bank's signed statements about the invoice, again, as they stand (not yet verified)."""
        ...

    def backing(self, token: str) -> Exchange[Backing]:
        """The bank's signed word on circulation and deposits, verified."""
        ...

    def ledger(self, day: date, cursor: str | None = None, limit: int = 1000) -> Exchange[LedgerPage]:
        """What moved that day (UTC, by the bank's clock), a page at a time."""
        ...

    def test_webhook(self, key: str) -> Exchange[WebhookTest]:
        """Have a signed test event sent to the shop's webhook address, and learn what answered there."""
        ...

    def read_event(self, headers: Mapping[str, str], body: bytes, now: float) -> Exchange[Event]:
        """The verified envelope of a webhook. Raises NotGenuine, Unreadable."""
        ...

    def report_event(self, event: Event, now: float) -> Exchange[Report | None]:
        """What an event says about its invoice, its statement verified; None if it is about no invoice."""
        ...

    def report_invoice(self, invoice: Invoice) -> Exchange[Report]:
        """What an invoice as read says, with the bank's statements fetched and verified where money moved."""
        ...


@runtime_checkable
class QuotesNothing(Protocol):
    """An issuer without Capability.QUOTES: the checkout writes the price, which stands for `quote_life` seconds."""

    @property
    def quote_life(self) -> float: ...


@runtime_checkable
class Collects(Protocol):
    """An issuer with Capability.COLLECT: the merchant starts the debit, under an entitlement that the buyer gave.

    What the bank does not know `unseen_for` seconds after it can last have been sent, never arrived there.
    """

    @property
    def unseen_for(self) -> float: ...

    def collect(self, asked: NewCollection) -> Exchange[str]:
        """Start the debit; the bank's id of the payment, which is only accepted then. Raises OutcomeUnknown."""
        ...


@runtime_checkable
class Splits(Protocol):
    """An issuer whose webhooks may hold several pieces of news in one body."""

    def split(self, event: Event) -> tuple[Event, ...]:
        """The pieces, each under an id of its own."""
        ...


@runtime_checkable
class Acknowledges(Protocol):
    """An issuer whose bank wants to read more than a status where a webhook was taken, and else sends it again."""

    @property
    def acknowledgement(self) -> str:
        """The body of the answer, in JSON."""
        ...


@runtime_checkable
class TakesHints(Protocol):
    """An issuer whose webhooks may be signed by nobody: hints, which say no more than what to ask the bank about."""

    @property
    def hints(self) -> bool:
        """Whether anybody who reaches the address can have written one. So they are kept only as far as is bounded."""
        ...


@runtime_checkable
class SignsSeals(Protocol):
    """An issuer that holds the merchant's own signing key, and lends it for seals over the shop's evidence."""

    def sign_seal(self, head: bytes) -> tuple[str, str] | None:
        """The head as the payload of a JWS, and the key's public half as a JWK set; None where no key is set."""
        ...


def require(issuer: Issuer, capability: Capability) -> None:
    """Raise Unsupported, before anything is sent, if the issuer lacks the capability."""
    if capability not in issuer.capabilities:
        raise Unsupported(
            issuer.name,
            capability,
            f"{issuer.name} cannot do {capability}: it offers {', '.join(sorted(issuer.capabilities))}.",
        )
