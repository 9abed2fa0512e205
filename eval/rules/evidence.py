"""What a gate may look at, gathered from files: the release's own evaluation and those of the releases that it is
compared with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.environment.config import DeployConfig
from configs.metrics import Metrics, read_metrics, why_not_comparable
from configs.paths import RunPaths
from configs.release import MANIFEST, Manifest, read_manifest
from configs.verdict import HeldOut
from eval.metrics.samples import DIVERGENCE, read_samples
from eval.metrics.samples import FILE as SAMPLES

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, eq=False)
class Measured:
    """One release's metrics.json and its predictions, one row an example, `id` a text that never repeats. `samples`:
    the long table (eval/metrics/samples.py); None: an evaluation of before there was one."""

    record: Metrics
    frame: DataFrame | None = None
    samples: DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a gate may look at. `environment`: what the release is judged for, None where none was named;
    `champion`: what serves there, None where it has never served anything; `references`: champion, base, parent or
    NAME@sha256:DIGEST; `base`, `parent`: the digests that those must have."""

    release: str
    measured: Measured | None
    champion: str | None = None
    references: dict[str, Measured] = field(default_factory=dict)
    load: dict[str, float] | None = None
    base: str | None = None
    parent: str | None = None
    environment: str | None = None


def gather(paths: RunPaths, production: DeployConfig | None, named: Iterable[str] = ()) -> Evidence:
    """`named`: the NAME@sha256:DIGEST that rules compare with."""
    manifest = read_manifest(paths.release)
    measured = read_measured(paths.evaluation)
    champion, parent = production.release if production else None, parent_of(manifest, paths)
    found = {"base": read_measured(paths.evaluation / "base")}
    found["parent"] = read_measured(paths.evaluation / "parent") if parent else None
    found |= {reference: find_reference(paths, reference, measured) for reference in named}
    found["champion"] = find_reference(paths, champion, measured) if champion is not None else None
    references = {name: value for name, value in found.items() if value is not None}
    return Evidence(
        manifest.reference,
        measured,
        champion,
        references,
        base=manifest.base.get("digest"),
        parent=parent,
        environment=production.name if production else None,
    )


def parent_of(manifest: Manifest, paths: RunPaths) -> str | None:
    """The digest of the unquantized model that the release was made of. A manifest of an earlier tunegate does not
    say it: then the parent beside the release does, if it was made with it."""
    stated = manifest.quantization.get("parent_digest")
    if stated:
        return str(stated)
    if not (paths.parent / MANIFEST).exists():
        return None
    parent, key = read_manifest(paths.parent), manifest.quantization.get("key")
    return parent.digest if parent.quantization.get("key") == key else None


def read_measured(folder: Path) -> Measured | None:
    """None if there is no complete evaluation in `folder`."""
    record = read_metrics(folder)
    if record is None or not (folder / "predictions.parquet").exists():
        return None
    import pandas

    try:
        frame = pandas.read_parquet(folder / "predictions.parquet")
        frame = frame.assign(id=frame["id"].astype(str))
        samples = read_samples(folder / SAMPLES, folder / DIVERGENCE) if (folder / SAMPLES).exists() else None
    except (ValueError, KeyError, OSError):
        return None
    return Measured(record, frame, samples) if frame["id"].is_unique else None


def find_reference(paths: RunPaths, reference: str, mine: Measured | None) -> Measured | None:
    """What `tunegate evaluate` measured of it on the run's own rows and by its own questions, else what is found
    anywhere."""
    name, _, digest = reference.partition("@sha256:")
    for folder in (paths.evaluation / "champion", paths.evaluation / f"{name}@{digest[:12]}"):
        found = read_measured(folder)
        if found and found.record.get("release") == reference:
            return found
    return find_measured(reference, mine)


def find_measured(reference: str, mine: Measured | None) -> Measured | None:
    """The evaluation of exactly this release: one that `mine` may be compared with if there is one, else any (the gate
    says so)."""
    published = Path("releases")
    folders = [*published.glob("*/eval"), *published.glob("*/judged/*/eval"), *Path("build").glob("*/eval")]
    found = [
        measured
        for folder in folders
        if (measured := read_measured(folder)) and measured.record.get("release") == reference
    ]
    return next(
        (measured for measured in found if mine and why_not_comparable(mine.record, measured.record) is None),
        found[0] if found else None,
    )


def slices_of(predictions: DataFrame) -> dict[str, DataFrame]:
    if "slices" not in predictions:
        return {}
    named = predictions["slices"].explode().dropna()
    return {str(name): predictions.loc[rows.index] for name, rows in named.groupby(named)}


def part_of(measured: Measured, ids: Iterable[str]) -> Measured:
    """The same, of these test rows alone."""
    frame, samples, wanted = measured.frame, measured.samples, {*ids}
    return replace(
        measured,
        frame=None if frame is None else frame[frame["id"].isin(wanted)],
        samples=None if samples is None else samples[samples["id"].isin(wanted)],
    )


def held_out(evidence: Evidence) -> HeldOut | None:
    """None where the release itself answered."""
    folds = evidence.measured.record.get("folds") if evidence.measured else None
    if not folds:
        return None
    count, champion, seen = len(folds["rows"]), evidence.references.get("champion"), folds.get("champion_trained_on")
    if champion is None or seen == 0:
        return HeldOut(folds=count)
    if champion.record.get("folds"):
        return HeldOut(folds=count, champion="held out")
    return HeldOut(folds=count, champion="unknown" if seen is None else "trained", champion_trained_on=seen)
