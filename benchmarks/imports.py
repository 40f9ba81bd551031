"""What importing costs, in fresh interpreters, bare Python taken off; and the memory that is then resident."""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

from benchmarks._measure import goal_line

ROUNDS = 25
BARE, PEER = "pass", "import requests"
NAMES, PACKAGE = "from deposit_token_sdk import Client, Checkout, Money", "import deposit_token_sdk"
_PEAK = """
import resource, sys
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
try:  # Linux counts the parent's memory into that of a child that has just been started; this it does not
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
except (OSError, StopIteration):
    pass
print(peak)
"""


def main() -> None:
    for code in (BARE, PEER, NAMES, PACKAGE):
        _seconds(code)
    rows = [{code: _seconds(code) for code in (BARE, PEER, NAMES, PACKAGE)} for _ in range(ROUNDS)]
    bare = median(row[BARE] for row in rows)
    print(f"Imports; bare Python takes {bare * 1e3:.1f} ms")
    for code in (NAMES, PACKAGE, PEER):
        print(f"  {code}: {(median(row[code] for row in rows) - bare) * 1e3:.1f} ms")
    for name, code, goal in (("import Client Checkout Money", NAMES, 0.70), ("import package", PACKAGE, 0.15)):
        goal_line(name, median((row[code] - row[BARE]) / (row[PEER] - row[BARE]) for row in rows), goal)
    resident, theirs = _megabytes(NAMES), _megabytes(PEER)
    print(f"  resident: {resident:.1f} MB; with requests alone {theirs:.1f} MB; bare Python {_megabytes(BARE):.1f} MB")
    goal_line("resident MB", resident, 30)


def _seconds(code: str) -> float:
    began = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return perf_counter() - began


def _megabytes(code: str) -> float:
    """The interpreter's peak, bare Python's part included."""
    told = subprocess.run([sys.executable, "-c", f"{code}\n{_PEAK}"], check=True, capture_output=True, text=True).stdout
    return int(told) / 1024 / 1024


if __name__ == "__main__":
    main()
