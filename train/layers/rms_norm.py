"""Root-mean-square norms with their gradient written out: fewer passes over memory than autograd's (what it saves:
docs/benchmarks.md)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable


class RootMeanSquareNorm(torch.autograd.Function):
    """y = w x / sqrt(mean(x²) + e), over the last axis (Zhang and Sennrich 2019, arXiv:1910.07467, equation 4). x (...,
    n), w (n), float32."""

    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, epsilon: float) -> Any:
        flat = x.flatten(0, -2)
        inverse = (
            torch.linalg.vector_norm(flat, dim=1, keepdim=True).square_().div_(flat.shape[1]).add_(epsilon).rsqrt_()
        )
        ctx.save_for_backward(flat, weight, inverse)
        return (x * inverse.view(*x.shape[:-1], 1)).mul_(weight)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Any) -> tuple[Any, ...]:
        flat, weight, inverse = ctx.saved_tensors
        given = gradient.flatten(0, -2)
        of_weight = (flat * inverse).mul_(given).sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, of_weight, None
        of_x = given * weight
        along = torch.linalg.vecdot(of_x, flat).unsqueeze(1)
        of_x.mul_(inverse).addcmul_(flat, along * inverse.pow(3), value=-1 / flat.shape[1])
        return of_x.view_as(gradient), of_weight, None


def fuse_norms(model: Any) -> int:
    """Gives each norm of this kind the forward above for float32, whatever the model calls it; how many there were."""
    found = [(module, epsilon) for module in model.modules() if (epsilon := epsilon_of(module)) is not None]
    for module, epsilon in found:
        module.forward = partial(normalize, module, epsilon)
    return len(found)


def epsilon_of(module: Any) -> float | None:
    """The norm's epsilon; None for any other module. It is asked: Gemma's norm has the name too, and scales by 1 +
    w."""
    epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", None))
    if (
        not type(module).__name__.endswith("RMSNorm")
        or not isinstance(epsilon, float)
        or [name for name, _ in module.named_parameters()] != ["weight"]
    ):
        return None
    if module.weight.dtype != torch.float32 or module.weight.is_meta:
        return None
    question = torch.linspace(-1, 2, module.weight.numel(), device=module.weight.device)[None]
    with torch.no_grad():
        ours = RootMeanSquareNorm.apply(question, module.weight, epsilon)  # type: ignore[no-untyped-call]
        same = torch.allclose(module(question), ours, rtol=1e-5, atol=1e-6)
    return epsilon if same else None


def normalize(module: Any, epsilon: float, x: Any) -> Any:
    """x (..., n) to (..., n); the module's own forward for what is not float32, as under autocast."""
    if x.dtype != torch.float32:
        return type(module).forward(module, x)
    return RootMeanSquareNorm.apply(x, module.weight, epsilon)  # type: ignore[no-untyped-call]
