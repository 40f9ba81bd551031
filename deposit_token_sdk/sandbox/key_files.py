"""Private keys in files of the data folder, each readable by its owner alone."""

from __future__ import annotations

import os
from pathlib import Path

from deposit_token_sdk.signing.keys import Algorithm, SigningKey


def private_key(path: Path, algorithm: Algorithm, kid: str) -> SigningKey:
    """The key in that file; made, for its owner's eyes only, if there is none."""
    try:
        return SigningKey.from_pem(path.read_bytes(), algorithm, kid)
    except FileNotFoundError:
        key = SigningKey.generate(algorithm, kid)
    write_privately(path, key.to_pem())
    return key


def write_privately(path: Path, content: bytes) -> None:
    """A new file that nobody but its owner may read."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - no Path opens with a mode
        file.write(content)
