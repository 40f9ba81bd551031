"""A shop that pays by Antom's API at this bank: the bank's ledger has what is due, whatever goes wrong on demand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from attrs import evolve
from sqlalchemy import Engine

from deposit_token_sdk import (
    Attempt,
    BankRefused,
    BankUnavailable,
    Checkout,
    Client,
    Money,
    OutcomeUnknown,
    Proof,
    Unsupported,
)
from deposit_token_sdk.evidence import authenticate_stored
from deposit_token_sdk.models import NewRefund
from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.words import Bearer, Capture
from tests.checkout import conftest as checkout_parts
from tests.checkout.kit import Shop, after_expiry, again, answers_to, due_of, invoices_of, refund_of, refunds_sent

HOURS = 5 * 3600.0


@pytest.fixture
def shop(bank: Sandbox, database: Engine) -> Iterator[Shop]:
    with checkout_parts.open_shop(bank, database, "antom") as made:
        yield made


def quick(shop: Shop, **settings: str) -> Checkout:
    """The shop with a client that waits half a second for an answer and tries often."""
    chosen = {"DEPOSIT_TOKEN_TIMEOUT": "0.5", "DEPOSIT_TOKEN_DEADLINE": "20", **settings}
    return shop.restarted(client=Client.from_env({**shop.environment, **chosen}))


def pay_and_see(shop: Shop, attempt: Attempt) -> None:
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    shop.until(lambda: not [each for each in shop.bank.control.webhooks() if each["state"] == "queued"])
    sound(shop, attempt)


def sound(shop: Shop, attempt: Attempt) -> None:
    """One session, one fulfilment, nothing for a person to look at, and the ledger has just what was due."""
    assert len(invoices_of(shop)) == 1
    assert shop.fulfilled() == [("A-1", attempt.reference)]
    assert shop.reviews() == []
    assert shop.bank_received(attempt.reference) == due_of(attempt)


# -- a purchase ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "token"),
    [
        (Money("128.50", "EUR"), "SBUSD"),
        (Money("128.50", "EUR"), "SBEUR"),
        (Money(20000, "JPY"), "SBUSD"),
        (Money(20000, "KRW"), "SBEUR"),
        (Money("0.30", "GBP"), "SBEUR"),
    ],
)
def test_an_order_is_paid_to_the_unit_of_the_bank_s_own_ledger(shop: Shop, price: Money, token: str) -> None:
    attempt = shop.start(price=price, token=token)
    (invoice,) = invoices_of(shop)
    assert int(invoice["due"]) == due_of(attempt)
    assert attempt.pay_url == invoice["pay_url"]
    pay_and_see(shop, attempt)


def test_its_confirmation_is_a_signed_message_that_verifies_offline(shop: Shop) -> None:
    attempt = shop.buy()
    known = shop.checkout.store.evidence("A-1")
    for one in known:
        confirmation = authenticate_stored(one.evidence)
        assert confirmation.proof is Proof.SIGNED_MESSAGE
        assert (confirmation.reference, confirmation.units) == (attempt.reference, due_of(attempt))
    assert known


def test_a_proof_that_the_shop_does_not_believe_pays_nothing(shop: Shop) -> None:
    attempt = shop.start()
    shop.lose_webhooks()
    shop.bank.control.pay(attempt.reference)
    doubting = shop.restarted(proofs=(Proof.JWS,))
    doubting.refresh("A-1")
    assert not shop.checkout.view("A-1").paid
    assert shop.fulfilled() == []


def test_with_tls_the_same_purchase_is_made_over_https(tmp_path: Path, database: Engine) -> None:
    with (
        Sandbox(tmp_path / "bank", tls_port=0) as bank,
        checkout_parts.open_shop(bank, database, "antom") as shop,
    ):
        assert shop.environment["DEPOSIT_TOKEN_URL"].startswith("https://127.0.0.1:")
        pay_and_see(shop, shop.start())


def test_without_the_bank_s_authority_its_tls_is_not_trusted(tmp_path: Path, database: Engine) -> None:
    with (
        Sandbox(tmp_path / "bank", tls_port=0) as bank,
        checkout_parts.open_shop(bank, database, "antom") as shop,
    ):
        settings = {name: text for name, text in shop.environment.items() if name != "DEPOSIT_TOKEN_CA_BUNDLE"}
        strange = Client.from_env(settings | {"DEPOSIT_TOKEN_ATTEMPTS": "1"})
        with closing(strange), pytest.raises(BankUnavailable) as refused:
            shop.start(checkout=shop.restarted(client=strange))
        assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)


def test_starting_again_gives_the_same_session_and_a_changed_basket_another(shop: Shop) -> None:
    first = shop.start()
    assert shop.start() == first
    second = shop.start(content="basket-2")
    assert second.reference != first.reference
    assert [one["status"] for one in invoices_of(shop)] == ["cancelled", "open"]


def test_a_session_that_is_cancelled_ends_the_attempt(shop: Shop) -> None:
    shop.start()
    view = shop.checkout.cancel("A-1")
    assert view.attempt is not None
    assert view.attempt.ended == "cancelled"


def test_what_antom_lacks_is_refused_before_the_bank_hears_of_it(shop: Shop) -> None:
    with pytest.raises(Unsupported):
        shop.start(capture=Capture.MANUAL)
    with pytest.raises(Unsupported):
        shop.start(checkout=shop.restarted(bearer=Bearer.DEBT))
    assert invoices_of(shop) == []


# -- the API misbehaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", ["POST /quotes", "POST /invoices"])
@pytest.mark.parametrize("kind", ["latency", "dripping", "error_before", "error_after", "dropped", "rate_limited"])
def test_an_order_is_started_in_spite_of(shop: Shop, kind: str, route: str) -> None:
    seconds = {"latency": 3.0, "dripping": 3.0}.get(kind, 0.0)
    shop.bank.control.fault(kind, route=route, seconds=seconds)
    attempt = shop.start(checkout=quick(shop))
    assert shop.bank.control.faults() == []
    pay_and_see(shop, attempt)


@pytest.mark.parametrize("kind", ["error_before", "error_after", "dropped", "kept_error", "kept_error_after"])
def test_an_answer_lost_for_good_leaves_the_outcome_open_until_the_bank_is_asked(shop: Shop, kind: str) -> None:
    shop.bank.control.fault(kind, route="POST /invoices")
    with pytest.raises(OutcomeUnknown):
        shop.start(checkout=quick(shop, DEPOSIT_TOKEN_ATTEMPTS="1"))
    assert shop.checkout.view("A-1").unknown
    assert shop.checkout.reconcile().failed == ()
    attempt = shop.start()
    assert attempt.pay_url is not None
    assert not shop.checkout.view("A-1").unknown
    pay_and_see(shop, attempt)


@pytest.mark.parametrize("kind", ["latency", "dripping", "error_before", "error_after", "dropped", "kept_error_after"])
def test_a_refund_is_sent_once_in_spite_of(shop: Shop, kind: str) -> None:
    attempt = shop.buy()
    shop.bank.control.fault(kind, route="POST /refunds", seconds=3.0)
    quick(shop).refund("A-1", 700, request="page-1")
    shop.until(lambda: refund_of(shop).stage.name == "DONE")
    assert refunds_sent(shop, attempt) == [700]


@pytest.mark.parametrize("kind", ["error_before", "error_after", "dropped"])
def test_at_a_bank_where_every_third_request_fails_purchases_still_go_through(shop: Shop, kind: str) -> None:
    shop.bank.control.fault(kind, count=None, rate=0.34, seed=11)
    environment = {**shop.environment, "DEPOSIT_TOKEN_ATTEMPTS": "12"}
    checkout = again(shop, shop.restarted(client=Client.from_env(environment)))
    for number in range(2):
        order = f"A-{number}"
        attempt = shop.start(order, checkout=checkout)
        shop.bank.control.pay(attempt.reference)
        checkout.refresh(order)
    shop.until(lambda: len(shop.fulfilled()) == 2)
    assert len(invoices_of(shop)) == 2


# -- notifications -----------------------------------------------------------------------------------------------


def test_a_repeated_notification_fulfils_once(shop: Shop) -> None:
    shop.bank.control.repeat_webhooks()
    attempt = shop.start()
    pay_and_see(shop, attempt)
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [200, 200])
    sound(shop, attempt)


def test_a_lost_notification_is_made_good_by_asking(shop: Shop) -> None:
    shop.bank.control.drop_webhooks()
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    assert shop.checkout.refresh("A-1").paid
    sound(shop, attempt)


def test_a_corrupted_notification_is_refused_and_its_whole_copy_taken(shop: Shop) -> None:
    shop.bank.control.fault("webhook_corrupted")
    attempt = shop.start()
    pay_and_see(shop, attempt)
    assert answers_to(shop, attempt, "invoice.settled") == [400, 200]


def test_a_notification_that_is_not_answered_as_antom_asks_comes_again(shop: Shop) -> None:
    told = {"left": 1}
    receive = shop.checkout.receive

    def careless(*args: object, **more: object) -> object:
        answer = receive(*args, **more)  # type: ignore[arg-type]
        told["left"] -= 1
        return evolve(answer, body='{"ok":true}') if told["left"] >= 0 else answer

    shop.checkout.receive = careless  # type: ignore[method-assign, assignment]
    attempt = shop.start()
    pay_and_see(shop, attempt)
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [200, 200])


# -- money that comes in its own way -----------------------------------------------------------------------------


def test_a_payment_that_is_only_seen_is_not_yet_paid(shop: Shop) -> None:
    shop.bank.control.fault("payment_held")
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.pending") == [200])
    assert shop.fulfilled() == []
    shop.bank.control.settle(attempt.reference)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    sound(shop, attempt)


def test_a_payment_that_is_declined_on_its_way_leaves_the_order_open(shop: Shop) -> None:
    shop.bank.control.fault("payment_held")
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.pending") == [200])
    shop.bank.control.decline(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.released") == [200])
    pay_and_see(shop, attempt)


def test_one_unit_for_an_order_pays_nothing_and_the_rest_completes_it(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference, units=1)
    shop.until(lambda: "underpaid" in [name for name, _ in shop.told])
    assert shop.fulfilled() == []
    shop.bank.control.pay(attempt.reference, units=due_of(attempt) - 1)
    shop.until(lambda: shop.checkout.view("A-1").paid)
    assert shop.bank_received(attempt.reference) == due_of(attempt)


def test_a_second_payment_goes_before_a_person(shop: Shop) -> None:
    attempt = shop.buy()
    shop.bank.control.pay(attempt.reference, units=due_of(attempt))
    shop.until(lambda: shop.reviews() != [])
    assert shop.fulfilled() == [("A-1", attempt.reference)]


def test_money_after_the_end_fulfils_nothing(shop: Shop) -> None:
    attempt = shop.start()
    shop.bank.control.advance(86_400)
    shop.until(lambda: answers_to(shop, attempt, "invoice.expired") == [200])
    assert "expired" in [name for name, _ in shop.told]
    shop.bank.control.pay(attempt.reference, at=after_expiry(attempt))
    shop.until(lambda: answers_to(shop, attempt, "invoice.settled") == [200])
    assert shop.fulfilled() == []
    assert shop.reviews() != []


# -- refunds -----------------------------------------------------------------------------------------------------


def test_a_refund_that_stays_in_process_is_done_when_the_bank_says_so(shop: Shop) -> None:
    attempt = shop.buy()
    shop.bank.control.fault("refund_pending")
    shop.checkout.refund("A-1", 700, request="page-1")
    (pending,) = invoices_of(shop)[0]["refunds"]
    assert (pending["status"], refund_of(shop).stage.name) == ("pending", "PENDING")
    shop.bank.control.finish_refund(pending["id"])
    shop.until(lambda: refund_of(shop).stage.name == "DONE")
    assert refunds_sent(shop, attempt) == [700]


def test_a_refund_that_fails_a_day_later_frees_its_amount(shop: Shop) -> None:
    attempt = shop.buy()
    shop.checkout.refund("A-1", due_of(attempt), request="page-1")
    (done,) = invoices_of(shop)[0]["refunds"]
    shop.bank.control.advance(86_400)
    shop.bank.control.fail_refund(done["id"])
    shop.until(lambda: refund_of(shop).stage.name == "FAILED")
    assert shop.checkout.refundable(attempt.reference) == due_of(attempt)


def test_parts_of_the_price_add_up_to_the_whole(shop: Shop) -> None:
    attempt = shop.buy()
    for number, part in enumerate(("40.00", "40.00", "48.50")):
        shop.checkout.refund("A-1", Money(part, "EUR"), request=f"page-{number}")
    assert sum(refunds_sent(shop, attempt)) == due_of(attempt)
    assert shop.bank_received(attempt.reference) == 0


def test_more_than_came_is_refused_by_the_bank_itself(shop: Shop) -> None:
    attempt = shop.buy()
    client = Client.from_env(shop.environment)
    too_much = NewRefund("k7Qm2xVbR001", attempt.reference[:8], attempt.reference, due_of(attempt) + 1, "key")
    with closing(client), pytest.raises(BankRefused) as refused:
        client.refund(too_much)
    assert (refused.value.code, refused.value.reason) == ("REFUND_AMOUNT_EXCEED", "refund_exceeds")
    assert refunds_sent(shop, attempt) == []
