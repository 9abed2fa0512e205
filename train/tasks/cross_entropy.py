"""The cross-entropy of classes, smoothed or not, as a transformers Trainer takes it (`compute_loss_func`)."""

from __future__ import annotations

from typing import Any

from train.batches.collate import IGNORED


def cross_entropy(
    outputs: Any,
    targets: Any,
    num_items_in_batch: Any = None,
    smoothing: float = 0.0,
    weights: list[float] | None = None,
) -> Any:
    """Mean over the rows or tagged words of a whole step: BERT's own is that of a micro-batch, whatever its number of
    words.

    `smoothing` (Szegedy et al. 2016, arXiv:1512.00567, section 7) and `weights`, one a class, count in training only:
    validation's loss is the plain one.
    """
    import torch

    logits, trains = outputs.logits.float().flatten(0, -2), torch.is_grad_enabled()
    total = torch.nn.functional.cross_entropy(
        logits,
        targets.flatten(),
        logits.new_tensor(weights) if weights and trains else None,
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing if trains else 0.0,
    )
    return total / ((targets != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch)
