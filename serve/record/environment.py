"""One deployment environment, as every part of `serve` sees it, and who may change it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.environment.placement import Kubernetes
from configs.errors import ExternalError, InputError
from configs.release import Manifest, read_manifest
from configs.slots import SLOTS, Server, SlotName, other
from configs.verdict import Verdict
from infra.boot import ProcessId, identify
from infra.dvc.releases import folder_of
from infra.haproxy.router import Router
from infra.kubernetes.lease import Lease, held
from infra.kubernetes.slot import SlotPods
from infra.router_pods.routers import Routers
from infra.state.folder import state_folder
from infra.state.home import settle
from infra.vllm.server import SlotProcess, is_alive, recorded
from serve.record.facts import Acquired, Holder, Started
from serve.record.record import Record
from serve.record.state import State

SUPERVISOR = "supervisor"  # the agent that a deploy by hand leaves behind, and the next command takes over from
LAST_TASK_SECONDS = 10.0  # of a holder that was ended: what it had begun is ended by then


# What a slot is made of, here or in a cluster.
SlotServer = SlotProcess | SlotPods


class BusyError(InputError):
    """Another command, or the agent, holds the environment."""


@dataclass(frozen=True)
class Environment:
    """Its settings, its record, its router. `report_progress` gets one line a step, for people; `load_gate` and
    `compare` are the gate's; `token` and, in a cluster, `lease` are its holder's, `why` what a person says of the
    request."""

    config: DeployConfig
    report_progress: Callable[[str], None] = lambda line: None
    load_gate: LoadGate | None = None
    compare: Compare | None = None
    token: int | None = None
    why: str | None = None
    lease: Lease | None = None

    @property
    def folder(self) -> Path:
        return state_folder(self.config)

    @property
    def record(self) -> Record:
        return Record(self.folder / "events.jsonl", self.token, self.why)

    @property
    def router(self) -> Router | Routers:
        return Routers(self.config) if isinstance(self.config.placement, Kubernetes) else Router(self.config)

    def check_lease(self) -> None:
        """Raises ExternalError while another one may have taken over, in a cluster."""
        if self.lease and not self.lease.holds:
            raise ExternalError(
                f"the Lease {self.lease.name} could not be renewed: nothing is changed until it is",
                hint=self.lease.cluster.hint,
            )

    def log_path(self, slot: SlotName, number: int) -> Path:
        """Where the slot's server of this number, from 0, writes what it has to say."""
        return self.folder / (f"{slot}-{number + 1}.log" if number else f"{slot}.log")

    def server(self, state: State, slot: SlotName, number: int | None = None) -> SlotServer | None:
        """A server of the slot, or its pods; without a number the first that nobody saw die."""
        facts = self.facts(state, slot, number)
        return server_of(self.config, slot, facts, self.record.owner) if facts else None

    def process(self, state: State, slot: SlotName, number: int | None = None) -> SlotProcess | None:
        """As `server`, of this machine."""
        found = self.server(state, slot, number)
        return found if isinstance(found, SlotProcess) else None

    def processes(self, state: State, slot: SlotName) -> list[SlotProcess]:
        """All of the slot's that are on record, the dead ones too."""
        found, owner = state.slots[slot], self.record.owner
        every = (
            [server_of(self.config, slot, one.process, owner) for _, one in sorted(found.servers.items())]
            if found
            else []
        )
        return [one for one in every if isinstance(one, SlotProcess)]

    def facts(self, state: State, slot: SlotName, number: int | None = None) -> Started | None:
        """Of its server, as they were recorded when it was started."""
        found = state.slots[slot]
        if found is None or number is None:
            return found.process if found else None
        return found.servers[number].process if number in found.servers else None

    def server_url(self, state: State, slot: SlotName) -> str:
        """Where the slot is asked, past the router: at one of its servers."""
        server = self.server(state, slot)
        return server.base_url if server else f"http://127.0.0.1:{self.config.slot_ports[SLOTS.index(slot)]}"

    def server_urls(self, state: State, slot: SlotName) -> list[str]:
        """Of all that nobody saw die."""
        here = [process for server, process in self.servers(state).items() if server[0] == slot]
        found = [url for one in here for url in (one.urls() if isinstance(one, SlotPods) else [one.base_url])]
        return found or [self.server_url(state, slot)]

    def neighbour(self, state: State, slot: SlotName) -> SlotProcess | None:
        """The other slot's server, if it lives."""
        return self.process(state, other(slot)) if other(slot) in self.alive(state) else None

    def is_shared(self, state: State, slot: SlotName) -> bool:
        """Whether the other slot lives in the same server."""
        process, beside = self.process(state, slot), self.neighbour(state, slot)
        return process is not None and beside is not None and process.is_same_process(beside)

    def slot_parts(self, state: State, slot: SlotName, number: int | None = None) -> tuple[SlotServer, Path, Manifest]:
        """Its server, its release's directory and manifest. Raises ExternalError where the record names no server."""
        server, reference = self.server(state, slot, number), state.release_of(slot)
        if server is None or reference is None:
            raise ExternalError(f"slot {slot} has no server on record", hint=f"tunegate status {self.config.name}")
        directory = folder_of(reference) / "release"
        return server, directory, read_manifest(directory)

    def created(self, reference: str) -> int:
        """When the release was made, in seconds since 1970; 0 where its manifest cannot be read here."""
        try:
            return read_manifest(folder_of(reference) / "release").created_seconds
        except (InputError, OSError):
            return 0

    def servers(self, state: State) -> dict[Server, SlotServer]:
        """Those of both slots whose crash is not on record."""
        owner = self.record.owner
        return {
            (slot, number): server_of(self.config, slot, one.process, owner)
            for slot, found in state.slots.items()
            if found
            for number, one in found.servers.items()
            if not one.crashed
        }

    def died(self, state: State) -> frozenset[Server]:
        """Those of them that live no more."""
        return frozenset(server for server, process in self.servers(state).items() if not lives_on(process))

    def alive(self, state: State) -> frozenset[SlotName]:
        """Slots with a server: one whose crash is on record has none, even where its adapter's server serves the other
        slot."""
        return frozenset(slot for (slot, _), process in self.servers(state).items() if lives_on(process))


def server_of(config: DeployConfig, slot: SlotName, facts: Started, owner: str) -> SlotServer:
    if "pods" in facts:
        pods = facts["pods"]
        return SlotPods(config, slot, pods["deployment"], pods["uid"], pods["address"], facts["port"])
    pid, port = facts["pid"], facts["port"]
    process = ProcessId(pid, facts["boot"], facts["ticks"]) if "ticks" in facts else recorded(pid, port)
    return SlotProcess(process, port, Path(facts["log"]), owner, facts.get("prefix", ""))


def lives_on(server: SlotServer) -> bool:
    return server.is_alive() if isinstance(server, SlotPods) else is_alive(server)


@contextmanager
def locked(env: Environment, command: str = "command", follows: str | None = None) -> Iterator[Environment]:
    """One holder at a time changes an environment; the lock dies with its holder. Yields the environment with the
    holder's token:

    should a holder come back after another has taken over (a lock file removed, a network file system), every effect of
    it refuses. `follows`: the branch that the holder takes its pins from. A supervisor makes room for anybody else.
    Raises BusyError.
    """
    from filelock import FileLock, Timeout

    settle(env.config)
    lock = FileLock(env.folder / "lock", timeout=0)
    try:
        try:
            lock.acquire()
        except Timeout:
            holder = holder_of(env)
            if holder and (holder["command"] != SUPERVISOR or command == SUPERVISOR):
                raise
            if holder:
                with suppress(ProcessLookupError):
                    os.kill(holder["pid"], signal.SIGTERM)
            lock.acquire(timeout=LAST_TASK_SECONDS)
    except Timeout:
        raise BusyError(
            f"another command is changing {env.config.name}", hint=f"tunegate status {env.config.name}"
        ) from None
    try:
        token = env.record.state().token + 1
        me = identify(os.getpid())
        assert me is not None
        facts: Acquired = {
            "token": token,
            "pid": me.pid,
            "boot": me.boot,
            "ticks": me.ticks,
            "host": socket.gethostname(),
            "command": command,
            "checkout": os.getcwd(),
        }
        if follows:
            facts["follows"] = follows
        env.record.append("acquired", **facts)
        with held(env.config) if isinstance(env.config.placement, Kubernetes) else nullcontext() as lease:
            yield replace(env, token=token, lease=lease)
    finally:
        lock.release()


def holder_of(env: Environment) -> Holder | None:
    """The last holder, if its process lives on this machine."""
    holder = env.record.state().holder
    return holder if holder and holder["host"] == socket.gethostname() and lives(holder) else None


def lives(acquired: Acquired) -> bool:
    """By its pid alone where an earlier tunegate wrote it."""
    found = identify(acquired["pid"])
    return found is not None and found[1:] == (acquired.get("boot", found.boot), acquired.get("ticks", found.ticks))


# The verdict of an environment's load rules on a release's figures, handed over as `Compare` is.
LoadGate = Callable[[str, dict[str, float]], Verdict]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Compare:
    """The gate's statistics (eval/statistics/unpaired.py), handed over by the front door: unknown in this room."""

    shares: Callable[[float, float, float, float, float], Interval]
    means: Callable[[float, float, float, float, float, float, float, float], Interval]
