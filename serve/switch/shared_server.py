"""Two slots on one server: the candidate's adapter is loaded beside that of what serves, where both lie on the same
base."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from configs.release import ADAPTER, Manifest, read_manifest, short
from configs.slots import SLOTS, SlotName, other
from infra.dvc.releases import folder_of
from infra.vllm.arguments import padded_rank
from infra.vllm.runtime import unload_adapter
from infra.vllm.server import SlotProcess, stop_slot
from serve.record.environment import Environment
from serve.record.facts import AdapterLimits, Started
from serve.record.state import State

# Of a release, what a server does not read.
UNREAD = ("README.md", "golden.jsonl")


def adapter_limits(manifest: Manifest) -> AdapterLimits:
    """What a server that starts with this adapter will take besides: on record with its start."""
    return {"rank": padded_rank(manifest), "layers": manifest.adapter_layers}


def why_not_shared(env: Environment, state: State, slot: SlotName | None, manifest: Manifest) -> str | None:
    """Why `manifest`'s adapter cannot go into the server of `slot`; None where it can."""
    if env.config.capacity != "adapter":
        return f"capacity is {env.config.capacity}"
    process = env.process(state, slot) if slot and slot in env.alive(state) else None
    if slot is None or process is None:
        return "nothing serves"
    beside = read_manifest(folder_of(str(state.release_of(slot))) / "release")
    if manifest.adapter is None or beside.adapter is None:
        return f"{short((beside if manifest.adapter else manifest).reference)} holds merged weights"
    limits = adapter_limits_of(env.facts(state, slot))
    if limits is None:
        return "the server that runs was started without capacity: adapter"
    if read_by_server(manifest) != read_by_server(beside):
        return f"{short(manifest.reference)} has another base or tokenizer than {short(beside.reference)}"
    if manifest.serving != beside.serving:
        return f"{short(manifest.reference)} has another serving: than {short(beside.reference)}"
    if manifest.adapter_rank > limits["rank"]:
        return f"the server that runs takes ranks up to {limits['rank']}, not {manifest.adapter_rank}"
    missing = [layer for layer in manifest.adapter_layers if layer not in limits["layers"]]
    return f"the server that runs takes no adapter on {', '.join(missing)}" if missing else None


def read_by_server(manifest: Manifest) -> set[tuple[str, str]]:
    """Base weights, their config, tokenizer and template, by their bytes."""
    return {
        (file.path, file.sha256)
        for file in manifest.files
        if file.path not in UNREAD and not file.path.startswith(f"{ADAPTER}/")
    }


def shared_server(env: Environment, state: State, slot: SlotName, manifest: Manifest) -> SlotProcess | None:
    """The other slot's server, where the capacity plan says so and it is still as it was; else the release gets one of
    its own."""
    beside = state.slots[other(slot)]
    if state.capacity != "adapter" or beside is None or "healthy" not in beside.proofs:
        return None
    return None if why_not_shared(env, state, other(slot), manifest) else env.neighbour(state, slot)


def port_for(env: Environment, state: State, slot: SlotName) -> int:
    """The slot's own, unless the other slot lives in the server that was started there: then the port that one left
    free."""
    index, beside = SLOTS.index(slot), env.neighbour(state, slot)
    ports = env.config.slot_ports
    return ports[1 - index] if beside and beside.port == ports[index] else ports[index]


def ports_for(env: Environment, state: State, slot: SlotName) -> list[int]:
    """Of all servers that the slot has or may have."""
    return [port_for(env, state, slot), *env.config.ports_of(slot)[1:]]


def end_server(env: Environment, state: State, slot: SlotName, drain_seconds: float) -> None:
    """Its servers, side by side; only its adapter, where the other slot lives in the same one or may have had it loaded
    by a start that was killed."""
    process, beside = env.process(state, slot), env.neighbour(state, slot)
    takes_adapters = adapter_limits_of(env.facts(state, other(slot))) is not None
    if beside and (process.is_same_process(beside) if process else takes_adapters):
        if state.release_of(slot) != state.release_of(other(slot)):
            unload_adapter(beside, short(state.release_of(slot)))
        return
    processes = env.processes(state, slot)
    if len(processes) > 1:
        with ThreadPoolExecutor(len(processes)) as pool:
            list(pool.map(lambda one: stop_slot(one, drain_seconds), processes))
    elif processes:
        stop_slot(processes[0], drain_seconds)


def adapter_limits_of(started: Started | None) -> AdapterLimits | None:
    """None: its server takes no further adapter."""
    return (started.get("adapter_limits") or started.get("room")) if started else None
