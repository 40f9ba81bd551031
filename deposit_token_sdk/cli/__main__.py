"""``python -m deposit_token_sdk.cli``, where the command itself is not on the path."""

from deposit_token_sdk.cli import main

main()
