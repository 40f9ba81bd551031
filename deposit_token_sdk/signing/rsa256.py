"""Antom's signature: RSA with SHA-256 and PKCS#1 v1.5 over method, path, client id, time and body.

Requests, answers and notifications are signed alike (Antom, "Sign a request and verify the signature"). The time is
taken as it stands in its header: what is signed is its text. An answer's signature does not name its request, so
whoever reads an answer compares its ids with what was asked, and how old it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import quote, unquote

from attrs import frozen

from deposit_token_sdk.errors import ConfigurationError, NotGenuine, Unreadable
from deposit_token_sdk.signing.algorithms import Algorithm
from deposit_token_sdk.signing.base64url import decode_standard, encode_standard
from deposit_token_sdk.signing.diagnosis import clock_hint, why_the_body_differs
from deposit_token_sdk.signing.keys import KeySet, SigningKey, VerificationKey

SIGNATURE, CLIENT = "signature", "client-id"
REQUEST_TIME, RESPONSE_TIME = "request-time", "response-time"

_HEADER: Final = re.compile(
    r"algorithm=(?P<algorithm>[A-Za-z0-9]{1,16}), *keyVersion=(?P<version>\d{1,9}), *signature=(?P<signature>[^,\s]+)",
    re.ASCII,
)
_TOKEN: Final = re.compile(r"[!-+\--~]{1,128}", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:?\d\d)|[1-9]\d{11,13}", re.ASCII)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=\s]{100,}", re.ASCII)


@frozen
class Message:
    """What a signature covers. `path` is that of the address called, `time` the text of its time header."""

    path: str
    client: str
    time: str
    body: bytes

    @property
    def content(self) -> bytes:
        """The bytes that are signed."""
        return f"POST {self.path}\n{self.client}.{self.time}.".encode() + self.body


def sign(message: Message, key: SigningKey) -> str:
    """The ``Signature`` header; the key's id is its version. Raises ConfigurationError (``bad_key``)."""
    if key.algorithm is not Algorithm.RS256:
        raise ConfigurationError("bad_key", f"An RSA key is due to sign for Antom, not one for {key.algorithm}.")
    signature = quote(encode_standard(key.sign(message.content)), safe="")
    return f"algorithm=RSA256,keyVersion={key.kid},signature={signature}"


def read(headers: Mapping[str, str], body: bytes, *, path: str, time_header: str) -> tuple[Message, str]:
    """The signed message in an answer's or a notification's headers (names in any case), and its ``Signature``.

    Raises NotGenuine (``header_missing``, ``header_malformed``).
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    client, time, signature = (lowered.get(name, "") for name in (CLIENT, time_header, SIGNATURE))
    for name, value in ((CLIENT, client), (time_header, time), (SIGNATURE, signature)):
        if not value:
            hint = "It was not sent, or a proxy stripped it."
            raise NotGenuine("header_missing", f"The header {name!r} is missing.", hint=hint)
    if not _TOKEN.fullmatch(client):
        raise _malformed(CLIENT, "one client id")
    if not _TIME.fullmatch(time):
        raise _malformed(time_header, "one time by ISO 8601 with an offset, or milliseconds since 1970")
    return Message(path, client, time, body), signature


def verify(message: Message, signature: str, keys: KeySet) -> VerificationKey:
    """The key that made this ``Signature`` over the message, found by its version.

    A key that has retired verifies what is dated before. Raises NotGenuine: ``header_malformed``,
    ``algorithm_not_allowed``, ``key_unknown``, ``key_revoked``, ``key_retired``, ``signature_mismatch`` (with a hint
    where the cause can be known).
    """
    found = _HEADER.fullmatch(signature.strip(" "))
    if found is None:
        raise _malformed(SIGNATURE, "'algorithm=RSA256,keyVersion=…,signature=…'")
    if found["algorithm"] != "RSA256":
        told = f"The signature's algorithm is {found['algorithm']}; RSA256 alone is taken."
        raise NotGenuine("algorithm_not_allowed", told)
    try:
        raw = decode_standard(unquote(found["signature"], errors="strict"))
    except ValueError:
        raise _malformed(SIGNATURE, "URL-encoded canonical base64") from None
    key = keys.require(found["version"], None)
    if key.algorithm is not Algorithm.RS256:
        raise NotGenuine("algorithm_not_allowed", f"The key {key.kid!r} is for {key.algorithm}, not for RSA256.")
    if not key.verify(raw, message.content):
        raise NotGenuine(
            "signature_mismatch",
            f"The signature does not fit POST {message.path} for client {message.client}.",
            hint=why_the_body_differs(message.body, _fits(key, raw, message)),
        )
    if key.is_retired(moment(message.time).timestamp()):
        raise NotGenuine("key_retired", f"The key {key.kid!r} retired at {key.retired_at}, before {message.time}.")
    return key


def require_fresh(message: Message, *, now: float, skew: float) -> None:
    """Refuse a message whose time is more than `skew` seconds from `now`. Raises NotGenuine (``too_old``,
    ``in_the_future``)."""
    behind = now - moment(message.time).timestamp()
    if abs(behind) > skew:
        reason = "too_old" if behind > 0 else "in_the_future"
        raise NotGenuine(reason, f"The message's time is {message.time}.", hint=clock_hint(behind, skew))


def moment(text: str) -> datetime:
    """A time header, or a time in a body, as an aware datetime. Raises Unreadable (``bad_value``)."""
    with suppress(ValueError, OverflowError):
        if _TIME.fullmatch(text):
            return _EPOCH + timedelta(milliseconds=int(text)) if text.isdigit() else datetime.fromisoformat(text)
    told = f"{text[:40]!r} is no time by ISO 8601 with an offset, nor milliseconds since 1970."
    raise Unreadable("bad_value", told)


def signing_key(text: str, version: str) -> SigningKey:
    """A private key in PEM, or as the bare base64 of its PKCS #8 that Antom's key tool writes. Raises
    ConfigurationError (``bad_key``)."""
    return SigningKey.from_pem(_armoured(text, "PRIVATE KEY"), Algorithm.RS256, version)


def public_keys(text: str, version: str) -> KeySet:
    """Antom's public keys: a JWK set whose kids are key versions, or one key as PEM or as the dashboard's base64.

    Raises ConfigurationError (``bad_key``), Unreadable.
    """
    if text.lstrip().startswith("{"):
        return KeySet.from_jwks(text.encode())
    return KeySet((VerificationKey.from_pem(_armoured(text, "PUBLIC KEY"), Algorithm.RS256, version),))


def _armoured(text: str, label: str) -> str:
    if not _BASE64.fullmatch(text.strip()):
        return text
    return f"-----BEGIN {label}-----\n{''.join(text.split())}\n-----END {label}-----\n"


def _fits(key: VerificationKey, signature: bytes, message: Message) -> Callable[[bytes], bool]:
    return lambda body: key.verify(signature, Message(message.path, message.client, message.time, body).content)


def _malformed(name: str, expected: str) -> NotGenuine:
    told = f"The header {name!r} was malformed, repeated or merged: expected {expected}."
    return NotGenuine("header_malformed", told)
