"""A real training in a process of its own, measured: `python measured_training.py RUN.json ROOT` prints what it took.

Peak resident memory above what the process held once every library was imported, in bytes, and seconds a step.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from pathlib import Path


def resident(field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024


def import_all() -> None:
    """What a training imports late: libraries are no part of what its plan counts."""
    for name in ("datasets", "peft", "torch._dynamo", "transformers.models.bert.modeling_bert", "transformers.models.llama.modeling_llama"):
        importlib.import_module(name)
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer, Trainer, set_seed  # noqa: F401


class NoTracker:
    run_id = None

    def __init__(self) -> None:
        self.times: list[float] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if "loss" in metrics:
            self.times.append(time.perf_counter())


def main(run: str, root: str) -> None:
    from configs.paths import RunPaths
    from configs.run.config import RunConfig
    from train.finetune import finetune

    import_all()
    before, tracker = resident("VmRSS"), NoTracker()
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew (man 5 proc)
    record = finetune(RunConfig.model_validate_json(run), RunPaths(Path(root)), tracker)
    gaps = [later - earlier for earlier, later in zip(tracker.times, tracker.times[1:], strict=False)]
    print(json.dumps({"peak_bytes": resident("VmHWM") - before, "step_seconds": sorted(gaps)[len(gaps) // 2] if gaps else None, "record": record}))


if __name__ == "__main__":
    main(*sys.argv[1:])
