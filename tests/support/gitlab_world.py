"""What the GitLab of tests/support/gitlab_server.py holds, and what each of its endpoints does to it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.support.gitlab_pipelines import (
    Refused,
    archive_of,
    archive_with,
    bridges_of,
    file_of,
    jobs_of,
    pipelines_of_request,
)

TOKEN = "glpat-of-the-tests-0123456789"
BOT = {
    "id": 7,
    "username": "project_35_bot",
    "name": "tunegate",
    "state": "active",
    "web_url": "http://gitlab.invalid/project_35_bot",
}
PERSON = {
    "id": 28,
    "username": "thedude",
    "name": "Jeff Lebowski",
    "state": "active",
    "web_url": "http://gitlab.invalid/thedude",
}
UNKNOWN_SHA = "0" * 40


@dataclass
class Failure:
    """What the next requests of this method and path get. `taken`: carried out all the same; `silent`: no answer for a
    second."""

    method: str
    path: str
    status: int = 500
    body: str = '{"message": "as planned"}'
    headers: dict[str, str] = field(default_factory=dict)
    taken: bool = False
    silent: bool = False
    times: int = 1


@dataclass
class World:
    """Project 35 and all that was done to it; `requests` is every request that came, as "METHOD path"."""

    token: str = TOKEN
    notes: dict[int, list[dict[str, Any]]] = field(default_factory=lambda: {1: []})
    merge_requests: list[dict[str, Any]] = field(default_factory=list)
    of_commit: dict[str, list[int]] = field(default_factory=dict)
    statuses: list[dict[str, Any]] = field(default_factory=list)
    deployments: list[dict[str, Any]] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=list)
    pipelines: list[dict[str, Any]] = field(default_factory=list)
    jobs: list[dict[str, Any]] = field(default_factory=list)
    archives: dict[int, bytes] = field(default_factory=dict)  # of jobs; an expired one is gone
    failures: list[Failure] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    on_request: Callable[[str], None] = lambda _: None
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)

    def fail(self, method: str, path: str, **facts: Any) -> None:
        self.failures.append(Failure(method, path, **facts))

    def planned(self, method: str, path: str) -> Failure | None:
        for failure in self.failures:
            if failure.method == method and re.search(failure.path, path) and failure.times:
                failure.times -= 1
                return failure
        return None

    def add_note(self, iid: int, body: str, author: dict[str, Any] = BOT) -> dict[str, Any]:
        number = sum(len(notes) for notes in self.notes.values()) + 301
        self.notes[iid].append(
            {"id": number, "body": body, "author": author, "system": False, "noteable_iid": iid, "project_id": 35}
        )
        return self.notes[iid][-1]

    def add_merge_request(self, author: dict[str, Any] = PERSON, **facts: Any) -> dict[str, Any]:
        iid = len(self.merge_requests) + 1
        found = {
            "iid": iid,
            "state": "opened",
            "author": author,
            "web_url": f"{self.url}/group/project/-/merge_requests/{iid}",
            "project_id": 35,
        } | facts
        self.merge_requests.append(found)
        self.notes.setdefault(iid, [])
        return found

    def add_pipeline(self, sha: str, *, parent: int | None = None, **facts: Any) -> int:
        """Of a merge request, or started by the pipeline `parent`."""
        number = len(self.pipelines) + 900
        url = f"{self.url}/group/project/-/pipelines/{number}"
        found = {"id": number, "sha": sha, "status": "success", "project_id": 35, "web_url": url, "parent": parent}
        self.pipelines.append(found | facts)
        return number

    def add_job(self, pipeline: int, name: str, files: dict[str, bytes] | None = None, status: str = "success") -> int:
        """`files`: its artifacts."""
        number = len(self.jobs) + 5000
        self.jobs.append({"id": number, "name": name, "status": status, "pipeline": {"id": pipeline}})
        if files is not None:
            self.archives[number] = archive_with(files)
        return number

    def answer(self, method: str, path: str, query: dict[str, str], facts: dict[str, Any]) -> Any:
        """The JSON of the answer. Raises Refused."""
        for verb, pattern, act in ROUTES:
            if verb == method and (found := re.fullmatch(pattern, path)):
                return act(
                    self,
                    *map(unquote, found.groups()),
                    **({"query": query} if method == "GET" else {"facts": facts} if facts else {}),
                )
        raise Refused(404, "404 Not Found")


def user(world: World, query: dict[str, str]) -> Any:
    return BOT


def notes_of(world: World, iid: str) -> list[dict[str, Any]]:
    if int(iid) not in world.notes:
        raise Refused(404, "404 Not found")
    return world.notes[int(iid)]


def list_notes(world: World, iid: str, query: dict[str, str]) -> Any:
    found = notes_of(world, iid)
    return list(found) if query.get("sort") == "asc" else list(reversed(found))


def create_note(world: World, iid: str, facts: dict[str, Any]) -> Any:
    notes_of(world, iid)
    if not facts.get("body"):
        raise Refused(400, '400 Bad request - Note {:note=>["can\'t be blank"]}')
    return world.add_note(int(iid), facts["body"])


def edit_note(world: World, iid: str, note: str, facts: dict[str, Any]) -> Any:
    found = one_note(world, iid, note)
    found["body"] = facts["body"]
    return found


def delete_note(world: World, iid: str, note: str) -> Any:
    notes_of(world, iid).remove(one_note(world, iid, note))


def one_note(world: World, iid: str, note: str) -> dict[str, Any]:
    for found in notes_of(world, iid):
        if found["id"] == int(note):
            if found["author"] != BOT:
                raise Refused(403, "403 Forbidden")
            return found
    raise Refused(404, "404 Note Not Found")


def create_status(world: World, sha: str, facts: dict[str, Any]) -> Any:
    known(sha)
    if facts["state"] not in ("pending", "running", "success", "failed", "canceled", "skipped"):
        raise Refused(400, "state does not have a valid value")
    if len(facts.get("description") or "") > 255:
        raise Refused(400, {"description": ["is too long (maximum is 255 characters)"]})
    unfinished = [
        one
        for one in world.statuses
        if (one["sha"], one["name"]) == (sha, facts["name"]) and one["status"] in ("pending", "running")
    ]
    if unfinished and unfinished[-1]["status"] == facts["state"]:
        verb = {"pending": "enqueue", "running": "run"}[facts["state"]]
        raise Refused(
            400,
            f"Cannot transition status via :{verb} from :{facts['state']} "
            f'(Reason(s): Status cannot transition via "{verb}")',
        )
    found = unfinished[-1] if unfinished else {"id": len(world.statuses) + 90, "sha": sha}
    found |= {
        "status": facts["state"],
        "name": facts["name"],
        "description": facts.get("description"),
        "target_url": facts.get("target_url"),
        "author": BOT,
    }
    if not unfinished:
        world.statuses.append(found)
    return found


def known(sha: str) -> None:
    if sha == UNKNOWN_SHA:
        raise Refused(404, "404 Commit Not Found")


def merge_requests_of(world: World, sha: str, query: dict[str, str]) -> Any:
    known(sha)
    return [one for one in world.merge_requests if one["iid"] in world.of_commit.get(sha, [])]


def list_merge_requests(world: World, query: dict[str, str]) -> Any:
    filters = {name: query[name] for name in ("state", "source_branch", "target_branch") if name in query}
    return [
        one for one in reversed(world.merge_requests) if all(one.get(name) == value for name, value in filters.items())
    ]


def create_merge_request(world: World, facts: dict[str, Any]) -> Any:
    same = [
        one
        for one in world.merge_requests
        if one["state"] == "opened" and one["source_branch"] == facts["source_branch"]
    ]
    if same:
        raise Refused(409, [f"Another open merge request already exists for this source branch: !{same[0]['iid']}"])
    return world.add_merge_request(BOT, **facts)


def list_deployments(world: World, query: dict[str, str]) -> Any:
    found = [one for one in world.deployments if query.get("environment") in (None, one["environment"]["name"])]
    return sorted(found, key=lambda one: one["id"], reverse=query.get("sort") == "desc")


def create_deployment(world: World, facts: dict[str, Any]) -> Any:
    missing = {"environment", "sha", "ref", "tag", "status"} - facts.keys()
    if missing:
        raise Refused(400, f"{sorted(missing)[0]} is missing")
    known(facts["sha"])
    if facts["status"] not in ("running", "success", "failed", "canceled"):
        raise Refused(400, "status does not have a valid value")
    place = next((one for one in world.environments if one["name"] == facts["environment"]), None)
    if place is None:
        place = {"id": len(world.environments) + 9, "name": facts["environment"], "external_url": None}
        world.environments.append(place)
    world.deployments.append(
        {"id": len(world.deployments) + 42, "user": BOT, "deployable": None} | facts | {"environment": place}
    )
    return world.deployments[-1]


def edit_deployment(world: World, number: str, facts: dict[str, Any]) -> Any:
    (found,) = [one for one in world.deployments if one["id"] == int(number)]
    if found["status"] == facts["status"]:
        raise Refused(400, {"status": ["Cannot transition status"]})
    found["status"] = facts["status"]
    return found


def edit_environment(world: World, number: str, facts: dict[str, Any]) -> Any:
    (found,) = [one for one in world.environments if one["id"] == int(number)]
    found["external_url"] = facts["external_url"]
    return found


PROJECT = "/api/v4/projects/35"
ROUTES: list[tuple[str, str, Callable[..., Any]]] = [
    ("GET", "/api/v4/user", user),
    ("GET", rf"{PROJECT}/merge_requests/(\d+)/notes", list_notes),
    ("POST", rf"{PROJECT}/merge_requests/(\d+)/notes", create_note),
    ("PUT", rf"{PROJECT}/merge_requests/(\d+)/notes/(\d+)", edit_note),
    ("DELETE", rf"{PROJECT}/merge_requests/(\d+)/notes/(\d+)", delete_note),
    ("POST", rf"{PROJECT}/statuses/([0-9a-f]+)", create_status),
    ("GET", rf"{PROJECT}/repository/commits/([0-9a-f]+)/merge_requests", merge_requests_of),
    ("GET", rf"{PROJECT}/merge_requests/(\d+)/pipelines", pipelines_of_request),
    ("GET", rf"{PROJECT}/pipelines/(\d+)/bridges", bridges_of),
    ("GET", rf"{PROJECT}/pipelines/(\d+)/jobs", jobs_of),
    ("GET", rf"{PROJECT}/jobs/(\d+)/artifacts", archive_of),
    ("GET", rf"{PROJECT}/jobs/(\d+)/artifacts/(.+)", file_of),
    ("GET", f"{PROJECT}/merge_requests", list_merge_requests),
    ("POST", f"{PROJECT}/merge_requests", create_merge_request),
    ("GET", f"{PROJECT}/deployments", list_deployments),
    ("POST", f"{PROJECT}/deployments", create_deployment),
    ("PUT", rf"{PROJECT}/deployments/(\d+)", edit_deployment),
    ("PUT", rf"{PROJECT}/environments/(\d+)", edit_environment),
]
