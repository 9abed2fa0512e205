"""`slots.devices: auto` from an agent's turn to a server's environment. NVML is a fake that counts what each server, by
its own command line and environment, has claimed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import infra.vllm.arguments
import serve.switch.gpus
from configs.environment.slots import Slots
from configs.release import Manifest
from configs.slots import SLOTS
from infra.files.atomic import read_json, write_json
from infra.nvml import BESIDE_GIB, Device
from infra.vllm.server import SlotProcess, is_alive
from infra.vllm.sleep import MIDDLEWARE as SLEEP
from infra.vllm.sleep import PATH
from serve.deploy import stop_all
from serve.plan.devices import Need
from serve.switch.gpus import place_for
from serve.view.status import status
from tests.support.agent_scene import QUICK, Scene, digest, folder
from tests.support.fake_servers import misbehave, publish_fake, two_servers_a_slot
from tests.support.kills import kill

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]
TOTAL = 80.0
LATE_SECONDS = 0.5  # between the end of a process and its memory's return


class Gpus:
    """`count` GPUs; `need`: of every release."""

    def __init__(self, count: int, need: Need) -> None:
        self.uuids = [f"GPU-{secrets.token_hex(4)}-{number}" for number in range(count)]  # of no other test beside it
        self.need, self.names_processes = need, True

    def devices(self) -> list[Device]:
        held: dict[str, dict[int, float]] = {uuid: {} for uuid in self.uuids}
        now = {process.pid: found for process in psutil.process_iter() if (found := claimed(process))}
        for pid, found in (lingering(now) | now).items():
            for uuid, gib in found.items():
                if uuid in held:
                    held[uuid][pid] = gib
        for uuid in self.uuids:
            assert sum(held[uuid].values()) <= TOTAL, f"{uuid}: more was claimed than there is"
        free = {uuid: TOTAL - sum(held[uuid].values()) for uuid in self.uuids}
        named = held if self.names_processes else {uuid: {} for uuid in self.uuids}
        return [Device(uuid, "fake", TOTAL, free[uuid], named[uuid]) for uuid in self.uuids]

    def need_on_gpus(self, model: Any, manifest: Manifest) -> tuple[Need, str]:
        return self.need, str(self.need)


def claimed(process: psutil.Process) -> dict[str, float]:
    """By GPU, GiB: its share, if it is awake, and its context beside it."""
    try:
        words, environment = process.cmdline(), process.environ()
    except psutil.Error:
        return {}
    if "--gpu-memory-utilization" not in words or process.status() == psutil.STATUS_ZOMBIE:
        return {}
    share = float(words[words.index("--gpu-memory-utilization") + 1])
    if SLEEP in words and is_asleep(int(words[words.index("--port") + 1])):
        share = 0.0
    return dict.fromkeys(environment["CUDA_VISIBLE_DEVICES"].split(","), share * TOTAL + BESIDE_GIB)


def lingering(now: dict[int, dict[str, float]]) -> dict[int, dict[str, float]]:
    """What processes had that were here at an earlier look, by whichever process, and have ended a moment ago."""
    path, moment = Path("gpus.json"), time.monotonic()
    known: dict[str, Any] = read_json(path) or {}
    for pid, one in known.items():
        if int(pid) not in now:
            one.setdefault("until", moment + LATE_SECONDS)
    known |= {str(pid): {"held": found} for pid, found in now.items()}
    write_json(path, known)
    return {int(pid): one["held"] for pid, one in known.items() if moment < one.get("until", 0.0)}


def is_asleep(port: int) -> bool:
    try:
        return bool(httpx.get(f"http://127.0.0.1:{port}{PATH}", timeout=5).json()["asleep"])
    except httpx.HTTPError:  # it has not opened its port yet
        return False


@pytest.fixture
def gpus(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    found = Gpus(*request.param)
    monkeypatch.setattr(serve.switch.gpus, "devices", found.devices)
    monkeypatch.setattr(serve.switch.gpus, "need_on_gpus", found.need_on_gpus)
    monkeypatch.setattr(infra.vllm.arguments, "device_here", lambda: "cuda")
    monkeypatch.setattr(serve.switch.gpus, "POLL_SECONDS", 0.05)
    return found


@pytest.fixture
def scene(folder: Path, gpus: Gpus) -> Iterator[Scene]:
    # None of these servers hangs; the fake of NVML keeps two cores busy.
    patient = {"slots": {"servers": 1, "devices": "auto"}, "supervision": QUICK | {"probe_timeout_seconds": 20}}
    found = Scene(**two_servers_a_slot() | patient)
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


BIG = Need(1, 59, 2)  # one at a time fits, and the weights into any host


@pytest.mark.parametrize("gpus", [(1, Need(1, 23, 2))], indirect=True)
def test_in_a_container_where_nvml_names_no_process_our_servers_are_no_strangers(scene: Scene, gpus: Gpus) -> None:
    gpus.names_processes = False
    first, second, third = (publish_fake(name) for name in ("one", "two", "three"))
    for release in (first, second, third):
        scene.want(release)
        scene.turn()
        assert scene.serving() == digest(release)
        assert scene.env.record.state().planned["mode"] == "surge"
    gpus.devices()


@pytest.mark.parametrize("gpus", [(1, BIG)], indirect=True)
def test_where_both_do_not_fit_the_first_sleeps_while_the_next_serves_and_wakes_for_a_rollback(
    scene: Scene, gpus: Gpus
) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    first = scene.server("blue")
    scene.want(two)
    scene.turn()
    assert scene.serving() == digest(two) and is_alive(first) and is_asleep(first.port)
    assert "sleep: while what serves sleeps" in scene.env.record.state().planned["why"]
    assert status(scene.env)["slots"]["blue"]["asleep"]
    assert scene.env.router.standbys() == {"green"}, "the router would fail over to a server that sleeps"
    scene.env.record.append("desired", release=one, rollback=True)
    scene.turn()
    assert scene.serving() == digest(one) and scene.server("blue") == first and not is_asleep(first.port)
    assert is_asleep(scene.server("green").port)
    assert scene.kinds().count("starting") == 2
    gpus.devices()  # no more is claimed than there is


@pytest.mark.parametrize("gpus", [(2, BIG)], indirect=True)
def test_all_servers_of_a_slot_sleep_and_wake_together(scene: Scene, gpus: Gpus) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release, slots=Slots.model_validate({"servers": 2, "devices": "auto"}))
        scene.turn()
    ports = {slot: [process.port for process in scene.env.processes(scene.env.record.state(), slot)] for slot in SLOTS}
    assert scene.serving() == digest(two) and [is_asleep(port) for port in ports["blue"]] == [True, True]
    scene.env.record.append("desired", release=one, rollback=True)
    scene.turn()
    asleep = {slot: [is_asleep(port) for port in ports[slot]] for slot in SLOTS}
    assert asleep == {"blue": [False, False], "green": [True, True]} and scene.serving() == digest(one)
    gpus.devices()


@pytest.mark.parametrize("gpus", [(1, BIG)], indirect=True)
def test_a_standby_that_sleeps_is_woken_when_what_serves_dies(scene: Scene, gpus: Gpus) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    for release in (one, two):
        scene.want(release)
        scene.turn()
    kill(scene.server("green"))
    scene.turn(2)
    kinds = scene.kinds()
    assert kinds.index("woken") < len(kinds) - 1 - kinds[::-1].index("switched")
    assert scene.serving() == digest(two)  # the desired one came back in its turn
    gpus.devices()


@pytest.mark.parametrize("gpus", [(1, BIG)], indirect=True)
@pytest.mark.parametrize(
    ("fault", "kinds"), [({"one": "insomnia"}, {"stopped"}), ({"two": "wrong"}, {"refused", "woken"})]
)
def test_what_does_not_sleep_is_stopped_and_what_was_laid_to_sleep_for_a_bad_release_wakes(
    scene: Scene, gpus: Gpus, folder: Path, fault: dict[str, str], kinds: set[str]
) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    misbehave(folder, **fault)
    scene.want(two)
    scene.turn()
    assert kinds <= set(scene.kinds()) and scene.serving() == digest(two if "one" in fault else one)
    assert not scene.env.router.is_paused()
    gpus.devices()


@pytest.mark.parametrize("gpus", [(1, BIG)], indirect=True)
def test_what_does_not_wake_is_started_anew(scene: Scene, gpus: Gpus, folder: Path) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    misbehave(folder, one="coma", two="wrong")
    scene.want(two)
    scene.turn()
    assert "did not wake" in "".join(scene.said) and scene.serving() == digest(one)
    assert scene.kinds().count("starting") == 3
    gpus.devices()


@pytest.mark.parametrize("gpus", [(1, BIG)], indirect=True)
def test_no_sleep_where_the_environment_says_swap(scene: Scene, gpus: Gpus) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one, capacity="swap")
    scene.turn()
    scene.want(two)
    scene.turn()
    assert scene.serving() == digest(two)
    assert "swap: in place of what serves" in scene.env.record.state().planned["why"]
    assert len(gpus.devices()[0].held) == 1


@pytest.mark.parametrize("gpus", [(2, Need(16, 8, 2))], indirect=True)
@pytest.mark.parametrize(
    ("lists", "shares"),
    [(([["0"]], [["0"]]), (0.4, 0.5)), (([["0"]], [["1"]]), (0.9, 1.0))],
    ids=["both slots' lists name one GPU", "a GPU each"],
)
def test_servers_on_lists_that_share_a_gpu_share_its_memory(
    scene: Scene, gpus: Gpus, lists: tuple[list[list[str]], ...], shares: tuple[float, float]
) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    slots = Slots.model_validate({"devices": dict(zip(SLOTS, lists, strict=True))})
    for release in (one, two):
        scene.want(release, slots=slots)
        scene.turn()
    assert scene.serving() == digest(two)
    state = scene.env.record.state()
    for slot, release, named in zip(SLOTS, (one, two), lists, strict=True):
        place = place_for(scene.env, state, slot, release, 0)
        assert place and shares[0] < place["utilization"] < shares[1]
        assert seen(scene.server(slot)) == [gpus.uuids[int(named[0][0])]]
    gpus.devices()


@pytest.mark.parametrize("gpus", [(1, Need(16, 8, 2))], indirect=True)
def test_a_gpu_that_is_not_here_is_named(scene: Scene, gpus: Gpus) -> None:
    scene.want(publish_fake("one"), slots=Slots.model_validate({"devices": {"blue": [[0]], "green": [[7]]}}))
    scene.turn()
    assert "slots.devices names 7" in str(status(scene.env)["refused"]) and "started" not in scene.kinds()


@pytest.mark.parametrize("gpus", [(1, Need(200, 10, 2))], indirect=True)
def test_what_fits_no_gpu_is_refused_and_nothing_is_started(scene: Scene, gpus: Gpus) -> None:
    scene.want(publish_fake("one"))
    scene.turn()
    assert "started" not in scene.kinds()
    assert "no GPUs for it" in str(status(scene.env)["refused"])
