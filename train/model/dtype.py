"""In which dtype weights are held and multiplied: bfloat16 only where this machine multiplies it fast."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from configs.run.config import RunConfig
from configs.run.family import kind_of
from configs.task import writes_text
from configs.training.lora import CHANGES_BASE
from infra.files.atomic import read_json

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
    """The torch dtype in which base weights are held while they are trained, or an adapter over them.

    On a GPU a GPT-type's are held in the half precision in which they are multiplied, whatever they are stored in; what
    is trained beside them is float32 (train/model/adapter.py:wrap_model). On a CPU a language model's are bfloat16
    where that loses nothing: all are frozen, stored in it, and multiplied in it anyway. Else float32: of `full` they
    are the master weights, for a step of 2e-5 is below what bfloat16 tells apart; PiSSA and LoftQ take their principal
    components off them; a BERT's are few.
    """
    import torch

    lora, dtype = config.train.lora, choose_dtype(config.train.dtype)
    if config.train.method == "full" or lora.initialization in CHANGES_BASE or dtype == "float32":
        return torch.float32
    if torch.cuda.is_available():
        return getattr(torch, dtype) if kind_of(read_json(base / "config.json") or {}) == "decoder" else torch.float32
    trained = lora.bias != "none" or config.base.add_tokens or lora.modules_to_save
    if config.train.method == "qlora" or trained or not writes_text(config.task) or dtype != "bfloat16":
        return torch.float32
    stored = stored_dtype(base)
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
