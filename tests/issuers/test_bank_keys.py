"""The bank's key set: from one place, fetched by one caller at a time and at most once a minute."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from deposit_token_sdk.client import Clock, run
from deposit_token_sdk.errors import BankUnavailable, ConfigurationError, NotGenuine, Unreadable
from deposit_token_sdk.exchange import NoAnswer, Pause, Request, Response, Resumed, Sent
from deposit_token_sdk.issuers.bank_keys import FETCH_INTERVAL, HOLD_OFF, MAX_AGE, BankKeys
from deposit_token_sdk.retry import Retry
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey, VerificationKey

URL = "https://bank.example/.well-known/jwks.json"
NOW = 1_795_000_000.0
OLD, NEW = (SigningKey.generate(Algorithm.ED25519, kid) for kid in ("statements-1", "statements-2"))
CLOCK = Clock(now=lambda: NOW, sleep=lambda _: None)


@define
class Publisher:
    """Answers with the keys it has; None means that it does not answer. `asked` counts the requests."""

    keys: tuple[VerificationKey, ...] | None = (OLD.verification_key(),)
    status: int = 200
    before: Callable[[], object] = lambda: None
    asked: list[str] = field(factory=list)

    def answer(self, request: Request, deadline: float, began: float | None = None) -> Response | NoAnswer:
        assert deadline > 0
        self.asked.append(request.url)
        self.before()
        if self.keys is None:
            return NoAnswer(Sent.NOT_SENT, "refused", request, NOW, 0.0)
        return Response(self.status, {}, strict_json.dumps(KeySet(self.keys).jwks()), request, NOW, 0.0)

    def close(self) -> None: ...


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


def bank_keys(file: str = "", thumbprints: frozenset[str] = frozenset(), **policy: Any) -> BankKeys:
    return BankKeys(URL, file, thumbprints, Retry(attempts=1, **policy))


def needs(kid: str) -> Callable[[KeySet], VerificationKey]:
    """A check that needs the key of this id."""
    return lambda keys: keys.require(kid, None)


def asked(keys: BankKeys, kid: str, publisher: Publisher, now: float = NOW) -> VerificationKey:
    return run(keys.with_keys(needs(kid), now), publisher, CLOCK)


def test_the_keys_are_fetched_when_first_needed_and_then_kept(publisher: Publisher) -> None:
    keys = bank_keys()
    assert publisher.asked == []
    for later in (0, 1, MAX_AGE):
        assert asked(keys, OLD.kid, publisher, NOW + later).kid == OLD.kid
    assert publisher.asked == [URL]


def test_an_unknown_key_is_looked_for_once_a_minute_and_its_absence_remembered(publisher: Publisher) -> None:
    keys = bank_keys()
    asked(keys, OLD.kid, publisher)
    for later in (1, FETCH_INTERVAL - 1):
        with pytest.raises(NotGenuine) as caught:
            asked(keys, NEW.kid, publisher, NOW + later)
        assert caught.value.reason == "key_unknown"
    assert len(publisher.asked) == 1
    with pytest.raises(NotGenuine):
        asked(keys, NEW.kid, publisher, NOW + FETCH_INTERVAL)
    assert len(publisher.asked) == 2


def test_a_key_that_the_bank_has_begun_to_use_is_found(publisher: Publisher) -> None:
    keys = bank_keys()
    asked(keys, OLD.kid, publisher)
    publisher.keys = (OLD.verification_key(), NEW.verification_key())
    assert asked(keys, NEW.kid, publisher, NOW + FETCH_INTERVAL).kid == NEW.kid
    assert asked(keys, OLD.kid, publisher, NOW + FETCH_INTERVAL).kid == OLD.kid
    assert len(publisher.asked) == 2


def test_another_refusal_than_an_unknown_key_fetches_nothing(publisher: Publisher) -> None:
    keys = bank_keys()
    asked(keys, OLD.kid, publisher)

    def refuse(_: KeySet) -> None:
        raise NotGenuine("signature_mismatch", "It does not fit.")

    with pytest.raises(NotGenuine):
        run(keys.with_keys(refuse, NOW + FETCH_INTERVAL), publisher, CLOCK)
    assert len(publisher.asked) == 1


def test_a_set_grown_old_is_fetched_anew_so_that_a_revoked_key_is_no_longer_trusted(publisher: Publisher) -> None:
    keys = bank_keys()
    asked(keys, OLD.kid, publisher)
    publisher.keys = (OLD.verification_key(revoked=True),)
    assert asked(keys, OLD.kid, publisher, NOW + MAX_AGE).kid == OLD.kid
    with pytest.raises(NotGenuine) as caught:
        asked(keys, OLD.kid, publisher, NOW + MAX_AGE + 1)
    assert caught.value.reason == "key_revoked"


def test_while_the_bank_does_not_answer_the_last_set_serves_on_and_is_asked_for_once_a_minute(
    publisher: Publisher,
) -> None:
    keys = bank_keys()
    asked(keys, OLD.kid, publisher)
    publisher.keys = None
    old_age = NOW + MAX_AGE + 1
    for later in (0, 1, FETCH_INTERVAL - 1):
        assert asked(keys, OLD.kid, publisher, old_age + later).kid == OLD.kid
    assert len(publisher.asked) == 2
    publisher.keys = (OLD.verification_key(revoked=True),)
    with pytest.raises(NotGenuine):
        asked(keys, OLD.kid, publisher, old_age + FETCH_INTERVAL)
    assert len(publisher.asked) == 3


@pytest.mark.parametrize("status", [404, 500, 302])
def test_a_set_that_cannot_be_had_is_said_to_be_unavailable_and_asked_for_again(
    status: int, publisher: Publisher
) -> None:
    keys = bank_keys()
    publisher.status = status
    with pytest.raises(BankUnavailable):
        asked(keys, OLD.kid, publisher)
    publisher.status = 200
    assert asked(keys, OLD.kid, publisher, NOW + HOLD_OFF).kid == OLD.kid


def test_while_no_set_was_ever_had_a_fetch_that_failed_holds_off_the_next_for_a_few_seconds(
    publisher: Publisher,
) -> None:
    """Else every message waits for a fetch of its own while the key address is down, tries and pauses included."""
    keys = bank_keys()
    publisher.keys = None
    with pytest.raises(BankUnavailable):
        asked(keys, OLD.kid, publisher)
    publisher.keys = (OLD.verification_key(),)
    for later in (0.0, 1.0, HOLD_OFF - 0.1):
        with pytest.raises(BankUnavailable) as caught:
            asked(keys, OLD.kid, publisher, NOW + later)
        assert caught.value.reason == "keys_unavailable"
        assert URL in str(caught.value)
    assert len(publisher.asked) == 1
    assert asked(keys, OLD.kid, publisher, NOW + HOLD_OFF).kid == OLD.kid
    assert len(publisher.asked) == 2


def test_the_hold_off_begins_when_the_fetch_has_failed_and_not_when_it_began(publisher: Publisher) -> None:
    """A key address that takes the whole deadline would else be asked again at once."""
    keys, took = bank_keys(), 30.0
    publisher.keys = None
    with pytest.raises(BankUnavailable):
        run(keys.with_keys(needs(OLD.kid), NOW), publisher, Clock(now=lambda: NOW + took, sleep=lambda _: None))
    publisher.keys = (OLD.verification_key(),)
    with pytest.raises(BankUnavailable):
        asked(keys, OLD.kid, publisher, NOW + took + HOLD_OFF - 1)
    assert asked(keys, OLD.kid, publisher, NOW + took + HOLD_OFF).kid == OLD.kid
    assert len(publisher.asked) == 2


def test_a_clock_that_was_set_back_does_not_hold_off_for_longer(publisher: Publisher) -> None:
    keys = bank_keys()
    publisher.keys = None
    with pytest.raises(BankUnavailable):
        asked(keys, OLD.kid, publisher)
    publisher.keys = (OLD.verification_key(),)
    assert asked(keys, OLD.kid, publisher, NOW - 3600).kid == OLD.kid


def test_an_unknown_key_while_the_bank_does_not_answer_is_not_called_a_forgery(publisher: Publisher) -> None:
    keys = bank_keys()
    asked(keys, OLD.kid, publisher)
    publisher.keys = None
    with pytest.raises(BankUnavailable):
        asked(keys, NEW.kid, publisher, NOW + FETCH_INTERVAL)


def test_only_pinned_keys_are_used(publisher: Publisher) -> None:
    publisher.keys = (OLD.verification_key(), NEW.verification_key())
    keys = bank_keys(thumbprints=frozenset({NEW.verification_key().thumbprint()}))
    assert asked(keys, NEW.kid, publisher).kid == NEW.kid
    with pytest.raises(NotGenuine) as caught:
        asked(keys, OLD.kid, publisher)
    assert caught.value.reason == "key_unknown"


def test_keys_from_a_file_are_never_fetched(tmp_path: Path, publisher: Publisher) -> None:
    file = tmp_path / "jwks.json"
    file.write_bytes(strict_json.dumps(KeySet((OLD.verification_key(),)).jwks()))
    keys = bank_keys(str(file))
    assert asked(keys, OLD.kid, publisher, NOW + 10 * MAX_AGE).kid == OLD.kid
    with pytest.raises(NotGenuine):
        asked(keys, NEW.kid, publisher)
    assert publisher.asked == []


def test_a_key_file_that_cannot_be_used_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="DEPOSIT_TOKEN_JWKS_FILE"):
        bank_keys(str(tmp_path / "none.json"))
    (tmp_path / "bad.json").write_bytes(b'{"keys": [')
    with pytest.raises(Unreadable):
        bank_keys(str(tmp_path / "bad.json"))


# -- many at once ---------------------------------------------------------------------------------------------


def test_of_many_threads_one_fetches_and_all_get_the_keys() -> None:
    threads = 16
    all_wait = threading.Barrier(threads, timeout=20)
    landed = threading.Event()

    def sleep(_: float) -> None:
        all_wait.wait()
        landed.wait(20)

    publisher = Publisher(before=all_wait.wait)
    keys, clock = bank_keys(), Clock(sleep=sleep)

    def ask(_: int) -> str:
        found = run(keys.with_keys(needs(OLD.kid), NOW), publisher, clock)
        landed.set()
        return found.kid

    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(ask, range(threads))) == [OLD.kid] * threads
    assert len(publisher.asked) == 1


def test_who_waited_for_a_fetch_that_failed_learns_so_and_does_not_fetch_again(publisher: Publisher) -> None:
    publisher.keys = None
    keys = bank_keys()
    first, second = (keys.with_keys(needs(OLD.kid), NOW) for _ in range(2))
    request = next(first)
    next(second)
    assert first.send(publisher.answer(_as_request(request), 1.0)) == Pause(0.0)
    with pytest.raises(BankUnavailable):
        first.send(Resumed(NOW, 0.01))
    with pytest.raises(BankUnavailable):
        second.send(Resumed(NOW, 0.02))
    assert len(publisher.asked) == 1


def test_a_set_that_another_caller_fetched_meanwhile_is_looked_into_before_a_key_is_called_unknown(
    publisher: Publisher,
) -> None:
    keys = bank_keys()
    asked(keys, OLD.kid, publisher)
    publisher.keys = (NEW.verification_key(),)
    overtaken = False

    def slow(known: KeySet) -> str:
        nonlocal overtaken
        if not overtaken:
            overtaken = True
            asked(keys, NEW.kid, publisher, NOW + FETCH_INTERVAL)
        return known.require(NEW.kid, None).kid

    assert run(keys.with_keys(slow, NOW + FETCH_INTERVAL), publisher, CLOCK) == NEW.kid
    assert len(publisher.asked) == 2


def test_a_fetch_that_is_broken_off_leaves_the_way_free(publisher: Publisher) -> None:
    keys = bank_keys()
    broken_off = keys.with_keys(needs(OLD.kid), NOW)
    next(broken_off)
    broken_off.close()
    assert asked(keys, OLD.kid, publisher).kid == OLD.kid


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_forked_while_the_parent_fetches_fetches_for_itself(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = bank_keys()
    parents = keys.with_keys(needs(OLD.kid), NOW)
    next(parents)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert asked(keys, OLD.kid, publisher).kid == OLD.kid


def test_who_waits_longer_than_a_call_may_take_gives_up(publisher: Publisher) -> None:
    keys = bank_keys(deadline=1.0, per_try=1.0)
    endless = keys.with_keys(needs(OLD.kid), NOW)
    next(endless)
    with pytest.raises(BankUnavailable) as caught:
        asked(keys, OLD.kid, publisher)
    assert caught.value.reason == "keys_unavailable"
    assert publisher.asked == []


def _as_request(step: object) -> Request:
    assert isinstance(step, Request)
    return step
