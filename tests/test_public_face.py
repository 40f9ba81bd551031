"""What `import deposit_token_sdk` gives: the public names, loaded when first used."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import deposit_token_sdk

SOURCE = Path(deposit_token_sdk.__file__).read_text(encoding="utf-8")


def declared() -> dict[str, str]:
    """Names and their modules, as a type checker is told them."""
    found = {}
    for node in ast.walk(ast.parse(SOURCE)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("deposit_token_sdk."):
            for alias in node.names:
                assert alias.asname == alias.name, "re-exported by name"
                found[alias.name] = node.module
    return found


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_what_a_type_checker_is_told_is_what_there_is() -> None:
    assert set(declared()) == set(deposit_token_sdk.__all__)
    for name, home in declared().items():
        assert getattr(deposit_token_sdk, name) is getattr(importlib.import_module(home), name)


def test_the_public_names_are_few_and_all_have_a_docstring() -> None:
    assert len(deposit_token_sdk.__all__) == len(set(deposit_token_sdk.__all__)) <= 35
    for name in deposit_token_sdk.__all__:
        assert inspect.getdoc(getattr(deposit_token_sdk, name)), name


def test_every_public_name_can_be_completed_and_star_imported() -> None:
    assert set(deposit_token_sdk.__all__) <= set(dir(deposit_token_sdk))
    namespace: dict[str, object] = {}
    exec("from deposit_token_sdk import *", namespace)  # noqa: S102  # that is what is tested
    assert set(deposit_token_sdk.__all__) <= set(namespace)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Cheque'"):
        deposit_token_sdk.Cheque  # noqa: B018
    assert not hasattr(deposit_token_sdk, "Cheque")
    with pytest.raises(ImportError):
        exec("from deposit_token_sdk import Cheque")  # noqa: S102  # that is what is tested


def test_importing_the_package_imports_nothing_else_of_ours() -> None:
    loaded = loaded_by("import deposit_token_sdk")
    assert {name for name in loaded if name.startswith("deposit_token_sdk")} == {"deposit_token_sdk"}
    assert not loaded & {"requests", "urllib3", "cryptography", "attrs", "attr", "flask", "sqlalchemy", "click"}


def test_money_and_errors_cost_no_cryptography_and_no_network() -> None:
    loaded = loaded_by("from deposit_token_sdk import Money, NotGenuine, Status")
    assert not loaded & {"requests", "urllib3", "cryptography", "flask", "sqlalchemy"}


def test_client_and_checkout_need_no_extra() -> None:
    loaded = loaded_by("from deposit_token_sdk import Checkout, Client, Money")
    assert not loaded & {"requests", "flask", "sqlalchemy", "click", "rich", "waitress", "segno"}
    assert not {name for name in loaded if name == "tomllib" or name.startswith("deposit_token_sdk.offers")}
