"""A try ends by its deadline and within its size, whatever the bank does."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from deposit_token_sdk.exchange import NoAnswer, Request, Response, Sent
from deposit_token_sdk.transport import Transport

DEADLINE = 0.4
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1024 * 1024


def ask(transport: Transport, url: str, deadline: float = 10.0, body: bytes | None = None) -> Response | NoAnswer:
    method = "GET" if body is None else "POST"
    return transport.answer(Request(method, f"{url}/invoices", f"{method} /invoices", body=body), deadline)


def lost(answer: Response | NoAnswer) -> str:
    """The problem of a try that may have been processed."""
    assert isinstance(answer, NoAnswer)
    assert answer.sent is Sent.MAYBE_PROCESSED
    return answer.problem


DRIPS = {
    "the status line": (b"", b"H" * 4000),
    "the headers": (HEAD, b"X-Slow: 1\r\n"),
    "one long header": (HEAD + b"X-Slow: ", b"a"),
    "a body of known length": (HEAD + b"Content-Length: 100000\r\n\r\n", b"a"),
    "a body until the end": (HEAD + b"Connection: close\r\n\r\n", b"a"),
    "the data of a chunk": (CHUNKED + b"ffff\r\n", b"a"),
    "the size of a chunk": (CHUNKED, b"0"),
    "small chunks": (CHUNKED, b"1\r\na\r\n"),
    "the trailers": (CHUNKED + b"0\r\n", b"X-Slow: 1\r\n"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "the headers of an interim answer": (b"HTTP/1.1 100 Continue\r\n", b"X-Slow: 1\r\n"),
}


@pytest.mark.parametrize("where", DRIPS)
def test_a_bank_that_drips_is_left_at_the_deadline(where: str, bank: Any, transport: Transport) -> None:
    first, drops = DRIPS[where]

    def script(line: Any) -> None:
        line.hear()
        line.say(first)
        line.drip(drops)

    start = monotonic()
    problem = lost(ask(transport, bank(script).url, DEADLINE))
    assert DEADLINE * 0.9 < monotonic() - start < DEADLINE + 1
    assert "no whole answer within 0.4 s" in problem


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_bank_that_says_nothing_is_left_at_the_deadline(scheme: str, bank: Any, transport: Transport) -> None:
    silent = bank(lambda line: line.keep_silent())
    start = monotonic()
    lost(ask(transport, f"{scheme}://127.0.0.1:{silent.port}", DEADLINE))
    assert monotonic() - start < DEADLINE + 1


def test_a_bank_that_does_not_read_is_left_at_the_deadline(bank: Any, transport: Transport) -> None:
    deaf = bank(lambda line: line.keep_silent())
    start = monotonic()
    lost(ask(transport, deaf.url, DEADLINE, body=b"a" * (32 * MIB)))
    assert monotonic() - start < DEADLINE + 1


def test_a_kept_connection_has_the_deadline_of_the_try_it_serves(bank: Any, transport: Transport) -> None:
    def script(line: Any) -> None:
        line.hear()
        line.say(HEAD + b"Content-Length: 2\r\n\r\nok")
        line.hear()
        line.drip(b"H")

    slow = bank(script)
    first = ask(transport, slow.url, 30)
    start = monotonic()
    lost(ask(transport, slow.url, DEADLINE))
    assert monotonic() - start < DEADLINE + 1
    assert isinstance(first, Response)
    assert slow.connections == 1


def test_without_time_left_nothing_is_sent(echoing: Any, transport: Transport) -> None:
    answer = ask(transport, echoing.url, 0.0)
    assert isinstance(answer, NoAnswer)
    assert answer.sent is Sent.NOT_SENT
    assert not echoing.heard


FLOODS = {
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\n",
    "headers": HEAD + b"X-More: 1\r\n" * 90,
    "one status line": b"H" * 65536,
    "a body": HEAD + b"Connection: close\r\n\r\n" + b"a" * 65536,
    "chunks": CHUNKED + b"1000\r\n" + b"a" * 4096 + b"\r\n",
    "chunks whose size is negative": CHUNKED + b"-1\r\n",
    "trailers": CHUNKED + b"0\r\n" + b"X-More: 1\r\n" * 100,
}


@pytest.mark.parametrize("what", FLOODS)
def test_an_endless_answer_is_refused(what: str, bank: Any, transport: Transport) -> None:
    endless = FLOODS[what]

    def script(line: Any) -> None:
        line.hear()
        line.say(endless)
        line.flood(endless.removeprefix(CHUNKED).removeprefix(HEAD + b"Connection: close\r\n\r\n"))

    start = monotonic()
    lost(ask(transport, bank(script).url, 5))
    assert monotonic() - start < 6


def test_an_answer_of_the_largest_size_is_read_and_one_byte_more_is_not(
    bank: Any, transport: Transport, says: Callable[..., Any]
) -> None:
    largest = bank(says(HEAD + b"Connection: close\r\n\r\n" + b"a" * MIB))
    larger = bank(says(HEAD + b"Connection: close\r\n\r\n" + b"a" * (MIB + 1)))
    whole = ask(transport, largest.url)
    assert isinstance(whole, Response)
    assert len(whole.body) == MIB
    assert lost(ask(transport, larger.url)) == "the answer is larger than 1048576 bytes"


def test_the_size_is_a_setting(bank: Any, says: Callable[..., Any]) -> None:
    with Transport(max_bytes=10, environ={}) as small:
        assert "larger than 10 bytes" in lost(
            ask(small, bank(says(HEAD + b"Content-Length: 11\r\n\r\n12345678901")).url)
        )
        assert "larger than 10 bytes" in lost(ask(small, bank(says(CHUNKED + b"b\r\n12345678901\r\n0\r\n\r\n")).url))


def test_an_announced_size_is_refused_without_waiting_for_it(bank: Any, transport: Transport) -> None:
    def script(line: Any) -> None:
        line.hear()
        line.say(HEAD + b"Content-Length: 99999999999\r\n\r\n")
        line.keep_silent()

    start = monotonic()
    assert "larger than" in lost(ask(transport, bank(script).url, 10))
    assert monotonic() - start < 5


def test_a_gzip_bomb_is_not_opened(bank: Any, transport: Transport, says: Callable[..., Any]) -> None:
    bomb = gzip.compress(bytes(64 * MIB))
    length = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    hostile = bank(says(HEAD + length + bomb))
    assert "Content-Encoding" in lost(ask(transport, hostile.url))
    assert hostile.heard[0][1]["accept-encoding"] == "identity"


BROKEN = {
    "cut off in the body": HEAD + b"Content-Length: 100\r\n\r\nhalf of it",
    "cut off in a chunk": CHUNKED + b"ff\r\nhalf of it",
    "cut off between chunks": CHUNKED + b"4\r\nhalf\r\n",
    "a chunk size that is no number": CHUNKED + b"many\r\n",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP of another kind": b"HTTP/3.0 200 OK\r\n\r\n",
    "a status of no meaning": b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n",
    "a change of protocol": b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "an unknown content encoding": HEAD + b"Content-Encoding: rot13\r\nContent-Length: 0\r\n\r\n",
    "an unknown transfer encoding": HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "two transfer encodings": HEAD + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n",
    "a folded header": HEAD + b"X-Long: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "a header line without a colon": HEAD + b"X-Odd\r\nContent-Length: 0\r\n\r\n",
    "a header name with a space": HEAD + b"X-Odd : 1\r\nContent-Length: 0\r\n\r\n",
    "a header value with a control": HEAD + b"X-Odd: a\0b\r\nContent-Length: 0\r\n\r\n",
    "cut off in the head": HEAD + b"X-Odd: 1\r\n",
    "cut off in a header": HEAD + b"X-Odd: 1\r\nX-Even: ",
    "a length that is no number": HEAD + b"Content-Length: +2\r\n\r\nok",
    "a length and chunks": HEAD + b"Content-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "too many headers": HEAD + b"X-More: 1\r\n" * 101 + b"\r\n",
    "a line too long": HEAD + b"X-Long: " + b"a" * 70000 + b"\r\n\r\n",
    "nothing at all": b"",
}


@pytest.mark.parametrize("what", BROKEN)
def test_an_answer_that_cannot_be_read_may_have_been_processed(
    what: str, bank: Any, transport: Transport, says: Callable[..., Any]
) -> None:
    assert lost(ask(transport, bank(says(BROKEN[what])).url))


def test_after_a_broken_answer_the_next_try_has_a_connection_of_its_own(bank: Any, transport: Transport) -> None:
    def script(line: Any) -> None:
        line.hear()
        line.say(HEAD + b"Content-Length: 20000000\r\n\r\nleft over")
        line.keep_silent()

    odd = bank(script)
    lost(ask(transport, odd.url))
    lost(ask(transport, odd.url))
    assert odd.connections == 2


FRAMED = {
    "by length": HEAD + b"Content-Length: 2\r\n\r\nok",
    "by the same length twice": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    "by chunks": CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nX-Last: 1\r\n\r\n",
    "by the end": HEAD + b"Connection: close\r\n\r\nok",
    "by the end, as of old": b"HTTP/1.0 200 OK\r\n\r\nok",
    "with bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
    "without a reason": b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
}


@pytest.mark.parametrize("how", FRAMED)
def test_a_body_is_read_to_its_end(how: str, bank: Any, transport: Transport, says: Callable[..., Any]) -> None:
    answer = ask(transport, bank(says(FRAMED[how])).url)
    assert isinstance(answer, Response)
    assert answer.body == b"ok"


def test_header_values_lose_the_space_around_them_and_repeated_ones_are_joined(
    bank: Any, transport: Transport, says: Callable[..., Any]
) -> None:
    spaced = HEAD + b"X-A: \t one \r\nX-Empty:\r\nX-B: 1\r\nx-b: 2\r\nX-Latin: \xe9\r\nContent-Length: 0\r\n\r\n"
    answer = ask(transport, bank(says(spaced)).url)
    assert isinstance(answer, Response)
    read = {name: value for name, value in answer.headers.items() if name.startswith("x-")}
    assert read == {"x-a": "one", "x-empty": "", "x-b": "1, 2", "x-latin": "é"}


def test_an_interim_answer_is_skipped(bank: Any, transport: Transport, says: Callable[..., Any]) -> None:
    polite = bank(says(b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok"))
    answer = ask(transport, polite.url, body=b"{}")
    assert isinstance(answer, Response)
    assert answer.body == b"ok"


@pytest.mark.parametrize("empty", [b"HTTP/1.1 204 No Content\r\n\r\n", HEAD + b"Content-Length: 0\r\n\r\n"])
def test_an_empty_answer_leaves_its_connection_fit_for_the_next_call(
    empty: bytes, bank: Any, transport: Transport
) -> None:
    def script(line: Any) -> None:
        while line.hear() is not None:
            line.say(empty)

    quiet = bank(script)
    assert [answer.body for _ in range(3) if isinstance(answer := ask(transport, quiet.url), Response)] == [b""] * 3
    assert quiet.connections == 1
