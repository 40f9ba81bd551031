"""A statement signed with ES256, to the confirmation it is, beside the bare verification."""

from __future__ import annotations

from base64 import urlsafe_b64decode
from time import time

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from benchmarks._measure import in_turns, show
from benchmarks._messages import BANK, COUNT, KEYS, MERCHANT, STATEMENT_KEY, settlement
from deposit_token_sdk.evidence import Signer, authenticate
from deposit_token_sdk.models import StatementKind


def main() -> None:
    now = time()
    signer = Signer(BANK, MERCHANT)
    statements = [settlement(number, int(now)) for number in range(COUNT)]
    contents = [_as_bare(statement) for statement in statements]
    key = STATEMENT_KEY.verification_key().public_key
    assert isinstance(key, ec.EllipticCurvePublicKey)
    verify, scheme = key.verify, ec.ECDSA(SHA256())

    def ours(part: slice) -> None:
        for statement in statements[part]:
            authenticate(statement, KEYS, signer, now=now, kind=StatementKind.SETTLEMENT)

    def peer(part: slice) -> None:
        for signature, content in contents[part]:
            verify(signature, content, scheme)

    show(
        "A settlement statement (JWS, ES256) to a typed confirmation",
        "ES256 statement to confirmation",
        "bare P-256 verification",
        in_turns(ours, peer, inputs=COUNT, laps=100),
        1.35,
    )


def _as_bare(statement: str) -> tuple[bytes, bytes]:
    """The signature in DER, and what it signs."""
    content, _, written = statement.rpartition(".")
    raw = urlsafe_b64decode(written + "==")
    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:])), content.encode()


if __name__ == "__main__":
    main()
