"""What a fine-tune is for: its task, the problem of a classifier, and the task that vLLM serves."""

from __future__ import annotations

from typing import Literal

Task = Literal["sequence-classification", "token-classification", "causal-lm", "dpo", "reward", "grpo"]


Problem = Literal["single_label", "multi_label", "regression"]

SERVED: dict[Task, Task] = {"dpo": "causal-lm", "grpo": "causal-lm", "reward": "sequence-classification"}
PAIRED: tuple[Task, ...] = ("dpo", "reward")  # what they learn from is which of two answers is better


def served_task(task: Task) -> Task:
    """What a run's release is served and evaluated as: a preference run's is a chat model, a reward model a classifier
    that says one number."""
    return SERVED.get(task, task)


def served_problem(task: Task, problem: Problem) -> Problem:
    return "regression" if task == "reward" else problem


def writes_text(task: str) -> bool:
    """Whether the release answers in words."""
    return task in ("causal-lm", "dpo", "grpo")
