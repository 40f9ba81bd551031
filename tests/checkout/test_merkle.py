"""The tree is RFC 6962's: against its definition, written down again, and against published roots."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deposit_token_sdk.checkout import merkle


def mth(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, word by word: split at the largest power of two smaller than n."""
    if not entries:
        return sha256().digest()
    if len(entries) == 1:
        return sha256(bytes([0]) + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return sha256(bytes([1]) + mth(entries[:k]) + mth(entries[k:])).digest()


@given(st.lists(st.binary(max_size=40), max_size=130))
def test_the_root_is_that_of_the_rfcs_own_definition(entries: list[bytes]) -> None:
    assert merkle.root([merkle.leaf(entry) for entry in entries]) == mth(entries)


ENTRIES = "00 10 2021 3031 40414243 5051525354555657 606162636465666768696a6b6c6d6e6f".split()
ROOTS = """
    e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
    6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d
    fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125
    aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77
    d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7
    4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4
    76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef
    ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c
    5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328
""".split()
"""Roots over the first n of these entries, from the tests of Google's Certificate Transparency."""


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_the_roots_are_those_that_certificate_transparency_publishes(size: int) -> None:
    entries = [b"", *map(bytes.fromhex, ENTRIES)][:size]
    assert merkle.root([merkle.leaf(entry) for entry in entries]).hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=4), min_size=2, max_size=40, unique=True), st.data())
def test_any_leaf_changed_left_out_or_moved_makes_another_root(entries: list[bytes], data: st.DataObject) -> None:
    hashes = [merkle.leaf(entry) for entry in entries]
    at = data.draw(st.integers(0, len(hashes) - 1))
    others = [
        hashes[:at] + hashes[at + 1 :],
        [*hashes[:at], merkle.leaf(b"another" + entries[at]), *hashes[at + 1 :]],
        [*hashes, merkle.leaf(b"another")],
        hashes[::-1],
    ]
    assert merkle.root(hashes) not in [merkle.root(other) for other in others]


def test_a_node_cannot_pass_for_a_leaf() -> None:
    left, right = merkle.leaf(b"left"), merkle.leaf(b"right")
    assert merkle.leaf(left + right) != merkle.root([left, right])
