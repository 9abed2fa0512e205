"""Several routers as one: all are told, all confirm, and what became of every stream is summed, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from configs.errors import ExternalError, InputError
from infra.boot import now
from infra.router_pods.calls import LISTINGS, cluster_of
from infra.router_pods.tell import tell_each
from infra.router_pods.told import read_told
from tests.support.kills import wait_until
from tests.support.router_scene import DIGESTS, RouterScene, Stream, get, router_scene

pytestmark = pytest.mark.integration
FLIP_MILLISECONDS = 500  # the promise


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[RouterScene]:
    with router_scene(tmp_path) as found:
        for name in ("b1", "b2"):
            found.serve(name, "blue")
        found.serve("g1", "green")
        found.begin("r1", "r2")
        wait_until(lambda: all(found.answering(router) == {"b1", "b2"} for router in ("r1", "r2")))
        yield found


def streams_through(scene: RouterScene, parts: int, each: int = 6) -> list[Stream]:
    found = [Stream(f"http://{scene.addresses[router]}:8080", parts) for router in ("r1", "r2") for _ in range(each)]
    assert all(one.begun.wait(20) for one in found)
    return found


def test_a_switch_under_streams_cuts_none_and_every_router_says_how_long_it_took(scene: RouterScene) -> None:
    streams = streams_through(scene, 40)
    before = scene.routers.traffic()
    assert before["blue"].open == len(streams)
    spent = scene.routers.switch("green")
    assert spent.keys() == {"r1", "r2"} and max(spent.values()) < FLIP_MILLISECONDS
    assert scene.answering("r1") == scene.answering("r2") == {"g1"} and scene.routers.active() == "green"
    later = streams_through(scene, 1)
    assert {one.slot for one in streams} == {"blue"} and {one.slot for one in later} == {"green"}
    assert all(one.is_whole() for one in [*streams, *later])
    wait_until(lambda: scene.routers.open_streams("blue") == 0)
    after = scene.routers.traffic()
    assert (after["blue"].cut_by_server, after["blue"].failed, after["green"].failed) == (0, 0, 0)
    assert after["green"].total >= len(later) and after["blue"].total == before["blue"].total
    assert scene.routers.unanswered() == 0


def test_a_killed_router_takes_its_streams_alone_and_its_counts_stay(scene: RouterScene) -> None:
    streams = streams_through(scene, 50, each=4)
    before = scene.routers.traffic()["blue"]
    scene.end_router("r1")
    scene.api.delete("pods", "r1")
    wait_until(lambda: [pod.name for pod in scene.routers.pods(fresh=True)] == ["r2"])
    assert scene.routers.switch("green").keys() == {"r2"}
    assert [one.is_whole() for one in streams] == [False] * 4 + [True] * 4
    after = scene.routers.traffic()["blue"]
    assert (after.total, after.open, after.cut_by_server) == (before.total, 0, 4)


def test_one_that_is_ready_and_silent_is_told_again_until_it_answers_or_is_not_ready(scene: RouterScene) -> None:
    os.kill(scene.processes["r1"].pid, signal.SIGSTOP)
    switched = threading.Thread(target=scene.routers.switch, args=("green",))
    switched.start()
    wait_until(lambda: scene.ask("r2")[1] == "g1")
    time.sleep(1)
    assert switched.is_alive(), "not every router has confirmed"
    os.kill(scene.processes["r1"].pid, signal.SIGCONT)
    switched.join(20)
    assert not switched.is_alive() and scene.ask("r1")[1] == "g1"

    os.kill(scene.processes["r1"].pid, signal.SIGSTOP)
    with pytest.raises(ExternalError, match=r"router r1 .* does not answer"):
        tell_each(scene.routers.pods, {"traffic.map": {"green": "0"}}, 1.0)
    scene.put_router("r1", ready=False)
    assert tell_each(scene.routers.pods, {"traffic.map": {"green": "0"}}, 1.0).keys() == {"r2"}
    os.kill(scene.processes["r1"].pid, signal.SIGCONT)


def test_a_router_that_comes_later_knows_what_all_were_told_before_it_serves(scene: RouterScene) -> None:
    routers = scene.routers
    routers.switch("green")
    routers.set_standbys({"green", "blue"})
    scene.open_router("r3")
    scene.follow("r3")
    assert scene.answering("r3") == {"g1"} and routers.differing() == []
    assert len(routers.base_urls) == 3 and routers.weights() == {"blue": 0, "green": 100}
    scene.servers["g1"].kill()
    wait_until(lambda: scene.answering("r3") == {"b1", "b2"})


def test_one_that_says_something_else_is_named_and_put_right_with_what_new_ones_are_told(scene: RouterScene) -> None:
    routers = scene.routers
    scene.haproxy("r2").set_entries("traffic.map", {"green": "50"})
    assert routers.weights() == {"blue": 50, "green": 50} and routers.differing() == ["r2"]
    releases = {"blue": DIGESTS["blue"], "blue-created": "0"}
    wanted = {"traffic.map": {"green": "0", "paused": "0"}, "releases.map": releases, "servers.map": {"blue": "8000|"}}
    assert routers.self_heal(wanted) == ["releases.map", "traffic.map"] and routers.self_heal(wanted) == []
    assert routers.weights() == {"blue": 100, "green": 0} and routers.differing() == []
    told = read_told(cluster_of(scene.config), scene.config)
    assert told is not None and told["releases.map"] == releases and told["keys.map"]


def test_a_pause_holds_new_requests_in_every_router(scene: RouterScene) -> None:
    scene.routers.pause()
    assert scene.routers.is_paused() and [scene.ask(router)[0] for router in ("r1", "r2")] == [503, 503]
    held = [Stream(f"http://{scene.addresses[router]}:8080", 1) for router in ("r1", "r2")]
    time.sleep(0.5)
    assert not any(one.begun.is_set() for one in held)
    scene.routers.resume()
    assert all(one.is_whole() for one in held) and not scene.routers.is_paused()


def test_lost_requests_of_all_routers_are_named(scene: RouterScene) -> None:
    began = now()
    for pod in ("b1", "b2"):
        scene.servers[pod].kill()
    assert [scene.ask(router)[0] for router in ("r1", "r2")] == [503, 503]
    broken = streams_through(scene, 1, each=1)
    assert {one.slot for one in broken} == {"503"}
    wait_until(lambda: len(scene.routers.lost(began, now())["named"]) == 2)
    assert scene.routers.unanswered() >= 2


def test_shares_that_are_none_are_refused_before_any_router_hears_of_them(scene: RouterScene) -> None:
    with pytest.raises(InputError, match="percents of blue and green"):
        scene.routers.set_weights({"blue": 90, "green": 20})
    assert scene.routers.weights() == {"blue": 100, "green": 0}


def test_without_the_api_server_a_new_process_of_the_agent_still_reaches_every_router(scene: RouterScene) -> None:
    scene.api.mode = "down"
    LISTINGS.clear()  # as a process has it that starts now
    assert scene.routers.switch("green").keys() == {"r1", "r2"} and scene.routers.active() == "green"
    assert scene.answering("r1") == scene.answering("r2") == {"g1"}


def test_a_stop_lets_streams_end_and_nothing_new_is_taken(scene: RouterScene) -> None:
    streams = streams_through(scene, 20, each=2)
    scene.routers.stop(10)
    assert all(one.is_whole() for one in streams)
    assert get(f"http://{scene.addresses['r1']}:8080/health") == 503
