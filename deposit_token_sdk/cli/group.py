"""The group of all commands."""

from __future__ import annotations

import click

from deposit_token_sdk.cli import sandbox


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="deposit-token-sdk", prog_name="deposit-token")
def group() -> None:
    """Take payment in bank-issued deposit tokens."""


group.add_command(sandbox.command)
