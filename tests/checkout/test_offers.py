"""The offer policy at the checkout: it refuses before the bank is asked, and what is listed is what `start` takes."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk import (
    BankUnavailable,
    Checkout,
    Client,
    ConfigurationError,
    InvalidInput,
    InvalidType,
    Money,
    NotAllowed,
    OfferRules,
)
from deposit_token_sdk.instrumentation import CallDetails
from deposit_token_sdk.issuers import issuer_from
from deposit_token_sdk.issuers.protocol import Capability
from deposit_token_sdk.issuers.reference import ReferenceIssuer
from deposit_token_sdk.offers.policy import Ground, Screened
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.words import TokenKind
from tests.checkout.kit import Shop
from tests.databases import ON_BOTH

PRICE = Money("128.50", "EUR")


class Watched:
    """A checkout over the shop's tables whose calls to the bank are noted."""

    def __init__(self, shop: Shop, **environ: str) -> None:
        self.calls: list[str] = []
        self.client = Client.from_env(self._environ(shop, environ), hooks=[self._note])
        self.checkout = shop.restarted(client=self.client)

    def _environ(self, shop: Shop, environ: dict[str, str]) -> dict[str, str]:
        return shop.environment | {f"DEPOSIT_TOKEN_{name}": text for name, text in environ.items()}

    def _note(self, details: CallDetails) -> None:
        self.calls.append(details.verb)


@pytest.fixture
def watch(shop: Shop) -> Iterator[Callable[..., Watched]]:
    made: list[Watched] = []

    def watch(**environ: str) -> Watched:
        made.append(Watched(shop, **environ))
        return made[-1]

    yield watch
    for one in made:
        one.client.close()


def refused(shop: Shop, checkout: Checkout, **asked: Any) -> NotAllowed:
    with pytest.raises(NotAllowed) as error:
        shop.start(checkout=checkout, **asked)
    return error.value


# -- start --------------------------------------------------------------------------------------------------------


@ON_BOTH
def test_a_refused_start_writes_the_refusal_alone_and_does_not_ask_the_bank(
    shop: Shop, watch: Callable[..., Watched]
) -> None:
    watched = watch()
    error = refused(shop, watched.checkout, buyer_country="CN")
    assert error.reason == "mainland_china"
    assert "mainland China" in str(error)
    assert watched.calls == []
    assert shop.bank.control.invoices(merchant=shop.merchant) == []
    store = shop.checkout.store
    assert store.order("A-1").attempts == ()
    assert store.order("A-1").intents == ()
    (kept,) = store.refusals("A-1")
    assert (kept.token, kept.buyer_country, kept.ruling.reason) == ("SBUSD", "CN", "mainland_china")
    assert str(error) == f"{kept.ruling.text} [{kept.ruling.basis}]"
    assert "[this SDK's own default: China, joint notice Yinfa [2026] 42" in str(error)
    assert kept.ruling.ground is Ground.DEFAULT
    assert kept.ruling.date == "2026-02-06"


@ON_BOTH
def test_an_allowed_start_keeps_why_beside_the_attempt(shop: Shop) -> None:
    attempt = shop.start()
    kept = shop.checkout.store.attempt(attempt.reference)
    assert kept is not None
    assert kept.ruling is not None
    assert (kept.ruling.reason, kept.ruling.ground) == ("allowed", Ground.DEFAULT)
    assert attempt.ruling == kept.ruling
    assert shop.checkout.store.refusals("A-1") == ()


@ON_BOTH
def test_the_same_refusal_again_is_kept_once_and_another_country_is_served(shop: Shop) -> None:
    for _ in range(3):
        refused(shop, shop.checkout, buyer_country="KP")
    refused(shop, shop.checkout, buyer_country="IR")
    assert sorted(one.buyer_country for one in shop.checkout.store.refusals("A-1")) == ["IR", "KP"]
    assert shop.start(buyer_country="HK").ended is None
    assert len(shop.checkout.store.refusals("A-1")) == 2


@ON_BOTH
def test_whatever_a_form_sends_as_a_country_is_refused_and_kept_in_short(shop: Shop) -> None:
    sent = secrets.token_urlsafe(9_000)
    assert refused(shop, shop.checkout, buyer_country=sent, token=sent).reason == "country_unknown"
    (kept,) = shop.checkout.store.refusals("A-1")
    assert kept.buyer_country == kept.token == sent[:64]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"buyer_country": "UK"}, "country_unknown"),
        ({"buyer_country": "de"}, "country_unknown"),
        ({"token": "NOSUCH"}, "token_unknown"),
        ({"token": "ANT-GROUP"}, "halted"),
        ({"token": "ICBC"}, "status_unknown"),
        ({"token": "AxCNH"}, "kind_not_taken"),
    ],
    ids=str,
)
def test_each_refusal_has_its_reason(shop: Shop, asked: dict[str, str], reason: str) -> None:
    assert refused(shop, shop.checkout, **asked).reason == reason


def test_the_clients_settings_are_the_checkouts_rules(shop: Shop, watch: Callable[..., Watched]) -> None:
    assert refused(shop, watch(MERCHANT_COUNTRY="CN").checkout).reason == "mainland_china"
    assert refused(shop, watch(BUYER_COUNTRIES="FR").checkout).reason == "country_not_served"
    assert refused(shop, watch(TOKEN_KINDS="stablecoin").checkout).reason == "kind_not_taken"


def test_rules_that_are_given_stand_in_place_of_the_settings(shop: Shop, watch: Callable[..., Watched]) -> None:
    client = watch(BUYER_COUNTRIES="FR").client
    lifted = shop.restarted(client=client, rules=OfferRules(mainland_china=True))
    assert shop.start(checkout=lifted, buyer_country="CN").buyer_country == "CN"


def test_a_token_of_the_sandbox_is_not_offered_in_live_mode(shop: Shop, watch: Callable[..., Watched]) -> None:
    assert refused(shop, watch(MODE="live").checkout).reason == "test_token"


def test_a_live_attempt_stays_when_a_later_start_is_refused(shop: Shop) -> None:
    attempt = shop.start()
    refused(shop, shop.checkout, buyer_country="CN")
    assert shop.start().reference == attempt.reference


def test_a_file_that_is_not_understood_stops_the_start(
    shop: Shop, watch: Callable[..., Watched], tmp_path: Path
) -> None:
    (tmp_path / "ours.toml").write_text("[[token]]\ncode = 7\n")
    watched = watch(TOKENS_FILE=str(tmp_path / "ours.toml"))
    with pytest.raises(ConfigurationError) as error:
        shop.start(checkout=watched.checkout)
    assert error.value.reason == "tokens_file"
    assert watched.calls == []


def test_of_two_banks_none_is_asked_where_neither_may_sell(shop: Shop, watch: Callable[..., Watched]) -> None:
    one, other = watch(), watch(BANK="other-bank")
    both = shop.restarted(client=[one.client, other.client])
    assert refused(shop, both, buyer_country="CN").reason == "mainland_china"
    assert one.calls == other.calls == []
    assert shop.start(checkout=both).issuer == "sandbox-bank"


# -- screening ----------------------------------------------------------------------------------------------------


def test_the_shops_screening_is_asked_last_and_its_word_is_kept(shop: Shop) -> None:
    asked: list[Screened] = []

    @shop.checkout.on_screen
    def listed(sale: Screened) -> bool | str:
        asked.append(sale)
        return "On our list." if sale.order_id == "A-2" else True

    assert refused(shop, shop.checkout, buyer_country="CN").reason == "mainland_china"
    assert asked == []
    shop.start()
    assert [(one.order_id, one.token.code, one.price, one.buyer_country) for one in asked] == [
        ("A-1", "SBUSD", PRICE, "DE")
    ]
    error = refused(shop, shop.checkout, order_id="A-2")
    assert (error.reason, str(error)) == ("screened", "On our list. [the shop's own rules]")
    assert [one.ruling.ground for one in shop.checkout.store.refusals("A-2")] == [Ground.SHOP]
    assert shop.checkout.store.order("A-2").attempts == ()


def test_a_screening_that_fails_is_a_refusal(shop: Shop) -> None:
    @shop.checkout.on_screen
    def away(_: Screened) -> bool:
        raise ConnectionError("screening.internal is down")

    assert refused(shop, shop.checkout).reason == "screening_failed"
    assert list(shop.checkout.offers(PRICE, "DE")) == []


# -- offers -------------------------------------------------------------------------------------------------------


@ON_BOTH
def test_what_is_listed_is_what_start_takes(shop: Shop) -> None:
    offers = shop.checkout.offers(PRICE, "DE")
    assert [offer.token.code for offer in offers] == ["SBUSD", "SBEUR", "SBCNH"]
    assert len(offers) == 3
    assert offers.refused == ()
    for number, offer in enumerate(offers):
        assert shop.start(f"B-{number}", token=offer.token.code).token == offer.token.code
    nothing = shop.checkout.offers(PRICE, "CN")
    assert (list(nothing), len(nothing)) == ([], 0)
    assert {offer.ruling.reason for offer in nothing.refused} == {"mainland_china"}
    assert shop.checkout.store.refusals("") == ()


def test_a_banks_tokens_are_asked_for_once_in_five_minutes_and_the_last_list_serves_while_it_is_away(
    shop: Shop,
) -> None:
    at = [datetime.now(UTC)]
    calls: list[str] = []
    away = False

    def carried(details: CallDetails) -> None:
        calls.append(details.outcome)

    class Bank(ReferenceIssuer):
        def tokens(self) -> Any:
            if away:
                raise BankUnavailable("unreachable", "no connection")
            return (yield from super().tokens())

    with Client(Bank(Settings.from_env(shop.environment)), hooks=[carried]) as client:
        checkout = shop.restarted(client=client, now=lambda: at[0])
        for country in ("DE", "FR", "CN"):
            checkout.offers(PRICE, country)
        assert calls == ["ok"]
        at[0] += timedelta(minutes=5)
        away = True
        assert len(checkout.offers(PRICE, "DE")) == 3
        assert calls == ["ok", "unreachable"]


def test_a_bank_that_never_named_its_tokens_is_an_error_and_not_an_empty_list(
    shop: Shop, watch: Callable[..., Watched]
) -> None:
    down = watch(URL="http://127.0.0.1:9", ATTEMPTS="1", BANK="other-bank")
    with pytest.raises(BankUnavailable):
        down.checkout.offers(PRICE, "DE")
    both = shop.restarted(client=[down.client, watch().client])
    assert len(both.offers(PRICE, "DE")) == 3


def test_a_bank_that_locks_no_prices_is_offered_in_the_prices_own_currency(shop: Shop) -> None:
    class WithoutQuotes(ReferenceIssuer):
        capabilities = frozenset(Capability) - {Capability.QUOTES}

    issuer = WithoutQuotes(Settings.from_env(shop.environment))
    with Client(issuer) as client:
        offers = shop.restarted(client=client).offers(PRICE, "DE")
    assert [offer.token.code for offer in offers] == ["SBEUR"]
    assert {offer.ruling.reason for offer in offers.refused} == {"price_currency"}


@pytest.mark.parametrize("listed", [True, False], ids=["listed_before", "in_a_process_that_listed_nothing"])
def test_a_token_that_the_bank_describes_otherwise_is_neither_listed_nor_started(shop: Shop, listed: bool) -> None:
    class Renamed(ReferenceIssuer):
        """The bank's dollar under the code of another bank's."""

        def tokens(self) -> Any:
            told = yield from super().tokens()
            return tuple(evolve(token, code="JPMD") if token.code == "SBCNH" else token for token in told)

    with Client(Renamed(Settings.from_env(shop.environment))) as client:
        checkout = shop.restarted(client=client)
        if listed:
            offers = checkout.offers(PRICE, "DE")
            assert [offer.ruling.reason for offer in offers.refused] == ["token_differs"]
        assert refused(shop, checkout, token="JPMD").reason == "token_differs"


def test_a_price_that_is_no_money_is_refused(shop: Shop) -> None:
    with pytest.raises(InvalidType):
        shop.checkout.offers(128.5, "DE")  # type: ignore[arg-type]


def test_a_client_made_by_hand_has_this_sdks_defaults(shop: Shop) -> None:
    with Client(issuer_from(Settings.from_env(shop.environment))) as client:
        assert client.rules is None
        assert refused(shop, shop.restarted(client=client), buyer_country="CN").reason == "mainland_china"
        both = OfferRules(kinds=frozenset(TokenKind))
        with Client(client.issuer, rules=both) as other:
            assert refused(shop, shop.restarted(client=other), token="AxCNH").reason == "not_by_default"


def test_a_checkout_without_clients_takes_nothing(shop: Shop) -> None:
    with pytest.raises(InvalidInput):
        shop.start(checkout=Checkout([], shop.checkout.store))
