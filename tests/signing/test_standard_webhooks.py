from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deposit_token_sdk.errors import ConfigurationError, InvalidInput, InvalidType, NotGenuine
from deposit_token_sdk.signing import diagnosis
from deposit_token_sdk.signing.base64url import encode_standard
from deposit_token_sdk.signing.standard_webhooks import Kind, Verifier, WebhookKey, WebhookSigner

NOW = 1_790_000_000
BODY = '{"type":"invoice.settled","data":{"reference":"A1","price":23.5,"buyer":"Zoë"}}'.encode()
BANK, _ = WebhookSigner.generate()
NEXT, _ = WebhookSigner.generate()
SECRET = f"whsec_{encode_standard(bytes(range(32)))}"
SHARED = WebhookSigner(SECRET)


def headers_of(signer: WebhookSigner = BANK, body: bytes = BODY, msg_id: str = "msg_1") -> dict[str, str]:
    return signer.sign(msg_id, NOW, body)


def refused(
    headers: Mapping[str, str],
    body: bytes = BODY,
    *,
    keys: tuple[str, ...] = (BANK.public_text,),
    now: float = NOW,
    other_keys: Mapping[str, str] | None = None,
) -> NotGenuine:
    with pytest.raises(NotGenuine) as error:
        Verifier(keys, other_keys=other_keys).verify(headers, body, now=now)
    return error.value


@settings(deadline=None)
@given(st.binary(max_size=100), st.integers(1, 10**10))
def test_whatever_is_signed_verifies_with_either_kind_of_key(body: bytes, timestamp: int) -> None:
    for signer, key in ((BANK, BANK.public_text), (SHARED, SECRET)):
        assert Verifier([key]).verify(signer.sign("msg_1", timestamp, body), body, now=timestamp) == "msg_1"


def test_header_names_may_be_in_any_case_and_others_are_ignored() -> None:
    named = {name.title(): value for name, value in headers_of().items()}
    assert Verifier([BANK.public_text]).verify({"Host": "x", **named, "X-Other": "a,b"}, BODY, now=NOW) == "msg_1"


def test_while_a_key_rotates_either_of_two_signatures_and_either_of_two_keys_will_do() -> None:
    headers = headers_of()
    headers["webhook-signature"] += " " + NEXT.signature("msg_1", NOW, BODY) + " v2,QQ=="
    for keys in ([BANK.public_text], [NEXT.public_text], [SECRET, NEXT.public_text, BANK.public_text]):
        assert Verifier(keys).verify(headers, BODY, now=NOW) == "msg_1"


def test_the_key_that_last_fitted_is_tried_first() -> None:
    tried: list[str] = []

    def spy(signer: WebhookSigner, label: str) -> WebhookKey:
        genuine = WebhookKey.from_text(signer.public_text)

        def fits(signature: bytes, message: bytes) -> bool:
            tried.append(label)
            return genuine.fits(signature, message)

        return WebhookKey(Kind.ED25519, fits, label)

    verifier = Verifier([spy(NEXT, "next"), spy(BANK, "bank")])
    verifier.verify(headers_of(), BODY, now=NOW)
    verifier.verify(headers_of(), BODY, now=NOW)
    assert tried == ["next", "bank", "bank"]
    verifier.verify(headers_of(NEXT), BODY, now=NOW)
    verifier.verify(headers_of(NEXT), BODY, now=NOW)
    assert tried == ["next", "bank", "bank", "bank", "next", "next"]


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_stripped_or_empty_is_named(name: str) -> None:
    headers = headers_of()
    for changed in ({**headers, name: ""}, {other: headers[other] for other in headers if other != name}):
        error = refused(changed)
        assert error.reason == "header_missing"
        assert name in str(error)
        assert error.hint is not None
        assert "stripped" in error.hint


class Repeated(dict[str, str]):
    """What a framework hands over that keeps repeated headers apart."""

    def items(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]
        for name, value in super().items():
            yield name, value
            yield name.title(), value


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_repeated_header_is_refused_apart_or_merged(name: str) -> None:
    headers = headers_of()
    assert refused(Repeated(headers)).reason == "header_malformed"
    for comma in (",", ", "):
        error = refused({**headers, name: headers[name] + comma + headers[name]})
        assert (error.reason, name in str(error)) == ("header_malformed", True)


@pytest.mark.parametrize("msg_id", ["msg,1", "msg.1", "msg 1", "msg\n1", "mßg", " msg", "m" * 256])
def test_an_id_with_a_comma_a_dot_or_worse_is_refused(msg_id: str) -> None:
    assert refused({**headers_of(), "webhook-id": msg_id}).reason == "header_malformed"
    with pytest.raises(InvalidInput):
        BANK.sign(msg_id, NOW, BODY)


def test_parts_cannot_be_moved_between_id_and_time() -> None:
    headers = BANK.sign("msg_1", 17, b"90000000." + BODY)
    moved = {**headers, "webhook-id": "msg_1.17", "webhook-timestamp": "90000000"}
    assert refused(moved, now=90000000).reason == "header_malformed"


@pytest.mark.parametrize(
    "timestamp", ["1790000000.0", "-1", "+1790000000", " 1790000000", "0", "01", "1e9", "١", "9" * 12]
)
def test_a_time_that_is_not_digits_is_refused(timestamp: str) -> None:
    assert refused({**headers_of(), "webhook-timestamp": timestamp}).reason == "header_malformed"


@pytest.mark.parametrize(
    "signature",
    [
        "v1a",
        "v1a,",
        ",QQ==",
        "v1a,QQ",
        "v1a,QR==",
        "v1a,Q-_=",
        "v1a,QQ==  v1a,QQ==",
        "V1A,QQ==",
        "v1a, QQ==",
        "v1a;QQ==",
    ],
)
def test_a_malformed_or_not_canonical_signature_is_refused(signature: str) -> None:
    assert refused({**headers_of(), "webhook-signature": signature}).reason == "header_malformed"


def test_signatures_without_end_are_refused_unverified() -> None:
    many = " ".join(["v1a,QQ=="] * 9)
    assert refused({**headers_of(), "webhook-signature": many}).reason == "header_malformed"


def test_a_version_that_none_of_our_keys_is_for_is_told() -> None:
    error = refused(headers_of(SHARED))
    assert error.reason == "no_known_signature_version"
    assert "v1" in str(error)
    assert refused(headers_of(), keys=(SECRET,)).reason == "no_known_signature_version"
    assert refused({**headers_of(), "webhook-signature": "v2,QQ=="}).reason == "no_known_signature_version"


def test_hmac_with_the_public_key_as_secret_never_fits() -> None:
    public_bytes = BANK.public_text.removeprefix("whpk_")
    forged = WebhookSigner(f"whsec_{public_bytes}").sign("msg_1", NOW, BODY)
    assert refused(forged).reason == "no_known_signature_version"
    relabelled = {**forged, "webhook-signature": forged["webhook-signature"].replace("v1,", "v1a,")}
    assert refused(relabelled).reason == "signature_mismatch"


def test_a_signature_fits_only_keys_of_the_version_it_is_announced_with() -> None:
    headers = headers_of(SHARED)
    relabelled = {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v1a,")}
    assert refused(relabelled, keys=(SECRET, BANK.public_text)).reason == "signature_mismatch"
    assert Verifier([SECRET, BANK.public_text]).verify(headers, BODY, now=NOW) == "msg_1"


@pytest.mark.parametrize(
    ("offset", "reason", "said"),
    [
        (420, "too_old", "420 s before our time (300 s are allowed)"),
        (-420, "in_the_future", "our clock is behind the signer's by at least 420 s"),
    ],
)
def test_a_clock_that_is_off_is_told_by_how_much_and_in_which_direction(offset: int, reason: str, said: str) -> None:
    error = refused(headers_of(), now=NOW + offset)
    assert error.reason == reason
    assert said in str(error)
    for within in (-300, 300):
        assert Verifier([BANK.public_text]).verify(headers_of(), BODY, now=NOW + within)
    assert Verifier([BANK.public_text], tolerance=500).verify(headers_of(), BODY, now=NOW + offset)


@settings(deadline=None)
@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_one_changed_byte_is_refused(place: int, change: int) -> None:
    changed = BODY[:place] + bytes([BODY[place] ^ change]) + BODY[place + 1 :]
    assert refused(headers_of(), changed).reason == "signature_mismatch"


def test_a_changed_id_or_time_is_refused() -> None:
    for name, value in (("webhook-id", "msg_2"), ("webhook-timestamp", str(NOW + 1))):
        error = refused({**headers_of(), name: value})
        assert (error.reason, error.hint) == ("signature_mismatch", None)


SPELLINGS: dict[str, bytes] = {
    "compact": json.dumps(json.loads(BODY), separators=(",", ":"), ensure_ascii=False).encode(),
    "compact, escaped": json.dumps(json.loads(BODY), separators=(",", ":")).encode(),
    "spaced": json.dumps(json.loads(BODY)).encode(),
    "spaced, unescaped": json.dumps(json.loads(BODY), ensure_ascii=False).encode(),
    "indented": json.dumps(json.loads(BODY), indent=2).encode(),
    "sorted": json.dumps(json.loads(BODY), sort_keys=True).encode(),
    "sorted and indented": json.dumps(json.loads(BODY), sort_keys=True, indent=2).encode(),
}


@pytest.mark.parametrize("sent", SPELLINGS)
@pytest.mark.parametrize("arrived", SPELLINGS)
def test_a_body_that_was_parsed_and_written_anew_is_told_unless_its_order_is_lost(sent: str, arrived: str) -> None:
    for signer, key in ((BANK, BANK.public_text), (SHARED, SECRET)):
        headers = headers_of(signer, SPELLINGS[sent])
        if sent == arrived:
            assert Verifier([key]).verify(headers, SPELLINGS[arrived], now=NOW)
            continue
        order_is_lost = "sorted" in arrived and "sorted" not in sent
        error = refused(headers, SPELLINGS[arrived], keys=(key,))
        assert error.reason == "signature_mismatch"
        assert error.hint == (None if order_is_lost else diagnosis.RESERIALISED)


@pytest.mark.parametrize("body", [BODY.decode(), json.loads(BODY), None])
def test_a_body_that_is_not_raw_bytes_is_a_type_error(body: Any) -> None:
    with pytest.raises(InvalidType) as error:
        Verifier([BANK.public_text]).verify(headers_of(), body, now=NOW)
    assert error.value.reason == "body_type"


def test_an_empty_body_is_told() -> None:
    error = refused(headers_of(), b"")
    assert (error.reason, error.hint) == ("signature_mismatch", diagnosis.EMPTY_BODY)


def test_the_other_modes_key_and_our_own_are_told_and_never_accepted() -> None:
    own = WebhookSigner.generate()[0]
    others = {"the key of mode live": NEXT.public_text, "this shop's own key": own.public_text}
    for signer, label in ((NEXT, "the key of mode live"), (own, "this shop's own key")):
        error = refused(headers_of(signer), other_keys=others)
        assert error.reason == "signature_mismatch"
        assert error.hint is not None
        assert label in error.hint
    error = refused(headers_of(SHARED), other_keys={"the key of mode live": SECRET})
    assert error.reason == "no_known_signature_version"
    assert error.hint is not None
    assert "mode live" in error.hint
    assert refused(headers_of(WebhookSigner.generate()[0]), other_keys=others).hint is None


def test_rubbish_costs_a_bounded_number_of_attempts_at_a_diagnosis() -> None:
    calls = 0

    def fits(signature: bytes, message: bytes) -> bool:
        nonlocal calls
        calls += 1
        return False

    verifier = Verifier([WebhookKey(Kind.ED25519, fits), WebhookKey(Kind.ED25519, fits, "other")])
    headers = {**headers_of(), "webhook-signature": " ".join(["v1a,QQ=="] * 8)}
    with pytest.raises(NotGenuine):
        verifier.verify(headers, BODY, now=NOW)
    assert calls <= 2 * 8 + 2 * 12
    assert list(diagnosis.other_spellings(b'"' + b"x" * diagnosis.MAX_BODY + b'"')) == []
    assert list(diagnosis.other_spellings(b"[" * 60000)) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whpk_",
        "whpk_QQ==",
        "whpk_not-base64",
        pytest.param(BANK.public_text.rstrip("="), id="unpadded"),
        pytest.param(BANK.public_text.removeprefix("whpk_"), id="without its prefix"),
        "whsec_QQ==",
        f"whsk_{encode_standard(bytes(32))}",
    ],
)
def test_a_key_that_is_not_one_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Verifier([text])
    assert error.value.reason == "bad_webhook_key"
    assert len(text) < 6 or text[5:] not in str(error.value)


def test_a_verifier_needs_a_key_and_a_signer_a_private_one() -> None:
    with pytest.raises(ConfigurationError):
        Verifier([])
    for text in (BANK.public_text, f"whsk_{encode_standard(bytes(31))}", "whsk_QQ", "other"):
        with pytest.raises(ConfigurationError):
            WebhookSigner(text)
    with pytest.raises(InvalidInput):
        _ = SHARED.public_text


def test_keys_show_nothing_of_themselves_and_are_not_pickled() -> None:
    signer, text = WebhookSigner.generate()
    for keeper in (signer, SHARED, WebhookKey.from_text(SECRET, "live"), WebhookKey.from_text(signer.public_text)):
        shown = repr(keeper)
        assert text[5:20] not in shown
        assert SECRET[6:20] not in shown
        assert "0x" not in shown
        for attempt in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError):
                attempt(keeper)
    assert WebhookSigner(text).public_text == signer.public_text


def test_an_ed25519_signature_is_announced_as_v1a_and_deterministic() -> None:
    signer, text = WebhookSigner.generate()
    signature = signer.signature("msg_1", NOW, BODY)
    assert signature.startswith("v1a,")
    key = WebhookKey.from_text(signer.public_text)
    assert key.kind is Kind.ED25519
    assert WebhookSigner(text).signature("msg_1", NOW, BODY) == signature
