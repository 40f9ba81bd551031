"""What every issuer that refunds must keep: never more than came, each refund once. See `issuers`."""
# ruff: noqa: S101

from __future__ import annotations

import pytest

from deposit_token_sdk.errors import BankRefused, NotAllowed, Unsupported
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.lifecycle import RefundStage
from deposit_token_sdk.models import NewRefund
from deposit_token_sdk.money import Money
from deposit_token_sdk.testing.issuer_shop import ORDER, Shop, due_of


class RefundConformance:
    """Money goes back. An issuer without Capability.REFUNDS says so before anything is sent."""

    @pytest.mark.parametrize(
        "parts", [["128.50"], ["28.50"], ["40.00", "40.00", "48.50"]], ids=["in_full", "in_part", "in_parts"]
    )
    def test_the_price_is_refunded_to_the_unit(self, shop: Shop, parts: list[str]) -> None:
        attempt = shop.buy()
        if Capability.REFUNDS not in shop.issuer.capabilities:
            before = len(shop.wire.seen)
            with pytest.raises(Unsupported):
                shop.checkout.refund(ORDER, Money(parts[0], "EUR"), request="page-1")
            assert len(shop.wire.seen) == before
            return
        for number, part in enumerate(parts):
            for _ in range(2):  # a double click is one refund
                shop.checkout.refund(ORDER, Money(part, "EUR"), request=f"page-{number}")
        wanted = [int(part.replace(".", "")) for part in parts]  # cents are the token's units
        shop.until(lambda: all(one.stage is RefundStage.DONE for one in shop.refunds()))
        assert shop.ledger(attempt, "refund") == wanted
        left = due_of(attempt) - sum(wanted)
        assert shop.kept(attempt) == shop.checkout.refundable(attempt.reference) == left
        shop.sound(attempt)

    def test_more_than_came_is_refused_here_and_by_the_bank(self, shop: Shop) -> None:
        if Capability.REFUNDS not in shop.issuer.capabilities:
            return
        attempt = shop.buy()
        shop.checkout.refund(ORDER, 12000, request="page-1")
        shop.quiet(attempt)  # news may make the shop ask
        sent = len(shop.wire.seen)
        with pytest.raises(NotAllowed) as refused:
            shop.checkout.refund(ORDER, 851, request="page-2")
        assert (refused.value.reason, len(shop.wire.seen)) == ("refund_exceeds", sent)
        if Capability.COLLECT not in shop.issuer.capabilities:  # there a refund is a payment, which nothing limits
            mark = attempt.reference[:8]
            with pytest.raises(BankRefused) as told:
                shop.client.refund(NewRefund(f"{mark}XS1", mark, attempt.invoice or "", 851, "key-xs-1"))
            assert told.value.reason == "refund_exceeds"
        assert shop.ledger(attempt, "refund") == [12000]

    def test_a_refund_that_stays_pending_is_done_when_the_bank_says_so(self, shop: Shop) -> None:
        if Capability.REFUNDS not in shop.issuer.capabilities:
            return
        attempt = shop.buy()
        shop.bank.control.hold_refunds(invoice=attempt.reference)
        shop.checkout.refund(ORDER, 700, request="page-1")
        (pending,) = shop.refunds()
        assert pending.stage is RefundStage.PENDING
        assert shop.checkout.refundable(attempt.reference) == 12850 - 700
        shop.bank.control.finish_refund(self.bank_refund(shop, attempt.reference))
        self.ends(shop, RefundStage.DONE)
        assert shop.ledger(attempt, "refund") == [700]

    def test_a_refund_that_fails_later_frees_its_amount(self, shop: Shop) -> None:
        if Capability.REFUNDS not in shop.issuer.capabilities:
            return
        attempt = shop.buy()
        shop.checkout.refund(ORDER, 12850, request="page-1")
        self.ends(shop, RefundStage.DONE)
        assert shop.checkout.refundable(attempt.reference) == 0
        shop.bank.control.fail_refund(self.bank_refund(shop, attempt.reference))
        self.ends(shop, RefundStage.FAILED)
        assert shop.checkout.refundable(attempt.reference) == shop.kept(attempt) == 12850
        again = shop.checkout.refund(ORDER, 12850, request="page-2")
        assert again.stage is RefundStage.DONE
        assert shop.kept(attempt) == 0

    def ends(self, shop: Shop, stage: RefundStage) -> None:
        """The order's only refund comes to that stage: by the bank's news, or else by asking."""
        shop.learns(lambda: shop.refunds()[0].stage is stage)

    def bank_refund(self, shop: Shop, reference: str) -> str:
        """The bank's own id of the only refund."""
        (refund,) = shop.bank.control.invoice(reference)["refunds"]
        return str(refund["id"])
