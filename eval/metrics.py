"""Per-example outcomes summed to figures: scikit-learn's definitions for classifiers and numbers, seqeval's for entities."""

from __future__ import annotations

import math
from typing import Any

from configs.schema import Task
from eval.calls import match_call
from infra.endpoint import Answer, joined

Row = dict[str, Any]


def score(task: Task, row: Row, answer: Answer) -> Row:
    """One row of predictions.parquet; the shape of the example says which problem it is."""
    common = {"id": row["id"], "latency_seconds": answer.latency_seconds}
    if task == "causal-lm":
        return {**common, **(score_text(answer) if "text" in row else score_answer(row, answer))}
    if task == "token-classification":
        return {**common, **score_tags([str(tag) for tag in row["tags"]], answer.labels or [])}
    if "value" in row:
        return {**common, **score_number(float(row["value"]), answer)}
    return {**common, **(score_labels(row, answer) if "labels" in row else score_label(row, answer))}


def score_label(row: Row, answer: Answer) -> Row:
    probability = (answer.probs or {}).get(row["label"], 0.0)
    loss = -math.log(max(probability, 1e-15))
    return {"gold": row["label"], "answer": answer.label, "correct": float(answer.label == row["label"]), "probability": probability, "loss": loss}


def score_labels(row: Row, answer: Answer) -> Row:
    gold, said = sorted(str(label) for label in row["labels"]), sorted(answer.labels or [])
    return {"gold": joined(gold), "answer": joined(said), "correct": float(gold == said), "gold_labels": gold, "answer_labels": said}


def score_number(gold: float, answer: Answer) -> Row:
    """An absent number is no small error: it is infinite."""
    value = answer.value if answer.value is not None else math.inf
    return {"gold": gold, "answer": value, "absolute_error": abs(value - gold)}


def score_tags(gold: list[str], said: list[str]) -> Row:
    """`correct`: every entity of the sentence found, and no other. Entities as seqeval reads BIO, IOB and IO tags."""
    from seqeval.metrics.sequence_labeling import get_entities

    wanted, found = set(get_entities(gold)), set(get_entities(said))
    alike = sum(one == other for one, other in zip(gold, said, strict=False)) / max(len(gold), 1)
    counts = {"entities": len(wanted), "entities_found": len(wanted & found), "entities_wrong": len(found - wanted)}
    return {"gold": " ".join(gold), "answer": " ".join(said), "correct": float(wanted == found), "token_accuracy": alike, **counts}


def score_text(answer: Answer) -> Row:
    return {"logprob": answer.logprob, "tokens": answer.scored_tokens}


def score_answer(row: Row, answer: Answer) -> Row:
    """A call, or any text; of a preference pair also whether the chosen answer was likelier than the rejected one."""
    match = match_call(answer.text, row["reference"])
    outcome = {"correct": match.exact_match, "valid_json": match.valid_json, "name_match": match.name_match}
    pair: Row = {}
    if answer.logprob is not None and answer.rejected_logprob is not None:
        margin = answer.logprob - answer.rejected_logprob
        pair = {"preferred": float(margin > 0), "preference_margin": margin}
    return {"gold": row["reference"], "answer": answer.text, **outcome, **pair}


def summarise(task: Task, rows: list[Row]) -> dict[str, float]:
    """Figures over all examples, by the columns that `score` left."""
    if task == "causal-lm":
        return summarise_texts(rows) if "logprob" in rows[0] else summarise_answers(rows)
    if task == "token-classification":
        return summarise_tags(rows)
    if "absolute_error" in rows[0]:
        return summarise_numbers(rows)
    return summarise_labels(rows) if "gold_labels" in rows[0] else summarise_label(rows)


def mean(rows: list[Row], key: str) -> float:
    return sum(float(row[key]) for row in rows) / len(rows)


def summarise_label(rows: list[Row]) -> dict[str, float]:
    """Macro-F1 by sklearn.metrics.f1_score; log-loss in nats."""
    from sklearn.metrics import f1_score

    macro_f1 = float(f1_score([row["gold"] for row in rows], [row["answer"] for row in rows], average="macro", zero_division=0))
    return {"accuracy": mean(rows, "correct"), "macro_f1": macro_f1, "log_loss": mean(rows, "loss")}


def summarise_labels(rows: list[Row]) -> dict[str, float]:
    """Micro- and macro-F1 over the labels that occur; subset accuracy is the share of examples whose labels are all right."""
    from sklearn.metrics import f1_score
    from sklearn.preprocessing import MultiLabelBinarizer

    binarizer = MultiLabelBinarizer().fit([row["gold_labels"] + row["answer_labels"] for row in rows])
    gold, said = (binarizer.transform([row[key] for row in rows]) for key in ("gold_labels", "answer_labels"))
    figures = {f"{average}_f1": float(f1_score(gold, said, average=average, zero_division=0)) for average in ("micro", "macro")} if gold.size else {}
    return {"subset_accuracy": mean(rows, "correct"), **figures}


def summarise_numbers(rows: list[Row]) -> dict[str, float]:
    """Spearman's rank correlation by scipy, not a number where one side is constant: the gate then has no evidence."""
    from scipy.stats import spearmanr

    golds, answers = [row["gold"] for row in rows], [row["answer"] for row in rows]
    squared = sum(row["absolute_error"] ** 2 for row in rows) / len(rows)
    varied = len(set(golds)) > 1 and len(set(answers)) > 1
    spearman = float(spearmanr(golds, answers).statistic) if varied else math.nan
    return {"mean_absolute_error": mean(rows, "absolute_error"), "root_mean_squared_error": math.sqrt(squared), "spearman": spearman}


def summarise_tags(rows: list[Row]) -> dict[str, float]:
    """Entity-level precision, recall and F1, micro-averaged over all sentences (seqeval, Nakayama 2018)."""
    from seqeval.metrics import f1_score, precision_score, recall_score

    golds, answers = ([row[key].split(" ") for row in rows] for key in ("gold", "answer"))
    figures = {"entity_f1": f1_score, "entity_precision": precision_score, "entity_recall": recall_score}
    entities = {name: float(figure(golds, answers, zero_division=0)) for name, figure in figures.items()}
    return {**entities, "sentence_accuracy": mean(rows, "correct"), "token_accuracy": mean(rows, "token_accuracy")}


def summarise_texts(rows: list[Row]) -> dict[str, float]:
    """Perplexity per token over all texts; the first token of each has nothing before it and is not counted."""
    tokens = sum(row["tokens"] for row in rows)
    return {"perplexity": math.exp(-sum(row["logprob"] for row in rows) / tokens) if tokens else math.nan}


def summarise_answers(rows: list[Row]) -> dict[str, float]:
    figures = {"exact_match": mean(rows, "correct"), "name_match": mean(rows, "name_match"), "valid_json": mean(rows, "valid_json")}
    if "preferred" in rows[0]:
        figures |= {"preference_accuracy": mean(rows, "preferred"), "preference_margin": mean(rows, "preference_margin")}
    return figures
