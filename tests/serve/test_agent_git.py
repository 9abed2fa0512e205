"""Git is the truth, over a real bare remote and the real HAProxy: a commit deploys, a revert rolls back, forced or
unsigned history is refused."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.read import read_environment
from infra.haproxy.runtime_api import read_map_file
from serve.agent import Agent
from serve.deploy import deploy
from serve.gitops.follow import follow
from tests.serve.conftest import free_ports
from tests.support.git_remote import run_git
from tests.support.git_story import QUICK, YAML, Begin, Story, begin, digest
from tests.support.kills import kill

__all__ = ["begin"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(3000)]

CREATED = {"blue-created": "1795564800", "green-created": "1795564800"}  # of every release that the story publishes


def has_said(story: Story, words: str) -> bool:
    return words in story.said()


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
    told = {"commit": second, "status": "success"}  # of the first it says so, too, until it tells of this one
    story.eventually(lambda: told.items() <= story.env.record.state().git.reported.items(), "GitLab knows")
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
    requests = [event.facts["commit"] for event in story.env.record.read() if event.kind == "desired"]
    assert requests == [first, second, run_git(story.remote.bare, "rev-parse", "main")]
    story.eventually(
        lambda: len(story.gitlab.deployments) == 3 and story.gitlab.deployments[-1]["status"] == "success",
        "GitLab knows",
    )
    assert [(one["sha"], one["status"]) for one in story.gitlab.deployments] == [(sha, "success") for sha in requests]
    assert {(one["sha"], one["name"], one["status"]) for one in story.gitlab.statuses} == {
        (sha, "tunegate/x", "success") for sha in requests
    }


def test_a_killed_slot_and_maps_that_a_hand_edited_are_healed(begin: Begin) -> None:
    story = begin()
    story.push(story.one)
    story.agent()
    story.eventually(lambda: story.settled(story.one), "one serves")
    story.push(story.two)
    story.eventually(lambda: story.settled(story.two), "two serves")
    router, traffic, labels = (
        story.env.router,
        story.env.router.folder / "traffic.map",
        story.env.router.folder / "releases.map",
    )
    good = ({"green": "100"}, {"blue": digest(story.one), "green": digest(story.two)} | CREATED)

    def is_healed() -> bool:
        files, processes = (
            (map(read_map_file, (traffic, labels))),
            (router.admin.read_map(name) for name in ("traffic.map", "releases.map")),
        )
        return (
            all(
                want.items() <= found.items()
                for pair in (files, processes)
                for want, found in zip(good, pair, strict=True)
            )
            and not router.is_paused()
        )

    edits: list[Callable[[], object]] = [
        lambda: router.admin.ask(f"set map {traffic} green 0"),  # the old release gets all requests
        lambda: router.admin.ask(f"set map {traffic} green 40"),
        lambda: router.admin.ask(f"add map {traffic} paused 1"),  # the router holds every request
        lambda: router.admin.ask(
            f"set map {labels} green sha256:{'0' * 64}"
        ),  # answers bear a digest that is not theirs
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
    assert (
        f"lacks 1 commits that were taken, the newest {taken[:12]}" in seen["git"]["stays_because"]
        and seen["git"]["at"] == taken
    )
    assert (
        run_git(story.remote.clone, "rev-parse", "HEAD") == taken and story.said().count("its history was forced") == 1
    )
    run_git(story.remote.person, "reset", "-q", "--hard", taken)
    story.push(story.three, force=True)
    story.eventually(lambda: story.settled(story.three), "history that goes forward again is taken")
    assert story.status()["git"]["stays_because"] is None


def test_only_what_a_listed_key_signed_is_deployed_and_prometheus_sees_that_the_branch_stays(begin: Begin) -> None:
    (port,) = free_ports(1)
    story = begin(supervision=QUICK | {"metrics_port": port})

    def says(*lines: str) -> bool:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5).text
        return {f"tunegate_git_{line}" for line in lines} <= set(text.splitlines())

    ada, eve = story.remote.key("ada", listed=True), story.remote.key("eve")
    story.agent("--signers", str(story.remote.signers))
    story.push(story.one, ada)
    story.eventually(lambda: story.settled(story.one), "one serves")
    for key in (None, eve):
        bad = story.push(story.two, key)
        story.eventually(partial(has_said, story, f"{bad[:12]} by Ada"), "refused")
        assert story.settled(story.one) and bad[:12] in story.status()["git"]["stays_because"]
        story.eventually(lambda: says("stays 1.0", "commits_behind 1.0"), "Prometheus sees it")
        story.remote.rewind(1)
        story.remote.push(force=True)
    story.push(story.three, ada)
    story.eventually(lambda: story.settled(story.three), "three serves")
    story.eventually(lambda: says("stays 0.0", "commits_behind 0.0"), "Prometheus sees it")
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
    assert story.said().count("changed by hand: configs") == 1 and story.two not in [
        event.facts.get("release") for event in story.env.record.read()
    ]


def test_a_hand_that_is_quicker_than_a_turn_is_seen_before_what_it_wrote_is_taken_up(begin: Begin) -> None:
    """It writes after the branch was pulled and found clean, before the YAML is read."""
    story = begin()
    story.push(story.one)
    story.agent("--once").wait()
    path = story.remote.clone / YAML

    def changed_at_this_moment() -> DeployConfig:
        path.write_text(story.yaml(story.two))
        return read_environment("x")

    env = replace(story.env, config=read_environment("x"))
    Agent(env, changed_at_this_moment, follow("origin/main", path, None, 0.5)).run(0.5, once=True)
    assert story.settled(story.one) and story.two not in [
        event.facts.get("release") for event in story.env.record.read()
    ]
