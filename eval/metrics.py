"""Per-example outcomes summed to figures; scikit-learn's definitions for the classifier."""

from __future__ import annotations

import math
from typing import Any

from configs.schema import Task
from eval.calls import match_call
from infra.endpoint import Answer


def score(task: Task, row: dict[str, Any], answer: Answer) -> dict[str, Any]:
    """One row of predictions.parquet."""
    common = {"id": row["id"], "latency_seconds": answer.latency_seconds}
    if task == "causal-lm":
        match = match_call(answer.text, row["reference"])
        outcome = {"correct": match.exact_match, "valid_json": match.valid_json, "name_match": match.name_match}
        return {**common, "gold": row["reference"], "answer": answer.text, **outcome}
    probability = (answer.probs or {}).get(row["label"], 0.0)
    loss = -math.log(max(probability, 1e-15))
    return {**common, "gold": row["label"], "answer": answer.label, "correct": float(answer.label == row["label"]), "probability": probability, "loss": loss}


def summarise(task: Task, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Means over examples; macro-F1 by sklearn.metrics.f1_score; log-loss in nats."""

    def mean(key: str) -> float:
        return sum(float(row[key]) for row in rows) / len(rows)

    if task == "causal-lm":
        return {"exact_match": mean("correct"), "name_match": mean("name_match"), "valid_json": mean("valid_json")}
    from sklearn.metrics import f1_score

    macro_f1 = float(f1_score([row["gold"] for row in rows], [row["answer"] for row in rows], average="macro", zero_division=0))
    return {"accuracy": mean("correct"), "macro_f1": macro_f1, "log_loss": mean("loss")}
