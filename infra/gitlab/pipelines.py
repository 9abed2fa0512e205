"""What pipelines of merge requests left: their jobs, and the artifacts of these. Whatever comes from there was made by
a merge request's own code: the caller holds it against what was reviewed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.section import NAME_PATTERN
from infra.gitlab.api import GitLab

GONE = "start the merge request's pipeline again, or publish by hand: tunegate releases publish CONFIG"


@dataclass(frozen=True)
class Request:
    """An open merge request, its branch's head, and its newest pipeline of this project: the commit that ran in it, and
    GitLab's word for how it ended."""

    iid: int
    head: str
    pipeline: int
    sha: str
    status: str
    url: str


def open_requests(gitlab: GitLab) -> list[Request]:
    """Those from branches of this project. A fork's pipelines are the fork's."""

    def find() -> Iterator[Request]:
        for one in gitlab.project.mergerequests.list(state="opened", iterator=True, per_page=100):
            newest = next(
                (found for found in one.pipelines.list(iterator=True) if str(found.project_id) == gitlab.project_id),
                None,
            )
            if newest is not None:
                yield Request(one.iid, one.sha, newest.id, newest.sha, newest.status, newest.web_url)

    return gitlab.insist("the open merge requests", lambda: list(find()))


def child_jobs(gitlab: GitLab, pipeline: int, kind: str) -> dict[str, int]:
    """By config the job `KIND NAME` of the pipelines that this one started, the newest where one was retried."""

    def find() -> dict[str, int]:
        bridges = gitlab.project.pipelines.get(pipeline, lazy=True).bridges.list(iterator=True)
        children = [one.downstream_pipeline["id"] for one in bridges if one.downstream_pipeline]
        return {name: job for child in children for name, job in named(jobs_of(gitlab, child), kind)}

    return gitlab.insist(f"the jobs of pipeline {pipeline}", find)


def job_of(gitlab: GitLab, pipeline: int, name: str) -> int:
    """Raises InputError where the pipeline has no job of this name that ended well."""
    jobs = gitlab.insist(f"the jobs of pipeline {pipeline}", lambda: jobs_of(gitlab, pipeline))
    for job in jobs:
        if (job.name, job.status) == (name, "success"):
            return int(job.id)
    raise InputError(f"pipeline {pipeline}: found no job {name!r} that ended well", hint=GONE)


def jobs_of(gitlab: GitLab, pipeline: int) -> list[Any]:
    """The newest first."""
    found = gitlab.project.pipelines.get(pipeline, lazy=True).jobs.list(iterator=True, per_page=100)
    return sorted(found, key=lambda job: -int(job.id))


def named(jobs: list[Any], kind: str) -> Iterator[tuple[str, int]]:
    """Oldest first, so that of two the newer stands in a dict."""
    for job in reversed(jobs):
        first, _, name = job.name.partition(" ")
        if first == kind and re.fullmatch(NAME_PATTERN, name):
            yield name, int(job.id)


def artifact(gitlab: GitLab, job: int, path: str) -> bytes | None:
    """One file of a job's artifacts; None where it left none."""
    from gitlab.exceptions import GitlabError

    def read() -> bytes | None:
        try:
            return bytes(gitlab.project.jobs.get(job, lazy=True).artifact(path))
        except GitlabError as error:
            if error.response_code == 404:
                return None
            raise

    return gitlab.insist(f"{path} of job {job}", read)


def download(gitlab: GitLab, job: int, target: Path) -> None:
    """The archive of a job's artifacts. Raises InputError where they have expired."""
    from gitlab.exceptions import GitlabError

    def read() -> bool:
        try:
            with target.open("wb") as stream:
                gitlab.project.jobs.get(job, lazy=True).artifacts(streamed=True, action=stream.write, chunk_size=2**20)
        except GitlabError as error:
            if error.response_code == 404:
                return False
            raise
        return True

    if not gitlab.insist(f"the artifacts of job {job}", read):
        raise InputError(f"job {job}: its artifacts are gone, they are kept for four weeks", hint=GONE)
