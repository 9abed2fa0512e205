"""What a reviewer sees of a merge request's pipeline, written by a job that may write: notes and a status.

The merge request's own jobs have no token for it, so that its code never meets one. Their artifacts are text by
anybody: nothing in it is obeyed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from configs.errors import ExternalError
from configs.paths import RunPaths
from infra.gitlab.api import GitLab
from infra.gitlab.pin import PINNED, git
from infra.gitlab.pipelines import Request, artifact, child_jobs, open_requests

# GitLab carries out a line that begins so, /approve and /merge among them, by the rights of who wrote it.
QUICK_ACTION = re.compile(r"(?m)^(\s*)/(?=\w)")


def report_all(gitlab: GitLab) -> list[str]:
    """One line for each note and status that stands."""
    done = []
    for request in open_requests(gitlab):
        for name, job in sorted(child_jobs(gitlab, request.pipeline, "evaluate").items()):
            report = artifact(gitlab, job, (RunPaths.of(name).gate / "report.md").as_posix())
            if report is not None:
                put_report(gitlab, request, name, report.decode("utf8", "replace"))
                done.append(f"!{request.iid}: the note of {name} stands")
        if request.status == "success" and request.head != request.sha and only_pins(request):
            gitlab.set_status(
                request.head, "success", "tunegate", "judged and pinned by the pipeline before", request.url
            )
            done.append(f"!{request.iid}: {request.head[:12]} is pinned, its pipeline passed")
    return done


def put_report(gitlab: GitLab, request: Request, name: str, report: str) -> None:
    facts = f"`{name}` · commit {request.sha[:12]} · [pipeline]({request.url})"
    text = QUICK_ACTION.sub(r"\1&#47;", report)
    gitlab.put_note(request.iid, f"gate {name}", f"{text}\n\n{facts}\n")


def only_pins(request: Request) -> bool:
    """Whether the branch's head is what the pipeline ran on and pins; as git says, for GitLab cuts long comparisons."""
    here = Path.cwd()
    try:
        remote = f"{project}.git" if (project := os.environ.get("CI_PROJECT_URL")) else "origin"
        reference = f"refs/tunegate/merge-requests/{request.iid}"
        git(
            here,
            "fetch",
            "--quiet",
            "--no-tags",
            remote,
            f"+refs/merge-requests/{request.iid}/head:{reference}",
            secret=True,
        )
        changed = git(here, "diff", "--name-only", "--no-renames", "-z", request.sha, request.head).split("\0")
    except ExternalError:  # a commit that is not on the branch: a merged result
        return False
    return all(PINNED.fullmatch(path) for path in changed if path)
