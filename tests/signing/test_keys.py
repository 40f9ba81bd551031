from __future__ import annotations

import copy
import gc
import pickle
import weakref
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from deposit_token_sdk.errors import ConfigurationError, NotGenuine, Unreadable
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.base64url import encode_url
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey, VerificationKey

ALL = ["ed25519", "es256", "ps256", "rs256"]
PEM, SPKI, PKCS8 = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo, PrivateFormat.PKCS8


def jwk_of(key: SigningKey, **changes: Any) -> dict[str, Any]:
    members = {**key.verification_key().jwk(), **changes}
    return {name: value for name, value in members.items() if value is not ...}


@pytest.mark.parametrize("name", ALL)
def test_what_a_key_signs_its_public_half_verifies_by_pem_and_by_jwk(name: str, request: pytest.FixtureRequest) -> None:
    key: SigningKey = request.getfixturevalue(name)
    again = SigningKey.from_pem(key.to_pem(), key.algorithm, key.kid)
    signature = again.sign(b"message")
    public = key.verification_key()
    pem = public.public_key.public_bytes(PEM, SPKI)
    for reader in (
        public,
        VerificationKey.from_jwk(public.jwk()),
        VerificationKey.from_pem(pem, key.algorithm),
        VerificationKey.from_pem(pem.decode(), key.algorithm, "mine"),
    ):
        assert reader.verify(signature, b"message")
        assert not reader.verify(signature, b"Message")
        assert not reader.verify(signature[:-1] + bytes([signature[-1] ^ 1]), b"message")
        assert not reader.verify(b"", b"message")
        assert reader.thumbprint() == public.thumbprint()


def test_an_es256_signature_is_r_and_s_and_never_der(es256: SigningKey) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(PEM, PKCS8, NoEncryption())
    key = SigningKey.from_pem(pem, Algorithm.ES256)
    assert len(key.sign(b"m")) == 64
    der = private.sign(b"m", ec.ECDSA(SHA256()))
    assert not key.verification_key().verify(der, b"m")
    signature = key.sign(b"m")
    assert key.verification_key().verify(signature, b"m")
    assert not key.verification_key().verify(signature[:32] + b"\x00" + signature[32:], b"m")
    assert not es256.verification_key().verify(b"\x00" * 64, b"m")
    assert not es256.verification_key().verify(b"\xff" * 64, b"m")


def test_a_key_without_a_kid_is_known_by_its_thumbprint() -> None:
    key = SigningKey.generate(Algorithm.ED25519)
    assert key.kid == key.verification_key().thumbprint()
    assert SigningKey.from_pem(key.to_pem(), Algorithm.ED25519).kid == key.kid


@pytest.mark.parametrize("name", ALL)
def test_a_signing_key_shows_nothing_and_cannot_be_pickled_or_copied(name: str, request: pytest.FixtureRequest) -> None:
    key: SigningKey = request.getfixturevalue(name)
    assert repr(key) == f"SigningKey(kid={key.kid!r}, algorithm={key.algorithm!r})"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled"):
            attempt(key)


def test_a_private_key_is_parsed_once_as_long_as_somebody_holds_it_and_not_kept_longer(rs256: SigningKey) -> None:
    pem = rs256.to_pem()
    assert SigningKey.from_pem(pem, Algorithm.RS256, rs256.kid) is rs256
    assert SigningKey.from_pem(f"\n{pem.decode()}\n", Algorithm.RS256, rs256.kid) is rs256
    other = SigningKey.from_pem(pem, Algorithm.RS256, "another")
    assert other.kid == "another"
    with pytest.raises(ConfigurationError, match="does not fit"):
        SigningKey.from_pem(pem, Algorithm.ES256, rs256.kid)
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None


def test_keys_are_equal_by_material_not_by_kid_alone() -> None:
    one, other = (SigningKey.generate(Algorithm.ED25519, "k") for _ in range(2))
    assert one.verification_key() == one.verification_key()
    assert one.verification_key() != other.verification_key()
    assert one != other
    assert len({one, other, one}) == 2


def test_a_pem_key_must_fit_its_algorithm(es256: SigningKey) -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
    other_curve = ec.generate_private_key(ec.SECP384R1())
    foreign = ed448.Ed448PrivateKey.generate()
    cases: list[tuple[Any, Algorithm, str]] = [
        (small, Algorithm.RS256, "1024 bits"),
        (small, Algorithm.PS256, "1024 bits"),
        (other_curve, Algorithm.ES256, "secp384r1"),
        (foreign, Algorithm.ED25519, "Ed25519"),
        (other_curve, Algorithm.ED25519, "Ed25519"),
        (foreign, Algorithm.ES256, "elliptic"),
        (foreign, Algorithm.RS256, "RSA"),
    ]
    for private, algorithm, said in cases:
        with pytest.raises(ConfigurationError, match=said) as refused:
            SigningKey.from_pem(private.private_bytes(PEM, PKCS8, NoEncryption()), algorithm)
        assert refused.value.reason == "bad_key"
        with pytest.raises(ConfigurationError, match=said):
            VerificationKey.from_pem(private.public_key().public_bytes(PEM, SPKI), algorithm)
    for text in (b"", b"nonsense", es256.to_pem()):
        with pytest.raises(ConfigurationError, match="BEGIN PUBLIC KEY"):
            VerificationKey.from_pem(text, Algorithm.ES256)
    with pytest.raises(ConfigurationError, match="BEGIN PRIVATE KEY"):
        SigningKey.from_pem(b"nonsense", Algorithm.ES256)


@pytest.mark.parametrize(
    "changes",
    [
        {"use": "enc"},
        {"alg": "HS256"},
        {"alg": "none"},
        {"alg": "ES384"},
        {"alg": "Ed25519"},
        {"alg": "RS256"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"crv": "P-384"},
        {"crv": "secp256k1"},
        {"x": "AA"},
        {"x": "A" * 43},
        {"y": "not base64!"},
        {"x": ""},
    ],
)
def test_a_jwk_that_contradicts_itself_or_our_list_is_refused(es256: SigningKey, changes: dict[str, Any]) -> None:
    with pytest.raises(Unreadable) as refused:
        VerificationKey.from_jwk(jwk_of(es256, **changes))
    assert refused.value.reason == "bad_key"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"alg": ...}, "missing_field"),
        ({"use": ...}, "missing_field"),
        ({"x": ...}, "missing_field"),
        ({"kty": 1}, "wrong_type"),
        ({"kid": 1}, "wrong_type"),
        ({"exp": "soon"}, "wrong_type"),
        ({"exp": 10**30}, "bad_value"),
        ({"revoked": "yes"}, "wrong_type"),
        ({"purpose": 1}, "wrong_type"),
    ],
)
def test_a_jwk_with_a_member_missing_or_of_another_type_is_refused(
    es256: SigningKey, changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(Unreadable) as refused:
        VerificationKey.from_jwk(jwk_of(es256, **changes))
    assert refused.value.reason == reason


def test_a_weak_rsa_jwk_is_refused() -> None:
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key().public_numbers()  # noqa: S505
    jwk = {"kty": "RSA", "n": encode_url(numbers.n.to_bytes(128)), "e": "AQAB", "alg": "RS256", "use": "sig"}
    with pytest.raises(Unreadable, match="1024 bits"):
        VerificationKey.from_jwk(jwk)


def test_private_members_of_a_jwk_are_ignored(ed25519: SigningKey) -> None:
    key = VerificationKey.from_jwk(jwk_of(ed25519, d="AAAA"))
    assert "d" not in key.jwk()


def test_a_key_set_survives_its_own_json_with_state_and_purpose(ed25519: SigningKey, es256: SigningKey) -> None:
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    keys = KeySet(
        (
            ed25519.verification_key(purpose="statement", retired_at=moment),
            es256.verification_key(purpose="answer", revoked=True, revoked_at=moment),
        )
    )
    assert KeySet.from_jwks(strict_json.dumps(keys.jwks())) == keys
    assert KeySet.from_jwks(keys.jwks()) == keys
    retired = keys.find("ed-1")
    assert retired is not None
    assert retired.is_retired(moment.timestamp())
    assert not retired.is_retired(moment.timestamp() - 1)


def test_a_key_set_leaves_out_what_it_does_not_know_and_refuses_what_is_broken(es256: SigningKey) -> None:
    known = jwk_of(es256)
    strangers: list[dict[str, Any]] = [
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "use": "sig", "kid": "h"},
        {"kty": "EC", "crv": "P-384", "alg": "ES384", "use": "sig", "kid": "e"},
        {**known, "use": "enc", "kid": "enc"},
        {**known, "alg": ["ES256"], "kid": "list"},
        {**known, "crv": {"a": 1}, "kid": "object"},
        {},
    ]
    assert [key.kid for key in KeySet.from_jwks({"keys": [*strangers, known]}).keys] == ["es-1"]
    for broken, reason in (
        ({"keys": [{**known, "x": "AA"}]}, "bad_key"),
        ({"keys": [known, known]}, "duplicate_kid"),
        ({"keys": [jwk_of(es256, kid=...)]}, "missing_field"),
        ({"keys": "none"}, "wrong_type"),
        ({}, "missing_field"),
    ):
        with pytest.raises(Unreadable) as refused:
            KeySet.from_jwks(broken)
        assert refused.value.reason == reason
    with pytest.raises(Unreadable) as refused:
        KeySet.from_jwks(b'{"keys":[],"keys":[]}')
    assert refused.value.reason == "duplicate_key"


def test_a_key_is_required_by_kid_purpose_and_state(ed25519: SigningKey, es256: SigningKey) -> None:
    keys = KeySet((ed25519.verification_key(purpose="answer"), es256.verification_key(revoked=True)))
    assert keys.require("ed-1", "answer") is keys.require("ed-1", None) is keys.find("ed-1")
    assert keys.find("other") is None
    for kid, purpose, reason in (
        ("ed-1", "statement", "wrong_key_purpose"),
        ("other", None, "key_unknown"),
        ("es-1", None, "key_revoked"),
    ):
        with pytest.raises(NotGenuine) as refused:
            keys.require(kid, purpose)
        assert refused.value.reason == reason


def test_pins_keep_only_the_keys_they_name(ed25519: SigningKey, es256: SigningKey) -> None:
    keys = KeySet((ed25519.verification_key(), es256.verification_key()))
    pinned = keys.pinned([es256.verification_key().thumbprint()])
    assert [key.kid for key in pinned.keys] == ["es-1"]
    assert pinned.find("ed-1") is None
    assert keys.pinned([]).keys == ()
