"""One router pod: the real process over the real HAProxy; its pods are processes, its API server loses words."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from infra.router_pods.maps import maps_in_files
from infra.router_pods.told import told_object
from tests.support.fake_cluster import TOKEN
from tests.support.kills import wait_until
from tests.support.router_scene import RouterScene, Stream, get, router_scene

pytestmark = pytest.mark.integration
HEAL_SECONDS = 5  # the promise


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[RouterScene]:
    with router_scene(tmp_path) as found:
        found.serve("b1", "blue")
        found.serve("b2", "blue")
        yield found


@pytest.fixture
def serving(scene: RouterScene) -> RouterScene:
    scene.begin("r")
    wait_until(lambda: scene.answering("r") == {"b1", "b2"})
    return scene


def test_it_serves_nobody_before_it_knows_where_traffic_goes_and_which_pods_there_are(scene: RouterScene) -> None:
    scene.open_router("r")
    url = f"http://{scene.addresses['r']}:8405"
    wait_until(lambda: get(f"{url}/live") == 200, 60)
    wait_until(lambda: scene.haproxy("r").is_running(), 60)
    time.sleep(1)
    assert get(f"{url}/ready") == 503
    routers = scene.routers
    routers.admin.write_map("traffic.map", {"green": "0"})
    routers.admin.write_map("releases.map", {"blue": "sha256:" + "b" * 64})
    told = told_object(scene.config, maps_in_files(routers.admin, routers.servers))
    scene.api.put("secrets", told["metadata"]["name"], told)
    wait_until(lambda: scene.is_ready("r"), 30)
    wait_until(lambda: scene.answering("r") == {"b1", "b2"})


def test_a_pod_whose_end_no_watch_told_of_gets_no_request_within_the_promised_time(serving: RouterScene) -> None:
    serving.api.delete("pods", "b1", silently=True)
    began = time.monotonic()
    wait_until(lambda: serving.answering("r") == {"b2"}, HEAL_SECONDS + 1)
    assert time.monotonic() - began < HEAL_SECONDS


def test_a_pod_that_ends_gets_no_new_request_and_what_is_open_goes_on_to_its_end(serving: RouterScene) -> None:
    streams = [Stream(f"http://{serving.addresses['r']}:8080", 40) for _ in range(8)]
    assert all(one.begun.wait(10) for one in streams)
    serving.put("b1", "blue", ending=True)
    wait_until(lambda: serving.answering("r") == {"b2"}, 2)
    assert all(one.is_whole() for one in streams)
    traffic = serving.routers.traffic()["blue"]
    assert (traffic.open, traffic.cut_by_server, traffic.failed) == (0, 0, 0) and traffic.total >= 8
    serving.api.delete("pods", "b1")
    wait_until(lambda: "b1" not in serving.answering("r"))


def test_a_pod_of_another_release_is_never_asked(serving: RouterScene) -> None:
    serving.serve("old", "blue", "sha256:" + "c" * 64)
    serving.put("b1", "blue", ready=False)
    wait_until(lambda: serving.answering("r") == {"b2"}, 3)
    serving.servers["b2"].kill()
    assert [serving.ask("r")[0] for _ in range(3)] == [503] * 3
    serving.routers.set_release("blue", "sha256:" + "c" * 64)
    wait_until(lambda: serving.answering("r", 1) == {"old"}, 3)


@pytest.mark.parametrize("mode", ["down", "hang"])
def test_without_the_api_server_traffic_goes_on_and_a_dead_pod_is_asked_no_more(
    serving: RouterScene, mode: Literal["down", "hang"]
) -> None:
    serving.api.mode = mode
    serving.servers["b1"].kill()
    wait_until(lambda: serving.ask("r") == (200, "b2"), 2)
    for _ in range(30):
        assert serving.ask("r") == (200, "b2")
        time.sleep(0.1)
    assert serving.routers.weights() == {"blue": 100, "green": 0} and serving.is_ready("r")
    wait_until(lambda: "pods stay as they were last known" in serving.words("r"), 15)
    serving.api.mode = "up"
    serving.serve("b3", "blue")
    wait_until(lambda: serving.answering("r") == {"b2", "b3"})


@pytest.mark.parametrize("killed", ["haproxy", "both"])
def test_what_dies_comes_back_as_it_was_even_while_the_api_server_is_down(serving: RouterScene, killed: str) -> None:
    serving.routers.set_weights({"blue": 100})
    serving.api.mode = "down"
    if killed == "both":
        serving.end_router("r")
        serving.start_router("r")
    else:
        os.kill(int(serving.haproxy("r").facts()["Pid"]), signal.SIGKILL)
    health = f"http://{serving.addresses['r']}:8080/health"
    wait_until(lambda: get(health) is not None, 60)
    assert serving.answering("r") == {"b1", "b2"}, "from its first answer on"
    serving.api.mode = "up"
    wait_until(lambda: serving.is_ready("r"))


def test_one_that_is_told_to_end_lets_its_streams_end_and_hands_its_counts_over(serving: RouterScene) -> None:
    streams = [Stream(f"http://{serving.addresses['r']}:8080", 80) for _ in range(6)]
    assert all(one.begun.wait(10) for one in streams)
    serving.put_router("r", ending=True)
    serving.processes["r"].send_signal(signal.SIGTERM)
    wait_until(lambda: not serving.is_ready("r"), 2)
    assert serving.ask("r")[0] == 200, "until nobody is sent here any more, it takes what comes"
    assert all(one.is_whole() for one in streams)
    assert get(f"http://{serving.addresses['r']}:8080/health") is None
    wait_until(lambda: serving.routers.traffic()["blue"].open == 0 and serving.processes["r"].poll() == 0, 20)
    serving.api.delete("pods", "r")
    traffic = serving.routers.traffic()["blue"]
    assert (traffic.open, traffic.cut_by_server) == (0, 0) and traffic.total >= 6


def test_without_a_pod_a_request_waits_for_the_first_one_and_is_counted_meanwhile(tmp_path: Path) -> None:
    facts = {"replicas": 0, "supervision": {"metrics_port": 9999}, "keep_old_slot": False}
    with router_scene(tmp_path, placed={"max_replicas": 2}, **facts) as scene:
        scene.begin("r")
        stream = Stream(f"http://{scene.addresses['r']}:8080", 3)
        wait_until(lambda: scene.routers.load() == {"blue": 1, "green": 0})
        assert scene.routers.open_streams("blue") == 0 and not stream.begun.is_set()
        scene.serve("b1", "blue")
        assert stream.is_whole() and stream.slot == "blue"
        wait_until(lambda: scene.routers.load() == {"blue": 0, "green": 0})
        assert scene.routers.unanswered() == 0


@pytest.fixture(scope="module")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RouterScene]:
    with router_scene(tmp_path_factory.mktemp("lone")) as found:
        found.open_router("r")
        wait_until(lambda: get(f"http://{found.addresses['r']}:8405/live") == 200, 60)
        wait_until(lambda: found.haproxy("r").is_running(), 60)
        yield found


@pytest.mark.parametrize(
    ("method", "path", "token", "body", "status"),
    [
        ("GET", "/live", None, None, 200),
        ("GET", "/maps", None, None, 401),
        ("GET", "/maps", "another token", None, 401),
        ("GET", "/maps", TOKEN, None, 200),
        ("GET", "/counts", TOKEN, None, 200),
        ("POST", "/maps", None, {"traffic.map": {"green": "100"}}, 401),
        ("POST", "/maps", TOKEN, ["green"], 400),
        ("POST", "/maps", TOKEN, {"traffic.map": {"green": 100}}, 400),
        ("POST", "/lost", TOKEN, [1], 400),
        ("GET", "/nowhere", TOKEN, None, 404),
    ],
)
def test_only_who_has_the_token_tells_or_reads(
    lone: RouterScene, method: str, path: str, token: str | None, body: Any, status: int
) -> None:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    url = f"http://{lone.addresses['r']}:8405{path}"
    assert httpx.request(method, url, headers=headers, json=body, timeout=5).status_code == status
    assert lone.haproxy("r").read_map("traffic.map") == {}


def test_a_body_without_end_is_not_read(lone: RouterScene) -> None:
    address = (lone.addresses["r"], 8405)
    with socket.create_connection(address, timeout=5) as client:
        client.sendall(
            f"POST /maps HTTP/1.1\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {1 << 40}\r\n\r\n{{".encode()
        )
        assert client.recv(100).startswith(b"HTTP/1.1 413")
    assert get(f"http://{lone.addresses['r']}:8405/live") == 200
