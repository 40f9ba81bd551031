"""Finding the shop that a command works for."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import click
import pytest
from flask import current_app, g, has_app_context

from deposit_token_sdk import Checkout
from deposit_token_sdk.cli.loading import EXTENSION as WHERE_A_COMMAND_LOOKS
from deposit_token_sdk.cli.loading import checkout_of
from deposit_token_sdk.integrations.flask import EXTENSION as WHERE_THE_BLUEPRINT_PUTS_IT

SHOP = """
from flask import Flask
from sqlalchemy import create_engine
from sqlalchemy.orm import sessionmaker
from deposit_token_sdk import Checkout, SqlStore
from deposit_token_sdk.integrations.flask import webhooks

checkout = Checkout([], SqlStore(sessionmaker(create_engine("sqlite://"))))
plain = Flask("plain")
number = 7
made = 0


class Inside:
    checkout = checkout


def app():
    global made
    made += 1
    app = Flask("shop")
    app.register_blueprint(webhooks(checkout))
    return app


ready = app()


def just_the_checkout():
    return checkout


def nothing():
    return None


def broken():
    return {}["the shop's own mistake"]


def unset():
    from deposit_token_sdk import Client
    return Checkout(Client.from_env({}), checkout.store)
"""

_numbers = itertools.count(1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder with a module of the shop in it, from which the command is run; the module's name."""
    name = f"shop_to_load_{next(_numbers)}"
    (tmp_path / f"{name}.py").write_text(SHOP)
    (tmp_path / f"{name}_broken.py").write_text("import a_library_that_is_not_installed\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return name


def refusal(spec: str | None) -> str:
    with pytest.raises(click.UsageError) as refused:
        checkout_of(spec)
    assert refused.value.exit_code == 2
    return refused.value.message


@pytest.mark.parametrize("name", ["checkout", "just_the_checkout", "Inside.checkout"])
def test_a_checkout_is_found_by_its_name_or_by_a_callable_that_returns_it(folder: str, name: str) -> None:
    with checkout_of(f"{folder}:{name}").open() as checkout:
        assert isinstance(checkout, Checkout)


@pytest.mark.parametrize("name", ["app", "ready"])
def test_a_flask_shops_checkout_is_entered_by_a_fresh_app_context_each_time(folder: str, name: str) -> None:
    loaded = checkout_of(f"{folder}:{name}")
    for _ in range(2):
        assert not has_app_context()
        with loaded.open() as checkout:
            assert isinstance(checkout, Checkout)
            assert current_app.name == "shop"
            assert not hasattr(g, "used")
            g.used = True


def test_the_blueprint_puts_the_checkout_where_a_command_looks_for_it() -> None:
    assert WHERE_THE_BLUEPRINT_PUTS_IT == WHERE_A_COMMAND_LOOKS


@pytest.mark.parametrize("spec", [None, ""])
def test_without_a_shop_the_option_and_the_variable_are_named(spec: str | None) -> None:
    said = refusal(spec)
    assert "--checkout MODULE:NAME" in said
    assert "DEPOSIT_TOKEN_CHECKOUT" in said


@pytest.mark.parametrize("spec", ["shop", "shop:", ":checkout"])
def test_a_text_without_both_parts_is_shown_how_it_is_written(spec: str) -> None:
    assert "--checkout shop.payments:checkout" in refusal(spec)


def test_a_module_that_is_not_there_is_named_with_the_folder_that_was_searched(folder: str, tmp_path: Path) -> None:
    assert "'no_such_shop'" in refusal("no_such_shop:checkout")
    assert str(tmp_path) in refusal("no_such_shop.payments:checkout")


def test_a_library_that_the_shop_lacks_is_the_shops_own_failure_and_is_shown_whole(folder: str) -> None:
    said = refusal(f"{folder}_broken:checkout")
    assert "Traceback" in said
    assert "a_library_that_is_not_installed" in said


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("missing", "there is no 'missing'"),
        ("number", "is something of type int. It must be a Checkout"),
        ("nothing", "returned something of type NoneType"),
        ("plain", "is a Flask app without a checkout: register the blueprint"),
        ("broken", "the shop's own mistake"),
    ],
)
def test_anything_else_is_refused_with_what_was_expected(folder: str, name: str, told: str) -> None:
    assert told in refusal(f"{folder}:{name}")


def test_a_setting_that_the_shop_lacks_is_said_in_a_sentence_and_without_a_traceback(folder: str) -> None:
    said = refusal(f"{folder}:unset")
    assert "DEPOSIT_TOKEN_" in said
    assert "Traceback" not in said


def test_an_app_that_keeps_its_checkout_without_the_blueprint_will_do(folder: str) -> None:
    checkout_of(f"{folder}:checkout")
    module = sys.modules[folder]
    module.plain.extensions[WHERE_A_COMMAND_LOOKS] = module.checkout
    with checkout_of(f"{folder}:plain").open() as checkout:
        assert checkout is module.checkout
