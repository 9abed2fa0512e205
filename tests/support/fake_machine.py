"""A fake machine under real records and release folders: its router, servers and clock. It can be killed anywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import serve.deploy
import serve.plan.observe
import serve.record.environment
import serve.record.record
import serve.switch.effects
import serve.switch.failure
import serve.switch.loop
import serve.switch.reconcile
import serve.switch.servers
import serve.switch.traffic
import serve.watch.bake
import serve.watch.watcher
from configs.environment.config import DeployConfig
from configs.errors import ExternalError, TunegateError
from configs.release import Manifest
from configs.slots import SLOTS, SlotName
from infra.boot import Moment, ProcessId
from infra.haproxy.servers import Traffic
from infra.vllm.server import SlotProcess
from infra.vllm.strata import Strata
from serve.plan.action import Action, ActionKind
from serve.record.environment import Environment
from serve.record.facts import Receipt
from serve.record.record import Record
from serve.record.state import State
from serve.switch.effects import perform
from serve.switch.reconcile import DeployResult
from serve.watch.liveness import Liveness
from serve.watch.prober import Prober
from tests.support.few_bytes import publish
from tests.support.record_contract import check_facts
from tests.support.tasks_here import Killed, TasksHere

APPEND = Record.append
FAKED = (
    serve.deploy,
    serve.plan.observe,
    serve.record.environment,
    serve.record.record,
    serve.switch.effects,
    serve.switch.failure,
    serve.switch.loop,
    serve.switch.reconcile,
    serve.switch.servers,
    serve.switch.traffic,
    serve.watch.bake,
    serve.watch.watcher,
)
PORTS = {"blue": 8101, "green": 8102}
NONE = Traffic(0, 0, 0, 0, 0)


@dataclass
class World:
    """A machine: a Router's methods, infra.vllm.server's functions, a clock. `done` lists every effect.

    An effect named in `fails` raises. The command is killed at its `kill_at`-th point; one lies before and after each
    effect and each event. `clock_ahead`: seconds by which the wall clock is wrong.
    """

    router_up: bool = False
    shares: dict[SlotName, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    held: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    standing_by: set[SlotName] = field(default_factory=set)
    servers: dict[int, SlotProcess] = field(default_factory=dict)
    runs: dict[int, str] = field(default_factory=dict)
    counts: dict[SlotName, Traffic] = field(default_factory=lambda: dict.fromkeys(SLOTS, NONE))
    strata: dict[SlotName, Strata] = field(default_factory=dict)
    fails: dict[str, TunegateError] = field(default_factory=dict)
    on_sleep: Callable[[], object] = lambda: None
    unanswered: Callable[[], int] = lambda: 0
    uncounted: Callable[[], int] = lambda: 0
    lost: Callable[..., object] = lambda *times: {"named": [], "more": 0}
    missing_servers: Callable[[], list[str]] = list
    now: datetime = datetime(2026, 11, 24, tzinfo=UTC)
    clock_ahead: float = 0.0
    done: list[str] = field(default_factory=list)
    points: int = 0
    kill_at: int = 0
    base_url: str = "http://router"
    base_urls: tuple[str, ...] = ("http://router",)
    health_path: str = "/health"

    def install(self, monkeypatch: pytest.MonkeyPatch) -> World:
        seconds = SimpleNamespace(
            sleep=self.sleep, monotonic=lambda: self.now.timestamp(), perf_counter=lambda: self.now.timestamp()
        )
        names = ("start_slot", "stop_slot", "is_alive", "reap_orphan", "prove", "wait_for_slot")
        replaced = {name: getattr(self, name) for name in names} | {
            "Router": lambda config: self,
            "api_key": lambda config: "key",
            "time": seconds,
            "now": self.moment,
            "read_strata": lambda slot, *base_urls: self.strata.get(slot),
        }
        for module in FAKED:
            for name in replaced.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, replaced[name])
        monkeypatch.setattr(Liveness, "hung", lambda *facts: frozenset())  # no server here hangs
        monkeypatch.setattr(Prober, "begin", lambda *facts: None)
        monkeypatch.setattr(serve.switch.reconcile, "Tasks", partial(TasksHere, self.sleep))
        monkeypatch.setattr(Record, "append", lambda record, *event, **facts: self.append(record, *event, **facts))
        return self

    def moment(self) -> Moment:
        return Moment(self.now.timestamp() + self.clock_ahead, "boot", self.now.timestamp())

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
        """Whatever is written holds to the contract of its kind."""
        self.point()
        check_facts(APPEND(record, *event, **facts))
        self.point()

    def sleep(self, seconds: float) -> None:
        self.point()
        self.now += timedelta(seconds=seconds)
        self.on_sleep()

    def is_running(self) -> bool:
        return self.router_up

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
        with self.effect("hold the router"):
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
            self.router_up = True

    def stop(self, drain_seconds: float) -> None:
        with self.effect(f"close {drain_seconds}"):
            self.router_up = False

    def switch(self, slot: SlotName) -> None:
        with self.effect(f"switch {slot}"):
            self.routed = slot

    def set_release(self, slot: SlotName, digest: str, created: int = 0) -> None:
        with self.effect(f"label {slot}"):
            self.digests[slot] = digest

    def set_server(self, slot: SlotName, port: int, prefix: str = "") -> None:
        self.places[slot] = f"{port}{prefix}"

    def open_streams(self, slot: SlotName) -> int:
        return self.counts[slot].open if self.router_up else 0

    def standbys(self) -> set[SlotName]:
        return self.standing_by

    def set_standbys(self, slots: Collection[SlotName]) -> None:
        self.standing_by = set(slots)

    def wait_for_slot(self, env: Environment, slot: SlotName, client: object) -> None:
        if self.serving() is None or self.routed != slot:
            raise ExternalError(f"the router still answers from nobody, not from {slot}")

    def start_slot(
        self, directory: Path, manifest: Manifest, *, port: int, log: Path, index: int, **facts: object
    ) -> SlotProcess:
        assert port not in self.servers, "the port is taken"
        with self.effect(f"start {SLOTS[index]}"):
            self.servers[port] = SlotProcess(ProcessId(len(self.done), "", 0), port, log, str(facts["owner"]))
            self.runs[port] = manifest.reference
        return self.servers[port]

    def is_alive(self, process: SlotProcess) -> bool:
        return self.servers.get(process.port) == process

    def stop_slot(self, process: SlotProcess, drain_seconds: float) -> None:
        if self.is_alive(process):
            self.reap_orphan(process.port, process.owner)

    def reap_orphan(self, port: int, owner: str) -> None:
        slot = "blue" if port == PORTS["blue"] else "green"
        if port in self.servers:
            assert not (self.router_up and self.routed == slot and not self.held), f"{slot} serves and was stopped"
            with self.effect(f"stop {slot}"):
                del self.servers[port]

    def prove(self, proof: str, process: SlotProcess, *rest: object) -> dict[str, Any]:
        with self.effect(f"prove {proof}"):
            assert self.is_alive(process)
        return {}

    def serving(self) -> str | None:
        return (
            self.runs[PORTS[self.routed]]
            if self.router_up and self.routed and PORTS[self.routed] in self.servers
            else None
        )

    def count(self, slot: SlotName, **facts: int) -> None:
        self.counts[slot] = Traffic(**(vars(self.counts[slot]) | facts))


def environment(folder: str = "state", **facts: Any) -> Environment:
    settings = {"name": "x", "model": "m", "gate": None, "bake_seconds": 1, "drain_deadline_seconds": 20}
    watch = {"on_inconclusive": "accept", **facts.pop("watch", {})}  # who tests what follows asks for it
    return Environment(DeployConfig.model_validate({**settings, "state_dir": folder, "watch": watch, **facts}))


def receipt_in(found: DeployResult) -> Receipt:
    """Of a deploy that was baked."""
    receipt = found["receipt"]
    assert receipt is not None
    return receipt


def kinds(env: Environment) -> list[str]:
    """Of all events but those of taking hold."""
    return [event.kind for event in env.record.read() if event.kind != "acquired"]


def do(env: Environment, kind: ActionKind, slot: SlotName | None = None, **facts: Any) -> State:
    """One action on the state that is on record; the state afterwards."""
    perform(Action(kind, slot, **facts), env, env.record.state())
    return env.record.state()


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


@pytest.fixture
def old(world: World) -> str:
    return publish("old")


@pytest.fixture
def new(world: World) -> str:
    return publish("new")
