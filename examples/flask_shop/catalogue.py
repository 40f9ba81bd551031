"""What the shop sells, what it asks in which currency, and where it delivers to.

Each currency has a price list of its own: nothing here is converted, and no two currencies need have the same number
of decimals (the euro has two, the yen none, the Kuwaiti dinar three).
"""

from __future__ import annotations

from typing import Final

from deposit_token_sdk import Money

CURRENCIES: Final = {"EUR": "Euro", "CNY": "Renminbi", "JPY": "Japanese yen", "KWD": "Kuwaiti dinar"}

COUNTRIES: Final = {
    "AT": "Austria",
    "AU": "Australia",
    "BE": "Belgium",
    "CA": "Canada",
    "CH": "Switzerland",
    "CN": "China",
    "DE": "Germany",
    "ES": "Spain",
    "FR": "France",
    "GB": "United Kingdom",
    "HK": "Hong Kong",
    "IE": "Ireland",
    "IT": "Italy",
    "JP": "Japan",
    "KW": "Kuwait",
    "NL": "Netherlands",
    "SG": "Singapore",
    "US": "United States",
}

_TABLE: Final = (
    (
        "travel-set",
        "Travel tea set",
        "A pot, four cups and a felt case that fits a coat pocket.",
        "128.50 EUR, 1008.00 CNY, 20900 JPY, 42.750 KWD",
    ),
    (
        "brass-kettle",
        "Brass kettle",
        "Holds a litre and a half and sings when it is ready.",
        "84.00 EUR, 660.00 CNY, 13800 JPY, 28.125 KWD",
    ),
    (
        "tea-bowl",
        "Tea bowl",
        "Thrown by hand, glazed in ash grey. No two alike.",
        "19.90 EUR, 156.00 CNY, 3200 JPY, 6.605 KWD",
    ),
    (
        "green-tea",
        "Green tea, 100 g",
        "First picking, steamed the same evening.",
        "9.80 EUR, 77.00 CNY, 1560 JPY, 3.255 KWD",
    ),
    (
        "tea-tin",
        "Tea tin",
        "Two lids, so that the leaves stay dry.",
        "12.40 EUR, 97.50 CNY, 1980 JPY, 4.115 KWD",
    ),
    (
        "linen-cloth",
        "Linen cloth",
        "Washed soft; for drying, wrapping and laying.",
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
