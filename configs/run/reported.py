"""Which metrics are measured of a run's release: by the kind of its rows, and by what its config asks for."""

from __future__ import annotations

from configs.task import Problem, Task

# Of each kind of row.
OVERLAP = ("token_f1", "rouge_1", "rouge_2", "rouge_l", "bleu", "chrf", "sentence_bleu", "sentence_chrf")
SURENESS = ("roc_auc", "pr_auc", "log_loss", "brier")
AVERAGES = ("micro_f1", "macro_precision", "macro_recall", "macro_f1")
REPORTED: dict[str, tuple[str, ...]] = {
    "label": ("accuracy", *AVERAGES, "matthews_correlation", *SURENESS, "expected_calibration_error"),
    "labels": ("subset_accuracy", "micro_precision", "micro_recall", *AVERAGES, *SURENESS),
    "value": ("mean_absolute_error", "root_mean_squared_error", "r_squared", "spearman"),
    "pair": ("preference_accuracy", "preference_margin"),
    "tags": ("entity_f1", "entity_precision", "entity_recall", "sentence_accuracy", "token_accuracy"),
    "text": ("perplexity",),
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
    ),
}


def kinds_of(task: Task, problem: Problem) -> tuple[str, ...]:
    """Those keys of REPORTED that a run's rows may have: a causal-lm's may be plain texts."""
    if task == "sequence-classification":
        return ({"single_label": "label", "multi_label": "labels", "regression": "value"}[problem],)
    one = {"token-classification": "tags", "reward": "pair", "dpo": "answer", "grpo": "answer"}.get(task)
    return (one,) if one else ("answer", "text")
