"""`tunegate check --plan`: does it fit, how long will it take, and which lever helps if it does not."""

from __future__ import annotations

from typing import TypedDict

from configs.errors import RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.estimate.devices import ASSUMED_UTILIZATION, GIB, Device, find_device
from train.estimate.duration import START_SECONDS, Rates, evaluation_seconds, rates_of, training_seconds
from train.estimate.memory import quantizing_memory, serving_memory, training_memory
from train.estimate.model_shape import ModelShape
from train.estimate.probe import measure_rates
from train.estimate.workload import Workload, describe_workload, find_shape


class Plan(TypedDict):
    """`memory`: of each stage the bytes of each part, and their `peak`; `measured`: by rates of this machine and not by
    a data sheet; `levers`: what to set instead where it does not fit."""

    name: str
    device: str
    device_bytes: int
    measured: bool
    memory: dict[str, dict[str, int]]
    seconds: dict[str, float] | None
    steps: int
    longest_tokens: int
    fits: bool
    levers: list[str]


def make_plan(config: RunConfig, device_name: str | None) -> Plan:
    """Bytes by stage and part, seconds, whether it fits. Raises InputError for an unknown device or a base that is not
    here."""
    device, shape, paths = find_device(device_name), find_shape(config), RunPaths.of(config.name)
    load = describe_workload(config, shape, paths, device)
    memory = stage_memory(config, shape, load)
    fits = all(stage["peak"] <= device.memory_bytes for stage in memory.values())
    return {
        "name": config.name,
        "device": device.name,
        "device_bytes": device.memory_bytes,
        "measured": load.compute.on_cpu,
        "memory": memory,
        "seconds": estimate_seconds(config, shape, load, device) if fits else None,
        "steps": load.compute.steps,
        "longest_tokens": load.rows.longest,
        "fits": fits,
        "levers": [] if fits else find_levers(shape, load, device.memory_bytes),
    }


def stage_memory(config: RunConfig, shape: ModelShape, load: Workload) -> dict[str, dict[str, int]]:
    """`quantize` runs on the CPU's memory wherever training runs, so a GPU plan leaves it out."""
    serving = serving_memory(
        shape, config.quantize.scheme, 4 if config.serving.dtype == "float32" else 2, config.serving.kv_cache_gib
    )
    stages = {"train": training_memory(shape, load)} | (
        {"quantize": quantizing_memory(shape)} if load.compute.on_cpu else {}
    )
    return stages | {"serve": serving}


def estimate_seconds(config: RunConfig, shape: ModelShape, load: Workload, device: Device) -> dict[str, float] | None:
    rates = find_rates(shape, load, device)
    if rates is None:
        return None
    asked = config.evaluate
    evaluation = evaluation_seconds(
        shape, load, rates, asked.max_new_tokens, asked.concurrency, device_shares_reads=not load.compute.on_cpu
    )
    training, folds = training_seconds(shape, load, rates), asked.folds or 0
    seconds = {"train": round(training, 1), "evaluate": round(evaluation + folds * START_SECONDS, 1)}
    return seconds | ({f"{folds} folds' trainings": round(folds * training, 1)} if folds else {})


def find_rates(shape: ModelShape, load: Workload, device: Device) -> Rates | None:
    """Measured on a CPU, from the data sheet for a GPU; None for a GPU that no data sheet here describes."""
    if load.compute.on_cpu:
        return measure_rates(shape, load)
    if device.flops is None or device.bytes_per_second is None:
        return None
    return rates_of(shape, load, device.flops * ASSUMED_UTILIZATION, device.bytes_per_second)


def find_levers(shape: ModelShape, load: Workload, room: int) -> list[str]:
    """Each change that would let training fit into `room` bytes by itself; all of them together where none does."""
    compute = load.compute

    def fits(**changes: object) -> bool:
        return peak(shape, load.computed_with(**changes)) <= room

    found = []
    if smaller := [batch for batch in halves(compute.batch) if fits(batch=batch)]:
        accumulation = compute.accumulation * compute.batch // smaller[0]
        found.append(f"train.batch_size={smaller[0]} train.gradient_accumulation_steps={accumulation}")
    if not compute.checkpointing and fits(checkpointing=True):
        found.append("train.gradient_checkpointing=true")
    if ranks := [rank for rank in halves(compute.rank) if compute.adapted and fits(rank=rank)]:
        found.append(f"train.lora.rank={ranks[0]}")
    if not compute.adapted and fits(adapted=True):
        found.append("train.method=lora")
    rank = min(compute.rank, 8)
    if not found and fits(batch=1, checkpointing=True, rank=rank, adapted=True):
        smallest = "train.batch_size=1 train.gradient_checkpointing=true"
        found.append(f"{smallest} train.method=lora train.lora.rank={rank}")
    return found


def halves(value: int) -> list[int]:
    """8 gives 4, 2, 1."""
    return [value // 2**power for power in range(1, value.bit_length()) if value // 2**power]


def peak(shape: ModelShape, load: Workload) -> int:
    return training_memory(shape, load)["peak"]


def refuse_what_does_not_fit(plan: Plan, path: str) -> None:
    """Raises RefusedError naming every stage that is too large, and the levers."""
    if plan["fits"]:
        return
    room, peaks = plan["device_bytes"], {name: stage["peak"] for name, stage in plan["memory"].items()}
    found = ", ".join(f"{name} {bytes_ / GIB:.2f} GiB" for name, bytes_ in peaks.items() if bytes_ > room)
    choices = "\n".join(f"  --set {' --set '.join(lever.split())}" for lever in plan["levers"])
    raise RefusedError(
        f"{plan['name']}: found a peak of {found}, expected at most the {room / GIB:.2f} GiB of {plan['device']}; "
        f"what would fit:\n{choices or '  a smaller base, or a larger device'}",
        hint=f"tunegate check {path} --plan --device {plan['device']} --set KEY=VALUE",
    )


def print_plan(plan: Plan) -> None:
    """A table a stage; to stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, stage in plan["memory"].items():
        table = Table(title=f"{plan['name']}: {name}", title_justify="left", min_width=40)
        table.add_column("part")
        table.add_column("MiB", justify="right")
        for part, value in stage.items():
            table.add_row(
                part,
                f"{value:,}" if part == "cached_tokens" else f"{value / 2**20:,.0f}",
                style="bold" if part == "peak" else None,
            )
        console.print(table)
    kind = (
        "measured here, as busy as the machine is now"
        if plan["measured"]
        else "estimate from the data sheet, unmeasured"
    )
    took = ", ".join(f"{name} {value:,.0f} s" for name, value in (plan["seconds"] or {}).items()) or "unknown"
    console.print(
        f"{plan['device']}: {plan['device_bytes'] / GIB:.1f} GiB; {plan['steps']} steps, "
        f"rows of up to {plan['longest_tokens']} tokens; {took} ({kind})"
    )
