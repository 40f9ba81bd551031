"""SHA256withECDSA over the bytes of a body, the key named in a header: J.P. Morgan's signature on notifications.

The signature is base64 of the DER form (X9.62) over the body as it came. The keys are a JWK set whose members say
``alg: EC`` and when they end (`exp`); the curve is P-256. Which headers carry the signature and the key's id is not
published: both are settings, so they are arguments here.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from deposit_token_sdk.errors import NotGenuine
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.base64url import decode_standard, encode_standard
from deposit_token_sdk.signing.keys import KeySet, SigningKey, VerificationKey


def keys_of(jwks: bytes) -> KeySet:
    """The elliptic-curve keys of a bank's set; what is not P-256 is left out. Raises Unreadable."""
    found = []
    for jwk in strict_json.members(strict_json.parse(jwks), "keys"):
        if jwk.get("kty") == "EC" and jwk.get("crv") == "P-256":
            found.append(VerificationKey.from_jwk({**jwk, "alg": "ES256", "use": "sig"}))
            strict_json.text(jwk, "kid")
    return KeySet(tuple(found))


def sign(body: bytes, key: SigningKey) -> str:
    """The signature of a body, as the bank writes it."""
    raw = key.sign(body)
    return encode_standard(encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:])))


def verify(body: bytes, signature: str, kid: str, keys: KeySet, *, now: float) -> None:
    """Raise NotGenuine unless the key named signed exactly this body and has not ended by `now` (seconds since 1970).

    Reasons: ``key_unknown``, ``key_revoked``, ``key_retired``, ``signature_malformed``, ``signature_mismatch``.
    """
    key = keys.require(kid, None)
    if key.is_retired(now):
        raise NotGenuine("key_retired", f"The bank's key {kid[:80]!r} ended at {key.retired_at}.")
    try:
        r, s = decode_dss_signature(decode_standard(signature))
        raw = r.to_bytes(32) + s.to_bytes(32)
    except (ValueError, OverflowError):
        raise NotGenuine(
            "signature_malformed", "The signature header is no ECDSA signature in base64 of DER."
        ) from None
    if not key.verify(raw, body):
        raise NotGenuine(
            "signature_mismatch",
            "The body is not what the bank signed.",
            hint="Hand over the bytes as they came: a body that was parsed and written again does not verify.",
        )
