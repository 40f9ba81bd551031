"""``deposit-token evidence``: what a shop runs, and what a stranger runs years later with nothing but the files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import Engine, text

from deposit_token_sdk import Checkout, Client, SqlStore
from deposit_token_sdk.checkout.sql import prepare_sqlite
from deposit_token_sdk.cli.group import group
from deposit_token_sdk.models import StatementKind
from deposit_token_sdk.signing.keys import Algorithm, SigningKey
from tests.checkout.sealed import AT, Keeper, days, environment
from tests.evidence.bank import Bank

COMMAND = [sys.executable, "-m", "deposit_token_sdk.cli", "evidence"]


@pytest.fixture
def keeper(database: Engine, monkeypatch: pytest.MonkeyPatch) -> Keeper:
    keeper = Keeper(database)
    module = ModuleType("a_shop")
    module.checkout = keeper.checkout  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "a_shop", module)
    monkeypatch.setenv("DEPOSIT_TOKEN_CHECKOUT", "a_shop:checkout")
    return keeper


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, ["evidence", *map(str, arguments)], catch_exceptions=False)


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def pins_of(keeper: Keeper) -> list[str]:
    (pin,), (seal_pin,) = keeper.outside.pins, keeper.outside.seal_pins
    return ["--pin", pin, "--seal-pin", seal_pin]


def files_of(bank: Bank, folder: Path, kind: StatementKind = StatementKind.SETTLEMENT, **changes: Any) -> Path:
    """A statement and its key as the thank-you page of the example shop hands them out."""
    kept = bank.confirmation(kind, **changes).evidence
    (folder / "A-1-1.jws").write_text(kept.content)
    (folder / "A-1-1-keys.json").write_text(kept.keys)
    return folder / "A-1-1.jws"


# -- the shop's own ----------------------------------------------------------------------------------------------


def test_sealed_exported_and_verified_against_a_head_kept_elsewhere(keeper: Keeper, tmp_path: Path) -> None:
    keeper.everything()
    keeper.events(7)
    assert done("seal") == "Rows sealed: 1. The last seal is 3.\n"
    head = tmp_path / "elsewhere.json"
    done("head", head)
    said = done("export", tmp_path / "export")
    assert "4 events, 4 evidence, 2 fulfilments" in said
    assert "head.json where nobody who can write to the shop's database can write" in said
    told = done("verify", tmp_path / "export", "--head", head, *pins_of(keeper))
    assert told.splitlines()[-1] == "Proven."
    assert "confirmations  4, of which 4 are genuine" in told


def test_the_same_database_exports_the_same_bytes(keeper: Keeper, tmp_path: Path) -> None:
    keeper.everything()
    for name in ("one", "two"):
        done("export", tmp_path / name)
    contents = [{file.name: file.read_bytes() for file in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert contents[0] == contents[1]
    assert set(contents[0]) == {
        "decisions.jsonl",
        "events.jsonl",
        "evidence.jsonl",
        "format.json",
        "fulfilments.jsonl",
        "head.json",
        "leaves.jsonl",
        "reviews.jsonl",
        "seals.jsonl",
    }


def test_an_export_is_for_its_owner_alone_and_is_never_written_over(keeper: Keeper, tmp_path: Path) -> None:
    keeper.everything()
    done("export", tmp_path / "export")
    assert (tmp_path / "export").stat().st_mode & 0o777 == 0o700
    again = run("export", tmp_path / "export")
    assert again.exit_code == 1
    assert "is not empty: an export is never written over" in again.output


def test_a_head_is_printed_where_no_file_is_named(keeper: Keeper) -> None:
    assert "Nothing is sealed yet" in run("head").output
    keeper.everything()
    head = json.loads(done("head"))
    assert (head["format"], head["version"], head["number"]) == ("deposit-token-head", 1, 2)


def test_erased_data_is_gone_from_the_export_and_named_as_erased(keeper: Keeper, tmp_path: Path) -> None:
    keeper.everything()
    keeper.events(7, at=AT - days(4000))
    head = tmp_path / "head.json"
    assert done("erase", "--older-than", "3650") == "Rows older than 3650 days that personal data was erased from: 1.\n"
    done("head", head)
    done("export", tmp_path / "export")
    assert "Ada Lovelace paid 7" not in (tmp_path / "export/events.jsonl").read_text()
    told = done("verify", tmp_path / "export", "--head", head, *pins_of(keeper))
    assert f'erased on {AT:%Y-%m-%d}: the body of events ["sandbox-bank","msg-7"] (seal 3)' in told
    assert told.splitlines()[-1] == "Proven."


def test_it_runs_in_a_flask_app_over_its_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    db, app = SQLAlchemy(), Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = f"sqlite:///{tmp_path / 'shop.sqlite'}"
    db.init_app(app)
    key = SigningKey.generate(Algorithm.ED25519, "merchant-1")
    with app.app_context():
        prepare_sqlite(db.engine)
        store = SqlStore(db.session)
        store.create_schema()
        store.installation()
        with store.begin() as tx:
            tx.keep_evidence("abcd1234REF", Bank(SigningKey.generate(Algorithm.ES256)).confirmation())
    app.extensions["deposit_token"] = Checkout(Client.from_env(environment(key)), store)
    module = ModuleType("a_flask_shop")
    module.app = app  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "a_flask_shop", module)
    monkeypatch.setenv("DEPOSIT_TOKEN_CHECKOUT", "a_flask_shop:app")
    assert done("seal").startswith("Rows sealed: 1.")
    done("export", tmp_path / "export")
    assert "Consistent in itself only." in done("verify", tmp_path / "export")


# -- an export, to a stranger ------------------------------------------------------------------------------------


@pytest.fixture
def exported(keeper: Keeper, tmp_path: Path) -> Path:
    keeper.everything()
    done("head", tmp_path / "head.json")
    done("export", tmp_path / "export")
    return tmp_path / "export"


def test_it_is_verified_without_settings_a_database_or_a_network(exported: Path, tmp_path: Path) -> None:
    """In a process that has nothing of the shop's, and could not even load what speaks to a database or a bank."""
    blocked = tmp_path / "blocked"
    for name in ("sqlalchemy", "requests", "urllib3", "flask", "psycopg"):
        (blocked / name).mkdir(parents=True)
        (blocked / name / "__init__.py").write_text("raise ImportError('not here')")
    bare = {name: value for name, value in os.environ.items() if not name.startswith("DEPOSIT_TOKEN_")}
    environ = {**bare, "PYTHONPATH": os.pathsep.join([str(blocked), str(Path(__file__).parents[2])])}
    result = subprocess.run(
        [*COMMAND, "verify", str(exported), "--head", str(tmp_path / "head.json")],
        cwd=tmp_path,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "Consistent in itself only."


def test_without_pin_or_head_it_is_consistent_in_itself_only_and_says_what_is_missing(exported: Path) -> None:
    told = done("verify", exported)
    assert "Open: No thumbprint was given (--pin)" in told
    assert "Open: No head was given from outside (--head)" in told
    assert "Open: No thumbprint of the merchant's key was given (--seal-pin)" in told
    assert told.splitlines()[-1] == "Consistent in itself only."


def test_a_head_out_of_the_export_itself_is_not_one_from_outside(keeper: Keeper, exported: Path) -> None:
    told = done("verify", exported, "--head", exported / "head.json", *pins_of(keeper))
    assert "Open: The head given lies in the export itself" in told
    assert told.splitlines()[-1] == "Consistent in itself only."


def test_removed_and_altered_rows_are_named_and_the_exit_code_is_1(
    keeper: Keeper, exported: Path, tmp_path: Path
) -> None:
    keeper.execute(
        "DELETE FROM deposit_token_events WHERE key = 'msg-1'",
        "UPDATE deposit_token_fulfilments SET at = '2020' WHERE order_id = 'A-1'",
    )
    done("export", tmp_path / "later")
    result = run("verify", tmp_path / "later", "--head", tmp_path / "head.json", *pins_of(keeper))
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert 'ALTERED: fulfilments ["A-1"] (seal 1): it is not what was sealed' in lines
    assert 'REMOVED: events ["sandbox-bank","msg-1"] (seal 2): it was sealed and is not there any more' in lines
    assert lines[-1] == "Not proven: 2 findings."


def test_json_names_everything(keeper: Keeper, exported: Path, tmp_path: Path) -> None:
    keeper.execute("DELETE FROM deposit_token_events WHERE key = 'msg-1'")
    done("export", tmp_path / "later")
    result = run("verify", tmp_path / "later", "--json")
    assert result.exit_code == 1
    told = json.loads(result.output)
    assert (told["verdict"], told["confirmations"]["count"], told["seals"]["unsigned"]) == ("not proven", 4, 0)
    assert told["findings"] == [
        {
            "what": "removed",
            "source": "events",
            "key": '["sandbox-bank","msg-1"]',
            "seal": 2,
            "detail": "it was sealed and is not there any more",
        }
    ]
    assert json.loads(done("verify", exported, "--json"))["verdict"] == "consistent in itself only"


def spoil(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoilt(folder: Path) -> None:
        (folder / name).write_bytes(change((folder / name).read_bytes()))

    return spoilt


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda folder: (folder / "format.json").unlink(), "it is no export, or one that was cut off"),
        (lambda folder: (folder / "seals.jsonl").unlink(), "seals.jsonl cannot be read"),
        (spoil("events.jsonl", lambda data: data[:-20]), "events.jsonl, line 3: This is not JSON"),
        (spoil("leaves.jsonl", lambda data: data.replace(b'"hash":', b'"hush":')), "'hash' is missing"),
        (spoil("format.json", lambda data: data.replace(b":1,", b":2,")), "of version 2; this program reads version 1"),
        (spoil("seals.jsonl", lambda data: b'{"number":1}\n' + data), "'head' is missing"),
        (spoil("events.jsonl", lambda data: data.replace(b'"issuer":', b'"other":')), "A row lacks issuer"),
    ],
)
def test_an_export_that_cannot_be_read_says_where_and_the_exit_code_is_2(
    exported: Path, spoilt: Callable[[Path], None], said: str
) -> None:
    spoilt(exported)
    result = run("verify", exported)
    assert result.exit_code == 2, result.output
    assert said in result.output


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda head: {**head, "digest": "A" * 43}, 2, "the digest is not that of the head beside it"),
        (lambda head: {**head, "format": "another"}, 2, "is not of the format 'deposit-token-head'"),
        (lambda head: {**head, "statement": head["statement"][:-8] + "AAAAAAAA"}, 1, "Not proven"),
    ],
)
def test_a_head_that_is_not_what_it_says_is_refused(
    exported: Path, tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], code: int, said: str
) -> None:
    head = tmp_path / "head.json"
    head.write_text(json.dumps(change(json.loads(head.read_text()))))
    result = run("verify", exported, "--head", head)
    assert result.exit_code == code, result.output
    assert said in result.output


# -- one confirmation --------------------------------------------------------------------------------------------


@pytest.fixture
def bank() -> Bank:
    return Bank(SigningKey.generate(Algorithm.ED25519, "stmt-1"))


def thumbprint(bank: Bank) -> str:
    return bank.keys.keys[0].thumbprint()


def test_a_confirmation_from_a_thank_you_page_is_proven_by_the_banks_thumbprint(bank: Bank, tmp_path: Path) -> None:
    told = done("verify", files_of(bank, tmp_path), "--pin", thumbprint(bank))
    assert "'sandbox-bank' confirms a settlement: 14100 units of SBUSD reached the merchant 'demo-shop'." in told
    assert f"key 'stmt-1', thumbprint {thumbprint(bank)}" in told
    assert "it proves to anybody who knows the bank's key" in told
    assert told.splitlines()[-1] == "Proven: the key is one that you pinned."


def test_without_a_pin_it_is_consistent_in_itself_only(bank: Bank, tmp_path: Path) -> None:
    told = done("verify", files_of(bank, tmp_path))
    assert told.splitlines()[-1].startswith("Consistent in itself only: the signature holds")


@pytest.mark.parametrize("kind", list(StatementKind))
def test_each_kind_of_confirmation_says_what_it_says(bank: Bank, tmp_path: Path, kind: StatementKind) -> None:
    told = json.loads(done("verify", files_of(bank, tmp_path, kind), "--json", "--pin", thumbprint(bank)))
    assert (told["verdict"], told["kind"], told["proof"]) == ("proven", kind.value, "jws")
    assert told["units"] == str(bank.confirmation(kind).units)


def test_the_keys_may_be_named(bank: Bank, tmp_path: Path) -> None:
    statement = files_of(bank, tmp_path)
    (tmp_path / "A-1-1-keys.json").rename(tmp_path / "bank.json")
    missing = run("verify", statement)
    assert missing.exit_code == 2
    assert "give the bank's JWK set by --keys" in missing.output
    done("verify", statement, "--keys", tmp_path / "bank.json")


def test_a_line_of_an_export_is_a_confirmation_too(keeper: Keeper, exported: Path, tmp_path: Path) -> None:
    line = (exported / "evidence.jsonl").read_text().splitlines()[0]
    (tmp_path / "line.json").write_text(line)
    assert "Proven" in done("verify", tmp_path / "line.json", *pins_of(keeper)[:2])


def test_a_changed_statement_is_not_proven(bank: Bank, tmp_path: Path) -> None:
    statement = files_of(bank, tmp_path)
    other = bank.confirmation(units="94100").evidence.content
    header, _, signature = statement.read_text().split(".")
    statement.write_text(".".join([header, other.split(".")[1], signature]))
    result = run("verify", statement, "--pin", thumbprint(bank))
    assert (result.exit_code, "Not proven: The JWS's signature is not one" in result.output) == (1, True)
    told = run("verify", statement, "--json")
    assert (told.exit_code, json.loads(told.stdout)["reason"]) == (1, "signature_mismatch")


def test_a_confirmation_by_another_key_than_those_pinned_is_not_proven(bank: Bank, tmp_path: Path) -> None:
    forger = Bank(SigningKey.generate(Algorithm.ED25519, "stmt-1"))
    result = run("verify", files_of(forger, tmp_path), "--pin", thumbprint(bank))
    assert result.exit_code == 1
    assert f"signed by the key {thumbprint(forger)}, which is none of those pinned" in result.output


@pytest.mark.parametrize("typ", ["deposit-quote+jws", "deposit-seal+jws"])
def test_what_is_no_confirmation_does_not_pass_for_one(bank: Bank, tmp_path: Path, typ: str) -> None:
    statement = files_of(bank, tmp_path)
    statement.write_text(bank.state({"iss": "sandbox-bank"}, typ))
    result = run("verify", statement)
    assert (result.exit_code, f"'{typ}': no bank's confirmation" in result.output) == (1, True)


@pytest.mark.parametrize(("content", "code"), [("", 1), ("{", 2), ("{}", 2), ("not a statement", 1), ("ä.ö.ü", 1)])
def test_a_file_of_something_else_is_said_to_be_so(bank: Bank, tmp_path: Path, content: str, code: int) -> None:
    statement = files_of(bank, tmp_path)
    statement.write_text(content, encoding="utf-8")
    assert run("verify", statement).exit_code == code


def test_keys_that_are_none_are_unreadable(bank: Bank, tmp_path: Path) -> None:
    statement = files_of(bank, tmp_path)
    (tmp_path / "A-1-1-keys.json").write_text("none")
    assert run("verify", statement).exit_code == 2


def test_a_file_that_is_not_there_is_unreadable(tmp_path: Path) -> None:
    result = run("verify", tmp_path / "nothing.jws")
    assert (result.exit_code, "no file" in result.output.lower() or "no such file" in result.output.lower()) == (
        2,
        True,
    )


@pytest.mark.parametrize("proof", ["signed_message", "channel", "chain"])
def test_a_proof_that_cannot_be_verified_offline_is_not_called_proven(
    keeper: Keeper, tmp_path: Path, proof: str
) -> None:
    keeper.pay()
    with keeper.engine.begin() as connection:
        connection.execute(text(f"UPDATE deposit_token_evidence SET proof = '{proof}' WHERE number = 1"))  # noqa: S608  # a word of ours
    done("seal")
    done("export", tmp_path / "export")
    result = run("verify", tmp_path / "export")
    assert result.exit_code == 1
    assert f'UNVERIFIABLE: evidence ["1"]: proof_unknown: No verification is known for a proof of kind {proof}' in (
        result.output
    )


def test_many_rows_in_doubt_are_counted_on_a_terminal_and_all_named_in_json(keeper: Keeper, tmp_path: Path) -> None:
    keeper.many_events(30)
    keeper.checkout.erase(AT + days(1))
    keeper.execute("DELETE FROM deposit_token_leaves WHERE key LIKE '%msg-7\"%'")
    done("export", tmp_path / "export")
    told = run("verify", tmp_path / "export").output
    assert told.count("IN DOUBT: events") == 20
    assert "… and 9 more in doubt; --json names them." in told
    assert "… and 9 more bodies erased; --json names them." in told
    named = json.loads(run("verify", tmp_path / "export", "--json").output)
    assert len([found for found in named["findings"] if found["what"] == "in_doubt"]) == 29
    assert len(named["erased"]) == 29


def test_without_a_key_the_command_says_that_the_seals_are_not_signed(
    database: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper(database, key=None)
    module = ModuleType("an_unsigned_shop")
    module.checkout = keeper.checkout  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "an_unsigned_shop", module)
    monkeypatch.setenv("DEPOSIT_TOKEN_CHECKOUT", "an_unsigned_shop:checkout")
    assert done("seal") == "Rows sealed: 0. There are no seals.\n"
    keeper.events(1)
    assert done("seal") == "Rows sealed: 1. The last seal is 1, not signed: the checkout has no signing key.\n"
    done("export", tmp_path / "export")
    told = done("verify", tmp_path / "export")
    assert "1 not signed" in told
    assert "Open: Seals not signed: 1." in told
