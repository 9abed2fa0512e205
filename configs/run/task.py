"""What a fine-tune is for: its task, the problem of a classifier, and the task that vLLM serves."""

from __future__ import annotations

from typing import Literal

Task = Literal["sequence-classification", "token-classification", "causal-lm", "dpo"]


Problem = Literal["single_label", "multi_label", "regression"]


def served_task(task: Task) -> Task:
    """What a run's release is served and evaluated as: a preference run's is a chat model."""
    return "causal-lm" if task == "dpo" else task
