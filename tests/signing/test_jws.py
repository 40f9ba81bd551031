from __future__ import annotations

import hmac
import json
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.signing import jws
from deposit_token_sdk.signing.base64url import decode_url, encode_url
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey

TYP = "deposit-settlement+jws"
PAYLOAD = b'{"iss":"bank","units":"14100"}'
ALL = frozenset(Algorithm)


def forge(key: SigningKey, header: dict[str, Any] | bytes, payload: bytes = PAYLOAD) -> str:
    """A JWS by a genuine key, under whatever header."""
    written = header if isinstance(header, bytes) else json.dumps(header).encode()
    signing_input = f"{encode_url(written)}.{encode_url(payload)}"
    return f"{signing_input}.{encode_url(key.sign(signing_input.encode()))}"


def refused(token: str, keys: KeySet, **options: Any) -> NotGenuine:
    with pytest.raises(NotGenuine) as error:
        jws.verify(token, keys, **{"typ": TYP, **options})
    return error.value


def test_a_statement_is_signed_under_exactly_three_header_members_and_verifies(
    ed25519: SigningKey, es256: SigningKey, statement_keys: KeySet
) -> None:
    for key in (ed25519, es256):
        token = jws.sign(PAYLOAD, key, TYP)
        header = {"alg": key.algorithm.value, "kid": key.kid, "typ": TYP}
        assert json.loads(decode_url(token.split(".")[0])) == header
        signed = jws.verify(token, statement_keys, typ=TYP)
        assert (signed.payload, signed.header, signed.key.kid) == (PAYLOAD, header, key.kid)
        assert (jws.peek_kid(token), jws.peek_typ(token)) == (key.kid, TYP)


def test_rsa_verifies_only_where_it_is_asked_for(ps256: SigningKey, rs256: SigningKey, statement_keys: KeySet) -> None:
    for key in (ps256, rs256):
        token = jws.sign(PAYLOAD, key, TYP)
        assert jws.verify(token, statement_keys, typ=TYP, algorithms=ALL).payload == PAYLOAD
        assert refused(token, statement_keys).reason == "algorithm_not_allowed"


def test_both_names_of_ed25519_are_read_for_a_key_pinned_to_it(ed25519: SigningKey, statement_keys: KeySet) -> None:
    token = forge(ed25519, {"alg": "EdDSA", "kid": "ed-1", "typ": TYP})
    assert jws.verify(token, statement_keys, typ=TYP).key.algorithm is Algorithm.ED25519


def test_a_caller_who_changes_the_header_it_got_changes_nothing_for_the_next(
    ed25519: SigningKey, statement_keys: KeySet
) -> None:
    token = jws.sign(PAYLOAD, ed25519, TYP)
    jws.verify(token, statement_keys, typ=TYP).header["typ"] = "other"
    assert jws.verify(token, statement_keys, typ=TYP).header["typ"] == TYP


@pytest.mark.parametrize("name", ["none", "None", "nOnE", "", None, 1, ["Ed25519"], {}])
def test_alg_none_in_any_form_is_refused(ed25519: SigningKey, statement_keys: KeySet, name: object) -> None:
    header = {"alg": name, "kid": "ed-1", "typ": TYP}
    assert refused(forge(ed25519, header), statement_keys).reason == "algorithm_not_allowed"
    unsigned = f"{encode_url(json.dumps(header).encode())}.{encode_url(PAYLOAD)}."
    assert refused(unsigned, statement_keys).reason == "malformed_jws"


def test_hmac_with_a_public_key_as_secret_is_refused_in_every_form(es256: SigningKey, statement_keys: KeySet) -> None:
    public = es256.verification_key()
    spki = PublicFormat.SubjectPublicKeyInfo
    for secret in (
        public.public_key.public_bytes(Encoding.PEM, spki),
        public.public_key.public_bytes(Encoding.DER, spki),
        json.dumps(public.jwk()).encode(),
    ):
        header = json.dumps({"alg": "HS256", "kid": "es-1", "typ": TYP}).encode()
        signing_input = f"{encode_url(header)}.{encode_url(PAYLOAD)}"
        token = f"{signing_input}.{encode_url(hmac.digest(secret, signing_input.encode(), sha256))}"
        assert refused(token, statement_keys, algorithms=ALL).reason == "algorithm_not_allowed"


def test_a_signature_from_another_curve_is_refused(statement_keys: KeySet) -> None:
    for curve, algorithm, named, size in (
        (ec.SECP384R1(), SHA384(), "ES384", 48),
        (ec.SECP256K1(), SHA256(), "ES256K", 32),
    ):
        private = ec.generate_private_key(curve)
        for name, reason in ((named, "algorithm_not_allowed"), ("ES256", "signature_mismatch")):
            header = json.dumps({"alg": name, "kid": "es-1", "typ": TYP}).encode()
            signing_input = f"{encode_url(header)}.{encode_url(PAYLOAD)}"
            r, s = decode_dss_signature(private.sign(signing_input.encode(), ec.ECDSA(algorithm)))
            token = f"{signing_input}.{encode_url(r.to_bytes(size) + s.to_bytes(size))}"
            assert refused(token, statement_keys).reason == reason


def test_the_algorithm_is_the_keys_and_not_the_messages(
    ed25519: SigningKey, ps256: SigningKey, statement_keys: KeySet
) -> None:
    for signer, named in ((ed25519, "ES256"), (ps256, "RS256")):
        token = forge(signer, {"alg": named, "kid": signer.kid, "typ": TYP})
        assert refused(token, statement_keys, algorithms=ALL).reason == "algorithm_mismatch"


@pytest.mark.parametrize("crit", [["exp"], ["b64"], [], "exp", None])
def test_crit_is_refused(ed25519: SigningKey, statement_keys: KeySet, crit: object) -> None:
    header = {"alg": "Ed25519", "kid": "ed-1", "typ": TYP, "crit": crit, "exp": 1, "b64": False}
    assert refused(forge(ed25519, header), statement_keys).reason == "crit_unknown"


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c", "x5t", "x5t#S256", "cty", "b64", "KID"])
def test_a_header_that_offers_its_own_key_is_refused(ed25519: SigningKey, statement_keys: KeySet, name: str) -> None:
    tempting: dict[str, object] = {
        "jku": "https://bank.example/jwks.json",
        "x5u": "https://bank.example/cert.pem",
        "jwk": ed25519.verification_key().jwk(),
        "x5c": ["MIIB"],
        "b64": True,
    }
    header = {"alg": "Ed25519", "kid": "ed-1", "typ": TYP, name: tempting.get(name, "x")}
    error = refused(forge(ed25519, header), statement_keys)
    assert error.reason == "header_not_allowed"
    assert name in str(error)


@pytest.mark.parametrize("typ", ["deposit-refund+jws", "JWT", "application/deposit-settlement+jws", None, 1, ...])
def test_another_kind_of_statement_does_not_pass(ed25519: SigningKey, statement_keys: KeySet, typ: object) -> None:
    header = {"alg": "Ed25519", "kid": "ed-1"} | ({} if typ is ... else {"typ": typ})
    assert refused(forge(ed25519, header), statement_keys).reason == "wrong_typ"


def test_a_key_is_refused_when_unknown_missing_revoked_or_for_something_else(
    ed25519: SigningKey, es256: SigningKey
) -> None:
    keys = KeySet((ed25519.verification_key(purpose="answer"), es256.verification_key(revoked=True)))
    assert refused(jws.sign(PAYLOAD, ed25519, TYP), keys).reason == "wrong_key_purpose"
    assert jws.verify(jws.sign(PAYLOAD, ed25519, TYP), keys, typ=TYP, purpose=None).payload == PAYLOAD
    assert refused(jws.sign(PAYLOAD, es256, TYP), keys).reason == "key_revoked"
    stranger = SigningKey.generate(Algorithm.ED25519, "stranger")
    assert refused(jws.sign(PAYLOAD, stranger, TYP), keys).reason == "key_unknown"
    for kid in ("", 1, None):
        assert refused(forge(ed25519, {"alg": "Ed25519", "kid": kid, "typ": TYP}), keys).reason == "key_unknown"


def test_another_key_under_a_known_kid_is_refused(statement_keys: KeySet) -> None:
    impostor = SigningKey.generate(Algorithm.ES256, "es-1")
    assert refused(jws.sign(PAYLOAD, impostor, TYP), statement_keys).reason == "signature_mismatch"


@pytest.mark.parametrize("token", ["", ".", "..", "a.b", "a.b.c.d", "..c", "a.b.", "é.b.c", "a.b.c\u0661"])
def test_what_is_not_three_parts_is_malformed(statement_keys: KeySet, token: str) -> None:
    assert refused(token, statement_keys).reason == "malformed_jws"
    with pytest.raises(NotGenuine):
        jws.peek_kid(token)


@pytest.mark.parametrize(
    "header",
    [
        b'{"alg":"Ed25519","alg":"Ed25519","kid":"ed-1","typ":"deposit-settlement+jws"}',
        b'{"alg":"Ed25519","kid":NaN,"typ":"deposit-settlement+jws"}',
        b'{"alg":"Ed25519","kid":"\xff","typ":"deposit-settlement+jws"}',
        b'["Ed25519"]',
        b"",
        b'{"alg":"Ed25519","kid":"' + b"k" * 3000 + b'"}',
    ],
)
def test_a_header_that_cannot_be_read_strictly_is_malformed(
    ed25519: SigningKey, statement_keys: KeySet, header: bytes
) -> None:
    assert refused(forge(ed25519, header), statement_keys).reason == "malformed_jws"


def test_base64_with_a_second_spelling_is_refused_in_every_part(ed25519: SigningKey, statement_keys: KeySet) -> None:
    header, payload, signature = jws.sign(PAYLOAD + b" ", ed25519, TYP).split(".")
    assert signature[-1] in "AQgw"
    respelt = signature[:-1] + chr(ord(signature[-1]) + 1)
    for token in (
        f"{header}.{payload}.{respelt}",
        f"{header}.{payload}.{signature}==",
        f"{header}.{payload}=.{signature}",
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload}\n.{signature}",
        f"{header} .{payload}.{signature}",
    ):
        assert refused(token, statement_keys).reason == "base64_not_canonical"


@settings(deadline=None)
@given(st.integers(min_value=0), st.sampled_from("ABCxyz019-_"))
def test_no_single_changed_character_verifies(place: int, character: str) -> None:
    key = SigningKey.generate(Algorithm.ED25519, "k")
    keys = KeySet((key.verification_key(purpose="statement"),))
    token = jws.sign(PAYLOAD, key, TYP)
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    if changed != token:
        with pytest.raises(NotGenuine):
            jws.verify(changed, keys, typ=TYP)


def test_one_changed_byte_of_the_payload_is_a_signature_mismatch(es256: SigningKey, statement_keys: KeySet) -> None:
    header, _, signature = jws.sign(PAYLOAD, es256, TYP).split(".")
    changed = PAYLOAD.replace(b"14100", b"14101")
    assert refused(f"{header}.{encode_url(changed)}.{signature}", statement_keys).reason == "signature_mismatch"


def test_a_retired_key_still_verifies_since_only_evidence_knows_when_it_signed(ed25519: SigningKey) -> None:
    keys = KeySet((ed25519.verification_key(purpose="statement", retired_at=datetime(2020, 1, 1, tzinfo=UTC)),))
    assert jws.verify(jws.sign(PAYLOAD, ed25519, TYP), keys, typ=TYP).key.retired_at is not None


BODY = '{"raw": "bytes.with.dots \u00e9"}'.encode()


def detached_refusal(token: str, payload: bytes, keys: KeySet, **options: Any) -> str:
    with pytest.raises(NotGenuine) as error:
        jws.verify_detached(token, payload, keys, **options)
    return error.value.reason


def test_a_detached_signature_verifies_over_the_raw_payload_alone(
    ed25519: SigningKey, es256: SigningKey, statement_keys: KeySet
) -> None:
    for key in (ed25519, es256):
        token = jws.sign_detached(BODY, key, TYP)
        header = {"alg": key.algorithm.value, "b64": False, "crit": ["b64"], "kid": key.kid, "typ": TYP}
        signed = jws.verify_detached(token, BODY, statement_keys, typ=TYP)
        assert (signed.header, signed.payload) == (header, BODY)
        assert jws.peek_kid(token) == key.kid
        assert detached_refusal(token, BODY + b" ", statement_keys, typ=TYP) == "signature_mismatch"
        assert detached_refusal(token, BODY, statement_keys) == "wrong_typ"
        assert refused(token, statement_keys).reason == "crit_unknown"
    assert jws.verify_detached(jws.sign_detached(b"", es256), b"", statement_keys).payload == b""


def test_an_attached_payload_where_a_detached_one_is_due_is_refused(es256: SigningKey, statement_keys: KeySet) -> None:
    header, _, signature = jws.sign_detached(BODY, es256).split(".")
    assert detached_refusal(f"{header}.{encode_url(BODY)}.{signature}", BODY, statement_keys) == "attached_payload"
    assert detached_refusal(jws.sign(BODY, es256, TYP), BODY, statement_keys, typ=TYP) == "attached_payload"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"crit": ["b64", "exp"]}, "crit_unknown"),
        ({"crit": ["b64", "b64"]}, "crit_unknown"),
        ({"crit": []}, "crit_unknown"),
        ({"crit": "b64"}, "crit_unknown"),
        ({"b64": True}, "header_not_allowed"),
        ({"b64": 0}, "header_not_allowed"),
        ({"jwk": {}}, "header_not_allowed"),
        ({"alg": "none"}, "algorithm_not_allowed"),
        ({"alg": "HS256"}, "algorithm_not_allowed"),
        ({"alg": "Ed25519"}, "algorithm_mismatch"),
        ({"kid": "other"}, "key_unknown"),
    ],
)
def test_a_detached_header_says_b64_false_marks_it_critical_and_no_more(
    es256: SigningKey, statement_keys: KeySet, changes: dict[str, Any], reason: str
) -> None:
    header = {"alg": "ES256", "b64": False, "crit": ["b64"], "kid": "es-1", **changes}
    encoded = encode_url(json.dumps(header).encode())
    token = f"{encoded}..{encode_url(es256.sign(jws.detached_input(encoded, BODY)))}"
    assert detached_refusal(token, BODY, statement_keys) == reason


def test_a_detached_signature_over_the_encoded_payload_is_refused(es256: SigningKey, statement_keys: KeySet) -> None:
    header, _, signature = jws.sign(BODY, es256, TYP).split(".")
    assert detached_refusal(f"{header}..{signature}", BODY, statement_keys, typ=TYP) == "crit_unknown"
