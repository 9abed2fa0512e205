"""The two kinds of rows: a test row, which is the user's data, and its scored answer, a line of predictions.parquet."""

from __future__ import annotations

from typing import Any, TypedDict

Row = dict[str, Any]


class Prediction(TypedDict, total=False):
    """A line of predictions.parquet. The first part is in every line; of the others those of the row's kind, the same
    in all lines of a file. None: the column says nothing of this row."""

    id: str
    cluster: str | None  # where evaluate.cluster names what rows share
    slices: list[str]
    latency_seconds: float
    prompt_tokens: int | None  # None: the server counted none
    completion_tokens: int

    # Every kind but plain text; numbers of a regression.
    gold: str | float
    answer: str | float | None
    correct: float

    # One label a row, or many.
    log_loss: float
    brier: float
    probabilities: str | None  # a JSON object: label to probability
    confidence: float | None
    gold_labels: list[str]
    answer_labels: list[str]

    # A number.
    absolute_error: float

    # Tags.
    token_accuracy: float
    entities: int
    entities_found: int
    entities_wrong: int

    # Text, and the likelihood of a reference.
    logprob: float | None
    tokens: int | None
    preferred: float
    preference_margin: float

    # A generated answer.
    exact_match: float
    refused: float
    name_match: float | None
    valid_json: float | None
    valid_schema: float | None
    field_f1: float | None
    token_f1: float | None
    rouge_1: float | None
    rouge_2: float | None
    rouge_l: float | None
    sentence_bleu: float | None
    sentence_chrf: float | None
    bleu_statistics: list[int] | None
    chrf_statistics: list[int] | None
    judge_score: float
    judge_missing: float
    judge_agreement: float
