"""Standard Webhooks: the envelope of a webhook, `v1` (HMAC-SHA256) and `v1a` (Ed25519).

The signature binds id, time and body; only the envelope must be fresh. Keys carry no id, so each is tried, the
one that last fitted first. The scheme joins the three parts by dots and signatures by commas, and servers merge
repeated headers with commas: so an id holds neither, and a merged header is refused by its grammar.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from hmac import compare_digest
from hmac import digest as hmac_digest
from typing import NoReturn

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from deposit_token_sdk.errors import ConfigurationError, InvalidInput, InvalidType, NotGenuine
from deposit_token_sdk.signing.algorithms import Algorithm, Checker, Signer, checker
from deposit_token_sdk.signing.base64url import decode_standard, decode_url, encode_standard
from deposit_token_sdk.signing.diagnosis import clock_hint, why_the_body_differs
from deposit_token_sdk.signing.keys import VerificationKey

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"

_HEADERS = frozenset({ID, TIMESTAMP, SIGNATURE})
_ID = re.compile(r"[!-+\-/-~]{1,255}", re.ASCII)
_TIMESTAMP = re.compile(r"[1-9][0-9]{0,10}", re.ASCII)
_VERSION = re.compile(r"v[0-9]+[a-z]*", re.ASCII)
_MAX_SIGNATURES = 8
_MAX_DIAGNOSED = 2
_MIN_SECRET = 24
_STRIPPED = "It was not sent, or a proxy stripped it."


class Kind(StrEnum):
    """How a key signs, by the version it is announced with."""

    HMAC = "v1"
    ED25519 = "v1a"


@frozen
class WebhookKey:
    """A key that webhooks are verified with: ``whpk_…`` (an Ed25519 public key) or ``whsec_…`` (a shared secret).

    `label` says whose it is, for diagnosis. The key itself never shows in a repr.
    """

    kind: Kind
    fits: Checker = field(repr=False, eq=False)
    label: str = ""
    _material: bytes = field(default=b"", repr=False)

    @classmethod
    def from_text(cls, text: str, label: str = "") -> WebhookKey:
        """From the text that the bank shows. Raises ConfigurationError (``bad_webhook_key``)."""
        prefix, raw = _read_key(text, ("whpk_", "whsec_"))
        if prefix == "whsec_":
            return cls(Kind.HMAC, _hmac_checker(raw), label, raw)
        try:
            public = Ed25519PublicKey.from_public_bytes(raw)
        except ValueError:
            raise ConfigurationError("bad_webhook_key", "A whpk_ key is 32 bytes of Ed25519 in base64.") from None
        return cls(Kind.ED25519, checker(public, Algorithm.ED25519), label, raw)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A webhook key is never pickled or copied: pass its text's setting instead.")


class WebhookSigner:
    """Signs webhooks as a bank does, with ``whsk_…`` (a private Ed25519 key, 32 bytes) or ``whsec_…``."""

    __slots__ = ("_public_text", "_sign", "kind")

    def __init__(self, text: str) -> None:
        prefix, raw = _read_key(text, ("whsk_", "whsec_"))
        self._public_text: str | None = None
        if prefix == "whsec_":
            self.kind = Kind.HMAC
            self._sign: Signer = lambda message: hmac_digest(raw, message, "sha256")
            return
        if len(raw) != 32:
            raise ConfigurationError("bad_webhook_key", "A whsk_ key is 32 bytes of Ed25519 in base64.")
        private = Ed25519PrivateKey.from_private_bytes(raw)
        self.kind = Kind.ED25519
        self._sign = private.sign
        public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self._public_text = f"whpk_{encode_standard(public)}"

    @classmethod
    def generate(cls) -> tuple[WebhookSigner, str]:
        """A new Ed25519 signer, and its private text: keep that secret."""
        text = f"whsk_{encode_standard(Ed25519PrivateKey.generate().private_bytes_raw())}"
        return cls(text), text

    @property
    def public_text(self) -> str:
        """The ``whpk_…`` that shops verify with. Raises InvalidInput (``no_public_key``) for a shared secret."""
        if self._public_text is None:
            raise InvalidInput("no_public_key", "A shared secret has no public key.")
        return self._public_text

    def signature(self, msg_id: str, timestamp: int, body: bytes) -> str:
        """One entry of the signature header; several, joined by spaces, while a key rotates."""
        if not _ID.fullmatch(msg_id) or not _TIMESTAMP.fullmatch(str(timestamp)):
            raise InvalidInput("bad_webhook_id", "A webhook's id holds no comma, dot or space; its time is in seconds.")
        return f"{self.kind.value},{encode_standard(self._sign(_signed_content(msg_id, str(timestamp), body)))}"

    def sign(self, msg_id: str, timestamp: int, body: bytes) -> dict[str, str]:
        """The three headers of a webhook; `timestamp` in seconds since 1970."""
        return {
            ID: msg_id,
            TIMESTAMP: str(timestamp),
            SIGNATURE: self.signature(msg_id, timestamp, body),
        }

    def __repr__(self) -> str:
        return f"WebhookSigner(kind={self.kind.value!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A webhook signer is never pickled or copied: pass its key's setting instead.")


class Verifier:
    """Verifies the webhooks of one endpoint with any of its current keys.

    `tolerance` is in seconds. `other_keys` (label → key text) are never accepted: a message that fits one of them
    is refused with a hint that names the label, such as the other mode's key or the shop's own.
    """

    __slots__ = ("_keys", "_kinds", "_other_keys", "_tolerance")

    def __init__(
        self,
        keys: Sequence[str | WebhookKey],
        *,
        tolerance: int = 300,
        other_keys: Mapping[str, str] | None = None,
    ) -> None:
        if not keys:
            raise ConfigurationError("no_webhook_key", "Webhooks cannot be verified without a key: configure one.")
        self._keys = tuple(WebhookKey.from_text(key) if isinstance(key, str) else key for key in keys)
        self._kinds = frozenset(key.kind.value for key in self._keys)
        self._other_keys = tuple(WebhookKey.from_text(text, label) for label, text in (other_keys or {}).items())
        self._tolerance = tolerance

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: float) -> str:
        """The message's id, once its envelope has been checked. Header names may be in any case, `body` is raw bytes.

        Raises NotGenuine, by reason: ``header_missing``, ``header_malformed``, ``too_old``, ``in_the_future``,
        ``no_known_signature_version``, ``signature_mismatch`` (with a hint where the cause can be known). Raises
        InvalidType (``body_type``) when the body is no bytes.
        """
        if not isinstance(body, bytes):
            raise InvalidType("body_type", f"A webhook's body is the raw bytes received, not {type(body).__name__}.")
        msg_id, timestamp, entries = _envelope(headers)
        self._check_time(int(timestamp), now)
        signatures = [entry for entry in entries if entry[0] in self._kinds]
        if not signatures:
            offered = ", ".join(sorted({version for version, _ in entries}))
            raise NotGenuine(
                "no_known_signature_version",
                f"The webhook is signed by {offered}; our keys are for {', '.join(sorted(self._kinds))}.",
                hint=self._elsewhere(entries, _signed_content(msg_id, timestamp, body)),
            )
        content = _signed_content(msg_id, timestamp, body)
        for key in self._keys:
            for version, signature in signatures:
                if key.kind.value == version and key.fits(signature, content):
                    self._prefer(key)
                    return msg_id
        raise NotGenuine(
            "signature_mismatch",
            "The webhook's signature fits none of our keys.",
            hint=self._why(msg_id, timestamp, body, signatures),
        )

    def _prefer(self, key: WebhookKey) -> None:
        keys = self._keys
        if keys[0] is not key:
            self._keys = (key, *(other for other in keys if other is not key))

    def _check_time(self, timestamp: int, now: float) -> None:
        behind = now - timestamp
        if behind > self._tolerance:
            raise NotGenuine("too_old", "The webhook is too old.", hint=clock_hint(behind, self._tolerance))
        if -behind > self._tolerance:
            raise NotGenuine(
                "in_the_future", "The webhook is from the future.", hint=clock_hint(behind, self._tolerance)
            )

    def _why(self, msg_id: str, timestamp: str, body: bytes, signatures: Sequence[tuple[str, bytes]]) -> str | None:
        pairs = list(_pairs(self._keys, signatures))[:_MAX_DIAGNOSED]

        def fits(spelling: bytes) -> bool:
            content = _signed_content(msg_id, timestamp, spelling)
            return any(key.fits(signature, content) for key, signature in pairs)

        return self._elsewhere(signatures, _signed_content(msg_id, timestamp, body)) or why_the_body_differs(body, fits)

    def _elsewhere(self, signatures: Sequence[tuple[str, bytes]], content: bytes) -> str | None:
        for key, signature in _pairs(self._other_keys, signatures[:_MAX_DIAGNOSED]):
            if key.fits(signature, content):
                return f"It is signed with another key that we know: {key.label}. Check which key is configured where."
        return None


def webhook_text(key: VerificationKey) -> str:
    """An Ed25519 key as the ``whpk_…`` text it would be, to compare it with those that a shop was given."""
    return f"whpk_{encode_standard(decode_url(str(key.jwk()['x'])))}"


def _pairs(keys: Sequence[WebhookKey], signatures: Sequence[tuple[str, bytes]]) -> Iterator[tuple[WebhookKey, bytes]]:
    return ((key, signature) for key in keys for version, signature in signatures if key.kind.value == version)


def _signed_content(msg_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{msg_id}.{timestamp}.".encode("ascii") + body


def _envelope(headers: Mapping[str, str]) -> tuple[str, str, list[tuple[str, bytes]]]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered in _HEADERS:
            if lowered in found:
                raise NotGenuine("header_malformed", f"The header {lowered!r} stands twice.")
            found[lowered] = value
    msg_id, timestamp, written = _present(found, ID), _present(found, TIMESTAMP), _present(found, SIGNATURE)
    if not _ID.fullmatch(msg_id):
        raise _malformed(ID, "an id without comma, dot or space")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise _malformed(TIMESTAMP, "seconds since 1970 in digits")
    return msg_id, timestamp, _entries(written)


def _present(found: Mapping[str, str], name: str) -> str:
    value = found.get(name)
    if not value:
        raise NotGenuine("header_missing", f"The header {name!r} is missing.", hint=_STRIPPED)
    return value


def _entries(written: str) -> list[tuple[str, bytes]]:
    parts = written.split(" ", _MAX_SIGNATURES)
    if len(parts) > _MAX_SIGNATURES:
        raise _malformed(SIGNATURE, f"at most {_MAX_SIGNATURES} signatures")
    entries: list[tuple[str, bytes]] = []
    for part in parts:
        version, _, signature = part.partition(",")
        if not signature or not _VERSION.fullmatch(version):
            raise _malformed(SIGNATURE, "signatures such as 'v1a,<base64>' joined by single spaces")
        try:
            entries.append((version, decode_standard(signature)))
        except ValueError:
            raise _malformed(SIGNATURE, "canonical base64") from None
    return entries


def _malformed(name: str, expected: str) -> NotGenuine:
    return NotGenuine(
        "header_malformed", f"The header {name!r} was malformed, repeated or merged: expected {expected}."
    )


def _hmac_checker(secret: bytes) -> Callable[[bytes, bytes], bool]:
    def fits(signature: bytes, message: bytes) -> bool:
        return compare_digest(hmac_digest(secret, message, "sha256"), signature)

    return fits


def _read_key(text: str, prefixes: tuple[str, str]) -> tuple[str, bytes]:
    expected = f"A webhook key here is {' or '.join(prefixes)} followed by canonical base64"
    for prefix in prefixes:
        if text.startswith(prefix):
            try:
                raw = decode_standard(text.removeprefix(prefix))
            except ValueError:
                raise ConfigurationError("bad_webhook_key", f"{expected}: this is not canonical.") from None
            if prefix == "whsec_" and len(raw) < _MIN_SECRET:
                raise ConfigurationError("bad_webhook_key", f"A whsec_ secret has at least {_MIN_SECRET} bytes.")
            return prefix, raw
    raise ConfigurationError("bad_webhook_key", f"{expected}: this starts otherwise.")
