"""Buying at a bank that speaks J.P. Morgan's API: the ledger says what was paid, the documents how it was said."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import requests
from attrs import define

from deposit_token_sdk.client import Carrier
from deposit_token_sdk.errors import BankRefused, NotAllowed, OrderChanged, OutcomeUnknown, Unsupported
from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.issuers.bank_keys import HOLD_OFF
from deposit_token_sdk.lifecycle import RefundStage, Standing, Status
from deposit_token_sdk.models import Proof, StatementKind
from deposit_token_sdk.money import Money
from deposit_token_sdk.sandbox import Sandbox
from tests import documents
from tests.sandbox import jpmorgan
from tests.waiting import until

VERSIONS = pytest.mark.parametrize("version", [2, 1])


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
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="2", JPMORGAN_UNSEEN_FOR="30") as shop:
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
            shop.ahead = timedelta(seconds=31)
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
    with jpmorgan.shop(tmp_path, version, ATTEMPTS="2", JPMORGAN_UNSEEN_FOR="30") as shop:
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
            shop.ahead = timedelta(seconds=31)
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


@define
class Behind:
    """A bank whose first answer to a payment is lost, which then refuses us, and shows nothing but what is `known`."""

    transport: Carrier
    known: str = "nothing"
    sent: int = 0

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        pays = request.route == "POST /payments"
        self.sent += pays
        if request.route == "POST token" or self.known in request.url or not self.sent:
            return self.transport.answer(request, deadline, began)
        if pays and self.sent == 1:
            self.transport.answer(request, deadline, began)
            return NoAnswer(Sent.MAYBE_PROCESSED, "lost", request, time.time(), 0.1)
        status = 403 if pays else 404
        told = f'{{"title": "No", "httpStatus": {status}}}'.encode()
        return Response(status, {"content-type": "application/json"}, told, request, time.time(), 0.1)

    def close(self) -> None:
        self.transport.close()


@pytest.mark.parametrize("kind", ["collect", "refund"])
def test_a_refusal_of_who_asks_does_not_say_what_became_of_what_was_sent_before(tmp_path: Path, kind: str) -> None:
    with jpmorgan.shop(tmp_path, 2, ATTEMPTS="1") as shop:
        shop.bank.control.set_webhook_url(None)
        buyer = shop.balance("buyer:anna")
        attempt, rightly = shop.start(), shop.wire.transport
        behind = Behind(rightly)
        act: Callable[[], object] = partial(shop.checkout.collect, "A-1")
        if kind == "refund":
            act()
            behind.known, act = attempt.reference, partial(shop.checkout.refund, "A-1", 500, request="one")
        shop.wire.transport = behind
        with pytest.raises(OutcomeUnknown):
            act()
        shop.checkout.reconcile()
        assert behind.sent == 2
        assert shop.checkout.view("A-1").unknown
        shop.wire.transport = rightly
        shop.checkout.reconcile()
        assert not shop.checkout.view("A-1").unknown
        assert shop.checkout.view("A-1").paid
        assert shop.balance("buyer:anna") == buyer - 12850 + (500 if kind == "refund" else 0)
        assert [one.stage for one in shop.checkout.view("A-1").refunds] == [RefundStage.DONE] * (kind == "refund")


@VERSIONS
def test_a_basket_that_changes_before_the_buyer_agreed_is_superseded_here(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        first = shop.start()
        second = shop.start(price="99.00")
        assert second.reference != first.reference
        assert shop.checkout.store.order("A-1").attempts[0].ended == "superseded"
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
        assert (shop.wire.seen, shop.checkout.store.order("A-1").attempts) == ([], ())


@VERSIONS
def test_an_order_nobody_agreed_to_expires_and_is_not_collected_any_more(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version, QUOTE_LIFE="1", DEADLINE="2", JPMORGAN_UNSEEN_FOR="2") as shop:
        attempt = shop.start()
        shop.ahead = timedelta(seconds=3)
        with pytest.raises(NotAllowed) as refused:
            shop.checkout.collect("A-1")
        assert refused.value.reason == "quote_expired"
        until(lambda: shop.checkout.refresh("A-1").attempts[0].ended)
        assert shop.checkout.view("A-1").attempts[0].ended == "expired"
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


@define
class Deaf:
    """A bank that does not answer about one reference."""

    transport: Carrier
    reference: str

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        if self.reference in request.url:
            return NoAnswer(Sent.NOT_SENT, "away", request, time.time(), 0.1)
        return self.transport.answer(request, deadline, began)

    def close(self) -> None:
        self.transport.close()


def test_of_several_payments_in_one_callback_each_is_heard_and_the_whole_comes_again_for_one(tmp_path: Path) -> None:
    with jpmorgan.shop(tmp_path, 2, ATTEMPTS="1") as shop:
        shop.bank.control.set_webhook_url(None)
        references = [shop.start(order).reference for order in ("A-1", "A-2", "A-3")]
        for order, reference in zip(("A-1", "A-2", "A-3"), references, strict=True):
            shop.bank.control.hold()
            shop.checkout.collect(order)
            shop.bank.control.settle(reference)
        told = ",".join(
            f'{{"eventId":"e-{one}","paymentStatus":"COMPLETED","paymentIdentifiers":{{"endToEndId":"{one}"}}}}'
            for one in references
        )
        body = f'{{"events":[{told}]}}'.encode()
        rightly, shop.wire.transport = shop.wire.transport, Deaf(shop.wire.transport, references[1])
        assert shop.checkout.receive({}, body).status == 503
        assert [shop.checkout.view(order).paid for order in ("A-1", "A-2", "A-3")] == [True, False, True]
        shop.wire.transport = rightly
        assert shop.checkout.receive({}, body).status == 200
        assert shop.told == [("paid", "A-1"), ("paid", "A-3"), ("paid", "A-2")]


def test_what_nobody_has_signed_is_not_called_genuine_before_a_person(tmp_path: Path) -> None:
    with jpmorgan.shop(tmp_path, 2) as shop:
        assert shop.checkout.receive({}, b"{}").status == 200
        told = "A message in the name of sandbox-bank was not applied (unreadable): bad_value."
        assert shop.told == [("review", told)]


@VERSIONS
def test_a_callback_that_was_ahead_of_the_bank_is_taken_when_it_comes_again(tmp_path: Path, version: int) -> None:
    with jpmorgan.shop(tmp_path, version) as shop:
        shop.bank.control.set_webhook_url(None)
        shop.bank.control.hold()
        attempt = shop.start()
        shop.checkout.collect("A-1")
        told = f'"eventId":"e","paymentStatus":"COMPLETED","paymentIdentifiers":{{"endToEndId":"{attempt.reference}"}}'
        body = f'{{"events":[{{{told}}}]}}'.encode()
        answer = shop.checkout.receive({}, body)
        assert (answer.status, answer.reason) == (503, "not_shown_yet")
        shop.bank.control.settle(attempt.reference)
        assert shop.checkout.receive({}, body).status == 200
        assert shop.checkout.view("A-1").paid


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


def test_a_signed_callback_whose_keys_are_not_to_be_had_is_asked_for_again_and_never_called_forged(
    tmp_path: Path,
) -> None:
    """Whoever posts to the address has the keys asked for: once, and then not for a few seconds."""
    nowhere = Sandbox(tmp_path / "nowhere")
    with nowhere:
        keys = f"{nowhere.url}/no-keys-here"
    with jpmorgan.shop(
        tmp_path,
        2,
        ATTEMPTS="1",
        JPMORGAN_SIGNATURE_HEADER="X-Sig",
        JPMORGAN_KEY_ID_HEADER="X-Kid",
        JPMORGAN_SIGNATURE_KEYS=keys,
    ) as shop:
        headers = {"X-Sig": "AAAA", "X-Kid": "ec-1"}
        answers = [shop.checkout.receive(headers, b"{}") for _ in range(3)]
        assert [answer.status for answer in answers] == [503] * 3
        assert [answer.reason for answer in answers] == ["unreachable", "keys_unavailable", "keys_unavailable"]
        assert keys in answers[1].detail
        assert len(shop.wire.seen) == 1
        shop.ahead = timedelta(seconds=HOLD_OFF)
        assert shop.checkout.receive(headers, b"{}").reason == "unreachable"
        assert len(shop.wire.seen) == 2
