"""The GPU that a release is made on, where there is one: the merged model waits in the host's memory in the dtype in
which it is stored, and the GPU gets what it can hold of it, or a layer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.run.config import RunConfig
from configs.training.lora import CHANGES_BASE
from train.model.dtype import stored_dtype


def held_dtype(config: RunConfig, base: Path) -> Any:
    """The torch dtype in which the merged model is held; None for float32: on a CPU, which multiplies nothing narrower
    fast, and for what is served unrounded, trained on, or taken apart before it is trained."""
    settings = config.quantize
    unrounded = settings.scheme == "adapter" or settings.prune is not None
    if not has_accelerator() or unrounded or config.train.lora.initialization in CHANGES_BASE:
        return None
    return stored_dtype(base)


@contextmanager
def dispatched(model: Any) -> Iterator[None]:
    """For passes through the whole model: on the GPUs as far as their free memory reaches, what is left layer by layer.
    After that all of it is in the host's memory again, from where llmcompressor takes a layer at a time
    (llmcompressor/pipelines/sequential/pipeline.py:set_onload_device)."""
    if not has_accelerator():
        yield
        return
    from compressed_tensors.offload import dispatch_model, remove_dispatch

    dispatch_model(model, free_memory())
    try:
        yield
    finally:
        remove_dispatch(model)
        model.to("cpu")


def has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def free_memory() -> dict[Any, int]:
    """Bytes of each GPU that nobody holds."""
    import torch

    kind = torch.accelerator.current_accelerator()
    assert kind is not None
    count = torch.accelerator.device_count()
    return {torch.device(kind.type, one): torch.accelerator.get_memory_info(one)[0] for one in range(count)}
