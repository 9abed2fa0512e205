"""`tunegate releases prune`: takes away the bytes of releases that nothing refers to. The plan is pure; what it keeps,
it keeps for a reason that is said."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from configs.errors import ExternalError, RefusedError
from configs.release import ReleaseUse
from infra.dvc.releases import RELEASES, folder_of, pointer_of
from infra.git import history

PRUNED = ".pruned"


@dataclass(frozen=True)
class Copy:
    """A release folder here. `safe`: every byte of it is in the DVC remote, by the pointer beside it."""

    folder: str
    size_bytes: int
    safe: bool


@dataclass(frozen=True)
class Decision:
    folder: str
    size_bytes: int
    remove: bool
    why: str


class Pruned(TypedDict, total=False):
    """Folders, and who keeps the others; `would_…` where it was only asked. The remote's, where that was wanted."""

    removed: list[str]
    would_remove: list[str]
    bytes: int
    kept: dict[str, str]
    remote_objects_removed: int
    remote_objects_that_would_go: int


def plan_prune(copies: Iterable[Copy], holders: Mapping[str, str]) -> list[Decision]:
    """Pure. `holders`: NAME@sha256:DIGEST to who refers to it. Twelve digits decide, as they name the folder: two that
    share them are both kept."""
    held = {folder_of(reference).name: who for reference, who in holders.items()}
    return [decide(copy, held.get(copy.folder)) for copy in copies]


def decide(copy: Copy, holder: str | None) -> Decision:
    if holder:
        return Decision(copy.folder, copy.size_bytes, False, holder)
    if not copy.safe:
        return Decision(copy.folder, copy.size_bytes, False, "the DVC remote does not have all of it")
    return Decision(copy.folder, copy.size_bytes, True, "nothing refers to it, and the DVC remote has it")


def prune(uses: Callable[[], list[ReleaseUse]], act: bool = False, remote: bool = False) -> Pruned:
    """What is kept and why, what goes (with `act` it is gone), its bytes. `remote`: also what no commit's pointer has,
    out of the DVC remote.

    Raises ExternalError where git, DVC or its remote cannot tell, RefusedError where a used release has no pointer in
    any commit.
    """
    from filelock import FileLock

    RELEASES.mkdir(exist_ok=True)
    with FileLock(RELEASES / ".publish.lock"):
        clear_leftovers()
        decisions = plan_prune(copies_here(), holders(uses()))
        going = [one for one in decisions if one.remove]
        for one in going if act else []:
            remove(one.folder, uses)
        folders = [one.folder for one in going]
        found: Pruned = {"removed": folders} if act else {"would_remove": folders}
        found["bytes"] = sum(one.size_bytes for one in going)
        found["kept"] = {one.folder: one.why for one in decisions if not one.remove}
        return found | prune_remote(uses(), act) if remote else found


def holders(uses: Iterable[ReleaseUse]) -> dict[str, str]:
    """Who refers to what: git first, then the environments, whose word is the stronger reason."""
    return history.referenced() | {use.reference: f"{use.environment}: {use.how}" for use in uses if use.needed}


def copies_here() -> list[Copy]:
    from infra.dvc.remote import in_remote

    folders = sorted(path.parents[1] for path in RELEASES.glob("[!.]*@*/release/manifest.json"))
    safe = in_remote([folder for folder in folders if pointer_of(folder).exists()]) if folders else set()
    return [Copy(folder.name, size_of(folder), folder in safe) for folder in folders]


def remove(folder: str, uses: Callable[[], list[ReleaseUse]]) -> None:
    """Asked once more: a deployment may have begun since. Out of sight in one step, so that a kill leaves no half
    release."""
    from infra.dvc.remote import drop_from_cache

    if any(folder_of(use.reference).name == folder for use in uses() if use.needed):
        return
    target = RELEASES / folder
    hidden = target.with_name(f".{folder}{PRUNED}")
    drop_from_cache(target)
    os.replace(target, hidden)
    shutil.rmtree(hidden)


def clear_leftovers() -> None:
    for path in RELEASES.glob(f".*{PRUNED}"):
        shutil.rmtree(path)


def prune_remote(uses: Iterable[ReleaseUse], act: bool) -> Pruned:
    """DVC's own collection of garbage, over every commit of every ref and this checkout."""
    from infra.dvc.remote import collect_garbage

    if history.insist("rev-parse", "--is-shallow-repository") == "true":
        raise RefusedError(
            "this clone is shallow: what its missing commits refer to would be lost",
            hint="git fetch --unshallow --all --tags",
        )
    history.insist("fetch", "--all", "--tags", "--quiet")
    pointed = history.pointers() | {path.with_suffix("").name for path in RELEASES.glob("*.dvc")}
    lost = sorted({use.reference for use in uses if use.needed and folder_of(use.reference).name not in pointed})
    if lost:
        raise RefusedError(
            f"{lost[0]}: an environment uses it, and no commit here has its pointer",
            hint="git fetch --all; commit its pointer releases/….dvc",
        )
    count = collect_garbage(act)
    return {"remote_objects_removed": count} if act else {"remote_objects_that_would_go": count}


def size_of(folder: Path) -> int:
    """Bytes. Raises ExternalError where it cannot be read."""
    try:
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    except OSError as error:
        raise ExternalError(f"{folder}: {error.strerror or error}", hint=f"ls -l {folder}") from error
