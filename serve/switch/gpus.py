"""GPUs for the servers of a slot: planned by what NVML says, on record, given to each as it starts."""

from __future__ import annotations

from configs.errors import RefusedError
from configs.release import Manifest
from configs.slots import SLOTS, SlotName
from infra.boot import members_of
from infra.dvc.releases import folder_of
from infra.files.atomic import read_json
from infra.nvml import devices
from serve.plan.capacity import check_wait, device_of
from serve.plan.gpu_memory import need_on_gpus, plan_places
from serve.record.environment import Environment
from serve.record.facts import Placed, Planned
from serve.record.state import State


def plan_gpus(env: Environment, state: State, slot: SlotName, manifest: Manifest, planned: Planned) -> Planned:
    """What the host's memory allowed (`planned`), with places on GPUs where `slots.devices` is auto and there are some.

    Raises RefusedError where none is left, or requests would wait too long for a swap.
    """
    if env.config.slots.devices != "auto" or device_of(manifest) != "cuda" or planned["mode"] == "adapter":
        return planned
    here = devices()
    if not here:
        raise RefusedError(
            f"{env.config.name}: {manifest.reference} is for a GPU (serving.device), and NVML finds none here",
            hint="nvidia-smi; or serving.device: cpu",
        )
    model = read_json(folder_of(manifest.reference) / "release" / "config.json") or {}
    try:
        need, arithmetic = need_on_gpus(model, manifest)
    except KeyError as error:
        raise RefusedError(
            f"{env.config.name}: config.json of {manifest.reference} has no {error}: its need cannot be reckoned",
            hint="slots.devices: lists of GPUs in place of auto",
        ) from error
    ours = [pid for one in SLOTS for process in env.processes(state, one) for pid in members_of(process.pid)]
    serving = places_of(env, state, state.active) if state.active not in (None, slot) else []
    found = plan_places(env.config, slot, need, arithmetic, here, ours, serving, planned["free_gib"])
    why = f"{planned['why']}; GPUs: {found['why']}"
    if found["mode"] == "swap" and planned["mode"] != "swap":
        return {**planned, **check_wait(env.config, planned["start_seconds"], why), "places": found["places"]}
    return {**planned, "why": why, "places": found["places"]}


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
