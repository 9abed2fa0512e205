"""What GitLab is told of a commit: running until the release serves and is baked, failed for what cannot, and no commit
is left as running."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve.gitops.gitlab_status import Report, report_of, send, unreported
from serve.record.event import Event
from serve.record.fold import fold
from serve.record.git_facts import Reported
from serve.record.state import State
from tests.serve.record.test_drift_reasons import BACK, BROKEN, GOOD, event
from tests.support.planner_world import NEW, OLD

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("events", "commit", "status", "words"),
    [
        (GOOD, "c1", "success", "serves"),
        (GOOD[:-1], "c1", "running", "is watched under traffic"),
        (
            [*GOOD[:-1], event("inconclusive", "green", why="few", then="pause")],
            "c1",
            "running",
            "a person is waited for",
        ),
        ([*GOOD, event("desired", release=NEW, commit="c2")], "c2", "running", "under way; "),
        (
            [*GOOD, event("desired", release=NEW, commit="c2"), event("refused", why="parity is bad")],
            "c2",
            "failed",
            "parity is bad; ",
        ),
        ([*GOOD, event("failed", release=NEW, why="no verdict", commit="c2")], "c2", "failed", "no verdict"),
        (BROKEN, "c2", "failed", "12 requests failed"),
        (BACK, "c2", "failed", "12 requests failed"),
        ([*BACK, event("desired", release=OLD, rollback=True, pinned=True, commit="c3")], "c3", "success", "serves"),
    ],
)
def test_a_commit_is_told_of_as_far_as_its_release_has_come(
    events: list[Event], commit: str, status: str, words: str
) -> None:
    found = report_of(fold(events))
    assert found and (found.commit, found.status) == (commit, status) and words in found.description, found


def test_without_a_commit_there_is_nothing_to_tell() -> None:
    assert report_of(State()) is None and report_of(fold([event("desired", release=OLD)])) is None


def test_a_commit_that_was_soon_followed_gets_its_last_word_first() -> None:
    one, two = Report("c1", "success", "serves"), Report("c2", "running", "under way")
    assert list(unreported({"c1": one}, {"commit": "c1", "status": "running", "description": "x"}, two).values()) == [
        one,
        two,
    ]
    assert list(unreported({"c1": one}, reported_as(one), two).values()) == [two]
    left = unreported({}, {"commit": "c1", "status": "running", "description": "x"}, two)
    assert [(one.commit, one.status) for one in left.values()] == [("c1", "canceled"), ("c2", "running")]


def reported_as(report: Report) -> Reported:
    return {"commit": report.commit, "status": report.status, "description": report.description}


REPORTS = st.builds(
    Report, st.sampled_from(["c1", "c2", "c3"]), st.sampled_from(["running", "success", "failed"]), st.just("words")
)


@given(wanted=st.lists(REPORTS, min_size=1, max_size=12), busy=st.lists(st.booleans(), min_size=12, max_size=12))
def test_in_the_end_gitlab_knows_the_last_word_and_nothing_else_is_running(
    wanted: list[Report], busy: list[bool]
) -> None:
    """While a task is under way (`busy`) nothing is told; what is told goes into the record."""
    unsent: dict[str, Report] = {}
    reported: Reported = {}
    known: dict[str, str] = {}
    for one, is_busy in [*zip(wanted, busy, strict=False), *[(wanted[-1], False)] * 4]:
        unsent = unreported(unsent, reported, one)
        if unsent and not is_busy:
            first = next(iter(unsent.values()))
            reported, known[first.commit] = reported_as(first), first.status
    assert known[wanted[-1].commit] == wanted[-1].status
    last = {one.commit: one.status for one in wanted}
    assert [commit for commit, status in known.items() if status == "running" and last[commit] != "running"] == []


class Gitlab:
    """Its calls; the merge request of a commit is number 3."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def set_status(self, *facts: Any) -> None:
        self.calls.append(("status", *facts))

    def record_deployment(self, *facts: Any) -> None:
        self.calls.append(("deployment", *facts))

    def merge_request_of(self, sha: str) -> dict[str, Any]:
        self.calls.append(("merge request", sha))
        return {"iid": 3, "url": "u", "author": "ada"}


def test_status_deployment_and_merge_request_are_one_report_and_the_merge_request_is_asked_for_once() -> None:
    gitlab: Any = Gitlab()
    report = Report("c1", "running", "under way")
    found = send(gitlab, report, "x", "main", "http://router", {})
    assert gitlab.calls == [
        ("status", "c1", "running", "tunegate/x", "under way"),
        ("deployment", "x", "c1", "main", "running", "http://router"),
        ("merge request", "c1"),
    ]
    assert report.is_in(found) and found["merge_request"]["iid"] == 3
    assert (
        send(gitlab, Report("c1", "success", "serves"), "x", "main", "http://router", found)["merge_request"]["iid"]
        == 3
    )  # type: ignore[arg-type]
    assert [call[0] for call in gitlab.calls].count("merge request") == 1
