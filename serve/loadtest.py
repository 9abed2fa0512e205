"""A load test by locust in a process of its own (gevent patches the world), and its figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from configs.errors import OutsideError
from configs.release import Manifest

GRACE_SECONDS = 120


def run_load_test(
    base_url: str, served_name: str, manifest: Manifest, *, users: int, seconds: int, max_tokens: int, prompts: Path, output: Path, api_key: str | None = None
) -> dict[str, float]:
    """The figures of `summarise`; every request lies in `output` (JSON lines). Raises OutsideError when locust itself fails."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.unlink(missing_ok=True)
    settings = {"model": served_name, "task": manifest.task, "max_tokens": max_tokens, "prompts": str(prompts.absolute()), "output": str(output.absolute())}
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(Path(__file__).with_name("locustfile.py")),
        "--headless",
        "--host",
        base_url,
        "--skip-log",
        "--only-summary",
    ]
    command += [
        "--users",
        str(users),
        "--spawn-rate",
        str(users),
        "--run-time",
        f"{seconds}s",
        "--stop-timeout",
        str(GRACE_SECONDS),
        "--exit-code-on-error",
        "0",
    ]
    environment = os.environ | {"TUNEGATE_LOAD": json.dumps(settings)} | ({"TUNEGATE_LOAD_KEY": api_key} if api_key else {})
    try:
        run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds + 2 * GRACE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise OutsideError(f"locust did not end within {error.timeout:g} s", hint=f"less {output}") from error
    if run.returncode:
        raise OutsideError(f"locust failed with {run.returncode}:\n{run.stderr[-800:]}", hint=f"curl {base_url}/v1/models")
    return summarise(read_samples(output))


def read_samples(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()] if path.exists() else []


def summarise(samples: list[dict[str, Any]]) -> dict[str, float]:
    """Milliseconds and rates. A figure that no request gave is left out: the gate then says inconclusive, never pass.

    Time to first token runs from sending the request to the first content chunk; failures count in error_rate only.
    """
    import numpy

    good = [sample for sample in samples if sample["ok"]]
    figures: dict[str, float] = {"requests": len(samples), "failures": len(samples) - len(good)}
    if not samples:
        return figures
    figures["error_rate"] = figures["failures"] / len(samples)
    series = {
        "time_to_first_token": [sample["first"] for sample in good if sample["first"] is not None],
        "inter_token": [(sample["seconds"] - sample["first"]) / (sample["tokens"] - 1) for sample in good if sample["tokens"] > 1],
        "latency": [sample["seconds"] for sample in good],
    }
    for name, values in series.items():
        for percent in (50, 95, 99) if values else ():
            figures[f"{name}_p{percent}_ms"] = round(1000 * float(numpy.percentile(values, percent)), 3)
    span = max(sample["at"] + sample["seconds"] for sample in samples) - min(sample["at"] for sample in samples)
    figures["requests_per_second"] = round(len(good) / span, 3) if span else 0.0
    figures["tokens_per_second"] = round(sum(sample["tokens"] for sample in good) / span, 3) if span else 0.0
    return figures
