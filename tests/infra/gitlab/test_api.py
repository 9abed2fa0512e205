"""GitLab's API by the real python-gitlab, against a server on loopback: notes, statuses, merge requests and
deployments, never anything twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from configs.errors import InputError
from infra.gitlab.api import GitLab
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import PERSON, TOKEN, World

pytestmark = pytest.mark.unit
SHA = "a91957a858320c0e17f3a0eca7cfacbff50ea29a"
HEAD = "<!-- tunegate:gate smoke -->"


@pytest.fixture
def world() -> Iterator[World]:
    with gitlab_server() as found:
        yield found


@pytest.fixture
def gitlab(world: World) -> GitLab:
    return GitLab(world.url, "35", TOKEN, timeout_seconds=0.4, first_pause_seconds=0.01)


# Where the server and the token come from


def test_the_environment_says_which_project_and_the_token_is_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"CI_SERVER_URL": "https://gitlab.example.com", "CI_PROJECT_ID": "35", "TUNEGATE_GITLAB_TOKEN": TOKEN}
    for name, value in facts.items():
        monkeypatch.setenv(name, value)
    found = GitLab.from_environment()
    assert found is not None
    assert (found.url, found.project_id, found.token) == tuple(facts.values())
    assert TOKEN not in repr(found)


@pytest.mark.parametrize("missing", ["CI_SERVER_URL", "CI_PROJECT_ID", "TUNEGATE_GITLAB_TOKEN"])
def test_without_a_server_a_project_or_a_token_there_is_no_gitlab(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CI_SERVER_URL", "CI_PROJECT_ID", "TUNEGATE_GITLAB_TOKEN"):
        monkeypatch.setenv(name, "" if name == missing else "x")
    assert GitLab.from_environment() is None


# Notes


def test_a_note_is_posted_once_and_edited_in_place(world: World, gitlab: GitLab) -> None:
    gitlab.put_note(1, "gate smoke", "**fail**")
    gitlab.put_note(1, "gate smoke", "**pass**")
    gitlab.put_note(1, "gate calls-v1", "**fail**")
    assert [note["body"] for note in world.notes[1]] == [
        f"{HEAD}\n**pass**",
        "<!-- tunegate:gate calls-v1 -->\n**fail**",
    ]


def test_the_same_text_again_writes_nothing(world: World, gitlab: GitLab) -> None:
    gitlab.put_note(1, "gate smoke", "**pass**")
    world.requests.clear()
    gitlab.put_note(1, "gate smoke", "**pass**")
    assert [request.split()[0] for request in world.requests] == ["GET"]


def test_the_note_is_found_behind_more_notes_than_a_page_holds(world: World, gitlab: GitLab) -> None:
    for number in range(250):
        world.add_note(1, f"remark {number}", PERSON)
    gitlab.put_note(1, "gate smoke", "**fail**")
    gitlab.put_note(1, "gate smoke", "**pass**")
    assert len(world.notes[1]) == 251
    assert world.notes[1][-1]["body"] == f"{HEAD}\n**pass**"


def test_a_marker_that_somebody_else_pasted_is_left_alone(world: World, gitlab: GitLab) -> None:
    world.add_note(1, f"{HEAD}\nmine now", PERSON)
    gitlab.put_note(1, "gate smoke", "**pass**")
    gitlab.put_note(1, "gate smoke", "**fail**")
    assert [note["body"] for note in world.notes[1]] == [f"{HEAD}\nmine now", f"{HEAD}\n**fail**"]


def test_doubles_of_an_earlier_accident_are_removed(world: World, gitlab: GitLab) -> None:
    for text in ("first", "second", "third"):
        world.add_note(1, f"{HEAD}\n{text}")
    oldest = world.notes[1][0]["id"]
    gitlab.put_note(1, "gate smoke", "**pass**")
    assert [(note["id"], note["body"]) for note in world.notes[1]] == [(oldest, f"{HEAD}\n**pass**")]


def test_two_jobs_at_the_same_moment_leave_one_note(world: World, gitlab: GitLab) -> None:
    """Both have looked and found none before either posts."""
    both_looked = threading.Barrier(2, timeout=10)

    def wait(request: str) -> None:
        if request.startswith("POST"):
            both_looked.wait()

    world.on_request = wait
    other = GitLab(world.url, "35", TOKEN, timeout_seconds=20, first_pause_seconds=0.01)
    gitlab.timeout_seconds = 20
    jobs = [threading.Thread(target=one.put_note, args=(1, "gate smoke", "**pass**")) for one in (gitlab, other)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert sum(request.startswith("POST") for request in world.requests) == 2
    assert [note["body"] for note in world.notes[1]] == [f"{HEAD}\n**pass**"]


def test_a_report_past_gitlabs_limit_is_cut(world: World, gitlab: GitLab) -> None:
    gitlab.timeout_seconds = 20
    gitlab.put_note(1, "gate smoke", "x" * 1_100_000)
    assert len(world.notes[1][0]["body"]) == 1_000_000


# Statuses


def test_a_status_goes_on_in_its_place_and_the_same_again_is_no_error(world: World, gitlab: GitLab) -> None:
    for state in ("pending", "pending", "running", "running", "success"):
        gitlab.set_status(SHA, state, "tunegate/local", "y" * 300, "https://gitlab.example.com/1")  # type: ignore[arg-type]
    (found,) = world.statuses
    assert (found["status"], found["name"], found["sha"], found["target_url"]) == (
        "success",
        "tunegate/local",
        SHA,
        "https://gitlab.example.com/1",
    )
    assert len(found["description"]) == 255


def test_another_refusal_of_a_status_is_an_error(world: World, gitlab: GitLab) -> None:
    world.fail("POST", "statuses", status=400, body='{"message": "Cannot transition status via :run from :canceled"}')
    with pytest.raises(InputError, match="from :canceled"):
        gitlab.set_status(SHA, "running", "tunegate/local", "")


# Merge requests


def test_a_branch_has_one_open_merge_request(world: World, gitlab: GitLab) -> None:
    first = gitlab.open_merge_request("back", "main", "Roll back", "receipt and breach")
    assert (
        gitlab.open_merge_request("back", "main", "Roll back", "once more")
        == first
        == f"{world.url}/group/project/-/merge_requests/1"
    )
    (found,) = world.merge_requests
    assert (found["title"], found["description"], found["remove_source_branch"]) == (
        "Roll back",
        "receipt and breach",
        True,
    )


def test_a_merged_one_does_not_stand_in_the_way(world: World, gitlab: GitLab) -> None:
    world.add_merge_request(state="merged", source_branch="back", target_branch="main")
    assert gitlab.open_merge_request("back", "main", "Roll back", "").endswith("/2")


def test_one_that_another_agent_opens_meanwhile_is_found(world: World, gitlab: GitLab) -> None:
    def opened(request: str) -> None:
        if request.startswith("POST") and not world.merge_requests:
            world.add_merge_request(source_branch="back", target_branch="main")

    world.on_request = opened
    assert gitlab.open_merge_request("back", "main", "Roll back", "").endswith("/1")
    assert len(world.merge_requests) == 1


@pytest.mark.parametrize(
    ("states", "expected"), [((), None), (("closed",), None), (("opened",), 1), (("closed", "opened", "merged"), 3)]
)
def test_a_commit_belongs_to_the_merge_request_that_brought_it(
    world: World, gitlab: GitLab, states: tuple[str, ...], expected: int | None
) -> None:
    world.of_commit[SHA] = [world.add_merge_request(state=state)["iid"] for state in states]
    found = gitlab.merge_request_of(SHA)
    if expected is None:
        assert found is None
    else:
        assert found == {
            "iid": expected,
            "url": f"{world.url}/group/project/-/merge_requests/{expected}",
            "author": "thedude",
        }


# Deployments


def test_a_deployment_that_runs_becomes_the_one_that_succeeded(world: World, gitlab: GitLab) -> None:
    for status in ("running", "running", "success", "success"):
        gitlab.record_deployment("local", SHA, "main", status, "http://localhost:8080")  # type: ignore[arg-type]
    (found,) = world.deployments
    assert (found["sha"], found["ref"], found["status"], found["environment"]["external_url"]) == (
        SHA,
        "main",
        "success",
        "http://localhost:8080",
    )


def test_another_commit_and_a_second_try_are_deployments_of_their_own(world: World, gitlab: GitLab) -> None:
    for sha, status in ((SHA, "failed"), (SHA, "running"), (SHA, "success"), ("b" * 40, "success"), (SHA, "success")):
        gitlab.record_deployment("local", sha, "main", status)  # type: ignore[arg-type]
    assert [(one["sha"], one["status"]) for one in world.deployments] == [
        (SHA, "failed"),
        (SHA, "success"),
        ("b" * 40, "success"),
        (SHA, "success"),
    ]


def test_environments_do_not_mix(world: World, gitlab: GitLab) -> None:
    gitlab.record_deployment("local", SHA, "main", "success")
    gitlab.record_deployment("staging", SHA, "main", "success")
    assert [one["name"] for one in world.environments] == ["local", "staging"]
