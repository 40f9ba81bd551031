"""What is sent is exactly what was signed, and what did not reach the bank is told from what may have."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
import requests
import responses
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)

from deposit_token_sdk.errors import InvalidInput
from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.transport import Transport

BANK = "https://bank.example"


def get(url: str, **headers: str) -> Request:
    return Request("GET", url, "GET /invoices", {name.replace("_", "-"): value for name, value in headers.items()})


def answered(answer: Response | NoAnswer) -> Response:
    assert isinstance(answer, Response), answer
    return answer


def sent(answer: Response | NoAnswer) -> Sent:
    assert isinstance(answer, NoAnswer)
    return answer.sent


# What arrives


def test_a_request_arrives_as_it_was_made(echoing: Any, transport: Transport) -> None:
    request = Request(
        "POST",
        f"{echoing.url}/invoices/a%2Fb/cancel?x=%C3%A9&y=1",
        "POST /invoices/{id}/cancel",
        {"Idempotency-Key": "k", "Content-Type": "application/json"},
        b'{"a": 1}',
    )
    answer = answered(transport.answer(request, 5))
    first, headers, body = echoing.heard[0]
    assert first == "POST /invoices/a%2Fb/cancel?x=%C3%A9&y=1 HTTP/1.1"
    assert body == b'{"a": 1}'
    assert headers["idempotency-key"] == "k"
    assert headers["content-length"] == "8"
    assert headers["user-agent"].startswith("deposit-token-sdk")
    assert "authorization" not in headers
    assert "cookie" not in headers
    assert answer.request is request


def test_an_answer_has_lower_case_headers_its_time_and_the_seconds_since_the_exchange_began(
    echoing: Any, transport: Transport
) -> None:
    answer = answered(transport.answer(get(f"{echoing.url}/x"), 5, monotonic() - 7))
    assert (answer.status, answer.body, answer.headers["request-id"]) == (200, b"/x", "r1")
    assert 7 <= answer.elapsed < 9
    assert abs(answer.at - time()) < 5


@pytest.mark.parametrize("status", ["200 OK", "201 Created", "204 No Content", "302 Found", "422 No", "503 No"])
def test_every_final_status_is_an_answer(
    status: str, bank: Any, says: Callable[..., Any], transport: Transport
) -> None:
    plain = bank(says(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()))
    assert answered(transport.answer(get(f"{plain.url}/x"), 5)).status == int(status[:3])


def test_a_redirect_is_not_followed(bank: Any, says: Callable[..., Any], echoing: Any, transport: Transport) -> None:
    moved = bank(says(f"HTTP/1.1 307 Moved\r\nLocation: {echoing.url}/x\r\nContent-Length: 0\r\n\r\n".encode()))
    answer = answered(transport.answer(Request("POST", f"{moved.url}/x", "POST /x", body=b"{}"), 5))
    assert answer.status == 307
    assert not echoing.heard


def test_the_content_type_is_left_to_the_reader(bank: Any, says: Callable[..., Any], transport: Transport) -> None:
    page = bank(says(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>"))
    answer = answered(transport.answer(get(f"{page.url}/x"), 5))
    assert (answer.headers["content-type"], answer.body) == ("text/html", b"<html>")


def test_cookies_are_not_kept_and_no_password_file_is_read(
    bank: Any, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "netrc"
    passwords.write_text("machine 127.0.0.1 login user password secret\n")
    monkeypatch.setenv("NETRC", str(passwords))

    def script(line: Any) -> None:
        while line.hear() is not None:
            line.say(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n")

    sweet = bank(script)
    for _ in range(2):
        answered(transport.answer(get(f"{sweet.url}/x"), 5))
    assert all("cookie" not in headers and "authorization" not in headers for _, headers, _ in sweet.heard)


@pytest.mark.parametrize(
    "url",
    [
        "https://bank.example/a\nb",
        "https://bank.example/a\r\nHost: evil",
        "https://bank.example/\n",
        "https://bank.example/a b",
        "https://bank.example/é",
        "https://bank.example/%zz",
        "https://bank.example/%2f",
        "https://bank.example/../a",
        "https://bank.example/invoices/./cancel",
        "https://bank.example/invoices/%2E%2E/cancel",
        "https://bank.example/a#b",
        "https://user@bank.example/a",
        "https://bank.example\\@evil.example/a",
        "https://bank.example",
        "https:///a",
        "ftp://bank.example/a",
        "/a",
        "",
    ],
)
def test_an_address_that_would_be_rewritten_on_the_way_is_refused(url: str, transport: Transport) -> None:
    with pytest.raises(InvalidInput) as caught:
        transport.answer(get(url), 5)
    assert caught.value.reason == "address_unusable"


@pytest.mark.parametrize(
    "headers", [{"X": "a\r\nY: b"}, {"X": "a\n b"}, {"X\r\nY": "b"}, {"X Y": "b"}, {"": "b"}, {"X": "é"}, {"X": "\0"}]
)
def test_a_header_with_a_line_break_is_refused(headers: dict[str, str], transport: Transport) -> None:
    with pytest.raises(InvalidInput) as caught:
        transport.answer(Request("GET", f"{BANK}/a", "GET /a", headers), 5)
    assert caught.value.reason == "header_unusable"


def test_a_method_that_is_none_is_refused(transport: Transport) -> None:
    with pytest.raises(InvalidInput) as caught:
        transport.answer(Request("GET / HTTP/1.1\r\n", f"{BANK}/a", "GET /a"), 5)
    assert caught.value.reason == "method_unusable"


# What was not sent


def test_a_refused_connection_is_not_sent(transport: Transport) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        answer = transport.answer(get(f"http://127.0.0.1:{closed.getsockname()[1]}/x"), 5)
    assert sent(answer) is Sent.NOT_SENT
    assert isinstance(answer, NoAnswer)
    assert answer.problem.startswith("no connection could be made (ConnectionRefusedError")


def test_an_unknown_name_is_not_sent(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    answer = transport.answer(get(f"{BANK}/x"), 5)
    assert sent(answer) is Sent.NOT_SENT
    assert isinstance(answer, NoAnswer)
    assert "could not be resolved" in answer.problem


def test_a_name_with_a_dead_address_is_reached_at_its_next(
    echoing: Any, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        ports = (closed.getsockname()[1], echoing.port)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert answered(transport.answer(get("http://bank.example/x"), 5)).body == b"/x"


def test_a_connection_that_is_not_taken_in_time_is_not_sent(transport: Transport) -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        start = monotonic()
        answer = transport.answer(get(f"http://127.0.0.1:{full.getsockname()[1]}/x"), 0.4)
        assert monotonic() - start < 1.4
        for each in waiting:
            each.close()
    assert sent(answer) is Sent.NOT_SENT


def test_a_post_that_was_read_before_the_line_closed_may_have_been_processed(bank: Any, transport: Transport) -> None:
    reads = bank(lambda line: line.hear())
    answer = transport.answer(Request("POST", f"{reads.url}/x", "POST /x", body=b"{}"), 5)
    assert sent(answer) is Sent.MAYBE_PROCESSED
    assert len(reads.heard) == 1


def test_a_kept_line_that_closes_on_the_next_post_may_have_been_processed(bank: Any, transport: Transport) -> None:
    def script(line: Any) -> None:
        line.hear()
        line.say(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        line.hear()

    closing = bank(script)
    answered(transport.answer(get(f"{closing.url}/x"), 5))
    answer = transport.answer(Request("POST", f"{closing.url}/x", "POST /x", body=b"{}"), 5)
    assert sent(answer) is Sent.MAYBE_PROCESSED
    assert [first for first, _, _ in closing.heard] == ["GET /x HTTP/1.1", "POST /x HTTP/1.1"]
    assert closing.connections == 1


POOL: Any = None
CONNECTION = HTTPConnection("bank.example")


def worn(reason: Exception) -> MaxRetryError:
    return MaxRetryError(POOL, "/x", reason)


NOT_SENT = [
    requests.ConnectTimeout(),
    requests.ConnectTimeout(worn(ConnectTimeoutError(CONNECTION, "slow"))),
    requests.ConnectionError(worn(NewConnectionError(CONNECTION, "refused"))),
    requests.ConnectionError(worn(NameResolutionError("x", CONNECTION, socket.gaierror()))),
    worn(NewConnectionError(CONNECTION, "refused")),
]
MAYBE = [
    requests.ConnectionError("connection reset"),
    requests.ConnectionError(worn(ProtocolError("aborted", ConnectionResetError()))),
    requests.exceptions.SSLError(worn(SSLError("bad certificate"))),
    requests.exceptions.ProxyError(worn(ProxyError("no proxy", NewConnectionError(CONNECTION, "refused")))),
    requests.ReadTimeout(),
    requests.exceptions.ChunkedEncodingError(),
    requests.exceptions.InvalidHeader(),
    ReadTimeoutError(POOL, "/x", "slow"),
    ProtocolError("aborted"),
    ProxyError("no proxy", NewConnectionError(CONNECTION, "refused")),
    ConnectionResetError(),
    TimeoutError(),
]


@pytest.mark.parametrize("error", NOT_SENT + MAYBE)
def test_errors_of_both_libraries_become_a_value_and_only_the_closed_list_is_not_sent(
    error: Exception, transport: Transport
) -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{BANK}/x", body=error)
        answer = transport.answer(get(f"{BANK}/x"), 5)
    assert sent(answer) is (Sent.NOT_SENT if error in NOT_SENT else Sent.MAYBE_PROCESSED)


# Mocks


def test_a_mock_of_the_http_library_answers_in_the_banks_place(transport: Transport) -> None:
    with responses.RequestsMock() as mock:
        mock.post(
            f"{BANK}/invoices",
            json={"id": "i"},
            status=201,
            headers={"Request-Id": "r"},
            match=[
                responses.matchers.header_matcher({"Idempotency-Key": "k"}),
                responses.matchers.json_params_matcher({"units": "1"}),
            ],
        )
        request = Request("POST", f"{BANK}/invoices", "POST /invoices", {"Idempotency-Key": "k"}, b'{"units": "1"}')
        answer = answered(transport.answer(request, 5))
        assert mock.calls[0].request.headers["idempotency-key"] == "k"
    assert (answer.status, answer.body, answer.headers["request-id"]) == (201, b'{"id": "i"}', "r")


def test_repeated_headers_of_a_mock_are_joined_too(transport: Transport) -> None:
    with responses.RequestsMock() as mock:
        mock.get(f"{BANK}/x", headers=[("Signature", "a"), ("Signature", "b")])
        answer = answered(transport.answer(get(f"{BANK}/x"), 5))
    assert answer.headers["signature"] == "a, b"


def test_a_mocked_answer_is_bounded_too() -> None:
    with Transport(max_bytes=10, environ={}) as small, responses.RequestsMock() as mock:
        mock.get(f"{BANK}/x", body=b"a" * 11)
        assert sent(small.answer(get(f"{BANK}/x"), 5)) is Sent.MAYBE_PROCESSED


# Many at once


def test_sixty_four_threads_each_get_their_own_answer_over_as_many_connections(
    echoing: Any, transport: Transport
) -> None:
    together = threading.Barrier(64, timeout=30)

    def work(thread: int) -> int:
        together.wait()
        paths = [f"/{thread}/{call}" for call in range(20)]
        return sum(answered(transport.answer(get(echoing.url + path), 30)).body == path.encode() for path in paths)

    with ThreadPoolExecutor(64) as pool:
        assert sum(pool.map(work, range(64))) == 64 * 20
    assert echoing.connections <= 64


def test_a_closed_transport_opens_new_connections(echoing: Any, transport: Transport) -> None:
    answered(transport.answer(get(f"{echoing.url}/x"), 5))
    transport.close()
    answered(transport.answer(get(f"{echoing.url}/x"), 5))
    assert echoing.connections == 2


def test_many_banks_can_be_asked_in_turn(bank: Any, transport: Transport) -> None:
    banks = [bank(echoing_script) for _ in range(20)]
    for each in banks * 2:
        assert answered(transport.answer(get(f"{each.url}/x"), 5)).body == b"/x"


def echoing_script(line: Any) -> None:
    while (request := line.hear()) is not None:
        path = request[0].split(" ")[1].encode()
        line.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))
