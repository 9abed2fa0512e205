"""GPUs for the servers of a slot: planned by what NVML says, on record, given to each as it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from configs.environment.slots import Devices
from configs.errors import ExternalError, RefusedError
from configs.release import Manifest, read_manifest
from configs.slots import SLOTS, Server, SlotName
from infra.boot import members_of
from infra.dvc.releases import folder_of
from infra.files.atomic import read_json
from infra.nvml import BESIDE_GIB, Device, devices
from infra.vllm.arguments import device_of
from serve.plan.capacity import check_wait
from serve.plan.devices import MOST_SHARE, Choose, Gpu, Need, anywhere, listed
from serve.plan.gpu_memory import Here, need_on_gpus, plan_places, weights_gib
from serve.record.environment import Environment
from serve.record.facts import Placed, Planned
from serve.record.state import State

# The driver takes a moment to clear what a process had; how long that may be was measured nowhere.
MEMORY_SECONDS = 60.0
POLL_SECONDS = 0.25
CLOSE_ENOUGH_GIB = 0.1
MOST_OF_IT = 0.9  # vLLM may take a little less than its share


def plan_gpus(env: Environment, state: State, slot: SlotName, manifest: Manifest, planned: Planned) -> Planned:
    """What the host's memory allowed (`planned`), with places on GPUs where `slots.devices` says which and there are
    some.

    Raises RefusedError where none is left, or requests would wait too long for a swap.
    """
    asked = env.config.slots.devices
    if asked is None or device_of(manifest.serving) != "cuda" or planned["mode"] == "adapter":
        return planned
    here = devices()
    if not here and asked != "auto":
        return planned  # by CUDA's own means
    if not here:
        raise RefusedError(
            f"{env.config.name}: {manifest.reference} is for a GPU (serving.device), and NVML finds none here",
            hint="nvidia-smi; or serving.device: cpu",
        )
    if asked != "auto" and manifest.serving.gpu_memory_utilization is not None:
        return planned  # the lists and the share are a person's
    need, arithmetic = need_of(env, manifest)
    found = plan_places(env.config, slot, need, arithmetic, what_is_here(env, state, slot, here, need, planned))
    why = f"{planned['why']}; GPUs: {found['why']}"
    if found["mode"] in ("swap", "sleep") and planned["mode"] != "swap":
        waits = check_wait(env.config, planned["start_seconds"], why)
        return {**planned, **waits, "mode": found["mode"], "places": found["places"]}
    return {**planned, "why": why, "places": found["places"]}


def need_of(env: Environment, manifest: Manifest) -> tuple[Need, str]:
    model = read_json(folder_of(manifest.reference) / "release" / "config.json") or {}
    try:
        return need_on_gpus(model, manifest)
    except KeyError as error:
        raise RefusedError(
            f"{env.config.name}: config.json of {manifest.reference} has no {error}: its need cannot be reckoned",
            hint="slots.devices: null, and serving.gpu_memory_utilization",
        ) from error


def what_is_here(
    env: Environment, state: State, slot: SlotName, here: Sequence[Device], need: Need, planned: Planned
) -> Here:
    ours = {pid for one in SLOTS for process in env.processes(state, one) for pid in members_of(process.pid)}
    active = state.active if state.active != slot else None
    served = read_manifest(folder_of(str(state.release_of(active))) / "release") if active else None
    gpus = [
        Gpu(one.uuid, one.total_gib, one.usable_gib(ours, taken_by_ours(env, state, one)), one.linked, one.is_instance)
        for one in here
    ]
    return Here(
        gpus,
        planned["free_gib"] - planned["reserve_gib"],
        chooser(env, here, need),
        served_at(env, state, active, served, here) if active and served else [],
        weights_gib(served) * env.config.slots.servers if served else 0.0,
    )


def taken_by_ours(env: Environment, state: State, gpu: Device, slots: Collection[SlotName] = SLOTS) -> float:
    """GiB, by what our servers that live were told to take of it."""
    gib = 0.0
    for slot, number in env.servers(state).keys() - env.died(state):
        if slot not in slots:
            continue
        facts, found = env.facts(state, slot, number), state.slots[slot]
        place = facts.get("place") if facts else None
        if place and gpu.uuid in place["gpus"]:
            gib += BESIDE_GIB + (0.0 if found and found.rest == "asleep" else place["utilization"] * gpu.total_gib)
    return gib


def chooser(env: Environment, here: Sequence[Device], need: Need) -> Choose:
    """Raises RefusedError for a GPU that is not here."""
    given = env.config.slots.devices
    if not isinstance(given, Devices):
        return anywhere(need)
    numbers = numbered(here)
    lists: dict[Server, list[str]] = {
        (slot, number): named for slot in SLOTS for number, named in enumerate(given.of(slot))
    }
    if unknown := sorted({gpu for named in lists.values() for gpu in named} - numbers.keys()):
        raise RefusedError(
            f"{env.config.name}: slots.devices names {', '.join(unknown)}, expected of those here: "
            f"{', '.join(f'{number} ({one.uuid})' for number, one in enumerate(here))}",
            hint="nvidia-smi -L",
        )
    return listed({server: [numbers[gpu] for gpu in named] for server, named in lists.items()}, need)


def served_at(
    env: Environment, state: State, slot: SlotName, manifest: Manifest, here: Sequence[Device]
) -> list[Placed]:
    """Of servers that were started without a place what they took by themselves: vLLM's own share of the first GPUs
    that they see."""
    if placed := places_of(env, state, slot):
        return placed
    share, width = manifest.serving.gpu_memory_utilization or MOST_SHARE, manifest.serving.gpus
    seen = [env.config.slots.devices_of(slot, number) for number in range(env.config.slots.servers)]
    uuids = numbered(here)
    lists = [[uuids[gpu] for gpu in one if gpu in uuids] or [one.uuid for one in here] for one in seen]
    return [{"gpus": one[:width], "utilization": share} for one in lists]


def numbered(here: Sequence[Device]) -> dict[str, str]:
    """UUIDs by what a YAML may call a GPU."""
    return {str(number): one.uuid for number, one in enumerate(here)} | {one.uuid: one.uuid for one in here}


def places_of(env: Environment, state: State, slot: SlotName | None) -> list[Placed]:
    """As its servers were started."""
    servers = range(env.config.slots.servers) if slot else ()
    facts = [env.facts(state, slot, number) for number in servers if slot]
    return [one["place"] for one in facts if one and "place" in one]


def place_for(env: Environment, state: State, slot: SlotName, reference: str, number: int) -> Placed | None:
    """As it was planned; of a server that crashed later, as it was started before."""
    places = state.planned.get("places", [])
    if state.planned.get("release") == reference and number < len(places):
        return places[number]
    before = env.facts(state, slot, number)
    return before.get("place") if before else None


def await_memory(place: Placed | None, pid: int | None = None) -> None:
    """Until there is what a server will ask for, or had (`pid`: one that sleeps): of one that was killed it comes back
    a little later. Raises ExternalError where it does not, naming who holds it."""
    if place is None:
        return
    own = set(members_of(pid)) if pid else set()

    def lacking(here: Sequence[Device]) -> list[Device]:
        return [one for one in here if one.usable_gib(own) < place["utilization"] * one.total_gib - CLOSE_ENOUGH_GIB]

    if found := until_gone(place["gpus"], lacking):
        stated = "; ".join(
            f"{one.uuid}: found {one.usable_gib(own):.1f} GiB free, expected "
            f"{place['utilization'] * one.total_gib:.1f} of {one.total_gib:.1f}; held: "
            + (", ".join(f"{gib:.1f} by process {pid}" for pid, gib in one.held.items()) or "by nobody that NVML names")
            for one in found
        )
        raise ExternalError(f"GPU memory did not come back in {MEMORY_SECONDS:.0f} s: {stated}", hint="nvidia-smi")


class Leaving(NamedTuple):
    """What a slot's servers hold before they end: `pids` of those that NVML names; where it names none, the memory that
    will be free by GPU, GiB."""

    pids: set[int]
    free_gib: dict[str, float]


def leaving(env: Environment, state: State, slot: SlotName) -> Leaving:
    gpus = {gpu for one in places_of(env, state, slot) for gpu in one["gpus"]}
    family = {pid for process in env.processes(state, slot) for pid in members_of(process.pid)}
    here = [one for one in devices() if one.uuid in gpus] if gpus else []
    if named := {pid for one in here for pid in one.held if pid in family}:
        return Leaving(named, dict.fromkeys(gpus, 0.0))
    gained = {one.uuid: taken_by_ours(env, state, one, [slot]) * MOST_OF_IT for one in here}
    return Leaving(set(), {one.uuid: one.free_gib + gained[one.uuid] for one in here})


def await_release(found: Leaving) -> bool:
    """Until they, which have ended, hold nothing any more; whether that came so."""

    def holding(here: Sequence[Device]) -> list[Device]:
        return [one for one in here if one.held.keys() & found.pids or one.free_gib < found.free_gib[one.uuid]]

    return not until_gone(found.free_gib, holding)


def until_gone(gpus: Collection[str], find: Callable[[Sequence[Device]], list[Device]]) -> list[Device]:
    """What `find` still finds among them at the end of MEMORY_SECONDS."""
    deadline = time.monotonic() + MEMORY_SECONDS
    while found := find([one for one in devices() if one.uuid in gpus]) if gpus else []:
        if time.monotonic() >= deadline:
            break
        time.sleep(POLL_SECONDS)
    return found
