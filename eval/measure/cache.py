"""A cache of finished evaluations: one is known by what was measured, on what, and how, and is found wherever it lies,
in any run's folder or in the artifact store."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from configs.digest import sha256_of
from configs.errors import ExternalError
from configs.metrics import EVALUATION_VERSION, Conditions, Metrics, read_metrics
from configs.run.config import RunConfig
from eval.measure.digest import json_digest
from eval.measure.harness import files_of, harness_version
from infra.dvc.evaluations import EVALUATION_FILES, find_evaluation, keep_evaluation
from infra.files.atomic import write_text
from infra.terminal import waiting
from infra.vllm.server import vllm_version


def evaluation_key(digest: str, dataset: str, config: RunConfig, by_folds: bool = False) -> str:
    """Of the release's digest and of all that the evaluation has in common with those it may be compared with.
    `by_folds`: not this release answers, but models that have not seen the rows."""
    return json_digest([digest, conditions_of(dataset, config), *(["folds"] if by_folds else [])])


def conditions_of(dataset: str, config: RunConfig) -> Conditions:
    """The test rows' fingerprint, all of `evaluate:` that decides how they are asked and counted, and the versions of
    what does it."""
    schema = config.evaluate.json_schema
    none = {"folds"} if config.evaluate.folds is None else set[str]()
    settings = config.evaluate.model_dump(mode="json", exclude={"baseline", *none}) | {
        "json_schema": sha256_of(Path(schema)) if schema else None
    }
    settings["metrics_files"] = [sha256_of(Path(one.path)) for one in config.evaluate.metrics]
    settings["harness_files"] = [files_of(task) for task in config.evaluate.harness]
    versions = {"evaluation": str(EVALUATION_VERSION), "vllm": vllm_version()}
    if config.evaluate.harness:
        versions["lm_eval"] = harness_version()
    if config.evaluate.judge:
        versions["judge"] = config.evaluate.judge.model
    return {"rows": dataset, "settings": json_digest(settings), "versions": versions}


def answers_key(digest: str, dataset: str, config: RunConfig) -> str:
    """Of what is asked alone: answers stay when only what is counted changes."""
    settings = config.evaluate
    return json_digest([digest, dataset, settings.max_new_tokens, settings.concurrency, settings.perplexity])


def get(key: str, target: Path, reference: str, probed: bool) -> Metrics | None:
    """The finished evaluation of this key, copied to `target` from another folder or the artifact store; None where
    there is none. `probed`: only one with a probe.json."""
    for folder in (target, *folders()):
        record = read_finished(folder, key)
        if record is not None and (not probed or (folder / "probe.json").exists()):
            if folder != target:
                copy(folder, target)
            return rename_release(record, target, reference)
    try:
        with waiting("the evaluation is looked for in the artifact store"):
            found = find_evaluation(key, target)
    except ExternalError as error:  # a store that does not answer only costs a measurement
        sys.stderr.write(f"evaluations are not looked for in the artifact store: {error.message}\n")
        return None
    record = read_finished(target, key) if found else None
    if record is None or (probed and not (target / "probe.json").exists()):
        return None
    return rename_release(record, target, reference)


def put(key: str, folder: Path) -> None:
    """Into the artifact store; where it does not answer, the evaluation stands here all the same."""
    try:
        with waiting("the evaluation is kept in the artifact store"):
            keep_evaluation(key, folder)
    except ExternalError as error:
        sys.stderr.write(f"the evaluation is not kept in the artifact store: {error.message}\n")


def folders() -> Iterator[Path]:
    """Every evaluation on this machine: releases' and runs' own, and those of what they were compared with."""
    for pattern in ("*/eval", "*/eval/*"):
        yield from sorted(
            folder for root in ("releases", "build") for folder in Path(root).glob(pattern) if folder.is_dir()
        )


def read_finished(folder: Path, key: str) -> Metrics | None:
    """Without what a comparison with the parent added: that is made anew."""
    record = read_metrics(folder) if (folder / "predictions.parquet").exists() else None
    if record is None or record.get("key") != key:
        return None
    added = record.pop("compared", [])
    record["metrics"] = {name: value for name, value in record["metrics"].items() if name not in added}
    return record


def copy(folder: Path, target: Path) -> None:
    """All files but metrics.json, which is written last, by who asked for it."""
    target.mkdir(parents=True, exist_ok=True)
    for name in EVALUATION_FILES:
        (target / name).unlink(missing_ok=True)
        if name != "metrics.json" and (folder / name).exists():
            shutil.copy2(folder / name, target / f"{name}.partial")
            os.replace(target / f"{name}.partial", target / name)


def rename_release(record: Metrics, target: Path, reference: str) -> Metrics:
    """The same bytes may have another name: the record bears the one that was asked for."""
    record["release"] = reference
    write_metrics(target, record)
    return record


def write_metrics(folder: Path, record: Metrics) -> None:
    write_text(folder / "metrics.json", json.dumps(record, indent=2))
