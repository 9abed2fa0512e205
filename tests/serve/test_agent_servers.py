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
from infra.vllm.server import SlotProcess, is_alive
from serve.deploy import stop_all
from serve.view.status import status
from tests.support.agent_scene import Scene, digest, folder
from tests.support.fake_servers import publish_fake, two_servers_a_slot
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
    wait_until(lambda: ask(scene, 1) == [200], 1)
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


def test_only_the_streams_of_the_killed_server_are_lost(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEGATE_FAKE_PACE", "0.2")
    one = publish_fake("one")
    scene.want(one)
    scene.turn()
    body = {"model": "m", "messages": [{"role": "user", "content": "question 0"}], "stream": True, "max_tokens": 30}
    headers = {"Authorization": f"Bearer {api_key(scene.env.config)}"}
    ends: list[bool] = []
    begun: list[int] = []

    def stream(user: int) -> None:
        text = ""
        try:
            with (
                httpx.Client(headers=headers, timeout=60, verify=False) as client,
                client.stream("POST", f"{scene.env.router.base_url}/v1/chat/completions", json=body) as reply,
            ):
                begun.append(user)
                for part in reply.iter_text():
                    text += part
        except httpx.HTTPError:
            pass
        ends.append("[DONE]" in text)

    threads = [threading.Thread(target=stream, args=(user,)) for user in range(64)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(begun) == 64, 30)
    victim = started(scene)[1]
    os.kill(victim.pid, signal.SIGSTOP)  # its count stands still while it is read
    time.sleep(0.1)
    rows = [line.split(",") for line in scene.env.router.admin.ask("show stat").splitlines()]
    (open_there,) = [int(row[4]) for row in rows if row[:2] == ["blue", "blue-2"]]
    os.kill(victim.pid, signal.SIGCONT)
    kill(victim)
    for thread in threads:
        thread.join()
    assert 20 <= open_there <= 44 and ends.count(False) == open_there
    assert scene.env.router.traffic()["blue"].cut_by_server == open_there
