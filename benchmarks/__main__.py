"""All figures but the long ones, or the long ones, one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SCALE = ("inbox_growth", "paid_orders")
"""Those that want database servers, and minutes: ``python -m benchmarks scale``."""

FIGURES = sorted({path.stem for path in Path(__file__).parent.glob("[a-z]*.py")} - set(SCALE))


def main(names: Sequence[str]) -> int:
    """Run these figures; 1 if one of them could not be measured."""
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in names]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(SCALE if sys.argv[1:] == ["scale"] else FIGURES))
