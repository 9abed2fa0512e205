"""LoRA layers that are asked the same thing answer together: what peft computes one by one, in fewer passes over memory."""

from __future__ import annotations

from functools import partial
from typing import Any

# By transformers' names: layers of one parent that read one tensor. Any other layer is alone.
SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("query", "key", "value"))


def fuse_adapters(model: Any) -> int:
    """Gives each plain LoRA layer a forward of its siblings' (train.lowrank); how many layers there were.

    peft computes `base(x) + B(A(x)) * scaling` for each, and autograd sums the gradients of x once for each product (what it saves: docs/benchmarks.md).
    Layers with dropout, a trained or another bias, a quantized base or a variant (DoRA) keep peft's forward.
    """
    fused = 0
    for parent in model.modules():
        plain = {name: layer for name, layer in parent.named_children() if is_plain(layer)}
        together = [names for names in SIBLINGS if all(name in plain for name in names)]
        alone = [(name,) for name in plain if not any(name in names for names in together)]
        for names in (*together, *alone):
            group = Siblings([plain[name] for name in names])
            for index, layer in enumerate(group.layers):
                layer.forward = partial(group.forward, index)
        fused += len(plain)
    return fused


def is_plain(layer: Any) -> bool:
    from peft.tuners.lora.layer import Linear
    from torch.nn import Identity
    from torch.nn import Linear as Base

    if type(layer) is not Linear or type(layer.base_layer) is not Base or layer.lora_variant or len(layer.lora_A) != 1:
        return False
    (name,) = layer.lora_A
    trained = any(parameter.requires_grad for parameter in layer.base_layer.parameters())
    return type(layer.lora_dropout[name]) is Identity and layer.lora_B[name].bias is None and not trained


class Siblings:
    """The first of them that is asked with a tensor computes all; the others find their answer when they are asked with the same one."""

    def __init__(self, layers: list[Any]) -> None:
        self.layers = layers
        self.asked: Any = None
        self.answers: dict[int, Any] = {}

    def forward(self, index: int, x: Any, *rest: Any, **named: Any) -> Any:
        """x (..., in features) to (..., out features); peft's own forward while the adapter is off or merged."""
        layer = self.layers[index]
        if rest or named or any(one.disable_adapters or one.merged for one in self.layers):
            return type(layer).forward(layer, x, *rest, **named)
        if self.asked is not x or index not in self.answers:
            self.asked, self.answers = x, dict(enumerate(self.compute(x)))
        answer = self.answers.pop(index)
        if not self.answers:
            self.asked = None
        return answer

    def compute(self, x: Any) -> tuple[Any, ...]:
        import torch

        from train.layers.low_rank import LowRankLinears

        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else self.layers[0].base_layer.weight.dtype
        scales, parts = [], []
        for layer in self.layers:
            (name,) = layer.lora_A
            scales.append(layer.scaling[name])
            tensors = (layer.base_layer.weight, layer.base_layer.bias, layer.lora_A[name].weight, layer.lora_B[name].weight)
            parts += [one if one is None else one.to(dtype) for one in tensors]
        answers: tuple[Any, ...] = LowRankLinears.apply(x.to(dtype), tuple(scales), *parts)  # type: ignore[no-untyped-call]
        return answers
