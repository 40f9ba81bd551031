"""What a check found, and how it is printed: a state, a name, a sentence, and what to do about it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import click
from attrs import frozen


class State(StrEnum):
    """How a check went. `FAIL` shouts, and makes the command end with 1; `SKIP` says what could not be looked at."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"
    SKIP = "skip"


@frozen
class Finding:
    """One check's result. `todo` is what to do, empty where there is nothing; lines in it stay lines."""

    state: State
    name: str
    said: str
    todo: str = ""


_COLOURS: Final = {State.OK: "green", State.WARN: "yellow", State.FAIL: "red", State.SKIP: "cyan"}
_NAMES: Final = 9
_INDENT: Final = " " * (6 + _NAMES + 1)


def show(finding: Finding, width: int) -> None:
    """Print a finding, folded to so many columns."""
    state = click.style(f"{finding.state:<5}", fg=_COLOURS[finding.state], bold=finding.state is State.FAIL)
    click.echo(f"{state} {finding.name:<{_NAMES}} {_folded(finding.said, width)}")
    if finding.todo:
        click.echo(f"{_INDENT}{click.style('do', bold=True)}: {_folded(finding.todo, width)}")


def summary(findings: Iterable[Finding]) -> str:
    """How many of each, in words."""
    states = [finding.state for finding in findings]
    names = {State.OK: "ok", State.WARN: "to look at", State.FAIL: "failed", State.SKIP: "not looked at"}
    return ", ".join(f"{states.count(state)} {name}" for state, name in names.items() if state in states)


def ok(name: str, said: str) -> Finding:
    """All is well."""
    return Finding(State.OK, name, said)


def warn(name: str, said: str, todo: str) -> Finding:
    """It works, and should be looked at."""
    return Finding(State.WARN, name, said, todo)


def fail(name: str, said: str, todo: str) -> Finding:
    """It does not work."""
    return Finding(State.FAIL, name, said, todo)


def skip(name: str, said: str) -> Finding:
    """It could not be looked at."""
    return Finding(State.SKIP, name, said)


def _folded(text: str, width: int) -> str:
    """Each line of the text folded, the later ones indented; a line that begins with a space stays as it is."""
    folded: list[str] = []
    for line in text.split("\n"):
        keep = line.startswith(" ") or not line
        folded += [line] if keep else _wrapped(line, max(width - len(_INDENT), 40))
    return f"\n{_INDENT}".join(folded)


def _wrapped(line: str, width: int) -> list[str]:
    """Folded at spaces alone: a path or an address stays whole, to be copied."""
    return textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False)
