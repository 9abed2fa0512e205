"""The pipeline run for real by gitlab-ci-local on the smoke config: judged and pinned in a merge request,
published and served by vLLM on the default branch."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.environment.state import home_of
from tests.infra.test_signing import make_pair
from tests.serve.conftest import free_ports
from tests.support.gitlab_pages import child_jobs, commit, copy_checkout, git, gitlab_ci_local, listed
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import TOKEN, World

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3600)]
SMOKE = "configs/finetune/smoke.yaml"
DRY = {"MAKEFLAGS": "-n"}  # make's own lines are said and not run: linting takes minutes, and has a test of its own


@dataclass
class Project:
    """A checkout on `main`, the project's bare repository, and GitLab's API."""

    checkout: Path
    bare: Path
    gitlab: World
    key: Path

    def variables(self, **others: str) -> dict[str, str]:
        """What GitLab tells the jobs of merge request !1 from the branch `tune` of this project: no secret."""
        return {
            "CI_SERVER_URL": self.gitlab.url,
            "CI_PROJECT_ID": "35",
            "CI_PROJECT_URL": f"file://{self.bare}".removesuffix(
                ".git"
            ),  # a bare path would be a file variable to gitlab-ci-local
            "CI_MERGE_REQUEST_IID": "1",
            "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "35",
            "CI_MERGE_REQUEST_SOURCE_BRANCH_NAME": "tune",
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": git(self.checkout, "rev-parse", "main"),
            "CI_COMMIT_SHA": git(self.checkout, "rev-parse", "HEAD"),
        } | others

    def merge_request(self, *jobs: str, **others: str) -> subprocess.CompletedProcess[str]:
        """Without names all of it, the child as well: gitlab-ci-local would look for the names in the child too."""
        return gitlab_ci_local(
            self.checkout, *jobs, "--variable", "CI_PIPELINE_SOURCE=merge_request_event", **self.variables(**others)
        )

    def protected(self, **others: str) -> dict[str, str]:
        """The same on the default branch, with the variables that only its jobs see."""
        return self.variables(TUNEGATE_GITLAB_TOKEN=TOKEN, TUNEGATE_SIGNING_KEY=str(self.key), **others, **DRY)

    def left(self, number: int, judged: str, status: str = "success") -> None:
        """GitLab keeps what the jobs of the child pipeline `number` left in this folder."""
        git(self.checkout, "push", "-qf", str(self.bare), "tune:refs/merge-requests/1/head")
        self.gitlab.merge_requests[0]["sha"] = git(self.bare, "rev-parse", "tune")
        parent = self.gitlab.add_pipeline(judged, merge_request=1, status=status)
        self.gitlab.add_pipeline(judged, id=number, parent=parent, status=status)
        for name, job in child_jobs().items():
            if name.endswith(" smoke"):
                kept = [path.replace("$CONFIG", "smoke") for path in job.get("artifacts", {}).get("paths", [])]
                self.gitlab.add_job(number, name, self.files(kept))

    def files(self, folders: list[str]) -> dict[str, bytes]:
        found = {}
        for folder in folders:
            for path in (self.checkout / folder).rglob("*"):
                name = path.relative_to(self.checkout).as_posix()
                if path.is_file() and not (name.startswith("releases/") and "/release/" in name):
                    found[name] = path.read_bytes()
        return found

    def branch(self, path: str, old: str, new: str) -> str:
        """`tune`, from `main`, with one edit, pushed."""
        git(self.checkout, "checkout", "-qB", "tune", "main")
        file = self.checkout / path
        text = file.read_text(encoding="utf8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf8")
        found = commit(self.checkout, f"edit {path}")
        git(self.checkout, "push", "-qf", str(self.bare), "tune")
        return found

    def pinned(self, ref: str, environment: str) -> str | None:
        found: str | None = yaml.safe_load(git(self.bare, "show", f"{ref}:configs/deploy/{environment}.yaml"))[
            "release"
        ]
        return found

    def verdict(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.checkout / "build/smoke/gate/verdict.json").read_text(encoding="utf8"))
        return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Ports of its own, so that no other environment of this machine is met; the smoke config is meant for production,
    whose gate is the smoke gate."""
    folder = tmp_path_factory.mktemp("pipeline")
    checkout, bare = folder / "checkout", folder / "project.git"
    checkout.mkdir()
    copy_checkout(checkout)
    ports, variables = iter(free_ports(6)), checkout / "infra/gitlab/defaults.yml"
    for name, kind in (("sentiment", "PRODUCTION"), ("staging", "STAGING")):
        path, router = checkout / f"configs/deploy/{name}.yaml", next(ports)
        text = re.sub(r"port: \d+", f"port: {router}", path.read_text(encoding="utf8"))
        path.write_text(re.sub(r"slot_ports: .*", f"slot_ports: [{next(ports)}, {next(ports)}]", text), encoding="utf8")
        url = rf"(?<={kind}_URL: http://127\.0\.0\.1:)\d+"  # as the pages' own tests ask, which `make check` runs
        variables.write_text(re.sub(url, str(router), variables.read_text(encoding="utf8")), encoding="utf8")
    pair = make_pair(folder)
    for name in ("sentiment", "staging"):
        with (checkout / f"configs/deploy/{name}.yaml").open("a", encoding="utf8") as stream:
            stream.write(yaml.safe_dump({"signing": {"public_key": pair.public.read_text(encoding="utf8")}}))
    production = checkout / "configs/deploy/sentiment.yaml"
    text = re.sub(r"release_gate: .*", "release_gate: configs/gates/smoke.yaml", production.read_text(encoding="utf8"))
    production.write_text(text, encoding="utf8")
    for path in (checkout / "configs/finetune").glob("sentiment*.yaml"):  # a shipped run names its environment's gate,
        text = path.read_text(encoding="utf8")  # and an edit of that gate would train these too, in the same checkout
        path.write_text(re.sub(r"(?m)^production: .*\n", "", text), encoding="utf8")
    with (checkout / SMOKE).open("a", encoding="utf8") as stream:
        stream.write("production: sentiment\n")
    commit(checkout, "free ports")
    git(folder, "init", "-q", "--bare", "-b", "main", str(bare))
    git(bare, "config", "receive.advertisePushOptions", "true")
    git(checkout, "push", "-q", str(bare), "main")
    git(checkout, "update-ref", "refs/remotes/origin/main", "main")
    ready = subprocess.run(["make", "-q", "setup"], cwd=checkout, capture_output=True, text=True)
    assert ready.returncode == 0, f"make setup first: {ready.stdout}{ready.stderr}"
    with gitlab_server() as world:
        world.add_merge_request(source_branch="tune", target_branch="main")
        yield Project(checkout, bare, world, pair.private)
        for name in ("sentiment", "staging"):
            subprocess.run([".venv/bin/python", "tunegate.py", "stop", name], cwd=checkout, capture_output=True)


def test_the_rules_choose_the_jobs_of_each_kind_of_pipeline(project: Project) -> None:
    """By gitlab-ci-local's reading of them; it knows no variables in `changes`, so on the default branch every change
    counts."""
    always = {"check": "on_success", "test": "on_success"}
    tuned = {"children": "on_success", "tune": "on_success"}
    by_hand = {"stop staging": "manual", "stop production": "manual", "rollback": "manual"}
    request, nowhere = (
        ("--variable", "CI_PIPELINE_SOURCE=merge_request_event"),
        ("--unset-variable", "CI_COMMIT_BRANCH"),
    )
    every = "--no-evaluate-rule-changes"
    automatic = {"staging": "on_success", "load staging": "on_success", "production": "on_success"}
    project.branch("docs/notes.md", "\n", "\n\n")
    assert listed(project.checkout, *request, *nowhere) == always
    project.branch(SMOKE, "max_steps: 30", "max_steps: 32")
    assert listed(project.checkout, *request, *nowhere) == always | tuned
    git(project.checkout, "checkout", "-q", "main")
    merged = always | by_hand | {"publish": "on_success"}
    assert listed(project.checkout, every) == merged | automatic | {"production": "manual"}
    assert listed(project.checkout, every, PRODUCTION_DEPLOY="automatic") == merged | automatic
    assert listed(project.checkout, every, CI_DEPLOY_FREEZE="true") == merged
    assert listed(project.checkout, "--variable", "CI_PIPELINE_SOURCE=schedule") == {
        "verify staging": "on_success",
        "verify production": "on_success",
        "report": "on_success",
    }


def test_everything_is_checked_first(project: Project) -> None:
    project.branch(SMOKE, "max_steps: 30", "max_steps: 32")
    run = project.merge_request("check", "test")
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-6000:]
    project.branch(SMOKE, "max_steps: 30", "max_stepps: 32")
    spelt = project.merge_request("check")
    assert spelt.returncode == 1 and "max_stepps" in spelt.stdout + spelt.stderr


def test_a_good_config_is_judged_and_pinned_on_its_branch_without_any_secret(project: Project) -> None:
    judged = project.branch(SMOKE, "max_steps: 30", "max_steps: 32")
    run = project.merge_request(**DRY)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-6000:]
    manifest = json.loads((project.checkout / "build/smoke/release/manifest.json").read_text(encoding="utf8"))
    reference = f"smoke@{manifest['digest']}"
    assert (project.verdict()["outcome"], project.verdict()["release"]) == ("pass", reference)
    assert (project.checkout / "build/smoke/gate/junit.xml").exists()
    assert (project.checkout / "build/loadtest/sentiment/release/samples.jsonl").read_text(encoding="utf8").count(
        '"ok": true'
    ) > 0
    assert project.pinned("tune", "sentiment") == project.pinned("tune", "staging") == reference
    changed = git(project.bare, "diff", "--name-only", judged, "tune").splitlines()
    assert changed == [
        "configs/deploy/sentiment.yaml",
        "configs/deploy/staging.yaml",
        "dvc.lock",
        f"releases/smoke@{manifest['digest'][7:19]}.dvc",
    ]
    assert project.pinned("main", "sentiment") is None, "nothing serves that no merge request brought"
    assert project.gitlab.requests == [], "its jobs have no token to ask GitLab with"
    objects = project.checkout / "stores/dvc/files/md5"
    pointer = yaml.safe_load(git(project.bare, "show", f"tune:releases/smoke@{manifest['digest'][7:19]}.dvc"))
    listing = pointer["outs"][0]["md5"]
    assert not (objects / listing[:2] / listing[2:]).exists(), "it is published after the merge"
    project.left(pointer["meta"]["pipeline"], judged)


def test_a_schedule_reports_to_the_merge_request(project: Project) -> None:
    head = project.gitlab.merge_requests[0].get("sha") or pytest.fail("nothing was pinned; the test before says why")
    git(project.checkout, "checkout", "-qf", "main")
    scheduled = ("report", "--variable", "CI_PIPELINE_SOURCE=schedule")
    run = gitlab_ci_local(project.checkout, *scheduled, **project.protected())
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    (note,) = project.gitlab.notes[1]
    assert note["body"].startswith("<!-- tunegate:gate smoke -->") and "Gate: pass" in note["body"]
    assert [(status["sha"], status["status"]) for status in project.gitlab.statuses] == [(head, "success")]


def test_merged_it_is_published_signed_and_serves_in_staging_and_then_in_production(project: Project) -> None:
    if project.pinned("tune", "sentiment") is None:
        pytest.fail("nothing was pinned; the test before says why")
    git(project.checkout, "fetch", "-q", str(project.bare), "tune")
    git(
        project.checkout, "checkout", "-qf", "-B", "main", "FETCH_HEAD"
    )  # the jobs of a shell runner left their files here
    git(project.checkout, "push", "-q", str(project.bare), "main")
    folders = [path for path in project.checkout.glob("releases/*@*") if path.is_dir()]
    for made in (project.checkout / "build/smoke", project.checkout / ".dvc/cache", *folders):  # by another machine
        shutil.rmtree(made)
    run = gitlab_ci_local(
        project.checkout,
        "publish",
        "staging",
        "load staging",
        "production",
        **project.protected(PRODUCTION_DEPLOY="automatic"),
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-6000:]
    plain = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout)
    begun = re.findall(r"(?m)^(publish|staging|load staging|production) +starting", plain)
    assert begun == ["publish", "staging", "load staging", "production"]
    assert (project.checkout / "build/smoke/trained").exists(), "what its stages made is as dvc.lock has it"
    scheduled = gitlab_ci_local(
        project.checkout,
        "verify staging",
        "verify production",
        "--variable",
        "CI_PIPELINE_SOURCE=schedule",
        **project.variables(**DRY),
    )
    assert scheduled.returncode == 0, scheduled.stdout[-4000:] + scheduled.stderr[-4000:]
    reference = str(project.pinned("main", "sentiment"))
    assert f"sentiment: {reference} serves" in scheduled.stdout and f"staging: {reference} serves" in scheduled.stdout
    stopped = gitlab_ci_local(project.checkout, "stop staging", "stop production", **project.variables(**DRY))
    assert stopped.returncode == 0, stopped.stdout[-4000:] + stopped.stderr[-4000:]
    missed = gitlab_ci_local(
        project.checkout, "verify production", "--variable", "CI_PIPELINE_SOURCE=schedule", **project.variables(**DRY)
    )
    assert missed.returncode != 0 and reference in missed.stdout + missed.stderr


def test_a_refused_release_ends_the_pipeline_before_any_pin_and_any_deploy(project: Project) -> None:
    before = git(project.bare, "rev-parse", "main")
    git(project.checkout, "checkout", "-q", "main")
    judged = project.branch(
        "configs/gates/smoke.yaml", "rules:\n", "rules:\n  - {rule: threshold, metric: accuracy, minimum: 1.01}\n"
    )
    served = home_of("sentiment") / "events.jsonl"
    events = served.read_text(encoding="utf8") if served.exists() else ""
    run = project.merge_request(**DRY)
    # gitlab-ci-local's own exit code knows nothing of a child; that a child decides over its parent is a check of the
    # page.
    failed = re.findall(
        r"(?m)evaluate smoke +finished in [^\n]*FAIL (\d+)", re.sub(r"\x1b\[[0-9;]*m", "", run.stdout + run.stderr)
    )
    assert failed == ["1"], run.stdout[-6000:] + run.stderr[-6000:]
    assert project.verdict()["outcome"] == "fail"
    junit = (project.checkout / "build/smoke/gate/junit.xml").read_text(encoding="utf8")
    assert "<failure" in junit and "accuracy" in junit
    project.left(4711, judged, status="failed")
    git(project.checkout, "checkout", "-q", "main")
    gitlab_ci_local(project.checkout, "report", "--variable", "CI_PIPELINE_SOURCE=schedule", **project.protected())
    (note,) = project.gitlab.notes[1]
    assert "Gate: fail" in note["body"]
    assert git(project.bare, "rev-parse", "tune") == judged and git(project.bare, "rev-parse", "main") == before
    assert (served.read_text(encoding="utf8") if served.exists() else "") == events
