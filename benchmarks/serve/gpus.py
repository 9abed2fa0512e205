"""`real-pairs` of switches.py: real servers that are told which GPUs they have, on a machine without any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from benchmarks.prove import Row


@contextmanager
def four_gpus(kind: str) -> Iterator[None]:
    """For `real-pairs` an NVML with four GPUs that nobody uses, in place of this machine's: what it says decides only
    what the servers are told, which run on the CPU."""
    if kind != "real-pairs":
        yield
        return
    import infra.vllm.arguments
    import serve.switch.gpus
    from infra.nvml import Device

    here = [Device(f"GPU-{number:08}", "none", 80.0, 80.0, {}) for number in range(4)]
    with (
        patch.object(serve.switch.gpus, "devices", lambda: here),
        patch.object(infra.vllm.arguments, "device_here", lambda: "cuda"),
    ):
        yield


def gpus_seen(env: Any) -> list[tuple[list[str], list[str]]]:
    """Of each server that runs: the GPUs that were planned for it, and those that its process sees."""
    import psutil

    state = env.record.state()
    found = []
    for slot, number in env.servers(state):
        facts = env.facts(state, slot, number)
        seen = psutil.Process(facts["pid"]).environ().get("CUDA_VISIBLE_DEVICES", "")
        found.append((facts.get("place", {}).get("gpus", []), seen.split(",")))
    return found


def rows_of_gpus(kind: str, sees: list[tuple[list[str], list[str]]]) -> list[Row]:
    if kind != "real-pairs":
        return []
    right = sum(planned == seen for planned, seen in sees)
    alone = len({gpu for _, seen in sees for gpu in seen})
    return [
        Row(
            f"{kind}: servers that see the GPUs planned for them, and no others (a fake NVML's), of {len(sees)}",
            right,
            "all, each its own",
            right == len(sees) == alone == 4,
        )
    ]
