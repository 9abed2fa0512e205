"""The thin effects of a deployment: each does one action of the plan and records it. Each may be repeated after a kill."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from configs.environment.strategy import ShadowFirst
from configs.errors import OutsideError
from configs.release import ADAPTER, read_manifest
from configs.slots import SLOTS, SlotName, other
from infra.dvc.releases import find, find_trusted
from infra.haproxy.api_keys import api_key
from infra.haproxy.router import Traffic
from infra.vllm.adapter_names import prefix_of
from infra.vllm.runtime_adapters import load_adapter
from infra.vllm.sampling import sampling_of
from infra.vllm.server import is_alive, reap_orphan, start_slot, stop_slot
from serve.plan.capacity import measure
from serve.plan.planner import Action
from serve.proofs.baseline import Blue
from serve.proofs.prove import prove
from serve.record.environment import Environment
from serve.record.receipt import of_rollback, write_receipt
from serve.record.state import State
from serve.switch.shared_server import end_server, host_for, port_for, room_of, why_apart
from serve.watch.liveness import answers
from serve.watch.watcher import count_slot

if TYPE_CHECKING:
    import httpx

KILL_SECONDS = 5
LONGEST_WAIT_SECONDS = 5.0


def perform(action: Action, env: Environment, state: State) -> None:
    """Does one action. Raises RefusedError when a proof or the room says no, OutsideError when the world fails or another holder has taken over."""
    env.record.check_token()
    if action.kind == "open_door":
        open_door(env, state)
        return
    slot = action.slot
    assert slot is not None
    effects: dict[str, Callable[[], None]] = {
        "start": lambda: start(env, state, slot, str(action.release)),
        "measure": lambda: measure_room(env, state, slot, str(action.release)),
        "prove": lambda: prove_slot(env, state, slot, str(action.proof)),
        "step": lambda: step(env, state, slot, action.weight or 0),
        "queue": lambda: queue(env, state, slot),
        "switch": lambda: switch(env, state, slot),
        "stop": lambda: stop(env, state, slot),
        "crashed": lambda: crash(env, state, slot, str(action.why)),
        "fall_back": lambda: fall_back(env, state, slot, str(action.release), str(action.why)),
        "page": lambda: page(env, slot, str(action.why)),
        "refuse": lambda: note(env, "refused", slot, str(action.why)),
        "wait": lambda: time.sleep(min(action.seconds, LONGEST_WAIT_SECONDS)),
    }
    effects[action.kind]()


def open_door(env: Environment, state: State) -> None:
    env.tell(f"open the door at {env.router.base_url}")
    env.router.start(api_key(env.config))
    if state.swapping:
        env.router.pause()
    elif env.router.is_paused():
        env.router.resume()


def note(env: Environment, kind: Any, slot: SlotName, why: str, **facts: Any) -> None:
    env.tell(f"{kind}: {why}")
    env.record.append(kind, slot, why=why, **facts)


def crash(env: Environment, state: State, slot: SlotName, why: str) -> None:
    """What is left of the server is ended before its end is on record: a hung one must not come back to life.

    One that the other slot lives in too is left alone while that one answers: then it was the adapter.
    """
    process = env.process(state, slot)
    if env.is_shared(state, slot) and answers(env, state, other(slot)):
        end_server(env, state, slot, drain_seconds=0)
    elif process:
        stop_slot(process, drain_seconds=0)
    note(env, "crashed", slot, why, release=state.release_of(slot))


def fall_back(env: Environment, state: State, slot: SlotName, release: str, why: str) -> None:
    failed = state.release_of(slot)
    env.tell(f"{failed}: {why}: back to {release}")
    env.record.append("desired", release=release, rollback=True, failed=failed, why=why)


def page(env: Environment, slot: SlotName, why: str) -> None:
    note(env, "paged", slot, f"a person is needed: {why}")


def measure_room(env: Environment, state: State, slot: SlotName, reference: str) -> None:
    """Surge, swap or adapter, by the memory that is there now; the arithmetic goes on record."""
    manifest = read_manifest(find(reference) / "release")
    leaving = env.process(state, state.active) if state.active else None
    apart = why_apart(env, state, state.active, manifest)
    choice = measure(env.config, manifest, env.record.read(), leaving, apart)
    env.tell(f"room for {manifest.name}: {choice['why']}")
    env.record.append("planned", slot, release=reference, **choice)


def start(env: Environment, state: State, slot: SlotName, reference: str) -> None:
    """Verifies every byte and the signature, then starts vLLM in the slot, or loads the adapter into the one that runs.

    The intent is on disk before the process is.
    """
    directory = find_trusted(reference, env.config.signing) / "release"  # every byte rehashed
    manifest = read_manifest(directory)
    host, port = host_for(env, state, slot, manifest), port_for(env, state, slot)
    env.tell(f"load {reference[:40]}… into the server of {other(slot)}, for {slot}" if host else f"start {reference[:40]}… in {slot}, 127.0.0.1:{port}")
    env.record.append("starting", slot, release=reference)
    end_server(env, state, slot, drain_seconds=0)
    reap_orphan(port)
    # Before the server is: no answer of it may carry the digest of the one before.
    prefix = prefix_of(slot, str(manifest.adapter)) if host else ""
    env.router.set_server(slot, host.port if host else port, prefix)
    env.router.set_release(slot, manifest.digest)
    if host:
        # From here on the server's counters are not those of the other slot's users alone.
        counted = counted_of(env, other(slot))
        load_adapter(host, str(manifest.adapter), directory / ADAPTER)
        env.record.append("started", slot, **(env.facts(state, other(slot)) or {}) | {"prefix": prefix, "counted": counted})
        return
    log, sampled, hot = env.folder / f"{slot}.log", sampling_of(env.config, slot), env.config.capacity == "adapter"
    process = start_slot(directory, manifest, port=port, served_name=env.config.model, log=log, index=SLOTS.index(slot), sampled=sampled, hot=hot)
    room = {"room": room_of(manifest)} if hot and manifest.adapter else {}
    env.record.append("started", slot, pid=process.pid, create_time=process.create_time, port=port, log=str(log), **room)


def prove_slot(env: Environment, state: State, slot: SlotName, proof: str) -> None:
    process, directory, manifest = env.slot_parts(state, slot)
    started = time.monotonic()
    env.tell(f"prove {slot}: {proof}")
    # Before the load test asks what serves as well: from there on its counters are not its users' alone.
    compared = proof == "load" and state.active not in (None, slot) and not env.is_shared(state, slot)
    before = counted_of(env, state.active) if compared and state.active else {}
    facts = shadow(env, slot) if proof == "shadow" else prove(proof, process, directory, manifest, env.config, env.judge, what_serves(env, state, slot))
    env.record.append("proven", slot, proof=proof, seconds=round(time.monotonic() - started, 2), **facts, **({"counted": before} if before else {}))


def what_serves(env: Environment, state: State, slot: SlotName | None) -> Blue | None:
    """The slot that traffic goes to, unless it is `slot`. One that died meanwhile is still given: then its figures are missing, and nothing passes by it."""
    active = state.active
    if active is None or active == slot:
        return None
    process, _, manifest = env.slot_parts(state, active)
    return Blue(process.base_url, manifest, lambda: traffic_of(env, active))


def shadow(env: Environment, slot: SlotName) -> dict[str, Any]:
    from serve.proofs import shadow as shadowing

    strategy = env.config.strategy
    assert isinstance(strategy, ShadowFirst)
    return shadowing.run(env, slot, strategy.seconds, strategy.share / 100)


def counts_of(env: Environment) -> dict[str, dict[str, int]]:
    return {name: dict(vars(one)) for name, one in env.router.traffic().items()}


def counted_of(env: Environment, slot: SlotName) -> dict[str, Any]:
    """vLLM's own counters of one slot. At a switch of the one that traffic comes to alone: the other may hang, and a rollback waits for nobody."""
    return {slot: count_slot(env, slot).model_dump(mode="json")}


def step(env: Environment, state: State, slot: SlotName, weight: int) -> None:
    """Gives the candidate its share of new requests, or takes a share back that nobody gave."""
    counted, before = counted_of(env, slot) if weight else {}, counts_of(env)
    if weight != state.weight:
        env.tell(f"{weight} % of new requests to {slot}")
    env.router.set_weights({other(slot): 100 - weight, slot: weight})
    if env.router.is_paused():
        env.router.resume()
    env.record.append("stepped", slot, weight=weight, before=before, counted=counted, release=state.release_of(slot))


def queue(env: Environment, state: State, slot: SlotName) -> None:
    """The intent alone: from here on the door is held, by whichever effect comes next."""
    env.tell(f"swap: new requests wait in the door while {slot} makes room")
    env.record.append("queued", slot, release=state.release_of(slot), before=counts_of(env))


def switch(env: Environment, state: State, slot: SlotName) -> None:
    """Moves new requests; the counts of the other slot are kept, so that the receipt can say what became of its streams."""
    env.tell(f"switch to {slot}")
    old = None if state.active is None and state.swapping is None else other(slot)
    env.record.append("switching", slot)
    counted, before = counted_of(env, slot), counts_of(env)
    with door_client(env) as client:
        started = time.perf_counter()
        env.router.switch(slot)
        if env.router.is_paused():
            env.router.resume()
        flipped = time.perf_counter()
        wait_for_slot(env, slot, client)
        first = time.perf_counter()
    facts = {
        "before": before,
        "counted": counted,
        "flip_milliseconds": round(1000 * (flipped - started), 1),
        "first_request_milliseconds": round(1000 * (first - flipped), 1),
        "streams_open_at_switch": before[old]["open"] if old else 0,
        "from": old,
        "from_release": state.release_of(old) or state.ledger.get("release"),
    }
    env.record.append("switched", slot, **facts)
    if state.rollback:
        after = env.record.state()
        write_receipt(env, after, of_rollback(env, after))


def door_client(env: Environment) -> httpx.Client:
    """For the door's own probe, which needs no key and goes over loopback: reading certificates would cost 70 ms."""
    import httpx

    return httpx.Client(base_url=env.router.base_url, timeout=5, verify=False)


def wait_for_slot(env: Environment, slot: SlotName, client: httpx.Client, seconds: float = 10) -> None:
    """Until a request through the door is answered by `slot`: what a client sees, not what the router believes."""
    import httpx

    deadline = time.monotonic() + seconds
    seen: object = None
    while time.monotonic() < deadline:
        try:
            seen = client.get("/health").headers.get("x-tunegate-slot")  # no key, no limit, open whatever door.paths says
        except httpx.HTTPError as error:
            seen = type(error).__name__
        if seen == slot:
            return
        time.sleep(0.002)
    raise OutsideError(f"the door still answers from {seen}, not from {slot}", hint=f"tunegate status {env.config.name}")


def stop(env: Environment, state: State, slot: SlotName) -> None:
    """Retires a slot once its open streams are zero or the deadline has passed; the record says which."""
    leaves = slot == state.swapping and state.refused is None
    if leaves:
        env.router.pause()
    process, began = env.process(state, slot), time.monotonic()
    deadline = state.planned.get("drain_seconds", env.config.drain_deadline_seconds) if leaves else env.config.drain_deadline_seconds
    open_streams = wait_for_streams(env, slot, deadline) if process and is_alive(process) else 0
    env.tell(f"retire {slot}, {open_streams} streams open")
    drained = round(time.monotonic() - began, 1)
    end_server(env, state, slot, KILL_SECONDS)
    reap_orphan(port_for(env, state, slot))
    why = "deadline" if open_streams else "streams zero"
    env.record.append("stopped", slot, release=state.release_of(slot), streams_open=open_streams, why=why, drain_seconds=drained)


def wait_for_streams(env: Environment, slot: SlotName, seconds: float) -> int:
    """Streams still open on `slot` after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (open_now := traffic_of(env, slot).open) and time.monotonic() < deadline:
        time.sleep(0.25)
    return open_now


def traffic_of(env: Environment, slot: SlotName) -> Traffic:
    return env.router.traffic()[slot] if env.router.is_running() else Traffic(0, 0, 0, 0, 0)
