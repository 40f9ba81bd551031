"""Other banks' APIs in front of this bank: a dialect translates, the bank decides.

Each dialect is a function ``(bank) -> Blueprint`` under the paths of the bank it speaks for, all of them over the same
ledger, faults and control. Beside that function its module has ``environment``, the settings of a merchant's shop, and
``message``, a webhook of this bank in that bank's words; where a 2xx alone does not end its repetition, also ``taken``,
which says so of status and answer. Third parties add one by the entry point
``deposit_token_sdk.dialects``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import Connection, delete, insert

from deposit_token_sdk.errors import ConfigurationError
from deposit_token_sdk.sandbox.desk import Desk
from deposit_token_sdk.sandbox.tables import facts, rows

if TYPE_CHECKING:
    from flask import Blueprint, Flask

    from deposit_token_sdk.sandbox.bank import Bank

GROUP: Final = "deposit_token_sdk.dialects"

DIALECTS: Final[Mapping[str, str]] = {
    "antom": "deposit_token_sdk.sandbox.dialects.antom:blueprint",
    "jpmorgan": "deposit_token_sdk.sandbox.dialects.jpmorgan_v2:blueprint",
    "jpmorgan-v1": "deposit_token_sdk.sandbox.dialects.jpmorgan_v1:blueprint",
}
"""Our own dialects by name, as module and function."""


def names() -> tuple[str, ...]:
    """Every dialect there is: ours, and those that are installed."""
    return tuple(sorted({*DIALECTS, *_installed(tuple(sys.path)).names}))


def mount(app: Flask, bank: Bank) -> None:
    """Add every dialect's routes."""
    for name in names():
        app.register_blueprint(_function(name)(bank), name=f"dialect-{name}")


def environment(name: str, desk: Desk, bank: Bank, folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings of a shop that speaks this dialect from now on, made from those of the reference API.

    Raises ConfigurationError (``dialect_unknown``).
    """
    merchant = settings["DEPOSIT_TOKEN_MERCHANT"]
    desk.db.execute(delete(facts).where(facts.c.name == _fact(merchant)))
    if name == "reference":
        return dict(settings)
    made = cast("dict[str, str]", _module(name).environment(desk, bank, folder, settings))
    desk.db.execute(insert(facts).values(name=_fact(merchant), value=name))
    return made


def message(desk: Desk, merchant: str, body: bytes) -> tuple[dict[str, str], bytes] | None:
    """Headers and body of a webhook in the words of the merchant's dialect; None where that says nothing of it."""
    name = spoken(desk.db, merchant)
    return None if name is None else _module(name).message(desk, merchant, body)


def taken(desk: Desk, merchant: str, status: int, answer: str) -> bool:
    """Whether a webhook so answered is done with."""
    name = spoken(desk.db, merchant)
    judge = None if name is None else getattr(_module(name), "taken", None)
    return 200 <= status < 300 if judge is None else bool(judge(status, answer))


def spoken(db: Connection, merchant: str) -> str | None:
    """The merchant's dialect; None where it is the reference API."""
    row = db.execute(rows(facts, "name"), {"name": _fact(merchant)}).one_or_none()
    return None if row is None else str(row.value)


def _fact(merchant: str) -> str:
    return f"dialect {merchant}"


def _module(name: str) -> Any:
    return sys.modules[_function(name).__module__]


@cache
def _installed(_path: tuple[str, ...]) -> EntryPoints:
    """Third parties' dialects: every distribution on this path is asked, which takes its time, and is done once."""
    return entry_points(group=GROUP)


def _function(name: str) -> Callable[[Bank], Blueprint]:
    if name in DIALECTS:
        module, _, function = DIALECTS[name].partition(":")
        return cast("Callable[[Bank], Blueprint]", getattr(import_module(module), function))
    for entry in _installed(tuple(sys.path)).select(name=name):
        return cast("Callable[[Bank], Blueprint]", entry.load())
    raise ConfigurationError("dialect_unknown", f"There is no dialect {name[:40]!r}, only {', '.join(names())}.")
