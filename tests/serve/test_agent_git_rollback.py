"""A rollback is a commit with a merge request that carries the evidence, whether the agent or a person rolled back:
over a real bare remote."""

from __future__ import annotations

import signal
import time

import pytest

from configs.release import short
from tests.support.git_remote import run_git
from tests.support.git_story import YAML, Begin, Story, begin, digest
from tests.support.kills import kill

__all__ = ["begin"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]


def break_in_bake(story: Story) -> None:
    """One serves; two is pushed, takes the traffic, and dies in its bake: whether its watch or the agent's next turn
    sees that first is as it falls."""
    story.push(story.one)
    story.agent()
    story.eventually(lambda: story.env.record.state().active, "one has the traffic")
    story.eventually(lambda: story.settled(story.one), "one serves")
    story.push(story.two)
    story.eventually(lambda: story.kinds().count("switched") == 2, "two has the traffic")
    process = story.env.process(story.env.record.state(), "green")
    assert process
    kill(process)


def merge(story: Story, branch: str) -> None:
    run_git(story.remote.person, "fetch", "-q", "origin")
    run_git(story.remote.person, "merge", "-q", "--no-ff", "--no-edit", f"origin/{branch}")
    story.remote.push()


def test_an_automatic_rollback_is_a_merge_request_with_the_evidence_and_no_later_sync_breaks_production_again(
    begin: Begin,
) -> None:
    story = begin(bake_seconds=5)
    break_in_bake(story)
    branch = f"rollback/x-{digest(story.two)[7:19]}"
    story.eventually(lambda: story.gitlab.merge_requests, "the merge request is open")
    (request,) = story.gitlab.merge_requests
    assert (request["source_branch"], request["target_branch"], request["title"]) == (
        branch,
        "main",
        f"Roll x back to {short(story.one)}",
    )
    pinned_by = run_git(story.remote.bare, "rev-parse", "main")
    for evidence in (
        "under traffic its server died",
        short(story.two),
        "| flip milliseconds |",
        "/state/receipts/",
        "switched",
        pinned_by[:12],
    ):
        assert evidence in request["description"], request["description"]
    assert story.remote.branches().keys() == {"main", branch}
    changed = run_git(story.remote.bare, "diff", "--stat", f"main..{branch}")
    assert "1 file changed, 1 insertion(+), 1 deletion(-)" in changed
    assert run_git(story.remote.bare, "show", f"{branch}:{YAML}").endswith(f"release: {story.one}  # the pin")
    message = run_git(story.remote.bare, "log", "-1", "--format=%an%n%B", branch)
    assert (
        message.startswith("tunegate bot\n")
        and "under traffic its server died" in message
        and "flip milliseconds" in message
    )
    story.eventually(lambda: story.env.record.state().git.proposed, "on record")
    story.remote.push({"README.md": "a commit that pins nothing\n"})
    story.end()
    story.agent()
    head = run_git(story.remote.bare, "rev-parse", "main")
    story.eventually(lambda: story.env.record.state().git.pulled.get("commit") == head, "the other commit is taken")
    time.sleep(1)  # some turns
    assert story.settled(story.one) and story.kinds().count("switched") == 3
    seen = story.status()["difference"]
    assert (seen["pinned"], seen["serves"], seen["merge_request"]) == (story.two, story.one, request["web_url"])
    assert "its server died" in seen["why"] and "differs" in story.run("status", "x").stdout
    story.eventually(lambda: story.env.record.state().git.reported.get("status") == "failed", "GitLab knows")
    assert story.gitlab.deployments[-1]["status"] == "failed" and story.gitlab.deployments[-1]["sha"] == pinned_by
    merge(story, branch)
    story.eventually(lambda: story.env.record.state().wanted.pinned == story.one, "the pin says what serves")
    assert story.status()["difference"] is None and story.settled(story.one) and story.kinds().count("switched") == 3
    story.eventually(lambda: story.gitlab.deployments[-1]["status"] == "success", "GitLab knows")
    assert len(story.gitlab.merge_requests) == 1


def test_killed_between_push_and_merge_request_the_next_agent_makes_the_one_and_only(begin: Begin) -> None:
    story = begin(bake_seconds=5)
    story.gitlab.fail("POST", "merge_requests$", status=500, times=1000)
    break_in_bake(story)
    branch = f"rollback/x-{digest(story.two)[7:19]}"
    story.eventually(lambda: branch in story.remote.branches(), "the commit is pushed")
    story.end(signal.SIGKILL)
    assert story.gitlab.merge_requests == [] and story.settled(story.one)
    pushed = story.remote.branches()[branch]
    story.gitlab.failures.clear()
    story.agent()
    story.eventually(lambda: story.env.record.state().git.proposed, "on record")
    assert story.remote.branches()[branch] == pushed and len(story.gitlab.merge_requests) == 1


@pytest.mark.parametrize("agent", [True, False], ids=["with an agent", "alone"])
def test_a_persons_rollback_is_the_same_commit_and_merge_request(begin: Begin, agent: bool) -> None:
    story = begin()
    for release in (story.one, story.two):
        story.push(release)
        story.agent("--once").wait()
        assert story.settled(release), story.said()
    if agent:
        story.agent()
        story.eventually(lambda: story.kinds().count("acquired") == 3, "it holds the environment")
    found = story.run("rollback", "x", "--why", "answers are cut short", "--json")
    assert found.returncode == 0, found.stderr
    story.eventually(lambda: story.gitlab.merge_requests, "the merge request is open")
    assert "answers are cut short" in story.gitlab.merge_requests[0]["description"] and story.serves(story.one)
    assert ("the agent writes the pin back" in found.stdout) == agent
    assert run_git(story.remote.clone, "status", "--porcelain") == ""
    assert "answers are cut short" in story.status()["difference"]["why"]
    story.end()
    merge(story, story.gitlab.merge_requests[0]["source_branch"])
    story.agent("--once").wait()
    assert story.status()["difference"] is None and story.serves(story.one)
