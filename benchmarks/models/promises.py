"""What is promised of models, measured: the checks of `make prove-models` (benchmarks/prove.py)."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from benchmarks.models.defaults import promises
from benchmarks.prove import FOLDER, Check, Row, run

PYTHON = sys.executable


METHODS: dict[str, list[str]] = {
    "full": ["train.method=full", "train.learning_rate=1e-4"],
    "rsLoRA": ["train.lora.rslora=true"],
    "DoRA": ["train.lora.dora=true"],
    "PiSSA": ["train.lora.initialization=pissa"],
    "LoRA+": ["train.lora.loraplus_ratio=4"],
    "rank pattern": ["train.lora.rank_pattern={query: 4}", "train.lora.alpha_pattern={query: 8}"],
}
UNSERVABLE: dict[str, list[str]] = {
    "full with LoRA keys": ["train.method=full", "train.lora.rank=4"],
    "QLoRA over a changed base": ["train.method=qlora", "train.lora.initialization=pissa"],
}


def methods() -> list[Row]:
    """A release of each method, INT8, served by vLLM and past its gate; combinations that cannot be are refused by
    check."""
    passed, refused = [], []
    for name, settings in METHODS.items():
        arguments = [
            word
            for one in (f"name=prove-{re.sub('[^a-z]+', '-', name.lower()).strip('-')}", *settings)
            for word in ("--set", one)
        ]
        run(
            str(Path(PYTHON).with_name("tunegate")),
            "run",
            "configs/finetune/smoke.yaml",
            *arguments,
            expected=(0, 1, 4),
        )
        root = Path("build") / arguments[1].removeprefix("name=")
        outcome = json.loads((root / "gate/verdict.json").read_text(encoding="utf8"))["outcome"]
        figures = json.loads((root / "eval/metrics.json").read_text(encoding="utf8"))["metrics"]
        if outcome == "pass" and figures["accuracy"] > 0.5:  # the smoke gate judges no quality
            passed.append(name)
    for name, settings in UNSERVABLE.items():
        words = [word for one in settings for word in ("--set", one)]
        if (
            run(
                str(Path(PYTHON).with_name("tunegate")), "check", "configs/finetune/smoke.yaml", *words, expected=(0, 2)
            ).returncode
            == 2
        ):
            refused.append(name)
    return [
        Row(
            f"methods served through their gate ({', '.join(passed)})",
            f"{len(passed)} of {len(METHODS)}",
            "all",
            len(passed) == len(METHODS),
        ),
        Row(
            f"combinations refused by check ({', '.join(refused)})",
            f"{len(refused)} of {len(UNSERVABLE)}",
            "all",
            len(refused) == len(UNSERVABLE),
        ),
    ]


def servability() -> list[Row]:
    """Each recipe of the table: served by the pinned vLLM, or refused by check with the reason."""
    run(PYTHON, "-m", "benchmarks.models.servability", expected=(0, 1))
    rows = json.loads((FOLDER / "servability.json").read_text(encoding="utf8"))
    proven = [row for row in rows if row["outcome"] == "served" or (row["outcome"] == "refused" and row.get("reason"))]
    served = sum(row["outcome"] == "served" for row in proven)
    value = f"{len(proven)} of {len(rows)} ({served} served, {len(proven) - served} refused by check)"
    return [Row("rows of the servability table proven", value, "all", len(proven) == len(rows))]


def families() -> list[Row]:
    """Each model family for each task: served with the trainer's own answer, or refused by check with the reason."""
    run(PYTHON, "-m", "benchmarks.models.families", expected=(0, 1))
    rows = [json.loads(path.read_text(encoding="utf8")) for path in Path("build/prove/families").glob("*.json")]
    good = [row for row in rows if row["outcome"] == "served" or (row["outcome"] == "refused" and row.get("reason"))]
    worst = max(row["differences"]["none"] for row in good if row["outcome"] == "served")
    served = sum(row["outcome"] == "served" for row in good)
    value = f"{len(good)} of {len(rows)} ({served} served, unquantized within {worst:.0e} of the trained model)"
    return [Row("cells of the table of families proven (docs/training.md)", value, "all", len(good) == len(rows))]


CHECKS: dict[str, Check] = {
    "methods": methods,
    "servability": servability,
    "families": families,
    "defaults": promises,
}
