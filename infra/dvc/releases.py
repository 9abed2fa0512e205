"""The artifact store, the only user of DVC: releases/NAME@DIGEST12 here, its bytes in the DVC remote, its pointer in
git."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import TypedDict, cast

from configs.environment.signing import Signing
from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from configs.release import REFERENCE_PATTERN, Manifest, read_manifest, verify_release
from configs.verdict import Verdict
from infra.dvc.judgements import (
    LEFT_OUT,
    is_judged_anew,
    judged_folders,
    judged_for,
    judgement_folders,
    put_judgement,
    read_verdict,
)
from infra.dvc.repository import repository
from infra.files.atomic import read_json
from infra.signing import sign, signature_of, signing_key, verify_signature

RELEASES = Path("releases")
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


def publish(paths: RunPaths, run_id: str | None = None) -> Path:
    """releases/NAME@DIGEST12, copied, added to DVC and pushed. A second call, or one after a kill, ends in the same
    state; one after another verdict has that one and its evaluation beside the same bytes, and those for other
    environments. `run_id`: MLflow's.

    Raises RefusedError without a passing verdict on these very bytes, ExternalError where DVC fails.
    """
    from filelock import FileLock

    manifest = verify_release(paths.release)
    refuse_unproven(paths, manifest)
    target = folder_of(manifest.reference)
    target.parent.mkdir(exist_ok=True)
    with FileLock(RELEASES / ".publish.lock"):
        if not restored(target, manifest):
            copy_whole(paths, target, run_id)
        elif is_judged_anew(paths, target):
            replace_judgement(paths, target)
        if key := signing_key():
            for folder in signed_folders(target):
                if not signature_of(folder).exists():
                    sign(folder, key)
        add(target)
    return target


def find(reference: str) -> Path:
    """The folder of NAME@sha256:DIGEST, fetched if absent, every byte of its release rehashed.

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
        verify_signature(target / "release", signing.public_key, reference)
    return target


def sign_published(reference: str, key: Path) -> Path:
    """The new signature of a published release, and those of its verdicts and evaluations, in the DVC remote too: for
    one published unsigned, or when the key changes."""
    from filelock import FileLock

    target = find(reference)
    with FileLock(RELEASES / ".publish.lock"):
        release, *others = signed_folders(target)
        found = sign(release, key)
        for folder in others:
            sign(folder, key)
        add(target)
    return found


def signed_folders(target: Path) -> list[Path]:
    """The release first; then what it was judged by, for each environment."""
    judgements = [folder for where in judgement_folders(target) for folder in judged_folders(where)]
    return [target / "release", *judgements]


def fetch(reference: str) -> Path:
    """As `find`, but what is here is repaired from the DVC remote first."""
    target = folder_of(reference)
    if not pointer_of(target).exists():
        known = "".join(f"\n  {row['reference']}" for row in list_releases()) or " none"
        raise InputError(f"{reference}: no such release was published; known:{known}", hint="tunegate releases list")
    pull(target)
    check_bytes(target, reference)
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
    from ruamel.yaml import YAML

    facts = YAML(typ="safe").load(pointer_of(target).read_text(encoding="utf8")).get("meta") or {}
    name, digest = target.name.split("@")
    known = {"name": name, "digest": f"sha256:{digest}", "reference": target.name}
    return cast(Published, known | UNKNOWN | facts | {"here": False})


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
        "run": (read_json(target / LINEAGE) or {}).get("run"),
        "git_revision": manifest.git_revision,
        "data": manifest.data.get("fingerprint"),
    }


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


def refuse_unproven(paths: RunPaths, manifest: Manifest) -> None:
    from pydantic import ValidationError

    hint = f"tunegate gate configs/finetune/{manifest.name}.yaml"
    try:
        verdict = Verdict.read(paths.gate / "verdict.json")
    except (OSError, ValidationError):
        raise RefusedError(
            f"{manifest.reference}: found no verdict in {paths.gate}, expected one that passes", hint=hint
        ) from None
    if verdict.release != manifest.reference:
        raise RefusedError(
            f"{paths.gate}: found a verdict on {verdict.release}, expected one on {manifest.reference}", hint=hint
        )
    if verdict.outcome != "pass":
        raise RefusedError(f"{manifest.reference}: found the verdict {verdict.outcome}, expected pass", hint=hint)


def check_bytes(target: Path, reference: str) -> None:
    name, digest = reference.split("@")
    manifest = verify_release(target / "release", digest)
    if manifest.name != name:
        raise RefusedError(
            f"{target}: found the release {manifest.reference}, expected {reference}",
            hint=f"tunegate releases fetch {reference}",
        )


def restored(target: Path, manifest: Manifest) -> bool:
    """True if an earlier publication of these bytes stands: they are immutable, so they are brought back and not
    written again."""
    if not pointer_of(target).exists():
        return False
    try:
        pull(target)
        check_bytes(target, manifest.reference)
    except (InputError, ExternalError, RefusedError):  # its bytes are lost everywhere: publish them anew
        return False
    return True


def copy_whole(paths: RunPaths, target: Path, run_id: str | None) -> None:
    """A killed copy leaves only a partial folder, which the next one throws away."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for source in (paths.release, paths.evaluation, paths.gate):
        shutil.copytree(source, partial / source.name, ignore=LEFT_OUT)
    (partial / LINEAGE).write_text(json.dumps({"run": run_id}) + "\n", encoding="utf8")
    verify_release(partial / "release")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)


def replace_judgement(paths: RunPaths, target: Path) -> None:
    """The verdict and its evaluation; the bytes, their signature and their lineage stay, and the verdicts for other
    environments. Killed in between, the next one brings the publication back from the remote and begins anew."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(target, partial)
    put_judgement(paths, partial)
    verify_release(partial / "release")
    shutil.rmtree(target)
    os.replace(partial, target)


def add(target: Path) -> None:
    with repository() as repo:
        (stage,) = repo.add(str(target))
        stage.meta = facts_of(target)
        stage.dump()
        repo.push(str(pointer_of(target)))


def pull(target: Path) -> None:
    with repository() as repo:
        repo.pull(str(pointer_of(target)), force=True)
