"""The environment's proxies, read once; a proxy keeps the deadline like a bank does."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable
from typing import Any

import pytest

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.transport import Transport
from deposit_token_sdk.transport.environment import proxies_of, proxy_for

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def ask(transport: Transport, url: str, deadline: float = 10) -> Response | NoAnswer:
    return transport.answer(Request("GET", url, "GET /x"), deadline)


def test_a_plain_bank_is_asked_through_the_proxy(bank: Any, says: Callable[..., Any]) -> None:
    proxy = bank(says(OK))
    environ = {"http_proxy": f"http://shop:s%40cret@127.0.0.1:{proxy.port}"}
    with Transport(environ=environ) as transport:
        environ.clear()
        assert isinstance(ask(transport, "http://bank.example/invoices?x=1"), Response)
    first, headers, _ = proxy.heard[0]
    assert first == "GET http://bank.example/invoices?x=1 HTTP/1.1"
    assert headers["host"] == "bank.example"
    assert headers["proxy-authorization"] == "Basic " + base64.b64encode(b"shop:s@cret").decode()


def test_a_bank_behind_tls_is_asked_through_a_tunnel(bank: Any) -> None:
    def script(line: Any) -> None:
        line.hear()
        line.say(b"HTTP/1.1 200 Connection established\r\n\r\n")
        line.bank.heard.append((repr(line.sock.recv(3)), {}, b""))

    proxy = bank(script)
    with Transport(environ={"HTTPS_PROXY": f"http://shop:secret@127.0.0.1:{proxy.port}"}) as transport:
        answer = ask(transport, "https://bank.example/invoices")
    assert isinstance(answer, NoAnswer)
    assert answer.sent is Sent.MAYBE_PROCESSED
    connect, hello = proxy.heard
    assert connect[0].startswith("CONNECT bank.example:443 HTTP/1.")
    assert connect[1]["proxy-authorization"] == "Basic " + base64.b64encode(b"shop:secret").decode()
    assert hello[0].startswith("b'\\x16\\x03")
    assert "secret" not in answer.problem


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03\x40\x00"])
def test_a_dripping_proxy_is_left_at_the_deadline(first: bytes, bank: Any) -> None:
    def script(line: Any) -> None:
        line.hear()
        line.say(first)
        line.drip(b"X-Slow: 1\r\n")

    proxy = bank(script)
    with Transport(environ={"https_proxy": proxy.url}) as transport:
        answer = ask(transport, "https://bank.example/x", 0.5)
    assert isinstance(answer, NoAnswer)
    assert answer.elapsed < 1.5


def test_a_proxy_that_is_down_or_refuses_may_have_been_the_bank(bank: Any, says: Callable[..., Any]) -> None:
    refusing = bank(says(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for address in (refusing.url, f"http://127.0.0.1:{closed.getsockname()[1]}"):
            with Transport(environ={"https_proxy": address}) as transport:
                answer = ask(transport, "https://bank.example/x")
            assert isinstance(answer, NoAnswer)
            assert answer.sent is Sent.MAYBE_PROCESSED


def test_a_bank_that_the_environment_excepts_is_asked_directly(echoing: Any) -> None:
    with Transport(environ={"http_proxy": "http://127.0.0.1:9", "no_proxy": "localhost,127.0.0.0/8"}) as transport:
        assert isinstance(ask(transport, f"{echoing.url}/x"), Response)


PROXY = "http://proxy:3128"


@pytest.mark.parametrize(
    ("environ", "address", "proxy"),
    [
        ({}, ("https", "bank.example", None), None),
        ({"https_proxy": PROXY}, ("https", "bank.example", None), PROXY),
        ({"HTTPS_PROXY": PROXY}, ("https", "bank.example", None), PROXY),
        ({"HTTPS_PROXY": "http://other:1", "https_proxy": PROXY}, ("https", "bank.example", None), PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": ""}, ("https", "bank.example", None), None),
        ({"https_proxy": PROXY}, ("http", "bank.example", None), None),
        ({"all_proxy": PROXY}, ("http", "bank.example", None), PROXY),
        ({"https_proxy": "proxy:3128"}, ("https", "bank.example", None), PROXY),
        ({"https_proxy": PROXY, "no_proxy": "*"}, ("https", "bank.example", None), None),
        ({"https_proxy": PROXY, "no_proxy": "bank.example"}, ("https", "bank.example", None), None),
        ({"https_proxy": PROXY, "no_proxy": "example"}, ("https", "bank.example", None), None),
        ({"https_proxy": PROXY, "no_proxy": ".example"}, ("https", "bank.example", None), None),
        ({"https_proxy": PROXY, "no_proxy": "ample"}, ("https", "bank.example", None), PROXY),
        ({"https_proxy": PROXY, "no_proxy": "bank.example:8443"}, ("https", "bank.example", 8443), None),
        ({"https_proxy": PROXY, "no_proxy": "bank.example:8443"}, ("https", "bank.example", 8444), PROXY),
        ({"https_proxy": PROXY, "no_proxy": "10.0.0.0/8"}, ("https", "10.1.2.3", 8443), None),
        ({"https_proxy": PROXY, "no_proxy": "10.0.0.0/8"}, ("https", "11.1.2.3", None), PROXY),
        ({"https_proxy": PROXY, "no_proxy": "fd00::/8"}, ("https", "[fd00::1]", None), None),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, ("http", "bank.example", None), None),
        ({"http_proxy": PROXY, "REQUEST_METHOD": "GET"}, ("http", "bank.example", None), PROXY),
    ],
)
def test_which_proxy_an_address_has(
    environ: dict[str, str], address: tuple[str, str, int | None], proxy: str | None
) -> None:
    assert proxy_for(*address, proxies_of(environ)) == proxy


def test_a_proxy_of_an_unknown_kind_is_a_matter_of_configuration() -> None:
    transport = Transport(environ={"all_proxy": "socks5://user:secret@proxy:1080"})
    with pytest.raises(ConfigurationError) as caught:
        ask(transport, "https://bank.example/x")
    assert caught.value.reason == "proxy_unsupported"
    assert "secret" not in str(caught.value)
