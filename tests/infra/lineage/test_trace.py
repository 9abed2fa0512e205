"""From an answer back to the merge request: every link from what is here, every gap with the command that fills it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from configs.release import ReleaseUse
from infra.dvc.publish import publish
from infra.lineage import trace as chain
from infra.lineage.trace import Link, catalogue, for_machines, for_people, identify, trace
from infra.mlflow import registry
from infra.mlflow.registry import Version
from tests.infra.lineage.test_prune import git
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import TOKEN, Failure
from tests.support.releases import checkout, make_run

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.filterwarnings("ignore:_NoneStep.value")]  # the warning is inside DVC
LINKS = ["answer", "environment", "release", "verdict", "run", "config", "data", "commit", "merge request"]
ONE = f"calls@sha256:{'a' * 64}"


@pytest.fixture
def no_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "registered", lambda names: None)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Version]:
    """A registry by digest; `run_facts` knows every run."""
    versions: dict[str, Version] = {}
    monkeypatch.setattr(registry, "registered", lambda names: versions)
    monkeypatch.setattr(
        registry,
        "run_facts",
        lambda run_id: {
            "name": "demo",
            "status": "FINISHED",
            "url": f"https://mlflow.example/#/experiments/1/runs/{run_id}",
        },
    )
    return versions


def release(name: str = "demo", **facts: Any) -> tuple[str, Path]:
    """Built at the HEAD that is there, judged, published, its pointer committed."""
    paths, manifest = make_run(name)
    text = manifest.model_copy(
        update={
            "git_revision": git("rev-parse", "HEAD"),
            "data": {"fingerprint": "sha256:da7a", "test_fingerprint": "sha256:7e57"},
        }
        | facts
    )
    (paths.release / "manifest.json").write_text(text.model_dump_json())
    verdict = {
        "release": manifest.reference,
        "outcome": "pass",
        "results": [{"rule": "exact", "outcome": "pass", "sentence": "", "evidence": {"metric": "exact_match"}}],
    }
    (paths.gate / "verdict.json").write_text(json.dumps(verdict))
    (paths.evaluation / "metrics.json").write_text(json.dumps({"metrics": {"exact_match": 0.41234567, "loss": 2.0}}))
    target = publish(paths, "run-7")
    git("add", "-A")
    git("commit", "-qm", f"Release {name}")
    return manifest.reference, target


@pytest.fixture
def deployed(checkout: Path, mlflow: dict[str, Version]) -> tuple[str, Path]:
    """A release that a merge request brought into production."""
    config = Path("configs/finetune/demo.yaml")
    config.parent.mkdir(parents=True)
    config.write_text("name: demo\n")
    git("add", "-A")
    git("commit", "-qm", "A config")
    git("checkout", "-qb", "feature")
    reference, target = release()
    pin = Path("configs/deploy/live.yaml")
    pin.parent.mkdir(parents=True)
    pin.write_text(f"release: {reference}\n")
    git("add", "-A")
    git("commit", "-qm", "Deploy demo")
    git("checkout", "-q", "-")
    git(
        "merge", "-q", "--no-ff", "feature", "-m", "Merge branch 'feature' into 'main'\n\nSee merge request ml/calls!12"
    )
    git("remote", "add", "origin", "git@gitlab.example:ml/calls.git")
    mlflow[reference.partition("@")[2]] = Version("3", "run-7", ["candidate", "champion"])
    return reference, target


def by_name(links: list[Link]) -> dict[str, Link]:
    return {link.link: link for link in links}


def test_the_whole_chain_from_an_answers_headers(deployed: tuple[str, Path]) -> None:
    reference, _ = deployed
    uses = [
        ReleaseUse("live", reference, "serves (blue)", True, "2026-11-25T19:00:00.000"),
        ReleaseUse("live", reference, "pinned", True, None),
    ]
    links = trace(identify(f"x-tunegate-release: {reference.partition('@')[2]}\r\nx-tunegate-slot: blue"), uses)
    found = by_name(links)
    assert [link.link for link in links] == LINKS and for_machines(links)["whole"]
    assert found["answer"].facts == {"release": reference.partition("@")[2], "slot": "blue"}
    assert found["environment"].facts == {"live": "serves (blue), pinned; all traffic since 2026-11-25T19:00:00Z"}
    assert (found["release"].facts["reference"], found["release"].facts["here"]) == (reference, True)
    assert found["verdict"].facts == {"outcome": "pass", "judged_for": [], "metrics": {"exact_match": 0.4123}}
    assert (found["run"].facts["run_id"], found["run"].facts["model_version"], found["run"].facts["aliases"]) == (
        "run-7",
        "demo/3",
        ["candidate", "champion"],
    )
    assert found["config"].facts["file"].endswith(":configs/finetune/demo.yaml")
    assert found["data"].facts == {"fingerprint": "sha256:da7a", "test_fingerprint": "sha256:7e57"}
    assert (found["commit"].facts["subject"], found["commit"].facts["author"]) == ("A config", "t")
    assert [line.split(": ")[1] for line in found["commit"].facts["pinned_by"]] == ["Deploy demo"]
    assert found["merge request"].facts["url"] == "https://gitlab.example/ml/calls/-/merge_requests/12"


def test_without_its_bytes_the_pointer_in_git_still_tells_the_chain(deployed: tuple[str, Path]) -> None:
    reference, target = deployed
    shutil.rmtree(target)
    links = trace(identify(reference), [])
    found = by_name(links)
    fetch = f"tunegate releases fetch {reference}"
    assert {name: link.bring for name, link in found.items() if link.missing and name != "environment"} == {
        "release": fetch,
        "config": fetch,
    }
    assert (found["verdict"].facts["outcome"], found["run"].facts["run_id"], found["data"].facts) == (
        "pass",
        "run-7",
        {"fingerprint": "sha256:da7a"},
    )
    assert found["merge request"].facts["reference"] == "ml/calls!12"
    assert not for_machines(links)["whole"]


@pytest.mark.parametrize("status", [200, 404])
def test_a_squashed_merge_request_that_no_commit_names_is_known_to_gitlab(
    checkout: Path, no_mlflow: None, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    git("commit", "-qm", "start", "--allow-empty")
    reference, _ = release()
    pin = Path("configs/deploy/live.yaml")
    pin.parent.mkdir(parents=True)
    pin.write_text(f"release: {reference}\n")
    git("add", "-A")
    git("commit", "-qm", "Deploy demo")
    with gitlab_server() as world:
        for name, value in {"CI_SERVER_URL": world.url, "CI_PROJECT_ID": "35", "TUNEGATE_GITLAB_TOKEN": TOKEN}.items():
            monkeypatch.setenv(name, value)
        made = world.add_merge_request(state="merged")
        world.of_commit[
            subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        ] = [made["iid"]]
        if status == 404:
            world.failures.append(Failure("GET", "merge_requests", 404, times=9))
        found = by_name(trace(identify(reference), []))["merge request"]
    if status == 404:
        assert (
            found.missing
            and "404" in found.missing
            and found.bring
            and "CI_PROJECT_ID" in found.bring
            and TOKEN not in found.missing
        )
    else:
        assert (
            found.facts == {"iid": made["iid"], "url": made["web_url"], "author": made["author"]["username"]}
            and not found.missing
        )


def test_where_mlflow_does_not_answer_the_runs_name_is_still_known(checkout: Path, no_mlflow: None) -> None:
    git("commit", "-qm", "start", "--allow-empty")
    reference, _ = release()
    run = by_name(trace(identify(reference), []))["run"]
    assert (run.facts, run.bring) == ({"run_id": "run-7"}, "set MLFLOW_TRACKING_URI to the server that took it")


def test_a_run_that_only_the_registry_knows_is_found(checkout: Path, mlflow: dict[str, Version]) -> None:
    paths, manifest = make_run()
    publish(paths)
    assert by_name(trace(identify(manifest.reference), []))["run"].bring == (
        "tunegate sync demo; then tunegate releases publish configs/finetune/demo.yaml"
    )
    mlflow[manifest.digest] = Version("1", "run-9")
    assert by_name(trace(identify(manifest.reference), []))["run"].facts["run_id"] == "run-9"


def test_every_gap_names_the_command_that_fills_it(checkout: Path, no_mlflow: None) -> None:
    """Only the record of a server knows this release."""
    git("commit", "-qm", "start", "--allow-empty")
    links = trace(identify("a" * 12), [ReleaseUse("live", ONE, "serves (green)", True, None)])
    gaps = {link.link: link.bring for link in links if link.missing}
    assert list(gaps) == ["release", "verdict", "run", "config", "data", "commit", "merge request"] and all(
        gaps.values()
    )
    said = for_people(links)
    assert said.count("missing: ") == said.count("; try: ") == 7 and "serves (green)" in said


def test_a_pointer_on_another_branch_is_named(checkout: Path, no_mlflow: None) -> None:
    git("add", "-A")
    git("commit", "-qm", "start")
    git("checkout", "-qb", "other")
    reference, target = release()
    sha = git("rev-parse", "HEAD")
    git("checkout", "-q", "-")
    shutil.rmtree(target)
    found = by_name(trace(identify(reference), [ReleaseUse("live", reference, "pinned", True, None)]))["release"]
    assert found.bring == f"git checkout {sha[:12]} -- {target}.dvc"


def test_a_release_built_from_uncommitted_files_says_so(checkout: Path, no_mlflow: None) -> None:
    git("commit", "-qm", "start", "--allow-empty")
    reference, _ = release(git_revision=f"{git('rev-parse', 'HEAD')}-dirty")
    assert by_name(trace(identify(reference), []))["commit"].facts["dirty"] is True


def test_the_catalogue_names_runs_metrics_aliases_and_environments(deployed: tuple[str, Path]) -> None:
    reference, _ = deployed
    uses = [
        ReleaseUse("live", reference, "pinned", True, None),
        ReleaseUse("live", reference, "serves (blue)", True, None),
        ReleaseUse("old", reference, "not any more", False, None),
    ]
    (row,) = catalogue(uses)
    assert (row["run"], row["metrics"], row["aliases"], row["verdict"]) == (
        "run-7",
        {"exact_match": 0.4123},
        ["candidate", "champion"],
        "pass",
    )
    assert row["environments"] == ["live: pinned", "live: serves (blue)"]


def test_the_catalogue_stands_where_mlflow_does_not_answer(checkout: Path, no_mlflow: None) -> None:
    git("commit", "-qm", "start", "--allow-empty")
    release()
    assert [row["aliases"] for row in catalogue([])] == [None]


def test_an_mlflow_that_was_never_made_is_not_made_by_looking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert registry.registered(["demo"]) is None and registry.run_facts("run-7") is None
    assert list(tmp_path.iterdir()) == []


def test_known_but_without_git_it_is_traced_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_mlflow: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    links = chain.trace(identify(ONE), [ReleaseUse("live", ONE, "pinned", True, None)])
    assert [link.link for link in links] == LINKS
