"""A database that has seen many paid orders: one that was really paid, multiplied by the database itself.

Every row that the one order left, in every table, is copied under another number. Copies are under a seal, and no
sweep is to ask about them any more, as it is with rows of some age.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, Engine, Table, func, select, text

from benchmarks._orders import SHOP, spread
from deposit_token_sdk.checkout.sql import metadata

MODEL = 999_999_999_999
"""The number of the order that is multiplied."""

_SERIES = {
    "sqlite": "WITH RECURSIVE i(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM i WHERE n < :size) "
    "SELECT printf('%012d', n * :step % 1000000000000) FROM i",
    "postgresql": "SELECT lpad((n * :step % 1000000000000)::text, 12, '0') "
    "FROM generate_series(1, CAST(:size AS bigint)) AS i(n)",
}
_AGED = {"sealed": "1", "due_at": "NULL"}
_SETTLED = {"sqlite": ("ANALYZE", "PRAGMA wal_checkpoint(TRUNCATE)"), "postgresql": ("VACUUM ANALYZE", "CHECKPOINT")}


def multiply(engine: Engine, size: int) -> None:
    """Have the model's order so many times in all, and leave the database as one that has come to rest."""
    dialect = engine.dialect.name
    with engine.connect() as connection:
        if dialect == "sqlite":
            connection.exec_driver_sql("PRAGMA cache_size=-1000000")
        connection.execute(text("CREATE TEMPORARY TABLE crowd (digits text PRIMARY KEY)"))
        connection.execute(text(f"INSERT INTO crowd {_SERIES[dialect]}"), {"size": size - 1, "step": spread(1)})
        for table in (*SHOP.sorted_tables, *metadata.sorted_tables):
            left = connection.execute(select(func.count()).select_from(table)).scalar_one()
            if left and "slot" not in table.columns:  # there is one installation
                _copy(connection, table)
        connection.execute(text("DROP TABLE crowd"))
        connection.commit()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for command in _SETTLED[dialect]:
            connection.execute(text(command))


def _copy(connection: Connection, table: Table) -> None:
    """In the order of their keys, so that indexes are built without a search for each row's place."""
    quoted: Callable[[str], str] = connection.dialect.identifier_preparer.quote
    names = [column.name for column in table.columns if column.name != "number"]
    copied = [_AGED.get(name, f"replace({quoted(name)}, '{MODEL}', digits)") for name in names]
    connection.execute(text(f"CREATE TEMPORARY TABLE model AS SELECT * FROM {table.name}"))  # noqa: S608  # ours
    connection.execute(
        text(
            f"INSERT INTO {table.name} ({', '.join(map(quoted, names))}) "  # noqa: S608  # names of our own tables
            f"SELECT {', '.join(copied)} FROM crowd CROSS JOIN model ORDER BY digits"
        )
    )
    connection.execute(text("DROP TABLE model"))
    connection.commit()
