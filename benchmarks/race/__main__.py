"""`make race`: python -m benchmarks.race [speed | cases]"""

from __future__ import annotations

import sys

from benchmarks.race.cases import run_cases
from benchmarks.race.speed import race

PARTS = {"speed": race, "cases": run_cases}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
