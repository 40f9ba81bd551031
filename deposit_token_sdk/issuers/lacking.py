"""What a bank may lack: every verb that needs a capability, as Unsupported, for an issuer to inherit.

An issuer defines the verbs that its bank has; those that it leaves out are refused by these, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, NoReturn

from deposit_token_sdk.issuers.protocol import Capability, require

if TYPE_CHECKING:
    from deposit_token_sdk.exchange import Exchange
    from deposit_token_sdk.issuers.protocol import Issuer
    from deposit_token_sdk.models import (
        Backing,
        Event,
        Invoice,
        InvoicePage,
        LedgerPage,
        NewQuote,
        NewRefund,
        Quote,
        Refund,
        WebhookTest,
    )


class Lacking:
    """An issuer that can do nothing yet. See `issuers.protocol.Issuer` for what the verbs mean."""

    def quote(self, asked: NewQuote) -> Exchange[Quote]:
        """Unsupported (QUOTES)."""
        _lacks(self, Capability.QUOTES)

    def cancel(self, invoice_id: str, key: str) -> Exchange[Invoice]:
        """Unsupported (CANCEL)."""
        _lacks(self, Capability.CANCEL)

    def capture(self, invoice_id: str, units: int, key: str, ordered_at: datetime) -> Exchange[Invoice]:
        """Unsupported (MANUAL_CAPTURE)."""
        _lacks(self, Capability.MANUAL_CAPTURE)

    def release(self, invoice_id: str, key: str) -> Exchange[Invoice]:
        """Unsupported (MANUAL_CAPTURE)."""
        _lacks(self, Capability.MANUAL_CAPTURE)

    def refund(self, asked: NewRefund) -> Exchange[Refund]:
        """Unsupported (REFUNDS)."""
        _lacks(self, Capability.REFUNDS)

    def refund_status(self, refund_id: str) -> Exchange[Refund]:
        """Unsupported (REFUNDS)."""
        _lacks(self, Capability.REFUNDS)

    def find_refund(self, reference: str, invoice: str | None = None) -> Exchange[Refund | None]:
        """Unsupported (REFUNDS)."""
        _lacks(self, Capability.REFUNDS)

    def read_event(self, headers: Mapping[str, str], body: bytes, now: float) -> Exchange[Event]:
        """Unsupported (WEBHOOKS)."""
        _lacks(self, Capability.WEBHOOKS)

    def statements(self, invoice_id: str) -> Exchange[tuple[str, ...]]:
        """Unsupported (SIGNED_STATEMENTS)."""
        _lacks(self, Capability.SIGNED_STATEMENTS)

    def backing(self, token: str) -> Exchange[Backing]:
        """Unsupported (SIGNED_STATEMENTS)."""
        _lacks(self, Capability.SIGNED_STATEMENTS)

    def ledger(self, day: date, cursor: str | None = None, limit: int = 1000) -> Exchange[LedgerPage]:
        """Unsupported (LEDGER)."""
        _lacks(self, Capability.LEDGER)

    def invoices(self, cursor: str | None = None, limit: int = 100, day: date | None = None) -> Exchange[InvoicePage]:
        """Unsupported (LEDGER)."""
        _lacks(self, Capability.LEDGER)

    def test_webhook(self, key: str) -> Exchange[WebhookTest]:
        """Unsupported (WEBHOOK_TESTS)."""
        _lacks(self, Capability.WEBHOOK_TESTS)


def _lacks(issuer: object, capability: Capability) -> NoReturn:
    lacking: Issuer = issuer  # type: ignore[assignment]  # what inherits is an issuer; this alone is not
    require(lacking, capability)
    raise NotImplementedError(f"{capability} is among the capabilities of {lacking.name}, but has no verb.")
