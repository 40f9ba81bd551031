# ruff: noqa: S608 - whoever tampers writes SQL, and here its names are the tests' own
"""Whoever can write to the shop's database can change and remove rows, leaves and seals: each is named afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from sqlalchemy import Engine, text

from deposit_token_sdk import Checkout, Client
from deposit_token_sdk.checkout import archive, proving
from deposit_token_sdk.checkout import seal as sealing
from deposit_token_sdk.checkout import sql_tables as t
from deposit_token_sdk.checkout.proving import Outside, Worth
from deposit_token_sdk.checkout.seal import SOURCES
from deposit_token_sdk.evidence import SEAL_TYP
from deposit_token_sdk.models import StatementKind
from deposit_token_sdk.signing import jws, strict_json
from deposit_token_sdk.signing.keys import Algorithm, KeySet, SigningKey
from tests.checkout.sealed import AT, Keeper, Named, environment, seals_of
from tests.databases import ON_BOTH, fresh
from tests.evidence.bank import Bank

COLUMNS = [
    (source, column.name) for source in SOURCES for column in t.metadata.tables[f"deposit_token_{source}"].columns
]


@pytest.fixture(scope="module")
def template() -> Iterator[Keeper]:
    """Made once, since each test spoils a copy of its own."""
    with fresh("sqlite", empty=False) as engine:
        keeper = Keeper(engine)
        keeper.everything()
        keeper.doubt("mov-3")
        keeper.events(4, 5)
        keeper.checkout.seal()
        yield keeper


@pytest.fixture
def keeper(template: Keeper) -> Iterator[Keeper]:
    with template.engine.connect() as connection:
        connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
    with fresh("sqlite") as engine:
        shutil.copy(str(template.engine.url.database), str(engine.url.database))
        yield Keeper(engine, template.bank, template.key)


@pytest.fixture
def outside(template: Keeper) -> Outside:
    return template.outside


def event(number: int) -> str:
    return f'["sandbox-bank","msg-{number}"]'


# -- rows --------------------------------------------------------------------------------------------------------


def test_untouched_it_is_proven(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    report = keeper.proven(tmp_path / "export", outside)
    assert (report.worth, report.findings, report.open) == (Worth.PROVEN, [], [])


@pytest.mark.parametrize(("source", "column"), COLUMNS)
def test_a_changed_column_is_named_with_its_row(
    keeper: Keeper, outside: Outside, tmp_path: Path, source: str, column: str
) -> None:
    """A column that names the row makes it another row: the one that was there is missing then."""
    table = f"deposit_token_{source}"
    key = row_named(keeper, source)
    names = column in SOURCES[source]
    value = "99" if column in ("number", "review", "sealed") else "'changed'"
    keeper.execute(f"UPDATE {table} SET {column} = {value} WHERE rowid = (SELECT max(rowid) FROM {table})")
    report = keeper.proven(tmp_path / "export", outside)
    assert report.worth is Worth.NOT_PROVEN
    assert ("removed" if names else "altered", source, key) in Named(report).rows
    assert {found.source for found in report.findings} <= {source, "fulfilments"}


def row_named(keeper: Keeper, source: str) -> str:
    """The key of the youngest row of the table."""
    with keeper.store.seals.snapshot() as snapshot:
        rows = [row for row, _ in snapshot.rows(source)]
    return max(rows, key=lambda row: [name.rjust(9, "0") for name in json.loads(row.key)]).key


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_set_to_null_where_that_is_allowed_is_named(
    keeper: Keeper, outside: Outside, tmp_path: Path, source: str
) -> None:
    table = t.metadata.tables[f"deposit_token_{source}"]
    for column in (column.name for column in table.columns if column.nullable):
        with keeper.engine.connect() as connection:
            found = connection.execute(text(f"SELECT count(*) FROM {table.name} WHERE {column} IS NOT NULL"))
            if not found.scalar_one():
                continue
        with fresh("sqlite") as engine:
            shutil.copy(str(keeper.engine.url.database), str(engine.url.database))
            spoilt = Keeper(engine, keeper.bank, keeper.key)
            spoilt.execute(f"UPDATE {table.name} SET {column} = NULL")
            assert "altered" in Named(spoilt.proven(tmp_path / column, outside)).words, column


@pytest.mark.parametrize("source", SOURCES)
def test_a_removed_row_is_named(keeper: Keeper, outside: Outside, tmp_path: Path, source: str) -> None:
    table, key = f"deposit_token_{source}", row_named(keeper, source)
    keeper.execute(f"DELETE FROM {table} WHERE rowid = (SELECT max(rowid) FROM {table})")
    report = keeper.proven(tmp_path / "export", outside)
    assert ("removed", source, key) in Named(report).rows
    assert Named(report).words <= {"removed", "unpaid"}


def test_every_one_of_many_removed_and_altered_rows_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.execute(
        "DELETE FROM deposit_token_events WHERE key IN ('msg-1', 'msg-4')",
        "UPDATE deposit_token_events SET body = 'nothing happened' WHERE key = 'msg-2'",
        "UPDATE deposit_token_decisions SET verdict = 'refund', by = 'Mallory' WHERE review = 1",
    )
    assert Named(keeper.proven(tmp_path / "export", outside)).rows == {
        ("removed", "events", event(1)),
        ("removed", "events", event(4)),
        ("altered", "events", event(2)),
        ("altered", "decisions", '["1"]'),
    }


def test_an_altered_confirmation_is_named_with_what_the_bank_had_signed(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.execute("UPDATE deposit_token_evidence SET units = '1' WHERE number = 1")
    report = keeper.proven(tmp_path / "export", outside)
    (said,) = [found for found in report.findings if found.what == "contradicted"]
    assert (said.key, said.detail) == ('["1"]', "units is '1', but the statement says '14100'")


def test_a_forged_confirmation_is_named_though_its_row_is_new(keeper: Keeper, tmp_path: Path) -> None:
    forger = Bank(SigningKey.generate(Algorithm.ES256, keeper.bank.key.kid))
    genuine = keeper.bank.confirmation()
    content = forger.confirmation(StatementKind.SETTLEMENT, units="99999").evidence.content
    with keeper.store.begin() as tx:
        tx.keep_evidence("abcd1234REF", evolve(genuine, evidence=evolve(genuine.evidence, content=content)))
    keeper.checkout.seal()
    report = keeper.proven(tmp_path / "export", keeper.outside)
    (found,) = [found for found in report.findings if found.what == "not_genuine"]
    assert found.detail.startswith("signature_mismatch")


def test_a_confirmation_by_a_key_that_nobody_pinned_is_named(keeper: Keeper, tmp_path: Path) -> None:
    forger = Bank(SigningKey.generate(Algorithm.ES256, keeper.bank.key.kid))
    with keeper.store.begin() as tx:
        tx.keep_evidence("abcd1234REF", forger.confirmation(units="99999"))
    keeper.checkout.seal()
    assert Named(keeper.proven(tmp_path / "with", keeper.outside)).words == {"other_key"}
    alone = keeper.proven(tmp_path / "without", evolve(keeper.outside, pins=frozenset()))
    assert alone.worth is Worth.CONSISTENT
    assert len(alone.keys) == 2


def test_an_order_that_is_marked_as_paid_without_a_payment_is_named(keeper: Keeper, tmp_path: Path) -> None:
    with keeper.store.begin() as tx:
        tx.fulfil("A-9", "abcd1234NONE", AT)
    keeper.checkout.seal()
    assert Named(keeper.proven(tmp_path / "export", keeper.outside)).rows == {("unpaid", "fulfilments", '["A-9"]')}


def test_a_row_that_was_slipped_in_under_an_old_seal_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.events(9)
    keeper.execute("UPDATE deposit_token_events SET sealed = 2 WHERE key = 'msg-9'")
    assert Named(keeper.proven(tmp_path / "export", outside)).rows == {("leaf_removed", "events", event(9))}


def test_rows_that_are_not_sealed_yet_are_said_to_be_without_proof(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.events(8, 9)
    report = keeper.proven(tmp_path / "export", outside)
    assert (report.worth, report.unsealed) == (Worth.CONSISTENT, {"events": 2})
    assert any("Rows not sealed yet: 2." in point for point in report.open)


@ON_BOTH
def test_an_altered_and_a_removed_row_are_named_on_every_database(database: Engine, tmp_path: Path) -> None:
    keeper = Keeper(database)
    keeper.everything()
    keeper.execute(
        "UPDATE deposit_token_events SET body = 'ü' WHERE key = 'msg-1'",
        "DELETE FROM deposit_token_events WHERE key = 'msg-2'",
    )
    assert Named(keeper.proven(tmp_path / "export", keeper.outside)).rows == {
        ("altered", "events", event(1)),
        ("removed", "events", event(2)),
    }


# -- leaves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["salt", "body_salt", "body_digest"])
def test_a_leafs_changed_salt_or_commitment_is_named(
    keeper: Keeper, outside: Outside, tmp_path: Path, column: str
) -> None:
    keeper.execute(f"UPDATE deposit_token_leaves SET {column} = 'AAAAAAAAAAAAAAAAAAAAAA' WHERE key = '{event(1)}'")
    assert Named(keeper.proven(tmp_path / "export", outside)).rows == {("altered", "events", event(1))}


@pytest.mark.parametrize("column", ["salt", "hash", "body_salt", "body_digest", "erased_at"])
def test_rubbish_in_a_leaf_hides_nothing_and_stops_nobody(
    keeper: Keeper, outside: Outside, tmp_path: Path, column: str
) -> None:
    keeper.execute(
        f"UPDATE deposit_token_leaves SET {column} = '? ü' WHERE key = '{event(1)}'",
        "UPDATE deposit_token_events SET outcome = 'forged' WHERE key IN ('msg-1', 'msg-4')",
    )
    rows = Named(keeper.proven(tmp_path / "export", outside)).rows
    assert ("altered", "events", event(4)) in rows
    assert {("altered", "events", event(1)), ("in_doubt", "events", event(1))} & rows


def test_rubbish_in_a_row_of_each_column_is_exported_and_named(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.execute("UPDATE deposit_token_evidence SET proof = '?', kind = '?', keys = '?', content = 'ü', at = '?'")
    report = keeper.proven(tmp_path / "export", outside)
    assert {what for what, source, _ in Named(report).rows if source == "evidence"} == {"altered", "not_genuine"}


@pytest.mark.parametrize("column", ["head", "statement", "keys"])
def test_rubbish_in_a_seal_is_named_and_the_next_seal_is_made_all_the_same(
    keeper: Keeper, outside: Outside, tmp_path: Path, column: str
) -> None:
    keeper.execute(f"UPDATE deposit_token_seals SET {column} = '? ü' WHERE number = 3")
    keeper.events(7)
    assert keeper.checkout.seal() is not None
    assert ("seal_altered", "seals", "3") in Named(keeper.proven(tmp_path / "export", outside)).rows


def test_a_leafs_changed_hash_is_named_and_its_row_is_not_suspected(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.execute(f"UPDATE deposit_token_leaves SET hash = '{'A' * 43}' WHERE key = '{event(1)}'")
    assert Named(keeper.proven(tmp_path / "export", outside)).rows == {("leaf_altered", "events", event(1))}


def test_a_row_altered_together_with_its_leaf_puts_the_rows_of_its_seal_in_doubt(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.execute("UPDATE deposit_token_events SET outcome = 'forged' WHERE key = 'msg-4'")
    with keeper.store.seals.snapshot() as snapshot:
        leaf = next(leaf for leaf in snapshot.leaves() if leaf.key == event(4))
        row = next(row for row, _ in snapshot.rows("events") if row.key == event(4))
    keeper.execute(
        f"UPDATE deposit_token_leaves SET hash = '{sealing.leaf_hash(row, leaf.salt, leaf.body_digest)}' "
        f"WHERE key = '{event(4)}'"
    )
    assert Named(keeper.proven(tmp_path / "export", outside)).rows == {
        ("root_broken", "seals", "3"),
        ("in_doubt", "events", event(4)),
        ("in_doubt", "events", event(5)),
        ("in_doubt", "reviews", '["2"]'),
        ("in_doubt", "decisions", '["2"]'),
    }


def test_a_removed_leaf_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.execute(f"DELETE FROM deposit_token_leaves WHERE key = '{event(4)}'")
    rows = Named(keeper.proven(tmp_path / "export", outside)).rows
    assert {("leaf_removed", "events", event(4)), ("root_broken", "seals", "3")} <= rows
    assert not any(source == "events" and key == event(1) for _, source, key in rows)


def test_a_row_removed_with_its_leaf_breaks_its_seal(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.execute(
        "DELETE FROM deposit_token_events WHERE key = 'msg-4'",
        f"DELETE FROM deposit_token_leaves WHERE key = '{event(4)}'",
    )
    report = keeper.proven(tmp_path / "export", outside)
    (broken,) = [found for found in report.findings if found.what == "root_broken"]
    assert (broken.key, "is over 4 rows, and the 3 leaves" in broken.detail) == ("3", True)


def test_a_leaf_moved_to_another_seal_breaks_both(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.execute(f"UPDATE deposit_token_leaves SET seal = 2 WHERE key = '{event(4)}'")
    rows = Named(keeper.proven(tmp_path / "export", outside)).rows
    assert {("root_broken", "seals", "2"), ("root_broken", "seals", "3")} <= rows


def test_lines_in_another_order_are_the_same_evidence(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    folder = keeper.export(tmp_path / "export")
    for file in folder.glob("*.jsonl"):
        if file.name != "seals.jsonl":
            file.write_bytes(b"".join(reversed(file.read_bytes().splitlines(keepends=True))))
    assert proving.prove(archive.Archive.open(folder), outside).worth is Worth.PROVEN


def test_seals_in_another_order_are_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.execute(
        "UPDATE deposit_token_seals SET number = 99 WHERE number = 1",
        "UPDATE deposit_token_seals SET number = 1 WHERE number = 2",
        "UPDATE deposit_token_seals SET number = 2 WHERE number = 99",
    )
    rows = Named(keeper.proven(tmp_path / "export", outside)).rows
    assert {("seal_altered", "seals", "1"), ("seal_altered", "seals", "2")} <= rows


# -- seals -------------------------------------------------------------------------------------------------------


def test_the_last_seal_removed_is_named_by_the_head_from_outside(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.execute("DELETE FROM deposit_token_seals WHERE number = 3")
    rows = Named(keeper.proven(tmp_path / "export", outside)).rows
    assert {("seal_removed", "seals", "3"), ("root_broken", "seals", "3")} <= rows


def test_all_traces_of_the_last_seal_removed_are_seen_by_the_head_from_outside_alone(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.execute(
        "DELETE FROM deposit_token_seals WHERE number = 3",
        "DELETE FROM deposit_token_leaves WHERE seal = 3",
        "DELETE FROM deposit_token_events WHERE sealed = 3",
        "DELETE FROM deposit_token_decisions WHERE sealed = 3",
        "DELETE FROM deposit_token_reviews WHERE sealed = 3",
    )
    assert Named(keeper.proven(tmp_path / "with", outside)).rows == {("seal_removed", "seals", "3")}
    without = keeper.proven(tmp_path / "without", evolve(outside, head=None))
    assert without.worth is Worth.CONSISTENT
    assert any("cut off at the end" in point for point in without.open)


def test_a_seal_removed_in_the_middle_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.execute("DELETE FROM deposit_token_seals WHERE number = 2")
    assert ("seal_removed", "seals", "2") in Named(keeper.proven(tmp_path / "export", outside)).rows


def test_a_seal_made_anew_in_the_place_of_the_last_is_named(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    """By somebody who has the merchant's key too, and seals what is left."""
    keeper.execute(
        "DELETE FROM deposit_token_seals WHERE number = 3",
        "DELETE FROM deposit_token_leaves WHERE seal = 3",
        "DELETE FROM deposit_token_events WHERE key = 'msg-4'",
        *(f"UPDATE deposit_token_{name} SET sealed = NULL WHERE sealed = 3" for name in ("events", "reviews")),
        "UPDATE deposit_token_decisions SET sealed = NULL WHERE sealed = 3",
    )
    assert keeper.checkout.seal() is not None
    assert Named(keeper.proven(tmp_path / "with", outside)).rows == {("other_head", "seals", "3")}
    assert keeper.proven(tmp_path / "without", evolve(outside, head=None)).worth is Worth.CONSISTENT


def rewrite_head(keeper: Keeper, number: int, key: SigningKey | None = None, /, **changes: object) -> None:
    """Another head in a seal; signed by this key, if one is given, else with the signature it had."""
    seal = next(seal for seal in seals_of(keeper) if seal.number == number)
    head = strict_json.dumps({**json.loads(seal.head), **changes}).decode()
    made = evolve(seal, head=head)
    if key is not None:
        keys = strict_json.dumps(KeySet((key.verification_key(),)).jwks()).decode()
        made = evolve(made, statement=jws.sign(head.encode(), key, SEAL_TYP), keys=keys)
    with keeper.engine.begin() as connection:
        values = {"head": made.head, "statement": made.statement, "keys": made.keys}
        connection.execute(t.seals.update().where(t.seals.c.number == number).values(values))


@pytest.mark.parametrize(
    ("name", "value"),
    [("root", "A" * 43), ("size", 1), ("rows", 1), ("previous", None), ("at", "2020-01-01T00:00:00Z"), ("number", 7)],
)
def test_a_changed_head_is_named(keeper: Keeper, outside: Outside, tmp_path: Path, name: str, value: object) -> None:
    rewrite_head(keeper, 2, **{name: value})
    rows = Named(keeper.proven(tmp_path / "export", outside)).rows
    assert ("seal_altered", "seals", "2") in rows
    assert ("chain_broken", "seals", "3") in rows


def test_a_changed_head_that_is_signed_anew_with_another_key_is_named(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    rewrite_head(keeper, 2, SigningKey.generate(Algorithm.ED25519, "merchant-1"), root="A" * 43)
    rows = Named(keeper.proven(tmp_path / "export", outside)).rows
    assert {(what, key) for what, source, key in rows if source == "seals"} == {
        ("other_seal_key", "2"),
        ("root_broken", "2"),
        ("chain_broken", "3"),
    }


def test_a_chain_that_is_signed_anew_as_a_whole_with_another_key_is_named(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    stranger = SigningKey.generate(Algorithm.ED25519, "merchant-1")
    for number in (1, 2, 3):
        rewrite_head(keeper, number, stranger)
    everything = Named(keeper.proven(tmp_path / "all", outside)).rows
    assert {(what, key) for what, _, key in everything} == {("other_seal_key", str(n)) for n in (1, 2, 3)}
    by_head = Named(keeper.proven(tmp_path / "head", evolve(outside, seal_pins=frozenset()))).rows
    assert by_head == {("other_seal_key", "seals", "3")}
    alone = keeper.proven(tmp_path / "alone")
    assert alone.worth is Worth.CONSISTENT
    assert list(alone.seal_keys) == [stranger.verification_key().thumbprint()]


@pytest.mark.parametrize("column", ["head", "statement", "keys"])
def test_a_column_of_a_seal_taken_from_another_is_named(
    keeper: Keeper, outside: Outside, tmp_path: Path, column: str
) -> None:
    keeper.key = SigningKey.generate(Algorithm.ED25519, "merchant-2")
    keeper.checkout = Checkout(Client.from_env(environment(keeper.key)), keeper.store)
    keeper.events(7)
    keeper.checkout.seal()
    keeper.execute(
        f"UPDATE deposit_token_seals SET {column} = (SELECT {column} FROM deposit_token_seals WHERE number = 4) "
        "WHERE number = 2"
    )
    rows = Named(keeper.proven(tmp_path / "export", evolve(outside, seal_pins=frozenset()))).rows
    assert ("seal_altered", "seals", "2") in rows


def test_a_signature_taken_off_is_named_where_a_key_is_pinned(keeper: Keeper, outside: Outside, tmp_path: Path) -> None:
    keeper.execute("UPDATE deposit_token_seals SET statement = NULL, keys = NULL WHERE number = 1")
    assert Named(keeper.proven(tmp_path / "export", outside)).rows == {("other_seal_key", "seals", "1")}


def test_seals_after_the_head_from_outside_stand_on_their_signatures_and_that_is_said(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.events(7)
    keeper.checkout.seal()
    assert keeper.proven(tmp_path / "pinned", outside).worth is Worth.PROVEN
    report = keeper.proven(tmp_path / "unpinned", evolve(outside, seal_pins=frozenset()))
    assert report.worth is Worth.CONSISTENT
    assert any("Seals 4 to 4 came after the head" in point for point in report.open)


def test_the_evidence_of_another_shop_does_not_pass_for_this_ones(
    keeper: Keeper, outside: Outside, tmp_path: Path
) -> None:
    keeper.execute("UPDATE deposit_token_installation SET id = 'zzzz9999'")
    assert {what for what, _, _ in Named(keeper.proven(tmp_path / "export", outside)).rows} == {"seal_altered"}
