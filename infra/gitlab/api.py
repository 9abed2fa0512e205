"""The seam to GitLab's API, the only user of python-gitlab: notes, commit statuses, merge requests, deployments.

Every method may be called again after a kill or a lost answer: it looks first, so nothing is ever there twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar

from configs.errors import ExternalError, InputError, TunegateError, cause_of

if TYPE_CHECKING:
    from requests import Response
    from tenacity import RetryCallState

Answer = TypeVar("Answer")
State = Literal["pending", "running", "success", "failed", "canceled"]
DeploymentStatus = Literal["running", "success", "failed", "canceled"]
ATTEMPTS = 5
LONGEST_PAUSE_SECONDS = 60.0  # GitLab counts requests by the minute
NOTE_CHARACTERS = 1_000_000  # doc/api/notes.md
DESCRIPTION_CHARACTERS = 255
PASSING = {408, 409, 429}  # 409: someone else was faster, so look again. 5xx passes too.
HINTS = {
    401: "set TUNEGATE_GITLAB_TOKEN to an access token of this project that has not expired, with the scope api",
    403: "give the token's user a role that may do this: Developer, and for a protected environment to be among those "
    "allowed to deploy",
    404: "see CI_SERVER_URL and CI_PROJECT_ID; GitLab says 404 as well to a token that may not see the project",
}
LATER = "the same command may be run again, once GitLab answers"


class MergeRequest(TypedDict):
    """`author`: the user's name at GitLab."""

    iid: int
    url: str
    author: str


class Passing(Exception):
    """An answer that may be another one later. `pause_seconds` is GitLab's own wish (Retry-After), if it had one."""

    def __init__(self, status: int, text: str, pause_seconds: float | None) -> None:
        super().__init__(f"{status}: {text[:200]}")
        self.pause_seconds = pause_seconds


@dataclass
class GitLab:
    """One project of one server. The token is in no message and no repr."""

    url: str
    project_id: str
    token: str = field(repr=False)
    timeout_seconds: float = 20.0
    first_pause_seconds: float = 1.0

    @classmethod
    def from_environment(cls) -> GitLab | None:
        """None where CI_SERVER_URL, CI_PROJECT_ID or TUNEGATE_GITLAB_TOKEN is unset or empty. A job of GitLab has the
        first two by itself."""
        url, project, token = (
            os.environ.get(name, "").strip() for name in ("CI_SERVER_URL", "CI_PROJECT_ID", "TUNEGATE_GITLAB_TOKEN")
        )
        return cls(url, project, token) if url and project and token else None

    def put_note(self, merge_request_iid: int, marker: str, markdown: str) -> None:
        """The one note of this marker, edited in place. Only notes of the token's own user count: a marker can be
        pasted by anybody."""
        head = f"<!-- tunegate:{marker} -->"
        body = f"{head}\n{markdown}"[:NOTE_CHARACTERS]

        def put() -> None:
            notes = self.project.mergerequests.get(merge_request_iid, lazy=True).notes
            found = self.own_notes(notes, head)
            if not found:
                notes.create({"body": body})
                found = self.own_notes(
                    notes, head
                )  # a job beside this one may have posted at the same moment: both keep the older
            for note in found[:1]:
                if note.body != body:
                    note.body = body
                    note.save()
            for note in found[1:]:
                delete(note)

        self.insist(f"the note {marker!r} of !{merge_request_iid}", put)

    def own_notes(self, notes: Any, head: str) -> list[Any]:
        """Oldest first."""
        listed = notes.list(iterator=True, per_page=100, sort="asc", order_by="created_at")
        return [note for note in listed if note.body.startswith(head) and note.author["id"] == self.user_id]

    def set_status(self, sha: str, state: State, name: str, description: str, target_url: str | None = None) -> None:
        """The commit's status of this name. A status that is pending or running already is told so by GitLab with a
        400: that is no error."""
        from gitlab.exceptions import GitlabCreateError

        facts = {"state": state, "name": name, "description": description[:DESCRIPTION_CHARACTERS]} | (
            {"target_url": target_url} if target_url else {}
        )

        def post() -> None:
            try:
                self.project.commits.get(sha, lazy=True).statuses.create(facts)
            except GitlabCreateError as error:
                if not (error.response_code == 400 and f"from :{state}" in str(error.error_message)):
                    raise

        self.insist(f"the status {name!r} of {sha[:12]}", post)

    def open_merge_request(self, branch: str, target: str, title: str, description: str) -> str:
        """The URL of the open one from `branch` to `target`: made, or found as it stands."""

        def find_or_make() -> str:
            requests = self.project.mergerequests
            found = requests.list(state="opened", source_branch=branch, target_branch=target, get_all=False)
            facts = {
                "source_branch": branch,
                "target_branch": target,
                "title": title,
                "description": description,
                "remove_source_branch": True,
            }
            return str((found[0] if found else requests.create(facts)).web_url)

        return self.insist(f"the merge request from {branch} to {target}", find_or_make)

    def merge_request_of(self, sha: str) -> MergeRequest | None:
        """iid, url and author of the merge request that brought this commit: the merged one, else the first open
        one."""

        def find() -> MergeRequest | None:
            listed = self.project.commits.get(sha, lazy=True).merge_requests(get_all=True)
            for state in ("merged", "opened"):
                for one in listed:
                    if one["state"] == state:
                        return {"iid": one["iid"], "url": one["web_url"], "author": one["author"]["username"]}
            return None

        return self.insist(f"the merge request of {sha[:12]}", find)

    def record_deployment(
        self, environment: str, sha: str, ref: str, status: DeploymentStatus, url: str | None = None
    ) -> None:
        """A deployment of `sha`, or the new status of the one that runs; `url` becomes the environment's. The
        environment is made if it is not there."""

        def record() -> None:
            latest = next(
                iter(
                    self.project.deployments.list(
                        environment=environment, order_by="id", sort="desc", per_page=1, get_all=False
                    )
                ),
                None,
            )
            if latest is None or latest.sha != sha or latest.status not in ("running", status):
                latest = self.project.deployments.create(
                    {"environment": environment, "sha": sha, "ref": ref, "tag": False, "status": status}
                )
            elif latest.status != status:
                latest.status = status
                latest.save()
            if url and latest.environment.get("external_url") != url:
                self.project.environments.update(latest.environment["id"], {"external_url": url})

        self.insist(f"the deployment of {sha[:12]} to {environment}", record)

    def insist(self, what: str, act: Callable[[], Answer]) -> Answer:
        """`act` as a whole again where the answer was lost or may be another one later. Raises InputError or
        ExternalError, nothing else.

        python-gitlab's own retries would only repeat the last request: a POST that was taken, but whose answer was
        lost, would be there twice.
        """
        from gitlab.exceptions import GitlabError
        from requests import RequestException
        from requests.exceptions import ChunkedEncodingError, ConnectionError, Timeout
        from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

        passing = retry_if_exception_type((Passing, ConnectionError, Timeout, ChunkedEncodingError))
        try:
            return Retrying(retry=passing, stop=stop_after_attempt(ATTEMPTS), wait=self.pause, reraise=True)(act)
        except (
            GitlabError,
            RequestException,
            Passing,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:  # the last four: JSON that is none of GitLab's
            raise self.translate(what, error) from None

    def pause(self, state: RetryCallState) -> float:
        """Seconds: what GitLab asked for, up to a minute, else twice as long each time."""
        error = state.outcome.exception() if state.outcome else None
        wished = error.pause_seconds if isinstance(error, Passing) else None
        usual = self.first_pause_seconds * 2 ** (state.attempt_number - 1)
        return min(usual if wished is None else wished, LONGEST_PAUSE_SECONDS)

    def translate(self, what: str, error: Exception) -> TunegateError:
        from requests import RequestException

        status = getattr(error, "response_code", None)
        if status:
            said = f"{status}: {getattr(error, 'error_message', '')}"
        elif isinstance(error, RequestException):
            said = cause_of(error)
        else:
            said = (
                str(error)
                if isinstance(error, Passing)
                else f"an answer that is none of GitLab's API: {type(error).__name__}: {error}"
            )
        found = f"GitLab ({self.url}, project {self.project_id}): {what}: {' '.join(said.split())[:300]}".replace(
            self.token, "[token]"
        )
        if status and 400 <= status < 500:
            return InputError(
                found, hint=HINTS.get(status, "see what GitLab says; its API's pages name what is allowed")
            )
        return ExternalError(found, hint=LATER)

    @cached_property
    def client(self) -> Any:
        """A bearer token, for `requests` drops that header where a server redirects to another one, and would keep
        PRIVATE-TOKEN."""
        from gitlab import Gitlab
        from requests import Session

        session = Session()
        session.hooks["response"].append(raise_passing)
        trusted = os.environ.get("CI_SERVER_TLS_CA_FILE") or True
        return Gitlab(
            self.url,
            oauth_token=self.token,
            timeout=self.timeout_seconds,
            ssl_verify=trusted,
            keep_base_url=True,
            session=session,
        )

    @cached_property
    def project(self) -> Any:
        return self.client.projects.get(self.project_id, lazy=True)

    @cached_property
    def user_id(self) -> int:
        return int(self.client.http_get("/user")["id"])


def raise_passing(response: Response, *args: Any, **kwargs: Any) -> None:
    if response.status_code not in PASSING and response.status_code < 500:
        return
    wished = response.headers.get("Retry-After", "")  # by HTTP it may be a date as well; GitLab sends seconds
    raise Passing(response.status_code, response.text or response.reason, float(wished) if wished.isdigit() else None)


def delete(note: Any) -> None:
    from gitlab.exceptions import GitlabDeleteError

    try:
        note.delete()
    except GitlabDeleteError as error:
        if error.response_code != 404:  # the job beside this one did it
            raise
