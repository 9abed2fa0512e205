"""Frozen linear layers that read the same input, each with its LoRA, as one operation whose gradient is written out."""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable


class LowRankLinears(torch.autograd.Function):
    """y_i = x W_i' + b_i + s_i (x A_i') B_i' for every i (LoRA, Hu et al. 2021, arXiv:2106.09685, section 4.1).

    All A lie under each other, so that x is read once for them, and the gradient of x is gathered inside the products
    instead of by sums of its own. x (..., in), W_i (out_i, in), b_i (out_i) or None, A_i (rank_i, in), B_i (out_i, rank_i), s_i
    plain numbers; W and b get no gradient. All of one dtype: autocast is the caller's.
    """

    @staticmethod
    def forward(ctx: Any, x: Any, scales: tuple[float, ...], *parts: Any) -> tuple[Any, ...]:
        weights, biases, downs, ups = (parts[start::4] for start in range(4))
        flat, down = x.flatten(0, -2), torch.cat(downs)
        low = flat @ down.t()
        ranks = [one.shape[0] for one in downs]
        for part, scale in zip(low.split(ranks, dim=1), scales, strict=True):
            part.mul_(scale)
        found = [torch.nn.functional.linear(flat, weight, bias) for weight, bias in zip(weights, biases, strict=True)]
        for whole, part, up in zip(found, low.split(ranks, dim=1), ups, strict=True):
            whole.addmm_(part, up.t())
        ctx.save_for_backward(flat, low, down, *weights, *ups)
        ctx.scales, ctx.ranks = scales, ranks
        return tuple(whole.view(*x.shape[:-1], -1) for whole in found)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        flat, low, down, *rest = ctx.saved_tensors
        count = len(ctx.ranks)
        weights, ups = rest[:count], rest[count:]
        flats = [one.flatten(0, -2) for one in gradients]
        of_ups = [one.t() @ part for one, part in zip(flats, low.split(ctx.ranks, dim=1), strict=True)]
        of_low = torch.cat([(one @ up).mul_(scale) for one, up, scale in zip(flats, ups, ctx.scales, strict=True)], dim=1)
        of_downs = (of_low.t() @ flat).split(ctx.ranks)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_low @ down
            for one, weight in zip(flats, weights, strict=True):
                of_x.addmm_(one, weight)
            of_x = of_x.view(*gradients[0].shape[:-1], -1)
        return of_x, None, *(part for pair in zip(of_downs, of_ups, strict=True) for part in (None, None, *pair))
