"""Git is the truth: a real bare remote, the real agent in its clone, the real HAProxy. A commit deploys, a revert rolls back, a hand's change is undone,
history that was forced or is not signed is refused, and a rollback is a commit with a merge request that carries the evidence."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.admin import read_map_file
from serve.deploy import deploy
from serve.state import short
from tests.git_remote import run_git
from tests.infra.gitlab_server import gitlab_server
from tests.serve.git_story import YAML, Story, digest
from tests.serve.kills import kill

pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]
Begin = Callable[..., Story]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """begin(key=value, …) tells a new story with those settings of the environment."""
    before, variables, stories = Path.cwd(), dict(os.environ), list[Story]()
    with gitlab_server() as gitlab:

        def build(**facts: Any) -> Story:
            stories.append(Story(tmp_path, gitlab, facts).begin())
            return stories[-1]

        yield build
        for story in stories:
            story.close()
    os.chdir(before)
    os.environ.clear()
    os.environ.update(variables)


def test_a_pin_that_is_pushed_serves_and_its_revert_rolls_back_to_the_warm_release(begin: Begin) -> None:
    story = begin()
    first = story.push(story.one)
    story.agent()
    story.eventually(lambda: story.settled(story.one), "one serves")
    second = story.push(story.two)
    story.gitlab.add_merge_request(state="merged")
    story.gitlab.of_commit[second] = [1]
    story.eventually(lambda: story.settled(story.two), "two serves")
    assert story.kinds().count("switched") == 2
    story.eventually(lambda: story.env.record.state().reported.get("status") == "success", "GitLab knows")
    seen = story.status()
    assert seen["difference"] is None and seen["git"]["follows"] == "origin/main"
    assert (seen["git"]["commit"], seen["git"]["author"]) == (second, "Ada <ada@localhost>")
    assert (seen["git"]["merge_request"]["iid"], seen["git"]["merge_request"]["author"]) == (1, "thedude")
    assert f"{second[:12]} by Ada <ada@localhost>, !1" in story.run("status", "x").stdout
    started = story.kinds().count("starting")
    run_git(story.remote.person, "revert", "--no-edit", "HEAD")
    story.remote.push()
    story.eventually(lambda: story.settled(story.one), "one serves again")
    assert story.kinds().count("starting") == started
    wishes = [event.facts["commit"] for event in story.env.record.read() if event.kind == "desired"]
    assert wishes == [first, second, run_git(story.remote.bare, "rev-parse", "main")]
    story.eventually(lambda: len(story.gitlab.deployments) == 3 and story.gitlab.deployments[-1]["status"] == "success", "GitLab knows")
    assert [(one["sha"], one["status"]) for one in story.gitlab.deployments] == [(sha, "success") for sha in wishes]
    assert {(one["sha"], one["name"], one["status"]) for one in story.gitlab.statuses} == {(sha, "tunegate/x", "success") for sha in wishes}


def test_a_killed_slot_and_maps_that_a_hand_edited_are_healed(begin: Begin) -> None:
    story = begin()
    story.push(story.one)
    story.agent()
    story.eventually(lambda: story.settled(story.one), "one serves")
    story.push(story.two)
    story.eventually(lambda: story.settled(story.two), "two serves")
    router, traffic, labels = story.env.router, story.env.router.folder / "traffic.map", story.env.router.folder / "releases.map"
    good = ({"green": "100"}, {"blue": digest(story.one), "green": digest(story.two)})

    def is_healed() -> bool:
        files, processes = (map(read_map_file, (traffic, labels))), (router.admin.read_map(name) for name in ("traffic.map", "releases.map"))
        return all(want.items() <= found.items() for pair in (files, processes) for want, found in zip(good, pair, strict=True)) and not router.is_paused()

    edits: list[Callable[[], object]] = [
        lambda: router.admin.ask(f"set map {traffic} green 0"),  # the old release gets all requests
        lambda: router.admin.ask(f"set map {traffic} green 40"),
        lambda: router.admin.ask(f"add map {traffic} paused 1"),  # the door holds every request
        lambda: router.admin.ask(f"set map {labels} green sha256:{'0' * 64}"),  # answers bear a digest that is not theirs
        lambda: router.admin.ask(f"clear map {labels}"),
        lambda: traffic.write_text("green 0\n"),  # read by the next HAProxy
        lambda: labels.unlink(),
    ]
    for edit in edits:
        story.eventually(is_healed, "healed before the next edit")
        edit()
        assert not is_healed() or story.env.record.state().active  # the agent may have been quicker than this line
        story.eventually(is_healed, "healed")
        story.eventually(lambda: story.serves(story.two), "two answers")
    process = story.env.process(story.env.record.state(), "green")
    assert process
    kill(process)
    story.eventually(lambda: "crashed" in story.kinds(), "the death is on record")
    story.eventually(lambda: story.settled(story.two), "two serves again")


def test_what_another_command_put_in_the_pins_place_is_put_right(begin: Begin) -> None:
    """Wrong release running: somebody deployed past the branch, from a file of their own."""
    story = begin()
    story.push(story.one)
    story.agent("--once").wait()
    assert story.settled(story.one) and story.gitlab.deployments[-1]["status"] == "success", story.said()
    refused = story.run("deploy", "x", "two")
    assert refused.returncode == 1 and "x follows origin/main: a release is pinned by a commit there" in refused.stderr
    deploy(story.env, story.two)
    assert story.serves(story.two)
    assert story.status()["difference"]["why"] == "this pin was not taken up yet"
    story.agent()
    story.eventually(lambda: story.settled(story.one), "one serves again")


def test_forced_history_is_refused_once_and_what_serves_is_still_watched_over(begin: Begin) -> None:
    story = begin()
    story.push(story.one)
    taken = story.push(story.two)
    story.agent()
    story.eventually(lambda: story.settled(story.two), "two serves")
    story.remote.rewind(1)
    story.push(story.three, force=True)
    story.eventually(lambda: "its history was forced" in story.said(), "refused")
    process = story.env.process(story.env.record.state(), "blue")
    assert process
    kill(process)
    story.eventually(lambda: "crashed" in story.kinds() and story.settled(story.two), "two serves again")
    seen = story.status()
    assert f"lacks 1 commits that were taken, the newest {taken[:12]}" in seen["git"]["stays_because"] and seen["git"]["at"] == taken
    assert run_git(story.remote.clone, "rev-parse", "HEAD") == taken and story.said().count("its history was forced") == 1
    run_git(story.remote.person, "reset", "-q", "--hard", taken)
    story.push(story.three, force=True)
    story.eventually(lambda: story.settled(story.three), "history that goes forward again is taken")
    assert story.status()["git"]["stays_because"] is None


def test_only_what_a_listed_key_signed_is_deployed(begin: Begin) -> None:
    story = begin()
    ada, eve = story.remote.key("ada", listed=True), story.remote.key("eve")
    story.agent("--signers", str(story.remote.signers))
    story.push(story.one, ada)
    story.eventually(lambda: story.settled(story.one), "one serves")
    for key in (None, eve):
        bad = story.push(story.two, key)
        story.eventually(lambda bad=bad: f"{bad[:12]} by Ada" in story.said(), "refused")
        assert story.settled(story.one) and bad[:12] in story.status()["git"]["stays_because"]
        story.remote.rewind(1)
        story.remote.push(force=True)
    story.push(story.three, ada)
    story.eventually(lambda: story.settled(story.three), "three serves")
    assert story.two not in [event.facts.get("release") for event in story.env.record.read()]


def test_of_two_agents_one_acts_and_its_heir_goes_on_when_it_is_gone(begin: Begin) -> None:
    story = begin()
    first = story.agent()
    story.eventually(lambda: "acquired" in story.kinds(), "the first holds the environment")
    second = story.agent()
    assert second.wait(60) == 2 and "another command is changing x" in story.said()
    story.push(story.one)
    story.eventually(lambda: story.settled(story.one), "one serves")
    assert story.kinds().count("acquired") == 1 and first.poll() is None
    story.end(signal.SIGKILL)
    story.agent()
    story.push(story.two)
    story.eventually(lambda: story.settled(story.two), "two serves")


def test_a_remote_or_a_gitlab_that_is_gone_stops_nobody(begin: Begin) -> None:
    story = begin()
    story.gitlab.fail("POST", "statuses", status=503, times=1000)
    story.push(story.one)
    story.agent()
    story.eventually(lambda: story.settled(story.one), "one serves")
    away = story.remote.bare.rename(story.remote.folder / "away.git")
    story.eventually(lambda: "git fetch: " in story.said(), "the remote is missed")
    process = story.env.process(story.env.record.state(), "blue")
    assert process
    kill(process)
    story.eventually(lambda: "crashed" in story.kinds() and story.settled(story.one), "one serves again")
    assert story.said().count("error: git fetch: ") == 1 and "git fetch: " in story.status()["git"]["stays_because"]
    away.rename(story.remote.bare)
    story.push(story.two)
    story.eventually(lambda: story.settled(story.two), "two serves")
    story.gitlab.failures.clear()
    story.eventually(lambda: story.gitlab.deployments, "GitLab is told in the end")


def test_a_yaml_that_a_hand_changed_in_the_clone_is_nobodys_wish(begin: Begin) -> None:
    story = begin()
    story.push(story.one)
    story.agent()
    story.eventually(lambda: story.settled(story.one), "one serves")
    path = story.remote.clone / YAML
    path.write_text(story.yaml(story.two))
    story.eventually(lambda: f"changed by hand: {YAML}" in story.said(), "refused")
    story.push(story.three)
    assert story.status()["git"]["stays_because"] and story.settled(story.one)
    run_git(story.remote.clone, "checkout", "--", YAML)
    story.eventually(lambda: story.settled(story.three), "three serves")
    assert story.said().count("changed by hand: configs") == 1 and story.two not in [event.facts.get("release") for event in story.env.record.read()]


def break_in_bake(story: Story) -> None:
    """One serves; two is pushed, takes the traffic, and dies in its bake."""
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


def test_an_automatic_rollback_is_a_merge_request_with_the_evidence_and_no_later_sync_breaks_production_again(begin: Begin) -> None:
    story = begin(bake_seconds=5)
    break_in_bake(story)
    branch = f"rollback/x-{digest(story.two)[7:19]}"
    story.eventually(lambda: story.gitlab.merge_requests, "the merge request is open")
    (request,) = story.gitlab.merge_requests
    assert (request["source_branch"], request["target_branch"], request["title"]) == (branch, "main", f"Roll x back to {short(story.one)}")
    pinned_by = run_git(story.remote.bare, "rev-parse", "main")
    for evidence in ("under traffic its server died", short(story.two), "| flip milliseconds |", "| breach |", "/state/receipts/", "switched", pinned_by[:12]):
        assert evidence in request["description"], request["description"]
    assert story.remote.branches().keys() == {"main", branch}
    changed = run_git(story.remote.bare, "diff", "--stat", f"main..{branch}")
    assert "1 file changed, 1 insertion(+), 1 deletion(-)" in changed
    assert run_git(story.remote.bare, "show", f"{branch}:{YAML}").endswith(f"release: {story.one}  # the pin")
    message = run_git(story.remote.bare, "log", "-1", "--format=%an%n%B", branch)
    assert message.startswith("tunegate bot\n") and "under traffic its server died" in message and "flip milliseconds" in message
    story.eventually(lambda: story.env.record.state().proposed, "on record")
    story.remote.push({"README.md": "a commit that pins nothing\n"})
    story.end()
    story.agent()
    head = run_git(story.remote.bare, "rev-parse", "main")
    story.eventually(lambda: story.env.record.state().pulled.get("commit") == head, "the other commit is taken")
    time.sleep(1)  # some turns
    assert story.settled(story.one) and story.kinds().count("switched") == 3
    seen = story.status()["difference"]
    assert (seen["pinned"], seen["serves"], seen["merge_request"]) == (story.two, story.one, request["web_url"])
    assert "its server died" in seen["why"] and "differs" in story.run("status", "x").stdout
    story.eventually(lambda: story.env.record.state().reported.get("status") == "failed", "GitLab knows")
    assert story.gitlab.deployments[-1]["status"] == "failed" and story.gitlab.deployments[-1]["sha"] == pinned_by
    merge(story, branch)
    story.eventually(lambda: story.env.record.state().pinned == story.one, "the pin says what serves")
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
    story.eventually(lambda: story.env.record.state().proposed, "on record")
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
