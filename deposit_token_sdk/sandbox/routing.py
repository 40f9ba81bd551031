"""Flask for the bank: each bank has an application of its own, but a route is compiled once in a process.

A test starts a bank of its own, and werkzeug compiled its routes longer than the bank opened its books.
"""

from __future__ import annotations

from typing import Final

from flask import Flask
from werkzeug.routing import Map, Rule

_COMPILED: Final[dict[str, Rule]] = {}
"""The first rule of each kind, by all that it was made from: it is bound to the first application's map for good."""


class _Rule(Rule):
    """A rule that takes over what was compiled for one like it."""

    def bind(self, map: Map, rebind: bool = False) -> None:  # noqa: A002 - the names are the library's
        made_from = repr(sorted(vars(self).items()))
        twin = _COMPILED.get(made_from)
        if twin is None or self.map is not None:
            super().bind(map, rebind)
            _COMPILED.setdefault(made_from, self)
        else:
            vars(self).update(vars(twin), map=map)


class Application(Flask):
    """The bank's web application, with no routes yet."""

    url_rule_class = _Rule
