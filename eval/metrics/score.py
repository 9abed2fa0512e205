"""The scores of one answer, by the kind of its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.run.evaluate import Evaluate
from configs.task import Task
from eval.metrics import classification, entities, generation, regression
from eval.metrics.rows import Prediction, Row
from infra.vllm.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def kind_of(task: Task, row: Row) -> str:
    """The shape of the row says which problem it is: a key of REPORTED."""
    if task == "causal-lm":
        return "text" if "text" in row else "answer"
    return (
        "tags"
        if task == "token-classification"
        else "pair"
        if "rejected" in row
        else "value"
        if "value" in row
        else "labels"
        if "labels" in row
        else "label"
    )


def score(task: Task, row: Row, answer: Answer, settings: Evaluate, labels: Sequence[str] = ()) -> Prediction:
    """One row of predictions.parquet but for its slices; every row of a set has the same columns. `labels`: all that
    the release can answer."""
    makers: dict[str, Callable[[], Prediction]] = {
        "label": lambda: classification.score_label(row, answer),
        "labels": lambda: classification.score_labels(row, answer),
        "value": lambda: regression.score_number(float(row["value"]), answer),
        "tags": lambda: entities.score_tags([str(tag) for tag in row["tags"]], answer.labels or [], labels),
        "text": lambda: generation.score_text(answer),
        "pair": lambda: regression.score_pair(answer),
        "answer": lambda: (
            generation.score_answer(row["reference"], answer, settings)
            if row.get("desirable", True)
            else generation.leave_unscored(row["reference"], answer, settings)
        ),
    }
    spent: Prediction = {
        "latency_seconds": answer.latency_seconds,
        "prompt_tokens": answer.prompt_tokens or None,
        "completion_tokens": answer.completion_tokens,
    }
    return {"id": row["id"], **makers[kind_of(task, row)](), **spent}
