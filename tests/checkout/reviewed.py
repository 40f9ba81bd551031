"""Orders that wait for a person, and the person's verdict, for the tests of reviews."""

from __future__ import annotations

from typing import Any

import pytest

from deposit_token_sdk import Attempt, NotAllowed
from deposit_token_sdk.checkout.store import Decision, Review, Verdict
from tests.checkout.kit import Shop, after_expiry, due_of

REFUND, ACCEPT, RETRY = Verdict.REFUND, Verdict.ACCEPT, Verdict.RETRY


def the_review(shop: Shop, reason: str) -> Review:
    """The only open review of this reason."""
    (review,) = [one for one in shop.checkout.reviews() if one.reason == reason]
    return review


def decide(shop: Shop, reason: str, verdict: Verdict, **more: Any) -> Decision:
    return (more.pop("checkout", None) or shop.checkout).resolve(
        the_review(shop, reason).number, verdict, **{"by": "anna", **more}
    )


def refusal(shop: Shop, number: int, verdict: Verdict) -> str:
    with pytest.raises(NotAllowed) as refused:
        shop.checkout.resolve(number, verdict, by="anna")
    return refused.value.reason


def late(shop: Shop, units: int | None = None) -> Attempt:
    """An order whose payment came after the quote's expiry, and waits."""
    shop.lose_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=units, at=after_expiry(attempt))
    shop.checkout.refresh("A-1")
    return attempt


def paid_twice(shop: Shop) -> Attempt:
    attempt = shop.buy()
    shop.lose_webhooks()
    shop.bank.control.pay(attempt.reference, buyer="anna", units=due_of(attempt))
    shop.checkout.reconcile()
    return attempt
