"""One description of a call, and its rehearsal on a list of replies."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk.errors import BankUnavailable, OutcomeUnknown
from deposit_token_sdk.exchange import (
    Exchange,
    NoAnswer,
    Pause,
    Request,
    Response,
    Resumed,
    Sent,
    immediately,
    pause,
    send,
)
from deposit_token_sdk.retry import Retry, persist
from deposit_token_sdk.testing import Lost, Reply, rehearse
from deposit_token_sdk.testing.rehearsal import START

GET = Request("GET", "https://bank.example/tokens", "GET /tokens")
POST = Request("POST", "https://bank.example/quotes", "POST /quotes", body=b"{}")


def signed(request: Request, now: float, nonce: str) -> Request:
    return evolve(request, headers={**request.headers, "signature": f"{now:.0f} {nonce}"})


def ask(request: Request = GET) -> Exchange[int]:
    answer = yield from send(request)
    return answer.status if isinstance(answer, Response) else 0


# -- the exchange ----------------------------------------------------------------------------------------------


def test_a_request_is_answered_and_the_answer_handed_on() -> None:
    exchange = send(GET)
    assert next(exchange) is GET
    with pytest.raises(StopIteration) as end:
        exchange.send(Response(200, {}, b"{}", GET, at=1.0, elapsed=0.0))
    assert end.value.value.status == 200


def test_no_answer_is_a_value_and_no_exception() -> None:
    assert rehearse(ask(), [Lost()])[0] == 0


def test_a_wait_is_a_step_like_any_other() -> None:
    exchange = pause(2.5)
    assert next(exchange) == Pause(2.5)
    with pytest.raises(StopIteration) as end:
        exchange.send(Resumed(at=3.5, elapsed=2.5))
    assert end.value.value == Resumed(3.5, 2.5)


def test_what_is_known_already_takes_no_request() -> None:
    assert rehearse(immediately("known"), []) == ("known", ())


def test_an_edge_that_mixes_up_answers_and_waits_is_told_so() -> None:
    asked, waited = send(GET), pause(1)
    next(asked)
    next(waited)
    with pytest.raises(TypeError, match="answered by Response or NoAnswer"):
        asked.send(Resumed(1.0, 1.0))
    with pytest.raises(TypeError, match="answered by Resumed"):
        waited.send(NoAnswer(Sent.NOT_SENT, "", GET, 1.0, 1.0))


def test_neither_bodies_nor_signers_show_in_a_log() -> None:
    request = evolve(POST, body=b"secret body", sign=signed)
    assert "secret" not in repr(request)
    assert "signed" not in repr(request)
    assert "secret" not in repr(Response(200, {}, b"secret body", request, 1.0, 0.0))


# -- the rehearsal ---------------------------------------------------------------------------------------------


def test_a_rehearsal_gives_the_result_and_the_requests_in_order() -> None:
    def twice() -> Exchange[tuple[int, int]]:
        return (yield from ask(GET)), (yield from ask(POST))

    result, requests = rehearse(twice(), [Reply(200), Reply(201)])
    assert result == (200, 201)
    assert requests == (GET, POST)


def test_every_try_is_signed_anew_under_the_same_key() -> None:
    request = evolve(POST, headers={"idempotency-key": "k"}, sign=signed)
    policy = Retry(attempts=3, base=1, cap=1)
    result, requests = rehearse(
        persist(lambda _: request, policy, idempotent=True, key="k", randomness=lambda: 1.0),
        [Lost(seconds=2), Reply(503), Reply(201)],
        start=1000,
    )
    assert result.status == 201
    assert [sent.headers["signature"] for sent in requests] == ["1000 nonce-1", "1003 nonce-2", "1004 nonce-3"]
    assert {sent.headers["idempotency-key"] for sent in requests} == {"k"}
    assert result.request is requests[-1]


def test_time_passes_only_as_replies_and_waits_say() -> None:
    def slow() -> Exchange[list[tuple[float, float]]]:
        seen: list[tuple[float, float]] = []
        for step in (send(GET), pause(30.0), send(GET)):
            news: Any = yield from step
            seen.append((news.at - START, news.elapsed))
        return seen

    result, _ = rehearse(slow(), [Reply(seconds=1.5), Reply(seconds=0.25)])
    assert result == [(1.5, 1.5), (31.5, 31.5), (31.75, 31.75)]


def test_a_reply_in_json_carries_its_type_and_further_headers() -> None:
    def read() -> Exchange[Response]:
        answer = yield from send(GET)
        assert isinstance(answer, Response)
        return answer

    answer, _ = rehearse(read(), [Reply.json({"a": "ä"}, 429, seconds=1, retry_after="2")])
    assert (answer.status, json.loads(answer.body), answer.elapsed) == (429, {"a": "ä"}, 1)
    assert answer.headers == {"content-type": "application/json", "retry-after": "2"}


def test_a_function_for_a_reply_sees_the_request_as_it_was_sent() -> None:
    def echo(request: Request) -> Reply:
        return Reply(200 if request.headers["signature"].endswith("nonce-1") else 401)

    assert rehearse(ask(evolve(GET, sign=signed)), [echo])[0] == 200


def test_whole_answers_serve_as_replies_too() -> None:
    stale = evolve(GET, url="https://elsewhere.example")
    replies: list[Response | NoAnswer] = [
        Response(204, {}, b"", stale, at=0, elapsed=99),
        NoAnswer(Sent.NOT_SENT, "refused", stale, 0, 99),
    ]

    def both() -> Exchange[list[Any]]:
        return [(yield from send(GET)), (yield from send(GET))]

    (first, second), _ = rehearse(both(), replies)
    assert (first.status, first.request, first.at, first.elapsed) == (204, GET, START, 0)
    assert (second.sent, second.problem, second.request) == (Sent.NOT_SENT, "refused", GET)


def test_what_the_exchange_raises_is_raised_and_what_it_sent_is_kept() -> None:
    sent: list[Request] = []
    with pytest.raises(OutcomeUnknown) as unknown:
        rehearse(persist(lambda _: POST, Retry(), idempotent=False, key="k", reference="r"), [Lost()], sent=sent)
    assert (unknown.value.key, unknown.value.reference) == ("k", "r")
    assert sent == [POST]


def test_what_was_certainly_not_sent_leaves_nothing_unknown() -> None:
    with pytest.raises(BankUnavailable):
        rehearse(persist(lambda _: POST, Retry(attempts=1), idempotent=False), [Lost(Sent.NOT_SENT)])


def test_a_list_that_is_too_short_or_too_long_fails_the_rehearsal() -> None:
    with pytest.raises(AssertionError, match=r"No reply is left for request 1: GET https://bank.example/tokens"):
        rehearse(ask(), [])
    with pytest.raises(AssertionError, match="1 replies are left"):
        rehearse(ask(), [Reply(), Reply()])


def test_the_exchange_is_closed_whatever_happens() -> None:
    closed: list[str] = []

    def careful() -> Exchange[None]:
        try:
            yield from send(GET)
        finally:
            closed.append("closed")

    with pytest.raises(AssertionError):
        rehearse(careful(), [])
    assert closed == ["closed"]


def test_rehearsing_needs_neither_pytest_nor_requests() -> None:
    code = "import sys, deposit_token_sdk.testing; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"pytest", "requests", "flask", "sqlalchemy"} & set(done.stdout.split())
