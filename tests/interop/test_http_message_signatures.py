"""Signed requests and answers between us and http-message-signatures, in both directions and real time.

The peer compares a body with its digest only where the body is handed over to it; we always do.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
from attrs import define
from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, InvalidSignature, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519, HTTPSignatureAlgorithm

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.signing.http_signatures import (
    content_digest,
    sign_answer,
    sign_request,
    verify_answer,
    verify_request,
)
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey

URL = "https://bank.example/invoices?reference=A1&limit=2"
BODY = b'{"reference":"A1"}'
ANSWER = b'{"invoices":[]}'
PEERS: dict[Algorithm, type[HTTPSignatureAlgorithm]] = {
    Algorithm.ED25519: ED25519,
    Algorithm.ES256: ECDSA_P256_SHA256,
}
KEYS = {algorithm: SigningKey.generate(algorithm, f"{algorithm.value}-1") for algorithm in PEERS}
OURS = KeySet(tuple(key.verification_key(purpose="answer") for key in KEYS.values()))
RESOLVER = MappingKeyResolver(
    public_keys={key.kid: key.verification_key().public_key for key in KEYS.values()},
    private_keys={key.kid: key.to_pem() for key in KEYS.values()},
)
REQUEST_COMPONENTS = ("@method", "@target-uri", "content-digest", "content-type", "idempotency-key")
ANSWER_COMPONENTS = ("@status", "content-digest", '"@method";req', '"@target-uri";req', '"signature";req')


@define
class PeerRequest:
    """A request as the peer wants it."""

    headers: dict[str, str]
    method: str = "POST"
    url: str = URL


@define
class PeerAnswer:
    """An answer as the peer wants it."""

    headers: dict[str, str]
    request: PeerRequest
    status_code: int = 200


def our_request(algorithm: Algorithm) -> PeerRequest:
    headers = {"content-type": "application/json", "idempotency-key": "k-1"}
    added = sign_request("POST", URL, headers, BODY, KEYS[algorithm], created=int(time.time()), nonce="n-1")
    return PeerRequest({**headers, **added})


def peer_verifier(algorithm: Algorithm) -> Any:
    return HTTPMessageVerifier(signature_algorithm=PEERS[algorithm], key_resolver=RESOLVER)


def peer_signer(algorithm: Algorithm) -> Any:
    return HTTPMessageSigner(signature_algorithm=PEERS[algorithm], key_resolver=RESOLVER)


@pytest.mark.parametrize("algorithm", PEERS)
def test_the_peer_verifies_the_requests_that_we_sign(algorithm: Algorithm) -> None:
    request = our_request(algorithm)
    (result,) = peer_verifier(algorithm).verify(request, body=BODY)
    assert tuple(name.strip('"') for name in result.covered_components)[:-1] == REQUEST_COMPONENTS
    assert (result.parameters["keyid"], result.nonce) == (f"{algorithm.value}-1", "n-1")
    request.url = URL + "1"
    with pytest.raises(InvalidSignature):
        peer_verifier(algorithm).verify(request)


@pytest.mark.parametrize("algorithm", PEERS)
def test_we_verify_the_requests_that_the_peer_signs_and_compare_body_and_digest(algorithm: Algorithm) -> None:
    request = PeerRequest({"Content-Type": "application/json", "Idempotency-Key": "k-1"})
    peer_signer(algorithm).sign(
        request, key_id=f"{algorithm.value}-1", nonce="n-1", covered_component_ids=REQUEST_COMPONENTS, body=BODY
    )
    assert request.headers["Content-Digest"] == content_digest(BODY)
    assert verify_request("POST", URL, request.headers, BODY, OURS, now=time.time()).algorithm is algorithm
    assert peer_verifier(algorithm).verify(request)
    with pytest.raises(NotGenuine) as refused:
        verify_request("POST", URL, request.headers, BODY + b" ", OURS, now=time.time())
    assert refused.value.reason == "digest_mismatch"


@pytest.mark.parametrize("algorithm", PEERS)
def test_the_peer_verifies_the_answers_that_we_sign(algorithm: Algorithm) -> None:
    request = our_request(algorithm)
    headers = {"content-type": "application/json"}
    added = sign_answer(200, headers, ANSWER, "POST", URL, request.headers, KEYS[algorithm], created=int(time.time()))
    answer = PeerAnswer({**headers, **added}, request)
    (result,) = peer_verifier(algorithm).verify(answer, body=ANSWER, require_components=ANSWER_COMPONENTS)
    assert result.parameters["keyid"] == f"{algorithm.value}-1"
    answer.request = our_request(Algorithm.ES256)
    with pytest.raises(InvalidSignature):
        peer_verifier(algorithm).verify(answer)


@pytest.mark.parametrize("algorithm", PEERS)
def test_we_verify_the_answers_that_the_peer_signs(algorithm: Algorithm) -> None:
    request = our_request(algorithm)
    answer = PeerAnswer({"Content-Type": "application/json"}, request)
    kid = f"{algorithm.value}-1"
    peer_signer(algorithm).sign(answer, key_id=kid, covered_component_ids=ANSWER_COMPONENTS, body=ANSWER)
    asked = {"request_method": "POST", "request_url": URL, "request_headers": request.headers}
    key = verify_answer(200, answer.headers, ANSWER, keys=OURS, now=time.time(), **asked)  # type: ignore[arg-type]
    assert key.kid == kid
    asked["request_headers"] = our_request(Algorithm.ES256).headers
    with pytest.raises(NotGenuine) as refused:
        verify_answer(200, answer.headers, ANSWER, keys=OURS, now=time.time(), **asked)  # type: ignore[arg-type]
    assert refused.value.reason == "signature_mismatch"
