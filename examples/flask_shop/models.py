"""The shop's own tables. Money is kept as text, exactly as it reads: no column of it ever passes through a float.

An order may be changed until it is paid, so each content it has had is kept by its digest. The digest goes to the
checkout with every attempt, and the attempt that pays says which content was bought.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import ForeignKey, Text, UniqueConstraint, select, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, registry, relationship
from sqlalchemy.types import TypeDecorator

from deposit_token_sdk import Money
from examples.flask_shop import catalogue


class MoneyText(TypeDecorator[Money]):
    """An amount with its currency in one text column, such as ``128.50 EUR``."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Money | None, dialect: Any) -> str | None:
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Any) -> Money | None:
        return None if value is None else Money(*value.split(" "))


class Base(DeclarativeBase):
    registry = registry(type_annotation_map={str: Text, Money: MoneyText})


db = SQLAlchemy(model_class=Base)

_PREPARING = 0x7EA
"""The number of PostgreSQL's lock under which the tables are made."""


class Product(Base):
    __tablename__ = "product"

    sku: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    name: Mapped[str]
    description: Mapped[str]
    prices: Mapped[list[Price]] = relationship(lazy="selectin")

    def price_in(self, currency: str) -> Money | None:
        """What it costs on that currency's price list; None if it is not on it."""
        return next((entry.amount for entry in self.prices if entry.currency == currency), None)


class Price(Base):
    __tablename__ = "price"

    sku: Mapped[str] = mapped_column(ForeignKey(Product.sku), primary_key=True)
    currency: Mapped[str] = mapped_column(primary_key=True)
    amount: Mapped[Money]


class Order(Base):
    """What a buyer ordered. `id` is for people to quote; `address` is the secret part of its pages' addresses.

    `latest` is the digest of what was asked for last, `paid` that of what was paid, `paid_by` the reference that paid.
    """

    __tablename__ = "shop_order"

    id: Mapped[str] = mapped_column(primary_key=True)
    address: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC).replace(tzinfo=None))
    country: Mapped[str]
    token: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")
    latest: Mapped[str]
    paid: Mapped[str | None]
    paid_by: Mapped[str | None]
    contents: Mapped[list[Content]] = relationship(lazy="selectin")

    def content(self, digest: str | None = None) -> Content:
        """The content of that digest; without one, what was paid, or else what was asked for last."""
        wanted = digest or self.paid or self.latest
        return next(content for content in self.contents if content.digest == wanted)


class Content(Base):
    """One content an order has had."""

    __tablename__ = "order_content"
    __table_args__ = (UniqueConstraint("order_id", "digest"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey(Order.id))
    digest: Mapped[str]
    total: Mapped[Money]
    lines: Mapped[list[Line]] = relationship(lazy="selectin")


class Line(Base):
    __tablename__ = "order_line"

    id: Mapped[int] = mapped_column(primary_key=True)
    content_id: Mapped[int] = mapped_column(ForeignKey(Content.id))
    sku: Mapped[str]
    name: Mapped[str]
    count: Mapped[int]
    price: Mapped[Money]

    @property
    def sum(self) -> Money:
        return self.price * self.count


class Agreement(Base):
    """That the buyer agreed to the total of a later price, by the reference of the attempt that has it."""

    __tablename__ = "order_agreement"

    reference: Mapped[str] = mapped_column(primary_key=True)
    order_id: Mapped[str] = mapped_column(ForeignKey(Order.id))


def insert(table: type[Base]) -> Any:
    """An insert that can say what to do on a conflict, in the words of the database that we have."""
    dialect = postgresql if db.engine.dialect.name == "postgresql" else sqlite
    return dialect.insert(table)


def new_content(lines: Iterable[Line]) -> Content:
    """The lines with their total and their digest: same goods at the same prices, same digest."""
    lines = sorted(lines, key=lambda line: line.sku)
    text = "\n".join(f"{line.sku} {line.count} {line.price}" for line in lines)
    total = sum((line.sum for line in lines[1:]), lines[0].sum)
    return Content(digest=hashlib.sha256(text.encode()).hexdigest(), total=total, lines=lines)


def products() -> list[Product]:
    """All products, in the catalogue's order."""
    return list(db.session.scalars(select(Product).order_by(Product.position)))


def order_at(address: str) -> Order | None:
    """The order whose pages lie at this address."""
    return db.session.scalars(select(Order).where(Order.address == address)).one_or_none()


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Nobody else prepares the same database meanwhile: the web's workers all start at once.

    SQLite has one writer at a time as it is.
    """
    with db.engine.connect() as connection:
        postgres = connection.dialect.name == "postgresql"
        if postgres:
            connection.execute(text("SELECT pg_advisory_lock(:number)"), {"number": _PREPARING})
        try:
            yield
        finally:
            if postgres:
                connection.execute(text("SELECT pg_advisory_unlock(:number)"), {"number": _PREPARING})


def fill() -> None:
    """Create the shop's tables where they are missing, and put the catalogue into them."""
    db.create_all()
    if not products():
        for position, (sku, name, description, prices) in enumerate(catalogue.entries()):
            listed = [Price(currency=price.currency, amount=price) for price in prices]
            db.session.add(Product(sku=sku, position=position, name=name, description=description, prices=listed))
    db.session.commit()
