"""`tunegate check --plan`: does it fit, how long will it take, and which lever helps if it does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.estimate.devices import ASSUMED_UTILIZATION, GIB, Device, find_device
from train.estimate.duration import START_SECONDS, Rates, evaluation_seconds, rates_of, training_seconds
from train.estimate.memory import training_memory
from train.estimate.model_shape import ModelShape
from train.estimate.probe import measure_rates
from train.estimate.release_memory import (
    gpu_quantizing_memory,
    gpu_serving_memory,
    host_bytes,
    quantizing_memory,
    serving_memory,
)
from train.estimate.workload import Workload, describe_workload, find_shape


class Plan(TypedDict):
    """`memory`: of each stage the bytes of each part and their `peak`, on one of the `devices`; `measured`: by rates of
    this machine and not by a data sheet; `host_bytes`: of the host, while a GPU quantizes;
    `levers`: what to set instead where it does not fit."""

    name: str
    device: str
    device_bytes: int
    devices: int
    measured: bool
    memory: dict[str, dict[str, int]]
    host_bytes: int
    seconds: dict[str, float] | None
    steps: int
    longest_tokens: int
    fits: bool
    levers: list[str]


def make_plan(config: RunConfig, device_name: str | None) -> Plan:
    """Bytes by stage and part, seconds, whether it fits. Raises InputError for an unknown device or a base that is not
    here."""
    device, shape, paths = find_device(device_name), find_shape(config), RunPaths.of(config.name)
    refuse_too_few(config, device)
    load = describe_workload(config, shape, paths, device)
    memory = stage_memory(config, shape, load)
    fits = all(stage["peak"] <= device.memory_bytes for stage in memory.values())
    return {
        "name": config.name,
        "device": device.name,
        "device_bytes": device.memory_bytes,
        "devices": device.count,
        "measured": load.compute.on_cpu,
        "memory": memory,
        "host_bytes": 0 if load.compute.on_cpu else host_bytes(shape),
        "seconds": estimate_seconds(config, shape, load, device) if fits else None,
        "steps": load.compute.steps,
        "longest_tokens": load.rows.longest,
        "fits": fits,
        "levers": [] if fits else find_levers(shape, load, device),
    }


def refuse_too_few(config: RunConfig, device: Device) -> None:
    """Raises InputError where `--device` names several, but fewer than a node's processes or a server's GPUs. One is
    each of as many as there have to be."""
    for key, wanted in (("launch.processes", config.launch.processes), ("serving's GPUs", config.serving.gpus)):
        if 1 < device.count < wanted:
            raise InputError(
                f"--device {device.name}: found {device.count}, expected {key}: at least {wanted}",
                hint=f"--device {wanted}x{device.name.partition('x')[2]}",
            )


def stage_memory(config: RunConfig, shape: ModelShape, load: Workload) -> dict[str, dict[str, int]]:
    """Of one device. What `quantize` holds beside a GPU, in the host's memory, is the plan's `host_bytes`."""
    scheme, wanted = config.quantize.scheme, config.serving
    if not load.compute.on_cpu:
        quantizing = gpu_quantizing_memory(shape, config.quantize, load.rows.longest)
        stages = {"quantize": quantizing} if scheme not in ("none", "adapter") else {}
        return {
            "train": training_memory(shape, load),
            **stages,
            "serve": gpu_serving_memory(shape, scheme, wanted),
        }
    return {
        "train": training_memory(shape, load),
        "quantize": quantizing_memory(shape),
        "serve": serving_memory(shape, scheme, 4 if wanted.dtype == "float32" else 2, wanted.kv_cache_gib),
    }


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


def find_levers(shape: ModelShape, load: Workload, device: Device) -> list[str]:
    """Each change that would let training fit by itself; all of them together where none does."""
    compute, room = load.compute, device.memory_bytes

    def fits(**changes: object) -> bool:
        return peak(shape, load.computed_with(**changes)) <= room

    found = []
    if smaller := [batch for batch in halves(compute.batch) if batch >= compute.of_a_row and fits(batch=batch)]:
        sharers = 1 if compute.on_cpu else compute.processes
        accumulation = compute.accumulation * compute.batch // smaller[0]
        rows = smaller[0] * sharers // compute.of_a_row
        found.append(f"train.batch_size={rows} train.gradient_accumulation_steps={accumulation}")
    if not compute.checkpointing and fits(checkpointing=True):
        found.append("train.gradient_checkpointing=true")
    if ranks := [rank for rank in halves(compute.rank) if compute.adapted and fits(rank=rank)]:
        found.append(f"train.lora.rank={ranks[0]}")
    narrow = not compute.on_cpu and compute.dtype == "bfloat16"
    if not compute.adapted and fits(adapted=True, narrow_base=narrow):
        found.append("train.method=lora")
    if not compute.on_cpu:
        found += gpu_levers(load, device, fits)
    rank = min(compute.rank, 8)
    if not found and fits(batch=compute.of_a_row, checkpointing=True, rank=rank, adapted=True):
        smallest = "train.batch_size=1 train.gradient_checkpointing=true"
        found.append(f"{smallest} train.method=lora train.lora.rank={rank}")
    return found


def gpu_levers(load: Workload, device: Device, fits: Callable[..., bool]) -> list[str]:
    """Of those that no CPU has."""
    compute, found = load.compute, []
    if not compute.four_bit and fits(adapted=True, four_bit=True, narrow_base=False):
        found.append("train.method=qlora")
    whole = compute.optimizer in ("adamw", "paged_adamw") and not compute.sharded  # bitsandbytes knows no shards
    if whole and fits(optimizer="adamw_8bit"):
        found.append("train.optimizer=adamw_8bit")
    can_shard = compute.optimizer == "adamw" and compute.of_a_row == 1
    if can_shard and device.count > compute.shards and fits(processes=device.count, sharded=True):
        rows = compute.batch // compute.of_a_row * device.count
        found.append(f"launch.processes={device.count} launch.strategy=fsdp train.batch_size={rows}")
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
    each = " on each" if plan["devices"] > 1 else ""
    took = ", ".join(f"{name} {value:,.0f} s" for name, value in (plan["seconds"] or {}).items()) or "unknown"
    console.print(
        f"{plan['device']}: {plan['device_bytes'] / GIB:.1f} GiB{each}; {plan['steps']} steps, "
        f"rows of up to {plan['longest_tokens']} tokens; {took} ({kind})"
    )
    if plan["host_bytes"]:
        console.print(f"quantize holds the merged model in the host's memory: {plan['host_bytes'] / GIB:.1f} GiB")
