"""From start to paid, by webhook, by poll, short, over, twice, late: against the sandbox bank and its ledger."""

from __future__ import annotations

from tests.checkout.conftest import Shop


def test_a_webhook_pays_the_order_once_and_the_banks_ledger_agrees(shop: Shop) -> None:
    attempt = shop.buy()
    view = shop.checkout.view("A-1")
    assert view.paid
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert attempt.quote is not None
    assert shop.bank_received(attempt.reference) == attempt.quote.due
    assert view.attempt is not None
    assert view.attempt.standing is not None
    assert view.attempt.standing.received == attempt.quote.due
