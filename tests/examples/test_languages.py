"""What a visitor reads: every text in every language, amounts with all their digits, and which language it is."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from flask import Flask

from deposit_token_sdk import Money
from examples.flask_shop import languages

from .conftest import Visitor

SHOP = Path(languages.__file__).parent
TRANSLATED = [tag for tag in languages.LANGUAGES if tag != "en"]
PLACES = re.compile(r"%\(\w+\)s|</?\w+>")


def texts_of_the_shop() -> set[str]:
    methods = [
        ("**.py", "python"),
        ("templates/admin/**", "ignore"),
        ("templates/**.html", "jinja2.ext:babel_extract"),
    ]
    found = extract_from_dir(SHOP, methods, keywords={"_": None, "N_": None, "gettext": None})
    return {message for _, _, message, _, _ in found if isinstance(message, str)}


@pytest.mark.parametrize("tag", TRANSLATED)
def test_every_text_is_translated_and_keeps_its_places_and_markup(tag: str) -> None:
    with (languages.FOLDER / f"{tag}.po").open("rb") as source:
        catalogue = read_po(source)
    entries = {str(entry.id): str(entry.string) for entry in catalogue if entry.id}
    assert set(entries) == texts_of_the_shop()
    assert [text for text, translated in entries.items() if not translated] == []
    assert [text for text in entries if sorted(PLACES.findall(text)) != sorted(PLACES.findall(entries[text]))] == []


@pytest.mark.parametrize(
    ("asked", "tag"),
    [
        ("", "en"),
        ("fr", "en"),
        ("de-AT,de;q=0.9,en;q=0.5", "de"),
        ("zh-CN,zh;q=0.9", "zh-Hans"),
        ("ar-KW", "ar"),
        ("fr;q=0.9,ar;q=0.4", "ar"),
    ],
)
def test_the_browsers_wish_is_the_language(visitor: Visitor, asked: str, tag: str) -> None:
    page = visitor.client.get("/", headers={"Accept-Language": asked}).text
    direction = "rtl" if tag == "ar" else "ltr"
    assert f'<html lang="{tag}" dir="{direction}">' in page


def test_a_chosen_language_stays_and_leads_back_to_the_same_page(visitor: Visitor) -> None:
    page = visitor.post("/language", language="de", back="/basket")
    assert "Ihr Warenkorb" in page
    assert "Alles für den Tee" in visitor.get("/")
    assert "Ihr Warenkorb" in visitor.post("/language", language="xx", back="/basket")


@pytest.mark.parametrize("back", ["https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere", "/nowhere", ""])
def test_the_choice_of_a_language_never_leads_elsewhere(visitor: Visitor, back: str) -> None:
    fields = {"csrf": visitor.token(), "language": "de", "back": back}
    assert visitor.client.post("/language", data=fields).headers["Location"] == "/"


@pytest.mark.parametrize(
    ("tag", "amount", "written"),
    [
        ("en", Money("1008.00", "CNY"), "1,008.00 CNY"),
        ("de", Money("1008.00", "CNY"), "1.008,00 CNY"),
        ("zh-Hans", Money("20900", "JPY"), "20,900 JPY"),
        ("de", Money("42.750", "KWD"), "42,750 KWD"),
        ("ar", Money("42.750", "KWD"), "\u206642.750 KWD\u2069"),
    ],
)
def test_an_amount_is_written_in_the_visitors_way_with_its_currencys_digits(
    app: Flask, tag: str, amount: Money, written: str
) -> None:
    with app.test_request_context(headers={"Accept-Language": tag}):
        assert languages.money(amount) == written


def test_an_amount_of_many_digits_loses_none(app: Flask) -> None:
    with app.test_request_context(headers={"Accept-Language": "de"}):
        written = languages.number(Decimal("12345678901234567890.123456789012345678"), 18)
    assert written == "12.345.678.901.234.567.890,123456789012345678"


def test_the_back_office_stays_in_english(visitor: Visitor) -> None:
    page = visitor.client.get("/admin/login", headers={"Accept-Language": "ar"}).text
    assert '<html lang="en" dir="ltr">' in page
