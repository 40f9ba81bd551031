"""The command ``deposit-token`` as a whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from deposit_token_sdk.cli.group import COMMANDS, group

ROOMS = Path(__file__).parents[2] / "deposit_token_sdk/cli"


def test_every_module_that_has_a_command_is_in_the_group() -> None:
    begins = re.compile(r"^@click\.(command|group)\(\"", re.MULTILINE)
    assert sorted(path.stem for path in ROOMS.glob("*.py") if begins.search(path.read_text())) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_called_as_its_module_and_has_a_help(name: str) -> None:
    found = group.get_command(click.Context(group), name)
    assert found is not None
    assert found.name == name
    shown = CliRunner().invoke(group, [name, "--help"])
    assert shown.exit_code == 0
    assert name in shown.output


def test_a_command_that_is_not_there_is_a_usage_error() -> None:
    assert CliRunner().invoke(group, ["pay"]).exit_code == 2


def test_the_help_of_all_loads_nothing_heavy() -> None:
    program = (
        "import sys; from deposit_token_sdk.cli.group import group; group(['--help'], standalone_mode=False); "
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"requests", "urllib3", "cryptography", "sqlalchemy", "flask", "rich", "celery"}
    assert {name.partition(".")[0] for name in loaded} & heavy == set()
