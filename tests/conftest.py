"""What holds for every test: random examples are bounded in number, never by the clock of a busy machine; and the
databases that tests run on.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import settings
from sqlalchemy import Engine

from tests import databases

pytest_plugins = ["deposit_token_sdk.testing.plugin"]

settings.register_profile("project", deadline=None)
settings.load_profile("project")

gc.disable()


def pytest_collection_finish() -> None:
    """What was imported and collected stays: garbage is looked for from here on, and among what comes later."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()


def pytest_unconfigure() -> None:
    databases.end_servers()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "dbms" in metafunc.fixturenames and metafunc.definition.get_closest_marker("on_both"):
        metafunc.parametrize("dbms", databases.DBMS, indirect=True)


@pytest.fixture
def dbms(request: pytest.FixtureRequest) -> str:
    """The kind of database: SQLite, and where the test is marked `databases.ON_BOTH` PostgreSQL too."""
    return str(getattr(request, "param", "sqlite"))


@pytest.fixture
def database(dbms: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine on a database that is the test's alone; see `databases.fresh` and `databases.EMPTY`."""
    empty = request.node.get_closest_marker("empty_database") is not None
    with databases.fresh(dbms, empty=empty) as engine:
        yield engine
