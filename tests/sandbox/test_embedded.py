"""The bank as one object in this process."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.sandbox import Sandbox, dialects, routing, tables
from deposit_token_sdk.sandbox.key_files import private_key
from deposit_token_sdk.sandbox.tables import Database
from deposit_token_sdk.signing.keys import Algorithm
from tests.sandbox.shop import Shop


def test_the_settings_name_all_that_a_shop_needs(bank: Sandbox, tmp_path: Path) -> None:
    settings = bank.environment()
    file = Path(settings.pop("DEPOSIT_TOKEN_SIGNING_KEY_FILE"))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")
    assert settings.pop("DEPOSIT_TOKEN_WEBHOOK_KEYS").startswith("whpk_")
    assert settings == {
        "DEPOSIT_TOKEN_ISSUER": "reference",
        "DEPOSIT_TOKEN_BANK": "sandbox-bank",
        "DEPOSIT_TOKEN_URL": bank.url,
        "DEPOSIT_TOKEN_MERCHANT": "demo-shop",
        "DEPOSIT_TOKEN_MODE": "test",
        "DEPOSIT_TOKEN_SIGNING_KEY_ID": "demo-shop-1",
        "DEPOSIT_TOKEN_JWKS_URL": f"{bank.url}/.well-known/jwks.json",
    }


def test_a_bank_that_was_stopped_goes_on_where_it_was(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as bank:
        shop = Shop(bank)
        invoice = shop.invoice()
        order, keys = shop.order(shop.quote().body), shop.keys()
        made = shop.call("POST", "/invoices", order, key="key-1")
        bank.control.advance(60)
        balances = bank.control.balances()
        shop.http.close()
    with Sandbox(tmp_path) as bank:
        shop = Shop(bank)
        assert shop.read(invoice) == invoice | {"pay_url": shop.read(invoice)["pay_url"]}
        again = shop.call("POST", "/invoices", order, key="key-1")
        assert again.body == made.body
        assert shop.keys().keys == keys.keys
        assert bank.control.balances() == balances
        assert bank.control.time()["ahead"] == 60
        assert bank.control.audit() == []
        shop.http.close()


@pytest.mark.parametrize(("durable", "synchronous"), [(True, 2), (False, 1)])
def test_a_durable_bank_has_sqlite_write_through_at_each_commit(
    tmp_path: Path, durable: bool, synchronous: int
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'bank.sqlite3'}", durable=durable)
    with database.transaction() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == synchronous
    database.close()


def test_settings_can_be_had_before_the_bank_runs_where_a_port_is_named(tmp_path: Path) -> None:
    waiting = Sandbox(tmp_path, port=8799)
    assert waiting.environment("http://127.0.0.1:1/hook")["DEPOSIT_TOKEN_URL"] == "http://127.0.0.1:8799"
    with pytest.raises(ConfigurationError) as refused:
        Sandbox(tmp_path).environment()
    assert refused.value.reason == "no_port"
    with pytest.raises(ConfigurationError):
        _ = waiting.control


def test_the_bank_stands_on_loopback_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Sandbox(tmp_path, host="0.0.0.0")  # noqa: S104 - that it is refused is the point
    assert refused.value.reason == "not_loopback"


def test_a_mode_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Sandbox(tmp_path, mode="demo")
    assert refused.value.reason == "bad_mode"


def test_many_openers_at_once_fund_the_buyers_once(tmp_path: Path) -> None:
    openers = [threading.Thread(target=Sandbox(tmp_path, port=8799).environment) for _ in range(4)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    with Sandbox(tmp_path) as bank:
        assert bank.control.balances()["SBUSD:buyer:anna"] == "100000000"
        assert bank.control.audit() == []


def test_a_key_file_appears_whole_and_who_comes_second_takes_the_first_ones_key(tmp_path: Path) -> None:
    path = tmp_path / "signing-key.pem"
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: private_key(path, Algorithm.ED25519, "k1").to_pem(), range(24)))
    assert set(keys) == {path.read_bytes()}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_is_for_its_owner_alone_and_the_same_as_if_its_tables_were_made_one_by_one(tmp_path: Path) -> None:
    """The bank's private keys are in it; and what an older release left without a table gets it."""

    def structure(file: Path) -> list[object]:
        with closing(sqlite3.connect(file)) as connection:
            made = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY type, name").fetchall()
            return [*made, connection.execute("PRAGMA journal_mode").fetchone()]

    new, older = tmp_path / "new.sqlite3", tmp_path / "older.sqlite3"
    with closing(sqlite3.connect(older)) as connection:
        connection.execute("CREATE TABLE facts (name VARCHAR NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name))")
    for file in (new, older):
        Database(f"sqlite:///{file}").close()
    assert stat.S_IMODE(new.stat().st_mode) == 0o600
    names = [[part[1] for part in structure(file)[:-1] if isinstance(part, tuple)] for file in (new, older)]
    assert names[0] == names[1]
    assert {"facts", "messages_due", "transfers"} <= set(names[0])
    assert structure(new)[-1] == structure(older)[-1] == ("wal",)


def test_what_a_removed_file_left_behind_does_not_come_into_the_new_one(tmp_path: Path) -> None:
    """A bank that was killed leaves its last transactions in a file beside; whoever removes the books may miss it."""
    file, beside = tmp_path / "bank.sqlite3", tmp_path / "bank.sqlite3-wal"
    old = Database(f"sqlite:///{file}")
    with old.transaction() as db:
        db.execute(tables.add(tables.facts), {"name": "of", "value": "the old books"})
    left = beside.read_bytes()
    old.close()
    file.unlink()
    beside.write_bytes(left)
    new = Database(f"sqlite:///{file}")
    with new.reading() as db:
        assert db.execute(tables.rows(tables.facts)).all() == []
    new.close()


def test_a_stopped_bank_serves_nothing_and_stops_twice(tmp_path: Path, browser: requests.Session) -> None:
    bank = Sandbox(tmp_path).start()
    url = bank.url
    assert browser.get(f"{url}/").status_code == 200
    bank.stop()
    bank.stop()
    with pytest.raises(requests.ConnectionError):
        browser.get(f"{url}/")


def test_a_taken_port_is_an_error_that_leaves_nothing_open(bank: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="in use"):
        Sandbox(tmp_path / "second", port=int(bank.url.rsplit(":", 1)[1])).start()


def test_another_mode_and_issuer_stand_in_every_statement(tmp_path: Path) -> None:
    with Sandbox(tmp_path, mode="live", issuer="another-bank") as bank:
        shop = Shop(bank)
        assert shop.quote(mode="test").code == "wrong_mode"
        claims = shop.claims(shop.quote(mode="live").body["statement"], "deposit-quote+jws", "QuoteClaims")
        assert (claims["iss"], claims["mode"]) == ("another-bank", "live")
        assert bank.environment()["DEPOSIT_TOKEN_MODE"] == "live"
        shop.http.close()


def test_a_second_bank_compiles_nothing_again(tmp_path: Path) -> None:
    made = []
    for name in ("first", "second"):
        with Sandbox(tmp_path / name):
            pass
        made.append((len(tables._COMPILED), len(routing._COMPILED)))
    assert made[0] == made[1] > (0, 0)


def test_two_banks_at_once_serve_each_its_own(tmp_path: Path, browser: requests.Session) -> None:
    with Sandbox(tmp_path / "first") as first, Sandbox(tmp_path / "second") as second:
        shops = [Shop(first), Shop(second)]
        invoices = [shop.invoice() for shop in shops]
        first.control.pay(invoices[0]["id"])
        for bank, shop, invoice, status in zip((first, second), shops, invoices, ("paid", "open"), strict=True):
            assert shop.read(invoice)["status"] == status
            assert [each["id"] for each in bank.control.invoices()] == [invoice["id"]]
            assert browser.get(invoice["pay_url"]).status_code == 200
            page = browser.get(f"{bank.url}/dashboard/invoices/{invoice['id']}")
            assert (page.status_code, invoice["reference"] in page.text) == (200, True)
            shop.http.close()
        assert browser.get(invoices[0]["pay_url"].replace(first.url, second.url)).status_code == 404


def test_books_in_which_something_is_missing_gain_it_and_keep_what_they_hold(tmp_path: Path) -> None:
    with Sandbox(tmp_path) as bank:
        before = bank.control.balances()
    with sqlite3.connect(tmp_path / "bank.sqlite3") as books:
        names = "SELECT name FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
        complete = books.execute(names).fetchall()
        books.execute("DROP TABLE orders")
        books.execute("DROP INDEX messages_due")
    books.close()
    with Sandbox(tmp_path) as bank:
        assert bank.control.balances() == before
        with sqlite3.connect(tmp_path / "bank.sqlite3") as books:
            assert books.execute(names).fetchall() == complete
        books.close()


THEIRS = """
from flask import Blueprint

def blueprint(bank):
    made = Blueprint("harbour", __name__)
    made.add_url_rule("/harbour/<name>", "greet", lambda name: f"{bank.house.issuer} greets {name}")
    return made
"""


def test_a_dialect_installed_meanwhile_is_served_by_the_next_bank(
    tmp_path: Path, browser: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "harbour" not in dialects.names()
    info = tmp_path / "site" / "harbour-1.0.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: harbour\nVersion: 1.0.0\n", encoding="utf-8")
    points = "[deposit_token_sdk.dialects]\nharbour = harbour:blueprint\n"
    (info / "entry_points.txt").write_text(points, encoding="utf-8")
    (tmp_path / "site" / "harbour.py").write_text(THEIRS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    for issuer in ("north", "south"):
        with Sandbox(tmp_path / issuer, issuer=issuer) as bank:
            assert browser.get(f"{bank.url}/harbour/anna").text == f"{issuer} greets anna"


def test_importing_the_sandbox_loads_no_extra() -> None:
    check = (
        "import sys, deposit_token_sdk.sandbox;"
        "print([m for m in ('flask', 'sqlalchemy', 'waitress', 'requests', 'cryptography') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_extra_is_named_with_the_command_that_installs_it() -> None:
    check = (
        "import sys; sys.modules['sqlalchemy'] = None\n"
        "from deposit_token_sdk.errors import ConfigurationError\n"
        "try:\n"
        "    from deposit_token_sdk.sandbox import Sandbox\n"
        "except ConfigurationError as error:\n"
        "    print(error.reason, error)\n"
    )
    said = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert said == "extra_missing The sandbox bank needs sqlalchemy: pip install 'deposit-token-sdk[sandbox]'.\n"


def test_the_bank_imports_nothing_of_ours_but_errors_money_and_signing(tmp_path: Path) -> None:
    check = (
        f"import sys; from deposit_token_sdk.sandbox import Sandbox\n"
        f"with Sandbox({str(tmp_path)!r}): pass\n"
        "print(sorted({m.split('.')[1] for m in sys.modules if m.startswith('deposit_token_sdk.')}))"
    )
    said = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert said == "['errors', 'money', 'sandbox', 'signing']\n"
