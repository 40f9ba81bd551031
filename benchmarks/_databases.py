"""A fresh database of each kind, in a temporary folder, with the settings that a shop runs it with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from deposit_token_sdk.testing.servers import postgres

KINDS = ("sqlite", "postgres")


@contextmanager
def database(kind: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database, for as long as it is there."""
    if kind == "sqlite":
        with TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'shop.sqlite'}"
    else:
        with postgres() as url:
            yield url
