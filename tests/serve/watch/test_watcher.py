"""The watch: a release that is worse is found and named, one that is as good is left alone, and too little evidence is
said and does nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import serve.watch.watcher
from configs.environment.config import DeployConfig
from configs.environment.watch import Watch
from configs.slots import SLOTS, SlotName
from infra.vllm.counters import Counted, Histogram
from serve.record.environment import Environment
from serve.record.record import Record
from serve.watch.compare import FIGURES, FigureCheck, compare_window
from serve.watch.watcher import Watcher, baseline, count_slot
from tests.serve.conftest import free_ports
from tests.support.fake_openai import FIRSTS, GAPS, LENGTHS, Fake, serving
from tunegate import compare_by

COMPARE, WATCH = compare_by(), Watch()


def filled(values: list[float], edges: tuple[float, ...]) -> Histogram:
    places = numpy.searchsorted(edges, values, side="left")
    return Histogram(
        edges=list(edges), counts=numpy.bincount(places, minlength=len(edges) + 1).tolist(), total=float(sum(values))
    )


def window(
    n: int,
    failed: int = 0,
    first: float = 0.05,
    per_token: float = 0.02,
    length: int = 20,
    truncated: int = 0,
    seed: int = 0,
) -> Counted:
    """Gamma times of a spread of half their mean, as a queue has; lengths of a fifth."""
    draw = numpy.random.default_rng(seed)
    kinds = (("first", first, FIRSTS), ("per_token", per_token, GAPS))
    times = {name: filled(draw.gamma(4, mean / 4, n).tolist(), edges) for name, mean, edges in kinds}
    lengths = filled(numpy.maximum(1, draw.normal(length, length / 5, n).round()).tolist(), LENGTHS)
    return Counted(requests=n, failed=failed, answers=n, truncated=truncated, lengths=lengths, **times)


def breaches(found: list[FigureCheck]) -> list[str]:
    return [one.figure for one in found if one.outcome == "breach"]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("facts", "figure"),
    [
        ({"failed": 15}, "error rate"), ({"first": 0.2}, "time to first token"), ({"per_token": 0.06}, "time per output token"),
        ({"length": 1}, "share of empty answers"), ({"truncated": 40}, "share of truncated answers"), ({"length": 90}, "answer length"),
        ({"length": 6}, "answer length"),
    ],
)  # fmt: skip
def test_each_way_to_be_worse_is_found_and_named(facts: dict[str, Any], figure: str) -> None:
    found = compare_window(window(200, failed=1, truncated=2), window(50, seed=1, **facts), WATCH, COMPARE, looks=15)
    assert figure in breaches(found) and len(found) == FIGURES
    sentence = next(one.sentence for one in found if one.outcome == "breach")
    assert sentence.startswith((figure, "mean", "share")) and "against" in sentence


@pytest.mark.unit
@pytest.mark.parametrize("facts", [{}, {"first": 0.06, "per_token": 0.024}, {"failed": 1}, {"length": 26}])
def test_one_that_is_as_good_or_a_little_worse_than_allowed_is_left_alone(facts: dict[str, Any]) -> None:
    assert breaches(compare_window(window(200, failed=1), window(60, seed=2, **facts), WATCH, COMPARE)) == []


@pytest.mark.unit
@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 10**6))
@settings(max_examples=50)
def test_too_few_requests_on_either_side_are_inconclusive_however_bad(n: int, other_n: int, seed: int) -> None:
    found = compare_window(
        window(other_n, seed=seed), window(n, failed=n, first=3.0, length=1, seed=seed + 1), WATCH, COMPARE
    )
    if min(n, other_n) < WATCH.minimum_requests:
        assert {one.outcome for one in found} == {"inconclusive"} and all(
            "at least 20 of each are needed" in one.sentence for one in found
        )
    else:
        assert "inconclusive" not in {one.outcome for one in found}


@pytest.mark.unit
@given(st.integers(20, 300), st.integers(0, 300), st.integers(20, 300), st.integers(0, 300), st.integers(1, 10_000))
@settings(max_examples=100)
def test_more_failures_never_look_better_and_more_looks_never_alarm_sooner(
    n: int, failed: int, other_n: int, other_failed: int, looks: int
) -> None:
    def breach(more: int, looks: int) -> bool:
        theirs = Counted(requests=other_n, failed=min(other_n, other_failed))
        return breaches(
            compare_window(theirs, Counted(requests=n, failed=min(n, failed + more)), WATCH, COMPARE, looks)
        ) == ["error rate"]

    assert breach(0, looks) <= breach(1, looks) and breach(0, looks) <= breach(0, 1)


@pytest.mark.unit
@given(st.integers(20, 200), st.integers(0, 10**6))
@settings(max_examples=50)
def test_a_window_is_never_worse_than_itself(n: int, seed: int) -> None:
    same = window(n, failed=n // 3, truncated=n // 2, length=2, seed=seed)
    assert breaches(compare_window(same, same, WATCH, COMPARE)) == []


@pytest.mark.unit
def test_a_bake_of_many_looks_alarms_falsely_no_oftener_than_stated() -> None:
    """100 bakes of 5 looks at releases that are alike, with no allowance: at most 5% alarm."""
    strict = Watch(
        false_alarm=0.05,
        error_rate_increase=0,
        time_to_first_token_ratio=1,
        inter_token_ratio=1,
        empty_increase=0,
        truncated_increase=0,
        length_ratio=1,
    )
    alarms = 0
    for bake in range(100):
        draw = numpy.random.default_rng(bake)
        old = window(
            100, failed=int(draw.binomial(100, 0.02)), truncated=int(draw.binomial(100, 0.3)), seed=1000 + bake
        )
        failed, truncated = draw.binomial(1, 0.02, 200).cumsum(), draw.binomial(1, 0.3, 200).cumsum()
        looks = [
            window(n, failed=int(failed[n - 1]), truncated=int(truncated[n - 1]), seed=5000 + bake)
            for n in range(40, 201, 40)
        ]
        alarms += any(breaches(compare_window(old, one, strict, COMPARE, len(looks))) for one in looks)
    assert alarms / 100 <= 0.05


@pytest.mark.unit
def test_a_classifier_is_watched_by_its_error_rate_alone() -> None:
    found = compare_window(
        Counted(requests=90, answers=90), Counted(requests=40, failed=12, answers=28), WATCH, COMPARE
    )
    assert breaches(found) == ["error rate"] and len(found) == 1


@pytest.mark.unit
@pytest.mark.parametrize("side", ["new", "old"])
def test_where_probes_and_load_tests_answered_for_users_only_what_the_router_counted_is_compared(side: str) -> None:
    """A probe is an answer of one token, cut at max_tokens: a quiet release would look truncated beside a busy one."""
    users, mixed = window(100), window(100, length=1, truncated=70).model_copy(update={"requests": 30})
    found = compare_window(*((users, mixed) if side == "new" else (mixed, users)), WATCH, COMPARE)
    assert [(one.figure, one.outcome) for one in found] == [("error rate", "fine"), ("answers", "inconclusive")]
    assert f"70 of the {side} release's 100 did not go through the router" in found[1].sentence


@pytest.mark.unit
def test_a_server_that_was_not_read_is_said_to_be_inconclusive() -> None:
    found = compare_window(window(90), Counted(requests=40), WATCH, COMPARE)
    assert [one.outcome for one in found] == ["fine", "inconclusive"] and "were not read" in found[1].sentence


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
@pytest.mark.parametrize("heir", [True, False])
def test_what_a_load_test_asked_of_the_old_release_is_no_part_of_its_baseline(
    heir: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Blue served 60 users, then its heir's load test asked it 500 times; an earlier heir's reading, from before blue
    itself took over, is none of it."""
    monkeypatch.chdir(tmp_path)
    env = Environment(DeployConfig.model_validate({"name": "x", "model": "m", "gate": None, "state_dir": "state"}))
    monkeypatch.setattr(serve.watch.watcher, "count_slot", lambda env, slot: Counted(requests=60, answers=560))
    reading = {"counted": {"blue": Counted(requests=60, answers=60).model_dump(mode="json")}}
    if not heir:
        env.record.append("proven", "green", proof="load", **reading)
    env.record.append("switched", "blue", counted={"blue": Counted(answers=0).model_dump(mode="json")})
    if heir:
        env.record.append("proven", "green", proof="load", **reading)
    found = baseline(env, "blue")
    assert (found["requests"], found["answers"]) == (60, 60 if heir else 560)


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
