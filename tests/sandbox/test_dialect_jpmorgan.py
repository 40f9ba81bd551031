"""Buying at a bank that speaks J.P. Morgan's API: the ledger says what was paid, the documents how it was said."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
import requests

from deposit_token_sdk.checkout.store import Verb, Verdict
from deposit_token_sdk.errors import BankRefused, InvalidInput, NotAllowed, OrderChanged, OutcomeUnknown, Unsupported
from deposit_token_sdk.exchange import Request
from deposit_token_sdk.issuers.jpmorgan.issuer import JPMorganIssuer
from deposit_token_sdk.lifecycle import RefundStage, Standing, Status
from deposit_token_sdk.models import Proof, StatementKind
from deposit_token_sdk.money import Money
from tests import documents
from tests.checkout.kit import Answer, Watched
from tests.sandbox import jpmorgan

VERSIONS = pytest.mark.parametrize("version", [2, 1])


def until(look: Callable[[], object]) -> None:
    """Until what another thread does is there."""
    ends = time.monotonic() + 20
    while not look():
        assert time.monotonic() < ends, "it did not come"
        time.sleep(0.02)


def standing(shop: jpmorgan.Shop) -> Standing:
    """How the order's attempt stands."""
    attempt = shop.checkout.view("A-1").attempt
    assert attempt is not None
    assert attempt.standing is not None
    return attempt.standing


@VERSIONS
def test_a_purchase_and_its_refund_move_just_that_money_and_every_message_is_as_documented(
    tmp_path: Path, version: int
) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        buyer, merchant = shop.balance("buyer:anna"), shop.balance("merchant:demo-shop")
        attempt = shop.start()
        assert shop.wire.seen == []
        assert attempt.pay_url is None
        assert "agreed" in (attempt.instructions or "")
        view = shop.checkout.collect("A-1")
        assert view.paid
        assert shop.told == [("paid", "A-1")]
        assert (shop.balance("buyer:anna"), shop.balance("merchant:demo-shop")) == (buyer - 12850, merchant + 12850)
        (evidence,) = shop.checkout.store.evidence("A-1")
        assert (evidence.proof, evidence.kind, evidence.units) == (Proof.CHANNEL, StatementKind.SETTLEMENT, 12850)
        part = shop.checkout.refund("A-1", Money("28.50", "EUR"), request="one")
        assert part.stage is RefundStage.DONE
        rest = shop.checkout.refund("A-1", Money("100.00", "EUR"), request="two")
        assert (part.units, rest.units, rest.stage) == (2850, 10000, RefundStage.DONE)
        assert (shop.balance("buyer:anna"), shop.balance("merchant:demo-shop")) == (buyer, merchant)
        with pytest.raises(NotAllowed):
            shop.checkout.refund("A-1", 1, request="three")
        until(lambda: len(shop.callbacks) >= 3 and len(shop.answered) == len(shop.callbacks))
        assert set(shop.answered) == {200}
        assert shop.bank.control.audit() == []
        assert jpmorgan.judge(shop) > 10


@VERSIONS
def test_the_same_purchase_is_made_over_tls_by_a_shop_that_spoke_antom_s_api_before(
    tmp_path: Path, version: int
) -> None:
    with jpmorgan.shop(tmp_path, version, spoken="antom", tls_port=0) as shop:
        shop.start()
        assert shop.checkout.collect("A-1").paid
        assert all(request.url.startswith("https://127.0.0.1:") for request, _ in shop.wire.seen)
        until(lambda: shop.answered == [200])


@VERSIONS
def test_a_callback_alone_pays_an_order_whose_answer_never_came(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1") as shop:
        shop.start()
        shop.bank.control.fault("dropped", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        until(lambda: shop.checkout.view("A-1").paid)
        assert len(shop.initiations()) == 1


FAULTS = ["error_before", "dropped"]


@VERSIONS
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_on_the_way_leaves_one_payment_and_one_paid_order(tmp_path: Path, version: int, kind: str) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="2", JPMORGAN_UNSEEN_FOR="5") as shop:
        shop.bank.control.set_webhook_url(None)
        buyer = shop.balance("buyer:anna")
        shop.start()
        shop.bank.control.fault(kind, route="POST /payments")
        try:
            shop.checkout.collect("A-1")
        except OutcomeUnknown:
            shop.checkout.reconcile()
        if not shop.checkout.view("A-1").paid:  # version 1, and the bank did nothing: nothing is sent again
            assert (version, kind) == (1, "error_before")
            assert len(shop.initiations()) == 1
            shop.ahead = timedelta(seconds=6)
            shop.checkout.reconcile()
            view = shop.checkout.view("A-1")
            assert view.attempt is not None
            assert view.attempt.ended == "never_arrived"
            first = view.attempt.reference
            assert shop.start().reference != first
            shop.checkout.collect("A-1")
        assert shop.checkout.view("A-1").paid
        assert shop.balance("buyer:anna") == buyer - 12850


@VERSIONS
@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_during_a_refund_sends_the_money_back_once(tmp_path: Path, version: int, kind: str) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="2", JPMORGAN_UNSEEN_FOR="5") as shop:
        shop.bank.control.set_webhook_url(None)
        buyer = shop.balance("buyer:anna")
        shop.start()
        shop.checkout.collect("A-1")
        shop.bank.control.fault(kind, route="POST /payments")
        try:
            shop.checkout.refund("A-1", 500, request="one")
        except OutcomeUnknown:
            shop.checkout.reconcile()
        (refund,) = shop.checkout.view("A-1").refunds
        if refund.stage is RefundStage.REQUESTED:
            assert (version, kind) == (1, "error_before")
            shop.ahead = timedelta(seconds=6)
            shop.checkout.reconcile()
            (refund,) = shop.checkout.view("A-1").refunds
            assert refund.stage is RefundStage.FAILED
            assert any("never_arrived" in detail for kind, detail in shop.told if kind == "review")
            refund = shop.checkout.refund("A-1", 500, request="two")
        assert refund.stage is RefundStage.DONE
        assert shop.balance("buyer:anna") == buyer - 12850 + 500


@VERSIONS
def test_while_a_payment_may_be_on_its_way_nothing_else_is_started(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1", JPMORGAN_KEY_LIFETIME="0.001") as shop:
        shop.start()
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        for again in (lambda: shop.start(price="99.00"), lambda: shop.checkout.collect("A-1"), shop.start):
            with pytest.raises((OutcomeUnknown, OrderChanged)):
                again()
        assert len(shop.initiations()) == 1
        assert shop.checkout.view("A-1").unknown


@VERSIONS
def test_a_basket_that_changes_before_the_buyer_agreed_is_superseded_here(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        first = shop.start()
        second = shop.start(price="99.00")
        assert second.reference != first.reference
        assert shop.checkout.store.attempts("A-1")[0].ended == "superseded"
        assert shop.checkout.collect("A-1").paid
        assert shop.initiations()[-1].body
        with pytest.raises(NotAllowed) as paid:
            shop.start(price="50.00")
        assert paid.value.reason == "order_paid"


@VERSIONS
def test_a_payment_that_is_still_on_its_way_can_be_neither_changed_nor_collected_again(
    tmp_path: Path, version: int
) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        shop.bank.control.hold()
        attempt = shop.start()
        shop.checkout.collect("A-1")
        assert standing(shop).status is Status.PENDING
        with pytest.raises(OrderChanged):
            shop.start(price="99.00")
        with pytest.raises(NotAllowed) as refused:
            shop.checkout.collect("A-1")
        assert refused.value.reason == "not_open"
        shop.bank.control.settle(attempt.reference)
        shop.checkout.refresh("A-1")
        assert shop.checkout.view("A-1").paid
        assert len(shop.initiations()) == 1


@VERSIONS
def test_a_payment_that_the_bank_rejects_ends_the_attempt_and_the_next_has_a_new_reference(
    tmp_path: Path, version: int
) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        shop.bank.control.hold()
        attempt = shop.start()
        shop.checkout.collect("A-1")
        shop.bank.control.decline(attempt.reference)
        shop.checkout.refresh("A-1")
        assert ("cancelled", "A-1") in shop.told
        assert shop.start().reference != attempt.reference
        assert shop.checkout.collect("A-1").paid
        jpmorgan.judge(shop)


@VERSIONS
def test_a_payment_that_the_bank_takes_back_is_a_return(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        attempt = shop.start()
        shop.checkout.collect("A-1")
        shop.bank.control.return_payment(attempt.reference)
        until(lambda: standing(shop).status is Status.RETURNED)
        assert standing(shop).received == 0
        assert ("returned", "A-1") in shop.told
        jpmorgan.judge(shop)


@VERSIONS
def test_a_refund_that_fails_a_day_later_frees_its_amount(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        shop.start()
        shop.checkout.collect("A-1")
        refund = shop.checkout.refund("A-1", 500, request="one")
        assert refund.bank_id
        shop.bank.control.fail_refund(refund.bank_id)
        until(lambda: shop.checkout.view("A-1").refunds[0].stage is RefundStage.FAILED)
        assert shop.checkout.view("A-1").refundable == 12850


@VERSIONS
def test_an_account_without_money_is_refused_and_the_buyer_may_agree_again(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        shop.start(price="5000000.00")
        with pytest.raises(BankRefused) as refused:
            shop.checkout.collect("A-1")
        assert refused.value.reason == "business_rule"
        shop.bank.control.fund("anna", "SBEUR", 500_000_000)
        assert shop.checkout.collect("A-1").paid
        jpmorgan.judge(shop)


@VERSIONS
def test_a_price_in_another_currency_is_unsupported_before_anything_is_written(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        with pytest.raises(Unsupported):
            shop.start(currency="USD")
        assert (shop.wire.seen, shop.checkout.store.attempts("A-1")) == ([], ())


@VERSIONS
def test_an_order_nobody_agreed_to_expires_and_is_not_collected_any_more(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, QUOTE_LIFE="1", JPMORGAN_UNSEEN_FOR="0.001") as shop:
        attempt = shop.start()
        shop.ahead = timedelta(seconds=3)
        with pytest.raises(NotAllowed) as refused:
            shop.checkout.collect("A-1")
        assert refused.value.reason == "quote_expired"
        until(lambda: shop.checkout.refresh("A-1").attempt is None or shop.checkout.store.attempts("A-1")[0].ended)
        assert shop.checkout.store.attempts("A-1")[0].ended == "expired"
        assert shop.start().reference != attempt.reference


@VERSIONS
def test_a_callback_that_comes_again_after_the_payment_moved_on_is_taken_again(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        shop.start()
        shop.checkout.collect("A-1")
        until(lambda: len(shop.answered) == 1)
        shop.bank.control.fault("refund_pending")
        shop.bank.control.fault("webhook_unanswered", route="refund.pending", count=2, seconds=0.3)
        shop.checkout.refund("A-1", 100, request="one")
        until(lambda: len(shop.answered) == 2)
        (pending,) = shop.bank.control.invoice(shop.bank.control.invoices()[0]["id"])["refunds"]
        shop.bank.control.finish_refund(pending["id"])
        until(lambda: all(each["state"] == "delivered" for each in shop.bank.control.webhooks()))
        assert len(shop.answered) >= 5
        assert set(shop.answered) == {200}
        assert "review" not in [name for name, _ in shop.told]


@VERSIONS
def test_a_forged_callback_moves_nothing(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        attempt = shop.start()
        told = (
            f'{{"eventId":"e","paymentStatus":"COMPLETED","paymentIdentifiers":{{"endToEndId":"{attempt.reference}"}}}}'
        )
        answer = shop.checkout.receive({}, f'{{"events":[{told}]}}'.encode())
        assert (answer.status, answer.reason) == (200, "payment.COMPLETED")
        assert not shop.checkout.view("A-1").paid


def test_a_request_without_a_token_or_with_a_strange_key_is_refused_by_the_dialect(tmp_path: Path) -> None:
    documents.require(2)
    with jpmorgan.shop(tmp_path, 2) as shop, requests.Session() as session:
        session.trust_env = False
        answer = session.get(f"{shop.bank.url}/payment/v2/payments?endToEndId=x&view=FULL", timeout=10)
        assert answer.status_code == 401
        documents.check(2, "Error", answer.json())
        answer = session.post(f"{shop.bank.url}/tsapi/v1/payments", data="e30.e30.e30", timeout=10)
        assert answer.status_code == 400
        documents.check(1, documents.response("400-BadRequest"), answer.json())


@VERSIONS
def test_a_second_payment_that_a_person_has_sent_back_is_sent_back(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1", JPMORGAN_KEY_LIFETIME="0.001", JPMORGAN_UNSEEN_FOR="5") as shop:
        shop.bank.control.set_webhook_url(None)
        buyer = shop.balance("buyer:anna")
        shop.start()
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        (slow,) = shop.initiations()
        shop.ahead = timedelta(seconds=6)
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
    with jpmorgan.shop(tmp_path, 1, ATTEMPTS="1", JPMORGAN_UNSEEN_FOR="5") as shop:
        shop.bank.control.set_webhook_url(None)
        attempt = shop.start()
        shop.bank.control.fault("error_before", route="POST /payments", count=2)
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        shop.ahead = timedelta(seconds=6)
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
        assert shop.checkout.store.attempts("A-1")[0].ended is None
        assert shop.checkout.view("A-1").unknown


def test_a_payment_that_is_shown_while_a_worker_gives_it_up_is_waited_for(tmp_path: Path) -> None:
    with jpmorgan.shop(tmp_path, 1, ATTEMPTS="1", JPMORGAN_UNSEEN_FOR="5") as shop:
        shop.bank.control.set_webhook_url(None)
        attempt = shop.start()
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.collect("A-1")
        (slow,) = shop.initiations()
        shop.ahead = timedelta(seconds=6)
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
        assert standing(shop).status is Status.PENDING
        assert shop.checkout.store.attempts("A-1")[0].ended is None
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


@VERSIONS
def test_a_refund_that_arrives_after_it_was_given_up_is_found_by_asking(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="1", JPMORGAN_KEY_LIFETIME="0.001", JPMORGAN_UNSEEN_FOR="5") as shop:
        shop.bank.control.set_webhook_url(None)
        shop.start()
        shop.checkout.collect("A-1")
        shop.bank.control.fault("error_before", route="POST /payments")
        with pytest.raises(OutcomeUnknown):
            shop.checkout.refund("A-1", 12850, request="one")
        slow = shop.initiations()[-1]
        shop.ahead = timedelta(seconds=6)
        shop.checkout.reconcile()
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
