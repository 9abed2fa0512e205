"""What the pinned vLLM 0.32.0 serves: a table of facts, and the rule by which `check` refuses what it does not.

CPU rows were served, or refused by vLLM itself, in benchmarks/servability.py. CUDA rows are read in vLLM's source and were not run here.
"""

from __future__ import annotations

import os
from typing import Literal

from configs.compression import Quantize, Scheme

Family = Literal["decoder", "encoder"]
Device = Literal["cpu", "cuda"]

# Why not, by (family, scheme, device); what is not named here is served.
UNSERVED: dict[tuple[Family, Scheme, Device], str] = {}


def family_of(task: str) -> Family:
    """GPT-type or BERT-type."""
    return "encoder" if task in {"sequence-classification", "token-classification"} else "decoder"


def device_here() -> Device:
    """Without torch: the driver's own file (docs.nvidia.com, driver README, device nodes)."""
    return "cuda" if os.path.exists("/dev/nvidiactl") else "cpu"


def refusal(family: Family, settings: Quantize, device: Device) -> str | None:
    """What is expected instead, with the reason; None where vLLM serves it."""
    smoothed = "algorithm awq" if settings.algorithm == "awq" else "smoothquant" if settings.smoothquant is not None else None
    if family == "encoder" and smoothed:
        return f"no {smoothed} for a BERT-type model: its LayerNorms also feed the residual, so no scale can be moved through them"
    reason = UNSERVED.get((family, settings.scheme, device))
    return None if reason is None else f"another scheme than {settings.scheme} on {device}: {reason}"
