"""The files of the data folder that hold private keys, each readable by its owner alone."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from tempfile import mkstemp

from deposit_token_sdk.signing.keys import Algorithm, SigningKey


def private_key(path: Path, algorithm: Algorithm, kid: str) -> SigningKey:
    """The key in that file; made, for its owner's eyes only, if there is none."""
    if not path.exists():
        made = SigningKey.generate(algorithm, kid)  # still held when the file is read: so it is not parsed again
        write_privately(path, made.to_pem())
    return _kept(path.read_bytes(), algorithm, kid)


@lru_cache(maxsize=64)
def _kept(pem: bytes, algorithm: Algorithm, kid: str) -> SigningKey:
    return SigningKey.from_pem(pem, algorithm, kid)


def write_privately(path: Path, content: bytes) -> None:
    """A new file that nobody but its owner may read; one that is there already stays.

    It appears whole or not at all, so that many processes may begin on one folder at once.
    """
    number, name = mkstemp(dir=path.parent)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)  # noqa: PTH108 - beside os.link
