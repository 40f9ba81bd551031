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
    BankUnavailable,
    Checkout,
    Client,
    InvalidInput,
    Money,
)
from deposit_token_sdk.sandbox import Sandbox
from tests.checkout import conftest as checkout_parts
from tests.checkout.kit import Shop, answers_to, due_of, invoices_of

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


def test_a_price_that_antom_does_not_take_leaves_the_order_to_be_bought_otherwise(shop: Shop) -> None:
    with pytest.raises(InvalidInput) as refused:
        shop.start(price=Money("48.500", "BHD"))
    assert refused.value.reason == "currency_not_taken"
    assert shop.checkout.reconcile().failed == ()
    pay_and_see(shop, shop.start())


# -- the API misbehaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["latency", "dripping", "error_before", "error_after", "dropped", "rate_limited"])
def test_a_price_is_locked_in_spite_of(shop: Shop, kind: str) -> None:
    seconds = {"latency": 3.0, "dripping": 3.0}.get(kind, 0.0)
    shop.bank.control.fault(kind, route="POST /quotes", seconds=seconds)
    attempt = shop.start(checkout=quick(shop))
    assert shop.bank.control.faults() == []
    pay_and_see(shop, attempt)


# -- notifications -----------------------------------------------------------------------------------------------


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


def test_a_payment_that_is_declined_on_its_way_leaves_the_order_open(shop: Shop) -> None:
    shop.bank.control.fault("payment_held")
    attempt = shop.start()
    shop.bank.control.pay(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.pending") == [200])
    shop.bank.control.decline(attempt.reference)
    shop.until(lambda: answers_to(shop, attempt, "invoice.released") == [200])
    pay_and_see(shop, attempt)
