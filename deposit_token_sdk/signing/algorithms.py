"""The closed list of algorithms, and the mathematics of each over pyca/cryptography.

A public key becomes a checker and a private key a signer once, when the key is read; a checker answers yes or no.
There is no HMAC here, so that a public key can never be taken for a shared secret.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

PublicKey: TypeAlias = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey: TypeAlias = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
Checker: TypeAlias = Callable[[bytes, bytes], bool]
Signer: TypeAlias = Callable[[bytes], bytes]

MIN_RSA_BITS = 2048


class Algorithm(StrEnum):
    """What a key may be used with: one of these, and only one (RFC 8725, section 3.1)."""

    ED25519 = "Ed25519"
    ES256 = "ES256"
    PS256 = "PS256"
    RS256 = "RS256"


def unfit(key: object, algorithm: Algorithm) -> str | None:
    """Why this public or private key cannot be used with `algorithm`; None when it can."""
    if algorithm is Algorithm.ED25519:
        fits = isinstance(key, (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey))
        return None if fits else "the algorithm Ed25519 needs an Ed25519 key"
    if algorithm is Algorithm.ES256:
        if not isinstance(key, (ec.EllipticCurvePublicKey, ec.EllipticCurvePrivateKey)):
            return "the algorithm ES256 needs an elliptic-curve key"
        return None if isinstance(key.curve, ec.SECP256R1) else f"ES256 needs curve P-256, not {key.curve.name}"
    if not isinstance(key, (rsa.RSAPublicKey, rsa.RSAPrivateKey)):
        return f"the algorithm {algorithm.value} needs an RSA key"
    if key.key_size < MIN_RSA_BITS:
        return f"an RSA key of {key.key_size} bits is too weak: it needs {MIN_RSA_BITS} (RFC 7518, section 3.3)"
    return None


def checker(key: Any, algorithm: Algorithm) -> Checker:
    """What says whether a signature fits a message. ES256 signatures are r and s, 64 bytes (RFC 7518, 3.4)."""
    if algorithm is Algorithm.ES256:
        return _p256_checker(key)
    verify = key.verify
    scheme = (_RSA_PADDING[algorithm], SHA256()) if algorithm in _RSA_PADDING else ()

    def fits(signature: bytes, message: bytes) -> bool:
        try:
            verify(signature, message, *scheme)
        except InvalidSignature:
            return False
        return True

    return fits


def _p256_checker(key: ec.EllipticCurvePublicKey) -> Checker:
    scheme, number, verify = ec.ECDSA(SHA256()), int.from_bytes, key.verify

    def fits(signature: bytes, message: bytes) -> bool:
        if len(signature) != 64:
            return False
        try:
            verify(encode_dss_signature(number(signature[:32]), number(signature[32:])), message, scheme)
        except InvalidSignature:
            return False
        return True

    return fits


def signer(key: Any, algorithm: Algorithm) -> Signer:
    """What signs a message, in the form that `checker` reads."""
    if algorithm is Algorithm.ED25519:
        sign: Signer = key.sign
        return sign
    if algorithm is Algorithm.ES256:
        scheme = ec.ECDSA(SHA256())

        def sign_p256(message: bytes) -> bytes:
            r, s = decode_dss_signature(key.sign(message, scheme))
            return r.to_bytes(32) + s.to_bytes(32)

        return sign_p256
    rsa_padding, sha256 = _RSA_PADDING[algorithm], SHA256()

    def sign_rsa(message: bytes) -> bytes:
        signature: bytes = key.sign(message, rsa_padding, sha256)
        return signature

    return sign_rsa


def new_private_key(algorithm: Algorithm) -> PrivateKey:
    """A fresh private key for `algorithm`."""
    if algorithm is Algorithm.ED25519:
        return ed25519.Ed25519PrivateKey.generate()
    if algorithm is Algorithm.ES256:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(public_exponent=65537, key_size=MIN_RSA_BITS)


_RSA_PADDING: dict[Algorithm, padding.AsymmetricPadding] = {
    Algorithm.PS256: padding.PSS(padding.MGF1(SHA256()), salt_length=32),
    Algorithm.RS256: padding.PKCS1v15(),
}
