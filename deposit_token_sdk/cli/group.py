"""The group of all commands, each in a module of its own that is loaded when its command is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Final, cast

import click

COMMANDS: Final = ("doctor", "evidence", "outbox", "reconcile", "review", "sandbox", "tokens", "worker")
"""The commands, in the order of the help; each is the `command` of the module of its name."""


class _Commands(click.Group):
    """Imports a command's module only for that command, or for the help of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return cast(click.Command, import_module(f"deposit_token_sdk.cli.{cmd_name}").command)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="deposit-token-sdk", prog_name="deposit-token")
def group() -> None:
    """Take payment in bank-issued deposit tokens."""
