"""LoRA layers that are asked the same thing answer together: what peft computes one by one, in fewer passes over
memory."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable

# By transformers' names: projections of one parent that read one tensor. Any other layer is alone.
PROJECTION_GROUPS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"), ("query", "key", "value"))


def fuse_adapters(model: Any) -> int:
    """Gives each plain LoRA layer a forward of its group's (LowRankLinears); how many layers there were.

    peft computes `base(x) + B(A(x)) * scaling` for each, and autograd sums the gradients of x once for each product
    (what it saves: docs/benchmarks.md). Layers with dropout, a trained or another bias, a quantized base or a variant
    (DoRA) keep peft's forward.
    """
    fused = 0
    for parent in model.modules():
        plain = {name: layer for name, layer in parent.named_children() if is_plain(layer)}
        together = [names for names in PROJECTION_GROUPS if all(name in plain for name in names)]
        alone = [(name,) for name in plain if not any(name in names for names in together)]
        for names in (*together, *alone):
            group = FusedLoraGroup([plain[name] for name in names])
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


class FusedLoraGroup:
    """LoRA layers of one input. The first that is asked with a tensor computes all; the others find their answer when
    they are asked with the same one."""

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
        kind = x.device.type
        dtype = (
            torch.get_autocast_dtype(kind)
            if torch.is_autocast_enabled(kind)
            else self.layers[0].base_layer.weight.dtype
        )
        scales, parts = [], []
        for layer in self.layers:
            (name,) = layer.lora_A
            scales.append(layer.scaling[name])
            tensors = (
                layer.base_layer.weight,
                layer.base_layer.bias,
                layer.lora_A[name].weight,
                layer.lora_B[name].weight,
            )
            parts += [one if one is None else one.to(dtype) for one in tensors]
        apply: Any = LowRankLinears.apply
        answers: tuple[Any, ...] = apply(x.to(dtype), tuple(scales), *parts)
        return answers


class LowRankLinears(torch.autograd.Function):
    """y_i = x W_i' + b_i + s_i (x A_i') B_i' for every i (LoRA, Hu et al. 2021, arXiv:2106.09685, section 4.1).

    All A lie under each other, so that x is read once for them, and the gradient of x is gathered inside the products
    instead of by sums of its own. x (..., in), W_i (out_i, in), b_i (out_i) or None, A_i (rank_i, in), B_i (out_i,
    rank_i), s_i plain numbers; W and b get no gradient. All of one dtype: autocast is the caller's.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, scales: tuple[float, ...], *parts: Any) -> tuple[Any, ...]:
        weights, biases, downs, ups = (parts[start::4] for start in range(4))
        flat, down = x.flatten(0, -2), torch.cat(downs)
        low = flat @ down.t()
        ranks = [one.shape[0] for one in downs]
        for part, scale in zip(low.split(ranks, dim=1), scales, strict=True):
            part.mul_(scale)
        # made in the shape that is returned: of a view, a model could not change an answer in place, as OLMo does
        found = [x.new_empty(*x.shape[:-1], len(weight)) for weight in weights]
        for whole, weight, bias, part, up in zip(found, weights, biases, low.split(ranks, dim=1), ups, strict=True):
            room = whole.view(len(flat), -1)
            torch.mm(flat, weight.t(), out=room) if bias is None else torch.addmm(bias, flat, weight.t(), out=room)
            room.addmm_(part, up.t())
        ctx.save_for_backward(flat, low, down, *weights, *ups)
        ctx.scales, ctx.ranks = scales, ranks
        return tuple(found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        flat, low, down, *rest = ctx.saved_tensors
        count = len(ctx.ranks)
        weights, ups = rest[:count], rest[count:]
        flats = [one.flatten(0, -2) for one in gradients]
        of_ups = [one.t() @ part for one, part in zip(flats, low.split(ctx.ranks, dim=1), strict=True)]
        of_low = torch.cat(
            [(one @ up).mul_(scale) for one, up, scale in zip(flats, ups, ctx.scales, strict=True)], dim=1
        )
        of_downs = (of_low.t() @ flat).split(ctx.ranks)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_low @ down
            for one, weight in zip(flats, weights, strict=True):
                of_x.addmm_(one, weight)
            of_x = of_x.view(*gradients[0].shape[:-1], -1)
        return of_x, None, *(part for pair in zip(of_downs, of_ups, strict=True) for part in (None, None, *pair))
