"""What the pinned vLLM 0.32.0 serves: a table of facts, the rule by which `check` refuses what it does not, and what a
GPU gets where a YAML says nothing.

CPU rows were served, or refused by vLLM itself, in benchmarks/models/servability.py. CUDA rows are read in vLLM's
source and were not run here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from configs.run.family import Kind, text_config, uncompressed
from configs.run.quantize import Quantize, Scheme
from configs.run.serving import Serving
from configs.run.vllm_flags import known
from configs.section import Section, nearest
from configs.task import writes_text
from configs.training.lora import CHANGES_BASE, Lora

Device = Literal["cpu", "cuda"]
Given = TypeVar("Given", bound=Section)
# vLLM picks a library by the CPU's features (vllm/platforms/cpu.py); the one for AVX2 lacks a kernel that the one for
# AVX-512 has.
AVX2_LACKS: dict[Scheme, str] = {"w4a16": "cpu_gemm_wna16"}

# Quantized layers that no kernel multiplies with float32 activations, and where that is said.
NO_FLOAT32: dict[tuple[Scheme, Device], str] = {
    ("w4a16", "cpu"): "vLLM's kernel is \"cpu_gemm_wna16\" not implemented for 'Float'",
    ("w4a16", "cuda"): "vLLM's kernels take float16 or bfloat16 (vllm/model_executor/kernels/linear/mixed_precision)",
    ("int8", "cuda"): "vLLM's cutlass_scaled_mm gives bfloat16 or float16 (vllm/_custom_ops.py)",
    ("fp8", "cuda"): "vLLM's cutlass_scaled_mm gives bfloat16 or float16 (vllm/_custom_ops.py)",
}

# Where a YAML says nothing of them, a GPU serves a language model so; RunConfig resolves them as it is read, so that
# every record and manifest holds the value itself.
CONTEXT = 8192  # tokens, or its own positions where they are fewer
# Each of these says how weights are to be rounded, so a scheme beside it was chosen with it.
OF_THE_SCHEME = frozenset({"scheme", "algorithm", "group_size", "smoothquant"})
MOST_RANK = 512  # of an unmerged adapter: vllm/config/lora.py, MaxLoRARanks


def device_here() -> Device:
    """Without torch: the driver's own file (docs.nvidia.com, driver README, device nodes)."""
    return "cuda" if os.path.exists("/dev/nvidiactl") else "cpu"


def has_avx512() -> bool:
    """This machine's CPU, as the Linux kernel lists its features; without such a list, as if it had."""
    try:
        flags = next(
            (
                line
                for line in Path("/proc/cpuinfo").read_text(encoding="utf8").splitlines()
                if line.startswith("flags")
            ),
            "avx512f",
        )
    except OSError:
        return True
    return "avx512f" in flags.split()


def refusal_here(settings: Quantize) -> str | None:
    """What this machine's own CPU cannot serve, and what is expected instead."""
    kernel = AVX2_LACKS.get(settings.scheme)
    if kernel is None or has_avx512():
        return None
    return (
        "scheme int8, or serving.device cpu where another machine serves it: "
        f"this CPU lacks AVX-512, for which alone vLLM has {kernel}"
    )


def parser_refusal(tools: str | None, thoughts: str | None) -> str | None:
    """What is expected instead of this `serving.tool_parser` or `reasoning_parser`; None where vLLM has both."""
    asked = (
        ("tool_parser", tools, known()["tool_parsers"]),
        ("reasoning_parser", thoughts, known()["reasoning_parsers"]),
    )
    for key, name, names in asked:
        if name is not None and name not in names:
            return f"serving.{key} {nearest(name, names) or 'one of ' + ', '.join(names)} instead of {name}"
    return None


def refusal(kind: Kind, settings: Quantize, dtype: str, device: Device) -> str | None:
    """What is expected instead, with the reason; None where vLLM serves it. `dtype` is serving.dtype."""
    smoothed = (
        "algorithm awq" if settings.algorithm == "awq" else "smoothquant" if settings.smoothquant is not None else None
    )
    if kind == "encoder" and smoothed:
        return (
            f"no {smoothed} for a BERT-type model: its LayerNorms also feed the residual, "
            "so no scale can be moved through them"
        )
    reason = NO_FLOAT32.get((settings.scheme, device)) if dtype == "float32" else None
    return (
        None
        if reason is None
        else f"serving.dtype bfloat16 with quantize.scheme {settings.scheme} on {device}: {reason}"
    )


def adapter_refusal(task: str, method: str, lora: Lora) -> str | None:
    """What an unmerged adapter must be for vLLM to serve it (vllm/lora/peft_helper.py); None where it is that."""
    wanted = {
        "task causal-lm, dpo or grpo": writes_text(task),
        "train.method lora or qlora": method != "full",
        "no train.lora.dora": not lora.dora,
        "train.lora.bias none": lora.bias == "none",
        "train.lora.initialization default or gaussian": lora.initialization not in CHANGES_BASE,
        f"ranks up to {MOST_RANK}": lora.largest_rank <= MOST_RANK,
    }
    missing = [words for words, met in wanted.items() if not met]
    return f"{', '.join(missing)} with quantize.scheme adapter: vLLM serves no other unmerged" if missing else None


def gpu_defaults(
    serving: Serving, quantize: Quantize, kind: Kind, base: Mapping[str, Any] | None
) -> tuple[Serving, Quantize]:
    """bfloat16, for no GPU kernel multiplies quantized layers with float32, and a language model's context; fp8, or
    none where this family cannot be made smaller, or is a BERT, whose weights are few. `base`: its config.json, where
    it is here."""
    found = text_config(base or {}).get("max_position_embeddings") or CONTEXT
    context = {"max_model_len": min(CONTEXT, int(found))} if kind == "decoder" else {}
    served = with_defaults(serving, {"dtype": "bfloat16"} | context)
    if OF_THE_SCHEME & quantize.model_fields_set:
        return served, quantize
    scheme: Scheme = "none" if kind == "encoder" or uncompressed(base or {}, Quantize(scheme="fp8")) else "fp8"
    return served, with_defaults(quantize, {"scheme": scheme})


def with_defaults(given: Given, defaults: Mapping[str, Any]) -> Given:
    """Past fields_set: what was not given stays so, for a copy that is resolved anew."""
    resolved = given.model_copy()
    resolved.__dict__.update({key: value for key, value in defaults.items() if key not in given.model_fields_set})
    return resolved
