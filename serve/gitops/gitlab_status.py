"""What GitLab gets to know of a commit that pins a release: its status, the environment's deployment; and what it knows
of the commit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from configs.release import short
from serve.record.drift import reason
from serve.record.git_facts import Reported
from serve.record.state import State

if TYPE_CHECKING:
    from infra.gitlab.api import GitLab


@dataclass(frozen=True)
class Report:
    """How far the release that `commit` pins has come."""

    commit: str
    status: Literal["running", "success", "failed", "canceled"]
    description: str

    def is_in(self, reported: Reported) -> bool:
        return all(reported.get(name) == value for name, value in vars(self).items())


def report_of(state: State) -> Report | None:
    """Pure. None where no commit is known. What cannot serve, or was sent back, has failed, whatever comes after it."""
    if state.wanted.commit is None or state.wanted.pinned is None:
        return None
    serves = state.release_of(state.active)
    if serves == state.wanted.pinned == state.wanted.desired:
        is_done = state.baked or state.wanted.rollback
        waits = ", inconclusive: a person is waited for" if state.awaits_person else ""
        return Report(
            state.wanted.commit,
            "success" if is_done else "running",
            f"{short(serves)} {'serves' if is_done else f'is watched under traffic{waits}'}",
        )
    failed = (
        state.wanted.held
        or state.wanted.desired != state.wanted.pinned
        or state.refused is not None
        or state.paged is not None
    )
    held = f"; {short(serves)} serves" if serves not in (None, state.wanted.pinned) else ""
    return Report(
        state.wanted.commit,
        "failed" if failed else "running",
        f"{short(state.wanted.pinned)}: {reason(state, state.wanted.pinned)}{held}",
    )


def unreported(unsent: dict[str, Report], reported: Reported, wanted: Report) -> dict[str, Report]:
    """By commit, oldest first, the last word on each: a commit that was soon followed by another is not left as
    running. Pure."""
    left, last = unsent | {wanted.commit: wanted}, reported.get("commit")
    # An agent before this one was killed before it could report the end.
    if last not in left and reported.get("status") == "running":
        left = {str(last): Report(str(last), "canceled", f"{wanted.commit[:12]} came after it")} | left
    return {commit: one for commit, one in left.items() if not one.is_in(reported)}


def send(gitlab: GitLab, report: Report, environment: str, branch: str, url: str, before: Reported) -> Reported:
    """All of it, or it raises and all of it is sent again: GitLab's seam makes nothing twice. The commit's merge
    request is asked for once."""
    gitlab.set_status(report.commit, report.status, f"tunegate/{environment}", report.description)
    gitlab.record_deployment(environment, report.commit, branch, report.status, url)
    known = before.get("merge_request") if before.get("commit") == report.commit else None
    return {
        "commit": report.commit,
        "status": report.status,
        "description": report.description,
        "merge_request": known or gitlab.merge_request_of(report.commit),
    }
