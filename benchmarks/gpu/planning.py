"""Part `plan`: what was planned, against the memory that the parts before have measured on this device."""

from __future__ import annotations

import json
import sys
from typing import Any

from benchmarks.gpu.rows import MISSED, read_rows, write_row
from benchmarks.gpu.servers import read_release, releases
from benchmarks.gpu.training import FOLDER, NAMES
from benchmarks.prove import run

GIB = 2**30
WITHIN = 0.1


def main(tiny: bool) -> int:
    held, train, serve = True, read_rows("train"), read_rows("serve")
    for file, arm in zip(NAMES, ("tunegate", "qlora"), strict=True):
        measured = train.get(arm, {}).get("peak_gib") or None  # 0 on a CPU, whose allocator does not say
        if arm in train and (measured or tiny) and (FOLDER / file).exists() and not (tiny and arm == "qlora"):
            held &= compare(f"train {arm}", planned_training(file), measured)
    taken = serve.get("GPU memory of the server", {})
    measured = taken["value"] - taken["cache_gib"] if taken.get("cache_gib") is not None else None
    if measured is not None or tiny:
        held &= compare("serve", planned_serving(releases(tiny)[0]), measured)
    return 0 if held else MISSED


def compare(name: str, planned: float, measured: float | None) -> bool:
    """A row of planned GiB over measured ones, that of a machine without a GPU aims at nothing."""
    if measured is None:
        return write_row("plan", name, None, planned_gib=round(planned, 2), why="no measured memory of a GPU")
    ratio = planned / measured
    facts: dict[str, Any] = {"planned_gib": round(planned, 2), "measured_gib": round(measured, 2)}
    return write_row("plan", name, round(ratio, 3), f"1 within {WITHIN:.0%}", abs(ratio - 1) <= WITHIN, **facts)


def planned_training(file: str) -> float:
    """GiB as `check --plan` says it, without CUDA's own, which PyTorch's allocator does not see. A plan that does not
    fit (1) is a plan too."""
    done = run(sys.executable, "tunegate.py", "check", str(FOLDER / file), "--plan", "--json", expected=(0, 1))
    plan = json.loads(done.stdout)
    stage = (plan[0] if isinstance(plan, list) else plan)["memory"]["train"]
    return float(stage["peak"] - stage.get("runtime", 0)) / GIB


def planned_serving(reference: str) -> float:
    """GiB of one server beside its key-value cache: weights, activations, CUDA's own."""
    from infra.files.atomic import read_json
    from infra.nvml import BESIDE_GIB
    from serve.plan.gpu_memory import need_on_gpus

    folder, manifest = read_release(reference)
    need, _ = need_on_gpus(read_json(folder / "config.json") or {}, manifest)
    return need.weights + need.activations + BESIDE_GIB


if __name__ == "__main__":
    sys.exit(main("--tiny" in sys.argv))
