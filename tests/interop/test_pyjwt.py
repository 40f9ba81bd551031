"""Statements between us and PyJWT, in both directions."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deposit_token_sdk.signing import jws
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey

TYP = "deposit-settlement+jws"
PAYLOAD = b'{"units":"14100"}'
ALL = frozenset(Algorithm)
KEYS = {algorithm: SigningKey.generate(algorithm, f"{algorithm.value}-1") for algorithm in Algorithm}
OURS = KeySet(tuple(key.verification_key(purpose="statement") for key in KEYS.values()))
OTHERS = [Algorithm.ES256, Algorithm.PS256, Algorithm.RS256]


def public_pem(algorithm: Algorithm) -> bytes:
    public = KEYS[algorithm].verification_key().public_key
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", OTHERS)
def test_pyjwt_verifies_what_we_sign(algorithm: Algorithm) -> None:
    token = jws.sign(PAYLOAD, KEYS[algorithm], TYP)
    read = jwt.PyJWS().decode_complete(token, public_pem(algorithm), algorithms=[algorithm.value])
    assert (read["payload"], read["header"]["typ"]) == (PAYLOAD, TYP)
    header, _, signature = token.split(".")
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.PyJWS().decode(f"{header}.e30.{signature}", public_pem(algorithm), algorithms=[algorithm.value])


@pytest.mark.parametrize(
    ("algorithm", "name"), [(Algorithm.ED25519, "EdDSA"), *((each, each.value) for each in OTHERS)]
)
def test_we_verify_what_pyjwt_signs_ed25519_under_its_older_name(algorithm: Algorithm, name: str) -> None:
    headers = {"kid": f"{algorithm.value}-1", "typ": TYP}
    token = jwt.PyJWS().encode(PAYLOAD, KEYS[algorithm].to_pem(), algorithm=name, headers=headers)
    assert jws.verify(token, OURS, typ=TYP, algorithms=ALL).payload == PAYLOAD


@pytest.mark.parametrize("algorithm", OTHERS)
def test_pyjwt_verifies_our_detached_unencoded_payload(algorithm: Algorithm) -> None:
    body = "raw.bytes, not base64url: é".encode()
    token = jws.sign_detached(body, KEYS[algorithm], TYP)
    peer, allowed = jwt.PyJWS(), [algorithm.value]
    assert peer.decode(token, public_pem(algorithm), algorithms=allowed, detached_payload=body) == body
    with pytest.raises(jwt.InvalidSignatureError):
        peer.decode(token, public_pem(algorithm), algorithms=allowed, detached_payload=body + b" ")


@pytest.mark.parametrize(
    ("algorithm", "name"), [(Algorithm.ED25519, "EdDSA"), *((each, each.value) for each in OTHERS)]
)
@pytest.mark.parametrize("typ", [TYP, None])
def test_we_verify_pyjwts_detached_unencoded_payload(algorithm: Algorithm, name: str, typ: str | None) -> None:
    body = "raw.bytes, not base64url: é".encode()
    headers = {"kid": f"{algorithm.value}-1", "typ": typ}
    token = jwt.PyJWS().encode(
        body, KEYS[algorithm].to_pem(), algorithm=name, headers=headers, is_payload_detached=True
    )
    assert jws.verify_detached(token, body, OURS, typ=typ, algorithms=ALL).payload == body


@pytest.mark.parametrize("algorithm", OTHERS)
def test_pyjwt_reads_our_jwk(algorithm: Algorithm) -> None:
    token = jws.sign(PAYLOAD, KEYS[algorithm], TYP)
    key = jwt.PyJWK.from_dict(KEYS[algorithm].verification_key().jwk())
    assert jwt.PyJWS().decode(token, key, algorithms=[algorithm.value]) == PAYLOAD
