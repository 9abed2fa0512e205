"""One server for a person at a terminal: it always ends with the command, and a load test asks where it was told to."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import serve.foreground
from configs.errors import InputError, OutsideError, RefusedError
from configs.verdict import Verdict
from infra.slot import SlotProcess
from serve.environment import Environment
from serve.foreground import load_test, serve_release
from tests.serve.test_effects import World, environment, publish

pytestmark = pytest.mark.unit


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World().install(monkeypatch)


@pytest.fixture
def release(world: World) -> Path:
    publish("one")
    return next(Path("releases").glob("one@*")) / "release"


def terminal(monkeypatch: pytest.MonkeyPatch, *, alive: int, end: type[BaseException] | None = None) -> list[str]:
    """A server that lives for so many looks; then `end` is raised, or it is found dead. What was done, in order."""
    done: list[str] = []

    def start_slot(directory: Path, manifest: Any, *, port: int, served_name: str, log: Path) -> SlotProcess:
        done.append(f"start {served_name} on {port}")
        return SlotProcess(7, 0.0, port, log)

    def wait_healthy(slot: SlotProcess, seconds: float) -> None:
        done.append("healthy" if seconds else "dead")
        if not seconds:
            raise OutsideError("the server ended")

    def is_alive(slot: SlotProcess) -> bool:
        done.append("look")
        if end and done.count("look") > alive:
            raise end
        return done.count("look") <= alive

    replaced = {"start_slot": start_slot, "wait_healthy": wait_healthy, "is_alive": is_alive, "stop_slot": lambda slot, drain_seconds: done.append("stop")}
    for name, value in (replaced | {"time": SimpleNamespace(sleep=lambda seconds: None)}).items():
        monkeypatch.setattr(serve.foreground, name, value)
    monkeypatch.setattr(signal, "signal", lambda number, handler: done.append(signal.Signals(number).name))
    return done


def test_ctrl_c_ends_the_server_and_is_no_error(release: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    done = terminal(monkeypatch, alive=2, end=KeyboardInterrupt)
    serve_release(release, 9000)
    assert done == ["start one on 9000", "SIGTERM", "healthy", "look", "look", "look", "stop"]
    assert "http://127.0.0.1:9000/v1/chat/completions" in capsys.readouterr().err


def test_a_server_that_dies_is_an_outside_error_and_leaves_nothing_behind(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = terminal(monkeypatch, alive=1)
    with pytest.raises(OutsideError, match="the server ended"):
        serve_release(release, 9000)
    assert done[-2:] == ["dead", "stop"]


def test_wrong_bytes_are_refused_before_anything_starts(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = terminal(monkeypatch, alive=1)
    (release / "model.safetensors").write_text("onE")
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        serve_release(release, 9000)
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        load_test(judged(), release, None, None)
    assert done == []


def judged(**facts: Any) -> Environment:
    config = environment(load_test={"users": 4, "seconds": 20, "max_tokens": 24}, **facts).config
    return Environment(config, judge=lambda reference, figures: Verdict(release=reference, outcome="pass", results=[]))


@pytest.fixture
def runs(world: World, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def run_load_test(base_url: str, model: str, manifest: Any, **facts: Any) -> dict[str, float]:
        found.append(facts | {"base_url": base_url, "release": manifest.reference})
        return {"requests": 1.0}

    @contextlib.contextmanager
    def temporary_slot(directory: Path, manifest: Any, *, served_name: str, log: Path) -> Iterator[str]:
        world.done.append(f"temporary {served_name}")
        yield "http://slot"
        world.done.append("ended")

    for name, value in (("run_load_test", run_load_test), ("temporary_slot", temporary_slot), ("api_key", lambda config: "key")):
        monkeypatch.setattr(serve.foreground, name, value)
    return found


def test_a_release_of_its_own_is_served_for_the_test_and_the_door_left_alone(world: World, release: Path, runs: list[dict[str, Any]]) -> None:
    figures, verdict = load_test(judged(), release, 9, None)
    (run,) = runs
    assert figures == {"requests": 1.0} and verdict.release == run["release"] and world.done == ["temporary m", "ended"]
    assert (run["base_url"], run["api_key"], run["prompts"]) == ("http://slot", None, release / "golden.jsonl")
    assert (run["users"], run["seconds"], run["max_tokens"]) == (9, 20, 24)


def test_what_serves_is_tested_through_the_door_with_its_key(world: World, runs: list[dict[str, Any]]) -> None:
    env, reference = judged(), publish("one")
    serve.effects.start(env, "blue", reference, None)
    env.record.append("switched", "blue")
    world.door = True
    assert load_test(env, None, None, 3)[1].release == reference
    (run,) = runs
    assert (run["base_url"], run["api_key"], run["users"], run["seconds"], run["release"]) == ("http://door", "key", 4, 3, reference)
    world.door = False
    with pytest.raises(RefusedError, match="nothing serves"):
        load_test(env, None, None, None)


def test_nothing_is_measured_that_could_not_be_judged_or_does_not_serve(world: World, runs: list[dict[str, Any]]) -> None:
    with pytest.raises(InputError, match="no gate is named"):
        load_test(environment(), None, None, None)
    with pytest.raises(RefusedError, match=r"nothing serves(.|\n)*tunegate deploy x RELEASE"):
        load_test(judged(), None, None, None)
    assert runs == []
