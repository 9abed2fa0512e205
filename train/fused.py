"""LoRA's addition in one operation: the scale goes to the few columns of the rank, and the sum into the product with B."""

from __future__ import annotations

from types import MethodType
from typing import Any


def fuse_adapters(model: Any) -> int:
    """Gives each plain LoRA layer a forward with two fewer passes over its whole output; how many there were.

    peft computes `base(x) + B(A(x)) * scaling`: a tenth of SmolLM2's time on a CPU goes into that product and sum. Layers
    with dropout, a bias, a quantized base or a variant (DoRA) keep peft's forward.
    """
    from peft.tuners.lora.layer import Linear

    found = [layer for layer in model.modules() if type(layer) is Linear and is_plain(layer)]
    for layer in found:
        layer.forward = MethodType(fused_forward, layer)  # type: ignore[method-assign]
    return len(found)


def is_plain(layer: Any) -> bool:
    from torch.nn import Identity, Linear

    names = list(layer.lora_A)
    return (
        len(names) == 1
        and not layer.lora_variant
        and type(layer.base_layer) is Linear
        and all(type(dropout) is Identity for dropout in layer.lora_dropout.values())
        and layer.lora_B[names[0]].bias is None
    )


def fused_forward(layer: Any, x: Any, *rest: Any, **named: Any) -> Any:
    """x (..., in features) to (..., out features); peft's own forward while the adapter is off or merged."""
    import torch

    if layer.disable_adapters or layer.merged or rest or named:
        return type(layer).forward(layer, x, *rest, **named)
    (name,) = layer.lora_A
    low = layer.lora_A[name](layer._cast_input_dtype(x, layer.lora_A[name].weight.dtype)) * layer.scaling[name]
    result = layer.base_layer(x)
    return torch.addmm(result.flatten(0, -2), low.flatten(0, -2).to(result.dtype), layer.lora_B[name].weight.t().to(result.dtype)).view_as(result)
