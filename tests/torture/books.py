"""What stands in the books after a run: the bank's database and the shop's, read with plain SQL and nothing of ours.

The harness's own memory has no say, and neither has the code under test: what a database has lost, nobody here
remembers for it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from attrs import evolve, frozen
from sqlalchemy import Engine, text

Row: TypeAlias = Mapping[str, Any]
Read: TypeAlias = Callable[[str], list[Row]]


@frozen
class BankBooks:
    """The bank's side. Rows as they stand; units are digits in text."""

    invoices: list[Row]
    movements: list[Row]
    refunds: list[Row]
    transfers: list[Row]
    postings: list[Row]
    accounts: list[Row]
    deliveries: list[Row]


@frozen
class ShopBooks:
    """The shop's side: its own tables, and those that the checkout keeps for it."""

    orders: list[Row]
    fulfilments: list[Row]
    paid_with: list[Row]
    asked: list[Row]
    refunded: list[Row]
    receipts: list[Row]
    attempts: list[Row]
    observations: list[Row]
    marks: list[Row]
    reviews: list[Row]
    decisions: list[Row]
    intents: list[Row]
    refunds: list[Row]
    evidence: list[Row]
    outgoing: list[Row]
    events: list[Row]


def bank_books(database: Path) -> BankBooks:
    """The bank's books, from its SQLite file."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row

        def read(table: str) -> list[Row]:
            found = connection.execute(f"SELECT * FROM {table} ORDER BY rowid")  # noqa: S608 - our own names
            return [dict(row) for row in found]

        ids = {row["name"]: row["value"] for row in read("facts")}
        books = BankBooks(*(read(table) for table in BankBooks.__annotations__))
    # Antom names a refund by payment and refund, which is longer than this bank's books allow: they have a digest.
    merchants = [
        str(ids.get(f"antom id {row['reference']}", row["reference"])).rpartition("_")[2] for row in books.refunds
    ]
    return evolve(books, refunds=[{**row, "reference": own} for row, own in zip(books.refunds, merchants, strict=True)])


def shop_books(engine: Engine) -> ShopBooks:
    """The shop's books, from either database."""
    own = ("orders", "fulfilments", "paid_with", "asked", "refunded", "receipts")
    kept = {name: name if name in own else f"deposit_token_{name}" for name in ShopBooks.__annotations__}
    kept["marks"] = "deposit_token_fulfilments"
    with engine.connect() as connection:
        rows: dict[str, list[Row]] = {
            name: [dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()]  # noqa: S608 - our own names
            for name, table in kept.items()
        }
    return ShopBooks(**rows)


def quote_of(attempt: Row) -> dict[str, str]:
    """The attempt's quote as it was stored; empty where it has none."""
    return {} if attempt["quote"] is None else dict(json.loads(attempt["quote"]))
