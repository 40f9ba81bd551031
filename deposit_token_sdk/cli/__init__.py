"""The command ``deposit-token``: one module a command, each loading what it needs when it is run."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; what is missing or wrong is said in one sentence, without a traceback."""
    try:
        from deposit_token_sdk.cli.group import group  # noqa: PLC0415 - click is an extra
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        print("deposit-token needs its command line: pip install 'deposit-token-sdk[cli]'", file=sys.stderr)
        sys.exit(1)
    group()
