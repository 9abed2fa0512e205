"""A GitLab that refuses, fails, is silent or is somebody else, as a server on loopback plans it: never a crash, no
write twice, no token told."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from configs.errors import ExternalError, InputError, TunegateError
from infra.gitlab.api import ATTEMPTS, GitLab
from tests.support.gitlab_server import gitlab_server
from tests.support.gitlab_world import TOKEN, UNKNOWN_SHA, World

pytestmark = pytest.mark.unit
SHA = "a91957a858320c0e17f3a0eca7cfacbff50ea29a"


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
WRITES = {
    "note": ("POST", "notes"),
    "status": ("POST", "statuses"),
    "merge request": ("POST", "merge_requests$"),
    "deployment": ("POST", "deployments"),
}


def count(world: World, kind: str) -> int:
    return len(
        {
            "note": world.notes[1],
            "status": world.statuses,
            "merge request": world.merge_requests,
            "deployment": world.deployments,
        }[kind]
    )


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [(401, InputError, "TUNEGATE_GITLAB_TOKEN"), (403, InputError, "Developer"), (404, InputError, "CI_PROJECT_ID")],
)
def test_a_refusal_is_reported_at_once(
    world: World, gitlab: GitLab, kind: str, status: int, error: type[TunegateError], hint: str
) -> None:
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
def test_what_does_not_pass_is_an_outside_error_after_a_few_tries(
    world: World, gitlab: GitLab, kind: str, status: int
) -> None:
    for method in ("GET", "POST"):
        world.fail(method, "projects", status=status, times=99)
    with pytest.raises(ExternalError, match=f"{status}: .*as planned"):
        CALLS[kind](gitlab)
    assert len(world.requests) == ATTEMPTS


@pytest.mark.parametrize("kind", WRITES)
@pytest.mark.parametrize(
    "facts",
    [{"silent": True}, {"status": 500}, {"status": 502, "body": "<html>Bad Gateway</html>"}],
    ids=["time-out", "500", "502"],
)
def test_a_write_that_was_taken_but_not_answered_is_there_once(
    world: World, gitlab: GitLab, kind: str, facts: dict[str, Any]
) -> None:
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
    with pytest.raises(ExternalError, match="Timeout"):
        CALLS[kind](gitlab)


@pytest.mark.parametrize("kind", CALLS)
def test_a_server_that_is_not_there_is_an_outside_error(kind: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        gitlab = GitLab(f"http://127.0.0.1:{closed.getsockname()[1]}", "35", TOKEN, first_pause_seconds=0.01)
        with pytest.raises(ExternalError, match="refused"):
            CALLS[kind](gitlab)


@pytest.mark.parametrize("kind", CALLS)
@pytest.mark.parametrize("body", ["<html>Sign in</html>", "[1]", '[{"id": 3}]', "null"])
def test_an_answer_that_is_none_of_gitlabs_is_an_outside_error(
    world: World, gitlab: GitLab, kind: str, body: str
) -> None:
    for method in ("GET", "POST"):
        world.fail(method, "projects", status=200, body=body, times=99)
    with pytest.raises(ExternalError, match="none of GitLab's API"):
        CALLS[kind](gitlab)


def test_gitlabs_wish_for_a_pause_is_kept_up_to_a_minute(
    world: World, gitlab: GitLab, monkeypatch: pytest.MonkeyPatch
) -> None:
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
