"""Compact JWS by RS256 whose header is prescribed by a bank, and what names the certificate behind the key.

A statement of ours has one fixed header (`jws`); banks prescribe others: J.P. Morgan wants `alg` alone over a request
and `alg` and `kid` over a client assertion. The header that is read must be exactly the one that is expected, so that
a message cannot bring its own key. The key is pinned to RS256 (RFC 7518, section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.x509 import load_pem_x509_certificate

from deposit_token_sdk.errors import ConfigurationError, NotGenuine
from deposit_token_sdk.signing.base64url import decode_url, encode_url
from deposit_token_sdk.signing.keys import Algorithm, SigningKey, VerificationKey
from deposit_token_sdk.signing.strict_json import dumps, parse


def sign_compact(payload: bytes, key: SigningKey, **members: str) -> str:
    """A compact JWS over `payload`; its header is ``alg`` and the `members` named, and no more.

    Raises ConfigurationError (``bad_key``) where the key is not for RS256.
    """
    if key.algorithm is not Algorithm.RS256:
        raise ConfigurationError("bad_key", f"RS256 needs an RSA key; this one is for {key.algorithm.value}.")
    signing_input = f"{encode_url(dumps({'alg': 'RS256', **members}))}.{encode_url(payload)}"
    return f"{signing_input}.{encode_url(key.sign(signing_input.encode('ascii')))}"


def verify_compact(token: str, key: VerificationKey, **members: str) -> bytes:
    """The payload of a compact JWS by this key, its header exactly ``alg`` and `members`.

    Raises NotGenuine (``malformed_jws``, ``header_not_allowed``, ``signature_mismatch``).
    """
    parts = token.split(".")
    try:
        header, payload, signature = (decode_url(part) for part in parts)
    except ValueError:
        raise NotGenuine("malformed_jws", "This is no compact JWS of three base64url parts.") from None
    expected: Mapping[str, Any] = {"alg": "RS256", **members}
    if parse(header) != expected:
        raise NotGenuine("header_not_allowed", f"The JWS header is {header[:120]!r}; exactly {expected} was due.")
    signing_input = token.rpartition(".")[0].encode("ascii")
    if key.algorithm is not Algorithm.RS256 or not key.verify(signature, signing_input):
        raise NotGenuine("signature_mismatch", "The JWS was not made by this key, or was changed on its way.")
    return payload


def certificate_thumbprint(pem: bytes) -> str:
    """SHA-1 thumbprint of a certificate in upper-case hex without colons: a name for it, no protection.

    Raises ConfigurationError (``bad_certificate``).
    """
    try:
        certificate = load_pem_x509_certificate(pem)
    except ValueError:
        raise ConfigurationError(
            "bad_certificate", "This is no certificate in PEM: expected BEGIN CERTIFICATE."
        ) from None
    return certificate.fingerprint(SHA1()).hex().upper()  # noqa: S303 - the bank's name for it
