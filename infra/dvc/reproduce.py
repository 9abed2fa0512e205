"""`tunegate repro`: the stages of dvc.yaml for one config, those that are not done. Its lock says what was made from
what."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from configs.errors import ExternalError, InconclusiveError, InputError, RefusedError, TunegateError
from infra.dvc.inputs import CONFIGS, known_configs, refresh
from infra.dvc.repository import repository

STAGES = ("prepare", "train", "quantize", "evaluate", "gate")


def reproduce(name: str, until: str, *, push: bool = False) -> list[str]:
    """Runs what is not done yet, up to the stage `until`; what the DVC remote has is fetched and not made again.
    Returns the stages that ran.

    `push`: their outs into the DVC remote, so that whoever has the lock from git need not train. Raises what the failed
    stage's exit code says.
    """
    refresh()
    if name not in known_configs():
        raise InputError(
            f"{name}: not in the pipeline, expected one of: {', '.join(known_configs())}",
            hint=f"{CONFIGS}/{name}.yaml, without `sweep:` and `data.corrupt:`",
        )
    target = f"{until}@{name}"
    with repository() as repo:
        adopt(repo, target)
        ran = run(repo, name, until)
        if push:
            repo.push(targets=[target], with_deps=True)
    return ran


def push_stages(name: str, artifacts: Path) -> list[str]:
    """What the stages in dvc.lock put out, from `artifacts`, which another pipeline's jobs left, into the DVC remote:
    whoever has the lock from git need not train. Returns the paths; what is not there as the lock has it is left
    out."""
    if name not in known_configs():
        return []
    with repository() as repo:
        with repo.lock:
            outs = [out for out in outs_of(repo, f"gate@{name}") if out.use_cache and out.hash_info]
            for out in outs:
                place = Path(out.fs_path)
                found = artifacts / place.relative_to(repo.root_dir)
                if found.exists() and not place.exists():
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(found, place)
                    if out.changed_checksum():  # not what was reviewed
                        out.remove()
        adopt(repo, f"gate@{name}")
        whole = [str(out) for out in outs if not out.changed_cache()]
        if whole:
            repo.push(targets=whole)
    return whole


def outs_of(repo: Any, target: str) -> list[Any]:
    return [out for stage in repo.stage.collect(target, with_deps=True) for out in stage.outs]


def adopt(repo: Any, target: str) -> None:
    """Outs that are here as the lock has them, brought by another job's artifacts, into DVC's cache: what that lacks is
    made again, and never pushed."""
    with repo.lock:
        for out in outs_of(repo, target):
            if out.exists and out.hash_info and not out.changed_checksum() and out.changed_cache():
                out.commit()


def run(repo: Any, name: str, until: str) -> list[str]:
    """Where fetching fails (no credentials in a fork's pipeline, a remote that is gone), what is missing is made
    here."""
    from dvc.exceptions import ReproductionError

    for fetch in (True, False):
        try:
            ran = [str(stage.addressing) for stage in repo.reproduce(targets=[f"{until}@{name}"], pull=fetch)]
            return [stage for stage in ran if "@" in stage]
        except ReproductionError as error:
            if not fetch or "exited with" in str(error.__cause__):
                raise failed(name, until, error) from None
    return []


def failed(name: str, until: str, error: Exception) -> TunegateError:
    """As the stage's own command ended: DVC has its exit code only at the end of a sentence, `failed to run: COMMAND,
    exited with N`."""
    cause = str(error.__cause__ or "")
    code = cause.rpartition("exited with ")[2] if "exited with " in cause else ""
    kinds: dict[str, type[TunegateError]] = {"1": RefusedError, "2": InputError, "4": InconclusiveError}
    command = cause.removeprefix("failed to run: ").partition(",")[0].removeprefix(".venv/bin/")
    return kinds.get(code, ExternalError)(f"{error}: {cause}", hint=command or f".venv/bin/dvc repro {until}@{name}")
