"""HAProxy by itself, with every agent dead: a server that dies is replaced by the standby at the next request, and each
answer says the truth about who gave it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from configs.environment.config import DeployConfig
from configs.environment.slots import Slots
from configs.errors import ExternalError
from infra.boot import Moment, now
from infra.haproxy.router import Router
from tests.serve.conftest import free_ports

pytestmark = pytest.mark.integration
DIGESTS = {"blue": "sha256:" + "b" * 64, "green": "sha256:" + "a" * 64}
# One model server, a process that can be killed. GET: it says who it is; POST: a stream of five seconds.
SERVER = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", str(len(sys.argv[2])))
        self.end_headers()
        self.wfile.write(sys.argv[2].encode())
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for number in range(50):
            self.wfile.write(b"1\\r\\n.\\r\\n")
            time.sleep(0.1)
        self.wfile.write(b"0\\r\\n\\r\\n")
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    def handle_error(self, *args):
        pass
    request_queue_size = 256
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Scene:
    """Blue serves; `servers` can be killed and started again on any port."""

    def __init__(self, **facts: Any) -> None:
        router, blue, green = free_ports(3)
        self.ports = {"blue": blue, "green": green}
        self.config = DeployConfig.model_validate(
            {"name": "x", "model": "m", "gate": None, "router": {"port": router}, "slot_ports": (blue, green)}
            | {"state_dir": "state"}
            | facts
        )
        self.router = Router(self.config)
        self.servers: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, port: int | None = None) -> None:
        port = port or self.ports[name]
        self.servers[name] = subprocess.Popen([sys.executable, "-c", SERVER, str(port), name])
        wait_until(lambda: answers(port))

    def kill(self, name: str) -> None:
        self.servers[name].kill()
        self.servers[name].wait()

    def ask(self) -> tuple[int, str, str | None, str | None]:
        reply = httpx.get(f"{self.router.base_url}/health", timeout=10)
        headers = reply.headers
        return reply.status_code, reply.text, headers.get("x-tunegate-slot"), headers.get("x-tunegate-release")


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/", timeout=1).status_code == 200
    except httpx.HTTPError:
        return False


def wait_until(condition: Any, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.02)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    found = Scene()
    for name in ("blue", "green"):
        found.start(name)
    found.router.start("sesame")
    for slot, digest in DIGESTS.items():
        found.router.set_release(slot, digest)  # type: ignore[arg-type]  # one of the two slots
    found.router.switch("blue")
    yield found
    found.router.stop(0)
    for server in found.servers.values():
        server.kill()
        server.wait()


def test_the_standby_answers_the_very_next_request_and_says_that_it_is_the_one(scene: Scene) -> None:
    scene.router.set_standbys({"blue", "green"})
    assert scene.ask() == (200, "blue", "blue", DIGESTS["blue"])
    scene.kill("blue")
    began = time.monotonic()
    assert [scene.ask() for _ in range(5)] == [(200, "green", "green", DIGESTS["green"])] * 5
    assert time.monotonic() - began < 1 + 5 * 0.2, "the second try comes in a quarter of a second"
    traffic = scene.router.traffic()
    assert (traffic["blue"].total, traffic["green"].total) == (1, 5) and traffic["green"].failed == 0
    scene.start("blue")
    wait_until(lambda: scene.ask()[1] == "blue")
    lines = [json.loads(line) for line in (scene.router.folder / "access.jsonl").read_text().splitlines()]
    assert all(line["slot"] == "green" and line["release"] == DIGESTS["green"] for line in lines)


@pytest.mark.parametrize("standbys", [set(), {"blue"}], ids=["none", "only itself"])
def test_what_is_no_standby_answers_nobody(scene: Scene, standbys: set[Any]) -> None:
    scene.router.set_standbys(standbys)
    scene.kill("blue")
    began = time.monotonic()
    before = scene.router.unanswered()
    assert [scene.ask()[0] for _ in range(5)] == [503] * 5 and time.monotonic() - began < 5
    assert scene.router.unanswered() - before == 5, "nobody's, and so on no slot's account"
    scene.start("blue")
    wait_until(lambda: scene.ask()[0] == 200, 2)
    assert scene.ask()[1] == "blue"


def test_streams_of_the_dead_server_are_lost_and_those_of_its_standby_end_whole(scene: Scene) -> None:
    scene.router.set_standbys({"blue", "green"})
    scene.router.set_weights({"blue": 50, "green": 50})
    begun: list[str] = []
    found: dict[str, list[bool]] = {"blue": [], "green": []}
    lost: set[str] = set()
    began = now()

    def stream(user: int) -> None:
        headers = {
            "Authorization": "Bearer sesame",
            "x-tunegate-sticky": f"user {user}",
            "x-request-id": f"stream-{user}",
        }
        slot, length = "", 0
        try:
            with (
                httpx.Client(timeout=20, verify=False) as client,
                client.stream(
                    "POST", f"{scene.router.base_url}/v1/chat/completions", content=b"{}", headers=headers
                ) as reply,
            ):
                slot = reply.headers["x-tunegate-slot"]
                begun.append(slot)
                for part in reply.iter_bytes():
                    length += len(part)
        except httpx.HTTPError:
            length = -1
        found[slot].append(length == 50)
        if length != 50:
            lost.add(f"stream-{user}")

    threads = [threading.Thread(target=stream, args=(user,)) for user in range(64)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(begun) == 64)
    scene.kill("blue")
    for thread in threads:
        thread.join()
    assert sum(map(len, found.values())) == 64 and found["blue"] and len(found["green"]) > 10
    assert not any(found["blue"]) and all(found["green"])
    assert scene.router.traffic()["blue"].cut_by_server == len(found["blue"]) == len(lost)
    wait_until(lambda: len(scene.router.lost(began, now())["named"]) >= len(lost))
    named = scene.router.lost(began, now())
    assert {one["request_id"] for one in named["named"]} == lost and named["more"] == 0
    assert {(one["slot"], one["server"], one["key"]) for one in named["named"]} == {("blue", "blue", "default")}


def test_the_load_of_a_slot_is_what_it_answers_now(scene: Scene) -> None:
    assert scene.router.load() == {"blue": 0, "green": 0}
    headers = {"Authorization": "Bearer sesame"}
    url = f"{scene.router.base_url}/v1/chat/completions"
    with httpx.stream("POST", url, content=b"{}", headers=headers, timeout=20):
        assert scene.router.load() == {"blue": 1, "green": 0}
    wait_until(lambda: scene.router.load() == {"blue": 0, "green": 0}, 20)


def test_a_request_that_nobody_could_answer_is_named_and_one_that_was_refused_for_its_own_sake_is_not(
    scene: Scene,
) -> None:
    scene.router.set_standbys(set())
    began, url = now(), f"{scene.router.base_url}/v1/models"
    assert httpx.get(url).status_code == 401
    scene.kill("blue")
    headers = {"Authorization": "Bearer sesame", "x-request-id": "nobody"}
    assert httpx.get(url, headers=headers, timeout=10).status_code == 503
    wait_until(lambda: scene.router.lost(began, now())["named"])
    (one,) = scene.router.lost(began, now())["named"]
    assert (one["request_id"], one["status"], one["slot"]) == ("nobody", 503, "blue")
    assert scene.router.lost(Moment(0, began.boot, 0), began) == {"named": [], "more": 0}


def test_a_server_that_moved_is_found_by_its_own_slot_and_by_the_other(scene: Scene) -> None:
    (port,) = free_ports(1)
    scene.router.set_standbys({"green"})
    scene.kill("green")
    scene.start("green", port)
    scene.router.set_server("green", port)
    scene.router.servers.mark_up("green")
    scene.kill("blue")
    wait_until(lambda: scene.ask()[1] == "green", 2)
    scene.router.switch("green")
    assert scene.ask() == (200, "green", "green", DIGESTS["green"])


@pytest.mark.parametrize("how", ["killed", "reloaded"])
def test_a_router_that_starts_again_knows_ports_and_standbys_from_its_first_request_on(scene: Scene, how: str) -> None:
    (port,) = free_ports(1)
    scene.kill("green")
    scene.start("green", port)
    scene.router.set_server("green", port)
    scene.router.set_standbys({"green"})
    scene.kill("blue")
    if how == "killed":
        os.kill(scene.router.pid() or 0, signal.SIGKILL)
        wait_until(lambda: not scene.router.is_running())
        scene.router.start("sesame")
    else:
        settings = scene.config.router.model_copy(update={"queue_seconds": 7})
        scene.router = Router(scene.config.model_copy(update={"router": settings}))
        assert scene.router.reload() == ["settings"]
    assert [scene.ask()[1] for _ in range(3)] == ["green"] * 3


def test_a_router_that_was_opened_for_fewer_servers_says_which_it_does_not_know_until_it_is_reloaded(
    scene: Scene,
) -> None:
    assert scene.router.missing_servers() == []
    more = Router(scene.config.model_copy(update={"slots": Slots(servers=2)}))
    assert more.missing_servers() == ["blue-2", "green-2"]
    assert more.reload() == ["settings"] and more.missing_servers() == []
    assert [scene.ask()[::2] for _ in range(5)] == [(200, "blue")] * 5, "the second one is not there, and fails nobody"


def test_a_port_that_is_not_taken_is_no_silence(scene: Scene) -> None:
    with pytest.raises(ExternalError, match=r"HAProxy did not take 127\.0\.0\.1:99999 for green"):
        scene.router.set_server("green", 99_999)


def test_what_a_hand_changed_is_put_right_once(scene: Scene) -> None:
    scene.router.set_standbys({"green"})
    assert scene.router.servers.heal() is False
    for command in ("set server blue/blue state maint", "set server blue/green state maint"):
        scene.router.admin.ask(command)
        assert scene.router.servers.heal() is True and scene.router.servers.heal() is False
    scene.router.admin.ask("set server green/green addr 127.0.0.1 port 9")
    assert scene.router.servers.heal() is True and scene.ask()[1] == "blue"
    scene.kill("blue")
    assert scene.ask()[1] == "green"
