"""Merged weights into quantized ones, by llmcompressor: round to nearest, GPTQ, AWQ, SmoothQuant."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.run.family import is_outer
from configs.run.quantize import Quantize, choose_group_size
from train.release.facts import QuantizationFacts
from train.release.merge import SHARD_BYTES

PRESETS = {"int8": "W8A8", "fp8": "FP8_DYNAMIC"}


def compress(model: Any, settings: Quantize, loader: Any, target: Path) -> QuantizationFacts:
    """Quantizes `model` in place and saves it; returns what the manifest says of it. `loader` is looked at only where
    the recipe calibrates.

    Raises InputError before any work where no group size fits.
    """
    facts = describe(model, settings)
    with quiet():
        run(model, recipe(settings, facts.get("group_size"), plain_layers(model)), loader)
        model.save_pretrained(target, save_compressed=True, max_shard_size=SHARD_BYTES)
    return facts


def describe(model: Any, settings: Quantize) -> QuantizationFacts:
    """Raises InputError where no group size fits."""
    facts: QuantizationFacts = {"scheme": settings.scheme, "algorithm": settings.algorithm}
    if settings.scheme == "w4a16":
        try:
            facts["group_size"] = choose_group_size(input_columns(model), settings.group_size)
        except ValueError as error:
            raise InputError(f"quantize: expected {error}", hint="tunegate check CONFIG") from error
    if settings.smoothquant is not None:
        facts["smoothquant"] = settings.smoothquant
    return facts


def quantized_layers(model: Any) -> dict[str, Any]:
    """Linear layers by name, without those that stay as they are."""
    from torch.nn import Linear

    return {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear) and not is_outer(name)}


def plain_layers(model: Any) -> list[str]:
    """Linear layers by name that vLLM cannot hold in INT8: heads, poolers, projections."""
    from torch.nn import Linear

    return [name for name, layer in model.named_modules() if isinstance(layer, Linear) and is_outer(name)]


def input_columns(model: Any) -> set[int]:
    return {int(layer.weight.shape[-1]) for layer in quantized_layers(model).values()}


def recipe(settings: Quantize, group_size: int | None, plain: list[str]) -> list[Any]:
    """llmcompressor modifiers, in the order in which they are applied. `plain`: layers that stay as they are."""
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier
    from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier

    modifiers: list[Any] = []
    if settings.smoothquant is not None:
        modifiers.append(SmoothQuantModifier(smoothing_strength=settings.smoothquant))
    if settings.algorithm == "awq":
        modifiers.append(AWQModifier())
    quantizer = GPTQModifier if settings.algorithm == "gptq" else QuantizationModifier
    modifiers.append(quantizer(ignore=plain, **layer_scheme(settings.scheme, group_size)))
    return modifiers


def layer_scheme(scheme: str, group_size: int | None) -> dict[str, Any]:
    """A preset by name, or the W4A16 preset with its group size put in."""
    from compressed_tensors.quantization import preset_name_to_scheme

    if scheme != "w4a16":
        return {"targets": "Linear", "scheme": PRESETS[scheme]}
    preset = preset_name_to_scheme("W4A16", ["Linear"])
    assert preset.weights is not None
    return {
        "config_groups": {
            "group_0": preset.model_copy(
                update={"weights": preset.weights.model_copy(update={"group_size": group_size})}
            )
        }
    }


def run(model: Any, modifiers: list[Any], loader: Any) -> None:
    from llmcompressor import oneshot  # type: ignore[attr-defined]  # lazy exports

    with unpinned():
        oneshot(model=model, recipe=modifiers, dataset=loader, log_dir=None)


@contextmanager
def unpinned() -> Iterator[None]:
    """AWQ of llmcompressor 0.14.0.1 pins memory for a copy to the GPU also where there is none, and torch refuses:
    modifiers/transform/awq/base.py."""
    import torch
    from compressed_tensors.utils import patch_attr
    from llmcompressor.pipelines.cache import IntermediatesCache

    if torch.accelerator.is_available():
        yield
        return
    with patch_attr(IntermediatesCache, "pin_memory", lambda *_: None):
        yield


@contextmanager
def quiet() -> Iterator[None]:
    """Bars of a millisecond, and a warning about memory that is not short."""
    with redirect_stderr(io.StringIO()):
        yield
