"""`slots.devices: auto` from an agent's turn to a server's environment. NVML is a fake that counts what each server, by
its own command line and environment, has claimed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import serve.plan.capacity
import serve.switch.gpus
from configs.release import Manifest
from infra.nvml import Device
from infra.vllm.server import SlotProcess, is_alive
from serve.deploy import stop_all
from serve.plan.devices import BESIDE_GIB, Need
from serve.switch.gpus import place_for
from serve.view.status import status
from tests.support.agent_scene import Scene, digest, folder
from tests.support.fake_servers import publish_fake, two_servers_a_slot
from tests.support.kills import kill

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TOTAL = 80.0


class Gpus:
    """`count` GPUs; `need`: of every release."""

    def __init__(self, count: int, need: Need) -> None:
        self.uuids = [f"GPU-{number:04}" for number in range(count)]
        self.need = need

    def devices(self) -> list[Device]:
        held: dict[str, dict[int, float]] = {uuid: {} for uuid in self.uuids}
        for process in psutil.process_iter():
            for uuid, gib in claimed(process).items():
                if uuid in held:
                    held[uuid][process.pid] = gib
        for uuid in self.uuids:
            assert sum(held[uuid].values()) <= TOTAL, f"{uuid}: more was claimed than there is"
        free = {uuid: TOTAL - sum(held[uuid].values()) for uuid in self.uuids}
        return [Device(uuid, "fake", TOTAL, free[uuid], held[uuid]) for uuid in self.uuids]

    def need_on_gpus(self, model: Any, manifest: Manifest) -> tuple[Need, str]:
        return self.need, str(self.need)


def claimed(process: psutil.Process) -> dict[str, float]:
    """By GPU, GiB: its share, and its context beside it."""
    try:
        words, environment = process.cmdline(), process.environ()
    except psutil.Error:
        return {}
    if "--gpu-memory-utilization" not in words or process.status() == psutil.STATUS_ZOMBIE:
        return {}
    share = float(words[words.index("--gpu-memory-utilization") + 1])
    return dict.fromkeys(environment["CUDA_VISIBLE_DEVICES"].split(","), share * TOTAL + BESIDE_GIB)


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    found = Gpus(*request.param)
    monkeypatch.setattr(serve.switch.gpus, "devices", found.devices)
    monkeypatch.setattr(serve.switch.gpus, "need_on_gpus", found.need_on_gpus)
    monkeypatch.setattr(serve.plan.capacity, "device_here", lambda: "cuda")
    return found


@pytest.fixture
def scene(folder: Path, gpus: Gpus) -> Iterator[Scene]:
    found = Scene(**two_servers_a_slot() | {"slots": {"servers": 1, "devices": "auto"}})
    yield found
    stop_all(found.env)


def seen(process: SlotProcess) -> list[str]:
    return psutil.Process(process.pid).environ()["CUDA_VISIBLE_DEVICES"].split(",")


@pytest.mark.parametrize(
    ("gpus", "width", "share"),
    [((1, Need(16, 8, 2)), 1, 0.4), ((2, Need(16, 8, 2)), 1, 0.9), ((4, Need(100, 20, 2, width=2)), 2, 0.9)],
    indirect=["gpus"],
    ids=["both on one GPU", "a GPU each", "two GPUs each"],
)
def test_a_release_and_the_next_have_their_gpus_and_what_crashes_has_its_own_again(
    scene: Scene, gpus: Gpus, width: int, share: float
) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    first = scene.server("blue")
    assert len(seen(first)) == width
    scene.want(two)
    scene.turn()
    assert scene.serving() == digest(two)
    second = scene.server("green")
    assert is_alive(first) and len(seen(second)) == width
    assert (set(seen(first)) == set(seen(second))) is (len(gpus.uuids) == 1)
    state = scene.env.record.state()
    places = [place_for(scene.env, state, "blue", one, 0), place_for(scene.env, state, "green", two, 0)]
    assert all(place and place["utilization"] > share for place in places)
    gpus.devices()  # no more is claimed than there is
    before = seen(second)
    kill(second)
    scene.turn(2)
    again = scene.server("green")
    assert is_alive(again) and seen(again) == before
    gpus.devices()


@pytest.mark.parametrize("gpus", [(1, Need(50, 10, 2))], indirect=True)
def test_where_both_do_not_fit_the_next_comes_in_place_of_the_first(scene: Scene, gpus: Gpus) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    scene.want(two)
    scene.turn()
    assert scene.serving() == digest(two)
    assert "swap: in place of what serves" in scene.env.record.state().planned["why"]
    assert len([process for process in psutil.process_iter() if claimed(process)]) == 1


@pytest.mark.parametrize("gpus", [(1, Need(200, 10, 2))], indirect=True)
def test_what_fits_no_gpu_is_refused_and_nothing_is_started(scene: Scene, gpus: Gpus) -> None:
    scene.want(publish_fake("one"))
    scene.turn()
    assert "started" not in scene.kinds()
    assert "no GPUs for it" in str(status(scene.env)["refused"])
