"""Tasks of lm-evaluation-harness (Gao 2024, doi:10.5281/zenodo.12608602), asked of the served release by its own
program, offline."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.errors import ExternalError, InputError
from configs.metrics import HarnessFigures, MetricDefinition
from configs.release import Manifest, list_files
from configs.run.behaviour import HarnessTask
from configs.run.evaluate import Evaluate
from eval.measure.digest import json_digest
from eval.measure.harness_samples import figure_name, read_harness_samples
from eval.metrics.samples import Sample, samples_in, write_samples
from infra.files.atomic import write_text
from infra.terminal import waiting
from infra.vllm.arguments import slot_environment

# What datasets and huggingface_hub say, offline, of rows that are not in this machine's cache.
NO_DATA = (
    "OfflineModeIsEnabled",
    "LocalEntryNotFoundError",
    "DatasetNotFoundError",
    "Couldn't reach",
    "Couldn't find",
    "ConnectionError",
    "Cannot find data",
)
NO_TASK = ("Tasks not found", "No tasks specified", "KeyError: 'task'")


def run_harness(
    base_url: str, served_name: str, manifest: Manifest, release: Path, settings: Evaluate, folder: Path
) -> dict[str, HarnessFigures]:
    """metrics.json's `harness`: by task its version, n and figures. A task that was finished before a kill is not asked
    again.

    Raises InputError for a task that the harness does not know, ExternalError where its rows cannot be had or the
    server fails.
    """
    return {
        one.task: run_task(base_url, served_name, manifest, release, settings, one, folder) for one in settings.harness
    }


def run_task(
    base_url: str,
    served_name: str,
    manifest: Manifest,
    release: Path,
    settings: Evaluate,
    task: HarnessTask,
    folder: Path,
) -> HarnessFigures:
    kept = kept_results(manifest, settings, task, folder)
    if not kept.exists() or not samples_beside(kept).exists():
        work = folder / f".{kept.stem}.partial"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        (work / "config.yaml").write_text(
            json.dumps(harness_config(base_url, served_name, manifest, release, settings, task, work)), encoding="utf8"
        )
        with waiting(f"lm-evaluation-harness asks {task.task}"):
            run_program(task, work, folder / f"harness-{task.task}.log", manifest)
        results = next((work / "out").glob("*.json"))
        found = json.loads(results.read_text(encoding="utf8"))
        samples, definitions = read_harness_samples(found, sorted((work / "out").glob("samples_*.jsonl")), task.task)
        write_samples(samples_beside(kept), samples)
        write_text(kept, json.dumps(found | {"definitions": definitions}))
        shutil.rmtree(work)
    return read_results(json.loads(kept.read_text(encoding="utf8")), task.task)


def kept_results(manifest: Manifest, settings: Evaluate, task: HarnessTask, folder: Path) -> Path:
    key = json_digest([manifest.digest, task.model_dump(), settings.max_new_tokens, files_of(task)])
    return folder / f"harness-{task.task}-{key[:16]}.json"


def samples_beside(kept: Path) -> Path:
    """In the columns of samples.parquet."""
    return kept.with_suffix(".parquet")


def samples_of_harness(manifest: Manifest, settings: Evaluate, folder: Path) -> Iterator[Sample]:
    """Of all tasks, once they were asked."""
    for task in settings.harness:
        kept = samples_beside(kept_results(manifest, settings, task, folder))
        yield from samples_in(kept) if kept.exists() else ()


def definitions_of_harness(manifest: Manifest, settings: Evaluate, folder: Path) -> dict[str, MetricDefinition]:
    """By harness:TASK:METRIC, of those that have samples."""
    kept = [kept_results(manifest, settings, task, folder) for task in settings.harness]
    read = [json.loads(path.read_text(encoding="utf8")) for path in kept if path.exists()]
    return {name: one for found in read for name, one in (found.get("definitions") or {}).items()}


def harness_version() -> str:
    """Of lm-evaluation-harness as it is installed here."""
    try:
        return metadata.version("lm_eval")
    except metadata.PackageNotFoundError:
        return "not installed"


def files_of(task: HarnessTask) -> list[tuple[str, str]]:
    """A task of one's own is what its folder says."""
    return [(file.path, file.sha256) for file in list_files(Path(task.include_path))] if task.include_path else []


def harness_config(
    base_url: str,
    served_name: str,
    manifest: Manifest,
    release: Path,
    settings: Evaluate,
    task: HarnessTask,
    work: Path,
) -> dict[str, object]:
    """A file for `lm_eval run --config`. Questions go as the tokens that the release's own tokenizer makes of them."""
    model = {
        "model": served_name,
        "base_url": f"{base_url}/v1/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": str(release.absolute()),
        "max_length": manifest.serving.max_model_len,
        "max_gen_toks": settings.max_new_tokens,
        "num_concurrent": settings.concurrency,
    }
    asked = {
        "tasks": [task.task],
        "limit": task.limit,
        "num_fewshot": task.shots,
        "apply_chat_template": task.chat or None,
        "include_path": str(Path(task.include_path).absolute()) if task.include_path else None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    return {
        "model": "local-completions",
        "model_args": model,
        "batch_size": 1,
        "output_path": str((work / "out" / "results.json").absolute()),
        "log_samples": True,
        **given,
    }


def run_program(task: HarnessTask, work: Path, log: Path, manifest: Manifest) -> None:
    offline = {"HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OPENAI_API_KEY": "none"}
    command = [sys.executable, "-m", "lm_eval", "run", "--config", str(work / "config.yaml")]
    with log.open("wb") as stream:
        code = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            env=slot_environment(manifest) | offline,
            check=False,
        ).returncode
    if code == 0 and any((work / "out").glob("*.json")):
        return
    text = log.read_text(encoding="utf8", errors="replace")
    last = next((line.strip()[:300] for line in reversed(text.splitlines()) if line.strip()), "no word")
    if any(sign in text for sign in NO_TASK):
        raise InputError(
            f"evaluate.harness: lm-evaluation-harness knows no task {task.task!r}",
            hint=f"{sys.executable} -m lm_eval ls tasks",
        )
    if any(sign in text for sign in NO_DATA):
        raise ExternalError(
            f"evaluate.harness {task.task}: its data set is not on this machine, and nothing is downloaded: {last}",
            hint=f"less {log}",
        )
    raise ExternalError(
        f"evaluate.harness {task.task}: lm-evaluation-harness ended with {code}: {last}", hint=f"less {log}"
    )


def read_results(found: Any, task: str) -> HarnessFigures:
    """`figures`: METRIC, or METRIC_FILTER where the task filters answers; of a group of tasks also SUBTASK_METRIC.
    Standard errors apart."""
    figures: dict[str, float] = {}
    for name, values in found["results"].items():
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if (
                isinstance(value, bool)
                or not isinstance(value, int | float)
                or not math.isfinite(value)
                or not filtered
            ):
                continue
            figures[figure_name(name, task, metric, filtered)] = float(value)
    counts = {name: counted["effective"] for name, counted in (found.get("n-samples") or {}).items()}
    version = (found.get("versions") or {}).get(task)
    return {"version": version, "n": sum(counts.values()), "harness": found.get("lm_eval_version"), "figures": figures}


def figures_of(results: dict[str, HarnessFigures]) -> dict[str, float]:
    """For metrics.json's `metrics`: harness_TASK_METRIC, without standard errors."""
    return {
        f"harness_{task}_{name}": value
        for task, one in results.items()
        for name, value in one["figures"].items()
        if "_stderr" not in name
    }
