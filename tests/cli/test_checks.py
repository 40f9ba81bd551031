"""What doctor makes of settings, clocks, keys and answers: pure, one row a case."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from deposit_token_sdk.checkout.health import Health, LastEvent, Problem
from deposit_token_sdk.cli import checks, findings, webhook_advice
from deposit_token_sdk.cli.findings import Finding, State
from deposit_token_sdk.errors import BankUnavailable, NotGenuine
from deposit_token_sdk.models import WebhookTest
from deposit_token_sdk.settings import Settings
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
STATEMENT = SigningKey.generate(Algorithm.ES256, "statement-1")
ANSWER = SigningKey.generate(Algorithm.ED25519, "answer-1")


def states(found: list[Finding]) -> list[str]:
    return [each.state.value for each in found]


# -- settings ------------------------------------------------------------------------------------------------------


def given(**changes: str) -> Settings:
    values = {
        "BANK": "sandbox-bank",
        "URL": "https://bank.example",
        "MERCHANT": "demo-shop",
        "MODE": "test",
        "SIGNING_KEY": STATEMENT.to_pem().decode(),
        "SIGNING_KEY_ID": "demo-shop-1",
        "WEBHOOK_KEYS": "whpk_a",
    }
    return Settings.from_env({f"DEPOSIT_TOKEN_{name}": value for name, value in {**values, **changes}.items()})


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        ({}, ["ok"], "sandbox-bank at https://bank.example"),
        ({"SIGNING_KEY": ""}, ["FAIL"], "DEPOSIT_TOKEN_SIGNING_KEY_FILE is not set"),
        ({"SIGNING_KEY": "", "SIGNING_KEY_ID": ""}, ["FAIL"], "SIGNING_KEY_FILE and DEPOSIT_TOKEN_SIGNING_KEY_ID"),
        ({"SIGNING_KEY": "", "MESSAGE_SIGNATURES": "off"}, ["ok"], ""),
        ({"WEBHOOK_KEYS": ""}, ["ok", "FAIL"], "no webhook can be verified"),
        ({"OTHER_WEBHOOK_KEYS": "whpk_b whpk_a"}, ["ok", "FAIL"], "for this mode and for the other"),
        ({"MODE": "live", "URL": "http://127.0.0.1:1"}, ["ok", "warn"], "Live mode over plain http"),
    ],
)
def test_settings_that_lack_or_contradict_something_are_named(
    changes: dict[str, str], expected: list[str], said: str
) -> None:
    found = list(checks.settings(given(**changes)))
    assert states(found) == expected
    assert said in " ".join(each.said for each in found)


@pytest.mark.parametrize(
    ("mode", "age", "state"),
    [(0o100600, 1, "ok"), (0o100600, 400, "warn"), (0o100640, 1, "FAIL"), (0o100604, 400, "FAIL")],
)
def test_the_shops_own_key_is_for_its_owner_and_not_forever(mode: int, age: int, state: str) -> None:
    (found,) = checks.signing_key(given(), "key.pem", NOW - timedelta(days=age), mode, NOW)
    assert found.state == state


# -- clocks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "state", "said"),
    [
        (None, "skip", "says no time"),
        (-1.4, "ok", "within 2 seconds"),
        (20.0, "ok", "20 seconds ahead of ours"),
        (200.0, "warn", "200 seconds ahead of ours"),
        (-200.0, "warn", "200 seconds behind ours"),
    ],
)
def test_a_clock_that_is_off_is_told_by_how_much_and_in_which_direction(
    offset: float | None, state: str, said: str
) -> None:
    found = checks.clocks(offset)
    assert found.state == state
    assert said in found.said


@pytest.mark.parametrize(
    ("headers", "offset"),
    [
        ({"signature-input": 'sig1=("@status");created=1700000100;keyid="k";alg="ed25519"'}, 100.0),
        ({"signature-input": 'sig1=("@status");keyid="k";created=1700000100'}, 100.0),
        ({"signature-input": "sig1=()", "date": "Tue, 14 Nov 2023 22:13:30 GMT"}, 10.0),
        ({"date": "Tue, 14 Nov 2023 22:13:10 GMT"}, -10.0),
        ({"date": "soon"}, None),
        ({}, None),
    ],
)
def test_the_banks_time_is_its_signatures_or_else_its_date(headers: dict[str, str], offset: float | None) -> None:
    assert checks.offset(headers, 1_700_000_000.0) == offset


# -- keys ----------------------------------------------------------------------------------------------------------


def key_set(**statement: Any) -> KeySet:
    return KeySet(
        (
            STATEMENT.verification_key(purpose="statement", **statement),
            ANSWER.verification_key(purpose="answer"),
        )
    )


@pytest.mark.parametrize(
    ("keys", "pinned", "mode", "expected", "said"),
    [
        (key_set(), frozenset(), "test", ["ok"], "statement statement-1 (ES256), answer answer-1 (Ed25519)"),
        (key_set(), frozenset(), "live", ["ok", "warn"], "not pinned"),
        (key_set(), None, "live", ["ok"], "answer-1"),
        (key_set(), frozenset({"x"}), "live", ["ok", "ok"], "only these keys are believed"),
        (key_set(revoked=True), frozenset(), "test", ["FAIL"], "for statements (0 retired, 1 revoked)"),
        (key_set(retired_at=NOW - timedelta(days=1)), frozenset(), "test", ["FAIL"], "(1 retired, 0 revoked)"),
        (key_set(retired_at=NOW + timedelta(days=9)), frozenset(), "test", ["ok", "ok"], "retires in 9 days"),
    ],
)
def test_the_banks_keys_are_told_by_purpose_state_and_pinning(
    keys: KeySet, pinned: frozenset[str] | None, mode: str, expected: list[str], said: str
) -> None:
    found = list(checks.bank_keys(keys, pinned, mode, NOW))
    assert states(found) == expected
    assert said in " ".join(each.said for each in found)


@pytest.mark.parametrize(("days", "state"), [(1, "ok"), (31, "warn")])
def test_a_file_of_the_banks_keys_grows_old(days: int, state: str) -> None:
    assert checks.keys_file("jwks.json", NOW - timedelta(days=days), NOW).state == state


def test_why_the_bank_did_not_answer_comes_with_what_to_do() -> None:
    away = checks.unanswered(BankUnavailable("unreachable", "no connection could be made"))
    assert (away.state, "DEPOSIT_TOKEN_URL" in away.todo) == (State.FAIL, True)
    late = checks.unanswered(NotGenuine("too_old", "The signature is too old.", hint="Our clock is ahead."))
    assert (late.said, late.todo) == (
        "The signature is too old. Our clock is ahead. (too_old)",
        "Set this machine's clock by NTP.",
    )
    other = checks.unanswered(NotGenuine("something_else", "?"))
    assert other.todo == "docs/errors.md says what this error means."


# -- health --------------------------------------------------------------------------------------------------------


def test_the_last_webhook_is_told_with_its_age_and_whether_it_was_a_test() -> None:
    figures = Health(
        NOW,
        (
            LastEvent("one", NOW - timedelta(minutes=3)),
            LastEvent("two", NOW - timedelta(days=2), test=True),
            LastEvent("three", None),
        ),
    )
    first, second, third, fine = checks.health(figures)
    assert first.said == "The last webhook of one, an invoice's, came 3 minutes ago."
    assert second.said == "The last webhook of two, a test, came 2 days ago."
    assert (third.state, fine.state) == (State.WARN, State.OK)


def test_each_problem_of_the_shop_is_a_finding_and_only_a_review_is_none_of_the_machines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = (Problem("reviews_open", "One waits.", "Decide."), Problem("outbox_behind", "Ten wait.", "Run a worker."))
    monkeypatch.setattr(Health, "problems", told)
    assert [(each.state.value, each.said, each.todo) for each in checks.health(Health(NOW))] == [
        ("warn", "One waits. (reviews_open)", "Decide."),
        ("FAIL", "Ten wait. (outbox_behind)", "Run a worker."),
    ]


# -- what answered the test event ------------------------------------------------------------------------------------

PLAIN = WebhookTest(
    event="msg_1",
    url="https://shop.example/webhooks/sandbox-bank",
    status=200,
    location=None,
    content_type="text/plain",
    body="test.ping\n",
    milliseconds=12,
    error=None,
    detail="",
)
HTML = "<!DOCTYPE html><title>Hello</title>"


@pytest.mark.parametrize(
    ("changes", "heard", "state", "said"),
    [
        ({}, None, "ok", "in this SDK's words"),
        ({}, True, "ok", "in the shop's database"),
        ({}, False, "FAIL", "Another copy of the shop"),
        ({"body": "taken"}, True, "ok", "in the shop's database"),
        ({"body": "taken", "status": 204}, None, "warn", "not in this SDK's words"),
        ({"body": "taken"}, False, "FAIL", "does not hand the message to `receive`"),
        ({"body": HTML, "content_type": "text/html"}, None, "FAIL", "with an HTML page"),
        ({"body": HTML, "content_type": None}, None, "FAIL", "with an HTML page"),
        ({"body": f"{HTML}<input type=password>"}, None, "FAIL", "with a login page"),
        ({"status": 301, "location": "https://www.shop.example/w"}, None, "FAIL", "Set the final address"),
        ({"status": 308, "location": "/w/"}, None, "FAIL", "a redirect to /w/"),
        ({"status": 302, "location": "/sso/start"}, None, "FAIL", "a redirect to the login page"),
        ({"status": 307}, None, "FAIL", "an address that it does not name"),
        ({"status": 400, "body": "signature_mismatch"}, None, "FAIL", "DEPOSIT_TOKEN_WEBHOOK_KEYS"),
        ({"status": 400, "body": "header_missing\n"}, None, "FAIL", "A proxy strips"),
        ({"status": 400, "body": "too_old"}, None, "FAIL", "NTP"),
        ({"status": 400, "body": "in_the_future"}, None, "FAIL", "NTP"),
        ({"status": 400, "body": "no_known_signature_version"}, None, "FAIL", "whsec_"),
        ({"status": 400, "body": "Bad Request"}, None, "FAIL", "with its body untouched"),
        ({"status": 401}, None, "FAIL", "Exempt the path from the login"),
        ({"status": 403}, None, "FAIL", "CSRF"),
        ({"status": 404, "body": "unknown_issuer"}, None, "FAIL", "end in /sandbox-bank"),
        ({"status": 404, "body": HTML}, None, "FAIL", "Register the route"),
        ({"status": 405}, None, "FAIL", "no POST is taken there"),
        ({"status": 413, "body": "too_large"}, None, "FAIL", "limit on bodies"),
        ({"status": 418}, None, "FAIL", "the request is refused"),
        ({"status": 429}, None, "FAIL", "rate limits"),
        ({"status": 500, "body": "hook failed"}, None, "FAIL", "shop's log"),
        ({"status": 502}, None, "FAIL", "Start the shop"),
        ({"status": 503}, None, "FAIL", "fetch the bank's keys"),
        ({"status": 504}, None, "FAIL", "in vain"),
        ({"status": 599}, None, "FAIL", "it failed"),
        ({"status": None, "error": "refused"}, None, "FAIL", "nothing listens there"),
        ({"status": None, "error": "name_unknown"}, None, "FAIL", "public DNS"),
        ({"status": None, "error": "tls_failed"}, None, "FAIL", "whole chain"),
        ({"status": None, "error": "timed_out"}, None, "FAIL", "firewall"),
        ({"status": None, "error": "broken_off"}, None, "FAIL", "closed without an answer"),
        ({"status": None, "error": "address_unusable"}, None, "FAIL", "no http address"),
        ({"status": None, "error": "something_new", "detail": "x"}, None, "FAIL", "could not be reached (x)"),
    ],
)
def test_each_answer_to_the_test_event_says_what_it_means_and_what_to_do(
    changes: dict[str, Any], heard: bool | None, state: str, said: str
) -> None:
    found = webhook_advice.advice(evolve(PLAIN, **changes), "sandbox-bank", heard=heard)
    assert found.state == state
    assert said in f"{found.said} {found.todo}"
    assert bool(found.todo) == (state != "ok")


def test_a_finding_is_folded_at_spaces_so_that_paths_can_be_copied(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/a-long-path/with-hyphens/that-is-longer-than-a-line-of-the-terminal/key.pem"
    findings.show(findings.fail("own key", f"It is in {path} and so on.", f"chmod 600 {path}"), 60)
    assert sum(path in line for line in capsys.readouterr().out.splitlines()) == 2
