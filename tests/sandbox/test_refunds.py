"""Refunds never exceed what is refundable, whatever fails in between."""

from __future__ import annotations

import pytest

from deposit_token_sdk.sandbox import Sandbox
from deposit_token_sdk.sandbox.problems import Refused
from tests.sandbox.shop import Inbox, Shop, at_once


def test_a_refund_is_done_at_once_with_the_banks_statement(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"], "chen")
    before = int(bank.control.balances()["SBUSD:buyer:chen"])
    refund = shop.refund(invoice, 961).body
    claims = shop.claims(refund["statement"], "deposit-refund+jws", "RefundClaims")
    assert refund["status"] == "done"
    assert (claims["refund"], claims["refund_reference"], claims["units"]) == (refund["id"], refund["reference"], "961")
    assert int(bank.control.balances()["SBUSD:buyer:chen"]) - before == 961
    events = inbox.wait(3)
    assert [event["type"] for event in events] == ["invoice.settled", "refund.pending", "refund.done"]
    assert events[2]["data"]["statement"] == refund["statement"] == shop.statements(invoice)[1]
    assert shop.read(invoice)["status"] == "paid"
    assert shop.read(invoice)["refunds"] == [refund]


def test_the_fee_that_the_buyer_bore_stays_with_the_bank(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice(bearer="DEBT")
    bank.control.pay(invoice["id"])
    assert shop.refund(invoice, 13962).code == "refund_exceeds"
    assert shop.refund(invoice, 13961).status == 201
    assert shop.refund(invoice, 1).code == "refund_exceeds"


def test_all_that_came_in_is_refundable_where_the_merchant_bore_the_fee(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice(bearer="CRED")
    bank.control.pay(invoice["id"])
    assert shop.refund(invoice, 13961).body["status"] == "done"


def test_a_pending_refund_lays_claim_and_a_failed_one_frees_its_amount(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    bank.control.hold_refunds(invoice=invoice["id"])
    pending = shop.refund(invoice, 10000).body
    assert (pending["status"], pending["statement"]) == ("pending", None)
    assert shop.refund(invoice, 4000).code == "refund_exceeds"
    bank.control.fail_refund(pending["id"])
    assert shop.call("GET", f"/refunds/{pending['id']}").body["status"] == "failed"
    assert shop.refund(invoice, 13961).body["status"] == "done"
    assert [event["type"] for event in inbox.wait(5)][1:3] == ["refund.pending", "refund.failed"]


def test_a_refund_that_was_done_can_fail_a_day_later(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    merchant = bank.control.balances()["SBUSD:merchant:demo-shop"]
    refund = shop.refund(invoice, 13961).body
    bank.control.advance(86_400)
    failed = bank.control.fail_refund(refund["id"])
    assert (failed["status"], failed["statement"]) == ("failed", None)
    assert len(shop.statements(invoice)) == 1
    assert bank.control.balances()["SBUSD:merchant:demo-shop"] == merchant
    tomorrow = bank.control.time()["now"][:10]
    assert [entry["kind"] for entry in shop.call("GET", f"/ledger/{tomorrow}").body["entries"]] == ["refund_failed"]
    with pytest.raises(Refused):
        bank.control.fail_refund(refund["id"])
    assert shop.refund(invoice, 13961).status == 201


def test_a_pending_refund_is_finished_on_demand(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    bank.control.hold_refunds()
    refund = shop.refund(invoice, 5).body
    assert bank.control.finish_refund(refund["id"])["status"] == "done"
    with pytest.raises(Refused):
        bank.control.finish_refund(refund["id"])


def test_nothing_is_refundable_before_money_came_or_after_it_was_returned(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    assert shop.refund(invoice, 1).code == "refund_exceeds"
    bank.control.pay(invoice["id"])
    bank.control.return_payment(invoice["id"])
    assert shop.refund(invoice, 1).code == "refund_exceeds"


def test_a_refund_that_cannot_be_is_refused_by_its_code(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    assert shop.refund({"id": "inv_nope"}, 1).code == "unknown_invoice"
    assert shop.refund(invoice, 0).code == "malformed"
    reference = shop.refund(invoice, 1).body["reference"]
    assert shop.refund(invoice, 1, reference).code == "reference_taken"
    terms = shop.terms() | {"invoice": invoice["id"], "units": 5}
    assert shop.call("POST", "/refunds", terms).code == "malformed"
    assert shop.call("POST", "/refunds", terms | {"units": "5", "installation": "x"}).code == "unknown_invoice"
    assert shop.call("GET", "/refunds/ref_nope").code == "unknown_refund"


def test_refunds_are_found_by_reference_and_by_invoice(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    first, second = shop.refund(invoice, 1).body, shop.refund(invoice, 2).body
    assert shop.call("GET", f"/refunds?reference={second['reference']}").body["refunds"] == [second]
    assert shop.call("GET", f"/refunds?invoice={invoice['id']}").body["refunds"] == [first, second]
    assert shop.call("GET", "/refunds?reference=unknown").body["refunds"] == []
    assert shop.call("GET", "/refunds").code == "malformed"


def test_sixteen_refunds_at_once_never_exceed_what_was_received(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    answers = at_once(bank, 16, lambda each: each.refund(invoice, 8000))
    assert sorted(answer.status for answer in answers) == [201] + [422] * 15
