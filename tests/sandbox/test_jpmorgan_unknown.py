"""Payments and refunds at J.P. Morgan of which nobody knows for a while what became: none is sent twice, and what
arrives after it was given up is found.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from deposit_token_sdk.checkout.store import Verb, Verdict
from deposit_token_sdk.errors import InvalidInput, NotAllowed, OutcomeUnknown
from deposit_token_sdk.exchange import Request
from deposit_token_sdk.issuers.jpmorgan.issuer import JPMorganIssuer
from deposit_token_sdk.lifecycle import RefundStage, Status
from tests.checkout.kit import Answer, Watched
from tests.sandbox import jpmorgan

VERSIONS = pytest.mark.parametrize("version", [2, 1])


@VERSIONS
def test_a_second_payment_that_a_person_has_sent_back_is_sent_back(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1", JPMORGAN_KEY_LIFETIME="0.01", JPMORGAN_UNSEEN_FOR="30") as shop:
        shop.bank.control.set_webhook_url(None)
        buyer = shop.balance("buyer:anna")
        shop.start()
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        (slow,) = shop.initiations()
        shop.ahead = timedelta(seconds=31)
        shop.checkout.reconcile()
        shop.start()
        assert shop.checkout.collect("A-1").paid
        shop.wire.transport.answer(slow, 10.0)  # the first one arrives after all
        assert shop.balance("buyer:anna") == buyer - 2 * 12850
        shop.checkout.reconcile()
        (review,) = shop.checkout.reviews()
        assert review.reason == "second_payment"
        shop.checkout.resolve(review.number, Verdict.REFUND, by="clerk")
        assert [refund.stage for refund in shop.checkout.view("A-1").refunds] == [RefundStage.DONE]
        assert shop.balance("buyer:anna") == buyer - 12850
        assert shop.bank.control.audit() == []


@VERSIONS
def test_a_collection_is_sent_once_whatever_another_server_s_clock_says(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1", JPMORGAN_KEY_LIFETIME="0.001") as shop:
        shop.bank.control.set_webhook_url(None)
        shop.start()
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        shop.ahead = timedelta(seconds=-30)
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        assert len(shop.initiations()) == 1


def test_a_worker_that_comes_late_does_not_end_a_collection_that_was_begun_anew(tmp_path: Path) -> None:
    with jpmorgan.shop(tmp_path, 1, ATTEMPTS="1", JPMORGAN_UNSEEN_FOR="30") as shop:
        shop.bank.control.set_webhook_url(None)
        attempt = shop.start()
        shop.bank.control.fault("error_before", route="POST /payments", count=2)
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        shop.ahead = timedelta(seconds=31)
        seen: list[Request] = []

        def meanwhile(request: Request) -> None:
            """Another process hears that the first was refused, and the buyer agrees again: that is on its way now."""
            seen.append(request)
            if len(seen) == 1:
                with shop.checkout.store.begin() as tx:
                    tx.answer_intent(Verb.COLLECT, attempt.reference, "business_rule")
                with pytest.raises(OutcomeUnknown):
                    shop.checkout.collect("A-1")

        shop.wire.transport = Watched(before=meanwhile)
        shop.checkout.reconcile()
        assert len(shop.initiations()) == 2
        assert shop.checkout.store.order("A-1").attempts[0].ended is None
        assert shop.checkout.view("A-1").unknown


def test_a_payment_that_is_shown_while_a_worker_gives_it_up_is_waited_for(tmp_path: Path) -> None:
    with jpmorgan.shop(tmp_path, 1, ATTEMPTS="1", JPMORGAN_UNSEEN_FOR="30") as shop:
        shop.bank.control.set_webhook_url(None)
        attempt = shop.start()
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        (slow,) = shop.initiations()
        shop.ahead = timedelta(seconds=31)
        asked: list[Request] = []

        def meanwhile(request: Request, answer: Answer) -> Answer:
            """The worker is told for the last time that there is no payment; now it arrives, and its callback too."""
            asked.append(request)
            if len(asked) == 2:
                shop.bank.control.hold()
                shop.wire.transport.answer(slow, 10.0)
                told = f'{{"endToEndId":"{attempt.reference}","paymentStatus":"PENDING_POSTING"}}'
                assert shop.checkout.receive({}, f'{{"callbacks":[{told}]}}'.encode()).status == 200
            return answer

        shop.wire.transport = Watched(after=meanwhile)
        shop.checkout.reconcile()
        pending = shop.checkout.store.order("A-1").attempts[0]
        assert pending.standing is not None
        assert pending.standing.status is Status.PENDING
        assert pending.ended is None
        shop.bank.control.settle(attempt.reference)
        shop.checkout.reconcile()
        assert shop.checkout.view("A-1").paid
        assert shop.checkout.reviews() == ()


def test_callbacks_of_which_one_has_a_name_too_long_to_be_found_by_are_kept_for_a_person(tmp_path: Path) -> None:
    with jpmorgan.shop(tmp_path, 1) as shop:
        reference = shop.start().reference
        told = ", ".join(
            f'{{"endToEndId":"{name}","paymentStatus":"COMPLETED"}}' for name in (reference, reference + "x" * 300)
        )
        answer = shop.checkout.receive({}, f'{{"callbacks":[{told}]}}'.encode())
        assert (answer.status, answer.reason) == (200, "bad_value")
        assert [review.reason for review in shop.checkout.reviews()] == ["bad_value"]


def a_refund_given_up(shop: jpmorgan.Shop, units: int) -> Request:
    """The request for a refund that the bank did not get and the shop gave up: it may still arrive."""
    shop.bank.control.set_webhook_url(None)
    shop.start()
    shop.checkout.collect("A-1")
    shop.bank.control.fault("error_before", route="POST /payments")
    with pytest.raises(OutcomeUnknown):
        shop.checkout.refund("A-1", units, request="one")
    slow = shop.initiations()[-1]
    shop.ahead = timedelta(seconds=31)
    shop.checkout.reconcile()
    return slow


@VERSIONS
def test_a_refund_that_arrives_after_it_was_given_up_is_found_by_asking(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1", JPMORGAN_KEY_LIFETIME="0.01", JPMORGAN_UNSEEN_FOR="30") as shop:
        slow = a_refund_given_up(shop, 12850)
        assert shop.checkout.view("A-1").refundable == 12850
        shop.wire.transport.answer(slow, 10.0)
        shop.checkout.reconcile()
        assert [refund.stage for refund in shop.checkout.view("A-1").refunds] == [RefundStage.DONE]
        assert "refund_revived" in [review.reason for review in shop.checkout.reviews()]
        assert shop.checkout.view("A-1").refundable == 0


@VERSIONS
def test_a_price_that_this_bank_cannot_carry_ends_its_attempt_and_the_order_can_be_paid(
    tmp_path: Path, version: int
) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        with pytest.raises(InvalidInput):
            shop.start(price=f"1{'0' * 20}.00")
        assert not shop.checkout.view("A-1").unknown
        shop.start()
        assert shop.checkout.collect("A-1").paid


@VERSIONS
def test_an_account_that_is_none_is_refused_and_the_buyer_may_agree_again(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        shop.start()
        with pytest.raises(InvalidInput) as refused:
            shop.checkout.collect("A-1", account="nobody")
        assert refused.value.reason == "unknown_account"
        assert shop.initiations() == []
        assert not shop.checkout.view("A-1").unknown
        assert shop.checkout.collect("A-1", account="anna").paid


def test_an_account_that_the_settings_have_lost_does_not_undo_what_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with jpmorgan.shop(tmp_path, 2, ATTEMPTS="1") as shop:
        shop.bank.control.set_webhook_url(None)
        shop.start()
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")

        def lost(_: JPMorganIssuer, name: str) -> NoReturn:
            raise InvalidInput("unknown_account", name)

        monkeypatch.setattr(JPMorganIssuer, "_debtor", lost)
        with pytest.raises(InvalidInput):
            shop.checkout.collect("A-1")
        assert shop.checkout.view("A-1").unknown
        monkeypatch.undo()
        assert shop.checkout.collect("A-1").paid


@VERSIONS
@pytest.mark.parametrize("swept", [True, False], ids=["swept", "not swept"])
def test_a_refund_that_has_arrived_after_all_is_not_sent_again_by_a_person(
    tmp_path: Path, version: int, swept: bool
) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1", JPMORGAN_KEY_LIFETIME="0.01", JPMORGAN_UNSEEN_FOR="30") as shop:
        buyer = shop.balance("buyer:anna")
        slow = a_refund_given_up(shop, 500)
        (failed,) = shop.checkout.reviews()
        assert failed.reason == "refund_failed"
        shop.wire.transport.answer(slow, 10.0)
        if swept:
            shop.checkout.reconcile()
        with pytest.raises(NotAllowed) as refused:
            shop.checkout.resolve(failed.number, Verdict.REFUND, by="clerk")
        assert refused.value.reason == "nothing_to_refund"
        assert shop.balance("buyer:anna") == buyer - 12850 + 500
        shop.checkout.resolve(failed.number, Verdict.ACCEPT, by="clerk")
        assert failed not in shop.checkout.reviews()
