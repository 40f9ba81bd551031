"""Shops that migrate by Alembic fold the checkout's revisions into their own, and get what `create_schema` makes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy.orm import sessionmaker

from deposit_token_sdk import SqlStore
from deposit_token_sdk.checkout.sql import metadata
from tests.databases import EMPTY, ON_BOTH, address, fresh

pytestmark = [ON_BOTH, EMPTY]

PAGE = Path(__file__).parents[2] / "docs/database.md"

ENV = """
from alembic import context
from sqlalchemy import Column, MetaData, Table, Text, create_engine
from sqlalchemy.pool import NullPool

from deposit_token_sdk.checkout.sql import metadata, prepare_sqlite

shop = MetaData()
Table("shop_orders", shop, Column("id", Text, primary_key=True), Column("status", Text, nullable=False))

engine = create_engine(context.config.get_main_option("sqlalchemy.url"), poolclass=NullPool)
prepare_sqlite(engine)
with engine.connect() as connection:
    context.configure(connection, target_metadata=[shop, metadata])
    with context.begin_transaction():
        context.run_migrations()
"""

ORDERS = """
import sqlalchemy as sa
from alembic import op

revision = "shop_0001"
down_revision = None


def upgrade():
    columns = sa.Column("id", sa.Text, primary_key=True), sa.Column("status", sa.Text, nullable=False)
    op.create_table("shop_orders", *columns)


def downgrade():
    op.drop_table("shop_orders")
"""


@pytest.fixture
def alembic(tmp_path: Path, database: sa.Engine) -> Config:
    """A shop's own migrations, the checkout's beside them as docs/database.md has it."""
    folder = tmp_path / "shop"
    (folder / "versions").mkdir(parents=True)
    (folder / "env.py").write_text(ENV)
    (folder / "versions" / "orders.py").write_text(ORDERS)
    url = address(database).replace("%", "%%")
    told = re.search(r"^```ini\n(.+?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert told
    (folder / "alembic.ini").write_text(f"[alembic]\nscript_location = %(here)s\nsqlalchemy.url = {url}\n{told[1]}")
    return Config(folder / "alembic.ini")


def test_the_revisions_give_the_tables_that_one_call_creates(alembic: Config, database: sa.Engine, dbms: str) -> None:
    command.upgrade(alembic, "heads")
    with fresh(dbms) as called:
        SqlStore(sessionmaker(called)).create_schema()
        assert everything_in(database) == everything_in(called)
    with database.connect() as connection:
        compared = MigrationContext.configure(connection, opts={"include_name": of_ours})
        assert compare_metadata(compared, metadata) == []


def of_ours(name: str | None, kind: str, _: Any) -> bool:
    return kind != "table" or (name or "").startswith("deposit_token_")


def everything_in(database: sa.Engine) -> dict[str, set[Any]]:
    """Tables, columns, constraints and indexes of the checkout, as the database itself describes them."""
    if database.dialect.name == "sqlite":
        asked = {"all": "SELECT name, sql FROM sqlite_master WHERE tbl_name LIKE 'deposit_token_%'"}
    else:
        asked = {
            "columns": "SELECT table_name, column_name, data_type, is_nullable, column_default "
            "FROM information_schema.columns WHERE table_name LIKE 'deposit_token_%'",
            "indexes": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename LIKE 'deposit_token_%'",
            "constraints": "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE CAST(CAST(conrelid AS regclass) AS text) LIKE 'deposit_token_%'",
        }
    with database.connect() as connection:
        return {
            what: {tuple(map(_plain, row)) for row in connection.execute(sa.text(question))}
            for what, question in asked.items()
        }


def _plain(told: object) -> str:
    """On SQLite a table is described by the text that made it; in which order it names columns matters to nobody."""
    text = re.sub(r"\s+", " ", str(told)).replace("IF NOT EXISTS ", "")
    found = re.fullmatch(r"(CREATE TABLE \w+) \( (.*) \)", text)
    if found is None:
        return text
    return f"{found[1]} {sorted(re.split(r', (?![^(]*[)])', found[2]))}"


def test_a_shop_that_has_upgraded_has_nothing_left_to_migrate(alembic: Config, database: sa.Engine) -> None:
    command.upgrade(alembic, "heads")
    command.check(alembic)
    store = SqlStore(sessionmaker(database))
    assert store.installation() == store.installation()
    store.create_schema()


def test_a_shop_that_began_with_one_call_can_go_on_with_alembic(alembic: Config, database: sa.Engine) -> None:
    SqlStore(sessionmaker(database)).create_schema()
    command.stamp(alembic, "deposit_token@head")
    command.upgrade(alembic, "heads")
    command.check(alembic)
    assert tables_of(database) == {"alembic_version", "shop_orders", *metadata.tables}


def test_the_shops_next_revision_lands_in_the_shops_own_folder(alembic: Config) -> None:
    command.upgrade(alembic, "heads")
    folder = Path(str(alembic.config_file_name)).parent
    (folder / "script.py.mako").write_text("revision = ${repr(up_revision)}\ndown_revision = ${repr(down_revision)}\n")
    command.revision(alembic, "next", head="shop_0001", rev_id="shop_0002")
    assert [path.name for path in (folder / "versions").glob("shop_*.py")] == ["shop_0002_next.py"]


def test_a_forgotten_upgrade_is_noticed(alembic: Config) -> None:
    command.upgrade(alembic, "shop_0001")
    with pytest.raises(CommandError, match="not up to date"):
        command.check(alembic)


def test_the_checkouts_branch_goes_up_and_down_without_the_shops(alembic: Config, database: sa.Engine) -> None:
    command.upgrade(alembic, "deposit_token@head")
    assert set(metadata.tables) == tables_of(database) - {"alembic_version"}
    command.upgrade(alembic, "heads")
    command.downgrade(alembic, "deposit_token@base")
    assert tables_of(database) == {"alembic_version", "shop_orders"}
    command.upgrade(alembic, "heads")
    assert tables_of(database) == {"alembic_version", "shop_orders", *metadata.tables}


def tables_of(database: sa.Engine) -> set[str]:
    return set(sa.inspect(database).get_table_names())


def test_a_branch_has_one_head_and_its_name_is_ours(alembic: Config) -> None:
    revisions = ScriptDirectory.from_config(alembic)
    found = [revisions.get_revision(head) for head in revisions.get_heads()]
    ours = [one.revision for one in found if "deposit_token" in one.branch_labels]
    assert len(ours) == 1
    assert ours[0].startswith("deposit_token_")
