"""When a request is sent again, how long the wait is, and what a call that came to nothing raises."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deposit_token_sdk.errors import BankUnavailable, ConfigurationError, OutcomeUnknown
from deposit_token_sdk.exchange import Exchange, NoAnswer, Pause, Request, Response, Resumed, Sent, request_id
from deposit_token_sdk.retry import Retry, persist, retry_after

POLICY = Retry(attempts=4, base=1, cap=3, patience=8, deadline=30, per_try=10)
AT = 1_795_000_000.0
IN_USE = b'{"type": "/problems/idempotency_key_in_use", "status": 409}'

Reply = Callable[[Request, float], Response | NoAnswer]


def status(code: int, body: bytes = b"{}", **headers: str) -> Reply:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda request, elapsed: Response(code, named, body, request, AT + elapsed, elapsed)


def lost(sent: Sent) -> Reply:
    return lambda request, elapsed: NoAnswer(sent, "the line was cut", request, AT + elapsed, elapsed)


NOT_SENT, MAYBE = lost(Sent.NOT_SENT), lost(Sent.MAYBE_PROCESSED)


class Rehearsal:
    """Plays replies to an exchange: no clock, no socket. Every try takes `takes` seconds."""

    def __init__(self, exchange: Exchange[Response], replies: Iterable[Reply], takes: float = 0.0) -> None:
        self.exchange, self.replies, self.takes = exchange, iter(replies), takes
        self.requests: list[Request] = []
        self.waits: list[float] = []

    def play(self) -> Response:
        elapsed, news = 0.0, None
        while True:
            try:
                step = self.exchange.send(news)  # type: ignore[arg-type]
            except StopIteration as end:
                result: Response = end.value
                return result
            if isinstance(step, Pause):
                self.waits.append(step.seconds)
                elapsed += step.seconds
                news: Any = Resumed(AT + elapsed, elapsed)  # type: ignore[no-redef]
            else:
                self.requests.append(step)
                elapsed += self.takes
                news = next(self.replies)(step, elapsed)


def rehearse(
    *replies: Reply,
    method: str = "POST",
    idempotent: bool = True,
    policy: Retry = POLICY,
    random: float = 0.5,
    **more: Any,
) -> Rehearsal:
    takes = more.pop("takes", 0.0)

    def make(timeout: float) -> Request:
        return Request(method, "https://bank.example/x", f"{method} /x", timeout=timeout)

    exchange = persist(make, policy, idempotent=idempotent, key="K", reference="R", randomness=lambda: random, **more)
    return Rehearsal(exchange, replies, takes)


# What is sent again


@pytest.mark.parametrize("code", [200, 201, 204, 302, 400, 401, 404, 409, 422])
def test_an_answer_below_500_is_handed_to_the_caller_at_once(code: int) -> None:
    rehearsal = rehearse(status(code))
    assert rehearsal.play().status == code
    assert len(rehearsal.requests) == 1


@pytest.mark.parametrize(
    ("trouble", "method", "idempotent"),
    [
        (NOT_SENT, "POST", False),
        (NOT_SENT, "POST", True),
        (NOT_SENT, "GET", True),
        (MAYBE, "POST", True),
        (MAYBE, "GET", True),
        (status(500), "POST", True),
        (status(503), "GET", True),
        (status(429), "POST", False),
        (status(429), "POST", True),
        (status(429), "GET", True),
        (status(409, IN_USE), "POST", True),
    ],
)
def test_what_may_be_sent_again_is_made_anew_and_sent_again(trouble: Reply, method: str, idempotent: bool) -> None:
    rehearsal = rehearse(trouble, trouble, status(200), method=method, idempotent=idempotent)
    assert rehearsal.play().status == 200
    assert len(rehearsal.requests) == 3
    assert len({id(request) for request in rehearsal.requests}) == 3
    assert len(rehearsal.waits) == 2


@pytest.mark.parametrize("trouble", [MAYBE, status(500), status(502), status(409, IN_USE)])
def test_without_a_living_key_a_post_that_may_have_been_processed_is_sent_once(trouble: Reply) -> None:
    rehearsal = rehearse(trouble, idempotent=False)
    with pytest.raises(OutcomeUnknown):
        rehearsal.play()
    assert len(rehearsal.requests) == 1


@pytest.mark.parametrize(
    "body",
    [
        b'{"type": "/problems/invoice_not_open"}',
        b'{"detail": "not an idempotency_key_in_use"}',
        b"[]",
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"type": 5}',
    ],
)
def test_any_other_conflict_is_the_callers_to_read(body: bytes) -> None:
    assert rehearse(status(409, body)).play().status == 409


def test_a_key_in_use_is_known_by_its_code_too() -> None:
    assert rehearse(status(409, b'{"code": "idempotency_key_in_use"}'), status(201)).play().status == 201


# What a call that came to nothing raises


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [(NOT_SENT, "unreachable"), (status(429, request_id="r7"), "rate_limited")],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_bank_that_did_nothing_is_unavailable(trouble: Reply, reason: str, method: str) -> None:
    rehearsal = rehearse(*[trouble] * 4, method=method)
    with pytest.raises(BankUnavailable) as caught:
        rehearsal.play()
    assert caught.value.reason == reason
    assert caught.value.request_id == ("r7" if reason == "rate_limited" else None)
    assert len(rehearsal.requests) == 4
    assert "after 4 tries" in str(caught.value)


@pytest.mark.parametrize(("trouble", "reason"), [(MAYBE, "no_answer"), (status(500), "server_error")])
def test_a_read_is_never_of_unknown_outcome(trouble: Reply, reason: str) -> None:
    with pytest.raises(BankUnavailable) as caught:
        rehearse(*[trouble] * 4, method="GET").play()
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "replies",
    [
        [MAYBE] * 4,
        [status(500, request_id="r7")] * 4,
        [MAYBE, NOT_SENT, NOT_SENT, NOT_SENT],
        [MAYBE, status(429), status(429), status(429)],
        [status(409, IN_USE)] * 4,
    ],
    ids=["lost", "a 500 kept under the key", "lost, then unreachable", "lost, then rate limited", "key in use"],
)
def test_a_post_that_may_have_been_processed_once_stays_unknown(replies: list[Reply]) -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        rehearse(*replies).play()
    assert (caught.value.key, caught.value.reference, caught.value.reason) == ("K", "R", "outcome_unknown")
    assert "reference R" in str(caught.value)


def test_an_unknown_outcome_names_the_last_request_id_there_was() -> None:
    with pytest.raises(OutcomeUnknown) as caught:
        rehearse(status(500, request_id="r1"), status(500, request_id="r2"), MAYBE, MAYBE).play()
    assert caught.value.request_id == "r2"


@pytest.mark.parametrize("code", [401, 403, 407, 408, 421, 425, 431])
def test_a_refusal_before_the_key_says_nothing_about_an_earlier_lost_try(code: int) -> None:
    with pytest.raises(OutcomeUnknown):
        rehearse(MAYBE, status(code)).play()
    assert rehearse(NOT_SENT, status(code)).play().status == code


@pytest.mark.parametrize("code", [400, 404, 409, 422])
def test_a_refusal_under_the_key_is_the_answer_to_an_earlier_lost_try(code: int) -> None:
    assert rehearse(MAYBE, status(code)).play().status == code


# How long


@given(st.floats(0, 1), st.integers(1, 60))
def test_a_wait_is_drawn_from_nothing_to_a_doubling_capped_bound(randomness: float, tries: int) -> None:
    assert 0 <= POLICY.wait(tries, randomness) <= min(3, 2.0 ** (tries - 1))


def test_waits_grow_and_are_capped() -> None:
    rehearsal = rehearse(NOT_SENT, NOT_SENT, NOT_SENT, status(200), random=1.0)
    rehearsal.play()
    assert rehearsal.waits == [1, 2, 3]


@pytest.mark.parametrize(
    ("asked", "waited"),
    [
        ("2", 2.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("3600", 8.0),
        ("Wed, 18 Nov 2026 11:06:45 GMT", 5.0),
        ("Wed, 18 Nov 2026 11:06:35 GMT", 0.0),
        ("Wed, 18 Nov 2099 12:26:35 GMT", 8.0),
    ],
)
def test_the_wait_that_the_bank_asks_for_is_honoured_and_capped(asked: str, waited: float) -> None:
    rehearsal = rehearse(status(429, retry_after=asked), status(200), random=0.0)
    rehearsal.play()
    assert rehearsal.waits == [waited]


@pytest.mark.parametrize(
    "asked", ["", "soon", "-1", "1.5", "٣", "9" * 400, "Wed, 99 Nov 2026 12:00:00 GMT", "Wed, 18 Nov 2026 11:06:45"]
)
def test_a_wait_that_cannot_be_read_is_none(asked: str) -> None:
    rehearsal = rehearse(status(503, retry_after=asked), status(200), random=1.0)
    rehearsal.play()
    assert rehearsal.waits == [1]


def test_no_wait_is_asked_for_without_the_header() -> None:
    response = status(503)(Request("GET", "https://bank.example/x", "GET /x"), 0)
    assert isinstance(response, Response)
    assert retry_after(response) is None


def test_every_try_has_what_is_left_of_the_deadline_and_at_most_its_own_time() -> None:
    rehearsal = rehearse(MAYBE, MAYBE, MAYBE, status(200), random=0.0, takes=9.0)
    rehearsal.play()
    assert [request.timeout for request in rehearsal.requests] == [10, 10, 10, 3]


def test_one_deadline_holds_over_all_tries_and_waits() -> None:
    rehearsal = rehearse(*[MAYBE] * 100, policy=Retry(attempts=100, deadline=30, per_try=10), takes=10.0)
    with pytest.raises(OutcomeUnknown):
        rehearsal.play()
    assert len(rehearsal.requests) == 3


def test_a_wait_that_would_outlive_the_deadline_is_not_begun() -> None:
    rehearsal = rehearse(status(429, retry_after="5"), policy=Retry(deadline=4, patience=10))
    with pytest.raises(BankUnavailable):
        rehearsal.play()
    assert rehearsal.waits == []


def test_what_the_exchange_has_already_taken_counts() -> None:
    rehearsal = rehearse(status(200), elapsed=26.0)
    rehearsal.play()
    assert rehearsal.requests[0].timeout == 4


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"deadline": 0}, {"per_try": -1}, {"base": -1}, {"cap": -1}, {"patience": -1}]
)
def test_a_policy_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Retry(**wrong)
    assert caught.value.reason == "retry_unusable"


# Request ids


@pytest.mark.parametrize(("given", "read"), [("r-1", "r-1"), ("", None), ("a b", None), ("a\nb", None), ("é", None)])
def test_only_a_printable_request_id_is_taken(given: str, read: str | None) -> None:
    request = Request("GET", "https://bank.example/x", "GET /x")
    assert request_id(status(200, request_id=given)(request, 0)) == read
    assert request_id(MAYBE(request, 0)) is None
