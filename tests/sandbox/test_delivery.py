"""Webhooks: signed for the merchant's endpoint, tried again by schedule, lost or repeated on demand."""

from __future__ import annotations

import json
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.sandbox import Sandbox, delivery
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.signing.standard_webhooks import Verifier
from tests.sandbox.shop import Inbox, Shop, eventually


def _state(bank: Sandbox) -> str:
    return str(bank.control.webhooks()[-1]["state"])


def test_a_webhook_verifies_with_the_key_that_the_settings_name(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    bank.control.pay(shop.invoice()["id"])
    inbox.wait(1)
    headers, body = inbox.messages[0]
    verifier = Verifier(shop.environment["DEPOSIT_TOKEN_WEBHOOK_KEYS"].split())
    assert verifier.verify(headers, body, now=time.time()) == headers["webhook-id"]
    with pytest.raises(NotGenuine):
        verifier.verify(headers, body + b" ", now=time.time())


def test_message_times_stay_real_when_business_time_moves(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    bank.control.advance(30 * 86_400)
    bank.control.pay(shop.invoice()["id"])
    event = inbox.wait(1)[0]
    assert abs(int(inbox.messages[0][0]["webhook-timestamp"]) - time.time()) < 60
    assert event["timestamp"] < event["data"]["movement"]["accepted_at"]


def test_a_webhook_that_is_not_taken_comes_again_under_its_id_with_a_fresh_signature(
    bank: Sandbox, shop: Shop, inbox: Inbox
) -> None:
    inbox.answers = lambda number: [500, 302, 204][number]
    bank.control.pay(shop.invoice()["id"])
    inbox.wait(3)
    eventually(lambda: _state(bank) == "delivered")
    assert len({headers["webhook-id"] for headers, _ in inbox.messages}) == 1
    assert len({body for _, body in inbox.messages}) == 1
    assert [each["status"] for each in bank.control.webhooks()[-1]["tries"]] == [500, 302, 204]


def test_after_the_schedule_a_webhook_is_given_up_and_can_be_sent_again(
    bank: Sandbox, shop: Shop, inbox: Inbox
) -> None:
    inbox.answers = lambda number: 503 if number < 3 else 200
    bank.control.pay(shop.invoice()["id"])
    eventually(lambda: _state(bank) == "given_up")
    bank.control.resend(bank.control.webhooks()[-1]["id"])
    inbox.wait(4)
    eventually(lambda: _state(bank) == "delivered")
    with pytest.raises(Refused):
        bank.control.resend("msg_nope")


def test_a_shop_that_is_not_there_is_tried_again(bank: Sandbox, shop: Shop) -> None:
    bank.control.set_webhook_url("http://127.0.0.1:9/nobody")
    bank.control.pay(shop.invoice()["id"])
    eventually(lambda: _state(bank) == "given_up")
    tries = bank.control.webhooks()[-1]["tries"]
    assert [each["status"] for each in tries] == [None, None, None]
    assert "Connection" in tries[0]["answer"]


def test_a_lost_webhook_never_comes_until_it_is_sent_again(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    bank.control.drop_webhooks(event="invoice.settled")
    first, second = shop.invoice(), shop.invoice()
    bank.control.pay(first["id"])
    bank.control.pay(second["id"])
    assert inbox.wait(1)[0]["data"]["invoice"] == second["id"]
    lost = bank.control.webhooks(first["id"])[0]
    assert lost["state"] == "dropped"
    bank.control.resend(lost["id"])
    assert inbox.wait(2)[1]["data"]["invoice"] == first["id"]


def test_all_webhooks_are_lost_until_the_fault_is_cleared(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    bank.control.drop_webhooks(count=None)
    for _ in range(3):
        bank.control.pay(shop.invoice()["id"])
    bank.control.clear_faults("webhook_lost")
    bank.control.ping()
    assert [event["type"] for event in inbox.wait(1)] == ["test.ping"]


def test_a_repeated_webhook_comes_twice_under_one_id(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    bank.control.repeat_webhooks()
    bank.control.pay(shop.invoice()["id"])
    inbox.wait(2)
    eventually(lambda: _state(bank) == "delivered")
    assert inbox.messages[0][0]["webhook-id"] == inbox.messages[1][0]["webhook-id"]
    assert inbox.messages[0][1] == inbox.messages[1][1]


def test_the_events_of_one_invoice_come_in_the_order_of_their_versions(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice = shop.invoice()
    for units in (1000, 2000, 20000):
        bank.control.pay(invoice["id"], units=units)
    shop.refund(invoice, 10)
    assert [event["data"]["version"] for event in inbox.wait(5)] == [2, 3, 4, 5, 6]


def test_what_waited_for_a_busy_lane_goes_out_as_soon_as_it_is_free(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    invoice, all_paid = shop.invoice(), threading.Event()
    inbox.answers = lambda number: 204 if number or all_paid.wait(10) else 500
    for _ in range(15):
        bank.control.pay(invoice["id"], units=100)
    all_paid.set()
    events = inbox.wait(15)  # were each to wait for the next look into the outbox, it would be too late
    assert [event["data"]["version"] for event in events] == list(range(2, 17))


def test_more_than_is_read_at_once_goes_out_without_a_pause(
    bank: Sandbox, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "_AT_ONCE", 2)
    monkeypatch.setattr(delivery, "_DUE", delivery._DUE.limit(2))
    bank.control.set_webhook_url(None)
    for _ in range(30):
        bank.control.ping()
    bank.control.set_webhook_url(inbox.url)
    bank.control.ping()
    inbox.wait(31)


def test_a_test_event_names_merchant_and_mode_and_no_invoice(bank: Sandbox, inbox: Inbox) -> None:
    bank.control.ping()
    assert inbox.wait(1)[0]["data"] == {"merchant": "demo-shop", "installation": "", "mode": "test"}


def test_while_an_endpoints_key_rotates_both_sign(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    (old,) = shop.environment["DEPOSIT_TOKEN_WEBHOOK_KEYS"].split()
    new, still = bank.control.rotate_webhook_key()["keys"]
    assert still == old
    bank.control.ping()
    inbox.wait(1)
    headers, body = inbox.messages[0]
    for key in (old, new):
        Verifier([key]).verify(headers, body, now=time.time())
    assert bank.environment()["DEPOSIT_TOKEN_WEBHOOK_KEYS"] == f"{new} {old}"
    assert bank.control.retire_webhook_keys()["keys"] == [new]
    bank.control.ping()
    inbox.wait(2)
    headers, body = inbox.messages[1]
    Verifier([new]).verify(headers, body, now=time.time())
    with pytest.raises(NotGenuine):
        Verifier([old]).verify(headers, body, now=time.time())


def test_webhooks_wait_in_the_outbox_for_an_address_and_for_a_bank_that_runs(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as bank:
        shop = Shop(bank)
        bank.control.pay(shop.invoice()["id"])
        assert _state(bank) == "queued"
        shop.http.close()
    with closing(Inbox()) as inbox, Sandbox(tmp_path) as bank:
        bank.control.set_webhook_url(inbox.url)
        bank.control.ping()
        assert {event["type"] for event in inbox.wait(2)} == {"invoice.settled", "test.ping"}
        eventually(lambda: _state(bank) == "delivered")


def test_a_slow_shop_holds_up_its_own_invoice_and_no_other(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    slow, quick = shop.invoice(), shop.invoice()

    def answer(number: int) -> int:
        if json.loads(inbox.messages[number][1])["data"]["invoice"] == slow["id"]:
            inbox.wait(2)
        return 204

    inbox.answers = answer
    bank.control.pay(slow["id"])
    bank.control.pay(quick["id"])
    eventually(lambda: all(each["state"] == "delivered" for each in bank.control.webhooks()))
