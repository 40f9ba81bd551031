"""All figures, one after the other, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FIGURES = sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py"))


def main() -> int:
    """Run every figure; 1 if one of them could not be measured."""
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in FIGURES]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
