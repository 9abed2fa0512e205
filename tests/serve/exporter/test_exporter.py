"""The exporter's port: on loopback, for what the YAML says now, and no more than its process."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import serve.exporter.exporter
from configs.environment.config import DeployConfig
from configs.errors import ExternalError
from infra.boot import Moment
from serve.exporter.exporter import Exporter
from serve.plan.action import Action, End
from serve.plan.situation import Observed, Situation
from serve.record.environment import Environment
from serve.record.state import State
from tests.serve.conftest import free_ports

pytestmark = pytest.mark.unit
SEEN = Observed(True, {}, frozenset(), now=Moment(0.0))


class Scene:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.exporter = Exporter(Environment(self.config(None), self.said.append))

    def config(self, port: int | None) -> DeployConfig:
        settings: dict[str, Any] = {"name": "shop", "model": "m", "gate": None, "state_dir": "state"}
        return DeployConfig.model_validate(settings | {"supervision": {"metrics_port": port}})

    def note(self, port: int | None, step: Action | End | None = None) -> None:
        self.exporter.note(Situation(State(), self.config(port), SEEN), step or End("done"))


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    found = Scene()
    yield found
    found.exporter.close()


def get(port: int, path: str = "/metrics") -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{port}{path}", timeout=5)


def answers(port: int) -> bool:
    try:
        return get(port).status_code == 200
    except httpx.HTTPError:
        return False


def test_it_opens_with_the_first_look_follows_the_yaml_and_closes_for_good(scene: Scene) -> None:
    one, two = free_ports(2)
    scene.note(None)
    assert scene.exporter.server is None
    scene.note(one)
    assert answers(one)
    scene.note(two)
    assert answers(two) and not answers(one)
    scene.note(None)
    assert not answers(two)
    scene.note(one)
    scene.exporter.close()
    assert not answers(one) and scene.said == []
    socket.create_server(("127.0.0.1", one)).close()  # it is free for the next holder


def test_what_is_asked_there_is_text_or_json_and_nothing_else(scene: Scene) -> None:
    (port,) = free_ports(1)
    scene.note(port)
    found = get(port, "/metrics?x=1")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4") and "tunegate_paged 0.0" in found.text
    assert json.loads(get(port, "/targets").text)[0]["labels"]["environment"] == "shop"
    assert get(port, "/").status_code == 404 and get(port, "/metrics/x").status_code == 404
    assert httpx.post(f"http://127.0.0.1:{port}/metrics").status_code == 501
    with socket.socket() as elsewhere:
        elsewhere.bind(("127.0.0.2", port))  # nothing of ours listens on any other address


def test_a_port_that_is_taken_is_said_once_and_taken_up_when_it_is_free(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve.exporter.exporter, "RETRY_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = int(holder.getsockname()[1])
        for _ in range(3):
            scene.note(port)
        assert len(scene.said) == 1 and f"supervision.metrics_port {port}" in scene.said[0]
    scene.note(port)
    assert answers(port)


def test_a_step_lasts_until_there_is_another_and_the_look_ages(scene: Scene) -> None:
    (port,) = free_ports(1)
    scene.note(port, Action("wait", "blue", seconds=3))
    time.sleep(0.05)
    scene.note(port, Action("wait", "blue", seconds=2))
    seen = scene.exporter.seen
    assert seen and seen.at - seen.since >= 0.05
    scene.note(port, Action("prove", "green", proof="warm"))
    seen = scene.exporter.seen
    assert seen and seen.at == seen.since and figure(port, "look_age_seconds") < figure(port, "look_age_seconds")


def figure(port: int, name: str) -> float:
    (line,) = [line for line in get(port).text.splitlines() if line.startswith(f"tunegate_{name} ")]
    return float(line.split()[1])


def test_a_reader_that_hangs_and_a_long_first_reading_delay_no_look(scene: Scene) -> None:
    (port,) = free_ports(1)
    scene.note(port)
    with scene.exporter.usage.lock, socket.create_connection(("127.0.0.1", port)):  # who sends nothing
        began = threading.Event()
        asked = threading.Thread(target=lambda: (began.set(), get(port)))
        asked.start()
        began.wait()
        scene.note(port, Action("stop", "blue"))
        asked.join(5)
        assert not asked.is_alive()
    assert scene.exporter.seen and scene.exporter.seen.step.kind == "stop"


class Router:
    """`open`: by slot; None where no router answers."""

    open: dict[str, int] | None = None

    def load(self) -> dict[str, int]:
        if self.open is None:
            raise ExternalError("no router answers", hint="kubectl get pods")
        return self.open


def test_an_autoscaler_is_told_what_is_open_and_where_that_is_not_known_no_number(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = Router()
    monkeypatch.setattr(Environment, "router", router)
    (port,) = free_ports(1)
    scene.note(port)
    assert get(port, "/load").status_code == 503 and "no router answers" in get(port, "/load").text
    router.open = {"blue": 7, "green": 0}
    assert get(port, "/load").json() == router.open


IPV6 = pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="a kernel without IPv6")


@pytest.mark.parametrize("address", ["127.0.0.2", pytest.param("::1", marks=IPV6)])
def test_in_a_pod_it_listens_on_the_pods_address(scene: Scene, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_POD_ADDRESS", address)
    (port,) = free_ports(1)
    scene.note(port)
    host = f"[{address}]" if ":" in address else address
    assert httpx.get(f"http://{host}:{port}/metrics", timeout=5).status_code == 200
    assert not answers(port)
