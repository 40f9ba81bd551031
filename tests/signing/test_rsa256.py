from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from deposit_token_sdk.errors import ConfigurationError, NotGenuine, Unreadable
from deposit_token_sdk.signing import rsa256
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from deposit_token_sdk.signing.rsa256 import Message

PATH = "/ams/api/v1/payments/inquiryPayment"
TIME = "2026-11-24T12:01:01+08:00"
NOW = datetime(2026, 11, 24, 4, 1, 1, tzinfo=UTC).timestamp()
BODY = '{"result":{"resultStatus":"S"},"buyer":"Zoë"}'.encode()
PRIVATE = rsa.generate_private_key(65537, 2048)
PKCS8 = PRIVATE.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
SPKI = PRIVATE.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
KEY = rsa256.signing_key(base64.b64encode(PKCS8).decode(), "1")
KEYS = KeySet((KEY.verification_key(),))
MESSAGE = Message(PATH, "SANDBOX_5Y", TIME, BODY)


def by_hand(content: bytes, version: str = "1", comma: str = ",") -> str:
    """The header as Antom's documents describe it, made with pyca/cryptography alone."""
    raw = base64.b64encode(PRIVATE.sign(content, padding.PKCS1v15(), SHA256())).decode()
    return comma.join(["algorithm=RSA256", f"keyVersion={version}", f"signature={quote(raw, safe='')}"])


def refused(signature: str, message: Message = MESSAGE, keys: KeySet = KEYS) -> NotGenuine:
    with pytest.raises(NotGenuine) as error:
        rsa256.verify(message, signature, keys)
    return error.value


def test_the_signed_content_is_method_path_client_time_and_body() -> None:
    assert MESSAGE.content == b"POST " + PATH.encode() + b"\nSANDBOX_5Y." + TIME.encode() + b"." + BODY
    assert rsa256.sign(MESSAGE, KEY) == by_hand(MESSAGE.content)


def test_a_key_that_has_retired_verifies_what_is_dated_before_and_nothing_after() -> None:
    signature, dated = rsa256.sign(MESSAGE, KEY), datetime.fromtimestamp(NOW, UTC)
    retired = KeySet((KEY.verification_key(retired_at=dated),))
    assert refused(signature, keys=retired).reason == "key_retired"
    later = KeySet((KEY.verification_key(retired_at=dated + timedelta(seconds=1)),))
    assert rsa256.verify(MESSAGE, signature, later).kid == "1"


@pytest.mark.parametrize("comma", [",", ", ", ",  "])
def test_spaces_after_commas_are_taken(comma: str) -> None:
    assert rsa256.verify(MESSAGE, by_hand(MESSAGE.content, comma=comma), KEYS) == KEY.verification_key()


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200), st.sampled_from([TIME, "1790000000000", "2026-11-24T04:01:01Z"]))
def test_whatever_is_signed_verifies_and_nothing_else_does(body: bytes, time: str) -> None:
    message = Message(PATH, "C1", time, body)
    signature = rsa256.sign(message, KEY)
    assert rsa256.verify(message, signature, KEYS).kid == "1"
    for other in (
        Message(PATH + "x", "C1", time, body),
        Message(PATH, "C2", time, body),
        Message(PATH, "C1", time + " ", body),
        Message(PATH, "C1", time, body + b" "),
    ):
        assert refused(signature, other).reason == "signature_mismatch"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda text: text.replace("RSA256", "HMAC256"), "algorithm_not_allowed"),
        (lambda text: text.replace("keyVersion=1", "keyVersion=2"), "key_unknown"),
        (lambda text: text.replace("keyVersion=1", "keyVersion="), "header_malformed"),
        (lambda text: text + "," + text, "header_malformed"),
        (lambda text: text.partition(",")[2], "header_malformed"),
        (lambda text: text.replace("signature=", "signature=%3D"), "header_malformed"),
        (lambda text: text.replace("signature=", "signature=%FF"), "header_malformed"),
        (lambda text: text + " ; x", "header_malformed"),
        (lambda _text: "", "header_malformed"),
    ],
)
def test_a_signature_that_is_not_written_as_it_must_be_is_refused(change: object, reason: str) -> None:
    assert callable(change)
    assert refused(change(by_hand(MESSAGE.content))).reason == reason


def test_another_s_key_and_a_key_for_another_algorithm_are_refused() -> None:
    other = KeySet((SigningKey.generate(Algorithm.RS256, "1").verification_key(),))
    assert refused(by_hand(MESSAGE.content), keys=other).reason == "signature_mismatch"
    pss = KeySet((SigningKey.generate(Algorithm.PS256, "1").verification_key(),))
    assert refused(by_hand(MESSAGE.content), keys=pss).reason == "algorithm_not_allowed"
    with pytest.raises(ConfigurationError, match="RSA key") as wrong:
        rsa256.sign(MESSAGE, SigningKey.generate(Algorithm.ED25519, "1"))
    assert wrong.value.reason == "bad_key"


def test_a_body_that_was_parsed_and_written_again_is_named_as_the_cause() -> None:
    written = json.dumps(json.loads(BODY)).encode()
    assert "written anew" in str(refused(by_hand(MESSAGE.content), Message(PATH, "SANDBOX_5Y", TIME, written)).hint)


def test_headers_are_read_in_any_case_and_the_time_is_kept_as_it_stands() -> None:
    headers = {"Client-Id": "SANDBOX_5Y", "Request-Time": TIME, "SIGNATURE": "s", "Other": "x"}
    assert rsa256.read(headers, BODY, path=PATH, time_header=rsa256.REQUEST_TIME) == (MESSAGE, "s")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"client-id": ""}, "header_missing"),
        ({"request-time": ""}, "header_missing"),
        ({"signature": ""}, "header_missing"),
        ({"client-id": "A,A"}, "header_malformed"),
        ({"request-time": f"{TIME},{TIME}"}, "header_malformed"),
        ({"request-time": "yesterday"}, "header_malformed"),
    ],
)
def test_a_header_that_is_missing_or_merged_is_refused(changed: dict[str, str], reason: str) -> None:
    headers = {"client-id": "C1", "request-time": TIME, "signature": "s"} | changed
    with pytest.raises(NotGenuine) as error:
        rsa256.read(headers, BODY, path=PATH, time_header=rsa256.REQUEST_TIME)
    assert error.value.reason == reason


@pytest.mark.parametrize("time", [TIME, f"{NOW:.0f}000"])
def test_a_message_is_fresh_within_the_skew_and_no_longer(time: str) -> None:
    message = Message(PATH, "C1", time, BODY)
    for now in (NOW - 300, NOW, NOW + 300):
        rsa256.require_fresh(message, now=now, skew=300)
    for now, reason in ((NOW - 301, "in_the_future"), (NOW + 301, "too_old")):
        with pytest.raises(NotGenuine) as error:
            rsa256.require_fresh(message, now=now, skew=300)
        assert error.value.reason == reason
        assert "301 s" in str(error.value)


def test_milliseconds_are_exact_and_no_time_is_guessed() -> None:
    assert rsa256.moment("1790000000123") == datetime(2026, 9, 21, 14, 13, 20, 123000, tzinfo=UTC)
    for text in ("2026-13-24T12:01:01Z", "2026-11-24T12:01:01", "12", ""):
        with pytest.raises(Unreadable) as error:
            rsa256.moment(text)
        assert error.value.reason == "bad_value"


def test_keys_are_read_as_antom_s_dashboard_shows_them_as_pem_and_as_a_jwk_set() -> None:
    pem = PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    shown = base64.encodebytes(SPKI).decode()
    for text in (pem, shown, json.dumps(KEYS.jwks())):
        assert rsa256.public_keys(text, "1").keys == KEYS.keys
    assert rsa256.signing_key(KEY.to_pem().decode(), "1") == KEY
    with pytest.raises(ConfigurationError):
        rsa256.public_keys("no key", "1")
