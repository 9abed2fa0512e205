"""What the GitLab of tests/support/gitlab_server.py says of pipelines, jobs and their artifacts."""

from __future__ import annotations

import io
import zipfile
from typing import Any, Protocol


class Pipelines(Protocol):
    """The part of a World that is asked for. `archives`: by job; an expired one is gone."""

    pipelines: list[dict[str, Any]]
    jobs: list[dict[str, Any]]
    archives: dict[int, bytes]


class Refused(Exception):
    def __init__(self, status: int, message: Any) -> None:
        super().__init__(message)
        self.status, self.message = status, message


def archive_with(files: dict[str, bytes]) -> bytes:
    with io.BytesIO() as stream:
        with zipfile.ZipFile(stream, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        return stream.getvalue()


def pipelines_of_request(world: Pipelines, iid: str, query: dict[str, str]) -> Any:
    return [one for one in reversed(world.pipelines) if one.get("merge_request") == int(iid)]


def bridges_of(world: Pipelines, pipeline: str, query: dict[str, str]) -> Any:
    started = [one for one in world.pipelines if one["parent"] == int(pipeline)]
    return [{"id": 1, "name": "tune", "downstream_pipeline": one} for one in started]


def jobs_of(world: Pipelines, pipeline: str, query: dict[str, str]) -> Any:
    return [job for job in reversed(world.jobs) if job["pipeline"]["id"] == int(pipeline)]


def archive_of(world: Pipelines, job: str, query: dict[str, str]) -> Any:
    if int(job) not in world.archives:
        raise Refused(404, "404 Not Found")
    return world.archives[int(job)]


def file_of(world: Pipelines, job: str, path: str, query: dict[str, str]) -> Any:
    with zipfile.ZipFile(io.BytesIO(archive_of(world, job, query))) as archive:
        if path not in archive.namelist():
            raise Refused(404, "404 Not Found")
        return archive.read(path)
