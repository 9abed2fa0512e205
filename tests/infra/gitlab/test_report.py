"""Notes and statuses of merge requests, written by a job of the default branch from what their pipelines left: it obeys
nothing that it reads there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.gitlab.api import GitLab
from infra.gitlab.report import QUICK_ACTION, report_all
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import TOKEN, World

pytestmark = pytest.mark.unit
REPORT = "build/smoke/gate/report.md"


@pytest.fixture
def world() -> Iterator[World]:
    with gitlab_server() as found:
        found.add_merge_request(source_branch="tune", target_branch="main", sha="a" * 40)
        yield found


def gitlab_of(world: World) -> GitLab:
    return GitLab(world.url, "35", TOKEN, first_pause_seconds=0.01)


def judged(world: World, files: dict[str, bytes], *, sha: str = "a" * 40, name: str = "smoke", **facts: object) -> int:
    """A pipeline of !1, and the child that it started, with the evaluation's artifacts. Returns the child's number."""
    of_request: dict[str, Any] = {"merge_request": 1} | facts
    parent = world.add_pipeline(sha, **of_request)
    child = world.add_pipeline(sha, parent=parent)
    world.add_job(child, f"train {name}", {})
    world.add_job(child, f"evaluate {name}", files)
    return child


def bodies(world: World) -> list[str]:
    return [str(note["body"]) for note in world.notes[1]]


def test_the_gates_report_becomes_the_configs_one_note_edited_in_place(world: World) -> None:
    judged(world, {REPORT: b"## Gate: fail"})
    assert report_all(gitlab_of(world)) == ["!1: the note of smoke stands"]
    judged(world, {REPORT: b"## Gate: pass"}, sha="b" * 40)
    report_all(gitlab_of(world))
    (body,) = bodies(world)
    assert body.startswith("<!-- tunegate:gate smoke -->\n## Gate: pass") and "b" * 12 in body and "pipelines/" in body


def test_a_pipeline_that_is_not_so_far_leaves_the_note_as_it_is(world: World) -> None:
    judged(world, {REPORT: b"## Gate: fail"})
    report_all(gitlab_of(world))
    world.add_pipeline("c" * 40, merge_request=1, status="running")
    assert report_all(gitlab_of(world)) == []
    assert "Gate: fail" in bodies(world)[0]


def test_an_evaluation_that_was_retried_shows_its_newest_report(world: World) -> None:
    child = judged(world, {REPORT: b"first"})
    world.add_job(child, "evaluate smoke", {REPORT: b"second"})
    report_all(gitlab_of(world))
    assert "second" in bodies(world)[0]


@pytest.mark.parametrize("gone", ["expired", "no report", "failed before"])
def test_without_a_report_there_is_no_note(world: World, gone: str) -> None:
    judged(world, {"build/smoke/eval/metrics.json": b"{}"} if gone == "no report" else {REPORT: b"x"})
    if gone == "expired":
        world.archives.clear()
    elif gone == "failed before":
        world.jobs = [job for job in world.jobs if job["name"].startswith("train")]
    assert report_all(gitlab_of(world)) == [] and bodies(world) == []


def test_a_forks_pipeline_and_a_merged_request_are_left_alone(world: World) -> None:
    judged(world, {REPORT: b"x"}, project_id=36)
    world.add_merge_request(source_branch="old", target_branch="main", sha="d" * 40, state="merged")
    judged(world, {REPORT: b"x"}, merge_request=2)
    assert report_all(gitlab_of(world)) == [] and bodies(world) == []


@pytest.mark.parametrize("name", ["../../secret", "smoke/../x", "a b", "-x", "$(id)", "SMOKE"])
def test_a_job_whose_name_is_no_configs_is_none_of_ours(world: World, name: str) -> None:
    judged(world, {REPORT: b"x"}, name=name)
    assert report_all(gitlab_of(world)) == []


def test_a_report_gives_no_orders(world: World) -> None:
    """GitLab carries out /approve in a note by the rights of who wrote it: here the bot's."""
    judged(world, {REPORT: b"## Gate: pass\n/approve\n  /merge\r\n\t/assign @me\ntext /approve\n\xff/label x"})
    report_all(gitlab_of(world))
    (body,) = bodies(world)
    assert not any(line.strip().startswith("/") for line in body.splitlines())
    assert "text /approve" in body


@given(st.text(alphabet="/ab \t\r\n\x0b\x0c\x85\u2028\u00a0", max_size=20))
def test_no_line_of_any_text_starts_with_a_command(text: str) -> None:
    found = QUICK_ACTION.sub(r"\1&#47;", text)
    assert not any(line.strip()[:1] == "/" and line.strip()[1:2].isalpha() for line in found.split("\n"))


# The status of a head that pins


@pytest.fixture
def heads(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str, str]:
    """The judged commit, its pin, and a commit with more than a pin, all at refs/merge-requests/1/head of origin in
    turn."""
    monkeypatch.delenv("CI_PROJECT_URL", raising=False)
    origin, work = tmp_path / "origin.git", tmp_path / "work"
    git(tmp_path, "init", "-q", "--bare", str(origin))
    git(tmp_path, "clone", "-q", str(origin), str(work))
    monkeypatch.chdir(work)
    found = []
    for path in ("configs/finetune/smoke.yaml", "configs/deploy/local.yaml", "Makefile"):
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_text(path)
        git(work, "add", "-A")
        git(work, "commit", "-qm", path)
        found.append(git(work, "rev-parse", "HEAD"))
    git(work, "push", "-q", "origin", "HEAD:refs/merge-requests/1/head")
    first, second, third = found
    return first, second, third


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.invalid", "-c", "init.defaultBranch=main"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.mark.parametrize(
    ("head", "status", "gets_one"),
    [(1, "success", True), (1, "failed", False), (1, "running", False), (0, "success", False), (2, "success", False)],
    ids=["pinned", "its pipeline failed", "its pipeline runs", "not pinned yet", "more than a pin"],
)
def test_a_head_that_only_pins_has_the_status_of_the_pipeline_that_judged_it(
    world: World, heads: tuple[str, str, str], head: int, status: str, gets_one: bool
) -> None:
    """It has no pipeline of its own, and GitLab may ask for one before it merges."""
    world.merge_requests[0]["sha"] = heads[head]
    judged(world, {}, sha=heads[0], status=status)
    report_all(gitlab_of(world))
    assert [(one["sha"], one["status"]) for one in world.statuses] == ([(heads[1], "success")] if gets_one else [])


def test_a_merged_result_that_git_does_not_know_gets_no_status(world: World, heads: tuple[str, str, str]) -> None:
    world.merge_requests[0]["sha"] = heads[1]
    judged(world, {}, sha="e" * 40)
    assert report_all(gitlab_of(world)) == [] and world.statuses == []
