"""Evaluations that are finished: one is known by what was measured, on what, and how, and is found wherever it lies."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs.digest import sha256_of
from configs.errors import OutsideError
from configs.run.config import RunConfig
from eval.measure.harness import files_of
from infra.dvc.evaluations import EVALUATION_FILES, find_evaluation, keep_evaluation

# Raise it when what is asked, counted or written changes: earlier evaluations are then measured anew.
EDITION = 2


def evaluation_key(digest: str, dataset: str, config: RunConfig) -> str:
    """Of the release's digest, the test rows' fingerprint, and all that evaluate says of how they are asked and counted."""
    schema = config.evaluate.json_schema
    settings = config.evaluate.model_dump(mode="json", exclude={"baseline"}) | {"json_schema": sha256_of(Path(schema)) if schema else None}
    settings["harness_files"] = [files_of(task) for task in config.evaluate.harness]
    return digest_of(digest, dataset, EDITION, settings)


def answers_key(digest: str, dataset: str, config: RunConfig) -> str:
    """Of what is asked alone: answers stay when only what is counted changes."""
    settings = config.evaluate
    return digest_of(digest, dataset, settings.max_new_tokens, settings.concurrency, settings.perplexity)


def digest_of(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def recall(key: str, target: Path, reference: str, probed: bool) -> dict[str, Any] | None:
    """The finished evaluation of this key, brought to `target` from another folder or the artifact store. `probed`: only one with a probe.json."""
    for folder in (target, *folders()):
        record = read_finished(folder, key)
        if record is not None and (not probed or (folder / "probe.json").exists()):
            if folder != target:
                bring(folder, target)
            return settle(record, target, reference)
    try:
        found = find_evaluation(key, target)
    except OutsideError as error:  # a store that does not answer only costs a measurement
        sys.stderr.write(f"evaluations are not looked for in the artifact store: {error.message}\n")
        return None
    record = read_finished(target, key) if found else None
    return settle(record, target, reference) if record and (not probed or (target / "probe.json").exists()) else None


def keep(key: str, folder: Path) -> None:
    """Into the artifact store; where it does not answer, the evaluation stands here all the same."""
    try:
        keep_evaluation(key, folder)
    except OutsideError as error:
        sys.stderr.write(f"the evaluation is not kept in the artifact store: {error.message}\n")


def folders() -> Iterator[Path]:
    """Every evaluation on this machine: releases' and runs' own, and those of what they were compared with."""
    for pattern in ("*/eval", "*/eval/*"):
        yield from sorted(folder for root in ("releases", "build") for folder in Path(root).glob(pattern) if folder.is_dir())


def read_finished(folder: Path, key: str) -> dict[str, Any] | None:
    """Without what a comparison with the parent added: that is made anew."""
    if not (folder / "predictions.parquet").exists():
        return None
    try:
        record: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    if not isinstance(record, dict) or record.get("key") != key:
        return None
    added = record.pop("compared", [])
    return record | {"metrics": {name: value for name, value in record["metrics"].items() if name not in added}}


def bring(folder: Path, target: Path) -> None:
    """metrics.json is written by who asked for it, last."""
    target.mkdir(parents=True, exist_ok=True)
    for name in EVALUATION_FILES:
        (target / name).unlink(missing_ok=True)
        if name != "metrics.json" and (folder / name).exists():
            shutil.copy2(folder / name, target / f"{name}.partial")
            os.replace(target / f"{name}.partial", target / name)


def settle(record: dict[str, Any], target: Path, reference: str) -> dict[str, Any]:
    """The same bytes may have another name: the record bears the one that was asked for."""
    record = record | {"release": reference}
    partial = target / "metrics.json.partial"
    partial.write_text(json.dumps(record, indent=2), encoding="utf8")
    os.replace(partial, target / "metrics.json")
    return record
