"""GitLab's API by the real python-gitlab, against a server on loopback that fails as planned: never a crash, never anything twice."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from configs.errors import InputError, OutsideError, TunegateError
from infra.gitlab import ATTEMPTS, GitLab
from tests.infra.gitlab_server import PERSON, TOKEN, UNKNOWN_SHA, World, gitlab_server

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


CALLS: dict[str, Callable[[GitLab], object]] = {
    "note": lambda gitlab: gitlab.put_note(1, "gate smoke", "**pass**"),
    "status": lambda gitlab: gitlab.set_status(SHA, "success", "tunegate/local", "serves"),
    "merge request": lambda gitlab: gitlab.open_merge_request("back", "main", "Roll back", "why"),
    "merge request of a commit": lambda gitlab: gitlab.merge_request_of(SHA),
    "deployment": lambda gitlab: gitlab.record_deployment("local", SHA, "main", "success", "http://localhost:8080"),
}
WRITES = {"note": ("POST", "notes"), "status": ("POST", "statuses"), "merge request": ("POST", "merge_requests$"), "deployment": ("POST", "deployments")}


def count(world: World, kind: str) -> int:
    return len({"note": world.notes[1], "status": world.statuses, "merge request": world.merge_requests, "deployment": world.deployments}[kind])


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
def test_without_a_server_a_project_or_a_token_there_is_no_gitlab(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CI_SERVER_URL", "CI_PROJECT_ID", "TUNEGATE_GITLAB_TOKEN"):
        monkeypatch.setenv(name, "" if name == missing else "x")
    assert GitLab.from_environment() is None


# Notes


def test_a_note_is_posted_once_and_edited_in_place(world: World, gitlab: GitLab) -> None:
    gitlab.put_note(1, "gate smoke", "**fail**")
    gitlab.put_note(1, "gate smoke", "**pass**")
    gitlab.put_note(1, "gate calls-v1", "**fail**")
    assert [note["body"] for note in world.notes[1]] == [f"{HEAD}\n**pass**", "<!-- tunegate:gate calls-v1 -->\n**fail**"]


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
    assert (found["status"], found["name"], found["sha"], found["target_url"]) == ("success", "tunegate/local", SHA, "https://gitlab.example.com/1")
    assert len(found["description"]) == 255


def test_another_refusal_of_a_status_is_an_error(world: World, gitlab: GitLab) -> None:
    world.fail("POST", "statuses", status=400, body='{"message": "Cannot transition status via :run from :canceled"}')
    with pytest.raises(InputError, match="from :canceled"):
        gitlab.set_status(SHA, "running", "tunegate/local", "")


# Merge requests


def test_a_branch_has_one_open_merge_request(world: World, gitlab: GitLab) -> None:
    first = gitlab.open_merge_request("back", "main", "Roll back", "receipt and breach")
    assert gitlab.open_merge_request("back", "main", "Roll back", "once more") == first == f"{world.url}/group/project/-/merge_requests/1"
    (found,) = world.merge_requests
    assert (found["title"], found["description"], found["remove_source_branch"]) == ("Roll back", "receipt and breach", True)


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


@pytest.mark.parametrize(("states", "expected"), [((), None), (("closed",), None), (("opened",), 1), (("closed", "opened", "merged"), 3)])
def test_a_commit_belongs_to_the_merge_request_that_brought_it(world: World, gitlab: GitLab, states: tuple[str, ...], expected: int | None) -> None:
    world.of_commit[SHA] = [world.add_merge_request(state=state)["iid"] for state in states]
    found = gitlab.merge_request_of(SHA)
    if expected is None:
        assert found is None
    else:
        assert found == {"iid": expected, "url": f"{world.url}/group/project/-/merge_requests/{expected}", "author": "thedude"}


# Deployments


def test_a_deployment_that_runs_becomes_the_one_that_succeeded(world: World, gitlab: GitLab) -> None:
    for status in ("running", "running", "success", "success"):
        gitlab.record_deployment("local", SHA, "main", status, "http://localhost:8080")  # type: ignore[arg-type]
    (found,) = world.deployments
    assert (found["sha"], found["ref"], found["status"], found["environment"]["external_url"]) == (SHA, "main", "success", "http://localhost:8080")


def test_another_commit_and_a_second_try_are_deployments_of_their_own(world: World, gitlab: GitLab) -> None:
    for sha, status in ((SHA, "failed"), (SHA, "running"), (SHA, "success"), ("b" * 40, "success"), (SHA, "success")):
        gitlab.record_deployment("local", sha, "main", status)  # type: ignore[arg-type]
    assert [(one["sha"], one["status"]) for one in world.deployments] == [(SHA, "failed"), (SHA, "success"), ("b" * 40, "success"), (SHA, "success")]


def test_environments_do_not_mix(world: World, gitlab: GitLab) -> None:
    gitlab.record_deployment("local", SHA, "main", "success")
    gitlab.record_deployment("staging", SHA, "main", "success")
    assert [one["name"] for one in world.environments] == ["local", "staging"]


# Failures


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    ("status", "error", "hint"), [(401, InputError, "TUNEGATE_GITLAB_TOKEN"), (403, InputError, "Developer"), (404, InputError, "CI_PROJECT_ID")]
)
def test_a_refusal_is_reported_at_once(world: World, gitlab: GitLab, kind: str, status: int, error: type[TunegateError], hint: str) -> None:
    for method in ("GET", "POST"):
        world.fail(method, "projects", status=status, times=99)
    with pytest.raises(error, match=str(status)) as caught:
        CALLS[kind](gitlab)
    assert hint in str(caught.value)
    assert len(world.requests) == 1


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("status", [409, 429, 500, 502, 503])
def test_what_passes_is_tried_again(world: World, gitlab: GitLab, kind: str, status: int) -> None:
    for method in ("GET", "POST"):
        world.fail(method, "projects", status=status, times=2, headers={"Retry-After": "0"})
    CALLS[kind](gitlab)
    if kind in WRITES:
        assert count(world, kind) == 1


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("status", [409, 429, 500])
def test_what_does_not_pass_is_an_outside_error_after_a_few_tries(world: World, gitlab: GitLab, kind: str, status: int) -> None:
    for method in ("GET", "POST"):
        world.fail(method, "projects", status=status, times=99)
    with pytest.raises(OutsideError, match=f"{status}: .*as planned"):
        CALLS[kind](gitlab)
    assert len(world.requests) == ATTEMPTS


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize("facts", [{"silent": True}, {"status": 500}, {"status": 502, "body": "<html>Bad Gateway</html>"}], ids=["time-out", "500", "502"])
def test_a_write_that_was_taken_but_not_answered_is_there_once(world: World, gitlab: GitLab, kind: str, facts: dict[str, object]) -> None:
    world.fail(*WRITES[kind], taken=True, **facts)
    CALLS[kind](gitlab)
    if kind != "status":  # GitLab itself adds a row for a finished status, and shows the last of a name
        assert count(world, kind) == 1
    assert sum(request.startswith("POST") for request in world.requests) == (2 if kind == "status" else 1)


@pytest.mark.parametrize("kind", CALLS)
def test_a_server_that_is_silent_for_good_is_an_outside_error(world: World, gitlab: GitLab, kind: str) -> None:
    gitlab.timeout_seconds = 0.05
    for method in ("GET", "POST"):
        world.fail(method, "projects", silent=True, times=99)
    with pytest.raises(OutsideError, match="Timeout"):
        CALLS[kind](gitlab)


@pytest.mark.parametrize("kind", CALLS)
def test_a_server_that_is_not_there_is_an_outside_error(kind: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gitlab = GitLab(f"http://127.0.0.1:{closed.getsockname()[1]}", "35", TOKEN, first_pause_seconds=0.01)
        with pytest.raises(OutsideError, match="refused"):
            CALLS[kind](gitlab)


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("body", ["<html>Sign in</html>", "[1]", '[{"id": 3}]', "null"])
def test_an_answer_that_is_none_of_gitlabs_is_an_outside_error(world: World, gitlab: GitLab, kind: str, body: str) -> None:
    for method in ("GET", "POST"):
        world.fail(method, "projects", status=200, body=body, times=99)
    with pytest.raises(OutsideError, match="none of GitLab's API"):
        CALLS[kind](gitlab)


def test_gitlabs_wish_for_a_pause_is_kept_up_to_a_minute(world: World, gitlab: GitLab, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    for wish in ("7", "3600", "Wed, 25 Nov 2026 19:00:00 GMT"):
        world.fail("GET", "projects", status=429, headers={"Retry-After": wish})
    gitlab.merge_request_of(SHA)
    assert pauses == [7.0, 60.0, 0.04]


def test_no_message_has_the_token(world: World, gitlab: GitLab) -> None:
    world.fail("GET", "projects", status=403, body=f'{{"message": "the token {TOKEN} may not"}}')
    with pytest.raises(InputError) as caught:
        gitlab.merge_request_of(SHA)
    assert TOKEN not in str(caught.value) and "[token]" in str(caught.value)


def test_a_redirect_to_another_server_takes_no_token_along(world: World, gitlab: GitLab) -> None:
    with gitlab_server() as other:
        elsewhere = other.url.replace("127.0.0.1", "localhost")
        world.fail("GET", "projects", status=302, headers={"Location": f"{elsewhere}/api/v4/user"})
        with pytest.raises(TunegateError, match="401"):
            gitlab.merge_request_of(SHA)
        assert other.requests == ["GET /api/v4/user"]


def test_a_commit_that_gitlab_does_not_know_is_an_input_error(gitlab: GitLab) -> None:
    with pytest.raises(InputError, match="Commit Not Found"):
        gitlab.merge_request_of(UNKNOWN_SHA)


def test_a_wrong_token_is_an_input_error(world: World) -> None:
    with pytest.raises(InputError, match="401"):
        GitLab(world.url, "35", "another", first_pause_seconds=0.01).put_note(1, "gate smoke", "")
