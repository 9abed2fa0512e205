"""What to do when memory runs out, what waits outside of the GPU's, and how many threads compute."""

from __future__ import annotations

import gc
import sys
from typing import Any

from configs.errors import ExternalError
from train.loop.stopping import smaller_micro_batch


def is_out_of_memory(error: Exception) -> bool:
    from accelerate.utils.memory import should_reduce_batch_size

    return isinstance(error, MemoryError) or should_reduce_batch_size(error)


def next_micro_batch(micro_batch: int, processes: int = 1, least: int = 1) -> int:
    """Frees what the failed attempt held. Raises ExternalError where there is nothing left to halve. `least`: rows that
    a process needs at a time."""
    import torch

    gc.collect()
    torch.cuda.empty_cache()
    share = smaller_micro_batch(micro_batch // processes)
    if share is None or share < least:
        hint = "--set train.gradient_checkpointing=true, a smaller data.max_tokens, or more memory"
        rows = "one row" if least == 1 else f"{micro_batch // processes} rows, of which {least} are needed,"
        raise ExternalError(f"train: out of memory with {rows} at a time", hint=hint)
    smaller = share * processes
    print(
        f"out of memory with {micro_batch} rows at a time: going on with {smaller}, the effective batch stays",
        file=sys.stderr,
    )
    return smaller


def offload_activations(trainer: Any) -> None:
    """What a training step keeps for its backward pass waits in the host's memory, but for its last few tensors: TRL's
    context, which copies beside the computation."""
    from trl.models.activation_offloading import get_act_offloading_ctx_manager

    context, step = get_act_offloading_ctx_manager(trainer.model, warn_if_no_head=False), trainer.training_step

    def training_step(*given: Any, **named: Any) -> Any:
        with context:
            return step(*given, **named)

    trainer.training_step = training_step


def thread_count() -> int:
    import torch

    return torch.get_num_threads()


def use_threads(count: int) -> None:
    """Sums over other numbers of threads round otherwise: a resumed run uses as many as the killed one."""
    import torch

    torch.set_num_threads(count)
