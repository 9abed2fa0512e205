"""`tunegate check --plan`: does it fit, how long will it take, and which lever helps if it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from configs.errors import RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.estimate.devices import ASSUMED_UTILIZATION, GIB, Device, find_device
from train.estimate.duration import Rates, evaluation_seconds, rates_of, training_seconds
from train.estimate.memory import Workload, quantizing_memory, serving_memory, training_memory
from train.estimate.model_shape import ModelShape
from train.estimate.probe import measure_rates
from train.estimate.workload import describe_workload, find_shape


def make_plan(config: RunConfig, device_name: str | None) -> dict[str, Any]:
    """Bytes by stage and part, seconds, whether it fits. Raises InputError for an unknown device or a base that is not here."""
    device, shape, paths = find_device(device_name), find_shape(config), RunPaths.of(config.name)
    load = describe_workload(config, shape, paths, device)
    memory = stage_memory(config, shape, load)
    fits = all(stage["peak"] <= device.memory_bytes for stage in memory.values())
    return {
        "name": config.name,
        "device": device.name,
        "device_bytes": device.memory_bytes,
        "measured": load.on_cpu,
        "memory": memory,
        "seconds": seconds(config, shape, load, device) if fits else None,
        "steps": load.steps,
        "longest_tokens": load.longest,
        "fits": fits,
        "levers": [] if fits else levers(config, shape, load, device),
    }


def stage_memory(config: RunConfig, shape: ModelShape, load: Workload) -> dict[str, dict[str, int]]:
    """`quantize` runs on the CPU's memory wherever training runs, so a GPU plan leaves it out."""
    serving = serving_memory(shape, config.quantize.scheme, 4 if config.serving.dtype == "float32" else 2, config.serving.kv_cache_gib)
    stages = {"train": training_memory(shape, load)} | ({"quantize": quantizing_memory(shape)} if load.on_cpu else {})
    return stages | {"serve": serving}


def seconds(config: RunConfig, shape: ModelShape, load: Workload, device: Device) -> dict[str, float] | None:
    rates = find_rates(shape, load, device)
    if rates is None:
        return None
    asked = config.evaluate
    evaluation = evaluation_seconds(shape, load, rates, asked.max_new_tokens, asked.concurrency, device_shares_reads=not load.on_cpu)
    return {"train": round(training_seconds(shape, load, rates), 1), "evaluate": round(evaluation, 1)}


def find_rates(shape: ModelShape, load: Workload, device: Device) -> Rates | None:
    """Measured on a CPU, from the data sheet for a GPU; None for a GPU that no data sheet here describes."""
    if load.on_cpu:
        return measure_rates(shape, load)
    if device.flops is None or device.bytes_per_second is None:
        return None
    return rates_of(shape, load, device.flops * ASSUMED_UTILIZATION, device.bytes_per_second)


def levers(config: RunConfig, shape: ModelShape, load: Workload, device: Device) -> list[str]:
    """Each change that would let training fit by itself; all of them together where none does."""
    smaller = [batch for batch in halves(load.batch) if peak(shape, replace(load, batch=batch)) <= device.memory_bytes]
    found = [f"train.batch_size={smaller[0]} train.gradient_accumulation_steps={load.accumulation * load.batch // smaller[0]}"] if smaller else []
    if not load.checkpointing and peak(shape, replace(load, checkpointing=True)) <= device.memory_bytes:
        found.append("train.gradient_checkpointing=true")
    ranks = [rank for rank in halves(load.rank) if load.adapted and peak(shape, replace(load, rank=rank)) <= device.memory_bytes]
    found += [f"train.lora.rank={ranks[0]}"] if ranks else []
    if not load.adapted and peak(shape, replace(load, adapted=True)) <= device.memory_bytes:
        found.append("train.method=lora")
    together = replace(load, batch=1, checkpointing=True, rank=min(load.rank, 8), adapted=True)
    if not found and peak(shape, together) <= device.memory_bytes:
        found.append(f"train.batch_size=1 train.gradient_checkpointing=true train.method=lora train.lora.rank={together.rank}")
    return found


def halves(value: int) -> list[int]:
    """8 gives 4, 2, 1."""
    return [value // 2**power for power in range(1, value.bit_length()) if value // 2**power]


def peak(shape: ModelShape, load: Workload) -> int:
    return training_memory(shape, load)["peak"]


def refuse_what_does_not_fit(plan: dict[str, Any], path: str) -> None:
    """Raises RefusedError naming every stage that is too large, and the levers."""
    if plan["fits"]:
        return
    room = plan["device_bytes"]
    found = ", ".join(f"{name} {stage['peak'] / GIB:.2f} GiB" for name, stage in plan["memory"].items() if stage["peak"] > room)
    choices = "\n".join(f"  --set {' --set '.join(lever.split())}" for lever in plan["levers"]) or "  a smaller base, or a larger device"
    message = f"{plan['name']}: found a peak of {found}, expected at most the {room / GIB:.2f} GiB of {plan['device']}; what would fit:\n{choices}"
    raise RefusedError(message, hint=f"tunegate check {path} --plan --device {plan['device']} --set KEY=VALUE")


def print_plan(plan: dict[str, Any]) -> None:
    """A table a stage; to stdout."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for name, stage in plan["memory"].items():
        table = Table(title=f"{plan['name']}: {name}", title_justify="left", min_width=40)
        table.add_column("part")
        table.add_column("MiB", justify="right")
        for part, value in stage.items():
            table.add_row(part, f"{value:,}" if part == "cached_tokens" else f"{value / 2**20:,.0f}", style="bold" if part == "peak" else None)
        console.print(table)
    kind = "measured here, as busy as the machine is now" if plan["measured"] else "estimate from the data sheet, unmeasured"
    took = ", ".join(f"{name} {value:,.0f} s" for name, value in (plan["seconds"] or {}).items()) or "unknown"
    console.print(
        f"{plan['device']}: {plan['device_bytes'] / GIB:.1f} GiB; {plan['steps']} steps, rows of up to {plan['longest_tokens']} tokens; {took} ({kind})"
    )
