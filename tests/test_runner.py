"""The runner drives an exchange once, to its end or to its closing; the client's verbs are the issuer's."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
import responses
from attrs import evolve

from deposit_token_sdk.client import Carrier, Client, Clock, _Tally, run
from deposit_token_sdk.errors import BankUnavailable, ConfigurationError, InvalidInput, OutcomeUnknown, Unsupported
from deposit_token_sdk.exchange import (
    Exchange,
    NoAnswer,
    Request,
    Response,
    Resumed,
    Sent,
    immediately,
    pause,
    send,
)
from deposit_token_sdk.instrumentation import CallDetails
from deposit_token_sdk.issuers.protocol import Collects, Issuer
from deposit_token_sdk.models import NewCollection
from deposit_token_sdk.retry import Retry, persist
from deposit_token_sdk.transport import Transport

URL = "https://bank.example/invoices"


class Time:
    """A clock that moves when somebody waits."""

    def __init__(self) -> None:
        self.seconds = 100.0
        self.waits: list[float] = []
        self._nonces = 0
        self.clock = Clock(lambda: 1_000_000 + self.seconds, lambda: self.seconds, self.sleep, self.nonce)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.seconds += seconds

    def nonce(self) -> str:
        self._nonces += 1
        return f"n{self._nonces}"


class Bank:
    """A carrier that answers from a list: a status, a NoAnswer's kind, or an error to raise."""

    def __init__(self, time: Time, *replies: int | Sent | BaseException, takes: float = 1.0) -> None:
        self.time, self.takes = time, takes
        self.replies = list(replies)
        self.asked: list[tuple[Request, float]] = []
        self.closed = False

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        self.asked.append((request, deadline))
        self.time.seconds += self.takes
        at, elapsed = self.time.clock.now(), self.time.seconds - (began or 0)
        reply = self.replies.pop(0)
        if isinstance(reply, BaseException):
            raise reply
        if isinstance(reply, Sent):
            return NoAnswer(reply, "the line was cut", request, at, elapsed)
        return Response(reply, {"request-id": f"r{len(self.asked)}"}, b"{}", request, at, elapsed)

    def close(self) -> None:
        self.closed = True


def signed(request: Request, at: float, nonce: str) -> Request:
    return evolve(request, headers={"signature": f"{at:.0f} {nonce}"})


def asking(timeout: float = 10.0) -> Request:
    return Request("POST", URL, "POST /invoices", timeout=timeout, sign=signed)


# The runner


def test_an_exchange_runs_to_its_result() -> None:
    def exchange() -> Exchange[tuple[Response | NoAnswer, Resumed]]:
        answer = yield from send(asking(timeout=3))
        resumed = yield from pause(2.5)
        return answer, resumed

    time = Time()
    bank = Bank(time, 200)
    answer, resumed = run(exchange(), bank, time.clock)
    assert isinstance(answer, Response)
    assert answer.elapsed == 1
    assert bank.asked[0][1] == 3
    assert time.waits == [2.5]
    assert (resumed.elapsed, resumed.at) == (3.5, 1_000_103.5)


def test_an_exchange_of_no_request_needs_no_bank() -> None:
    time = Time()
    assert run(immediately("known"), Bank(time), time.clock) == "known"


def test_every_try_is_signed_anew_at_its_sending() -> None:
    time = Time()
    bank = Bank(time, Sent.MAYBE_PROCESSED, 503, 200)
    run(persist(asking, Retry(), idempotent=True, randomness=lambda: 1.0), bank, time.clock)
    assert [request.headers["signature"] for request, _ in bank.asked] == [
        "1000100 n1",
        "1000101 n2",
        "1000103 n3",
    ]


def test_the_exchange_sees_the_request_as_it_was_signed() -> None:
    time = Time()
    response = run(persist(asking, Retry(), idempotent=True), Bank(time, 200), time.clock)
    assert response.request.headers == {"signature": "1000100 n1"}


def test_nonces_are_fresh_and_long() -> None:
    nonces = {Clock().nonce() for _ in range(100)}
    assert len(nonces) == 100
    assert min(map(len, nonces)) >= 32


def test_an_exchange_is_run_once() -> None:
    time = Time()
    finished = immediately("known")
    run(finished, Bank(time), time.clock)
    started = send(asking())
    next(started)
    for stale in (finished, started):
        with pytest.raises(InvalidInput) as caught:
            run(stale, Bank(time), time.clock)
        assert caught.value.reason == "exchange_not_fresh"
    started.close()


class Closing:
    """An exchange that notes whether it was closed."""

    def __init__(self) -> None:
        self.closed = False

    def run(self) -> Exchange[Response | NoAnswer]:
        try:
            return (yield from send(asking()))
        finally:
            self.closed = True


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("odd"), StopIteration("odd"), SystemExit()])
def test_an_error_at_the_edge_closes_the_exchange_and_is_not_taken_for_its_result(error: BaseException) -> None:
    time, closing = Time(), Closing()
    exchange = closing.run()
    with pytest.raises(type(error)) as caught:
        run(exchange, Bank(time, error), time.clock)
    assert caught.value is error
    assert closing.closed
    assert inspect.getgeneratorstate(cast("Generator[Any, Any, Any]", exchange)) == inspect.GEN_CLOSED


def test_an_interrupt_while_waiting_closes_the_exchange() -> None:
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    exchange = pause(5)
    with pytest.raises(KeyboardInterrupt):
        run(exchange, Bank(Time()), Clock(sleep=interrupted))
    assert inspect.getgeneratorstate(cast("Generator[Any, Any, Any]", exchange)) == inspect.GEN_CLOSED


# The client


class Issuing:
    """An issuer with the few verbs that these tests need."""

    name = "test-bank"

    def invoice(self, invoice_id: str) -> Exchange[str]:
        """The invoice by the bank's id."""
        answer = yield from send(Request("GET", f"{URL}/{invoice_id}", "GET /invoices/{id}"))
        assert isinstance(answer, Response)
        return invoice_id

    def cancel(self, invoice_id: str, key: str) -> Exchange[int]:
        """End an unpaid invoice."""
        answer = yield from persist(
            asking, Retry(attempts=2), idempotent=True, key=key, reference=invoice_id, randomness=lambda: 1.0
        )
        return answer.status

    def report_event(self, event: object, now: float) -> Exchange[object]:
        """What an event says."""
        return immediately((event, now))

    def find_invoice(self, reference: str) -> Exchange[None]:
        """Broken."""
        yield from ()
        raise LookupError(reference)


def client_of(time: Time, *replies: int | Sent | BaseException) -> tuple[Any, list[CallDetails]]:
    calls: list[CallDetails] = []
    carrier: Carrier = Bank(time, *replies)
    issuer = cast("Issuer", Issuing())
    return Client(issuer, transport=carrier, hooks=[calls.append], clock=time.clock), calls


def verbs_of(kind: type) -> set[str]:
    return {name for name, value in vars(kind).items() if inspect.isfunction(value) and not name.startswith("_")}


def test_every_verb_of_an_issuer_is_a_verb_of_the_client_with_its_name_parameters_and_words() -> None:
    assert verbs_of(Issuer) | verbs_of(Collects) == verbs_of(Client) - {"close"}
    for name in verbs_of(Client) - {"close"}:
        ours, issuers = getattr(Client, name), getattr(Issuer, name, None) or getattr(Collects, name)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(issuers).parameters)
        assert ours.__doc__ == issuers.__doc__
        assert ours.__qualname__ == f"Client.{name}"


def test_one_call_makes_one_account_of_all_its_tries() -> None:
    client, calls = client_of(Time(), 503, 200)
    assert client.cancel("i", key="k") == 200
    assert calls == [
        CallDetails(
            verb="cancel",
            issuer="test-bank",
            route="POST /invoices",
            status=200,
            tries=2,
            seconds=2.25,
            request_id="r2",
            outcome="ok",
        )
    ]


def test_a_call_that_fails_is_accounted_for_by_its_reason() -> None:
    client, calls = client_of(Time(), 500, Sent.MAYBE_PROCESSED)
    with pytest.raises(OutcomeUnknown):
        client.cancel("i", key="k")
    (call,) = calls
    assert (call.outcome, call.status, call.tries, call.request_id) == ("outcome_unknown", None, 2, "r1")


def test_any_other_error_is_accounted_for_by_its_name() -> None:
    client, calls = client_of(Time(), KeyboardInterrupt())
    with pytest.raises(LookupError):
        client.find_invoice("R")
    with pytest.raises(KeyboardInterrupt):
        client.invoice("i")
    assert [(call.outcome, call.route) for call in calls] == [("LookupError", None), ("KeyboardInterrupt", None)]


def test_a_call_without_a_request_is_accounted_for_too() -> None:
    client, calls = client_of(Time())
    assert client.report_event("event", now=5.0) == ("event", 5.0)
    assert (calls[0].verb, calls[0].route, calls[0].tries, calls[0].outcome) == ("report_event", None, 0, "ok")


def test_a_hook_that_raises_breaks_no_call() -> None:
    def broken(_: CallDetails) -> None:
        raise RuntimeError("telemetry is down")

    time = Time()
    client = Client(cast("Issuer", Issuing()), transport=Bank(time, 200), hooks=[broken], clock=time.clock)
    assert cast("Callable[[str], str]", client.invoice)("i") == "i"


def test_a_transport_that_was_given_is_its_givers_to_close() -> None:
    given = Bank(Time())
    with Client(cast("Issuer", Issuing()), transport=given):
        pass
    assert not given.closed


def test_a_client_asks_over_requests_by_itself() -> None:
    with responses.RequestsMock() as mock, Client(cast("Issuer", Issuing())) as client:
        mock.get(f"{URL}/i7", json={})
        assert cast("Callable[[str], str]", client.invoice)("i7") == "i7"


def test_a_client_of_no_settings_says_what_is_missing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        Client.from_env({})
    assert caught.value.reason == "setting_missing"


def test_a_bank_that_is_down_is_unavailable_and_nothing_was_done() -> None:
    with Transport(environ={}) as transport:
        policy = Retry(attempts=2, base=0)

        def make(timeout: float) -> Request:
            return Request("POST", "http://127.0.0.1:9/x", "POST /x", timeout=timeout)

        with pytest.raises(BankUnavailable) as caught:
            run(persist(make, policy, idempotent=False), transport)
    assert caught.value.reason == "unreachable"


def test_requests_is_imported_with_the_first_client_and_not_before() -> None:
    program = "import sys, deposit_token_sdk.client as c; sys.exit('requests' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_a_fetch_of_keys_does_not_hide_what_was_called() -> None:
    first = Request("POST", "https://bank.example/quotes", "POST /quotes")
    keys = Request("GET", "https://bank.example/jwks", "GET jwks")
    tally = _Tally()
    tally.observe(Response(201, {"request-id": "req_1"}, b"", first, 0.0, 0.0))
    tally.observe(Response(200, {"request-id": "req_2"}, b"", keys, 0.0, 0.0))
    assert (tally.route, tally.status, tally.tries, tally.request_id) == ("POST /quotes", 201, 1, "req_1")


def test_a_verb_that_an_issuer_does_not_have_is_unsupported_before_anything_is_sent() -> None:
    client, calls = client_of(Time())
    with pytest.raises(Unsupported) as refused:
        client.collect(NewCollection("r", "i", "", "k", datetime.now(UTC)))
    assert refused.value.issuer == "test-bank"
    assert calls == []
