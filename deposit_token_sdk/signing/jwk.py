"""Public keys as JSON Web Keys (RFC 7517, 7518 section 6, 8037), and their thumbprints (RFC 7638).

Only public members are read: what a private key would add is ignored and never kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deposit_token_sdk.errors import Unreadable
from deposit_token_sdk.signing.algorithms import Algorithm, PublicKey
from deposit_token_sdk.signing.base64url import decode_url, encode_url
from deposit_token_sdk.signing.strict_json import dumps, text

NAMED: dict[str, Algorithm] = {**{algorithm.value: algorithm for algorithm in Algorithm}, "EdDSA": Algorithm.ED25519}
"""JWS names of the algorithms. RFC 9864 replaces EdDSA by Ed25519; both are read, Ed25519 is written."""

_KINDS = [["OKP", "Ed25519"], ["EC", "P-256"], ["RSA", None]]
_MAX_RSA_BYTES = 1024


def is_understood(jwk: Mapping[str, Any]) -> bool:
    """Whether a JWK is of a kind we know; what is not is to be ignored in a set (RFC 7517, section 5)."""
    named, kind, curve = jwk.get("alg"), jwk.get("kty"), jwk.get("crv")
    return jwk.get("use") == "sig" and isinstance(named, str) and named in NAMED and [kind, curve] in _KINDS


def read_algorithm(jwk: dict[str, Any]) -> Algorithm:
    """The one algorithm that a JWK is for; raises Unreadable when it names none of ours or is not for signatures."""
    if text(jwk, "use") != "sig":
        raise Unreadable("bad_key", f"This JWK is for {jwk['use']!r}, not for signatures.", field="use")
    named = text(jwk, "alg")
    if named not in NAMED:
        raise Unreadable("bad_key", f"This JWK is for the algorithm {named[:40]!r}, which is not allowed.", field="alg")
    return NAMED[named]


def read_public_key(jwk: dict[str, Any]) -> PublicKey:
    """The public key in a JWK. Raises Unreadable (``bad_key``)."""
    kind, curve = text(jwk, "kty"), jwk.get("crv")
    try:
        if (kind, curve) == ("OKP", "Ed25519"):
            return ed25519.Ed25519PublicKey.from_public_bytes(_octets(jwk, "x"))
        if (kind, curve) == ("EC", "P-256"):
            x, y = _octets(jwk, "x"), _octets(jwk, "y")
            return ec.EllipticCurvePublicKey.from_encoded_point(
                ec.SECP256R1(), b"\x04" + _exactly_32(x) + _exactly_32(y)
            )
        if kind == "RSA":
            n, e = int.from_bytes(_octets(jwk, "n")), int.from_bytes(_octets(jwk, "e"))
            return rsa.RSAPublicNumbers(e, n).public_key()
    except ValueError as error:
        raise Unreadable("bad_key", f"This JWK's numbers are no public key: {error}", field="kty") from None
    raise Unreadable(
        "bad_key", f"This JWK is a {kind[:20]!r} key of curve {str(curve)[:20]!r}; we know none.", field="kty"
    )


def public_members(key: PublicKey) -> dict[str, str]:
    """The members that make up a public key: those its thumbprint is made of."""
    if isinstance(key, ed25519.Ed25519PublicKey):
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"crv": "Ed25519", "kty": "OKP", "x": encode_url(raw)}
    if isinstance(key, ec.EllipticCurvePublicKey):
        point = key.public_numbers()
        return {
            "crv": "P-256",
            "kty": "EC",
            "x": encode_url(point.x.to_bytes(32)),
            "y": encode_url(point.y.to_bytes(32)),
        }
    numbers = key.public_numbers()
    return {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}


def thumbprint_of(key: PublicKey) -> str:
    """SHA-256 thumbprint in base64url (RFC 7638, section 3; RFC 8037, section 2)."""
    return encode_url(sha256(dumps(dict(sorted(public_members(key).items())))).digest())


def _number(value: int) -> str:
    return encode_url(value.to_bytes((value.bit_length() + 7) // 8))


def _octets(jwk: dict[str, Any], name: str) -> bytes:
    written = text(jwk, name)
    try:
        raw = decode_url(written)
    except ValueError:
        raise Unreadable("bad_key", f"The JWK's member {name!r} is not canonical base64url.", field=name) from None
    if not 0 < len(raw) <= _MAX_RSA_BYTES:
        raise Unreadable("bad_key", f"The JWK's member {name!r} has {len(raw)} bytes.", field=name)
    return raw


def _exactly_32(raw: bytes) -> bytes:
    if len(raw) != 32:
        raise ValueError(f"a P-256 coordinate has 32 bytes, not {len(raw)}.")
    return raw
