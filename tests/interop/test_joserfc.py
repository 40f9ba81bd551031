"""Statements between us and joserfc, in both directions."""

from __future__ import annotations

import pytest
from joserfc import jwk
from joserfc import jws as peer
from joserfc.errors import BadSignatureError, SecurityWarning

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.signing import jws
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey, VerificationKey

TYP = "deposit-settlement+jws"
PAYLOAD = '{"units":"14100","note":"Zoë"}'.encode()
ALL = frozenset(Algorithm)
NAMES = [algorithm.value for algorithm in Algorithm]
KEYS = {algorithm: SigningKey.generate(algorithm, f"{algorithm.value}-1") for algorithm in Algorithm}
OURS = KeySet(tuple(key.verification_key(purpose="statement") for key in KEYS.values()))
THEIRS = jwk.KeySet.import_key_set(OURS.jwks())  # type: ignore[arg-type]


def theirs(algorithm: Algorithm) -> jwk.OKPKey | jwk.ECKey | jwk.RSAKey:
    pem = KEYS[algorithm].to_pem()
    if algorithm is Algorithm.ED25519:
        return jwk.OKPKey.import_key(pem)
    return jwk.ECKey.import_key(pem) if algorithm is Algorithm.ES256 else jwk.RSAKey.import_key(pem)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_joserfc_verifies_what_we_sign_by_our_jwks(algorithm: Algorithm) -> None:
    token = jws.sign(PAYLOAD, KEYS[algorithm], TYP)
    read = peer.deserialize_compact(token, THEIRS, algorithms=NAMES)
    assert (read.payload, read.headers()["typ"]) == (PAYLOAD, TYP)
    header, _, signature = token.split(".")
    with pytest.raises(BadSignatureError):
        peer.deserialize_compact(f"{header}.e30.{signature}", THEIRS, algorithms=NAMES)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_we_verify_what_joserfc_signs(algorithm: Algorithm) -> None:
    private = theirs(algorithm)
    header = {"alg": algorithm.value, "kid": f"{algorithm.value}-1", "typ": TYP}
    token = peer.serialize_compact(header, PAYLOAD, private, algorithms=NAMES)
    assert jws.verify(token, OURS, typ=TYP, algorithms=ALL).payload == PAYLOAD


def test_we_verify_what_joserfc_signs_under_the_older_name_of_ed25519() -> None:
    private = theirs(Algorithm.ED25519)
    header = {"alg": "EdDSA", "kid": "Ed25519-1", "typ": TYP}
    with pytest.warns(SecurityWarning):
        token = peer.serialize_compact(header, PAYLOAD, private, algorithms=["EdDSA"])
    assert jws.verify(token, OURS, typ=TYP).key.algorithm is Algorithm.ED25519


@pytest.mark.parametrize("algorithm", [Algorithm.ED25519, Algorithm.ES256])
def test_detached_unencoded_payloads_go_both_ways(algorithm: Algorithm) -> None:
    token = jws.sign_detached(PAYLOAD, KEYS[algorithm])
    assert peer.deserialize_compact(token, THEIRS, algorithms=NAMES, payload=PAYLOAD).payload == PAYLOAD
    private = theirs(algorithm)
    header = {"alg": algorithm.value, "kid": f"{algorithm.value}-1", "b64": False, "crit": ["b64"]}
    token = peer.serialize_compact(header, PAYLOAD, private, algorithms=NAMES)
    assert jws.verify_detached(token, PAYLOAD, OURS).payload == PAYLOAD


def test_joserfc_attaches_a_short_unencoded_payload_and_we_refuse_it() -> None:
    private = theirs(Algorithm.ES256)
    header = {"alg": "ES256", "kid": "ES256-1", "b64": False, "crit": ["b64"]}
    token = peer.serialize_compact(header, b"abc", private, algorithms=NAMES)
    with pytest.raises(NotGenuine) as refused:
        jws.verify_detached(token, b"abc", OURS)
    assert refused.value.reason == "attached_payload"


@pytest.mark.parametrize("algorithm", Algorithm)
def test_we_read_joserfc_public_jwks_and_agree_on_the_thumbprint(algorithm: Algorithm) -> None:
    private = theirs(algorithm)
    key = VerificationKey.from_jwk({**private.as_dict(private=False), "alg": algorithm.value, "use": "sig"})
    assert key.thumbprint() == private.thumbprint() == KEYS[algorithm].verification_key().thumbprint()
