"""After the merge: the releases that the environments pin, from the artifacts of the pipelines that pinned them into
the DVC remote, signed. The first of our jobs that sees a secret, and it runs the default branch's code.

A merge request's pipeline may put anything into its artifacts. What comes from there is published only if it is, byte
for byte, what the pointer in git says, which the merge request showed and its reviewers merged.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from configs.release import REFERENCE_PATTERN, read_manifest, verify_release
from infra.dvc.publish import publishing, refuse_unproven, send
from infra.dvc.releases import find, folder_of, pipeline_of, pointer_of, run_of
from infra.dvc.remote import in_remote
from infra.dvc.repository import repository
from infra.dvc.reproduce import push_stages
from infra.dvc.signatures import bring_signatures, is_signed, keep_signatures, sign_folders
from infra.gitlab.api import GitLab
from infra.gitlab.pipelines import GONE, download, job_of
from infra.mlflow.outbox import Line, Outbox
from infra.mlflow.registry import register as register_release
from infra.mlflow.registry import registered
from infra.mlflow.sync import sync
from infra.signing import signing_key

TRAIN, PIN = "train", "pin"


def pinned(environments: Path = Path("configs/deploy")) -> list[str]:
    """The releases that these YAMLs pin."""
    from ruamel.yaml import YAML

    found = (YAML(typ="safe").load(path.read_text(encoding="utf8")) for path in sorted(environments.glob("*.yaml")))
    return list(dict.fromkeys(str(one["release"]) for one in found if isinstance(one, dict) and one.get("release")))


def publish_pinned(gitlab: GitLab | None, references: Iterable[str]) -> dict[str, str]:
    """What was done about each release. Killed in between, the next run does what is left: the bytes go last.

    Raises InputError where they are nowhere, RefusedError where they are not what git says.
    """
    targets, key = {reference: target_of(reference) for reference in references}, signing_key()
    if not targets:
        return {}
    there = in_remote(targets.values())
    done = {}
    for reference, target in targets.items():
        if target not in there:
            take(gitlab, reference, target, key)
            done[reference] = "published and signed" if key else "published"
        elif key and not is_signed(target):
            sign_target(find(reference), key)
            done[reference] = "signed"
        else:
            done[reference] = "nothing to do: the DVC remote has it"
    register(targets)
    return done


def target_of(reference: str) -> Path:
    if not re.fullmatch(REFERENCE_PATTERN, reference):
        raise InputError(f"{reference}: found as a pin, expected NAME@sha256:64 hex digits", hint="tunegate check")
    target = folder_of(reference)
    if not pointer_of(target).exists():
        raise InputError(
            f"{reference}: pinned, and {pointer_of(target)} is not in git: no merge request's pipeline pinned it",
            hint="tunegate releases publish CONFIG; git add releases",
        )
    return target


def take(gitlab: GitLab | None, reference: str, target: Path, key: Path | None) -> None:
    """From the artifacts into releases/ and the remote, and what the stages made on the way."""
    pipeline = pipeline_of(target)
    if pipeline is None:
        raise InputError(
            f"{reference}: the DVC remote lacks it, and {pointer_of(target)} names no pipeline that has it",
            hint="tunegate releases publish CONFIG, where it was made",
        )
    if gitlab is None:
        raise InputError(
            f"{reference}: in the artifacts of pipeline {pipeline}, and there is no GitLab to ask: expected "
            "CI_SERVER_URL, CI_PROJECT_ID and TUNEGATE_GITLAB_TOKEN",
            hint="docs/ci.md says where the token comes from",
        )
    name = reference.partition("@")[0]
    with tempfile.TemporaryDirectory(dir=".", prefix=".artifacts-", suffix=".partial") as folder:
        artifacts = Path(folder)
        for kind in (TRAIN, PIN):
            archive = artifacts / f"{kind}.zip"
            download(gitlab, job_of(gitlab, pipeline, f"{kind} {name}"), archive)
            unpack(archive, artifacts)
        with publishing():
            place(artifacts, reference, target)
            push_stages(name, artifacts)
            deliver(name, artifacts / "build" / name / "tracking")
            if key:
                sign_target(target, key)
            send(target)


def unpack(archive: Path, folder: Path) -> None:
    """zipfile keeps every name inside the folder, and writes a link as a file. Raises RefusedError for what is no
    archive."""
    try:
        with zipfile.ZipFile(archive) as files:
            files.extractall(folder)
    except (zipfile.BadZipFile, OSError) as error:
        raise RefusedError(f"{archive.name}: found no archive of artifacts: {error}", hint=GONE) from error
    archive.unlink()


def place(artifacts: Path, reference: str, target: Path) -> None:
    """releases/NAME@DIGEST12 as the pipeline pinned it: its verdicts as they lay there, and the release that its train
    job left. Raises RefusedError where that is not what the pointer in git says."""
    name, digest = reference.split("@")
    found, release = artifacts / target, artifacts / "build" / name / "release"
    hint = f"see what made the artifacts of pipeline {pipeline_of(target)}; {GONE}"
    if not (found / "release").exists() and found.is_dir() and release.is_dir():
        shutil.copytree(release, found / "release")  # not moved: a stage put it out as well
    if not (found / "release").is_dir():
        raise RefusedError(f"{reference}: the artifacts have no {target} with its release", hint=hint)
    manifest = verify_release(found / "release", digest)
    if manifest.reference != reference:
        raise RefusedError(f"found the release {manifest.reference}, expected {reference}", hint=hint)
    refuse_unproven(found / "gate", manifest)
    shutil.rmtree(target, ignore_errors=True)
    os.replace(found, target)
    with repository() as repo:
        (out,) = repo.stage.load_one(str(pointer_of(target))).outs
        is_other = out.changed_checksum()
        if not is_other:
            out.commit()
        shutil.rmtree(target)  # what DVC is told to overlook (.dvcignore) was nobody's to review
        if is_other:
            raise RefusedError(f"{reference}: the artifacts are not what {pointer_of(target)} names", hint=hint)
        repo.checkout([str(pointer_of(target))], force=True)


def sign_target(target: Path, key: Path) -> None:
    """What has no signature yet."""
    bring_signatures(target)
    sign_folders(target, key)
    keep_signatures(target)


def deliver(name: str, tracking: Path) -> None:
    """To MLflow, what the training could not. Where it does not answer, `tunegate sync` finds it.

    Figures alone: a line that names files or another run would be read here, where the secrets are.
    """
    outbox = Outbox(RunPaths.of(name).root / "tracking")
    if Outbox(tracking).record.exists() and Outbox(tracking).run_id is None and not outbox.folder.exists():
        outbox.append(*(line for line, _ in Outbox(tracking).left() if is_harmless(line)))
    if outbox.record.exists():
        try:
            sync([name])
        except ExternalError as error:
            sys.stderr.write(f"{error.message}\n")


def is_harmless(line: Line) -> bool:
    start = line.get("start", {}) if isinstance(line, dict) else None
    return isinstance(start, dict) and "parent" not in start and "artifacts" not in line


def register(targets: Mapping[str, Path]) -> None:
    """In MLflow what it does not know yet, also where it did not answer the last time."""
    known = registered(reference.partition("@")[0] for reference in targets)
    for reference, target in targets.items():
        if known is None or reference.partition("@")[2] in known:
            continue
        release = find(reference) / "release"
        manifest = read_manifest(release)
        register_release(
            manifest, release, run_of(target) or Outbox(RunPaths.of(manifest.name).root / "tracking").run_id
        )
