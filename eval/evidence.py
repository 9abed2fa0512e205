"""What a gate may look at, gathered from files: the release's own evaluation, the champion's and the base's."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.deploy import DeployConfig
from configs.evaluation import METRICS
from configs.paths import RunPaths
from configs.release import read_manifest

if TYPE_CHECKING:
    from pandas import DataFrame

PER_EXAMPLE = {name: metric.per_example for name, metric in METRICS.items() if metric.per_example is not None}


@dataclass(frozen=True)
class Measured:
    """One release's metrics.json and its per-example columns, each by id; `answers` holds (gold, answer)."""

    record: dict[str, Any]
    columns: dict[str, dict[str, float]] = field(default_factory=dict)
    answers: dict[str, tuple[str, str]] = field(default_factory=dict)
    frame: DataFrame | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Evidence:
    """All that a gate may look at. `champion` is None when nothing is pinned; `references` holds what was measured."""

    release: str
    measured: Measured | None
    champion: str | None = None
    references: dict[str, Measured] = field(default_factory=dict)
    load: dict[str, float] | None = None
    base: str | None = None


def gather(paths: RunPaths, production: DeployConfig | None) -> Evidence:
    manifest = read_manifest(paths.release)
    measured = read_measured(paths.evaluation)
    pinned = production.release if production else None
    champion = None if pinned is None else read_champion(paths, pinned) or find_measured(pinned, measured.record.get("dataset") if measured else None)
    found = {"champion": champion, **{name: read_measured(paths.evaluation / name) for name in ("base", "parent")}}
    references = {name: value for name, value in found.items() if value is not None}
    return Evidence(manifest.reference, measured, pinned, references, base=manifest.base.get("digest"))


def read_measured(folder: Path) -> Measured | None:
    """None if there is no complete evaluation in `folder`."""
    if not (folder / "metrics.json").exists() or not (folder / "predictions.parquet").exists():
        return None
    import pandas

    try:
        record = json.loads((folder / "metrics.json").read_text(encoding="utf8"))
        frame = pandas.read_parquet(folder / "predictions.parquet").set_index("id")
    except (ValueError, KeyError, OSError):
        return None
    if not isinstance(record, dict) or not frame.index.is_unique:
        return None
    columns = {name: {str(key): float(one) for key, one in frame[name].items()} for name in {*PER_EXAMPLE.values()} if name in frame}
    texts = frame[["gold", "answer"]].astype(str).itertuples() if {"gold", "answer"} <= set(frame) else ()
    return Measured(record, columns, {str(row.Index): (str(row.gold), str(row.answer)) for row in texts}, frame.reset_index())


def read_champion(paths: RunPaths, pinned: str) -> Measured | None:
    """What `tunegate evaluate` measured of it, on the run's own rows and by its own questions."""
    found = read_measured(paths.evaluation / "champion")
    return found if found and found.record.get("release") == pinned else None


def find_measured(reference: str, dataset: str | None) -> Measured | None:
    """The evaluation of exactly this release: the one on `dataset` if there is one, else any (the gate says so)."""
    folders = [*Path("releases").glob("*/eval"), *Path("build").glob("*/eval")]
    found = [measured for folder in folders if (measured := read_measured(folder)) and measured.record.get("release") == reference]
    return next((measured for measured in found if measured.record.get("dataset") == dataset), found[0] if found else None)
