"""Signed HTTP requests and answers (RFC 9421), their bodies bound by digests (RFC 9530).

One signature a message. A request's covers method, address, body, content type and idempotency key; an answer's
covers status, body and the method, address and signature of the very request it answers, so that an old answer
cannot be replayed. The address is compared to the letter: behind a proxy, say which public address was called.
A nonce is remembered only once signature and digest have both been verified.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from hashlib import sha256, sha512
from hmac import compare_digest
from typing import Protocol, TypeAlias

from deposit_token_sdk.errors import InvalidInput, NotGenuine
from deposit_token_sdk.signing.base64url import encode_standard
from deposit_token_sdk.signing.diagnosis import clock_hint, why_the_body_differs
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey, VerificationKey
from deposit_token_sdk.signing.signature_base import Message, base_and_parameters, signature_base
from deposit_token_sdk.signing.structured_fields import (
    BareItem,
    Dictionary,
    InnerList,
    Item,
    parse_dictionary,
)


class _Hash(Protocol):
    def digest(self) -> bytes: ...


KeySource: TypeAlias = KeySet | Callable[[str], VerificationKey]
"""A key set, or what finds the key of an id and raises NotGenuine where there is none."""

ALGORITHM_NAMES = {Algorithm.ED25519: "ed25519", Algorithm.ES256: "ecdsa-p256-sha256"}
"""RFC 9421's names (section 6.2.2) of the algorithms allowed here."""

LABEL = "sig1"

_NAMED = {name: algorithm for algorithm, name in ALGORITHM_NAMES.items()}
_DIGESTS: dict[str, Callable[[bytes], _Hash]] = {"sha-256": sha256, "sha-512": sha512}
_BODYLESS = frozenset({"GET", "HEAD"})
_REQ = {"req": True}
_ANSWER_COMPONENTS = InnerList(
    (
        Item("@status"),
        Item("content-digest"),
        Item("@method", _REQ),
        Item("@target-uri", _REQ),
        Item("signature", _REQ),
    )
)
_PROXY = "If a proxy stands before this service, configure the public address that callers use."


def content_digest(body: bytes) -> str:
    """The Content-Digest header of a body (RFC 9530, section 2)."""
    return f"sha-256=:{encode_standard(sha256(body).digest())}:"


def sign_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    key: SigningKey,
    *,
    created: int,
    nonce: str,
) -> dict[str, str]:
    """The headers to add to a request: ``content-digest`` (with a body), ``signature-input``, ``signature``.

    `created` is in seconds since 1970. Raises InvalidInput (``unsignable``) on header values with line breaks or
    outside ASCII, on keys of other algorithms, and when a POST with a body has no content type.
    """
    known = _lower_case(headers)
    added: dict[str, str] = {}
    if body is not None or method not in _BODYLESS:
        added["content-digest"] = known["content-digest"] = content_digest(body or b"")
    covered = _request_components(method, known, body)
    parameters: dict[str, BareItem] = {"created": created, "nonce": nonce, "keyid": key.kid, "alg": _name(key)}
    added.update(_signed(covered, parameters, Message(known, method, url), key))
    return added


def verify_request(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes | None,
    keys: KeySource,
    *,
    now: float,
    skew: int = 300,
    nonce_seen: Callable[[str, str], bool] | None = None,
) -> VerificationKey:
    """The key that signed a request, once its signature, digest, time and nonce have been checked.

    `nonce_seen(keyid, nonce)` remembers the nonce and says whether it was there already; it is asked last. Raises
    NotGenuine, by reason: ``header_missing``, ``header_malformed``, ``components_missing``, ``component_unknown``,
    ``algorithm_not_allowed``, ``key_unknown``, ``key_revoked``, ``key_retired``, ``algorithm_mismatch``,
    ``too_old``, ``in_the_future``, ``digest_mismatch``, ``signature_mismatch``, ``nonce_seen``.
    """
    known = _lower_case(headers)
    _refuse_merged(known)
    signature, covered = _read_signature(known)
    required = _request_components(method, known, body).written
    nonce = _text_parameter(covered, "nonce")
    key = _key_for(covered, keys, None, now)
    _require_covered(covered, required)
    _check_time(covered, now, skew)
    if '"content-digest"' in required or "content-digest" in known:
        _check_digest(known, body or b"")
    if not key.verify(signature, signature_base(covered, Message(known, method, url))):
        raise NotGenuine(
            "signature_mismatch",
            f"The request to {url[:200]} is not what the key {key.kid[:80]!r} signed.",
            hint=_PROXY,
        )
    if nonce_seen is not None and nonce_seen(key.kid, nonce):
        raise nonce_spent()
    return key


def nonce_spent() -> NotGenuine:
    """What a replay is refused with (``nonce_seen``), for a service that looks its nonces up later by itself."""
    return NotGenuine("nonce_seen", "A request with this nonce was accepted before: it is a replay.")


def sign_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    request_method: str,
    request_url: str,
    request_headers: Mapping[str, str],
    key: SigningKey,
    *,
    created: int,
) -> dict[str, str]:
    """The headers to add to the answer to a signed request; it repeats the request's nonce, where one can be read.

    Raises InvalidInput (``unsignable``) when the request carried no signature.
    """
    known, asked = _lower_case(headers), _lower_case(request_headers)
    if "signature" not in asked:
        raise InvalidInput("unsignable", "An answer is signed over its request's signature, and the request has none.")
    added = {"content-digest": content_digest(body)}
    known.update(added)
    parameters: dict[str, BareItem] = {"created": created, "keyid": key.kid, "alg": _name(key)}
    if nonce := _nonce_of(asked):
        parameters["nonce"] = nonce
    message = Message(known, status=status, request=Message(asked, request_method, request_url))
    added.update(_signed(_ANSWER_COMPONENTS, parameters, message, key))
    return added


def verify_answer(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    request_method: str,
    request_url: str,
    request_headers: Mapping[str, str],
    keys: KeySource,
    now: float,
    skew: int = 300,
) -> VerificationKey:
    """The key that signed an answer to this very request. In a key set its purpose must be ``answer``.

    Raises NotGenuine as `verify_request` does, and ``replayed_answer`` where the answer to another request shows.
    """
    known, asked = _lower_case(headers), _lower_case(request_headers)
    signature, covered = _read_signature(known)
    key = _key_for(covered, keys, "answer", now)
    _require_covered(covered, _ANSWER_COMPONENTS.written)
    _check_time(covered, now, skew)
    _check_digest(known, body)
    message = Message(known, status=status, request=Message(asked, request_method, request_url))
    if not key.verify(signature, signature_base(covered, message)):
        nonce = covered.parameters.get("nonce")
        if nonce is not None and nonce != _nonce_of(asked):
            raise NotGenuine(
                "replayed_answer", "This is a signed answer to another request: it says nothing about ours."
            )
        raise NotGenuine(
            "signature_mismatch", f"The answer is not what the key {key.kid[:80]!r} signed in answer to this request."
        )
    return key


def _lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    known = {name.lower(): value for name, value in headers.items()}
    if len(known) != len(headers):
        raise NotGenuine("header_malformed", "A header stands twice.")
    return known


def _refuse_merged(headers: Mapping[str, str]) -> None:
    for name in ("idempotency-key", "content-type"):
        if "," in headers.get(name, ""):
            raise NotGenuine("header_malformed", f"The header {name!r} was repeated and merged: it must stand once.")


def _request_components(method: str, headers: Mapping[str, str], body: bytes | None) -> InnerList:
    names = ["@method", "@target-uri"]
    if method not in _BODYLESS or body:
        names.append("content-digest")
        if body or "content-type" in headers:
            names.append("content-type")
    if "idempotency-key" in headers:
        names.append("idempotency-key")
    return _components(tuple(names))


@cache
def _components(names: tuple[str, ...]) -> InnerList:
    """Pure: there are few, since only we choose the names."""
    return InnerList(tuple(Item(name) for name in names))


def _name(key: SigningKey) -> str:
    if key.algorithm not in ALGORITHM_NAMES:
        raise InvalidInput("unsignable", f"HTTP messages are signed with Ed25519 or ES256, not {key.algorithm.value}.")
    return ALGORITHM_NAMES[key.algorithm]


def _signed(
    components: InnerList, parameters: dict[str, BareItem], message: Message, key: SigningKey
) -> dict[str, str]:
    covered = InnerList(components.items, parameters, components.written)
    try:
        base, written = base_and_parameters(covered, message)
    except (NotGenuine, ValueError) as error:
        raise InvalidInput("unsignable", f"This message cannot be signed: {error}") from None
    return {
        "signature-input": f"{LABEL}={written}",
        "signature": f"{LABEL}=:{encode_standard(key.sign(base))}:",
    }


def _read_signature(headers: Mapping[str, str]) -> tuple[bytes, InnerList]:
    """The one signature, and what it covers."""
    inputs = _dictionary(headers, "signature-input")
    signatures = _dictionary(headers, "signature")
    if len(inputs) != 1 or inputs.keys() != signatures.keys():
        raise NotGenuine(
            "header_malformed", "Signature-Input and Signature must hold one signature, under one label, each once."
        )
    ((label, covered),) = inputs.items()
    signature = signatures[label]
    if not isinstance(covered, InnerList) or not isinstance(signature, Item) or not isinstance(signature.value, bytes):
        raise NotGenuine(
            "header_malformed", "Signature-Input must hold a list in parentheses, Signature bytes in colons."
        )
    return signature.value, covered


def _dictionary(headers: Mapping[str, str], name: str) -> Dictionary:
    written = headers.get(name)
    if written is None:
        raise NotGenuine(
            "header_missing",
            f"The header {name!r} is missing.",
            hint="The message was not signed, or a proxy stripped it.",
        )
    try:
        return parse_dictionary(written)
    except ValueError as error:
        raise NotGenuine(
            "header_malformed", f"The header {name!r} was malformed, repeated or merged: {error}."
        ) from None


def _text_parameter(covered: InnerList, name: str) -> str:
    value = covered.parameters.get(name)
    if not isinstance(value, str) or not value:
        raise NotGenuine("components_missing", f"The signature's parameter {name!r} is missing or no string.")
    return value


def _key_for(covered: InnerList, keys: KeySource, purpose: str | None, now: float) -> VerificationKey:
    kid, named = _text_parameter(covered, "keyid"), _text_parameter(covered, "alg")
    algorithm = _NAMED.get(named)
    if algorithm is None:
        raise NotGenuine(
            "algorithm_not_allowed", f"The signature says alg {named[:40]!r}; allowed: {', '.join(_NAMED)}."
        )
    key = keys.require(kid, purpose) if isinstance(keys, KeySet) else keys(kid)
    if key.revoked:
        raise NotGenuine("key_revoked", f"Signed with the key {kid[:80]!r}, which its owner has revoked.")
    if key.is_retired(now):
        raise NotGenuine(
            "key_retired", f"Signed with the key {kid[:80]!r}, which has retired: a current one is needed."
        )
    if key.algorithm is not algorithm:
        raise NotGenuine(
            "algorithm_mismatch", f"The signature says {named}, but the key {kid[:80]!r} is for {key.algorithm.value}."
        )
    return key


def _require_covered(covered: InnerList, required: Iterable[str]) -> None:
    if missing := [identifier for identifier in required if identifier not in covered.written]:
        raise NotGenuine("components_missing", f"The signature does not cover {', '.join(missing)}.")


def _check_time(covered: InnerList, now: float, skew: int) -> None:
    created, expires = covered.parameters.get("created"), covered.parameters.get("expires")
    if type(created) is not int or not (expires is None or type(expires) is int):
        raise NotGenuine(
            "components_missing", "The signature's parameter 'created' is missing, or a time is no integer."
        )
    if now - created > skew:
        raise NotGenuine("too_old", "The signature is too old.", hint=clock_hint(now - created, skew))
    if created - now > skew:
        raise NotGenuine("in_the_future", "The signature is from the future.", hint=clock_hint(now - created, skew))
    if type(expires) is int and now - expires > skew:
        raise NotGenuine("too_old", f"The signature expired {round(now - expires)} s ago.")


def _check_digest(headers: Mapping[str, str], body: bytes) -> None:
    """Every digest that we can compute must fit, and there must be one (RFC 9530; its insecure ones are ignored)."""
    digests = _dictionary(headers, "content-digest")
    known = {name: member for name, member in digests.items() if name in _DIGESTS}
    if not known:
        raise NotGenuine("header_malformed", "Content-Digest holds neither sha-256 nor sha-512.")
    for name, member in known.items():
        if not isinstance(member, Item) or not isinstance(member.value, bytes):
            raise NotGenuine("header_malformed", f"Content-Digest's {name} is not bytes in colons.")
        _compare_digest(body, member.value, _DIGESTS[name])


def _compare_digest(body: bytes, expected: bytes, algorithm: Callable[[bytes], _Hash]) -> None:
    def fits(spelling: bytes) -> bool:
        return compare_digest(algorithm(spelling).digest(), expected)

    if not fits(body):
        raise NotGenuine(
            "digest_mismatch",
            "The body is not the one that was signed: its digest differs.",
            hint=why_the_body_differs(body, fits),
        )


def _nonce_of(request_headers: Mapping[str, str]) -> str | None:
    try:
        _, covered = _read_signature(request_headers)
    except NotGenuine:
        return None
    nonce = covered.parameters.get("nonce")
    return nonce if isinstance(nonce, str) else None
