"""Publishing: a release that passed becomes releases/NAME@DIGEST12, its bytes and signatures go to the DVC remote, its
pointer to git."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from configs.release import Manifest
from configs.verdict import Verdict
from infra.dvc.judgements import LEFT_OUT, is_judged_anew, put_judgement
from infra.dvc.releases import (
    LINEAGE,
    PIPELINE,
    RELEASES,
    check_bytes,
    facts_of,
    find,
    folder_of,
    pipeline_of,
    pointer_of,
    pull,
)
from infra.dvc.repository import repository
from infra.dvc.signatures import bring_signatures, keep_signatures, sign_folders
from infra.files.hashes import verify_known
from infra.signing import signing_key


def publish(paths: RunPaths, run_id: str | None = None) -> Path:
    """releases/NAME@DIGEST12, copied, added to DVC and pushed, signed where there is a key. A second call, or one after
    a kill, ends in the same state; one after another verdict has that one and its evaluation beside the same bytes, and
    those for other environments. `run_id`: MLflow's.

    Raises RefusedError without a passing verdict on these very bytes, ExternalError where DVC fails.
    """
    manifest = proven(paths)
    with publishing():
        target = assemble(paths, manifest, run_id)
        if key := signing_key():
            sign_folders(target, key)
        add(target, {})
        send(target)
    return target


def prepare_pin(paths: RunPaths, run_id: str | None, facts: Mapping[str, object]) -> Path:
    """As `publish`, here alone: the pointer for git, with `facts`. Nothing is pushed and nothing signed, for that wants
    secrets: who trusts the pointer once it is merged does it (infra/gitlab/publish.py)."""
    manifest = proven(paths)
    with publishing():
        target = assemble(paths, manifest, run_id)
        add(target, facts)
    return target


@contextmanager
def publishing() -> Iterator[None]:
    from filelock import FileLock

    RELEASES.mkdir(exist_ok=True)
    with FileLock(RELEASES / ".publish.lock"):
        yield


def proven(paths: RunPaths) -> Manifest:
    """Raises RefusedError where the bytes differ, or without a verdict that passes."""
    manifest = verify_known(paths.release)
    refuse_unproven(paths.gate, manifest)
    return manifest


def assemble(paths: RunPaths, manifest: Manifest, run_id: str | None) -> Path:
    target = folder_of(manifest.reference)
    if not restored(target, manifest):
        copy_whole(paths, target, run_id)
    elif is_judged_anew(paths, target):
        replace_judgement(paths, target)
    return target


def sign_published(reference: str, key: Path) -> None:
    """New signatures of a published release, its verdicts and evaluations, into the DVC remote: for one published
    unsigned, or when the key changes."""
    target = find(reference)
    with publishing():
        sign_folders(target, key, anew=True)
        keep_signatures(target)


def refuse_unproven(gate: Path, manifest: Manifest) -> None:
    """`gate`: the folder of its verdict. Raises RefusedError where that is none that passes on these very bytes."""
    from pydantic import ValidationError

    hint = f"tunegate gate configs/finetune/{manifest.name}.yaml"
    try:
        verdict = Verdict.read(gate / "verdict.json")
    except (OSError, ValidationError):
        raise RefusedError(
            f"{manifest.reference}: found no verdict in {gate}, expected one that passes", hint=hint
        ) from None
    if verdict.release != manifest.reference:
        raise RefusedError(
            f"{gate}: found a verdict on {verdict.release}, expected one on {manifest.reference}", hint=hint
        )
    if verdict.outcome != "pass":
        raise RefusedError(f"{manifest.reference}: found the verdict {verdict.outcome}, expected pass", hint=hint)


def restored(target: Path, manifest: Manifest) -> bool:
    """True if an earlier publication of these bytes stands: they are immutable, so they are brought back and not
    written again."""
    if not pointer_of(target).exists():
        return False
    try:
        pull(target)
        check_bytes(target, manifest.reference, afresh=True)
        bring_signatures(target)
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
    verify_known(partial / "release")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)


def replace_judgement(paths: RunPaths, target: Path) -> None:
    """The verdict and its evaluation; the bytes, their signature and their lineage stay, and the verdicts for other
    environments. Killed in between, the next one brings the publication back from the remote and begins anew."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(target, partial)
    put_judgement(paths, partial)
    verify_known(partial / "release")
    shutil.rmtree(target)
    os.replace(partial, target)


def add(target: Path, facts: Mapping[str, object]) -> None:
    pinned = pipeline_of(target)
    with repository() as repo:
        (stage,) = repo.add(str(target))
        stage.meta = {**facts_of(target), **({PIPELINE: pinned} if pinned else {}), **facts}
        stage.dump()


def send(target: Path) -> None:
    """Its bytes and its signatures, as far as the remote has them not."""
    with repository() as repo:
        repo.push(str(pointer_of(target)))
    keep_signatures(target)
