"""The metrics that a gate may name: for which task, and whether more is better; and what is reported of each kind of
row."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from configs.task import Problem, Task

# binary: 0 or 1 an example; bounded: a mean of values in a known range; unbounded: a mean without one; whole: a figure
# of the whole set. It decides by which method the metric is compared, whatever values came.
Kind = Literal["binary", "bounded", "unbounded", "whole"]
SIGNED, HUNDRED, LOSS, REAL = (-1.0, 1.0), (0.0, 100.0), (0.0, math.inf), (-math.inf, math.inf)


class Metric(NamedTuple):
    """`per_example`: the column of predictions.parquet whose mean it is; None: a figure of the whole set.
    `value_range`: the least and the most that it can be, in its own unit. `higher_is_better` None: neither way is
    better in itself."""

    higher_is_better: bool | None
    per_example: str | None
    description: str
    kind: Kind
    value_range: tuple[float, float] = (0.0, 1.0)


METRICS: dict[str, Metric] = {
    "accuracy": Metric(True, "correct", "share of rows given their label", "binary"),
    "subset_accuracy": Metric(True, "correct", "share of rows whose labels are all right", "binary"),
    "micro_precision": Metric(True, None, "share of the predicted labels that are right", "whole"),
    "micro_recall": Metric(True, None, "share of the gold labels that are predicted", "whole"),
    "micro_f1": Metric(True, None, "harmonic mean of micro precision and recall", "whole"),
    "macro_precision": Metric(True, None, "mean over labels of precision", "whole"),
    "macro_recall": Metric(True, None, "mean over labels of recall", "whole"),
    "macro_f1": Metric(True, None, "mean over labels of F1", "whole"),
    "precision": Metric(True, None, "of one label, as in precision:positive", "whole"),
    "recall": Metric(True, None, "of one label, as in recall:positive", "whole"),
    "f1": Metric(True, None, "of one label, as in f1:positive", "whole"),
    "matthews_correlation": Metric(True, None, "Matthews' correlation of gold and answer", "whole", SIGNED),
    "roc_auc": Metric(True, None, "area under the ROC curve, mean over labels, each against the rest", "whole"),
    "pr_auc": Metric(True, None, "average precision, mean over labels, each against the rest", "whole"),
    "log_loss": Metric(False, "log_loss", "-ln p(gold label) in nats; of many labels their mean", "unbounded", LOSS),
    "brier": Metric(False, "brier", "squared error of probabilities (Brier 1950), of two halved", "bounded", (0, 2)),
    "expected_calibration_error": Metric(False, None, "confidence from accuracy, 15 bins (Guo 2017)", "whole"),
    "mean_absolute_error": Metric(False, "absolute_error", "mean distance of answer and gold", "unbounded", LOSS),
    "root_mean_squared_error": Metric(False, None, "root of the mean squared distance", "whole", LOSS),
    "r_squared": Metric(True, None, "share of the gold values' variance that is explained", "whole", (-math.inf, 1)),
    "spearman": Metric(True, None, "rank correlation", "whole", SIGNED),
    "entity_precision": Metric(True, None, "share of the predicted entities that are right in span and type", "whole"),
    "entity_recall": Metric(True, None, "share of the gold entities found", "whole"),
    "entity_f1": Metric(True, None, "harmonic mean of entity precision and recall, over all sentences", "whole"),
    "sentence_accuracy": Metric(True, "correct", "share of sentences with every entity found and no other", "binary"),
    "token_accuracy": Metric(True, "token_accuracy", "mean share of a sentence's tags that are right", "bounded"),
    "exact_match": Metric(True, "correct", "share of answers equal to the reference; calls by syntax tree", "binary"),
    "name_match": Metric(True, "name_match", "share of answers that call the right function", "binary"),
    "valid_json": Metric(True, "valid_json", "share of answers that are a JSON object", "binary"),
    "valid_schema": Metric(True, "valid_schema", "share of answers that evaluate.json_schema accepts", "binary"),
    "field_f1": Metric(True, "field_f1", "F1 of the fields of a JSON object, each path with its value", "bounded"),
    "token_f1": Metric(True, "token_f1", "F1 of the words shared with the reference (SQuAD)", "bounded"),
    "rouge_1": Metric(True, "rouge_1", "ROUGE-1 F-measure", "bounded"),
    "rouge_2": Metric(True, "rouge_2", "ROUGE-2 F-measure", "bounded"),
    "rouge_l": Metric(True, "rouge_l", "ROUGE-L F-measure", "bounded"),
    "bleu": Metric(True, None, "BLEU of the corpus by sacrebleu", "whole", HUNDRED),
    "chrf": Metric(True, None, "chrF2 of the corpus by sacrebleu", "whole", HUNDRED),
    "sentence_bleu": Metric(True, "sentence_bleu", "mean BLEU of the answers by sacrebleu", "bounded", HUNDRED),
    "sentence_chrf": Metric(True, "sentence_chrf", "mean chrF2 of the answers by sacrebleu", "bounded", HUNDRED),
    "perplexity": Metric(False, None, "a token, of a text or of a reference after its prompt", "whole", (1, math.inf)),
    "preference_accuracy": Metric(True, "preferred", "pairs whose chosen answer is likelier or larger", "binary"),
    "preference_margin": Metric(True, "preference_margin", "chosen less rejected, ln p or reward", "unbounded", REAL),
    "judge_score": Metric(True, "judge_score", "mean of the judge model's scores", "bounded", REAL),
    "judge_agreement": Metric(
        True, "judge_agreement", "share of rows whose reference gets a person's own score from the judge", "binary"
    ),
    "judge_missing": Metric(False, "judge_missing", "share of the judged answers that got no score", "binary"),
    "refusal_rate": Metric(False, "refused", "share of answers that refuse, by English phrases", "binary"),
    "answer_tokens": Metric(None, "completion_tokens", "mean tokens of an answer, by the server", "unbounded", LOSS),
    "prompt_tokens": Metric(None, "prompt_tokens", "mean tokens of what is asked, by the server", "unbounded", LOSS),
    "latency_seconds": Metric(False, "latency_seconds", "mean seconds to the whole answer", "unbounded", LOSS),
}  # fmt: skip

# What is reported of each kind of row.
OVERLAP = ("token_f1", "rouge_1", "rouge_2", "rouge_l", "bleu", "chrf", "sentence_bleu", "sentence_chrf")
SURENESS = ("roc_auc", "pr_auc", "log_loss", "brier")
OF_REQUESTS = ("latency_seconds", "prompt_tokens")
OF_ANSWERS = ("answer_tokens", "refusal_rate", *OF_REQUESTS)
AVERAGES = ("micro_f1", "macro_precision", "macro_recall", "macro_f1")
REPORTED: dict[str, tuple[str, ...]] = {
    "label": ("accuracy", *AVERAGES, "matthews_correlation", *SURENESS, "expected_calibration_error", *OF_REQUESTS),
    "labels": ("subset_accuracy", "micro_precision", "micro_recall", *AVERAGES, *SURENESS, *OF_REQUESTS),
    "value": ("mean_absolute_error", "root_mean_squared_error", "r_squared", "spearman", *OF_REQUESTS),
    "pair": ("preference_accuracy", "preference_margin", *OF_REQUESTS),
    "tags": ("entity_f1", "entity_precision", "entity_recall", "sentence_accuracy", "token_accuracy", *OF_REQUESTS),
    "text": ("perplexity", *OF_REQUESTS),
    "answer": (
        "exact_match",
        "name_match",
        "valid_json",
        "valid_schema",
        "field_f1",
        *OVERLAP,
        "perplexity",
        "preference_accuracy",
        "preference_margin",
        "judge_score",
        "judge_missing",
        "judge_agreement",
        *OF_ANSWERS,
    ),
}


def kinds_of(task: Task, problem: Problem) -> tuple[str, ...]:
    """Those keys of REPORTED that a run's rows may have: a causal-lm's may be plain texts."""
    if task == "sequence-classification":
        return ({"single_label": "label", "multi_label": "labels", "regression": "value"}[problem],)
    one = {"token-classification": "tags", "reward": "pair", "dpo": "answer", "grpo": "answer"}.get(task)
    return (one,) if one else ("answer", "text")
