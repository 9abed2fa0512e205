"""The validation pass, in place of transformers' own, whose loss is a mean of micro-batches' means.

Loss and figures are those of the whole split, whatever the micro-batch and the number of processes: losses are summed
over what they are a mean of (target tokens, tagged words, rows or pairs), each process takes every n-th row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from configs.run.config import RunConfig
from train.batches.collate import IGNORED
from train.loop.figures import Pairs, describe_answers, kind_of, loss_of_constant
from train.loop.processes import gather, is_worker

# GRPO's trainer, which generates, has a pass of its own.
VALIDATED_HERE = ("sequence-classification", "token-classification", "causal-lm", "dpo", "reward")


class Validation:
    """`trainer.evaluate` of one training. `constant_loss`: the lowest that a constant answer can have, known after the
    first pass; None of texts and pairs."""

    def __init__(self, trainer: Any, config: RunConfig, labels: list[str]) -> None:
        self.trainer, self.kind, self.labels = trainer, kind_of(config), labels
        self.constant_loss: float | None = None

    def __call__(self, **_: Any) -> dict[str, float]:
        """Logs and returns `eval_loss` and the task's figures, and tells the callbacks."""
        trainer = self.trainer
        loss, pairs = self.measure()
        self.constant_loss = loss_of_constant(self.kind, pairs)
        figures = {"loss": loss} | describe_answers(self.kind, pairs, self.labels)
        found = {f"eval_{name}": value for name, value in figures.items()}
        trainer.log(found)
        trainer.control = trainer.callback_handler.on_evaluate(trainer.args, trainer.state, trainer.control, found)
        return found

    def first_loss(self) -> float:
        """Before the first step; TRL's own figures of the pass are dropped."""
        loss, _ = self.measure()
        for name in ("_metrics", "_stored_metrics"):
            getattr(self.trainer, name, {}).get("eval", {}).clear()
        return loss

    def measure(self) -> tuple[float, Pairs]:
        trainer, total, weight = self.trainer, 0.0, 0
        pairs: Pairs = []
        with evaluating(trainer):
            for rows, inputs in self.micro_batches():
                items = count_items(trainer, inputs, rows) if rows and self.kind in ("text", "tags") else rows
                loss, logits, targets = trainer.prediction_step(trainer.model, inputs, self.kind == "text")
                total += float(loss) * items
                weight += items
                if rows and self.kind != "text":
                    pairs += read_answers(self.kind, logits, targets)
        parts = gather((total, weight, pairs))
        whole = sum(part[1] for part in parts)
        return sum(part[0] for part in parts) / max(1, whole), [pair for part in parts for pair in part[2]]

    def micro_batches(self) -> Iterator[tuple[int, Any]]:
        """Number of rows and collated inputs, of this process's share.

        Where the model is sharded, each process must go through it as often as the others: what it has no rows for are
        passes over the first row, counted as 0.
        """
        trainer, arguments = self.trainer, self.trainer.args
        dataset = trainer._remove_unused_columns(trainer.eval_dataset, description="evaluation")
        indices = range(arguments.process_index, len(dataset), arguments.world_size)
        most = math.ceil(len(dataset) / arguments.world_size) if trainer.is_fsdp_enabled else len(indices)
        size = max(1, arguments.per_device_eval_batch_size // arguments.world_size)
        for start in range(0, most, size):
            mine = list(indices[start : start + size])
            found = dataset[mine or [0]]
            rows = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
            yield len(mine), trainer.data_collator(rows)


def use_whole_validation(trainer: Any, config: RunConfig, labels: list[str]) -> Validation | None:
    """None where the trainer keeps its own: pairs in several processes, for TRL gathers its figures each micro-batch
    and waits for processes that have no more of them."""
    if config.task not in VALIDATED_HERE or (config.task == "dpo" and is_worker()):
        return None
    validation = Validation(trainer, config, labels)
    trainer.evaluate = validation
    return validation


@contextmanager
def evaluating(trainer: Any) -> Iterator[None]:
    """Processes have unlike numbers of micro-batches here, so none may wait for the others within one."""
    arguments, training = trainer.args, trainer.model.training
    across = arguments.average_tokens_across_devices
    arguments.average_tokens_across_devices = False
    trainer.model.eval()
    try:
        yield
    finally:
        arguments.average_tokens_across_devices = across
        trainer.model.train(training)


def count_items(trainer: Any, inputs: Any, rows: int) -> int:
    """What the loss of this micro-batch is a mean of: predicted tokens or tagged words; pairs have no labels."""
    labels = inputs.get("shift_labels", inputs.get("labels"))
    if labels is None:
        return rows
    if "shift_labels" not in inputs and getattr(trainer, "_loss_shifts_labels", False):
        labels = labels[..., 1:]
    return int((labels != IGNORED).sum())


def read_answers(kind: str, logits: Any, targets: Any) -> Pairs:
    """Gold and answer of each row of a micro-batch; logits (rows, outputs), of tags (rows, tokens, outputs)."""
    if kind == "regression":
        return list(zip(targets.flatten().tolist(), logits.float().flatten().tolist(), strict=True))
    if kind == "multi_label":  # a logit above 0 is a probability above a half
        gold, answered = (targets > 0.5).int().tolist(), (logits > 0).int().tolist()
        return [(tuple(one), tuple(other)) for one, other in zip(gold, answered, strict=True)]
    answered = logits.argmax(dim=-1)
    if kind == "single_label":
        return list(zip(targets.flatten().tolist(), answered.flatten().tolist(), strict=True))
    learned = targets != IGNORED
    return [
        (gold[mask].tolist(), found[mask].tolist())
        for gold, found, mask in zip(targets, answered, learned, strict=True)
    ]
