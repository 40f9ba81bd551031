"""The Merkle tree of RFC 6962 (section 2.1), over hashes of leaves: one root stands for all of them, in their order.

Leaves and nodes are hashed under different first bytes, so that no node can pass for a leaf. What a leaf holds is
`seal`'s affair.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256


def leaf(data: bytes) -> bytes:
    """The hash of one leaf's content."""
    return sha256(b"\x00" + data).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over these hashes of leaves; that of no leaves is the hash of nothing.

    RFC 6962 splits at the largest power of two; pairing up level by level, an odd last one passed up as it is, makes
    the same tree without recursion.
    """
    if not leaves:
        return sha256(b"").digest()
    level = list(leaves)
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [sha256(b"\x01" + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)]
        level += odd
    return level[0]
