"""Each effect may be repeated after a kill and ends in the same state; what is recorded is what was done.

Records and release folders are real; the machine is fake: its door, its servers, its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import serve.bake
import serve.deploy
import serve.effects
import serve.environment
import serve.record
import serve.watch
from configs.deploy import DeployConfig
from configs.errors import InputError, OutsideError, RefusedError, TunegateError
from configs.release import Manifest, digest_of, list_files
from configs.schema import Serving
from configs.verdict import Outcome, Verdict
from infra.router import SLOTS, SlotName, Traffic
from infra.slot import SlotProcess
from serve.effects import door_client, perform, traffic_of, wait_for_slot, wait_for_streams
from serve.environment import Environment
from serve.liveness import Liveness
from serve.planner import Action, ActionKind
from serve.record import Record, State

pytestmark = pytest.mark.unit
APPEND, WAIT_FOR_SLOT = Record.append, wait_for_slot
PORTS = {"blue": 8101, "green": 8102}
NONE = Traffic(0, 0, 0, 0, 0)


class Killed(KeyboardInterrupt):
    """Ctrl-C or worse: no handler of ours may swallow it."""


@dataclass
class World:
    """A machine: its door (a Router's methods), its servers (infra.slot's functions), its clock. `done` lists every effect.

    An effect named in `fails` raises. The command is killed at its `kill_at`-th point; one lies before and after each effect and each event.
    """

    door: bool = False
    shares: dict[SlotName, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    held: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    servers: dict[int, SlotProcess] = field(default_factory=dict)
    runs: dict[int, str] = field(default_factory=dict)
    counts: dict[SlotName, Traffic] = field(default_factory=lambda: dict.fromkeys(SLOTS, NONE))
    metrics: dict[int, dict[str, Any]] = field(default_factory=dict)
    fails: dict[str, TunegateError] = field(default_factory=dict)
    on_sleep: Callable[[], object] = lambda: None
    now: datetime = datetime(2026, 11, 24, tzinfo=UTC)
    done: list[str] = field(default_factory=list)
    points: int = 0
    kill_at: int = 0
    base_url: str = "http://door"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> World:
        clock = SimpleNamespace(now=lambda zone: self.now, fromisoformat=datetime.fromisoformat)
        seconds = SimpleNamespace(sleep=self.sleep, monotonic=lambda: self.now.timestamp(), perf_counter=lambda: self.now.timestamp())
        replaced = {name: getattr(self, name) for name in ("start_slot", "stop_slot", "is_alive", "reap_orphan", "prove", "wait_for_slot")}
        replaced |= {"Router": lambda config: self, "api_key": lambda config: "key", "time": seconds, "datetime": clock}
        replaced |= {"read_metrics": lambda base_url: self.metrics.get(int(base_url.rpartition(":")[2]), {})}
        for module in (serve.effects, serve.deploy, serve.record, serve.environment, serve.bake, serve.watch):
            for name in replaced.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, replaced[name])
        monkeypatch.setattr(Liveness, "hung", lambda *facts: frozenset())  # no server here hangs
        monkeypatch.setattr(Record, "append", lambda record, *event, **facts: self.append(record, *event, **facts))
        return self

    def point(self) -> None:
        self.points += 1
        if self.points == self.kill_at:
            raise Killed

    @contextmanager
    def effect(self, name: str) -> Iterator[None]:
        self.point()
        if name in self.fails:
            raise self.fails[name]
        self.done.append(name)
        yield
        self.point()

    def append(self, record: Record, *event: Any, **facts: Any) -> None:
        self.point()
        APPEND(record, *event, **facts)
        self.point()

    def sleep(self, seconds: float) -> None:
        self.point()
        self.now += timedelta(seconds=seconds)
        self.on_sleep()

    def is_running(self) -> bool:
        return self.door

    def weights(self) -> dict[SlotName, int]:
        return dict(self.shares)

    @property
    def routed(self) -> SlotName | None:
        return next((slot for slot in SLOTS if self.shares[slot] == 100), None)

    @routed.setter
    def routed(self, slot: SlotName | None) -> None:
        self.shares = {name: 100 if name == slot else 0 for name in SLOTS}

    def set_weights(self, shares: dict[SlotName, int]) -> None:
        with self.effect(f"share {shares}"):
            self.shares = {name: shares.get(name, 0) for name in SLOTS}

    def pause(self) -> None:
        with self.effect("hold the door"):
            self.held = True

    def resume(self) -> None:
        with self.effect("let in"):
            self.held = False

    def is_paused(self) -> bool:
        return self.held

    def traffic(self) -> dict[SlotName, Traffic]:
        return dict(self.counts)

    def start(self, api_key: str) -> None:
        with self.effect("open"):
            self.door = True

    def stop(self, drain_seconds: float) -> None:
        with self.effect(f"close {drain_seconds}"):
            self.door = False

    def switch(self, slot: SlotName) -> None:
        with self.effect(f"switch {slot}"):
            self.routed = slot

    def set_release(self, slot: SlotName, digest: str) -> None:
        with self.effect(f"label {slot}"):
            self.digests[slot] = digest

    def wait_for_slot(self, env: Environment, slot: SlotName, client: object) -> None:
        if self.serving() is None or self.routed != slot:
            raise OutsideError(f"the door still answers from nobody, not from {slot}")

    def start_slot(self, directory: Path, manifest: Manifest, *, port: int, log: Path, index: int, **facts: object) -> SlotProcess:
        assert port not in self.servers, "the port is taken"
        with self.effect(f"start {SLOTS[index]}"):
            self.servers[port], self.runs[port] = SlotProcess(len(self.done), 0.0, port, log), manifest.reference
        return self.servers[port]

    def is_alive(self, process: SlotProcess) -> bool:
        return self.servers.get(process.port) == process

    def stop_slot(self, process: SlotProcess, drain_seconds: float) -> None:
        if self.is_alive(process):
            self.reap_orphan(process.port)

    def reap_orphan(self, port: int) -> None:
        slot = "blue" if port == PORTS["blue"] else "green"
        if port in self.servers:
            assert not (self.door and self.routed == slot and not self.held), f"{slot} serves and was stopped"
            with self.effect(f"stop {slot}"):
                del self.servers[port]

    def prove(self, proof: str, process: SlotProcess, *rest: object) -> dict[str, Any]:
        with self.effect(f"prove {proof}"):
            assert self.is_alive(process)
        return {}

    def serving(self) -> str | None:
        return self.runs[PORTS[self.routed]] if self.door and self.routed and PORTS[self.routed] in self.servers else None

    def count(self, slot: SlotName, **facts: int) -> None:
        self.counts[slot] = Traffic(**(vars(self.counts[slot]) | facts))


def publish(name: str, outcome: Outcome = "pass") -> str:
    """releases/NAME@DIGEST12 under the working directory, of a few bytes."""
    folder = Path("releases") / f".{name}" / "release"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(name)
    files = list_files(folder)
    facts: dict[str, Any] = {"base": {}, "data": {}, "quantization": {}, "git_revision": "x", "versions": {}, "config": {}, "created": "2026-11-24"}
    manifest = Manifest(name=name, digest=digest_of(files), task="causal-lm", files=files, serving=Serving(), **facts)
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    Verdict(release=manifest.reference, outcome=outcome, results=[]).write(folder.parent / "gate" / "verdict.json")
    folder.parent.rename(f"releases/{name}@{manifest.digest[7:19]}")
    return manifest.reference


def environment(folder: str = "state", **facts: Any) -> Environment:
    settings = {"name": "x", "model": "m", "gate": None, "bake_seconds": 1, "drain_deadline_seconds": 20, "state_dir": folder}
    return Environment(DeployConfig.model_validate(settings | facts))


def kinds(env: Environment) -> list[str]:
    """Of all events but those of taking hold."""
    return [event.kind for event in env.record.read() if event.kind != "acquired"]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.chdir(tmp_path)
    return World().install(monkeypatch)


@pytest.fixture
def env(world: World) -> Environment:
    return environment()


@pytest.fixture
def release(world: World) -> str:
    return publish("one")


def do(env: Environment, kind: ActionKind, slot: SlotName | None = None, **facts: Any) -> State:
    """One action on the state that is on record; the state afterwards."""
    perform(Action(kind, slot, **facts), env, env.record.state())
    return env.record.state()


def test_started_again_a_slot_has_one_server_that_the_record_names_and_the_last_one_is_ended_even_if_no_record_names_it(
    world: World, env: Environment, release: str
) -> None:
    first, second = (env.process(do(env, "start", "green", release=release), "green") for _ in range(2))
    assert first != second == world.servers[8102]
    assert world.done == ["label green", "start green", "stop green", "label green", "start green"]
    env.record.path.unlink()
    assert env.process(do(env, "start", "green", release=release), "green") == world.servers[8102]
    assert world.done.count("stop green") == 2 and world.digests == {"green": release.partition("@")[2]}


def test_the_intent_to_start_is_on_disk_before_the_process_is(world: World, env: Environment, release: str) -> None:
    world.fails = {"start blue": OutsideError("no")}
    with pytest.raises(OutsideError):
        do(env, "start", "blue", release=release)
    state = env.record.state()
    assert kinds(env) == ["starting"] and state.release_of("blue") == release and env.alive(state) == frozenset()


def test_one_wrong_byte_and_nothing_is_recorded_nor_started(world: World, env: Environment, release: str) -> None:
    next(Path("releases").glob("one@*/release/model.safetensors")).write_text("onE")
    with pytest.raises(RefusedError, match=r"model\.safetensors"):
        do(env, "start", "blue", release=release)
    with pytest.raises(InputError, match="no such release"):
        do(env, "start", "blue", release="two@sha256:" + "0" * 64)
    assert world.done == [] and kinds(env) == []


def test_a_proof_is_recorded_with_its_facts_and_may_be_repeated(world: World, env: Environment, release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    do(env, "start", "blue", release=release)
    monkeypatch.setattr(serve.effects, "prove", lambda proof, *rest: {"agreement": 1.0})
    for _ in range(2):
        state = do(env, "prove", "blue", proof="parity")
    assert state.slots["blue"] and state.slots["blue"].proofs == {"parity"}
    assert env.record.read()[-1].facts == {"proof": "parity", "seconds": 0.0, "agreement": 1.0}


def test_a_slot_without_a_server_on_record_has_nothing_to_prove(world: World, env: Environment) -> None:
    with pytest.raises(OutsideError, match="slot blue has no server on record"):
        env.slot_parts(env.record.state(), "blue")


def test_switching_twice_is_switching_once(world: World, env: Environment, release: str) -> None:
    do(env, "open_door")
    do(env, "start", "blue", release=release)
    world.count("green", open=5)
    first, second = (do(env, "switch", "blue") for _ in range(2))
    assert first.active == second.active == world.routed == "blue" and second.switching is None
    assert (first.switch["from"], first.switch["streams_open_at_switch"]) == (None, 0)
    assert second.switch["before"] == {slot: vars(one) for slot, one in world.counts.items()}


@pytest.mark.parametrize("fault", ["router", "server"])
def test_a_switch_that_is_not_seen_through_the_door_stays_an_intent(world: World, env: Environment, release: str, fault: str) -> None:
    do(env, "open_door")
    do(env, "start", "blue", release=release)
    if fault == "router":
        world.fails = {"switch blue": OutsideError("no")}
    else:
        world.servers.clear()
    with pytest.raises(OutsideError):
        do(env, "switch", "blue")
    assert (env.record.state().switching, env.record.state().active) == ("blue", None)


@pytest.mark.parametrize(("streams", "why", "waited"), [(0, "streams zero", 0), (3, "deadline", 20)])
def test_a_slot_retires_at_zero_streams_or_at_the_deadline_and_the_record_says_which(
    world: World, env: Environment, release: str, streams: int, why: str, waited: int
) -> None:
    do(env, "open_door")
    do(env, "start", "green", release=release)
    world.count("green", open=streams)
    began = world.now
    assert do(env, "stop", "green").slots["green"] is None and world.servers == {}
    facts = env.record.read()[-1].facts
    assert facts["release"] == release and (facts["streams_open"], facts["why"]) == (streams, why) and facts["drain_seconds"] >= waited
    assert (world.now - began).total_seconds() == pytest.approx(waited, abs=0.3)
    do(env, "stop", "green")
    assert world.done.count("stop green") == 1


def test_a_dead_server_is_retired_without_waiting_for_its_streams(world: World, env: Environment, release: str) -> None:
    do(env, "open_door")
    do(env, "start", "green", release=release)
    world.servers.clear()
    world.count("green", open=3)
    began = world.now
    do(env, "stop", "green")
    assert world.now == began and env.record.read()[-1].facts["why"] == "streams zero"


def test_people_are_told_one_line_a_step(world: World, release: str) -> None:
    lines: list[str] = []
    env = Environment(environment().config, lines.append)
    do(env, "open_door")
    do(env, "start", "blue", release=release)
    do(env, "prove", "blue", proof="load")
    do(env, "switch", "blue")
    do(env, "stop", "green")
    assert [line.split()[0] for line in lines] == ["open", "start", "prove", "switch", "retire"]
    assert lines[2].endswith(": load")  # demo.py opens its streams at this line


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(streams=st.integers(0, 8), every=st.integers(1, 8), seconds=st.floats(0, 5))
def test_streams_are_waited_for_until_zero_or_the_deadline(world: World, env: Environment, streams: int, every: int, seconds: float) -> None:
    """One stream ends with every `every`-th look, four looks a second."""
    looks, began, world.door = 0, world.now, True
    world.count("blue", open=streams)

    def look() -> None:
        nonlocal looks
        looks += 1
        world.count("blue", open=max(0, streams - looks // every))

    world.on_sleep = look
    left, waited = wait_for_streams(env, "blue", seconds), (world.now - began).total_seconds()
    assert left == world.counts["blue"].open and waited <= seconds + 0.25
    assert left == 0 or waited >= seconds - 1e-3
    assert waited == 0 or (streams and waited <= 0.25 * streams * every)


def test_a_closed_door_has_no_streams(world: World, env: Environment) -> None:
    world.count("blue", open=3)
    assert traffic_of(env, "blue") == NONE and wait_for_streams(env, "blue", 60) == 0


def replies(monkeypatch: pytest.MonkeyPatch, *answers: str | None) -> list[httpx.Request]:
    """The door answers from these slots in turn, the last for ever; None refuses the connection."""
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        slot = answers[min(len(seen), len(answers)) - 1]
        if slot is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, headers={"x-tunegate-slot": slot})

    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **facts: real(transport=httpx.MockTransport(answer), **facts))
    return seen


def test_a_switch_is_believed_once_the_door_answers_from_the_slot(world: World, env: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = replies(monkeypatch, "blue", None, "blue", "green")
    WAIT_FOR_SLOT(env, "green", door_client(env))
    assert len(seen) == 4 and seen[0].url == "http://door/health"


@pytest.mark.parametrize(("answer", "message"), [("blue", "still answers from blue, not from green"), (None, "still answers from ConnectError")])
def test_a_door_that_goes_on_answering_from_elsewhere_is_an_outside_error(
    world: World, env: Environment, monkeypatch: pytest.MonkeyPatch, answer: str | None, message: str
) -> None:
    replies(monkeypatch, answer)
    with pytest.raises(OutsideError, match=message):
        WAIT_FOR_SLOT(env, "green", door_client(env), seconds=0.1)


def test_what_is_observed_comes_from_the_door_and_the_processes_never_from_the_record(world: World, env: Environment, release: str) -> None:
    state = do(env, "start", "blue", release=release)
    world.routed = "blue"
    assert vars(env.observe(state)) == {"door_open": False, "weights": {}, "alive": {"blue"}, "hung": frozenset(), "now": world.now.timestamp()}
    world.servers.clear()
    world.door = True
    seen = env.observe(state)
    assert (seen.door_open, seen.routed, seen.alive) == (True, "blue", frozenset())
