"""The Flask blueprint: bytes in, the checkout's answer out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import cast

import pytest
from flask import Flask
from flask.testing import FlaskClient

from deposit_token_sdk import Answer, Checkout
from deposit_token_sdk.integrations.flask import MAX_BYTES, NAME, webhooks


class Recorder:
    """Stands in for a checkout: notes what it is given and answers what it is told to."""

    def __init__(self) -> None:
        self.answer = Answer(200, "applied")
        self.received: list[tuple[Mapping[str, str], bytes, str | None]] = []

    def receive(self, headers: Mapping[str, str], body: bytes, issuer: str | None = None) -> Answer:
        self.received.append((headers, body, issuer))
        return self.answer


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def shop(recorder: Recorder) -> FlaskClient:
    app = Flask("shop")
    app.register_blueprint(webhooks(cast(Checkout, recorder)))
    return app.test_client()


def test_a_message_reaches_the_checkout_byte_for_byte_with_its_headers_and_its_bank(
    shop: FlaskClient, recorder: Recorder
) -> None:
    body = b'{"a" : 1.50,\r\n "b":"\xc3\xa9" } '
    answer = shop.post(
        "/webhooks/first-bank", data=body, content_type="application/json", headers={"Webhook-Id": "msg_1"}
    )
    ((headers, received, issuer),) = recorder.received
    assert (answer.status_code, received, issuer) == (200, body, "first-bank")
    assert {name.lower(): value for name, value in headers.items()}["webhook-id"] == "msg_1"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""])
def test_a_body_is_never_parsed_whatever_it_says_it_is(
    shop: FlaskClient, recorder: Recorder, content_type: str
) -> None:
    shop.post("/webhooks/bank", data=b"a=1&b=2", content_type=content_type)
    assert recorder.received[0][1] == b"a=1&b=2"


@pytest.mark.parametrize("status", [200, 400, 404, 500, 503])
def test_the_checkouts_answer_is_what_the_bank_is_told(shop: FlaskClient, recorder: Recorder, status: int) -> None:
    recorder.answer = Answer(status, "the_reason")
    answer = shop.post("/webhooks/bank", data=b"{}")
    assert (answer.status_code, answer.text, answer.mimetype) == (status, "the_reason\n", "text/plain")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_any_method_but_post_is_answered_405(shop: FlaskClient, recorder: Recorder, method: str) -> None:
    assert shop.open("/webhooks/bank", method=method).status_code == 405
    assert recorder.received == []


def test_a_body_of_just_the_bound_is_taken(shop: FlaskClient, recorder: Recorder) -> None:
    assert shop.post("/webhooks/bank", data=b"x" * MAX_BYTES).status_code == 200
    assert len(recorder.received[0][1]) == MAX_BYTES


def test_a_body_beyond_the_bound_is_not_looked_at(shop: FlaskClient, recorder: Recorder) -> None:
    answer = shop.post("/webhooks/bank", data=b"x" * (MAX_BYTES + 1))
    assert (answer.status_code, answer.text, recorder.received) == (413, "too_large\n", [])


class Endless(io.RawIOBase):
    """A body without a stated length that never ends; counts what was taken from it."""

    def __init__(self) -> None:
        self.taken = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "read without a bound"
        self.taken += size
        return b"x" * size


def test_a_body_that_does_not_say_how_long_it_is_cannot_be_endless(shop: FlaskClient, recorder: Recorder) -> None:
    body = Endless()
    environ = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    answer = shop.post("/webhooks/bank", environ_overrides=environ)
    assert (answer.status_code, recorder.received) == (413, [])
    assert body.taken <= MAX_BYTES + 1


def test_a_chunked_body_within_the_bound_is_taken(shop: FlaskClient, recorder: Recorder) -> None:
    environ = {"wsgi.input": io.BytesIO(b"{}"), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    assert shop.post("/webhooks/bank", environ_overrides=environ).status_code == 200
    assert recorder.received[0][1] == b"{}"


def test_the_address_can_lie_elsewhere_and_the_blueprint_has_a_name_to_exempt(recorder: Recorder) -> None:
    app = Flask("shop")
    blueprint = webhooks(cast(Checkout, recorder), url_prefix="/bank-news")
    app.register_blueprint(blueprint)
    assert app.test_client().post("/bank-news/bank", data=b"{}").status_code == 200
    assert blueprint.name == NAME
