"""Two ways of doing the same, timed in turns, and how a figure is printed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import TypeAlias

from attrs import frozen

PART = 8
"""Calls in a batch: few, so that most batches are over before the machine turns to something else."""

Arm: TypeAlias = Callable[[slice], object]
"""One way of doing it, for these of the inputs."""


@frozen
class Pair:
    """Medians: seconds a call of ours and of the peer, and ours ÷ peer within one round."""

    ours: float
    peer: float
    ratio: float


def in_turns(ours: Arm, peer: Arm, *, inputs: int, laps: int) -> Pair:
    """Time both by turns in small batches, so many laps over all the inputs.

    The ratio is taken within a round, whose two batches see the same weather, and the median over all rounds. Who
    begins changes from round to round.
    """
    parts = [slice(start, start + PART) for start in range(0, inputs, PART)]
    for warm in (ours, peer, ours, peer):
        for part in parts:
            warm(part)
    gc.collect()
    rows: list[tuple[float, float]] = []
    for lap in range(laps):
        for number, part in enumerate(parts):
            if (lap + number) % 2:
                told = _seconds(peer, part)
                rows.append((_seconds(ours, part), told))
            else:
                rows.append((_seconds(ours, part), _seconds(peer, part)))
    return Pair(
        median(ours for ours, _ in rows) / PART,
        median(peer for _, peer in rows) / PART,
        median(ours / peer for ours, peer in rows),
    )


def show(figure: str, name: str, peer: str, pair: Pair, goal: float) -> None:
    """Print both sides and the goal's line."""
    print(figure)
    print(f"  ours: {pair.ours * 1e6:.1f} µs; {peer}: {pair.peer * 1e6:.1f} µs")
    goal_line(name, pair.ratio, goal)


def goal_line(name: str, value: float, goal: float, *, at_least: bool = False) -> None:
    """One line a goal."""
    bound = "at least" if at_least else "at most"
    print(f"ratio {name}: {value:.3f} (goal {bound} {goal:.2f})", flush=True)


def _seconds(arm: Arm, part: slice) -> float:
    began = perf_counter()
    arm(part)
    return perf_counter() - began
