"""The basket: what a visitor has chosen, in the signed session cookie, in one currency at a time."""

from __future__ import annotations

from attrs import frozen
from flask import session

from deposit_token_sdk import Money
from examples.flask_shop.catalogue import CURRENCIES
from examples.flask_shop.models import Line, Product, products

MOST = 99


@frozen
class Choice:
    """Some pieces of one product, at the price of the basket's currency."""

    product: Product
    count: int
    price: Money

    @property
    def sum(self) -> Money:
        return self.price * self.count


def currency() -> str:
    """The currency the visitor looks at prices in."""
    chosen = session.get("currency")
    return chosen if chosen in CURRENCIES else next(iter(CURRENCIES))


def choose_currency(code: str) -> None:
    """Show another price list; a code that is not the shop's is ignored."""
    if code in CURRENCIES:
        session["currency"] = code


def set_count(sku: str, count: int) -> None:
    """Have so many pieces of a product in the basket; none takes it out."""
    counts = dict(session.get("basket", {}))
    counts.pop(sku, None)
    if count > 0:
        counts[sku] = min(count, MOST)
    session["basket"] = counts


def count_of(sku: str) -> int:
    """How many pieces of a product are in the basket."""
    return int(session.get("basket", {}).get(sku, 0))


def pieces() -> int:
    """How many pieces are in the basket altogether."""
    return sum(session.get("basket", {}).values())


def choices() -> list[Choice]:
    """The basket as the catalogue prices it now. What is not sold in the currency is left out."""
    priced = ((product, count_of(product.sku), product.price_in(currency())) for product in products())
    return [Choice(product, count, price) for product, count, price in priced if count and price]


def total(chosen: list[Choice]) -> Money:
    """What they cost together."""
    return sum((choice.sum for choice in chosen), Money(0, currency()))


def lines(chosen: list[Choice]) -> list[Line]:
    """The lines of an order of them."""
    return [Line(sku=c.product.sku, name=c.product.name, count=c.count, price=c.price) for c in chosen]


def empty() -> None:
    """Take everything out."""
    session.pop("basket", None)
