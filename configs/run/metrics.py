"""The metrics that a gate may name: for which task, and whether more is better."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """`per_example`: the column of predictions.parquet whose mean it is; None: a figure of the whole set.
    `unit_interval`: it lies in [0, 1]."""

    higher_is_better: bool
    per_example: str | None
    description: str
    unit_interval: bool = True


METRICS: dict[str, Metric] = {
    "accuracy": Metric(True, "correct", "share of rows given their label"),
    "subset_accuracy": Metric(True, "correct", "share of rows whose labels are all right"),
    "micro_precision": Metric(True, None, "share of the predicted labels that are right"),
    "micro_recall": Metric(True, None, "share of the gold labels that are predicted"),
    "micro_f1": Metric(True, None, "harmonic mean of micro precision and recall"),
    "macro_precision": Metric(True, None, "mean over labels of precision"),
    "macro_recall": Metric(True, None, "mean over labels of recall"),
    "macro_f1": Metric(True, None, "mean over labels of F1"),
    "precision": Metric(True, None, "of one label, as in precision:positive"),
    "recall": Metric(True, None, "of one label, as in recall:positive"),
    "f1": Metric(True, None, "of one label, as in f1:positive"),
    "matthews_correlation": Metric(True, None, "Matthews' correlation of gold and answer, from -1 to 1", False),
    "roc_auc": Metric(True, None, "area under the ROC curve, mean over labels, each against the rest"),
    "pr_auc": Metric(True, None, "average precision, mean over labels, each against the rest"),
    "log_loss": Metric(False, "log_loss", "-ln p(gold label) in nats; of many labels the mean over labels", False),
    "brier": Metric(False, "brier", "squared error of the probabilities (Brier 1950), of two labels half", False),
    "expected_calibration_error": Metric(False, None, "mean distance of confidence and accuracy, 15 bins (Guo 2017)"),
    "mean_absolute_error": Metric(False, "absolute_error", "mean distance of answer and gold", False),
    "root_mean_squared_error": Metric(False, None, "root of the mean squared distance", False),
    "r_squared": Metric(True, None, "share of the gold values' variance that the answers explain; at most 1", False),
    "spearman": Metric(True, None, "rank correlation, from -1 to 1", False),
    "entity_precision": Metric(True, None, "share of the predicted entities that are right, whole and in type"),
    "entity_recall": Metric(True, None, "share of the gold entities found"),
    "entity_f1": Metric(True, None, "harmonic mean of entity precision and recall, over all sentences"),
    "sentence_accuracy": Metric(True, "correct", "share of sentences with every entity found and no other"),
    "token_accuracy": Metric(True, "token_accuracy", "mean share of a sentence's tags that are right"),
    "exact_match": Metric(True, "correct", "share of answers equal to the reference; calls by syntax tree"),
    "name_match": Metric(True, "name_match", "share of answers that call the right function"),
    "valid_json": Metric(True, "valid_json", "share of answers that are a JSON object"),
    "valid_schema": Metric(True, "valid_schema", "share of answers that evaluate.json_schema accepts"),
    "field_f1": Metric(True, "field_f1", "F1 of the fields of a JSON object, each path with its value"),
    "token_f1": Metric(True, "token_f1", "F1 of the words shared with the reference (SQuAD)"),
    "rouge_1": Metric(True, "rouge_1", "ROUGE-1 F-measure"),
    "rouge_2": Metric(True, "rouge_2", "ROUGE-2 F-measure"),
    "rouge_l": Metric(True, "rouge_l", "ROUGE-L F-measure"),
    "bleu": Metric(True, None, "BLEU of the corpus by sacrebleu, from 0 to 100", False),
    "chrf": Metric(True, None, "chrF2 of the corpus by sacrebleu, from 0 to 100", False),
    "sentence_bleu": Metric(True, "sentence_bleu", "mean BLEU of the answers by sacrebleu, from 0 to 100", False),
    "sentence_chrf": Metric(True, "sentence_chrf", "mean chrF2 of the answers by sacrebleu, from 0 to 100", False),
    "perplexity": Metric(False, None, "of the text, or of the reference after its prompt, a token", False),
    "preference_accuracy": Metric(True, "preferred", "share of pairs whose chosen answer is likelier, or larger"),
    "preference_margin": Metric(True, "preference_margin", "mean of chosen minus rejected, ln p or reward", False),
    "judge_score": Metric(True, "judge_score", "mean of the judge model's scores", False),
    "judge_missing": Metric(False, "judge_missing", "share of the judged answers that got no score"),
}  # fmt: skip
