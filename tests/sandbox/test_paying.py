"""From a quote to a settled payment, and every way a payment can differ from what was asked."""

from __future__ import annotations

from typing import Any

import pytest
from joserfc import jws as joserfc_jws
from joserfc.jwk import ECKey

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from tests.sandbox.shop import DESCRIPTION, INSTALLATION, Inbox, Shop, conforms

DAY = 86_400.0


def test_a_quote_is_the_banks_signed_word_on_the_price(shop: Shop) -> None:
    quote = shop.quote()
    claims = shop.claims(quote.body["statement"], "deposit-quote+jws", "QuoteClaims")
    assert quote.status == 201
    assert quote.signed
    assert {name: claims[name] for name in ("rate", "fee", "due", "net", "bearer", "decimals")} == {
        "rate": "1.08640925",
        "fee": "145",
        "due": "14106",
        "net": "13961",
        "bearer": "DEBT",
        "decimals": 2,
    }
    assert (claims["iss"], claims["aud"], claims["jti"]) == ("sandbox-bank", "demo-shop", quote.body["id"])


def test_another_library_verifies_the_banks_statement(shop: Shop) -> None:
    statement = shop.quote().body["statement"]
    published = shop.http.get(shop.environment["DEPOSIT_TOKEN_JWKS_URL"]).json()["keys"]
    key = ECKey.import_key(next(key for key in published if key["purpose"] == "statement"))
    assert joserfc_jws.deserialize_compact(statement, key, algorithms=["ES256"]).headers()["typ"] == "deposit-quote+jws"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"token": "JPMD"}, "unknown_token"),
        ({"price": {"currency": "XPF", "amount": "100"}}, "unsupported_currency"),
        ({"price": {"currency": "ZZZ", "amount": "1"}}, "unsupported_currency"),
        ({"price": {"currency": "EUR", "amount": "1.005"}}, "malformed"),
        ({"price": {"currency": "JPY", "amount": "1.5"}}, "malformed"),
        ({"price": {"currency": "EUR", "amount": "0"}}, "malformed"),
        ({"price": {"currency": "EUR", "amount": "-1"}}, "malformed"),
        ({"price": {"currency": "EUR", "amount": 128.5}}, "malformed"),
        ({"price": {"currency": "EUR", "amount": "1e3"}}, "malformed"),
        ({"price": "128.50 EUR"}, "malformed"),
        ({"bearer": "SHAR"}, "malformed"),
        ({"price": {"currency": "EUR", "amount": "0.04"}, "bearer": "CRED"}, "nets_nothing"),
        ({"reference": "A-1"}, "malformed"),
        ({"reference": "A" * 35}, "malformed"),
        ({"installation": ""}, "malformed"),
        ({"mode": "live"}, "wrong_mode"),
    ],
)
def test_a_quote_that_cannot_be_given_is_refused_by_its_code(shop: Shop, changed: dict[str, Any], code: str) -> None:
    refused = shop.quote(**changed)
    assert refused.code == code
    assert refused.signed


def test_an_approved_payment_settles_and_the_merchant_is_told_with_the_statement(
    bank: Sandbox, shop: Shop, inbox: Inbox
) -> None:
    invoice = shop.invoice()
    assert (invoice["status"], invoice["version"], invoice["due"]) == ("open", 1, "14106")
    bank.control.pay(invoice["id"])
    event = inbox.wait(1)[0]
    data = event["data"]
    assert event["type"] == "invoice.settled"
    assert (data["version"], data["status"], data["reference"]) == (2, "paid", invoice["reference"])
    assert (data["merchant"], data["installation"], data["mode"]) == ("demo-shop", INSTALLATION, "test")
    claims = shop.claims(data["statement"], "deposit-settlement+jws", "SettlementClaims")
    movement = shop.read(invoice)["movements"][0]
    assert movement == data["movement"]
    assert {name: claims[name] for name in ("invoice", "units", "movement", "quote_digest", "accepted_at")} == {
        "invoice": invoice["id"],
        "units": "14106",
        "movement": movement["id"],
        "quote_digest": invoice["quote_digest"],
        "accepted_at": movement["accepted_at"],
    }
    assert shop.statements(invoice) == [data["statement"]]


def test_the_ledger_moves_what_was_paid_and_the_fee_to_the_unit(bank: Sandbox, shop: Shop) -> None:
    before = bank.control.balances()
    bank.control.pay(shop.invoice()["id"], "bilal")
    after = bank.control.balances()
    moved = {name: int(after[name]) - int(before.get(name, 0)) for name in after if after[name] != before.get(name)}
    assert moved == {
        "SBUSD:buyer:bilal": -14106,
        "SBUSD:merchant:demo-shop": 13961,
        "SBUSD:fees:bank": 145,
        "SBUSD:clearing:bank": 0,
    }


def test_the_merchant_that_bears_the_fee_nets_the_gross_less_the_fee(bank: Sandbox, shop: Shop) -> None:
    before = int(bank.control.balances()["SBUSD:merchant:demo-shop"])
    invoice = shop.invoice(bearer="CRED")
    bank.control.pay(invoice["id"])
    assert invoice["due"] == "13961"
    assert int(bank.control.balances()["SBUSD:merchant:demo-shop"]) - before == 13816


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"quote": "quo_nope"}, "unknown_quote"),
        ({"reference": "another"}, "unknown_quote"),
        ({"installation": "another"}, "unknown_quote"),
        ({"quote_digest": "x" * 43}, "digest_mismatch"),
        ({"quote_digest": "ü"}, "digest_mismatch"),
        ({"capture": "later"}, "malformed"),
        ({"mode": "live"}, "wrong_mode"),
        ({"return_url": "javascript:alert(1)"}, "malformed"),
        ({"return_url": "/orders/1"}, "malformed"),
        ({"return_url": "https://shop.example@evil.example/"}, "malformed"),
        ({"return_url": "https://shop.example/;script-src *"}, "malformed"),
        ({"return_url": "https://shop.example:port/"}, "malformed"),
    ],
)
def test_an_invoice_that_does_not_fit_its_quote_is_refused(shop: Shop, changed: dict[str, Any], code: str) -> None:
    quote = shop.quote().body
    refused = shop.call("POST", "/invoices", shop.order(quote, **changed))
    assert refused.code == code


def test_a_quote_serves_one_invoice_and_a_reference_names_one(shop: Shop) -> None:
    quote = shop.quote().body
    shop.call("POST", "/invoices", shop.order(quote))
    assert shop.call("POST", "/invoices", shop.order(quote)).code == "quote_used"
    again = shop.quote(quote["reference"]).body
    assert shop.call("POST", "/invoices", shop.order(again)).code == "reference_taken"


def test_an_expired_quote_is_refused_by_the_banks_clock(bank: Sandbox, shop: Shop) -> None:
    quote = shop.quote().body
    bank.control.advance(901)
    assert shop.call("POST", "/invoices", shop.order(quote)).code == "quote_expired"


def test_an_invoice_nobody_paid_expires_by_the_banks_clock_alone(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    bank.control.advance(899)
    assert shop.read(invoice)["status"] == "open"
    bank.control.advance(2)
    assert inbox.wait(1)[0]["type"] == "invoice.expired"
    assert shop.read(invoice)["status"] == "expired"
    assert shop.read(invoice)["version"] == 2


def test_a_short_payment_leaves_the_invoice_open_and_the_rest_pays_it(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"], units=14105)
    short = shop.read(invoice)
    assert (short["status"], short["movements"][0]["status"]) == ("open", "settled")
    assert bank.control.invoice(invoice["id"])["still_due"] == "1"
    bank.control.pay(invoice["id"], "chen")
    assert shop.read(invoice)["status"] == "paid"
    assert [event["data"]["status"] for event in inbox.wait(2)] == ["open", "paid"]
    assert len(shop.statements(invoice)) == 2


def test_a_payment_too_small_for_the_fee_is_taken_whole_and_the_fee_waits(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"], units=100)
    assert bank.control.balances().get("SBUSD:fees:bank", "0") == "0"
    bank.control.pay(invoice["id"])
    assert bank.control.balances()["SBUSD:fees:bank"] == "145"


def test_more_than_was_asked_and_a_second_payment_are_both_kept(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"], units="14107")
    bank.control.pay(invoice["id"])
    read = shop.read(invoice)
    assert read["status"] == "paid"
    assert [movement["units"] for movement in read["movements"]] == ["14107", "14106"]


def test_a_late_payment_settles_with_its_own_time_and_the_bank_keeps_saying_expired(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.advance(1000)
    bank.control.pay(invoice["id"])
    read = shop.read(invoice)
    assert read["status"] == "expired"
    assert read["movements"][0]["status"] == "settled"
    assert read["movements"][0]["accepted_at"] > read["expires_at"]


def test_a_payment_can_be_accepted_in_time_and_heard_of_late(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.advance(1000)
    bank.control.pay(invoice["id"], at=invoice["expires_at"])
    assert shop.read(invoice)["movements"][0]["accepted_at"] == invoice["expires_at"]
    with pytest.raises(Refused):
        bank.control.pay(invoice["id"], at="2020-01-01T00:00:00Z")


def test_a_buyer_without_the_money_pays_nothing(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    with pytest.raises(Refused) as refused:
        bank.control.pay(invoice["id"], "dora")
    assert refused.value.code == "insufficient_balance"
    assert shop.read(invoice)["movements"] == []
    bank.control.fund("dora", "SBUSD", 14106)
    bank.control.pay(invoice["id"], "dora")
    assert shop.read(invoice)["status"] == "paid"


def test_a_payment_on_its_way_is_seen_then_settled(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    bank.control.hold(invoice["id"])
    bank.control.pay(invoice["id"])
    assert shop.read(invoice)["status"] == "pending"
    bank.control.advance(DAY)
    assert shop.read(invoice)["status"] == "pending"
    bank.control.settle(invoice["id"])
    assert shop.read(invoice)["status"] == "paid"
    assert [event["type"] for event in inbox.wait(2)] == ["invoice.pending", "invoice.settled"]


def test_a_payment_on_its_way_that_is_declined_goes_back_and_the_invoice_runs_out(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    before = bank.control.balances()["SBUSD:buyer:anna"]
    bank.control.hold(count=None)
    bank.control.pay(invoice["id"])
    bank.control.decline(invoice["id"])
    assert shop.read(invoice)["status"] == "open"
    assert shop.read(invoice)["movements"][0]["status"] == "released"
    assert bank.control.balances()["SBUSD:buyer:anna"] == before
    bank.control.pay(invoice["id"])
    bank.control.advance(1000)
    assert bank.control.decline(invoice["id"])["status"] == "expired"


def test_declining_an_open_invoice_cancels_it(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    bank.control.decline(invoice["reference"])
    assert shop.read(invoice)["status"] == "cancelled"
    assert inbox.wait(1)[0]["type"] == "invoice.cancelled"


def test_a_merchant_cancels_what_is_open_and_nothing_else(bank: Sandbox, shop: Shop) -> None:
    open_one, paid, held = shop.invoice(), shop.invoice(), shop.invoice(capture="manual")
    bank.control.pay(paid["id"])
    bank.control.pay(held["id"])
    cancelled = shop.call("POST", f"/invoices/{open_one['id']}/cancel")
    assert (cancelled.status, cancelled.body["status"]) == (200, "cancelled")
    assert shop.call("POST", f"/invoices/{open_one['id']}/cancel").body["version"] == cancelled.body["version"]
    assert shop.call("POST", f"/invoices/{paid['id']}/cancel").code == "invoice_not_open"
    assert shop.call("POST", f"/invoices/{held['id']}/cancel").code == "invoice_not_open"
    bank.control.pay(open_one["id"])
    assert shop.read(open_one)["status"] == "cancelled"


def test_manual_capture_holds_until_the_merchants_signed_order(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice(capture="manual")
    bank.control.pay(invoice["id"])
    assert shop.read(invoice)["status"] == "authorized"
    assert shop.statements(invoice) == []
    bank.control.advance(DAY)
    captured = shop.capture(invoice, 14106)
    assert captured.body["invoice"]["status"] == "paid"
    claims = shop.claims(captured.body["statement"], "deposit-settlement+jws", "SettlementClaims")
    assert claims["accepted_at"] < invoice["expires_at"]
    assert [event["type"] for event in inbox.wait(2)] == ["invoice.authorized", "invoice.settled"]


def test_a_capture_order_must_be_this_merchants_for_this_invoice_and_for_all_that_is_held(
    bank: Sandbox, shop: Shop
) -> None:
    invoice, other = shop.invoice(capture="manual"), shop.invoice(capture="manual")
    assert shop.capture(invoice, 14106).code == "nothing_to_capture"
    bank.control.pay(invoice["id"])
    forged = SigningKey.generate(Algorithm.ED25519, shop.key.kid)
    assert shop.capture(invoice, 14106, key=forged).code == "signature_invalid"
    assert shop.capture(invoice, 14106, invoice=other["id"]).code == "signature_invalid"
    assert shop.capture(invoice, 14106, aud="another-bank").code == "signature_invalid"
    assert shop.capture(invoice, 14106, iat=1).code == "signature_invalid"
    assert shop.capture(invoice, 14105).code == "nothing_to_capture"
    assert shop.read(invoice)["status"] == "authorized"
    assert shop.capture(invoice, 14106).status == 200
    assert shop.capture(invoice, 14106).code == "nothing_to_capture"


def test_a_released_payment_goes_back_and_cannot_be_captured(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice(capture="manual")
    assert shop.call("POST", f"/invoices/{invoice['id']}/release").code == "nothing_to_release"
    before = bank.control.balances()["SBUSD:buyer:anna"]
    bank.control.pay(invoice["id"])
    released = shop.call("POST", f"/invoices/{invoice['id']}/release")
    assert released.body["movements"][0]["status"] == "released"
    assert bank.control.balances()["SBUSD:buyer:anna"] == before
    assert shop.capture(invoice, 14106).code == "nothing_to_capture"


def test_the_bank_takes_a_settled_payment_back_under_an_id_of_its_own(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    payment = bank.control.pay(invoice["id"])
    returned = bank.control.return_payment(invoice["id"])
    read = shop.read(invoice)
    assert read["status"] == "returned"
    assert (returned["kind"], returned["of"], read["movements"][0]["status"]) == ("return", payment["id"], "settled")
    statement = inbox.wait(2)[1]["data"]["statement"]
    claims = shop.claims(statement, "deposit-return+jws", "ReturnClaims")
    assert (claims["of"], claims["movement"], claims["units"]) == (payment["id"], returned["id"], "14106")
    assert len(shop.statements(invoice)) == 2
    with pytest.raises(Refused):
        bank.control.return_payment(invoice["id"], payment["id"])


def test_invoices_are_found_by_reference_and_read_page_by_page(shop: Shop) -> None:
    made = [shop.invoice()["id"] for _ in range(5)]
    found = shop.call("GET", f"/invoices?reference={shop.invoice()['reference']}").body
    assert len(found["invoices"]) == 1
    assert shop.call("GET", "/invoices?reference=unknown").body == {"invoices": [], "next": None}
    seen, cursor = [], ""
    while True:
        page = shop.call("GET", f"/invoices?limit=2{cursor}").body
        seen += [invoice["id"] for invoice in page["invoices"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen[:5] == made
    assert len(seen) == 6


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "cursor=x", "limit=-1"])
def test_a_page_that_cannot_be_is_refused(shop: Shop, query: str) -> None:
    assert shop.call("GET", f"/invoices?{query}").code == "malformed"


def test_the_ledger_of_a_day_shows_what_moved_for_the_merchant(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    today = invoice["created_at"][:10]
    bank.control.pay(invoice["id"])
    shop.refund(invoice, 100)
    day = shop.call("GET", f"/ledger/{today}").body
    assert [(entry["kind"], entry["units"]) for entry in day["entries"]] == [
        ("payment", "14106"),
        ("fee", "145"),
        ("refund", "100"),
    ]
    first = shop.call("GET", f"/ledger/{today}?limit=2").body
    rest = shop.call("GET", f"/ledger/{today}?limit=2&cursor={first['next']}").body
    assert first["entries"] + rest["entries"] == day["entries"]
    assert rest["next"] is None
    assert shop.call("GET", "/ledger/2020-01-01").body["entries"] == []
    assert shop.call("GET", "/ledger/yesterday").code == "malformed"


def test_invoices_can_be_read_by_the_day_they_were_made_on(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    today = invoice["created_at"][:10]
    bank.control.advance(86_400)
    later = shop.invoice()
    assert [one["id"] for one in shop.call("GET", f"/invoices?date={today}").body["invoices"]] == [invoice["id"]]
    tomorrow = later["created_at"][:10]
    assert [one["id"] for one in shop.call("GET", f"/invoices?date={tomorrow}").body["invoices"]] == [later["id"]]
    assert shop.call("GET", "/invoices?date=yesterday").code == "malformed"


def test_a_day_of_the_ledger_comes_in_pages_and_names_refunds_by_the_shops_reference(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    refund = shop.refund(invoice, 100).body
    today = bank.control.time()["now"][:10]
    entries, cursor = [], ""
    while True:
        page = shop.call("GET", f"/ledger/{today}?limit=1{cursor}").body
        entries += page["entries"]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert [(each["kind"], each.get("refund_reference")) for each in entries] == [
        ("payment", None),
        ("fee", None),
        ("refund", refund["reference"]),
    ]
    for limit in (0, 2001):
        assert shop.call("GET", f"/ledger/{today}?limit={limit}").code == "malformed"


@pytest.mark.parametrize("token", ["SBUSD", "SBEUR", "SBCNH"])
def test_circulation_equals_deposits_in_the_banks_signed_word(bank: Sandbox, shop: Shop, token: str) -> None:
    bank.control.pay(shop.invoice(token=token)["id"])
    statement = shop.call("GET", f"/tokens/{token}/backing").body["statement"]
    claims = shop.claims(statement, "deposit-backing+jws", "BackingClaims")
    assert claims["circulation"] == claims["deposits"] != "0"


def test_the_tokens_are_listed_with_their_decimals(shop: Shop) -> None:
    listed = shop.call("GET", "/tokens").body["tokens"]
    assert {token["code"]: token["decimals"] for token in listed} == {"SBUSD": 2, "SBEUR": 2, "SBCNH": 6}
    assert shop.call("GET", "/tokens/JPMD/backing").status == 404


def test_every_statement_the_description_names_is_one_that_the_bank_makes() -> None:
    schemas = DESCRIPTION["components"]["schemas"]
    assert {name for name in schemas if name.endswith("Claims")} == {
        "QuoteClaims",
        "SettlementClaims",
        "ReturnClaims",
        "RefundClaims",
        "BackingClaims",
        "CaptureClaims",
    }
    conforms({"iss": "m", "aud": "b", "iat": 1, "jti": "j", "invoice": "i", "units": "1"}, "CaptureClaims")
