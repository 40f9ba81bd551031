"""The offer policy as a table: all countries of ISO 3166 and all tokens, and each ground of a refusal by itself."""

from __future__ import annotations

from typing import Any

import pycountry
import pytest
from attrs import evolve

from deposit_token_sdk import Money, OfferRules, Ruling, tokens
from deposit_token_sdk.models import Token
from deposit_token_sdk.offers.directory import TokenEntry, TokenStatus, directory, embargo
from deposit_token_sdk.offers.policy import REASONS, Ground, Screened, compare, decide, screen
from deposit_token_sdk.words import COUNTRIES, TokenKind

ISO_3166 = sorted(country.alpha_2 for country in pycountry.countries)
ENTRIES = tokens("")
EMBARGOED = {"CU", "IR", "KP"}
MAINLAND = {"CN"}
BOTH = OfferRules(kinds=frozenset(TokenKind))

OF_THE_TOKEN = {
    "SBUSD": "allowed",
    "SBEUR": "allowed",
    "SBCNH": "allowed",
    "KINEXYS-USD": "allowed",
    "KINEXYS-EUR": "allowed",
    "JPMD": "allowed",
    "ALIBABA-USD": "not_issued",
    "ALIBABA-EUR": "not_issued",
    "HSBC-USD": "allowed",
    "HSBC-EUR": "allowed",
    "HSBC-GBP": "allowed",
    "HSBC-HKD": "allowed",
    "HSBC-SGD": "allowed",
    "AxCNH": "kind_not_taken",
    "ANT-GROUP": "halted",
    "JD-COM": "halted",
}
"""What each token comes to where no country stands in its way; of all others no issue is known."""


def rule(code: str, buyer: str = "DE", mode: str = "test", **rules: Any) -> Ruling:
    return decide(directory().get(code), buyer, OfferRules(**rules), embargo(), mode)


def a_stablecoin(**changes: Any) -> TokenEntry:
    plain = TokenEntry(
        "EURX", "Euro coin", "Somebody", "its paper", "2026", True, TokenKind.STABLECOIN, TokenStatus.LIVE, "EUR", 2
    )
    return evolve(plain, **changes)


# -- the table ----------------------------------------------------------------------------------------------------


def test_the_countries_known_here_are_those_of_iso_3166() -> None:
    assert sorted(COUNTRIES) == ISO_3166
    assert {"HK", "MO", "TW", "CN"} <= COUNTRIES


def test_the_table_names_every_token() -> None:
    assert OF_THE_TOKEN.keys() <= directory().keys()
    assert len(ENTRIES) == len(directory())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)
def test_a_token_is_offered_in_all_countries_but_those_that_are_excluded(entry: TokenEntry) -> None:
    expected = OF_THE_TOKEN.get(entry.code, "status_unknown")
    for country in ISO_3166:
        reason = decide(entry, country, OfferRules(), embargo(), "test").reason
        if country in MAINLAND:
            assert reason == "mainland_china", country
        elif country in EMBARGOED:
            assert reason == "embargo", country
        else:
            assert reason == expected, country


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.code)
def test_a_merchant_is_excluded_where_a_buyer_is(entry: TokenEntry) -> None:
    for country in ISO_3166:
        there = decide(entry, "SG", OfferRules(merchant_country=country), embargo(), "test")
        assert there.reason == decide(entry, country, OfferRules(), embargo(), "test").reason, country


@pytest.mark.parametrize(
    "country",
    [
        "",
        "XX",
        "ZZ",
        "UK",
        "EU",
        "XK",
        "AA",
        "cn",
        "de",
        "Cn",
        " CN",
        "CN ",
        "CHN",
        "156",
        "C",
        "CN\n",
        "ＣＮ",
        "СN",
        None,
    ],
)
def test_a_country_that_there_is_not_is_refused_for_every_token(country: str) -> None:
    for entry in ENTRIES:
        assert decide(entry, country, OfferRules(), embargo(), "test").reason == "country_unknown"
        if country:
            rules = OfferRules(merchant_country=country)
            assert decide(entry, "DE", rules, embargo(), "test").reason == "merchant_country_unknown"


def test_every_refusal_is_by_a_known_reason_with_a_text_and_a_ground() -> None:
    rulings = [
        decide(entry, country, rules, embargo(), mode)
        for entry in (*ENTRIES, a_stablecoin(), None)
        for country in (*ISO_3166, "XX")
        for mode in ("test", "live")
        for rules in (
            OfferRules(),
            BOTH,
            OfferRules(merchant_country="CN"),
            OfferRules(buyer_countries=frozenset({"DE"})),
        )
    ]
    assert {one.reason for one in rulings} - {"allowed"} <= REASONS.keys()
    assert [one for one in rulings if not one.text or one.allowed != (one.reason == "allowed")] == []
    assert [one for one in rulings if one.ground is Ground.RULE and not (one.source and one.date)] == []


# -- each ground --------------------------------------------------------------------------------------------------


def test_hong_kong_and_macao_are_not_the_mainland() -> None:
    assert rule("SBUSD", "HK").allowed
    assert rule("SBUSD", "MO").allowed
    assert rule("SBUSD", "TW").allowed
    assert rule("SBUSD", "CN").reason == "mainland_china"


def test_in_the_mainland_a_stablecoin_is_refused_by_a_cited_rule_and_a_deposit_token_by_default() -> None:
    coin, deposit = rule("AxCNH", "CN", kinds=frozenset(TokenKind)), rule("SBUSD", "CN")
    assert (coin.ground, coin.date) == (Ground.RULE, "2026-02-06")
    assert "Yinfa [2026] 42" in coin.source
    assert deposit.ground is Ground.DEFAULT
    assert "own default" in deposit.text


def test_a_shop_can_lift_the_default_on_deposit_tokens_in_the_mainland_and_not_the_rule() -> None:
    assert rule("SBUSD", "CN", mainland_china=True).allowed
    refused = decide(a_stablecoin(), "CN", evolve(BOTH, mainland_china=True), embargo(), "live")
    assert (refused.reason, refused.ground) == ("mainland_china", Ground.RULE)


@pytest.mark.parametrize("country", sorted(EMBARGOED))
def test_an_embargo_is_cited_with_source_and_date(country: str) -> None:
    refused = rule("SBUSD", country)
    assert (refused.ground, refused.source, refused.date) == (
        Ground.RULE,
        embargo()[country].source,
        embargo()[country].date,
    )


def test_the_embargo_list_is_the_one_that_is_given() -> None:
    assert decide(directory()["SBUSD"], "KP", OfferRules(), {}, "test").allowed


def test_a_stablecoin_is_refused_where_only_deposit_tokens_are_asked_for() -> None:
    refused = decide(a_stablecoin(), "DE", OfferRules(), embargo(), "live")
    assert (refused.reason, refused.ground) == ("kind_not_taken", Ground.DEFAULT)
    assert decide(a_stablecoin(), "DE", BOTH, embargo(), "live").allowed
    only = OfferRules(kinds=frozenset({TokenKind.STABLECOIN}))
    refused = decide(directory()["SBUSD"], "DE", only, embargo(), "test")
    assert (refused.reason, refused.ground) == ("kind_not_taken", Ground.SHOP)


def test_hong_kong_takes_only_the_stablecoins_of_licensed_issuers() -> None:
    refused = decide(a_stablecoin(), "HK", BOTH, embargo(), "live")
    assert (refused.reason, refused.ground, refused.date) == ("unlicensed", Ground.RULE, "2025-08-01")
    assert decide(a_stablecoin(licensed=frozenset({"HK"})), "HK", BOTH, embargo(), "live").allowed
    assert decide(a_stablecoin(), "MO", BOTH, embargo(), "live").allowed


def test_axcnh_is_refused_by_default_until_the_shop_accepts_it_by_name() -> None:
    refused = rule("AxCNH", "KZ", kinds=frozenset(TokenKind))
    assert (refused.reason, refused.ground) == ("not_by_default", Ground.DEFAULT)
    assert "2026-02-06" in refused.text
    assert rule("AxCNH", "KZ", kinds=frozenset(TokenKind), accepted=frozenset({"AxCNH"})).allowed
    assert not rule("AxCNH", "KZ", accepted=frozenset({"AxCNH"})).allowed


@pytest.mark.parametrize(
    ("code", "reason"), [("ANT-GROUP", "halted"), ("JD-COM", "halted"), ("ICBC", "status_unknown")]
)
def test_what_was_halted_or_never_issued_is_refused_with_what_is_known(code: str, reason: str) -> None:
    refused = rule(code, kinds=frozenset(TokenKind))
    assert refused.reason == reason
    assert directory()[code].note in refused.text
    assert refused.date


def test_a_token_of_the_sandbox_is_offered_in_test_mode_alone() -> None:
    assert rule("SBUSD", mode="test").allowed
    assert rule("SBUSD", mode="live").reason == "test_token"
    assert rule("SBUSD", mode="").reason == "test_token"
    assert rule("KINEXYS-USD", mode="live").allowed


def test_a_token_that_nobody_lists_is_refused() -> None:
    assert rule("NOSUCH").reason == "token_unknown"
    assert rule("sbusd").reason == "token_unknown"


def test_a_shop_serves_the_countries_it_names() -> None:
    served = frozenset({"DE", "CN"})
    assert rule("SBUSD", "DE", buyer_countries=served).allowed
    refused = rule("SBUSD", "FR", buyer_countries=served)
    assert (refused.reason, refused.ground) == ("country_not_served", Ground.SHOP)
    assert rule("SBUSD", "CN", buyer_countries=served).reason == "mainland_china"


def test_what_is_kept_of_an_allowed_offer_does_not_tell_where_the_buyer_is() -> None:
    assert len({rule("SBUSD", country) for country in ("DE", "HK", "US")}) == 1


# -- the bank's word and the shop's screening -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [{"currency": "USD"}, {"decimals": 6}, {"kind": TokenKind.DEPOSIT}],
    ids=lambda changed: next(iter(changed)),
)
def test_a_token_that_the_bank_describes_otherwise_is_refused(changed: dict[str, Any]) -> None:
    told = Token("EURX", "EUR", 2, "Somebody", TokenKind.STABLECOIN, "base")
    allowed = decide(a_stablecoin(), "DE", BOTH, embargo(), "live")
    assert compare(a_stablecoin(), told, allowed) == allowed
    assert compare(a_stablecoin(), evolve(told, **changed), allowed).reason == "token_differs"
    assert compare(a_stablecoin(decimals=None, currency=None, kind=None), evolve(told, **changed), allowed) == allowed


ASKED = Screened("A-1", ENTRIES[0], Money("1", "EUR"), "DE", "")


@pytest.mark.parametrize("answer", [None, 0, 1, "", [], object, Ground.RULE, "not you"], ids=repr)
def test_a_screening_lets_pass_by_true_and_by_nothing_else(answer: object) -> None:
    refused = screen(ASKED, lambda _: answer)
    assert refused is not None
    assert not refused.allowed
    assert refused.text
    assert refused.ground is Ground.SHOP
    assert screen(ASKED, lambda _: True) is None


def test_a_screening_that_fails_refuses_and_its_error_is_not_shown() -> None:
    def broken(_: Screened) -> bool:
        raise RuntimeError("secret-host:5432 is down")

    refused = screen(ASKED, broken)
    assert refused is not None
    assert (refused.reason, refused.ground) == ("screening_failed", Ground.SHOP)
    assert "secret-host" not in refused.text


def test_a_screenings_own_words_are_the_refusals_text() -> None:
    refused = screen(ASKED, lambda _: "Listed on 2026-11-01.")
    assert refused == Ruling("screened", "Listed on 2026-11-01.", Ground.SHOP)
