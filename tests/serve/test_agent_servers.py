"""A slot of two servers over the real router and the fake vLLM: both are asked, one may die, the other serves on."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from configs.slots import SlotName
from infra.haproxy.api_keys import api_key
from infra.haproxy.lost import LostRequests
from infra.haproxy.router import Router
from infra.vllm.server import SlotProcess, is_alive
from serve.deploy import stop_all
from serve.record.receipt import for_people, last_receipt, read_receipts
from serve.switch.servers import stop
from serve.view.status import status
from tests.support.agent_scene import Scene, digest, folder, in_child
from tests.support.fake_servers import misbehave, publish_fake, two_servers_a_slot
from tests.support.kills import kill, wait_until

__all__ = ["folder"]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]


@pytest.fixture
def scene(folder: Path) -> Iterator[Scene]:
    found = Scene(**two_servers_a_slot())
    yield found
    stop_all(found.env)
    assert not [one for one in started(found) if is_alive(one)]


def started(scene: Scene, slot: SlotName = "blue") -> list[SlotProcess]:
    return scene.env.processes(scene.env.record.state(), slot)


def ask(scene: Scene, times: int) -> list[int]:
    headers = {"Authorization": f"Bearer {api_key(scene.env.config)}"}
    with httpx.Client(headers=headers, timeout=10, verify=False) as client:
        return [client.get(f"{scene.env.router.base_url}/v1/models").status_code for _ in range(times)]


def answered(scene: Scene, times: int) -> bool:
    """A connection that a dying server's answer was to come by is closed: a client asks again."""
    try:
        return ask(scene, times) == [200] * times
    except httpx.RemoteProtocolError:
        return False


def asked_by_server(scene: Scene) -> dict[str, int]:
    rows = [line.split(",") for line in scene.env.router.admin.ask("show stat").splitlines()]
    return {row[1]: int(row[7]) for row in rows if row[0] == "blue" and row[1].startswith("blue")}


def test_both_are_started_proven_and_asked_and_one_ledger_counts_them(scene: Scene) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    assert len(started(scene)) == 2 and all(map(is_alive, started(scene)))
    before = asked_by_server(scene)
    assert ask(scene, 20) == [200] * 20 and scene.serving() == digest(one)
    after = asked_by_server(scene)
    assert all(after[name] - before[name] >= 5 for name in ("blue", "blue-2"))
    assert scene.env.router.traffic()["blue"].total == sum(after.values())
    assert status(scene.env)["slots"]["blue"]["servers"] == {"wanted": 2, "alive": 2}


@pytest.mark.parametrize("number", [0, 1])
def test_one_that_is_killed_fails_nobody_who_asks_after_it_and_comes_back_alone(scene: Scene, number: int) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    first = started(scene)
    kill(first[number])
    wait_until(lambda: answered(scene, 4), 5)  # its last threads close its sockets a moment after it is gone
    assert ask(scene, 20) == [200] * 20, "with nobody's help"
    scene.turn()
    second = started(scene)
    assert second[1 - number] == first[1 - number] and second[number] != first[number] and is_alive(second[number])
    assert scene.kinds()[-4:] == ["crashed", "starting", "started", "proven"]
    wait_until(lambda: asked_by_server(scene)["blue-2" if number else "blue"] > 0 and ask(scene, 4) == [200] * 4)


def test_a_switch_takes_along_both_and_stops_both(scene: Scene) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    scene.want(two, keep_old_slot=False)
    old = started(scene)
    scene.turn()
    assert scene.serving() == digest(two) and not [process for process in old if is_alive(process)]
    assert len([process for process in started(scene, "green") if is_alive(process)]) == 2


class Crowd:
    """Clients that stream at once, each under a name of its own; `lost` are those whose answer did not come whole."""

    def __init__(self, scene: Scene, users: int, tokens: int) -> None:
        self.scene, self.tokens = scene, tokens
        self.begun: list[str] = []
        self.ends: dict[str, bool] = {}
        self.threads = [threading.Thread(target=self.stream, args=(f"stream-{user}",)) for user in range(users)]
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.begun) == users, 30)

    def stream(self, name: str) -> None:
        text, question = "", [{"role": "user", "content": "question 0"}]
        headers = {"Authorization": f"Bearer {api_key(self.scene.env.config)}", "x-request-id": name}
        body = {"model": "m", "messages": question, "stream": True, "max_tokens": self.tokens}
        url = f"{self.scene.env.router.base_url}/v1/chat/completions"
        try:
            with (
                httpx.Client(headers=headers, timeout=60, verify=False) as client,
                client.stream("POST", url, json=body) as reply,
            ):
                self.begun.append(name)
                for part in reply.iter_text():
                    text += part
        except httpx.HTTPError:
            pass
        self.ends[name] = "[DONE]" in text

    def lost(self) -> set[str]:
        for thread in self.threads:
            thread.join()
        return {name for name, is_whole in self.ends.items() if not is_whole}


def names(found: LostRequests) -> set[str]:
    return {one["request_id"] for one in found["named"]}


def test_only_the_streams_of_the_killed_server_are_lost_and_each_is_named(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEGATE_FAKE_PACE", "0.2")
    scene.want(publish_fake("one"))
    scene.turn()
    crowd = Crowd(scene, 64, 30)
    victim = started(scene)[1]
    os.kill(victim.pid, signal.SIGSTOP)  # its count stands still while it is read
    time.sleep(0.1)
    rows = [line.split(",") for line in scene.env.router.admin.ask("show stat").splitlines()]
    (open_there,) = [int(row[4]) for row in rows if row[:2] == ["blue", "blue-2"]]
    os.kill(victim.pid, signal.SIGCONT)
    kill(victim)
    lost = crowd.lost()
    assert 20 <= open_there <= 44 and len(crowd.ends) == 64 and len(lost) == open_there
    assert scene.env.router.traffic()["blue"].cut_by_server == open_there
    wait_until(lambda: len(last_receipt(scene.env)["lost_since"]["named"]) >= open_there)
    found = last_receipt(scene.env)
    assert found["lost"] == {"named": [], "more": 0} and found["lost_since"]["more"] == 0
    assert names(found["lost_since"]) == lost and {one["server"] for one in found["lost_since"]["named"]} == {"blue-2"}
    shown = for_people(found)
    assert "lost" not in shown and all(name in shown["lost since"] for name in lost)


def test_what_a_server_lost_in_its_bake_is_named_in_the_receipt_of_the_breach(scene: Scene, folder: Path) -> None:
    one, two = publish_fake("one"), publish_fake("two")
    scene.want(one)
    scene.turn()
    scene.want(two, bake_seconds=60)
    child = in_child(scene)
    try:
        wait_until(lambda: scene.serving() == digest(two), 60)
        misbehave(folder, two="slow")
        crowd = Crowd(scene, 16, 150)
        kill(started(scene, "green")[1])
        wait_until(lambda: any("breach" in found for found in read_receipts(scene.env)), 60)
        (found,) = [found for found in read_receipts(scene.env) if "breach" in found]
        lost = crowd.lost()
    finally:
        os.kill(child, signal.SIGTERM)
        os.waitpid(child, 0)
    assert lost and names(found["lost"]) == lost and found["streams_cut"] == len(lost) < 16
    assert {one["server"] for one in found["lost"]["named"]} == {"green-2"}


def test_a_slot_is_not_stopped_under_the_streams_of_a_router_process_that_a_reload_replaced(
    scene: Scene, folder: Path
) -> None:
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    misbehave(folder, one="slow")
    headers = {"Authorization": f"Bearer {api_key(scene.env.config)}"}
    body = {"model": "m", "messages": [{"role": "user", "content": "question 0"}], "stream": True, "max_tokens": 150}
    url = f"{scene.env.router.base_url}/v1/chat/completions"
    with httpx.stream("POST", url, json=body, headers=headers, timeout=60, verify=False) as reply:
        changed = scene.config.router.model_copy(update={"queue_seconds": 7})
        assert Router(scene.config.model_copy(update={"router": changed})).reload() == ["settings"]
        with scene.at_work() as env:
            stop(env, env.record.state(), "blue")
        assert "[DONE]" in reply.read().decode()
    facts = scene.env.record.read()[-1].facts
    assert (facts["streams_open"], facts["why"]) == (0, "streams zero") and facts["drain_seconds"] > 1
    assert not [process for process in started(scene) if is_alive(process)]


def seen_devices(process: SlotProcess) -> str | None:
    """Of the server as the kernel has it."""
    words = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    found = [word.partition(b"=")[2].decode() for word in words if word.startswith(b"CUDA_VISIBLE_DEVICES=")]
    return found[0] if found else None


def test_each_server_sees_its_own_gpus_and_no_others_after_a_crash_too(folder: Path) -> None:
    facts = two_servers_a_slot()
    facts["slots"] |= {"devices": {"blue": [["GPU-aaaa"], ["GPU-bbbb"]], "green": [["GPU-cccc"], ["MIG-dddd"]]}}
    scene = Scene(**facts)
    try:
        scene.want(publish_fake("one"))
        scene.turn()
        assert list(map(seen_devices, started(scene))) == ["GPU-aaaa", "GPU-bbbb"]
        kill(started(scene)[1])
        scene.turn()
        assert list(map(seen_devices, started(scene))) == ["GPU-aaaa", "GPU-bbbb"]
        scene.want(publish_fake("two"))
        scene.turn()
        assert list(map(seen_devices, started(scene, "green"))) == ["GPU-cccc", "MIG-dddd"]
    finally:
        stop_all(scene.env)
