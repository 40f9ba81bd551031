"""A test event to the merchant's own address: sent signed, and what answered told word for word, never followed."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask, Response, request
from werkzeug.serving import BaseWSGIServer, make_server

from deposit_token_sdk.sandbox import Sandbox, webhook_tests
from deposit_token_sdk.signing.standard_webhooks import Verifier
from tests.sandbox.shop import Answer, Inbox, Shop

held = threading.Event()
calls: list[str] = []


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[BaseWSGIServer]:
    """What a webhook address may lead to other than a shop."""
    app = Flask("elsewhere")

    @app.before_request
    def note() -> None:
        calls.append(request.path)

    @app.post("/moved")
    def moved() -> Response:
        return Response(status=301, headers={"Location": "/final"})

    @app.post("/page")
    def page() -> Response:
        return Response("<h1>Log in</h1>\x1b[2J" + "x" * 2000, 403, content_type="text/html; charset=utf-8")

    @app.post("/slow")
    def slow() -> Response:
        held.wait(20)
        return Response(status=204)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield server
    held.set()
    server.shutdown()
    thread.join(5)
    server.server_close()


def tried(shop: Shop, url: str, key: str | None = None) -> Answer:
    shop.bank.control.set_webhook_url(url)
    return shop.call("POST", "/webhook-tests", key=key)


def test_the_event_is_signed_names_the_merchant_and_what_answered_is_told(
    bank: Sandbox, shop: Shop, inbox: Inbox
) -> None:
    told = shop.call("POST", "/webhook-tests")
    assert told.status == 201
    (headers, body), event = inbox.messages[0], inbox.wait(1)[0]
    verifier = Verifier(shop.environment["DEPOSIT_TOKEN_WEBHOOK_KEYS"].split())
    assert verifier.verify(headers, body, now=time.time()) == told.body["event"]
    assert event["type"] == "test.ping"
    assert event["data"] == {"merchant": shop.merchant, "installation": "", "mode": "test"}
    assert (told.body["url"], told.body["status"], told.body["error"]) == (inbox.url, 204, None)
    assert told.body["milliseconds"] >= 0


def test_the_event_is_sent_once_and_kept_with_what_answered(bank: Sandbox, shop: Shop, inbox: Inbox) -> None:
    inbox.answers = lambda _: 500
    told = shop.call("POST", "/webhook-tests")
    (message,) = bank.control.webhooks()
    assert (message["id"], message["state"]) == (told.body["event"], "given_up")
    assert [each["status"] for each in message["tries"]] == [500]
    assert len(inbox.messages) == 1


def test_the_same_key_gets_the_same_answer_without_another_event(shop: Shop, inbox: Inbox) -> None:
    first, again = (shop.call("POST", "/webhook-tests", key="key-1") for _ in range(2))
    assert first.body == again.body
    assert len(inbox.messages) == 1


def test_a_redirect_is_told_and_not_followed(shop: Shop, elsewhere: BaseWSGIServer) -> None:
    calls.clear()
    told = tried(shop, f"http://127.0.0.1:{elsewhere.port}/moved")
    assert (told.body["status"], told.body["location"]) == (301, "/final")
    assert calls == ["/moved"]


def test_a_page_is_told_by_its_beginning_and_moves_no_terminal(shop: Shop, elsewhere: BaseWSGIServer) -> None:
    told = tried(shop, f"http://127.0.0.1:{elsewhere.port}/page")
    assert (told.body["status"], told.body["content_type"]) == (403, "text/html; charset=utf-8")
    assert told.body["body"].startswith("<h1>Log in</h1> [2J")
    assert len(told.body["body"]) <= webhook_tests.SHOWN


def test_why_nothing_answered_is_one_of_few_words(
    shop: Shop, elsewhere: BaseWSGIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_tests, "_TIMEOUT", (2.0, 0.2))
    words = {
        "http://127.0.0.1:9/w": "refused",
        "http://no-such-name.invalid/w": "name_unknown",
        f"https://127.0.0.1:{elsewhere.port}/w": "tls_failed",
        f"http://127.0.0.1:{elsewhere.port}/slow": "timed_out",
        "http://[/w": "address_unusable",
    }
    for url, word in words.items():
        told = tried(shop, url)
        assert (told.body["status"], told.body["error"]) == (None, word), url
        assert told.body["detail"]


def test_a_connection_that_is_closed_without_an_answer_is_broken_off(shop: Shop) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            connection, _ = listening.accept()
            connection.recv(65536)
            connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        told = tried(shop, f"http://127.0.0.1:{listening.getsockname()[1]}/w")
        thread.join(5)
    assert (told.body["status"], told.body["error"]) == (None, "broken_off")


def test_a_merchant_without_an_address_is_told_so(shop: Shop) -> None:
    refused = shop.call("POST", "/webhook-tests")
    assert (refused.status, refused.code) == (409, "no_webhook_address")


def test_the_shop_may_ask_the_bank_while_it_is_being_called(bank: Sandbox, shop: Shop) -> None:
    """No transaction is open then, or the two would wait for each other."""
    app = Flask("asking")
    asked: list[int] = []

    @app.post("/w")
    def receive() -> Response:
        asked.append(shop.call("GET", "/tokens").status)
        return Response(json.dumps({}), 200)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    told = tried(shop, f"http://127.0.0.1:{server.port}/w")
    server.shutdown()
    thread.join(5)
    server.server_close()
    assert (told.body["status"], asked) == (200, [200])


def test_one_merchant_cannot_have_anothers_address_tried(bank: Sandbox, inbox: Inbox) -> None:
    other = Shop(bank, bank.control.create_merchant("other-shop"))
    assert other.call("POST", "/webhook-tests").code == "no_webhook_address"
    other.http.close()
    assert inbox.messages == []
