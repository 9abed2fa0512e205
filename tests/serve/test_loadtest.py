"""A load test asks where it was told to: a release of its own, or what serves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import serve.load.run
import serve.loadtest
import serve.proofs.baseline
from configs.environment.load_test import LoadTest, Objective
from configs.errors import InputError, RefusedError
from configs.release import read_manifest
from configs.verdict import Verdict
from serve.loadtest import load_test, overridden
from serve.record.environment import Environment
from tests.support.fake_machine import World, do, environment, world
from tests.support.few_bytes import publish

__all__ = ["world"]
pytestmark = pytest.mark.unit


@pytest.fixture
def release(world: World) -> Path:
    publish("one")
    return next(Path("releases").glob("one@*")) / "release"


def judged(**facts: Any) -> Environment:
    Path("load.yaml").write_text(
        "rules: [{rule: latency, metric: latency_p95_ms, relative_to: blue, maximum_ratio: 2}]"
    )
    facts = {"gate": "load.yaml"} | facts
    config = environment(load_test={"users": 4, "seconds": 20, "max_tokens": 24}, **facts).config

    def load_gate(reference: str, figures: dict[str, float]) -> Verdict:
        seen.append(figures)
        return Verdict(release=reference, outcome="pass", results=[])

    return Environment(config, load_gate=load_gate)


seen: list[dict[str, float]] = []
waits: list[float | None] = []  # for the server of a release's own


@pytest.fixture
def runs(world: World, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    seen.clear()
    waits.clear()

    def run_load_test(base_url: str, model: str, manifest: Any, **facts: Any) -> dict[str, float]:
        found.append(facts | {"base_url": base_url, "release": manifest.reference})
        return {"requests": 1.0}

    @contextlib.contextmanager
    def temporary_slot(
        directory: Path, manifest: Any, *, served_name: str, log: Path, timeout_seconds: float | None
    ) -> Iterator[str]:
        world.done.append(f"temporary {served_name}")
        waits.append(timeout_seconds)
        yield "http://slot"
        world.done.append("ended")

    for name, value in (("temporary_slot", temporary_slot), ("api_key", lambda config: "key")):
        monkeypatch.setattr(serve.loadtest, name, value)
    monkeypatch.setattr(serve.load.run, "run_load_test", run_load_test)
    monkeypatch.setattr(serve.proofs.baseline, "POLL_SECONDS", 0.01)
    return found


@pytest.mark.parametrize("stated", [None, 1234])
def test_its_server_is_waited_for_as_long_as_the_environments_own(
    world: World, release: Path, runs: list[dict[str, Any]], stated: int | None
) -> None:
    load_test(judged(start_timeout_seconds=stated), release, {})
    assert waits == [stated]


def test_a_release_of_its_own_is_served_for_the_test_and_the_router_left_alone(
    world: World, release: Path, runs: list[dict[str, Any]]
) -> None:
    figures, verdict, page = load_test(judged(), release, {"users": 9})
    (run,) = runs
    assert figures == {"requests": 1.0} and verdict.release == run["release"] and world.done == ["temporary m", "ended"]
    assert (run["base_url"], run["api_key"], run["prompts"], page) == (
        "http://slot",
        None,
        release / "golden.jsonl",
        run["folder"] / "report.html",
    )
    assert (run["settings"].users, run["settings"].seconds, run["settings"].max_tokens) == (9, 20, 24)


def test_wrong_bytes_are_refused_before_anything_starts(
    world: World, release: Path, runs: list[dict[str, Any]]
) -> None:
    (release / "model.safetensors").write_text("onE")
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        load_test(judged(), release, {})
    assert world.done == [] and runs == []


def test_what_serves_is_tested_through_the_router_with_its_key(world: World, runs: list[dict[str, Any]]) -> None:
    env, reference = served(world)
    assert load_test(env, None, {"seconds": 3})[1].release == reference
    (run,) = runs
    assert (run["base_url"], run["api_key"], run["settings"].users, run["settings"].seconds) == (
        "http://router",
        "key",
        4,
        3,
    )
    assert run["release"] == reference and seen == [{"requests": 1.0, "blue_absent": 1.0}]
    world.router_up = False
    with pytest.raises(RefusedError, match="nothing serves"):
        load_test(env, None, {})


def served(world: World) -> tuple[Environment, str]:
    env, reference = judged(), publish("one")
    do(env, "start_router")
    do(env, "start", "blue", release=reference)
    do(env, "switch", "blue")
    world.done.clear()
    return env, reference


def test_a_release_of_its_own_is_compared_with_what_serves(
    world: World, runs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    env, reference = served(world)
    publish("two")
    directory = next(Path("releases").glob("two@*")) / "release"
    manifest = read_manifest(directory)
    monkeypatch.setattr(serve.proofs.baseline, "questions_in", lambda prompts: [])
    load_test(env, directory, {})
    assert [(run["release"], run["base_url"]) for run in runs] == [
        (reference, "http://127.0.0.1:8101"),
        (manifest.reference, "http://slot"),
    ]
    assert (
        runs[0]["settings"] == runs[1]["settings"]
        and runs[0]["prompts"] == runs[1]["prompts"] == directory / "golden.jsonl"
    )
    assert seen[-1] == {"requests": 1.0, "blue_requests": 1.0}


def test_a_kind_of_load_that_is_given_takes_the_place_of_the_stated_one() -> None:
    stated = LoadTest(ramp=[1, 2], slo=Objective(latency_ms=9))
    assert overridden(stated, {"rate": 3.0}) == LoadTest(rate=3, slo=Objective(latency_ms=9))
    assert overridden(stated, {"users": 5}) == LoadTest(users=5, slo=Objective(latency_ms=9)) and overridden(
        stated, {"seconds": 7}
    ).ramp == [1, 2]
    for given, word in (
        ({"rate": 1, "ramp": [1]}, "only one of"),
        ({"rate": -1}, "rate"),
        ({"ramp": ["x"]}, r"ramp\.0"),
    ):
        with pytest.raises(InputError, match=word):
            overridden(stated, given)


def test_nothing_is_measured_that_could_not_be_judged_or_does_not_serve(
    world: World, runs: list[dict[str, Any]]
) -> None:
    with pytest.raises(InputError, match="no gate is named"):
        load_test(environment(), None, {})
    with pytest.raises(RefusedError, match=r"nothing serves(.|\n)*tunegate deploy x RELEASE"):
        load_test(judged(), None, {})
    assert runs == []
