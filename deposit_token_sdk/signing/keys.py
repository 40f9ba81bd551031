"""Keys, each pinned to one algorithm and one use, and sets of them.

A key is parsed once; verifying afterwards costs the mathematics and little else. What a message says about keys
is never believed: a `kid` only picks from a set that came from configuration. A *retired* key still verifies
what was signed before it retired, a *revoked* one verifies nothing. Key material never shows in a repr, a pickle
or a log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final, NoReturn
from weakref import WeakValueDictionary

from attrs import Factory, evolve, field, frozen
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from deposit_token_sdk.errors import ConfigurationError, NotGenuine, Unreadable
from deposit_token_sdk.signing import jwk as jwk_format
from deposit_token_sdk.signing import strict_json
from deposit_token_sdk.signing.algorithms import (
    Algorithm,
    Checker,
    PrivateKey,
    PublicKey,
    Signer,
    checker,
    new_private_key,
    signer,
    unfit,
)

__all__ = ["Algorithm", "KeySet", "SigningKey", "VerificationKey"]


@frozen
class VerificationKey:
    """A public key, for one algorithm. `purpose` is ``statement``, ``answer`` or None.

    Two are equal when kid, algorithm, state and thumbprint are.
    """

    kid: str
    algorithm: Algorithm
    public_key: PublicKey = field(repr=False, eq=False)
    purpose: str | None = None
    retired_at: datetime | None = None
    revoked: bool = False
    revoked_at: datetime | None = None
    _thumbprint: str = field(
        init=False, repr=False, default=Factory(lambda self: jwk_format.thumbprint_of(self.public_key), takes_self=True)
    )
    verify: Checker = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda self: checker(self.public_key, self.algorithm), takes_self=True),
    )
    """``verify(signature, message) -> bool``: whether this key made that signature over that message."""

    @classmethod
    def from_pem(cls, pem: bytes | str, algorithm: Algorithm, kid: str = "") -> VerificationKey:
        """From a public key in PEM (SubjectPublicKeyInfo). Without `kid` the thumbprint is the kid.

        Raises ConfigurationError (``bad_key``).
        """
        try:
            key = load_pem_public_key(_encoded(pem))
        except (ValueError, UnsupportedAlgorithm):
            raise ConfigurationError("bad_key", "This is no public key in PEM: expected BEGIN PUBLIC KEY.") from None
        if problem := unfit(key, algorithm):
            raise ConfigurationError("bad_key", f"This public key does not fit: {problem}.")
        return cls(kid or jwk_format.thumbprint_of(key), algorithm, key)  # type: ignore[arg-type]

    @classmethod
    def from_jwk(cls, jwk: Mapping[str, Any]) -> VerificationKey:
        """From one JWK, whose `alg` and ``use: sig`` must be there. Private members are ignored.

        Beyond RFC 7517: `purpose`, `exp` (when it retired), `revoked` and `revoked_at`, times being seconds since
        1970. Raises Unreadable (``bad_key``, ``missing_field``, ``wrong_type``).
        """
        members = dict(jwk)
        algorithm = jwk_format.read_algorithm(members)
        key = jwk_format.read_public_key(members)
        if problem := unfit(key, algorithm):
            raise Unreadable("bad_key", f"This JWK contradicts itself: {problem}.", field="alg")
        return cls(
            strict_json.optional_text(members, "kid") or jwk_format.thumbprint_of(key),
            algorithm,
            key,
            purpose=strict_json.optional_text(members, "purpose"),
            retired_at=_numeric_date(members, "exp"),
            revoked="revoked" in members and strict_json.boolean(members, "revoked"),
            revoked_at=_numeric_date(members, "revoked_at"),
        )

    def jwk(self) -> dict[str, Any]:
        """This key as a JWK, with what we add to RFC 7517 where it is set."""
        written: dict[str, Any] = {
            **jwk_format.public_members(self.public_key),
            "kid": self.kid,
            "alg": self.algorithm.value,
            "use": "sig",
        }
        if self.purpose is not None:
            written["purpose"] = self.purpose
        if self.retired_at is not None:
            written["exp"] = int(self.retired_at.timestamp())
        if self.revoked:
            written["revoked"] = True
        if self.revoked_at is not None:
            written["revoked_at"] = int(self.revoked_at.timestamp())
        return written

    def thumbprint(self) -> str:
        """SHA-256 thumbprint in base64url (RFC 7638)."""
        return self._thumbprint

    def is_retired(self, at: float) -> bool:
        """Whether the key had retired by `at`, in seconds since 1970."""
        return self.retired_at is not None and at >= self.retired_at.timestamp()


@frozen
class SigningKey:
    """A private key, for one algorithm. It shows nothing of itself and cannot be pickled or copied."""

    kid: str
    algorithm: Algorithm
    _private_key: PrivateKey = field(repr=False, eq=False)
    sign: Signer = field(
        init=False,
        repr=False,
        eq=False,
        default=Factory(lambda self: signer(self._private_key, self.algorithm), takes_self=True),
    )
    """``sign(message) -> signature``; for ES256 r and s, 64 bytes."""
    _thumbprint: str = field(
        init=False,
        repr=False,
        default=Factory(lambda self: jwk_format.thumbprint_of(self._private_key.public_key()), takes_self=True),
    )

    @classmethod
    def generate(cls, algorithm: Algorithm, kid: str = "") -> SigningKey:
        """A new key. Without `kid` its public key's thumbprint is the kid."""
        key = new_private_key(algorithm)
        return cls(kid or jwk_format.thumbprint_of(key.public_key()), algorithm, key)

    @classmethod
    def from_pem(cls, pem: bytes | str, algorithm: Algorithm, kid: str = "") -> SigningKey:
        """From an unencrypted private key in PEM (PKCS #8). Raises ConfigurationError (``bad_key``)."""
        encoded = _encoded(pem)
        named = (_digest(encoded), algorithm, kid)
        if (known := _IN_USE.get(named)) is not None:
            return known
        try:
            key = load_pem_private_key(encoded, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise ConfigurationError(
                "bad_key", "This is no private key in PEM without a password: expected BEGIN PRIVATE KEY."
            ) from None
        if problem := unfit(key, algorithm):
            raise ConfigurationError("bad_key", f"This private key does not fit: {problem}.")
        made = cls(kid or jwk_format.thumbprint_of(key.public_key()), algorithm, key)  # type: ignore[arg-type]
        _IN_USE[named] = made
        return made

    def to_pem(self) -> bytes:
        """The private key in PEM (PKCS #8), unencrypted: for a file that only its owner can read."""
        pem = self._private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _IN_USE[_digest(pem), self.algorithm, self.kid] = self
        return pem

    def verification_key(
        self,
        *,
        purpose: str | None = None,
        retired_at: datetime | None = None,
        revoked: bool = False,
        revoked_at: datetime | None = None,
    ) -> VerificationKey:
        """The public half, under the same kid."""
        public_key = self._private_key.public_key()
        return VerificationKey(self.kid, self.algorithm, public_key, purpose, retired_at, revoked, revoked_at)

    def __reduce__(self) -> NoReturn:
        raise TypeError("A signing key is never pickled or copied: pass its file's path instead.")


_IN_USE: Final[WeakValueDictionary[tuple[bytes, Algorithm, str], SigningKey]] = WeakValueDictionary()
"""Signing keys as long as somebody holds them, by digest of their PEM, algorithm and the kid asked for: to parse an RSA
key takes 46 ms, since it is checked then.
"""


def _digest(pem: bytes) -> bytes:
    return sha256(b"".join(pem.split())).digest()


@frozen
class KeySet:
    """The keys of one signer, by kid. It comes from configuration or the configured address, never from a message."""

    keys: tuple[VerificationKey, ...]
    _by_kid: dict[str, VerificationKey] = field(
        init=False, repr=False, eq=False, default=Factory(lambda self: _index(self.keys), takes_self=True)
    )

    @classmethod
    def from_jwks(cls, jwks: bytes | Mapping[str, Any]) -> KeySet:
        """From a JWK Set. Keys of a kind we do not know are left out (RFC 7517, section 5); broken ones are refused.

        Raises Unreadable: ``bad_key``, ``duplicate_kid``, or what strict JSON refuses.
        """
        parsed = strict_json.parse(jwks) if isinstance(jwks, bytes) else dict(jwks)
        known = [jwk for jwk in strict_json.members(parsed, "keys") if jwk_format.is_understood(jwk)]
        for jwk in known:
            strict_json.text(jwk, "kid")
        return cls(tuple(VerificationKey.from_jwk(jwk) for jwk in known))

    def jwks(self) -> dict[str, Any]:
        """The set as a JWK Set, ready for JSON."""
        return {"keys": [key.jwk() for key in self.keys]}

    def find(self, kid: str) -> VerificationKey | None:
        """The key of that id, whatever its state, or None."""
        return self._by_kid.get(kid)

    def require(self, kid: str, purpose: str | None) -> VerificationKey:
        """The key of that id, for that purpose (None: for any), not revoked; it may have retired.

        Raises NotGenuine: ``key_unknown``, ``key_revoked`` or ``wrong_key_purpose``.
        """
        key = self._by_kid.get(kid)
        if key is None:
            raise NotGenuine("key_unknown", f"Signed with the key {kid[:80]!r}, which is not in the signer's key set.")
        if key.revoked:
            raise NotGenuine("key_revoked", f"Signed with the key {kid[:80]!r}, which its owner has revoked.")
        if purpose is not None and key.purpose != purpose:
            raise NotGenuine(
                "wrong_key_purpose",
                f"Signed with the key {kid[:80]!r}, which is for {key.purpose or 'no stated purpose'}, not {purpose}.",
            )
        return key

    def pinned(self, thumbprints: Iterable[str]) -> KeySet:
        """Only the keys whose RFC 7638 thumbprints are given."""
        allowed = frozenset(thumbprints)
        return evolve(self, keys=tuple(key for key in self.keys if key.thumbprint() in allowed))


def _index(keys: tuple[VerificationKey, ...]) -> dict[str, VerificationKey]:
    by_kid = {key.kid: key for key in keys}
    if len(by_kid) != len(keys):
        raise Unreadable("duplicate_kid", "Two keys of the set have one kid: it cannot be told which is meant.")
    return by_kid


def _numeric_date(members: dict[str, Any], name: str) -> datetime | None:
    if members.get(name) is None:
        return None
    try:
        return datetime.fromtimestamp(strict_json.integer(members, name), UTC)
    except (ValueError, OverflowError, OSError):
        raise Unreadable("bad_value", f"The JWK's {name!r} is no time that can be.", field=name) from None


def _encoded(pem: bytes | str) -> bytes:
    return pem.encode() if isinstance(pem, str) else pem
