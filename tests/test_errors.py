"""The tree of errors: what a caller can branch on, and what an error never shows."""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import traceback
from collections.abc import Iterator

import pytest

from deposit_token_sdk import errors
from deposit_token_sdk.errors import (
    BankRefused,
    BankUnavailable,
    ConfigurationError,
    DatabaseBusy,
    DepositTokenError,
    InvalidInput,
    InvalidType,
    NotAllowed,
    NotGenuine,
    NotOurs,
    OrderChanged,
    OutcomeUnknown,
    PriceRefused,
    Unreadable,
    Unsupported,
)
from deposit_token_sdk.settings import Secret, Settings
from deposit_token_sdk.signing.keys import Algorithm, SigningKey

ONE_OF_EACH: tuple[DepositTokenError, ...] = (
    DepositTokenError("odd", "Odd."),
    ConfigurationError("setting_missing", "Set it."),
    InvalidInput("too_fine", "Too fine."),
    InvalidType("amount_type", "A float."),
    Unsupported("sandbox-bank", "COLLECT", "This bank collects nothing."),
    NotAllowed("refund_exceeds", "Too much."),
    OrderChanged("order_changed", "Look first."),
    DatabaseBusy("database_busy", "Try again."),
    PriceRefused("due_differs", "Off by one."),
    BankRefused("quote_expired", "Too late.", status=422, request_id="req-1"),
    BankUnavailable("unreachable", "Nobody there.", request_id="req-2"),
    OutcomeUnknown("Ask.", key="k-1", request_id="req-3", reference="r-1"),
    NotGenuine("signature_mismatch", "Forged.", hint="The body was re-serialised."),
    NotOurs("other_merchant", "Somebody else's."),
    Unreadable("missing_field", "No iat.", field="iat"),
)


def classes() -> Iterator[type[DepositTokenError]]:
    for _, found in inspect.getmembers(errors, inspect.isclass):
        if issubclass(found, DepositTokenError):
            yield found


def test_one_of_each_class_is_looked_at_here() -> None:
    assert {type(error) for error in ONE_OF_EACH} == set(classes())


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_every_error_is_caught_by_the_root_and_carries_a_reason_and_a_message(error: DepositTokenError) -> None:
    with pytest.raises(DepositTokenError) as caught:
        raise error
    reason = caught.value.reason
    assert reason
    assert reason == reason.lower()
    assert " " not in reason
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: type(error).__name__)
def test_an_error_crosses_to_another_process_with_all_it_carries(error: DepositTokenError) -> None:
    for crossed in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301  # our own bytes
        assert type(crossed) is type(error)
        assert str(crossed) == str(error)
        assert vars(crossed) == vars(error)


def test_the_tree_is_ordered_by_what_the_caller_can_do() -> None:
    beneath = {found.__name__: found.__bases__ for found in classes() if found.__bases__ != (DepositTokenError,)}
    assert beneath == {
        "DepositTokenError": (Exception,),
        "InvalidInput": (DepositTokenError, ValueError),
        "InvalidType": (DepositTokenError, TypeError),
        "OrderChanged": (NotAllowed,),
    }


def test_the_reasons_that_are_always_the_same_need_not_be_given() -> None:
    by_class = {type(error): error.reason for error in ONE_OF_EACH}
    assert by_class[Unsupported] == "unsupported"
    assert by_class[OutcomeUnknown] == "outcome_unknown"
    assert by_class[BankRefused] == "quote_expired"


def test_a_hint_stands_in_the_message_and_beside_it() -> None:
    error = NotGenuine("signature_mismatch", "It does not fit.", hint="The body is empty.")
    assert str(error) == "It does not fit. The body is empty."
    assert error.hint == "The body is empty."
    assert NotGenuine("signature_mismatch", "It does not fit.").hint is None


# -- secrets ---------------------------------------------------------------------------------------------------

WORD = "hush-4711-hush"


def test_a_secret_shows_in_no_text_made_of_it() -> None:
    secret = Secret(WORD)
    for text in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])):  # noqa: UP031
        assert WORD not in text
    assert secret.reveal() == WORD
    assert secret
    assert not Secret("")


def test_a_secret_is_neither_pickled_nor_copied() -> None:
    secret = Secret(WORD)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(secret, protocol)
    with pytest.raises(TypeError):
        copy.deepcopy(secret)
    assert not hasattr(secret, "__dict__")


def test_a_secret_does_not_show_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings.from_env(environment())
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("shop").warning("settings %s, key %r", settings, settings.signing_key)
    assert "settings Settings(" in caplog.text
    assert WORD not in caplog.text


def test_a_secret_does_not_show_in_a_traceback_even_one_with_locals() -> None:
    settings = Settings.from_env(environment())
    with pytest.raises(ZeroDivisionError) as failed:
        use(settings, settings.webhook_keys[0])
    shown = "".join(traceback.TracebackException.from_exception(failed.value, capture_locals=True).format())
    assert "settings = Settings(" in shown
    assert "Secret(…)" in shown
    assert WORD not in shown


def test_a_bad_setting_is_refused_without_showing_the_secrets_beside_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        Settings.from_env({**environment(), "DEPOSIT_TOKEN_MODE": "dead"})
    assert WORD not in "".join(traceback.format_exception(refused.value))


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    for scheme in ("http", "https"):
        with pytest.raises(ConfigurationError) as refused:
            Settings.from_env({**environment(), "DEPOSIT_TOKEN_URL": f"{scheme}://shop:{WORD}@bank.example"})
        assert refused.value.reason == "setting_invalid"
        assert WORD not in str(refused.value)


def test_settings_are_not_pickled_with_their_secrets() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(Settings.from_env(environment()))


@pytest.mark.parametrize("algorithm", list(Algorithm))
def test_a_signing_key_shows_nothing_of_itself(algorithm: Algorithm) -> None:
    key = SigningKey.generate(algorithm, "merchant-1")
    body = "".join(key.to_pem().decode().splitlines()[1:-1])
    shown = repr(key) + str(key) + f"{[key]}"
    assert "merchant-1" in shown
    assert not any(body[at : at + 16] in shown for at in range(0, len(body) - 16, 16))
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(key)
    with pytest.raises(TypeError):
        copy.copy(key)


def test_a_key_that_cannot_be_read_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        SigningKey.from_pem(f"-----BEGIN PRIVATE KEY-----\n{WORD}\n-----END PRIVATE KEY-----", Algorithm.ED25519)
    assert refused.value.reason == "bad_key"
    assert WORD not in "".join(traceback.format_exception(refused.value))


def use(settings: Settings, key: Secret) -> float:
    return len(settings.webhook_keys) / (len(key.reveal()) * 0)


def environment() -> dict[str, str]:
    return {
        "DEPOSIT_TOKEN_BANK": "sandbox-bank",
        "DEPOSIT_TOKEN_URL": "https://bank.example",
        "DEPOSIT_TOKEN_MERCHANT": "demo-shop",
        "DEPOSIT_TOKEN_MODE": "test",
        "DEPOSIT_TOKEN_SIGNING_KEY": WORD,
        "DEPOSIT_TOKEN_WEBHOOK_KEYS": f"whsec_{WORD} whsec_{WORD}2",
        "DEPOSIT_TOKEN_OTHER_WEBHOOK_KEYS": f"whsec_{WORD}3",
    }
