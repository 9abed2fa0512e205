"""train.class_weights: how much each class counts in the loss of training; validation's is the plain one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from configs.errors import InputError
from configs.rows.tags import OUTSIDE
from configs.run.config import RunConfig
from train.tasks.cross_entropy import cross_entropy

Loss = Callable[..., Any]


def weighted_loss(config: RunConfig, rows: Any, labels: list[str]) -> Loss | None:
    """A transformers Trainer's compute_loss_func; None without train.class_weights. `rows`: the train rows, a
    `datasets.Dataset` with a column label, labels or tags. Raises InputError for a weight of a class that there is not.
    """
    asked = config.train.class_weights
    if asked is None:
        return None
    column = next(name for name in ("label", "labels", "tags") if name in rows.column_names)
    counts = count(rows, column)
    if column == "labels":
        positive = {label: (len(rows) - n) / n for label, n in counts.items() if n} if asked == "balanced" else asked
        return binary_cross_entropy(in_order(positive, labels))
    balanced = {label: counts.total() / (len(labels) * n) for label, n in counts.items() if n}
    # Their mean over the train rows is then 1: the learning rate keeps its meaning.
    weights = in_order(balanced if asked == "balanced" else asked, labels)
    mean = sum(weights[labels.index(label)] * n for label, n in counts.items()) / counts.total()
    return partial(cross_entropy, smoothing=config.train.label_smoothing, weights=[weight / mean for weight in weights])


def count(rows: Any, column: str) -> Counter[str]:
    """How often each class occurs: of tags, words."""
    import pyarrow.compute

    values = rows.data.column(column)
    flat = values if column == "label" else pyarrow.compute.list_flatten(values)
    return Counter({pair["values"]: pair["counts"] for pair in pyarrow.compute.value_counts(flat).to_pylist()})


def in_order(asked: dict[str, float], labels: list[str]) -> list[float]:
    """A class that is not named weighs 1; the name of a type of entity is that of its tags."""
    types = {label: label.partition("-")[2] for label in labels if label != OUTSIDE and label[:2] in ("B-", "I-")}
    unknown = sorted(asked.keys() - {*labels, *types.values()})
    if unknown:
        known = ", ".join(dict.fromkeys([*labels, *types.values()]))
        raise InputError(
            f"train.class_weights: found {', '.join(unknown)}, expected some of {known}", hint="tunegate check CONFIG"
        )
    return [asked.get(label, asked.get(types.get(label, label), 1.0)) for label in labels]


def binary_cross_entropy(weights: list[float]) -> Loss:
    """Mean over rows and labels; a row that has a label counts its weight (PyTorch's pos_weight)."""

    def loss(outputs: Any, targets: Any, num_items_in_batch: Any = None) -> Any:
        import torch

        logits = outputs.logits.float()
        total = torch.nn.functional.binary_cross_entropy_with_logits(
            logits,
            targets.float(),
            pos_weight=logits.new_tensor(weights) if torch.is_grad_enabled() else None,
            reduction="sum",
        )
        return total / (targets.numel() if num_items_in_batch is None else num_items_in_batch)

    return loss
