"""What the shop sells, what it asks in which currency, and where it delivers to.

Each currency has a price list of its own: nothing here is converted, and no two currencies need have the same number
of decimals (the euro has two, the yen none, the Kuwaiti dinar three).
"""

from __future__ import annotations

from typing import Final

from deposit_token_sdk import Money
from examples.flask_shop.languages import N_

CURRENCIES: Final = ("EUR", "CNY", "JPY", "KWD")

COUNTRIES: Final = tuple("AT AU BE CA CH CN DE ES FR GB HK IE IT JP KW NL SG US".split())

_TABLE: Final = (
    (
        "travel-set",
        N_("Travel tea set"),
        N_("A pot, four cups and a felt case that fits a coat pocket."),
        "128.50 EUR, 1008.00 CNY, 20900 JPY, 42.750 KWD",
    ),
    (
        "brass-kettle",
        N_("Brass kettle"),
        N_("Holds a litre and a half and sings when it is ready."),
        "84.00 EUR, 660.00 CNY, 13800 JPY, 28.125 KWD",
    ),
    (
        "tea-bowl",
        N_("Tea bowl"),
        N_("Thrown by hand, glazed in ash grey. No two alike."),
        "19.90 EUR, 156.00 CNY, 3200 JPY, 6.605 KWD",
    ),
    (
        "green-tea",
        N_("Green tea, 100 g"),
        N_("First picking, steamed the same evening."),
        "9.80 EUR, 77.00 CNY, 1560 JPY, 3.255 KWD",
    ),
    (
        "tea-tin",
        N_("Tea tin"),
        N_("Two lids, so that the leaves stay dry."),
        "12.40 EUR, 97.50 CNY, 1980 JPY, 4.115 KWD",
    ),
    (
        "linen-cloth",
        N_("Linen cloth"),
        N_("Washed soft; for drying, wrapping and laying."),
        "7.35 EUR, 58.00 CNY, 1150 JPY, 2.450 KWD",
    ),
)

Entry = tuple[str, str, str, tuple[Money, ...]]


def entries() -> tuple[Entry, ...]:
    """The products in the order they are shown: sku, name, description and a price for each currency."""
    return tuple((sku, name, text, tuple(map(_money, prices.split(", ")))) for sku, name, text, prices in _TABLE)


def _money(text: str) -> Money:
    amount, currency = text.split()
    return Money(amount, currency)
