"""What the demo says: whole lines, each at once, so that it reads the same in a terminal and in a pipe."""

from __future__ import annotations

import sys
import time


def say(line: str = "") -> None:
    """Say a line."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Timeline:
    """Says each step with the seconds since the first."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def tell(self, step: str, what: str) -> None:
        """Say one step."""
        say(f"{time.monotonic() - self._began:6.2f} s  {step:<13} {what}")
