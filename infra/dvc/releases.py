"""The artifact store, the only user of DVC: releases/NAME@DIGEST12 here, its bytes in the DVC remote, its pointer in
git."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypedDict, cast

from configs.environment.signing import Signing
from configs.errors import InputError, RefusedError
from configs.release import REFERENCE_PATTERN, read_manifest
from configs.verdict import Verdict
from infra.dvc.judgements import (
    judged_for,
    read_verdict,
)
from infra.dvc.repository import repository
from infra.dvc.signatures import bring_signatures, verify_published
from infra.files.atomic import read_json
from infra.files.hashes import verify_known

RELEASES = Path("releases")
PIPELINE = "pipeline"  # in a pointer's facts: GitLab's number of the pipeline whose artifacts have its bytes
LINEAGE = (
    "lineage.json"  # of a published release: the MLflow run that trained it, which its manifest is too early to know
)


class PointerFacts(TypedDict):
    """What a release's pointer in git says of it. `created`: ISO 8601; `run`: MLflow's; `data`: the fingerprint of all
    splits; `judged_for`: the environments that it has a verdict for, the newest first."""

    name: str
    digest: str
    reference: str
    created: str
    verdict: str
    judged_for: list[str]
    metrics: dict[str, float]
    run: str | None
    git_revision: str
    data: str | None


class Published(PointerFacts):
    """`here`: its bytes are in this checkout."""

    here: bool


UNKNOWN: dict[str, object] = {
    "verdict": "unknown",
    "judged_for": [],
    "created": "",
    "run": None,
    "git_revision": "unknown",
    "data": None,
    "metrics": {},
}


def find(reference: str) -> Path:
    """The folder of NAME@sha256:DIGEST, fetched if absent, every file of its release that is not known yet hashed.

    Raises InputError for an unknown reference, RefusedError where the bytes here differ, ExternalError where DVC fails.
    """
    target = folder_of(reference)
    if not target.exists():
        return fetch(reference)
    check_bytes(target, reference)
    return target


def find_trusted(reference: str, signing: Signing | None) -> Path:
    """As `find`, and where an environment pins a key, signed by it. Raises RefusedError where it is not."""
    target = find(reference)
    if signing:
        verify_published(target, target / "release", signing.public_key, reference)
    return target


def fetch(reference: str) -> Path:
    """As `find`, but what is here is repaired from the DVC remote first, and every byte is read."""
    target = folder_of(reference)
    if not pointer_of(target).exists():
        known = "".join(f"\n  {row['reference']}" for row in list_releases()) or " none"
        raise InputError(f"{reference}: no such release was published; known:{known}", hint="tunegate releases list")
    pull(target)
    check_bytes(target, reference, afresh=True)
    bring_signatures(target)
    return target


def list_releases() -> list[Published]:
    """Oldest first: what `facts_of` says, and here (bool). What is only known by its pointer is listed too."""
    targets = {path.with_suffix("") for path in RELEASES.glob("*@*.dvc")} | {
        path.parents[1] for path in RELEASES.glob("[!.]*@*/release/manifest.json")
    }
    return sorted((describe(target) for target in targets), key=lambda row: (row["created"], row["reference"]))


def describe(target: Path) -> Published:
    if target.exists():
        return {**facts_of(target), "here": True}
    facts = pointer_facts(target)
    name, digest = target.name.split("@")
    known = {"name": name, "digest": f"sha256:{digest}", "reference": target.name}
    facts.pop(PIPELINE, None)
    return cast(Published, known | UNKNOWN | facts | {"here": False})


def pointer_facts(target: Path) -> dict[str, Any]:
    """What the pointer in git was given to say; empty without one."""
    from ruamel.yaml import YAML

    pointer = pointer_of(target)
    text = pointer.read_text(encoding="utf8") if pointer.exists() else "{}"
    return dict(YAML(typ="safe").load(text).get("meta") or {})


def pipeline_of(target: Path) -> int | None:
    """GitLab's number of the pipeline that pinned it, and has its bytes; None for what was published by hand."""
    found = pointer_facts(target).get(PIPELINE)
    return found if isinstance(found, int) else None


def facts_of(target: Path) -> PointerFacts:
    """What the pointer in git says about its release, for those who have not fetched it: with it the chain of `tunegate
    trace` needs no bytes."""
    manifest, verdict = read_manifest(target / "release"), read_verdict(target)
    return {
        "name": manifest.name,
        "digest": manifest.digest,
        "reference": manifest.reference,
        "created": manifest.created,
        "verdict": verdict.outcome if verdict else "unknown",
        "judged_for": judged_for(target),
        "metrics": judged_metrics(target, verdict),
        "run": run_of(target),
        "git_revision": manifest.git_revision,
        "data": manifest.data.get("fingerprint"),
    }


def run_of(target: Path) -> str | None:
    """MLflow's run that trained it, as far as it was known when it was published."""
    found: str | None = (read_json(target / LINEAGE) or {}).get("run")
    return found


def judged_metrics(target: Path, verdict: Verdict | None) -> dict[str, float]:
    """The metrics that the gate's rules are about, as measured; four decimals, for people."""
    measured = (read_json(target / "eval" / "metrics.json") or {}).get("metrics", {})
    judged = [str(result.evidence.get("metric")) for result in verdict.results] if verdict else []
    return {
        name: round(float(measured[name]), 4)
        for name in dict.fromkeys(judged)
        if isinstance(measured.get(name), int | float)
    }


def folder_of(reference: str) -> Path:
    if not re.fullmatch(REFERENCE_PATTERN, reference):
        raise InputError(
            f"{reference}: not a release, expected NAME@sha256:64 hex digits", hint="tunegate releases list"
        )
    name, digest = reference.split("@sha256:")
    return RELEASES / f"{name}@{digest[:12]}"


def pointer_of(target: Path) -> Path:
    return target.with_name(f"{target.name}.dvc")


def check_bytes(target: Path, reference: str, *, afresh: bool = False) -> None:
    name, digest = reference.split("@")
    manifest = verify_known(target / "release", digest, afresh=afresh)
    if manifest.name != name:
        raise RefusedError(
            f"{target}: found the release {manifest.reference}, expected {reference}",
            hint=f"tunegate releases fetch {reference}",
        )


def pull(target: Path) -> None:
    with repository() as repo:
        repo.pull(str(pointer_of(target)), force=True)
