"""In which dtype weights are held and multiplied: bfloat16 only where this machine multiplies it fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from configs.run.config import RunConfig
from configs.training.lora import CHANGES_BASE

FAST_BFLOAT16_FLAGS = {"amx_bf16"}
CPUINFO = Path("/proc/cpuinfo")


def multiplies_bfloat16() -> bool:
    """Whether this machine's GPU, else its CPU, multiplies bfloat16 fast. Loads torch."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return cpu_multiplies_bfloat16()


def cpu_multiplies_bfloat16(cpuinfo: Path = CPUINFO) -> bool:
    """A CPU without AMX emulates it (1.1 against 61 GFLOPS in float32 on a Zen 3).

    With avx512_bf16 alone it is still the slower one: 80 against 138 GFLOPS on one core of a Xeon whose AMX is masked
    (torch 2.13, 760x576x1536).
    """
    return bool(FAST_BFLOAT16_FLAGS & cpu_flags(cpuinfo))


def choose_dtype(
    setting: Literal["auto", "float32", "bfloat16", "float16"], is_fast: Callable[[], bool] = multiplies_bfloat16
) -> Literal["float32", "bfloat16", "float16"]:
    """`auto` is bfloat16 where `is_fast` says so; it is asked for auto alone."""
    if setting == "auto":
        return "bfloat16" if is_fast() else "float32"
    return setting


def base_dtype(config: RunConfig, base: Path) -> Any:
    """The torch dtype in which a language model's base weights are held while an adapter is trained over them.

    bfloat16 where that loses nothing: they are frozen, stored in it, and multiplied in it anyway. Else float32.
    """
    import torch

    lora = config.train.lora
    frozen = config.train.method == "lora" and lora.initialization not in CHANGES_BASE and lora.bias == "none"
    frozen = frozen and not config.base.add_tokens and not lora.modules_to_save
    stored = stored_dtype(base) if frozen and choose_dtype(config.train.dtype) == "bfloat16" else None
    return stored if stored == torch.bfloat16 else torch.float32


def stored_dtype(directory: Path) -> Any:
    """The torch dtype of the first tensor of the safetensors."""
    from safetensors import safe_open

    with safe_open(min(directory.glob("*.safetensors")), framework="pt") as tensors:
        return tensors.get_tensor(sorted(tensors.keys())[0]).dtype


def cpu_flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text(encoding="utf8").splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.partition(":")[2].split()}
