"""Effects on servers: started, proven, watched, stopped."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from configs.environment.strategy import ShadowFirst
from configs.errors import InputError
from configs.release import ADAPTER, Manifest, read_manifest
from configs.slots import SLOTS, SlotName, other
from infra.dvc.releases import find, find_trusted
from infra.haproxy.router import Router
from infra.vllm.adapter_names import prefix_of
from infra.vllm.runtime import load_adapter
from infra.vllm.sampling import sampling_of
from infra.vllm.server import SlotProcess, reap_orphan, start_slot, stop_slot
from infra.vllm.tracing import tracing_of
from serve.plan.capacity import measure
from serve.proofs import shadow
from serve.proofs.baseline import Blue
from serve.proofs.prove import prove
from serve.record.environment import Environment
from serve.record.facts import Crashed, Numbered, Placed, Planned, Started, Starting, Stopped
from serve.record.state import State
from serve.switch.gpus import await_memory, await_release, leaving, place_for, plan_gpus
from serve.switch.pods import end_pods, is_in_cluster, stand_down, start_pods
from serve.switch.shared_server import adapter_limits, end_server, port_for, ports_for, shared_server, why_not_shared
from serve.switch.traffic import count_server, traffic_of
from serve.watch.liveness import answers

KILL_SECONDS = 5
WAKING_SECONDS = 15  # an assumption, generous: goal 5 s of an 8B
POLL_SECONDS = 0.25


def crash(env: Environment, state: State, slot: SlotName, why: str, number: int = 0) -> None:
    """What is left of the server is ended before its end is on record: a hung one must not come back to life.

    One that the other slot lives in too is left alone while that one answers: then it was the adapter.
    """
    process = env.process(state, slot, number)
    if is_in_cluster(env.config):
        end_pods(env, slot, 0)
    elif env.is_shared(state, slot) and answers(env, state, other(slot)):
        end_server(env, state, slot, drain_seconds=0)
    elif process:
        stop_slot(process, drain_seconds=0)
    env.report_progress(f"crashed: {why}")
    facts: Crashed = {"why": why, "release": state.release_of(slot), **numbered(number)}
    env.record.append("crashed", slot, **facts)


def numbered(number: int) -> Numbered:
    """The first server of a slot is not named: a record of one server a slot reads as it always did."""
    return {"server": number} if number else {}


def measure_capacity(env: Environment, state: State, slot: SlotName, reference: str) -> None:
    """Surge, swap or adapter, by the memory that is there now; the arithmetic goes on record."""
    if is_in_cluster(env.config):
        placed: Planned = {"mode": "surge", "why": "surge: the cluster finds room for the pods of both slots"}
        env.record.append("planned", slot, **{"release": reference, **placed})
        return
    manifest = read_manifest(find(reference) / "release")
    serving = env.processes(state, state.active) if state.active else []
    separate = why_not_shared(env, state, state.active, manifest)
    planned = measure(env.config, manifest, state.proof_seconds, serving, separate)
    planned = plan_gpus(env, state, slot, manifest, planned)
    env.report_progress(f"memory for {manifest.name}: {planned['why']}")
    env.record.append("planned", slot, **{"release": reference, **planned})


def start(env: Environment, state: State, slot: SlotName, reference: str, number: int = 0) -> None:
    """Starts vLLM in the slot, or loads the adapter into the server that runs, once every byte and the signature are
    verified. The intent is on disk before the process is."""
    directory = find_trusted(reference, env.config.signing) / "release"  # each file hashed, unless it is known
    manifest = read_manifest(directory)
    if is_in_cluster(env.config):
        start_pods(env, slot, manifest)
        return
    shared = shared_server(env, state, slot, manifest)
    if shared:
        load_into_server(env, state, slot, shared, directory, manifest)
    elif joins(env, state, slot, reference, number):
        start_one_more(env, state, slot, directory, manifest, number)
    else:
        port = port_for(env, state, slot)
        env.report_progress(f"start {manifest.reference[:40]}… in {slot}, 127.0.0.1:{port}")
        empty_slot(env, state, slot, manifest)
        point_router(env, slot, port, "", manifest)
        start_server(env, slot, directory, manifest, port, 0, place_for(env, state, slot, reference, 0))


def joins(env: Environment, state: State, slot: SlotName, reference: str, number: int) -> bool:
    """Whether the slot has another server of this release that lives."""
    living = env.servers(state).keys() - env.died(state)
    return state.release_of(slot) == reference and any(one[0] == slot and one[1] != number for one in living)


def start_one_more(
    env: Environment, state: State, slot: SlotName, directory: Path, manifest: Manifest, number: int
) -> None:
    """Beside the slot's others, which serve on. The router finds it by itself, at the port that it always had."""
    port = env.config.ports_of(slot)[number]
    env.report_progress(f"start one more of {manifest.reference[:40]}… in {slot}, 127.0.0.1:{port}")
    facts: Starting = {"release": manifest.reference, "server": number}
    env.record.append("starting", slot, **facts)
    reap_orphan(port, env.record.owner)
    place = place_for(env, state, slot, manifest.reference, number)
    start_server(env, slot, directory, manifest, port, number, place)


def start_server(
    env: Environment, slot: SlotName, directory: Path, manifest: Manifest, port: int, number: int, place: Placed | None
) -> None:
    await_memory(place)
    takes_adapters = env.config.capacity == "adapter"
    log = env.log_path(slot, number)
    process = start_slot(
        directory,
        manifest,
        port=port,
        served_name=env.config.model,
        log=log,
        index=SLOTS.index(slot),
        sampled=sampling_of(env.config, slot),
        metered={"folder": str((env.folder / "usage").absolute()), "slot": slot, "release": manifest.reference},
        traced=tracing_of(env.config, slot, manifest.reference),
        hot=takes_adapters,
        owner=env.record.owner,
        devices=place["gpus"] if place else env.config.slots.devices_of(slot, number),
        utilization=place["utilization"] if place else None,
        sleeps=bool(place and place.get("sleeps")),
    )
    pid, boot, ticks = process.process
    facts: Started = {"pid": pid, "boot": boot, "ticks": ticks, "port": port, "log": str(log)}
    if number:
        facts["server"] = number
    if place:
        facts["place"] = place
    if takes_adapters and manifest.adapter:
        facts["adapter_limits"] = adapter_limits(manifest)
    env.record.append("started", slot, **facts)


def load_into_server(
    env: Environment, state: State, slot: SlotName, shared: SlotProcess, directory: Path, manifest: Manifest
) -> None:
    """From here on the server's counters are not those of the other slot's users alone: they are kept as they are
    before."""
    env.report_progress(f"load {manifest.reference[:40]}… into the server of {other(slot)}, for {slot}")
    empty_slot(env, state, slot, manifest)
    prefix = prefix_of(slot, str(manifest.adapter))
    point_router(env, slot, shared.port, prefix, manifest)
    counted = count_server(env, other(slot))
    load_adapter(shared, str(manifest.adapter), directory / ADAPTER)
    started = env.facts(state, other(slot))
    assert started is not None  # `shared` was made of them
    facts: Started = {**started, "prefix": prefix, "counted": counted}
    env.record.append("started", slot, **facts)


def empty_slot(env: Environment, state: State, slot: SlotName, manifest: Manifest) -> None:
    """Puts the intent on record, and ends whatever an earlier start may have left. Raises InputError where the router
    does not know the slot's servers yet."""
    unknown = env.router.missing_servers() if env.router.is_running() else []
    if unknown:
        raise InputError(
            f"{env.config.name}: the router was opened before slots.servers said {env.config.slots.servers}, and does "
            f"not know {', '.join(unknown)}",
            hint=f"tunegate router reload {env.config.name}",
        )
    ports, count = ports_for(env, state, slot), env.config.slots.servers
    facts: Starting = {"release": manifest.reference}
    if count > 1:
        facts["servers"] = count
    env.record.append("starting", slot, **facts)
    stand_down(env, slot)
    end_server(env, state, slot, drain_seconds=0)
    for port in ports:
        reap_orphan(port, env.record.owner)


def point_router(env: Environment, slot: SlotName, port: int, prefix: str, manifest: Manifest) -> None:
    """Before the server is: no answer of it may carry the digest of the one before."""
    Router(env.config).set_server(slot, port, prefix)
    env.router.set_release(slot, manifest.digest, manifest.created_seconds)


def prove_slot(env: Environment, state: State, slot: SlotName, proof: str, number: int = 0) -> None:
    process, directory, manifest = env.slot_parts(state, slot, number)
    started = time.monotonic()
    env.report_progress(f"prove {slot}{f', server {number + 1}' if number else ''}: {proof}")
    # Before the load test asks what serves as well: from there on its counters are not its users' alone.
    is_compared = proof == "load" and state.active not in (None, slot) and not env.is_shared(state, slot)
    counted = {"counted": count_server(env, state.active)} if is_compared and state.active else {}
    found = (
        prove_shadow(env, slot)
        if proof == "shadow"
        else prove(
            proof,
            process,
            directory,
            manifest,
            env.config,
            env.load_gate,
            what_serves(env, state, slot),
            state.proof_seconds.get("healthy"),
        )
    )
    seconds = round(time.monotonic() - started, 2)
    env.record.append("proven", slot, **{"proof": proof, "seconds": seconds, **found, **counted, **numbered(number)})


def what_serves(env: Environment, state: State, slot: SlotName | None) -> Blue | None:
    """The slot that traffic goes to, unless it is `slot`. One that died meanwhile is still given: then its figures are
    missing, and nothing passes by it."""
    active = state.active
    if active is None or active == slot:
        return None
    process, _, manifest = env.slot_parts(state, active)
    return Blue(process.base_url, manifest, lambda: traffic_of(env, active))


def prove_shadow(env: Environment, slot: SlotName) -> Mapping[str, object]:
    strategy = env.config.strategy
    assert isinstance(strategy, ShadowFirst)
    return shadow.run(env, slot, strategy.seconds, strategy.share / 100)


def stop(env: Environment, state: State, slot: SlotName) -> None:
    """Retires a slot once its open streams are zero or the deadline has passed; the record says which. It is over when
    the memory of its GPUs is back."""
    drained, open_streams = drain(env, state, slot)
    env.report_progress(f"retire {slot}, {open_streams} streams open")
    if is_in_cluster(env.config):
        end_pods(env, slot, KILL_SECONDS)
    else:
        end_processes(env, state, slot)
    env.record.append("stopped", slot, **left(state, slot, drained, open_streams))


def end_processes(env: Environment, state: State, slot: SlotName) -> None:
    held = leaving(env, state, slot)
    end_server(env, state, slot, KILL_SECONDS)
    if not await_release(held):
        env.report_progress(f"{slot} has ended, and its GPUs' memory is not back")
    for port in ports_for(env, state, slot):
        reap_orphan(port, env.record.owner)


def left(state: State, slot: SlotName, drained: float, open_streams: int) -> Stopped:
    """By users: how their streams ended."""
    why = "deadline" if open_streams else "streams zero"
    return {
        "release": state.release_of(slot), "streams_open": open_streams, "why": why, "drain_seconds": drained,
    }  # fmt: skip


def drain(env: Environment, state: State, slot: SlotName) -> tuple[float, int]:
    """Seconds that it took, and the streams that are open still. Where a swap stops what serves, or lays it to sleep,
    the router holds new requests from here on."""
    deadline: float = env.config.drain_deadline_seconds
    if slot == state.moves.swapping and state.refused is None:
        env.router.pause()
        longest = max(0.0, env.config.router.queue_seconds - WAKING_SECONDS)  # what waits is answered by what wakes
        deadline = state.planned.get("drain_seconds", min(deadline, longest))
    stand_down(env, slot)
    began = time.monotonic()
    open_streams = wait_for_streams(env, slot, deadline) if slot in env.alive(state) else 0
    return round(time.monotonic() - began, 1), open_streams


def wait_for_streams(env: Environment, slot: SlotName, seconds: float) -> int:
    """Streams still open on `slot` after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while (open_now := env.router.open_streams(slot)) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return open_now
