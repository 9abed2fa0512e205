"""Figures of many rows: numbers and entities by their definitions, and the same from a frame, from a resampled one and
from the file."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from seqeval import metrics as seqeval
from sklearn.metrics import r2_score

from configs.run.evaluate import Evaluate
from configs.run.metrics import METRICS, REPORTED
from eval.measure.predictions import write_predictions
from eval.metrics.aggregate import WHOLE, classes_of, figure, slice_rows, summarise
from eval.metrics.rows import Prediction
from eval.metrics.score import score
from infra.vllm.answer import Answer

pytestmark = pytest.mark.unit
TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-ORG", "I-ORG"]), min_size=1, max_size=8)
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "label": ("sequence-classification", {"text": "a b", "label": "good"}),
    "labels": ("sequence-classification", {"text": "a b", "labels": ["good"]}),
    "value": ("sequence-classification", {"text": "a b", "value": 2.0}),
    "tags": ("token-classification", {"tokens": ["a", "b"], "tags": ["B-PER", "O"]}),
    "text": ("causal-lm", {"text": "a b"}),
    "answer": ("causal-lm", {"prompt": "a b", "reference": "a cat"}),
}


def answer_of(number: int) -> Answer:
    """Right on even numbers, for every kind of row."""
    right = number % 2 == 0
    probs = {"bad": 0.25, "good": 0.75} if right else {"bad": 0.75, "good": 0.25}
    label, tags = max(probs, key=probs.__getitem__), ["B-PER", "O"] if right else ["O", "B-PER"]
    predicted = Answer(
        "a cat" if right else "dogs",
        label,
        probs,
        None,
        0.1,
        3,
        2,
        value=2.0 + number,
        logprob=-1.0 - number,
        scored_tokens=2,
    )
    return Answer(**(predicted.__dict__ | {"labels": tags})) if number >= 0 else predicted


def scored(kind: str, count: int) -> list[Prediction]:
    task, row = KINDS[kind]
    rows = []
    for number in range(count):
        given = row | {"id": f"r{number}"} | ({"value": number % 3} if kind == "value" else {})
        answer = answer_of(number)
        answer = Answer(**(answer.__dict__ | {"labels": [str(answer.label)]})) if kind == "labels" else answer
        rows.append(
            score(task, given, answer, Evaluate())
            | {"slices": ["all", f"third={number % 3}", *(["even"] if number % 2 == 0 else [])]}
        )
    return rows


def test_the_table_says_of_every_metric_how_it_is_made() -> None:
    by_label = {"precision", "recall", "f1"}
    assert {name for name, metric in METRICS.items() if metric.per_example is None} - by_label == WHOLE.keys()
    assert {name for names in REPORTED.values() for name in names} <= METRICS.keys()
    for metric in METRICS.values():
        assert metric.description and isinstance(metric.higher_is_better, bool | None)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_what_the_figures_of_a_frame_are(kind: str, tmp_path: Path) -> None:
    rows = scored(kind, 30)
    write_predictions(tmp_path, iter(rows))
    found, frame = (
        summarise(tmp_path / "predictions.parquet", kind, 10),
        pandas.read_parquet(tmp_path / "predictions.parquet"),
    )
    assert found["metrics"] and found["metrics"] == {
        name: figure(name, frame) for name in REPORTED[kind] if math.isfinite(figure(name, frame))
    }
    assert (
        list(found["slices"]) == ["all", "even", "third=0", "third=1", "third=2"]
        and found["slices"]["all"] == {"n": 30} | found["metrics"]
    )
    assert found["slices"]["even"]["n"] == 15 and set(found["slices"]["third=1"]) - {"n"} <= set(found["metrics"])
    for name, value in found["slices"]["third=1"].items():
        assert name == "n" or value == pytest.approx(
            figure(name, frame[frame["slices"].map(lambda names: "third=1" in names)])
        )
    assert found["classes"] == classes_of(frame) and bool(found["classes"]) == (kind in ("label", "labels", "tags"))
    small = summarise(tmp_path / "predictions.parquet", kind, 16)["slices"]
    assert list(small) == ["all"], "a slice of fewer rows than minimum_slice says nothing"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(KINDS)), st.lists(st.integers(0, 19), max_size=25))
def test_a_resampled_frame_has_every_figure_or_none(kind: str, places: list[int]) -> None:
    frame = pandas.DataFrame(scored(kind, 20)).iloc[places]
    for name in METRICS:
        value = figure(name, frame)
        assert isinstance(value, float) and (places or math.isnan(value)), name
        low, high = METRICS[name].value_range
        assert not math.isfinite(value) or low - 1e-6 <= value <= high + 1e-6, name


def test_figures_of_another_kind_are_not_numbers() -> None:
    frame = pandas.DataFrame(scored("value", 4))
    assert all(
        math.isnan(figure(name, frame))
        for name in ("accuracy", "macro_f1", "entity_f1", "bleu", "perplexity", "roc_auc", "f1:good", "token_f1")
    )
    assert all(math.isnan(figure(name, pandas.DataFrame({"id": []}))) for name in METRICS)


def test_rows_of_a_slice_are_found_over_the_borders_of_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eval.measure.predictions.BATCH_ROWS", 7)
    write_predictions(tmp_path, iter(scored("text", 70_000 // 1000)))
    rows = slice_rows(tmp_path / "predictions.parquet")
    assert rows["third=1"].tolist() == list(range(1, 70, 3)) and rows["all"].tolist() == list(range(70))


def tagged(gold: list[str], predicted: list[str]) -> Any:
    answer = Answer(" ".join(predicted), None, None, None, 0.1, 0, labels=predicted, confidences=[1.0] * len(predicted))
    return score("token-classification", {"id": "1", "tokens": ["w"] * len(gold), "tags": gold}, answer, Evaluate())


def test_entities_count_whole_and_by_kind() -> None:
    row = tagged(["B-PER", "I-PER", "O", "B-ORG"], ["B-PER", "O", "O", "B-ORG"])
    assert (
        (row["entities"], row["entities_found"], row["entities_wrong"]) == (2, 1, 1)
        and row["correct"] == 0
        and row["token_accuracy"] == 0.75
    )
    frame = pandas.DataFrame([row, tagged(["O", "B-ORG"], ["O", "B-ORG"])])
    assert (
        figure("entity_precision", frame)
        == figure("entity_recall", frame)
        == figure("entity_f1", frame)
        == pytest.approx(2 / 3)
    )
    assert figure("sentence_accuracy", frame) == 0.5
    assert classes_of(frame) == {
        "ORG": dict.fromkeys(("precision", "recall", "f1"), 1.0) | {"n": 2},
        "PER": dict.fromkeys(("precision", "recall", "f1"), 0.0) | {"n": 1},
    }
    assert figure("f1:ORG", frame) == 1


@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=6))
def test_entities_over_all_sentences_are_seqevals(pairs: list[tuple[list[str], list[str]]]) -> None:
    pairs = [(gold, (predicted * len(gold))[: len(gold)]) for gold, predicted in pairs]
    frame, (golds, saids) = pandas.DataFrame([tagged(*pair) for pair in pairs]), zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, one in (
            ("entity_f1", seqeval.f1_score),
            ("entity_precision", seqeval.precision_score),
            ("entity_recall", seqeval.recall_score),
        ):
            assert figure(name, frame) == pytest.approx(one(list(golds), list(saids), zero_division=0))


def numbers(pairs: list[tuple[float, float]]) -> pandas.DataFrame:
    answers = [Answer("", None, None, None, 0.1, 0, value=predicted) for _, predicted in pairs]
    return pandas.DataFrame(
        [
            score("sequence-classification", {"id": "1", "value": gold}, one, Evaluate())
            for (gold, _), one in zip(pairs, answers, strict=True)
        ]
    )


@given(st.lists(st.tuples(st.integers(-9, 9).map(float), st.floats(-9, 9)), min_size=2, max_size=20))
def test_figures_of_numbers_are_scikit_learns_and_scipys(pairs: list[tuple[float, float]]) -> None:
    frame, (gold, predicted) = numbers(pairs), zip(*pairs, strict=True)
    assert figure("mean_absolute_error", frame) == pytest.approx(
        sum(abs(one - other) for one, other in pairs) / len(pairs)
    )
    assert figure("root_mean_squared_error", frame) ** 2 == pytest.approx(
        sum((one - other) ** 2 for one, other in pairs) / len(pairs)
    )
    varied = len({*gold}) > 1
    assert (
        figure("r_squared", frame) == pytest.approx(r2_score(gold, predicted))
        if varied
        else math.isnan(figure("r_squared", frame))
    )
    ordered = varied and len({*predicted}) > 1
    assert (
        figure("spearman", frame) == pytest.approx(spearmanr(gold, predicted).statistic)
        if ordered
        else math.isnan(figure("spearman", frame))
    )


def test_an_absent_number_makes_no_figure_that_could_pass() -> None:
    frame = pandas.DataFrame(
        [
            score(
                "sequence-classification", {"id": "1", "value": gold}, Answer("", None, None, None, 0.1, 0), Evaluate()
            )
            for gold in (1, 2)
        ]
    )
    assert figure("mean_absolute_error", frame) == figure("root_mean_squared_error", frame) == math.inf and math.isnan(
        figure("r_squared", frame)
    )
