"""Whatever the bank does wrong on demand, the shop lives through it: one invoice, one fulfilment, no unit astray."""

from __future__ import annotations

import re
import threading
from contextlib import closing
from pathlib import Path

import pytest
import requests

from deposit_token_sdk import Attempt, Checkout, Client, OutcomeUnknown
from deposit_token_sdk.errors import DepositTokenError
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.faults import KINDS
from deposit_token_sdk.words import Capture
from tests.checkout import conftest as checkout_parts
from tests.checkout.kit import Shop, after_expiry, again, answers_to, due_of, invoices_of, refund_of
from tests.sandbox.shop import Inbox

shop = checkout_parts.shop
HOURS = 5 * 3600.0


def quick(shop: Shop, **settings: str) -> Checkout:
    """The shop with a client that waits half a second for an answer and tries often."""
    chosen = {"DEPOSIT_TOKEN_TIMEOUT": "0.5", "DEPOSIT_TOKEN_DEADLINE": "20", **settings}
    return shop.restarted(client=Client.from_env({**shop.environment, **chosen}))


def pay_and_see(shop: Shop, attempt: Attempt) -> None:
    """Pay what was started; the order is paid, once, and the bank's ledger has it."""
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    shop.until(lambda: not [each for each in shop.bank.control.webhooks() if each["state"] == "queued"])
    sound(shop, attempt)


def sound(shop: Shop, attempt: Attempt) -> None:
    """One invoice, one fulfilment, nothing for a person to look at, and the bank's ledger has just what was due."""
    assert attempt.quote is not None
    assert len(invoices_of(shop)) == 1
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.reviews() == []
    assert shop.bank_received(attempt.reference) == attempt.quote.due


# -- the API ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["latency", "dripping", "error_before", "error_after", "dropped", "rate_limited"])
def test_a_price_is_locked_in_spite_of(shop: Shop, kind: str) -> None:
    seconds = {"latency": 3.0, "dripping": 3.0}.get(kind, 0.0)
    shop.bank.control.fault(kind, route="POST /quotes", seconds=seconds)
    attempt = shop.start(checkout=quick(shop))
    assert shop.bank.control.faults() == []
    pay_and_see(shop, attempt)


@pytest.mark.parametrize("kind", ["kept_error", "kept_error_after"])
def test_a_500_kept_under_the_key_leaves_the_outcome_open_until_the_bank_is_asked(shop: Shop, kind: str) -> None:
    shop.bank.control.fault(kind, route="POST /invoices")
    with pytest.raises(OutcomeUnknown):
        shop.start(checkout=quick(shop, DEPOSIT_TOKEN_ATTEMPTS="2"))
    assert shop.checkout.view("A-1").unknown
    assert shop.checkout.reconcile().failed == ()
    attempt = shop.start()
    assert not shop.checkout.view("A-1").unknown
    pay_and_see(shop, attempt)


@pytest.mark.parametrize("verb", ["capture", "cancel"])
def test_a_500_kept_under_the_key_of_a_capture_or_a_cancellation_is_got_past_by_asking_for_it_again(
    shop: Shop, verb: str
) -> None:
    attempt = shop.start(capture=Capture.MANUAL)
    shop.bank.control.pay(attempt.reference)
    assert again(shop).refresh("A-1").attempt is not None
    route = {"capture": "POST /invoices/{id}/capture", "cancel": "POST /invoices/{id}/release"}[verb]
    shop.bank.control.fault("kept_error", route=route)
    checkout = quick(shop, DEPOSIT_TOKEN_ATTEMPTS="2")
    act = checkout.capture if verb == "capture" else checkout.cancel
    with pytest.raises(OutcomeUnknown):
        act("A-1")
    act("A-1")
    assert not checkout.view("A-1").unknown
    (invoice,) = invoices_of(shop)
    assert invoice["status"] == {"capture": "paid", "cancel": "cancelled"}[verb]
    assert shop.bank_received(attempt.reference) == (due_of(attempt) if verb == "capture" else 0)


def test_a_rate_with_a_seed_strikes_the_same_requests_again(bank: Sandbox, shop: Shop) -> None:
    def struck() -> list[bool]:
        bank.control.fault("error_before", count=None, rate=0.5, seed=3, route="GET /tokens")
        client = Client.from_env({**shop.environment, "DEPOSIT_TOKEN_ATTEMPTS": "1"})
        seen = []
        for _ in range(12):
            try:
                client.tokens()
                seen.append(False)
            except DepositTokenError:
                seen.append(True)
        client.close()
        bank.control.clear_faults()
        return seen

    first = struck()
    assert first == struck()
    assert 2 <= sum(first) <= 10


def test_a_fault_for_one_invoice_leaves_the_others_alone_by_id_and_by_reference(bank: Sandbox, shop: Shop) -> None:
    mine, other = shop.start("A-1"), shop.start("A-2")
    for name in (mine.reference, mine.invoice):
        bank.control.fault("error_before", count=None, invoice=name)
        checkout = quick(shop, DEPOSIT_TOKEN_ATTEMPTS="1")
        checkout.refresh("A-2")
        with pytest.raises(DepositTokenError):
            checkout.refresh("A-1")
        bank.control.clear_faults()
    assert other.reference != mine.reference


# -- webhooks --------------------------------------------------------------------------------------------------------


def test_a_repeated_webhook_fulfils_once(bank: Sandbox, shop: Shop) -> None:
    bank.control.repeat_webhooks()
    attempt = shop.start()
    pay_and_see(shop, attempt)
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [200, 200])
    sound(shop, attempt)


def test_a_lost_webhook_is_made_good_by_the_return_page_and_may_still_come(bank: Sandbox, shop: Shop) -> None:
    bank.control.drop_webhooks()
    attempt = shop.start()
    bank.control.pay(attempt.reference)
    assert shop.checkout.refresh("A-1").paid
    bank.control.resend(bank.control.webhooks(attempt.reference)[0]["id"])
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [200])
    sound(shop, attempt)


def test_a_webhook_delayed_by_hours_finds_the_order_as_it_should_be(bank: Sandbox, shop: Shop) -> None:
    bank.control.fault("webhook_delayed", seconds=HOURS)
    attempt = shop.start()
    bank.control.pay(attempt.reference)
    bank.control.advance(HOURS - 60)
    assert answers_to(shop, attempt, "invoice.settled") == []
    assert not shop.checkout.view("A-1").paid
    bank.control.advance(60)
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [200])
    sound(shop, attempt)


def test_webhooks_out_of_order_come_to_the_same(bank: Sandbox, shop: Shop) -> None:
    attempt = shop.start()
    bank.control.hold(attempt.reference)
    bank.control.fault("webhook_reordered", route="invoice.pending", seconds=3600)
    bank.control.pay(attempt.reference)
    bank.control.settle(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.pending") == [200])
    kinds = [re.search(rb'"type":"([a-z.]+)"', body) for _, body in shop.received]
    assert [kind[1] for kind in kinds if kind] == [b"invoice.settled", b"invoice.pending"]
    sound(shop, attempt)


def test_a_corrupted_webhook_is_refused_and_its_whole_copy_taken(bank: Sandbox, shop: Shop) -> None:
    bank.control.fault("webhook_corrupted")
    attempt = shop.start()
    pay_and_see(shop, attempt)
    assert answers_to(shop, attempt, "invoice.settled") == [400, 200]


def test_a_webhook_whose_answer_the_bank_missed_comes_again_hours_later_and_changes_nothing(
    bank: Sandbox, shop: Shop
) -> None:
    bank.control.fault("webhook_unanswered", seconds=HOURS)
    attempt = shop.start()
    bank.control.pay(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [None])
    assert shop.checkout.view("A-1").paid
    bank.control.advance(HOURS)
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [None, 200])
    assert len({headers["webhook-id"] for headers, _ in shop.received}) == 1
    sound(shop, attempt)


# -- payments and refunds that take their time -----------------------------------------------------------------------


def test_a_payment_that_is_only_seen_is_not_yet_paid(bank: Sandbox, shop: Shop) -> None:
    bank.control.fault("payment_held")
    attempt = shop.start()
    bank.control.pay(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.pending") == [200])
    assert shop.fulfilled() == []
    bank.control.settle(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    sound(shop, attempt)


def test_a_second_approval_that_the_bank_lets_through_fulfils_nothing_more_and_goes_before_a_person(
    bank: Sandbox, shop: Shop
) -> None:
    bank.control.fault("approved_twice")
    attempt = shop.start()
    assert attempt.pay_url is not None
    with requests.Session() as buyer:
        token = re.search(r'name="form_token" value="(\w+)"', buyer.get(attempt.pay_url).text)
        assert token is not None
        form = {"form_token": token[1], "buyer": "anna", "decision": "approve"}
        answers = [buyer.post(attempt.pay_url, data=form, allow_redirects=False).status_code for _ in range(2)]
    assert answers == [303, 303]
    shop.until(lambda: shop.reviews() == ["second_payment"])
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert attempt.quote is not None
    assert shop.bank_received(attempt.reference) == 2 * attempt.quote.due


def test_a_refund_that_stays_pending_is_done_when_the_bank_says_so(bank: Sandbox, shop: Shop) -> None:
    shop.buy()
    bank.control.fault("refund_pending")
    shop.checkout.refund("A-1", 700, request="page-1")
    (pending,) = invoices_of(shop)[0]["refunds"]
    assert (pending["status"], refund_of(shop).stage.name) == ("pending", "PENDING")
    bank.control.finish_refund(pending["id"])
    shop.until(lambda: refund_of(shop).stage.name == "DONE")


# -- keys and the clock ----------------------------------------------------------------------------------------------


def test_a_key_rotated_in_the_middle_of_a_purchase_is_fetched_when_it_is_met(bank: Sandbox, shop: Shop) -> None:
    attempt = shop.start()
    bank.control.drop_webhooks()
    for purpose in ("statement", "answer"):
        bank.control.rotate_key(purpose)
    bank.control.pay(attempt.reference)
    assert again(shop).refresh("A-1").paid
    sound(shop, attempt)


def test_what_a_retired_key_signed_before_it_retired_still_counts(bank: Sandbox, shop: Shop) -> None:
    bank.control.drop_webhooks()
    attempt = shop.start()
    bank.control.pay(attempt.reference)
    bank.control.retire_key(bank.control.keys()["current"]["statement"])
    assert again(shop).refresh("A-1").paid
    sound(shop, attempt)


def test_what_a_revoked_key_signed_counts_for_nothing_until_the_bank_has_signed_it_again(
    bank: Sandbox, shop: Shop
) -> None:
    attempt = shop.start()
    with closing(Inbox()) as inbox:
        bank.control.set_webhook_url(inbox.url, merchant=shop.merchant)
        bank.control.pay(attempt.reference)
        inbox.wait(1)
    bank.control.revoke_key(bank.control.keys()["current"]["statement"])
    checkout = again(shop)
    assert checkout.receive(*inbox.messages[0]).status == 400
    assert shop.fulfilled() == []
    assert checkout.refresh("A-1").paid
    sound(shop, attempt)


def test_when_the_banks_clock_moves_on_messages_are_still_believed_and_late_is_late(bank: Sandbox, shop: Shop) -> None:
    attempt = shop.start()
    bank.control.advance(86_400)
    shop.until(lambda: answers_to(shop, attempt, "invoice.expired") == [200])
    bank.control.pay(attempt.reference, at=after_expiry(attempt))
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [200])
    assert shop.fulfilled() == []
    assert shop.reviews() != []
    again = shop.start("A-2")
    bank.control.pay(again.reference)
    shop.until(lambda: shop.checkout.view("A-2").paid)


# -- and the bank itself ---------------------------------------------------------------------------------------------


def test_every_kind_of_fault_is_lived_through_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    by_verb = {"webhook_lost": ".drop_webhooks(", "webhook_repeated": ".repeat_webhooks("}
    assert [kind for kind in KINDS if by_verb.get(kind, f'"{kind}"') not in text] == []


def test_a_bank_that_stops_does_not_wait_for_its_own_faults(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as bank:
        client = Client.from_env({**bank.environment(), "DEPOSIT_TOKEN_TIMEOUT": "1", "DEPOSIT_TOKEN_ATTEMPTS": "1"})
        bank.control.fault("latency", seconds=600)
        asking = threading.Thread(target=lambda: _fails(client))
        asking.start()
        asking.join()
    client.close()


def _fails(client: Client) -> None:
    with pytest.raises(DepositTokenError):
        client.tokens()
