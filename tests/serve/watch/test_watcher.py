"""The watch through real counters: a release that is bad under traffic is found, one that is as good is left alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import serve.watch.watcher
from configs.environment.config import DeployConfig
from configs.slots import SLOTS, SlotName
from infra.vllm.counters import Counted
from serve.record.environment import Environment
from serve.record.record import Record
from serve.watch.watcher import Watcher, baseline, count_slot
from tests.serve.conftest import free_ports
from tests.support.fake_openai import Fake, serving
from tunegate import compare_by

COMPARE = compare_by()


@contextmanager
def traffic(base_url: str, key: str, seconds_between: float = 0.002) -> Iterator[list[int]]:
    """Four applications that stream all the time; the statuses they saw."""
    ended, statuses = threading.Event(), []

    def ask() -> None:
        with httpx.Client(headers={"Authorization": f"Bearer {key}"}, timeout=20) as client:
            while not ended.wait(seconds_between):
                body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
                statuses.append(client.post(f"{base_url}/v1/chat/completions", json=body).status_code)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        ended.set()
        for thread in threads:
            thread.join()


@contextmanager
def deployed(
    green: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **facts: Any
) -> Iterator[tuple[Environment, dict[str, Any]]]:
    """The real HAProxy before two small servers; blue has served for a while, and traffic has just moved to green."""
    monkeypatch.chdir(tmp_path)
    router_port, *slots = free_ports(3)
    blue, green.port = Fake(port=slots[0], gap_seconds=0.005), slots[1]
    config = DeployConfig.model_validate(
        {
            "name": "x",
            "model": "m",
            "router": {"port": router_port},
            "slot_ports": slots,
            "gate": None,
            "state_dir": "state",
            "watch": {"every_seconds": 0.5},
            **facts,
        }
    )
    env = Environment(config, compare=COMPARE)
    with ExitStack() as stack:
        for fake in (blue, green):
            stack.enter_context(serving(fake))
        env.router.start("secret")
        stack.callback(env.router.stop, 0)
        take_over(env, "blue")
        stack.enter_context(traffic(env.router.base_url, "secret"))
        wait_for(lambda: len(blue.bodies) >= 60)
        held_against = baseline(env, "blue")
        take_over(env, "green")
        yield env, held_against


def take_over(env: Environment, slot: SlotName) -> None:
    env.record.append("switched", slot, counted={one: count_slot(env, one).model_dump(mode="json") for one in SLOTS})
    env.router.switch(slot)


def wait_for(done: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.unit
@pytest.mark.parametrize("has_candidate", [True, False])
def test_what_a_load_test_asked_of_the_old_release_is_no_part_of_its_baseline(
    has_candidate: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Blue served 60 users, then its candidate's load test asked it 500 times; an earlier reading, from before blue
    itself took over, is none of it."""
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))
    monkeypatch.setattr(serve.watch.watcher, "count_slot", lambda env, slot: Counted(requests=60, answers=560))
    reading = {"counted": {"blue": Counted(requests=60, answers=60).model_dump(mode="json")}}
    if not has_candidate:
        env.record.append("proven", "green", proof="load", **reading)
    env.record.append("switched", "blue", counted={"blue": Counted(answers=0).model_dump(mode="json")})
    if has_candidate:
        env.record.append("proven", "green", proof="load", **reading)
    found = baseline(env, "blue")
    assert (found["requests"], found["answers"]) == (60, 60 if has_candidate else 560)


BAD: dict[str, Fake] = {
    "error rate": Fake(gap_seconds=0.005, fails=lambda number: number % 3 == 0),
    "mean time to first token": Fake(gap_seconds=0.005, first_seconds=0.3),
    "share of empty answers": Fake(answer=lambda body: ["."]),
    "share of truncated answers": Fake(gap_seconds=0.005, finish="length"),
    "mean answer length": Fake(answer=lambda body: ["word "] * 15),
}


@pytest.mark.integration
@pytest.mark.parametrize("start", list(BAD))
def test_a_release_that_is_bad_only_under_traffic_is_seen_through_the_real_router(
    start: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with deployed(BAD[start], monkeypatch, tmp_path) as (env, held_against):
        assert held_against["requests"] >= 55 and held_against["failed"] == 0
        watcher, found = Watcher(env, "green", held_against), list[str]()

        def breaches() -> list[str]:
            found.extend(watcher.check())
            return found

        wait_for(breaches)
        assert any(sentence.startswith(start) for sentence in found), found


@pytest.mark.integration
def test_a_release_that_is_as_good_is_left_alone_and_the_receipt_says_what_was_compared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    green = Fake(gap_seconds=0.005)
    with deployed(green, monkeypatch, tmp_path) as (env, held_against):
        watcher = Watcher(env, "green", held_against)
        assert watcher.check() == [] and any("inconclusive" in sentence for sentence in watcher.receipt())
        wait_for(lambda: watcher.check() == [] and len(green.bodies) >= 60)
        time.sleep(0.6)
        assert watcher.check() == [] and not any("inconclusive" in sentence for sentence in watcher.receipt())
        assert any("error rate 0.0% of" in sentence for sentence in watcher.receipt())


@pytest.mark.unit
def test_a_first_release_has_nothing_to_be_compared_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "state_dir": "state"}), compare=COMPARE)
    monkeypatch.setattr("serve.watch.watcher.count_slot", lambda env, slot: Counted(requests=99, failed=99))
    watcher = Watcher(env, "blue", None)
    assert watcher.check() == [] and watcher.receipt() == ["nothing was compared: no release served before"]


@pytest.mark.unit
def test_while_both_serve_the_other_ones_own_figures_are_the_measure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bad hour for both: the baseline of a better hour would have alarmed."""
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "state_dir": "state"}), compare=COMPARE)
    now = {"blue": Counted(), "green": Counted()}
    monkeypatch.setattr("serve.watch.watcher.count_slot", lambda env, slot: now[slot])
    Record(Path("state/events.jsonl")).append("switched", "green", counted={"green": Counted().model_dump()})
    held_against = Counted(requests=500).model_dump()
    watcher = Watcher(env, "green", held_against)
    now |= {"green": Counted(requests=60, failed=20), "blue": Counted(requests=400, failed=130)}
    assert watcher.check() == []
    watcher.looked = -1e9
    now["blue"] = Counted(requests=3, failed=1)
    assert watcher.check()[0].startswith("error rate 33.3% of 60 against 0.0% of 500")
