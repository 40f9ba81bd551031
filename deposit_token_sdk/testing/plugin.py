"""For pytest: the option ``--issuer NAME``, the marker ``conformance``, and the fixtures of `testing.issuers`.

    # conftest.py
    pytest_plugins = ["deposit_token_sdk.testing.plugin"]

    # test_my_bank.py
    class TestMyBank(IssuerConformance):
        ISSUERS = ("mybank",)

NAME is that of an installed issuer. Its bank is the sandbox, in the dialect of that name; where there is none, it
speaks the reference API. One bank serves a whole run, with two merchants; each test opens a new shop of theirs, with
a database of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from shutil import copyfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from deposit_token_sdk.sandbox import Sandbox
    from deposit_token_sdk.testing.issuer_shop import Shop
    from deposit_token_sdk.testing.issuer_wires import Door

pytest.register_assert_rewrite(
    *(f"deposit_token_sdk.testing.issuer{name}" for name in ("s", "_shop", "_faults", "_refunds", "_attacks"))
)

_SCHEDULE = (0.0, 0.1, 0.2, 0.5)


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--issuer NAME``, once or several times."""
    told = "run the conformance suite of issuers for this one (may be repeated); the class names those it is for"
    parser.getgroup("deposit-token").addoption("--issuer", action="append", metavar="NAME", help=told)


def pytest_configure(config: pytest.Config) -> None:
    """The marker."""
    config.addinivalue_line("markers", "conformance: the suite that every issuer passes (--issuer NAME: that one's)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of the suite once for every issuer. Nothing is skipped: no name at all is an error."""
    if "issuer_name" not in metafunc.fixturenames:
        return
    names = metafunc.config.getoption("--issuer") or getattr(metafunc.cls, "ISSUERS", ())
    if not names:
        raise pytest.UsageError("Name the issuer: --issuer NAME, or ISSUERS of the class.")
    metafunc.parametrize("issuer_name", names, scope="session")


@pytest.fixture(scope="session")
def issuer_name() -> str:
    """The issuer under test; given by `pytest_generate_tests`."""
    raise AssertionError("a test of the suite is run for an issuer")


def _bank(factory: pytest.TempPathFactory, mode: str = "test") -> Sandbox:
    from deposit_token_sdk.sandbox import Sandbox  # noqa: PLC0415 - a plugin is loaded whether or not it is used

    return Sandbox(factory.mktemp("bank"), mode=mode, webhook_schedule=_SCHEDULE)


@pytest.fixture(scope="session")
def issuers_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The bank. At the end of the run its books must hold."""
    with _bank(tmp_path_factory) as bank:
        yield bank
        assert bank.control.audit() == []  # noqa: S101


@pytest.fixture(scope="session")
def strange_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Another bank that calls itself the same, with other keys."""
    with _bank(tmp_path_factory) as bank:
        yield bank


@pytest.fixture(scope="session")
def live_bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The same bank's live side."""
    with _bank(tmp_path_factory, "live") as bank:
        yield bank


@pytest.fixture(scope="session")
def issuers_door() -> Iterator[Door]:
    """The address that all webhooks go to."""
    from deposit_token_sdk.testing.issuer_wires import Door  # noqa: PLC0415 - as above

    door = Door()
    yield door
    door.close()


@pytest.fixture(scope="session")
def _merchants(issuers_bank: Sandbox, issuer_name: str) -> dict[str, dict[str, str]]:
    """Two merchants of the bank's, and the settings of their shops."""
    from deposit_token_sdk.testing.issuer_shop import settings_at  # noqa: PLC0415 - as above

    return {name: settings_at(issuers_bank, name, issuer_name) for name in (f"{issuer_name}-one", f"{issuer_name}-two")}


@pytest.fixture(scope="session")
def _tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from deposit_token_sdk.testing.issuer_shop import make_tables  # noqa: PLC0415 - as above

    file = tmp_path_factory.mktemp("tables") / "shop.sqlite3"
    make_tables(file)
    return file


@pytest.fixture
def _open(
    request: pytest.FixtureRequest, issuers_bank: Sandbox, issuers_door: Door, issuer_name: str, tmp_path: Path
) -> Callable[[int], AbstractContextManager[Shop]]:
    """Opens the shop of one of the two merchants."""
    from deposit_token_sdk.testing.issuer_shop import opened  # noqa: PLC0415 - as above

    merchants: dict[str, dict[str, str]] = request.getfixturevalue("_merchants")
    more = getattr(request.cls, "SETTINGS", {}).get(issuer_name, {})

    def open_shop(number: int) -> AbstractContextManager[Shop]:
        merchant, settings = list(merchants.items())[number]
        file = Path(copyfile(request.getfixturevalue("_tables"), tmp_path / f"{merchant}.sqlite3"))
        return opened(issuers_bank, merchant, {**settings, **more}, file, issuers_door)

    return open_shop


@pytest.fixture
def shop(_open: Callable[[int], AbstractContextManager[Shop]]) -> Iterator[Shop]:
    """A shop with nothing in it."""
    with _open(0) as made:
        yield made


@pytest.fixture
def other_shop(_open: Callable[[int], AbstractContextManager[Shop]]) -> Iterator[Shop]:
    """Another merchant's shop at the same bank."""
    with _open(1) as made:
        yield made
