"""The web edge: who is heard, what is answered twice, and what goes wrong on demand."""

from __future__ import annotations

import json
import secrets
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.sandbox import Sandbox, memory
from deposit_token_sdk.sandbox.memory import InHand, Kept
from deposit_token_sdk.sandbox.problems import Refused
from deposit_token_sdk.sandbox.tables import Database
from deposit_token_sdk.signing import http_signatures
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from tests.sandbox.shop import Shop, at_once, conforms, eventually


def _quote_body(shop: Shop) -> bytes:
    asked = {"price": {"currency": "EUR", "amount": "128.50"}, "token": "SBUSD", "bearer": "DEBT"}
    return json.dumps(shop.terms() | asked).encode()


def test_an_unsigned_request_is_refused_and_so_is_its_answer_unsigned(shop: Shop) -> None:
    answer = shop.send("GET", "/tokens", {}, None)
    assert (answer.status, answer.code, answer.signed) == (401, "signature_invalid", False)


def test_a_request_with_a_bad_signature_gets_a_signed_refusal(shop: Shop) -> None:
    shop.key = SigningKey.generate(Algorithm.ED25519, shop.key.kid)
    answer = shop.call("GET", "/tokens")
    assert (answer.status, answer.code, answer.signed) == (401, "signature_invalid", True)
    assert "signature_mismatch" in answer.body["detail"]


def test_a_key_the_bank_does_not_know_is_refused_in_a_signed_answer(shop: Shop) -> None:
    shop.key = SigningKey.generate(Algorithm.ED25519, "nobody-1")
    answer = shop.call("GET", "/tokens")
    assert (answer.status, answer.signed) == (401, True)
    assert "key_unknown" in answer.body["detail"]


@pytest.mark.parametrize("off", [-400, 400])
def test_a_signature_from_another_hour_is_refused(shop: Shop, off: int) -> None:
    headers = shop.signed("GET", "/tokens", None, None, created=int(time.time()) + off)
    assert shop.send("GET", "/tokens", headers, None).code == "signature_invalid"


def test_a_request_heard_before_is_refused(shop: Shop) -> None:
    headers = shop.signed("GET", "/tokens", None, None)
    assert shop.send("GET", "/tokens", headers, None).status == 200
    replayed = shop.send("GET", "/tokens", headers, None)
    assert (replayed.status, replayed.signed) == (401, True)
    assert "nonce_seen" in replayed.body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "content", "key", "status"),
    [
        ("GET", "/invoices/inv_none", None, None, 404),
        ("POST", "/invoices/inv_none/cancel", b"{}", "key-1", 404),
        ("POST", "/quotes", b"{}", "key-1", 400),
        ("POST", "/quotes", b"{", "key-1", 400),
        ("POST", "/quotes", b"{}", None, 400),
        ("POST", "/webhook-tests", b"{}", "key-1", 409),
    ],
)
def test_a_request_that_was_verified_and_refused_cannot_come_again(
    shop: Shop, method: str, path: str, content: bytes | None, key: str | None, status: int
) -> None:
    headers = shop.signed(method, path, content, key)
    assert shop.send(method, path, headers, content).status == status
    replayed = shop.send(method, path, headers, content)
    assert (replayed.status, replayed.signed) == (401, True)
    assert "nonce_seen" in replayed.body["detail"]


@pytest.mark.parametrize(
    ("kind", "status", "done"),
    [("error_before", 503, 0), ("rate_limited", 429, 0), ("error_after", 500, 1), ("kept_error", 500, 0)],
)
def test_a_request_that_met_with_a_fault_cannot_come_again(
    bank: Sandbox, shop: Shop, kind: str, status: int, done: int
) -> None:
    body = json.dumps(shop.order(shop.quote().body)).encode()
    headers = shop.signed("POST", "/invoices", body, "key-1")
    bank.control.fault(kind, route="POST /invoices")
    assert shop.send("POST", "/invoices", headers, body).status == status
    assert shop.send("POST", "/invoices", headers, body).status == 401
    assert len(bank.control.invoices()) == done


@pytest.mark.parametrize(("kind", "status"), [("error_before", 503), ("rate_limited", 429), ("latency", 200)])
def test_a_request_heard_before_is_refused_before_it_meets_a_fault_and_takes_none(
    bank: Sandbox, shop: Shop, kind: str, status: int
) -> None:
    """A fault asked for once is there for the shop's next request, not for whoever sends an old one again."""
    headers = shop.signed("GET", "/tokens", None, None)
    assert shop.send("GET", "/tokens", headers, None).status == 200
    bank.control.fault(kind, route="GET /tokens")
    for _ in range(2):
        replayed = shop.send("GET", "/tokens", headers, None)
        assert (replayed.status, replayed.signed) == (401, True)
        assert "nonce_seen" in replayed.body["detail"]
    assert bank.control.fault_counts() == {}
    assert shop.call("GET", "/tokens").status == status
    assert bank.control.fault_counts() == {kind: 1}


def test_a_request_whose_connection_was_cut_cannot_come_again(bank: Sandbox, shop: Shop) -> None:
    body = json.dumps(shop.order(shop.quote().body)).encode()
    headers = shop.signed("POST", "/invoices", body, "key-1")
    bank.control.fault("dropped", route="POST /invoices")
    with pytest.raises(requests.ConnectionError):
        shop.send("POST", "/invoices", headers, body)
    assert shop.send("POST", "/invoices", headers, body).status == 401


def test_the_same_request_from_many_threads_is_heard_once(bank: Sandbox, shop: Shop) -> None:
    body = _quote_body(shop)
    headers = shop.signed("POST", "/quotes", body, "key-1")
    answers = at_once(bank, 6, lambda each: each.send("POST", "/quotes", headers, body))
    assert sorted(answer.status for answer in answers) == [201] + [401] * 5
    assert shop.send("POST", "/quotes", headers, body).status == 401


def test_a_replay_does_not_come_before_the_request_that_is_still_on_its_way(bank: Sandbox, shop: Shop) -> None:
    body = _quote_body(shop)
    headers = shop.signed("POST", "/quotes", body, "key-1")
    bank.control.fault("latency", route="POST /quotes", seconds=1.0)
    answers: list[int] = []
    sent = threading.Thread(target=lambda: answers.append(shop.send("POST", "/quotes", headers, body).status))
    sent.start()
    eventually(lambda: bank.control.fault_counts().get("latency") == 1)
    other = Shop(bank)
    assert other.send("POST", "/quotes", headers, body).status == 401
    other.http.close()
    sent.join()
    assert answers == [201]


def test_what_has_outlived_its_use_is_forgotten_and_nothing_before(tmp_path: Path) -> None:
    books = Database(f"sqlite:///{tmp_path / 'bank.sqlite3'}")
    now, kept = datetime.now(UTC), Kept(201, "{}")
    with books.transaction() as db:
        assert not memory.nonce_seen(db, "shop-1", "n", now)
        memory.keep(db, "shop", "key-1", "mark", kept, now)
        memory.forget(db, now + memory.KEY_LIFE, now + memory.NONCE_LIFE)
        assert memory.nonce_seen(db, "shop-1", "n", now)
        assert memory.recall(db, "shop", "key-1", "mark", now + memory.KEY_LIFE) == kept
        a_moment = timedelta(microseconds=1)
        memory.forget(db, now + memory.KEY_LIFE + a_moment, now + memory.NONCE_LIFE + a_moment)
        assert not memory.nonce_seen(db, "shop-1", "n", now)
        assert memory.recall(db, "shop", "key-1", "mark", now) is None
    books.close()


def test_a_nonce_counts_only_once_signature_and_digest_have_been_verified(shop: Shop) -> None:
    body, nonce = _quote_body(shop), "n" * 20
    good = shop.signed("POST", "/quotes", body, "key-1", nonce=nonce)
    assert shop.send("POST", "/quotes", good, body + b" ").code == "signature_invalid"
    spoiled = good | {"signature": good["signature"].replace("sig1=:", "sig1=:AAAA")}
    assert shop.http.post(f"{shop.bank.url}/quotes", data=body, headers=spoiled).status_code == 401
    assert shop.send("POST", "/quotes", good, body).status == 201


def test_an_answer_signed_for_one_request_does_not_serve_another(shop: Shop) -> None:
    url = f"{shop.bank.url}/tokens"
    asked = [shop.signed("GET", "/tokens", None, None) for _ in range(2)]
    answer = shop.http.get(url, headers=asked[0])
    with pytest.raises(NotGenuine):
        http_signatures.verify_answer(
            answer.status_code,
            dict(answer.headers),
            answer.content,
            request_method="GET",
            request_url=url,
            request_headers=asked[1],
            keys=shop.keys(),
            now=time.time(),
        )


def test_one_merchant_sees_nothing_of_another(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    refund = shop.refund(invoice, 1).body
    other = Shop(bank, bank.control.create_merchant("other-shop", "Other"))
    assert other.call("GET", f"/invoices/{invoice['id']}").code == "unknown_invoice"
    assert other.call("GET", f"/invoices?reference={invoice['reference']}").body["invoices"] == []
    assert other.call("GET", "/invoices").body["invoices"] == []
    assert other.call("GET", f"/refunds/{refund['id']}").code == "unknown_refund"
    assert other.refund(invoice, 1).code == "unknown_invoice"
    assert other.call("POST", "/invoices", other.order(shop.quote().body)).code == "unknown_quote"
    assert other.call("GET", f"/ledger/{invoice['created_at'][:10]}").body["entries"] == []
    other.http.close()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff", b"[" * 100_000, b"{}"]
)
def test_a_body_that_cannot_be_read_is_refused_and_not_kept(shop: Shop, content: bytes) -> None:
    headers = shop.signed("POST", "/quotes", content, "key-1")
    assert shop.send("POST", "/quotes", headers, content).code == "malformed"
    body = _quote_body(shop)
    assert shop.send("POST", "/quotes", shop.signed("POST", "/quotes", body, "key-1"), body).status == 201


@pytest.mark.parametrize(
    "path", ["/invoices/%00", "/invoices?reference=a%00b", "/refunds/%FF", "/tokens/a%2Fb/backing"]
)
def test_an_odd_address_is_no_server_error(shop: Shop, path: str) -> None:
    assert shop.call("GET", path).status in (400, 404)


def test_a_text_with_a_nul_in_it_is_refused(shop: Shop) -> None:
    assert shop.call("POST", "/refunds", shop.terms() | {"invoice": "inv\0", "units": "1"}).code == "malformed"


def test_a_body_of_more_than_a_mebibyte_is_refused(shop: Shop) -> None:
    content = b'{"reference": "' + b"A" * (1 << 20) + b'"}'
    answer = shop.send("POST", "/quotes", shop.signed("POST", "/quotes", content, "key-1"), content)
    assert (answer.status, answer.code) == (413, "too_large")


def test_what_is_not_served_is_a_problem_too(bank: Sandbox, shop: Shop) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("DELETE", "/tokens", 405)):
        answer = shop.http.request(method, bank.url + path, headers=shop.signed("GET", path, None, None))
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        assert "signature" in answer.headers
        conforms(answer.json(), "Problem")


def test_the_bank_answers_to_its_own_names_only(bank: Sandbox, browser: requests.Session) -> None:
    port = bank.url.rsplit(":", 1)[1]
    for name, status in ((f"localhost:{port}", 200), ("evil.example", 421), (f"evil.example:{port}", 421)):
        for path in ("/", "/.well-known/jwks.json", "/control"):
            assert browser.get(bank.url + path, headers={"Host": name}).status_code == status


def test_the_same_request_under_the_same_key_is_answered_alike_and_done_once(bank: Sandbox, shop: Shop) -> None:
    quote = shop.quote().body
    first = shop.call("POST", "/invoices", shop.order(quote), key="key-1")
    again = shop.call("POST", "/invoices", shop.order(quote), key="key-1")
    assert (again.status, again.body) == (first.status, first.body) == (201, first.body)
    assert len(bank.control.invoices()) == 1


def test_a_refusal_is_kept_under_its_key_with_nothing_done(bank: Sandbox, shop: Shop) -> None:
    invoice = shop.invoice()
    terms = shop.terms() | {"invoice": invoice["id"], "units": "100"}
    refused = shop.call("POST", "/refunds", terms, key="key-1")
    bank.control.pay(invoice["id"])
    assert shop.call("POST", "/refunds", terms, key="key-1").body == refused.body
    assert shop.call("POST", "/refunds", terms, key="key-2").status == 201


def test_another_request_under_the_same_key_is_refused(shop: Shop) -> None:
    shop.call("POST", "/quotes", json.loads(_quote_body(shop)), key="key-1")
    assert shop.call("POST", "/quotes", json.loads(_quote_body(shop)), key="key-1").code == "idempotency_key_reused"


def test_a_key_lives_for_a_day_of_business_time(bank: Sandbox, shop: Shop) -> None:
    quote = shop.quote().body
    made = shop.call("POST", "/invoices", shop.order(quote), key="key-1")
    bank.control.advance(86_399)
    assert shop.call("POST", "/invoices", shop.order(quote), key="key-1").body == made.body
    bank.control.advance(2)
    assert shop.call("POST", "/invoices", shop.order(quote), key="key-1").code == "quote_used"


def test_every_post_needs_a_key(shop: Shop) -> None:
    for key in (None, "x" * 65):
        body = _quote_body(shop)
        answer = shop.send("POST", "/quotes", shop.signed("POST", "/quotes", body, key), body)
        assert answer.code == "idempotency_key_missing"


def test_a_key_in_use_is_refused_while_it_is() -> None:
    in_hand = InHand()
    with in_hand.only("shop", "key-1"), in_hand.only("shop", "key-2"), in_hand.only("other", "key-1"):
        with pytest.raises(Refused) as refused, in_hand.only("shop", "key-1"):
            pass
        assert refused.value.code == "idempotency_key_in_use"
    with in_hand.only("shop", "key-1"):
        pass


def test_the_same_key_from_many_threads_makes_one_invoice(bank: Sandbox, shop: Shop) -> None:
    order = shop.order(shop.quote().body)
    answers = at_once(bank, 8, lambda each: each.call("POST", "/invoices", order, key="key-1"))
    assert {answer.status for answer in answers} <= {201, 409}
    assert {answer.code for answer in answers if answer.status == 409} <= {"idempotency_key_in_use"}
    assert len(bank.control.invoices()) == 1


def test_an_error_before_the_work_leaves_nothing_done(bank: Sandbox, shop: Shop) -> None:
    order = shop.order(shop.quote().body)
    bank.control.fault("error_before", route="POST /invoices")
    failed = shop.call("POST", "/invoices", order, key="key-1")
    assert (failed.status, failed.headers["retry-after"]) == (503, "1")
    assert bank.control.invoices() == []
    assert shop.call("POST", "/invoices", order, key="key-1").status == 201


def test_an_error_after_the_work_hides_it_until_the_key_is_used_again(bank: Sandbox, shop: Shop) -> None:
    order = shop.order(shop.quote().body)
    bank.control.fault("error_after", invoice=order["reference"])
    assert shop.call("POST", "/invoices", order, key="key-1").status == 500
    assert len(bank.control.invoices()) == 1
    assert shop.call("POST", "/invoices", order, key="key-1").body["id"] == bank.control.invoices()[0]["id"]


@pytest.mark.parametrize(("kind", "made"), [("kept_error", 0), ("kept_error_after", 1)])
def test_an_error_kept_under_the_key_is_answered_for_good(bank: Sandbox, shop: Shop, kind: str, made: int) -> None:
    order = shop.order(shop.quote().body)
    bank.control.fault(kind, route="POST /invoices")
    first = shop.call("POST", "/invoices", order, key="key-1")
    assert shop.call("POST", "/invoices", order, key="key-1").body == first.body
    assert first.status == 500
    assert len(bank.control.invoices()) == made


def test_a_connection_dropped_after_the_work_has_done_it(bank: Sandbox, shop: Shop) -> None:
    order = shop.order(shop.quote().body)
    bank.control.fault("dropped", route="POST /invoices")
    with pytest.raises(requests.ConnectionError):
        shop.call("POST", "/invoices", order, key="key-1")
    assert len(bank.control.invoices()) == 1
    assert shop.call("POST", "/invoices", order, key="key-1").status == 201


def test_too_many_requests_are_told_to_wait(bank: Sandbox, shop: Shop) -> None:
    bank.control.fault("rate_limited", seconds=7)
    limited = shop.call("GET", "/tokens")
    assert (limited.status, limited.code, limited.headers["retry-after"]) == (429, "rate_limited", "7")
    assert shop.call("GET", "/tokens").status == 200


def test_latency_delays_the_answer_by_so_much(bank: Sandbox, shop: Shop) -> None:
    bank.control.fault("latency", seconds=0.2)
    before = time.monotonic()
    shop.call("GET", "/tokens")
    assert time.monotonic() - before >= 0.2


def test_a_fault_waits_for_its_own_invoice_and_counts_down(bank: Sandbox, shop: Shop) -> None:
    first, second = shop.invoice(), shop.invoice()
    bank.control.fault("error_before", invoice=first["id"], count=2)
    assert shop.call("GET", f"/invoices/{second['id']}").status == 200
    statuses = [shop.call("GET", f"/invoices/{first['id']}").status for _ in range(3)]
    assert statuses == [503, 503, 200]
    bank.control.fault("error_before", count=None)
    assert [fault["kind"] for fault in bank.control.faults()] == ["error_before"]
    assert bank.control.clear_faults() == []
    assert bank.control.fault_counts() == {"error_before": 2}
    with pytest.raises(Refused):
        bank.control.fault("meteor")


def test_unsigned_requests_are_heard_where_the_bank_is_told_to(tmp_path: Path, browser: requests.Session) -> None:
    with Sandbox(tmp_path, require_signatures=False) as bank:
        answer = browser.get(f"{bank.url}/tokens")
        assert (answer.status_code, "signature" in answer.headers) == (200, False)
        forged = {"signature": "sig1=:AAAA:", "signature-input": f'sig1=();keyid="{secrets.token_hex(4)}"'}
        assert browser.get(f"{bank.url}/tokens", headers=forged).status_code == 401


def test_a_mistake_of_the_banks_own_is_a_signed_problem_and_changes_nothing(
    bank: Sandbox, shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    invoice = shop.invoice()
    bank.control.pay(invoice["id"])
    monkeypatch.setattr("deposit_token_sdk.sandbox.refunds.TYP", 7)
    body = json.dumps(shop.terms() | {"invoice": invoice["id"], "units": "5"}).encode()
    headers = shop.signed("POST", "/refunds", body, "key-1")
    failed = shop.send("POST", "/refunds", headers, body)
    assert (failed.status, failed.code, failed.signed) == (500, "internal", True)
    monkeypatch.undo()
    assert shop.send("POST", "/refunds", headers, body).status == 401
    assert shop.read(invoice)["refunds"] == []
    eventually(lambda: "The sandbox bank failed." in caplog.text)
