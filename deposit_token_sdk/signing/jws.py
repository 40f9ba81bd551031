"""JSON Web Signatures for statements: compact (RFC 7515) and detached (RFC 7797), profiled by RFC 8725.

A statement's header holds `alg`, `kid` and `typ` and nothing else, so that a message cannot bring its own key, and
one kind of statement cannot pass as another. The algorithm is the key's, not the message's. What a statement says,
and to whom, is `evidence`'s question, as is the time: a retired key still verifies here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from attrs import frozen

from deposit_token_sdk.errors import NotGenuine, Unreadable
from deposit_token_sdk.signing.base64url import decode_url, encode_url
from deposit_token_sdk.signing.jwk import NAMED
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey, VerificationKey
from deposit_token_sdk.signing.strict_json import dumps, parse

STATEMENT_ALGORITHMS = frozenset({Algorithm.ED25519, Algorithm.ES256})
"""What statements may be signed with."""

_PLAIN_MEMBERS = frozenset({"alg", "kid", "typ"})
_DETACHED_MEMBERS = _PLAIN_MEMBERS | {"b64", "crit"}
_MAX_HEADER = 2048


@frozen
class Signed:
    """What was signed, and by which key. The header is as the signer wrote it."""

    header: dict[str, Any]
    payload: bytes
    key: VerificationKey


@frozen
class _Header:
    members: Mapping[str, Any]
    algorithm: Algorithm
    kid: str
    typ: str | None


def sign(payload: bytes, key: SigningKey, typ: str) -> str:
    """A compact JWS over `payload`, its header exactly `alg`, `kid` and `typ`."""
    header = dumps({"alg": key.algorithm.value, "kid": key.kid, "typ": typ})
    signing_input = f"{encode_url(header)}.{encode_url(payload)}"
    return f"{signing_input}.{encode_url(key.sign(signing_input.encode('ascii')))}"


def verify(
    token: str,
    keys: KeySet,
    *,
    typ: str,
    purpose: str | None = "statement",
    algorithms: frozenset[Algorithm] = STATEMENT_ALGORITHMS,
) -> Signed:
    """What a compact JWS holds, once its signature, type, key and algorithm have been checked.

    Raises NotGenuine, by reason: ``malformed_jws``, ``base64_not_canonical``, ``header_not_allowed``,
    ``crit_unknown``, ``wrong_typ``, ``algorithm_not_allowed``, ``algorithm_mismatch``, ``key_unknown``,
    ``key_revoked``, ``wrong_key_purpose``, ``signature_mismatch``.
    """
    encoded_header, encoded_payload, encoded_signature = _parts(token)
    header = _header(encoded_header, _plain_header)
    key = _key_for(header, keys, typ, purpose, algorithms)
    payload = _decoded(encoded_payload, "payload")
    signing_input = token[: -len(encoded_signature) - 1].encode("ascii")
    if not key.verify(_decoded(encoded_signature, "signature"), signing_input):
        raise _mismatch(header.kid)
    return Signed(dict(header.members), payload, key)


def peek_kid(token: str) -> str:
    """The kid that a compact or detached JWS claims, *unverified*: only for deciding whether to fetch keys.

    Raises NotGenuine as `verify` does for a header that cannot be read.
    """
    return _header(_parts(token)[0], _any_header).kid


def peek_typ(token: str) -> str | None:
    """The typ that a compact JWS claims, *unverified*: only for choosing what to verify it as.

    Raises NotGenuine as `verify` does for a header that cannot be read.
    """
    return _header(_parts(token)[0], _plain_header).typ


def sign_detached(payload: bytes, key: SigningKey, typ: str | None = None) -> str:
    """A detached JWS over `payload` as it stands, not base64url-encoded (RFC 7797)."""
    members: dict[str, Any] = {"alg": key.algorithm.value, "b64": False, "crit": ["b64"], "kid": key.kid}
    if typ is not None:
        members["typ"] = typ
    encoded_header = encode_url(dumps(members))
    return f"{encoded_header}..{encode_url(key.sign(detached_input(encoded_header, payload)))}"


def verify_detached(
    token: str,
    payload: bytes,
    keys: KeySet,
    *,
    typ: str | None = None,
    purpose: str | None = None,
    algorithms: frozenset[Algorithm] = STATEMENT_ALGORITHMS,
) -> Signed:
    """Check a detached JWS (``b64: false``) over `payload`. Without `typ` the header must have none.

    Raises NotGenuine as `verify` does, and ``attached_payload``.
    """
    encoded_header, encoded_payload, encoded_signature = _parts(token)
    if encoded_payload:
        raise NotGenuine(
            "attached_payload", "The JWS carries a payload of its own where a detached one is due: do not read it."
        )
    header = _header(encoded_header, _detached_header)
    key = _key_for(header, keys, typ, purpose, algorithms)
    if not key.verify(_decoded(encoded_signature, "signature"), detached_input(encoded_header, payload)):
        raise _mismatch(header.kid)
    return Signed(dict(header.members), payload, key)


def detached_input(encoded_header: str, payload: bytes) -> bytes:
    """What is signed when the payload stays as it is (RFC 7797, section 3)."""
    return encoded_header.encode("ascii") + b"." + payload


def _parts(token: str) -> tuple[str, str, str]:
    parts = token.split(".") if token.isascii() else []
    if len(parts) != 3 or not parts[0] or not parts[2]:
        raise NotGenuine("malformed_jws", "This is no compact JWS: expected three base64url parts joined by dots.")
    return parts[0], parts[1], parts[2]


def _key_for(
    header: _Header, keys: KeySet, typ: str | None, purpose: str | None, algorithms: frozenset[Algorithm]
) -> VerificationKey:
    if header.typ != typ:
        raise NotGenuine("wrong_typ", f"The JWS is of type {str(header.typ)[:60]!r}; {typ!r} was expected.")
    if header.algorithm not in algorithms:
        raise NotGenuine("algorithm_not_allowed", f"{header.algorithm.value} is not allowed for what this JWS says.")
    key = keys.require(header.kid, purpose)
    if key.algorithm is not header.algorithm:
        raise NotGenuine(
            "algorithm_mismatch",
            f"The JWS says {header.algorithm.value}, but its key {header.kid[:80]!r} is for {key.algorithm.value}.",
        )
    return key


def _header(encoded: str, read: Callable[[str], _Header]) -> _Header:
    if len(encoded) > _MAX_HEADER:
        raise NotGenuine("malformed_jws", f"The JWS's header is longer than {_MAX_HEADER} characters.")
    return read(encoded)


@lru_cache(maxsize=128)
def _plain_header(encoded: str) -> _Header:
    """Pure: the same text always reads the same, so that few headers in all need parsing."""
    members = _read_members(encoded)
    if "crit" in members:
        raise NotGenuine(
            "crit_unknown", f"The JWS's header holds `crit` {str(members['crit'])[:60]}: none is known here."
        )
    return _checked(members, _PLAIN_MEMBERS)


@lru_cache(maxsize=128)
def _detached_header(encoded: str) -> _Header:
    members = _read_members(encoded)
    if members.get("crit") != ["b64"]:
        raise NotGenuine("crit_unknown", "The detached JWS's header must hold `crit` with `b64` and nothing else.")
    if members.get("b64") is not False:
        raise NotGenuine("header_not_allowed", "The detached JWS's header must hold `b64` false (RFC 7797).")
    return _checked(members, _DETACHED_MEMBERS)


def _any_header(encoded: str) -> _Header:
    return _checked(_read_members(encoded), _DETACHED_MEMBERS)


def _read_members(encoded: str) -> dict[str, Any]:
    try:
        return parse(_decoded(encoded, "header"))
    except Unreadable as error:
        raise NotGenuine("malformed_jws", f"The JWS's header cannot be read: {error}") from None


def _checked(members: dict[str, Any], allowed: frozenset[str]) -> _Header:
    if foreign := sorted(members.keys() - allowed):
        raise NotGenuine(
            "header_not_allowed",
            f"The JWS's header holds {', '.join(foreign)[:80]}; it may hold {', '.join(sorted(allowed))} alone. "
            "Keys come from configuration, never from a message.",
        )
    named, kid, typ = members.get("alg"), members.get("kid"), members.get("typ")
    if not isinstance(named, str) or named not in NAMED:
        raise NotGenuine("algorithm_not_allowed", f"The JWS says alg {str(named)[:40]!r}; allowed: {', '.join(NAMED)}.")
    if not isinstance(kid, str) or not kid:
        raise NotGenuine("key_unknown", "The JWS's header names no key: `kid` is missing or no string.")
    if typ is not None and not isinstance(typ, str):
        raise NotGenuine("wrong_typ", "The JWS's `typ` is no string.")
    return _Header(members, NAMED[named], kid, typ)


def _decoded(part: str, what: str) -> bytes:
    try:
        return decode_url(part)
    except ValueError:
        raise NotGenuine("base64_not_canonical", f"The JWS's {what} is not canonical base64url.") from None


def _mismatch(kid: str) -> NotGenuine:
    return NotGenuine("signature_mismatch", f"The JWS's signature is not one that the key {kid[:80]!r} made over it.")
