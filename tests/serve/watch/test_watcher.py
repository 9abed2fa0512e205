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
from serve.watch.alike import requests
from serve.watch.watcher import Watcher, baseline, count_slot
from tests.serve.conftest import free_ports
from tests.support.fake_openai import Fake, serving
from tests.support.traffic import asked, counted
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
    blue, green.port, green.slot = Fake(port=slots[0], slot="blue", gap_seconds=0.005), slots[1], "green"
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
def test_what_users_waited_for_during_a_load_test_is_no_part_of_the_baseline(
    has_candidate: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Blue served 60 users, and 40 more while its candidate's load test asked it too; an earlier reading, from before
    blue itself took over, is none of it."""
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))
    monkeypatch.setattr(serve.watch.watcher, "count_slot", lambda env, slot: counted(*[asked()] * 100))
    reading = {"counted": {"blue": counted(*[asked()] * 60).model_dump(mode="json")}}
    if not has_candidate:
        env.record.append("proven", "green", proof="load", **reading)
    env.record.append("switched", "blue", counted={"blue": counted().model_dump(mode="json")})
    if has_candidate:
        env.record.append("proven", "green", proof="load", **reading)
    found = Counted.model_validate(baseline(env, "blue"))
    assert found.strata is not None
    assert (found.requests, requests(found.strata)) == ((60, 60) if has_candidate else (100, 100))


@pytest.mark.unit
def test_of_a_server_that_a_swap_ended_the_figures_are_those_from_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))
    monkeypatch.setattr(serve.watch.watcher, "count_slot", lambda env, slot: Counted())
    env.record.append("switched", "blue", counted={"blue": counted().model_dump(mode="json")})
    last = counted(*[asked()] * 30).model_dump(mode="json")
    env.record.append("queued", "blue", release=None, before={}, counted={"blue": last})
    assert Counted.model_validate(baseline(env, "blue")) == counted(*[asked()] * 30)


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
        watcher, found = Watcher(env, "green", held_against, 15), list[str]()

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
        watcher = Watcher(env, "green", held_against, 15)
        assert watcher.check() == [] and watcher.outcome()[0] == "inconclusive"
        wait_for(lambda: watcher.check() == [] and len(green.bodies) >= 60)
        time.sleep(0.6)
        assert watcher.check() == [] and watcher.outcome()[0] == "pass", watcher.receipt()
        assert any("error rate 0.0% of" in sentence for sentence in watcher.receipt())


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    """Green has just taken over; `slots` is what each has counted since."""
    monkeypatch.chdir(tmp_path)
    Record(Path("state/events.jsonl")).append("switched", "green", counted={"green": counted().model_dump()})
    settings = {"name": "x", "model": "m", "state_dir": "state", "watch": {"every_seconds": 1}}
    return Environment(DeployConfig.model_validate(settings), compare=COMPARE)


@pytest.fixture
def slots(monkeypatch: pytest.MonkeyPatch) -> dict[SlotName, Counted]:
    found: dict[SlotName, Counted] = dict.fromkeys(SLOTS, counted())
    monkeypatch.setattr("serve.watch.watcher.count_slot", lambda env, slot: found[slot])
    return found


def traffic_of(n: int, failed: int = 0) -> Counted:
    return counted(*[asked()] * (n - failed), *[asked(status=500)] * failed)


@pytest.mark.unit
def test_a_first_release_has_nothing_to_be_worse_than(env: Environment, slots: dict[SlotName, Counted]) -> None:
    slots["green"] = traffic_of(99, 99)
    watcher = Watcher(env, "green", None, 1)
    assert watcher.check(over=True) == [] and watcher.receipt() == ["nothing was compared: no release served before"]
    assert watcher.outcome() == ("pass", "nothing was compared: no release served before")


@pytest.mark.unit
def test_while_both_serve_the_other_ones_own_figures_are_the_measure(
    env: Environment, slots: dict[SlotName, Counted]
) -> None:
    """A bad hour for both: the baseline of a better hour would have alarmed."""
    watcher = Watcher(env, "green", traffic_of(500).model_dump(), 15)
    slots |= {"green": traffic_of(60, 20), "blue": traffic_of(400, 130)}
    assert watcher.check() == []
    watcher.looked = -1e9
    slots["blue"] = traffic_of(3, 1)
    assert watcher.check()[0].startswith("error rate 33.3% of 60 against 0.0% of 500")


@pytest.mark.unit
def test_a_neighbour_that_is_asked_for_other_things_is_no_measure(
    env: Environment, slots: dict[SlotName, Counted]
) -> None:
    watcher = Watcher(env, "green", traffic_of(500).model_dump(), 15)
    slots |= {"green": traffic_of(60, 20), "blue": counted(*[asked(body_bytes=90_000, status=500)] * 60)}
    assert watcher.check()[0].startswith("error rate 33.3% of 60 against 0.0% of 500")


@pytest.mark.unit
def test_all_looks_together_spend_what_may_alarm_falsely_once_however_long_it_is_watched(
    env: Environment, slots: dict[SlotName, Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it for the looks of the bake, and of the other half ever less."""
    spent: list[float] = []

    def note(old: Counted, new: Counted, settings: object, compare: object, looks: int, **facts: bool) -> list[object]:
        spent.append(1 / looks)
        return []

    monkeypatch.setattr("serve.watch.watcher.compare_window", note)
    seconds = iter(range(10, 10_000))
    monkeypatch.setattr("serve.watch.watcher.time.monotonic", lambda: float(next(seconds)) * 2)
    watcher = Watcher(env, "green", traffic_of(500).model_dump(), 15)
    for _ in range(15):
        watcher.check()
    watcher.check(over=True)
    assert len(spent) == 16 and sum(spent) == pytest.approx(0.5)
    watcher.check(over=True)
    assert len(spent) == 16, "no more came: no further look"
    for n in range(0, 2_000, 7):
        slots["green"] = traffic_of(n)
        watcher.check(over=True)
    assert len(spent) > 80 and sum(spent) < 1
