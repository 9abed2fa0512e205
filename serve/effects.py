"""The thin effects of a deployment: each does one action of the plan and records it. Each may be repeated after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.deploy import DeployConfig
from configs.errors import OutsideError
from configs.release import Manifest, read_manifest
from infra.artifacts import find, folder_of
from infra.router import SLOTS, Router, SlotName, Traffic, api_key
from infra.sampling import sampling_of
from infra.slot import SlotProcess, is_alive, reap_orphan, start_slot, stop_slot
from serve.planner import Action, Observed
from serve.proofs import Judge, prove
from serve.record import Record, State, other
from serve.relative import Blue
from serve.watch import Compare, count_slots

KILL_SECONDS = 5


@dataclass(frozen=True)
class Environment:
    """One deployment environment: its wishes, its record, its door. `tell` gets one line a step, for people."""

    config: DeployConfig
    tell: Callable[[str], None] = lambda line: None
    judge: Judge | None = None
    compare: Compare | None = None

    @property
    def folder(self) -> Path:
        return Path(self.config.state_dir)

    @property
    def record(self) -> Record:
        return Record(self.folder / "events.jsonl")

    @property
    def router(self) -> Router:
        return Router(self.config)

    def process(self, state: State, slot: SlotName) -> SlotProcess | None:
        found = state.slots[slot]
        facts = found.process if found else None
        return SlotProcess(facts["pid"], facts["create_time"], facts["port"], Path(facts["log"])) if facts else None

    def alive(self, state: State) -> frozenset[SlotName]:
        processes = {slot: self.process(state, slot) for slot in SLOTS}
        return frozenset(slot for slot, process in processes.items() if process and is_alive(process))

    def observe(self, state: State) -> Observed:
        door = self.router.is_running()
        return Observed(door, self.router.active() if door else None, self.alive(state))


def perform(action: Action, env: Environment, state: State) -> None:
    """Does one action. Raises RefusedError when a proof or the bake says no, OutsideError when the world fails."""
    slot = action.slot
    if action.kind == "open_door":
        env.tell(f"open the door at {env.router.base_url}")
        env.router.start(api_key(env.config))
        return
    assert slot is not None
    if action.kind == "start":
        start(env, slot, str(action.release), env.process(state, slot))
    elif action.kind == "prove":
        prove_slot(env, state, slot, str(action.proof))
    elif action.kind == "switch":
        switch(env, state, slot)
    elif action.kind == "stop":
        stop(env, state, slot)


def start(env: Environment, slot: SlotName, reference: str, stale: SlotProcess | None) -> None:
    """Verifies every byte, then starts vLLM in the slot. The intent is on disk before the process is."""
    directory = find(reference) / "release"  # every byte rehashed
    manifest = read_manifest(directory)
    index = SLOTS.index(slot)
    port = env.config.slot_ports[index]
    env.tell(f"start {reference[:40]}… in {slot}, 127.0.0.1:{port}")
    env.record.append("starting", slot, release=reference)
    if stale:
        stop_slot(stale, drain_seconds=0)
    reap_orphan(port)
    log = env.folder / f"{slot}.log"
    sampling = sampling_of(env.config, slot)
    process = start_slot(directory, manifest, port=port, served_name=env.config.model, log=log, index=index, sampling=sampling)
    env.record.append("started", slot, pid=process.pid, create_time=process.create_time, port=port, log=str(log))
    env.router.set_release(slot, manifest.digest)


def prove_slot(env: Environment, state: State, slot: SlotName, proof: str) -> None:
    process, directory, manifest = slot_parts(env, state, slot)
    started = time.monotonic()
    env.tell(f"prove {slot}: {proof}")
    facts = prove(proof, process, directory, manifest, env.config, env.judge, what_serves(env, state, slot))
    env.record.append("proven", slot, proof=proof, seconds=round(time.monotonic() - started, 2), **facts)


def what_serves(env: Environment, state: State, slot: SlotName | None) -> Blue | None:
    """The slot that traffic goes to, unless it is `slot`. One that died meanwhile is still given: then its figures are missing, and nothing passes by it."""
    active = state.active
    if active is None or active == slot:
        return None
    process, _, manifest = slot_parts(env, state, active)
    return Blue(f"http://127.0.0.1:{process.port}", manifest, lambda: traffic_of(env, active))


def slot_parts(env: Environment, state: State, slot: SlotName) -> tuple[SlotProcess, Path, Manifest]:
    process, reference = env.process(state, slot), state.release_of(slot)
    if process is None or reference is None:
        raise OutsideError(f"slot {slot} has no server on record", hint=f"tunegate status {env.config.name}")
    directory = folder_of(reference) / "release"
    return process, directory, read_manifest(directory)


def switch(env: Environment, state: State, slot: SlotName) -> None:
    """Moves new requests; the counts of the other slot are kept, so that the receipt can say what became of its streams."""
    env.tell(f"switch to {slot}")
    old = other(slot)
    env.record.append("switching", slot)
    counted = count_slots(env)
    before = env.router.traffic()
    started = time.perf_counter()
    env.router.switch(slot)
    wait_for_slot(env, slot)
    flip = round(1000 * (time.perf_counter() - started), 1)
    counts = {name: vars(one) for name, one in before.items()}
    first = state.active is None
    open_streams = 0 if first else before[old].open
    facts = {"before": counts, "counted": counted, "flip_milliseconds": flip, "streams_open_at_switch": open_streams, "from": None if first else old}
    env.record.append("switched", slot, **facts)


def wait_for_slot(env: Environment, slot: SlotName, seconds: float = 10) -> None:
    """Until a request through the door is answered by `slot`: what a client sees, not what the router believes."""
    import httpx

    deadline = time.monotonic() + seconds
    seen: object = None
    with httpx.Client(headers={"Authorization": f"Bearer {api_key(env.config)}"}, timeout=5) as client:
        while time.monotonic() < deadline:
            try:
                seen = client.get(f"{env.router.base_url}/v1/models").headers.get("x-tunegate-slot")
            except httpx.HTTPError as error:
                seen = type(error).__name__
            if seen == slot:
                return
            time.sleep(0.002)
    raise OutsideError(f"the door still answers from {seen}, not from {slot}", hint=f"tunegate status {env.config.name}")


def stop(env: Environment, state: State, slot: SlotName) -> None:
    """Retires a slot once its open streams are zero or the deadline has passed; the record says which."""
    process = env.process(state, slot)
    open_streams = wait_for_streams(env, slot, env.config.drain_deadline_seconds) if process and is_alive(process) else 0
    env.tell(f"retire {slot}, {open_streams} streams open")
    if process:
        stop_slot(process, drain_seconds=KILL_SECONDS)
    reap_orphan(env.config.slot_ports[SLOTS.index(slot)])
    env.record.append("stopped", slot, release=state.release_of(slot), streams_open=open_streams, why="deadline" if open_streams else "streams zero")


def wait_for_streams(env: Environment, slot: SlotName, seconds: float) -> int:
    """Streams still open on `slot` after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (open_now := traffic_of(env, slot).open) and time.monotonic() < deadline:
        time.sleep(0.25)
    return open_now


def traffic_of(env: Environment, slot: SlotName) -> Traffic:
    return env.router.traffic()[slot] if env.router.is_running() else Traffic(0, 0, 0, 0, 0)


def receipt(state: State, now: dict[SlotName, Traffic], seconds: float) -> dict[str, Any]:
    """What became of every stream since the switch, from the router's own counters."""
    facts, active = state.switch, state.active
    assert active is not None
    old: SlotName = other(active)
    was = {slot: Traffic(**facts["before"][slot]) for slot in SLOTS}
    delta = {
        slot: Traffic(
            now[slot].open, *(after - before for after, before in zip(list(vars(now[slot]).values())[1:], list(vars(was[slot]).values())[1:], strict=True))
        )
        for slot in SLOTS
    }
    left_open = delta[old].open if facts["from"] else 0
    cut = sum(one.cut_by_server for one in delta.values())
    return {
        "from": {"slot": facts["from"], "release": state.release_of(facts["from"])},
        "to": {"slot": active, "release": state.release_of(active)},
        "flip_milliseconds": facts["flip_milliseconds"],
        "streams_open_at_switch": facts["streams_open_at_switch"],
        "streams_completed": facts["streams_open_at_switch"] - left_open - delta[old].cut_by_server - delta[old].left_by_client,
        "streams_left_by_client": delta[old].left_by_client,
        "streams_cut": cut,
        "streams_still_open": left_open,
        "requests_since": delta[active].total,
        "requests_failed": sum(one.failed for one in delta.values()),
        "seconds_watched": round(seconds, 1),
    }
