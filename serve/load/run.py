"""A load test by locust in a process of its own (gevent patches the world): the plan, the command, every request, the
figures, the page."""

from __future__ import annotations

import json
import math
import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from configs.environment.load_test import LoadTest
from configs.errors import ExternalError
from configs.release import Manifest
from infra.files.atomic import write_json
from serve.load.arrivals import plan_load, write_plan
from serve.load.figures import LoadRecord, Sample, steps_of, summarise
from serve.load.report import write_report

GRACE_SECONDS = 120


def measuring(
    served_name: str, settings: LoadTest, prompts: Path, api_key: str | None = None
) -> Callable[[str, Manifest, Path], dict[str, float]]:
    """One load for several servers: of a base URL, its release and a folder."""
    return lambda base_url, manifest, folder: run_load_test(
        base_url, served_name, manifest, settings=settings, prompts=prompts, folder=folder, api_key=api_key
    )


def run_load_test(
    base_url: str,
    served_name: str,
    manifest: Manifest,
    *,
    settings: LoadTest,
    prompts: Path,
    folder: Path,
    api_key: str | None = None,
) -> dict[str, float]:
    """The figures of `summarise`. Leaves samples.jsonl, figures.json and report.html in `folder`. Raises ExternalError
    when locust itself fails."""
    folder.mkdir(parents=True, exist_ok=True)
    output, plan = folder / "samples.jsonl", plan_load(settings)
    output.unlink(missing_ok=True)
    write_plan(plan, folder / "plan.jsonl")
    facts = {
        "model": served_name,
        "task": manifest.task,
        "max_tokens": settings.max_tokens,
        "prompts": str(prompts.absolute()),
        "output": str(output.absolute()),
        "plan": str((folder / "plan.jsonl").absolute()) if plan else None,
        "processes": settings.processes,
        "salt": secrets.token_hex(3),
    }
    seconds = math.ceil(plan[-1]["at"]) + 2 if plan else settings.seconds
    environment = (
        os.environ | {"TUNEGATE_LOAD": json.dumps(facts)} | ({"TUNEGATE_LOAD_KEY": api_key} if api_key else {})
    )
    run_locust(locust_command(base_url, settings, seconds), environment, seconds, output)
    return write_figures(read_samples(output), settings, manifest, folder)


def locust_command(base_url: str, settings: LoadTest, seconds: int) -> list[str]:
    """An open loop has one sender in each process; a closed one has the users that were asked for."""
    users = str(settings.processes if settings.open_loop else max(settings.users, settings.processes))
    file = str(Path(__file__).with_name("locustfile.py"))
    command = [sys.executable, "-m", "locust", "-f", file, "--headless", "--host", base_url]
    command += ["--skip-log", "--only-summary", "--users", users, "--spawn-rate", users, "--run-time", f"{seconds}s"]
    command += ["--stop-timeout", str(GRACE_SECONDS), "--exit-code-on-error", "0"]
    return command + (["--processes", str(settings.processes)] if settings.processes > 1 else [])


def run_locust(command: list[str], environment: dict[str, str], seconds: float, output: Path) -> None:
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=seconds + 2 * GRACE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ExternalError(f"locust did not end within {error.timeout:g} s", hint=f"less {output}") from error
    if run.returncode:
        raise ExternalError(
            f"locust failed with {run.returncode}:\n{run.stderr[-800:]}",
            hint=f"curl {command[command.index('--host') + 1]}/v1/models",
        )


def read_samples(path: Path) -> list[Sample]:
    return [json.loads(line) for line in path.read_text(encoding="utf8").split("\n") if line] if path.exists() else []


def write_figures(samples: list[Sample], settings: LoadTest, manifest: Manifest, folder: Path) -> dict[str, float]:
    figures, steps = summarise(samples, settings), steps_of(samples, settings)
    record: LoadRecord = {
        "release": manifest.reference,
        "settings": settings.model_dump(mode="json"),
        "figures": figures,
        "steps": steps,
    }
    write_json(folder / "figures.json", record)
    write_report(samples, record, folder / "report.html")
    return figures
