"""What one process finds for all: of a model that is to be sharded, the others hold zeros when it is loaded."""

from __future__ import annotations

from typing import TypeVar

Found = TypeVar("Found")


def as_rank_0(found: Found) -> Found:
    """What rank 0 has found, where processes have met; all of them must call it."""
    import torch

    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return found
    told = [found]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]
