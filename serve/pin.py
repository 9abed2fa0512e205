"""A pin written into an environment's YAML: forward by a deploy, back by a rollback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import InputError, RefusedError
from configs.read import environment_path, read_environment

if TYPE_CHECKING:
    from configs.environment.config import DeployConfig
    from serve.record.environment import Environment
    from serve.switch.reconcile import DeployResult


def pin_back(env: Environment, path: Path, release: str) -> DeployResult:
    """In the file; where the environment follows a branch, by a commit with a merge request, which its agent makes if
    it is there."""
    from configs.environment.pin import pin
    from serve.gitops.follow import write_back
    from serve.record.environment import holder_of

    follows = env.record.state().git.follows
    if follows is None:
        pin(path, release)
        return {}
    holder = holder_of(env)
    if holder and holder["command"] == "agent":
        return {"next": f"the agent writes the pin back to {follows}: tunegate status {env.config.name}"}
    found = write_back(env, path, follows)
    return {"branch": found.get("branch") if found else None, "merge_request": found.get("url") if found else None}


def pin_release(environment: str, release: str) -> DeployConfig:
    """Bytes and verdict are checked before the pin is touched. Raises RefusedError where the pin is a branch's, and so
    a commit's, or that of an agent in another checkout."""
    from configs.environment.pin import pin
    from infra.state.folder import state_folder
    from infra.state.places import RECORD
    from serve.record.environment import Environment
    from serve.record.record import Record
    from serve.switch.hand_over import await_agent
    from serve.switch.reconcile import check_release

    config = read_environment(environment)
    follows = Record(state_folder(config) / RECORD).state().git.follows
    if follows:
        raise RefusedError(
            f"{config.name} follows {follows}: a release is pinned by a commit there",
            hint=f"change {environment_path(environment)} by a merge request",
        )
    reference = resolve(release)
    check_release(config, reference)
    await_agent(Environment(config), reference)
    pin(environment_path(environment), reference)
    return read_environment(environment)


def resolve(text: str) -> str:
    """The one published release whose reference is `text`, starts with it, or whose name it is (then the newest)."""
    from infra.dvc.releases import list_releases

    rows = list_releases()
    starting = [
        row["reference"]
        for row in rows
        if row["reference"].replace("@sha256:", "@").startswith(text.replace("@sha256:", "@")) and "@" in text
    ]
    named = [row["reference"] for row in rows if row["name"] == text][-1:]
    found = starting or named
    if len(found) != 1:
        known = ", ".join(sorted({row["name"] for row in rows})) or "none"
        raise InputError(
            f"{text}: {len(found)} published releases fit, expected one; published: {known}",
            hint="tunegate releases list",
        )
    return str(found[0])


def set_champion_alias(found: DeployResult) -> None:
    """The registry's alias `champion` follows what serves; a registry that is down never undoes a deployment."""
    from configs.release import read_manifest
    from infra.dvc.releases import folder_of
    from infra.mlflow.registry import set_champion

    release = found["release"]
    if release and "waiting" not in found:
        set_champion(read_manifest(folder_of(release) / "release"))
