"""A release that passed, pinned on its merge request's branch: the pointer to its bytes, the lock that made it, and the
digest in the environments' YAML."""

from __future__ import annotations

import base64
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import infra.git.command
from configs.errors import ExternalError, InputError, RefusedError
from configs.paths import RunPaths
from infra.git.command import BOT

ATTEMPTS = 5
LOCK = "dvc.lock"
# What a pin changes. A branch that moved on by anything else has a newer pipeline, which pins for itself.
PINNED = re.compile(r"dvc\.lock|releases/[^/]+\.dvc|configs/deploy/[^/]+\.yaml")


@dataclass(frozen=True)
class Branch:
    """Of a merge request: where it is pushed to, and the commit that its pipeline judged."""

    remote: str
    name: str
    judged: str

    @classmethod
    def from_environment(cls) -> Branch:
        """Raises InputError outside a merge request's job, RefusedError for a fork's: nothing of ours is pushed
        there."""
        names = ("CI_PROJECT_URL", "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME", "CI_COMMIT_SHA")
        url, name, head = (os.environ.get(one, "") for one in names)
        if not (url and name and head):
            missing = ", ".join(one for one in names if not os.environ.get(one))
            raise InputError(
                f"{missing}: unset, expected a job of a merge request's pipeline",
                hint="tunegate deploy ENV RELEASE pins by hand",
            )
        if os.environ.get("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "") != os.environ.get("CI_PROJECT_ID", ""):
            raise RefusedError(
                "the merge request comes from a fork, expected a branch of this project",
                hint="push the branch to this project, where it is known",
            )
        # With merged results the job runs on a merge that nobody has; this is the branch's own commit.
        return cls(f"{url}.git", name, os.environ.get("CI_MERGE_REQUEST_SOURCE_BRANCH_SHA") or head)


def pin_release(name: str, environments: list[str], branch: Branch) -> str | None:
    """The commit that was pushed, without a pipeline of its own; None where the branch says so already.

    Raises InputError for a release without a pointer, RefusedError where the branch has moved on, ExternalError
    where git fails.
    """
    from configs.release import read_manifest
    from infra.dvc.releases import folder_of, pointer_of

    reference = read_manifest(RunPaths.of(name).release).reference
    pointer = pointer_of(folder_of(reference))
    if not pointer.exists():
        raise InputError(
            f"{reference}: no pointer to it, expected {pointer}",
            hint=f"tunegate gate configs/finetune/{name}.yaml",
        )
    for _ in range(ATTEMPTS):  # another config's job may push in between
        head = fetch(branch)
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            git(Path.cwd(), "worktree", "add", "--quiet", "--detach", str(tree), head)
            try:
                change(tree, name, reference, pointer, environments)
                commit = commit_all(tree, message_of(name, reference, environments, branch))
                if commit is None or push(tree, branch):
                    return commit
            finally:
                git(Path.cwd(), "worktree", "remove", "--force", str(tree))
    raise ExternalError(f"{branch.name}: its head moved at each of {ATTEMPTS} pushes", hint="run the job again")


def fetch(branch: Branch) -> str:
    """The branch's head now. Raises RefusedError if more than pins came since it was judged."""
    git(
        Path.cwd(),
        "fetch",
        "--quiet",
        "--no-tags",
        branch.remote,
        f"+refs/heads/{branch.name}:refs/tunegate/{branch.name}",
        secret=True,
    )
    head = git(Path.cwd(), "rev-parse", f"refs/tunegate/{branch.name}")
    others = [
        path
        for path in git(Path.cwd(), "diff", "--name-only", "--no-renames", branch.judged, head).splitlines()
        if not PINNED.fullmatch(path)
    ]
    if others:
        changed = ", ".join(others[:3])
        found = f"{branch.name}: found {head[:12]}, which changes {changed} since {branch.judged[:12]} was judged"
        raise RefusedError(found, hint="wait for the newer pipeline: it pins for itself")
    return head


def change(tree: Path, name: str, reference: str, pointer: Path, environments: list[str]) -> None:
    from configs.environment.pin import pin

    (tree / pointer).parent.mkdir(exist_ok=True)
    (tree / pointer).write_bytes(pointer.read_bytes())
    if Path(LOCK).exists():
        merge_lock(tree / LOCK, read_lock(Path(LOCK)), name)
    for environment in environments:
        pin(tree / "configs" / "deploy" / f"{environment}.yaml", reference)


def merge_lock(path: Path, ours: Mapping[str, Any], name: str) -> None:
    """This config's stages into the lock of the branch: other configs' jobs write theirs."""
    from ruamel.yaml import YAML

    found = read_lock(path) if path.exists() else {"schema": ours["schema"], "stages": {}}
    mine = {stage: facts for stage, facts in ours["stages"].items() if stage.partition("@")[2] == name}
    found["stages"] = dict(sorted((dict(found["stages"]) | mine).items()))
    with path.open("w", encoding="utf8") as stream:
        YAML().dump(found, stream)


def read_lock(path: Path) -> Any:
    from ruamel.yaml import YAML

    return YAML().load(path.read_text(encoding="utf8"))


def message_of(name: str, reference: str, environments: list[str], branch: Branch) -> str:
    """No `[skip ci]` in it: where a merge is a fast-forward, the commit is the head of the default branch, and that
    pipeline deploys."""
    job = os.environ.get("CI_JOB_URL")
    evidence = f"The gate passed on {branch.judged}" + (f": {job}" if job else "")
    return f"Pin {reference} in {', '.join(environments)}\n\n{evidence}\nConfig: configs/finetune/{name}.yaml\n"


def commit_all(tree: Path, message: str) -> str | None:
    """Signed where git's own settings say so (commit.gpgSign, user.signingKey). None where nothing changed: so a
    pipeline never answers its own push."""
    git(tree, "add", "--all", "--force", "releases", "configs/deploy", *([LOCK] if (tree / LOCK).exists() else []))
    if not git(tree, "diff", "--cached", "--name-only"):
        return None
    git(tree, "commit", "--quiet", "--message", message)
    return git(tree, "rev-parse", "HEAD")


def push(tree: Path, branch: Branch) -> bool:
    """False where somebody pushed in between."""
    try:
        git(
            tree,
            "push",
            "--quiet",
            "--push-option=ci.skip",
            branch.remote,
            f"HEAD:refs/heads/{branch.name}",
            secret=True,
        )
    except ExternalError as error:
        if "[rejected]" in error.message or "fetch first" in error.message or "failed to update ref" in error.message:
            return False
        raise ExternalError(
            error.message, hint="Settings > CI/CD > Job token permissions: allow Git push requests to the repository"
        ) from error
    return True


def git(folder: Path, *arguments: str, secret: bool = False) -> str:
    """As infra.git.command's, by the bot where git's settings name nobody. `secret`: with the job's right to the
    remote, by the environment, for a command line is seen by everybody."""
    who = {
        f"GIT_{role}_{part}": os.environ.get(f"GIT_{role}_{part}") or BOT[part]
        for role in ("AUTHOR", "COMMITTER")
        for part in BOT
    }
    return infra.git.command.git(folder, *arguments, environment=who | (authorization() if secret else {}))


def authorization() -> dict[str, str]:
    """The job's own token: it pushes where the project allows that, for as long as the job runs, and GitLab starts no
    pipeline for it."""
    server, token = os.environ.get("CI_SERVER_URL"), os.environ.get("CI_JOB_TOKEN")
    if not (server and token):
        return {}
    secret = base64.b64encode(f"gitlab-ci-token:{token}".encode()).decode()
    return {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"http.{server}/.extraHeader",
        "GIT_CONFIG_VALUE_0": f"Authorization: Basic {secret}",
    }
