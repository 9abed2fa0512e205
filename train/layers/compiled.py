"""torch.compile of each layer by itself: one compilation serves all of them, and FSDP can still shard each."""

from __future__ import annotations

from typing import Any


def compile_layers(model: Any, **settings: Any) -> int:
    """In place, so that the model's names stay; how many layers there were. `settings`: of torch.compile. Rows are of
    unlike lengths, so the compiled code is for any."""
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    for layer in layers:
        layer.compile(dynamic=True, **settings)
    return len(layers)
