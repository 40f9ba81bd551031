"""What every issuer must keep while the bank misbehaves: one payment, one fulfilment, one refund. See `issuers`."""
# ruff: noqa: S101

from __future__ import annotations

from functools import partial
from typing import Final

import pytest

from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.lifecycle import RefundStage
from deposit_token_sdk.testing.issuer_shop import HASTY, ORDER, Shop

SECONDS: Final = 1.2
"""For how long an answer is late, or drips: longer than a hasty client waits."""

ANSWERS: Final = (
    *((kind, "8") for kind in ("latency", "dripping", "error_before", "error_after", "dropped", "rate_limited")),
    *((kind, "1") for kind in ("error_before", "error_after", "dropped", "kept_error", "kept_error_after")),
)
"""What goes wrong with an answer, and how often the client tries: with one try the checkout must find out by asking."""

NEWS: Final = {
    "webhook_repeated": 0.0,
    "webhook_delayed": 0.3,
    "webhook_reordered": 1.0,
    "webhook_corrupted": 0.0,
    "webhook_unanswered": 0.1,
}
"""What can go wrong with a webhook, and for how many seconds. Lost ones are another test's."""

RATES: Final = ("error_after", "dropped")


class FaultConformance:
    """The sandbox's faults, one at a time and many at once."""

    @pytest.mark.parametrize(("kind", "tries"), ANSWERS)
    def test_an_order_is_opened_and_paid_once_in_spite_of(self, shop: Shop, kind: str, tries: str) -> None:
        before = struck(shop, kind)
        shop.bank.control.fault(kind, route=shop.way.opens, seconds=SECONDS)
        hasty = shop.restarted(HASTY | {"DEPOSIT_TOKEN_ATTEMPTS": tries})
        attempt = shop.persist(partial(shop.purchase, checkout=hasty))
        assert struck(shop, kind) == before + 1
        assert not shop.checkout.view(ORDER).unknown
        if not shop.checkout.refresh(ORDER).paid:
            shop.pay(attempt)
        shop.paid()
        shop.quiet(attempt)
        shop.sound(attempt)
        shop.alone(attempt)

    @pytest.mark.parametrize(("kind", "tries"), ANSWERS)
    def test_a_refund_is_sent_once_in_spite_of(self, shop: Shop, kind: str, tries: str) -> None:
        if Capability.REFUNDS not in shop.issuer.capabilities:
            return
        attempt = shop.buy()
        before = struck(shop, kind)
        shop.bank.control.fault(kind, route=shop.way.refunds, seconds=SECONDS)
        hasty = shop.restarted(HASTY | {"DEPOSIT_TOKEN_ATTEMPTS": tries})
        number = 0
        while not any(one.stage is RefundStage.DONE for one in shop.refunds()):
            assert number < 4, "the refund is not done"
            try:
                hasty.refund(ORDER, 700, request=f"page-{number}")
            except DepositTokenError:
                shop.find_out()
            number += all(one.stage is RefundStage.FAILED for one in shop.refunds())
        assert struck(shop, kind) == before + 1
        assert shop.ledger(attempt, "refund") == [700]
        assert shop.checkout.refundable(attempt.reference) == 12850 - 700

    @pytest.mark.parametrize("kind", RATES)
    def test_at_a_bank_where_every_third_request_fails_orders_are_paid_once(self, shop: Shop, kind: str) -> None:
        shop.bank.control.fault(kind, count=None, rate=0.34, seed=11)
        shop.checkout = shop.restarted({"DEPOSIT_TOKEN_ATTEMPTS": "12"})
        attempts = [shop.persist(partial(shop.purchase, order), order) for order in ("A-1", "A-2")]
        for attempt in attempts:
            if not shop.checkout.view(attempt.order_id).paid:
                shop.pay(attempt)
        shop.learns(lambda: len(shop.fulfilled()) == 2)
        shop.bank.control.clear_faults()
        for attempt in attempts:
            shop.quiet(attempt)
        shop.sound(*attempts)
        shop.alone(*attempts)

    @pytest.mark.parametrize("kind", NEWS)
    def test_news_bring_about_one_fulfilment_in_spite_of(self, shop: Shop, kind: str) -> None:
        if Capability.WEBHOOKS not in shop.issuer.capabilities:
            return
        attempt = shop.open()
        before = struck(shop, kind)
        shop.bank.control.fault(kind, invoice=attempt.reference, seconds=NEWS[kind])
        if kind == "webhook_reordered":
            shop.bank.control.hold(invoice=attempt.reference)
            shop.pay(attempt)
            shop.bank.control.settle(attempt.reference)
        else:
            shop.pay_untold(attempt)
        shop.paid()
        shop.quiet(attempt)
        assert struck(shop, kind) == before + 1
        shop.sound(attempt)


def struck(shop: Shop, kind: str) -> int:
    """How often such a fault has struck."""
    return shop.bank.control.fault_counts().get(kind, 0)
