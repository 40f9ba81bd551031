"""What a visitor reads, in the visitor's language: texts from the catalogues, amounts and times as written there.

The texts in the code are English and stand for themselves; ``translations/<language>.po`` has the others, and they are
read as they are when first needed. A language is chosen by the select on every page, or else by the browser. Amounts
are decimals with all the digits of their token or currency, whatever a locale would rather show; a float never occurs.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal, localcontext
from functools import cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from typing import Final

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from flask import Flask, has_request_context, request, session
from markupsafe import Markup

from deposit_token_sdk import Money
from deposit_token_sdk.models import Quote
from deposit_token_sdk.money import decimal_of

LANGUAGES: Final = {"en": "English", "de": "Deutsch", "zh-Hans": "简体中文", "ar": "العربية"}
"""By their tags (BCP 47), as each is called by who speaks it."""

FOLDER: Final = Path(__file__).parent / "translations"
_DIGITS: Final = 120
_LTR: Final = "\N{LEFT-TO-RIGHT ISOLATE}%s\N{POP DIRECTIONAL ISOLATE}"


def language() -> str:
    """The visitor's choice, or the best that the browser asks for. The back office is in English."""
    if not has_request_context() or request.blueprint == "admin":
        return "en"
    chosen = session.get("language")
    if chosen in LANGUAGES:
        return str(chosen)
    # A browser asks for zh-CN or zh: matched by their first part.
    asked = request.accept_languages.best_match([tag.partition("-")[0] for tag in LANGUAGES], "en")
    return next(tag for tag in LANGUAGES if tag.partition("-")[0] == asked)


def choose_language(tag: str) -> None:
    """Read in another language from now on; one that the shop does not have is ignored."""
    if tag in LANGUAGES:
        session["language"] = tag


def locale() -> Locale:
    """The language's own ways of writing numbers, dates and names."""
    return _locale(language())


@cache
def _locale(tag: str) -> Locale:
    return Locale.parse(tag, sep="-")


@cache
def _catalogue(tag: str) -> NullTranslations:
    path = FOLDER / f"{tag}.po"
    if not path.exists():
        return NullTranslations()
    compiled = BytesIO()
    with path.open("rb") as source:
        write_mo(compiled, read_po(source, locale=_locale(tag)))
    compiled.seek(0)
    return GNUTranslations(compiled)


def gettext(text: str) -> str:
    """The text in the visitor's language; a text that no catalogue has stays as it is."""
    return _catalogue(language()).gettext(text) if text else ""


def N_(text: str) -> str:  # noqa: N802 - gettext's own name for it
    """Mark a text for the catalogues that is translated later, when it is shown."""
    return text


def _in_page(text: str, **values: object) -> Markup:
    """A text of a template, with its markup. The values are text and are escaped."""
    translated = Markup(gettext(text))  # noqa: S704 - from our own templates and catalogues
    return translated % values if values else translated


def number(amount: Decimal, decimals: int) -> str:
    """A number with exactly so many decimals, in the visitor's way of writing: ``1,008.00`` or ``1.008,00``."""
    pattern = f"#,##0.{'0' * decimals}" if decimals else "#,##0"
    with localcontext(prec=_DIGITS):
        return str(format_decimal(amount, pattern, locale=locale(), decimal_quantization=False))


def _with_code(amount: Decimal, code: str) -> str:
    written = f"{number(amount, max(0, -int(amount.as_tuple().exponent)))} {code}"
    return _LTR % written if locale().text_direction == "rtl" else written


def money(amount: Money) -> str:
    """An amount as people read it: ``1,008.00 CNY``."""
    return _with_code(amount.amount, amount.currency)


def tokens(units: int, quote: Quote) -> str:
    """Token units as people read them, with the token's own decimals: ``139.26 SBUSD``."""
    return _with_code(decimal_of(units, quote.decimals), quote.token)


def token_number(units: int, quote: Quote) -> str:
    """Token units as a form takes them: ``139.26``."""
    return f"{decimal_of(units, quote.decimals):f}"


def rate(quote: Quote) -> str:
    """What one unit of the price's currency is in the token, with every digit that the bank has signed."""
    return _with_code(quote.rate, quote.token)


def moment(when: datetime) -> str:
    """A moment to the second, in UTC."""
    return str(format_datetime(when.astimezone(UTC), "long", tzinfo=UTC, locale=locale()))


def day(when: datetime) -> str:
    """A date."""
    return str(format_date(when.date(), "long", locale=locale()))


def country(code: str) -> str:
    """A country's name."""
    return str(locale().territories.get(code, code))


def currency_name(code: str) -> str:
    """A currency's name."""
    return str(locale().currencies.get(code, code))


def speak(app: Flask) -> None:
    """Give the templates their texts, amounts and times."""
    app.jinja_env.globals["_"] = _in_page
    app.jinja_env.filters.update(
        translated=gettext,
        money=money,
        tokens=tokens,
        moment=moment,
        day=day,
        country=country,
        currency_name=currency_name,
        rate=rate,
    )

    @app.context_processor
    def spoken() -> dict[str, object]:
        return {"languages": LANGUAGES, "language": language(), "direction": locale().text_direction}
