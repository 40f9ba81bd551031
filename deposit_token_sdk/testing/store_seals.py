"""The part of the stores' suite that is about sealing: what waits for a seal, what is under one, what is erased.

`stores.StoreConformance` contains it; nobody needs to subclass anything here.
"""
# ruff: noqa: S101

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest

from deposit_token_sdk.checkout import seal as sealing
from deposit_token_sdk.checkout.seal import SOURCES, Leaf, Row, Seal
from deposit_token_sdk.checkout.store import Decision, Review, Store, Tx, Verdict
from deposit_token_sdk.testing.store_queues import StoreFixtures
from deposit_token_sdk.testing.values import LATER, NOON, a_confirmation, a_message, a_refusal, an_attempt


def _write_one_of_each(store: Store) -> None:
    with store.begin() as tx:
        tx.claim(a_message())
        tx.add_attempt(an_attempt())
        tx.keep_evidence("r1", a_confirmation())
        tx.fulfil("A-1", "r1", NOON)
        tx.open_review(Review("A-1", "r1", "late", "mv-1", "Paid late.", NOON))
    (review,) = store.reviews()
    with store.begin() as tx:
        assert tx.decide(Decision(review.number, Verdict.ACCEPT, "Grace", "", NOON))


def _sealed(store: Store, limit: int = 100) -> tuple[Seal, list[Leaf]] | None:
    """A seal over what has none, as the sealer makes it, not yet added."""
    last = store.seals.last()
    number = 1 if last is None else last.number + 1
    leaves = [sealing.leaf_of(row, number, lambda: b"0123456789abcdef") for row in store.seals.unsealed(limit)]
    head = sealing.write_head(sealing.next_head(last, leaves, store.installation(), NOON))
    return (Seal(number, head, f"statement {number}", "keys"), leaves) if leaves else None


def _seal(store: Store, limit: int = 100) -> list[Leaf]:
    made = _sealed(store, limit)
    assert made is not None
    assert store.seals.add(*made)
    return made[1]


def _rows(store: Store) -> dict[tuple[str, str], tuple[Row, int | None]]:
    with store.seals.snapshot() as snapshot:
        return {(row.source, row.key): (row, seal) for source in SOURCES for row, seal in snapshot.rows(source)}


class SealConformance(StoreFixtures):
    """Every committed row gets one seal, and the seals are one chain."""

    def test_each_row_of_each_table_waits_for_a_seal_until_it_has_one(self, store: Store) -> None:
        _write_one_of_each(store)
        waiting = store.seals.unsealed(100)
        assert sorted(row.source for row in waiting) == sorted(SOURCES)
        assert store.seals.waiting()[0] == len(SOURCES)
        leaves = _seal(store)
        assert {(leaf.source, leaf.key) for leaf in leaves} == {(row.source, row.key) for row in waiting}
        assert (store.seals.unsealed(100), store.seals.waiting()) == ((), (0, None))
        assert {seal for _, seal in _rows(store).values()} == {1}

    def test_a_row_is_named_by_its_key_and_told_whole(self, store: Store) -> None:
        with store.begin() as tx:
            tx.claim(a_message(body="a body"))
            tx.record("sandbox", "ev-1", "applied")
        (row,) = store.seals.unsealed(100)
        assert json.loads(row.key) == ["sandbox", "ev-1"]
        told = {name: row.columns[name] for name in ("issuer", "key", "digest", "body", "outcome")}
        assert told == {
            "issuer": "sandbox",
            "key": "ev-1",
            "digest": "digest of the body",
            "body": "a body",
            "outcome": "applied",
        }
        assert "sealed" not in row.columns

    def test_what_is_not_committed_is_not_told(self, store: Store) -> None:
        def fail(tx: Tx) -> None:
            tx.claim(a_message())
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError), store.begin() as tx:
            fail(tx)
        assert store.seals.unsealed(100) == ()

    def test_no_more_rows_are_told_than_asked_for(self, store: Store) -> None:
        _write_one_of_each(store)
        assert len(store.seals.unsealed(3)) == 3

    def test_a_number_is_given_once_and_the_second_seal_of_it_writes_nothing(self, store: Store) -> None:
        _write_one_of_each(store)
        made = _sealed(store)
        assert made is not None
        assert store.seals.add(*made) is True
        other = Seal(1, made[0].head, "another")
        assert store.seals.add(other, made[1]) is False
        assert store.seals.last() == made[0]

    def test_the_last_seal_is_the_one_of_the_highest_number(self, store: Store) -> None:
        assert store.seals.last() is None
        for number in range(1, 12):
            with store.begin() as tx:
                tx.claim(a_message(f"ev-{number}"))
            _seal(store)
        last = store.seals.last()
        assert last is not None
        assert (last.number, sealing.read_head(last.head).rows) == (11, 11)

    def test_of_many_sealers_at_once_each_row_gets_one_seal(
        self, store: Store, at_once: Callable[..., list[Any]]
    ) -> None:
        with store.begin() as tx:
            for number in range(100):
                tx.claim(a_message(f"ev-{number}"))

        def work(_: int) -> int:
            added = 0
            while made := _sealed(store, 10):
                added += len(made[1]) if store.seals.add(*made) else 0
            return added

        assert sum(at_once(work)) == 100
        with store.seals.snapshot() as snapshot:
            assert [seal.number for seal in snapshot.seals()] == list(range(1, 11))
            assert len({(leaf.source, leaf.key) for leaf in snapshot.leaves()}) == 100

    def test_what_is_read_back_is_what_was_sealed(self, store: Store) -> None:
        _write_one_of_each(store)
        leaves = _seal(store)
        with store.seals.snapshot() as snapshot:
            assert snapshot.installation == store.installation()
            kept = sorted(snapshot.leaves(), key=lambda leaf: leaf.hash)
            (seal,) = snapshot.seals()
        assert kept == sorted(leaves, key=lambda leaf: leaf.hash)
        assert sealing.read_head(seal.head).root == sealing.root_of(leaf.hash for leaf in kept)
        for leaf in kept:
            row, _ = _rows(store)[leaf.source, leaf.key]
            assert sealing.leaf_hash(row, leaf.salt, leaf.body_digest) == leaf.hash

    def test_a_snapshot_does_not_see_what_comes_after_it_and_stands_in_nobodys_way(
        self, store: Store, around_thread: Callable[[], AbstractContextManager[Any]]
    ) -> None:
        def write() -> None:
            with around_thread(), store.begin() as tx:
                tx.claim(a_message())

        with store.seals.snapshot() as snapshot, ThreadPoolExecutor(1) as another:
            assert list(snapshot.leaves()) == []
            another.submit(write).result()
            assert list(snapshot.rows("events")) == []
        assert len(_rows(store)) == 1

    def test_what_was_not_offered_is_erased_by_age(self, store: Store) -> None:
        with store.begin() as tx:
            tx.refuse(a_refusal("old"))
            tx.refuse(a_refusal("young", at=NOON + timedelta(days=1)))
        assert store.seals.erase(NOON + timedelta(hours=1), LATER) == 1
        assert store.refusals("old") == ()
        assert len(store.refusals("young")) == 1

    def test_only_what_is_sealed_and_old_enough_is_erased(self, store: Store) -> None:
        def bodies() -> Iterator[tuple[str, str | None]]:
            return ((json.loads(key)[1], row.columns["body"]) for (_, key), (row, _) in _rows(store).items())

        with store.begin() as tx:
            for number, key in enumerate(("old", "young")):
                tx.claim(a_message(key, received_at=NOON + timedelta(days=number), body="a body"))
        assert store.seals.erase(LATER + timedelta(days=9), LATER) == 0
        _seal(store)
        with store.begin() as tx:
            tx.claim(a_message("unsealed", received_at=NOON, body="a body"))
        assert store.seals.erase(NOON + timedelta(hours=1), LATER) == 1
        assert dict(bodies()) == {"old": "", "young": "a body", "unsealed": "a body"}
        with store.seals.snapshot() as snapshot:
            salts = {json.loads(leaf.key)[1]: (leaf.body_salt, leaf.erased_at) for leaf in snapshot.leaves()}
        assert salts["old"][0] is None
        assert salts["old"][1] is not None
        assert salts["young"][0] is not None
