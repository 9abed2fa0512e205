"""What is wrong with slices, schemas and metrics is said at check time, with the nearest right name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.errors import ConfigError
from configs.loader import load
from configs.run.config import RunConfig
from configs.run.evaluate import Evaluate, check_json_schema
from configs.run.metrics import METRICS
from configs.run.slices import Slice

pytestmark = pytest.mark.unit


def problems(folder: Path, monkeypatch: pytest.MonkeyPatch, evaluate: dict[str, Any], **changes: Any) -> list[str]:
    """Of a run of a classifier over a file of its own, as `tunegate check` reports them."""
    monkeypatch.chdir(folder)
    for name in ("rows.jsonl", "gate.yaml", "tiny"):
        (folder / name).write_text("")
    sections = {
        "name": "x",
        "task": "sequence-classification",
        "base": {"path": "tiny"},
        "train": {"max_steps": 1},
        "gate": "gate.yaml",
    }
    data = {"source": "files", "files": ["rows.jsonl"], "keep": ["topic"]}
    (folder / "run.yaml").write_text(json.dumps(sections | {"data": data, "evaluate": evaluate} | changes))
    try:
        load(folder / "run.yaml", RunConfig)
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


def test_a_good_slice_of_each_way_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cuts = [
        {"by": "label"},
        {"by": "length", "edges": [20, 60]},
        {"column": "topic"},
        {"name": "short", "where": "length < 20 and topic == 'travel'"},
    ]
    assert problems(tmp_path, monkeypatch, {"slices": cuts, "minimum_slice": 5, "normalize": "squad"}) == []


def test_groups_are_kept_columns_of_rows_with_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(tmp_path, monkeypatch, {"groups": ["topic"]}) == []
    (found,) = problems(tmp_path, monkeypatch, {"groups": ["topics"]})
    assert "evaluate.groups: 'topic' instead of 'topics'" in found
    (found,) = problems(tmp_path, monkeypatch, {"groups": ["topic"]}, task="causal-lm")
    assert "evaluate.groups only with task sequence-classification" in found


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({"name": "short", "where": "lenght < 20"}, "'length' instead of 'lenght'"),
        ({"column": "topics"}, "'topic' instead of 'topics'"),
        (
            {"column": "customer"},
            "length, label, question, topic, or a column that data.keep names, instead of 'customer'",
        ),
        ({"name": "short", "where": "length <"}, "one expression"),
        ({"name": "short", "where": "open('/etc/passwd')"}, "without Call"),
        ({"name": "short", "where": "question.__class__ == 1"}, "without Attribute"),
        ({"name": "short", "where": "[x for x in question]"}, "without ListComp"),
        ({"name": "short", "where": "length; label"}, "one expression"),
        ({"where": "length < 2"}, "name exactly with where"),
        ({"by": "label", "column": "topic"}, "one of by, column and where"),
        ({}, "one of by, column and where"),
        ({"by": "label", "edges": [2]}, "edges only with by length"),
        ({"by": "length", "edges": [3, 2]}, "each larger than the one before"),
        ({"by": "lenth"}, "'label' or 'length'"),
    ],
)
def test_a_slice_that_cannot_be_cut_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cut: dict[str, Any], expected: str
) -> None:
    (found,) = problems(tmp_path, monkeypatch, {"slices": [cut]})
    assert expected in found and "run.yaml" in found


def test_a_label_is_no_name_where_rows_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for changes, cut in (
        ({"task": "causal-lm"}, {"by": "label"}),
        ({"problem": "regression"}, {"name": "good", "where": "label == 'good'"}),
    ):
        (found,) = problems(tmp_path, monkeypatch, {"slices": [cut]}, **changes)
        assert "evaluate.slices" in found
    assert problems(tmp_path, monkeypatch, {"perplexity": True}, task="causal-lm") == []
    assert "only with task causal-lm" in problems(tmp_path, monkeypatch, {"perplexity": True})[0]
    assert "keep" in problems(tmp_path, monkeypatch, {}, data={"source": "sentiment", "keep": ["topic"]})[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "JSON Schema"), ("[]", "JSON Schema"), ("true", "an object"), ('{"type": "nonsense"}', "JSON Schema"),
        ('{"$ref": "https://example.org/a.json"}', "nothing is fetched"),
        ('{"items": [{"$ref": "#/$defs/lost"}]}', "lost"),
    ],
)  # fmt: skip
def test_a_schema_that_could_not_judge_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, expected: str
) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(ValueError, match=expected.replace("$", r"\$")):
        check_json_schema(tmp_path / "s.json")
    (found,) = problems(tmp_path, monkeypatch, {"json_schema": "s.json"}, task="causal-lm")
    assert "evaluate.json_schema" in found


def test_a_schema_with_its_own_definitions_is_taken(tmp_path: Path) -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "integer"}}}
    (tmp_path / "s.json").write_text(json.dumps(schema))
    check_json_schema(tmp_path / "s.json")


def test_a_manifests_copy_is_read_where_its_schema_is_not() -> None:
    assert Evaluate(json_schema="gone.json").json_schema == "gone.json"
    with pytest.raises(ValidationError):
        Slice(by="length", edges=[1], column="x")


def test_lower_is_better_for_losses_errors_perplexity_what_is_missing_refused_or_slow_alone() -> None:
    lower = {name for name, metric in METRICS.items() if metric.higher_is_better is False}
    assert lower == {
        "log_loss",
        "brier",
        "expected_calibration_error",
        "mean_absolute_error",
        "root_mean_squared_error",
        "perplexity",
        "judge_missing",
        "refusal_rate",
        "latency_seconds",
    }
    neither = {name for name, metric in METRICS.items() if metric.higher_is_better is None}
    assert neither == {"answer_tokens", "prompt_tokens"}


@pytest.mark.parametrize(
    ("evaluate", "changes", "expected"),
    [
        ({"folds": 5}, {}, None),
        ({"folds": 1}, {}, "greater than or equal to 2"),
        ({"folds": 21}, {}, "less than or equal to 20"),
        (
            {"folds": 5},
            {"data": {"split": {"method": "temporal", "by": "topic"}}},
            "not temporal: every row is held out",
        ),
        ({"folds": 5}, {"launch": {"processes": 2}, "train": {"batch_size": 2, "max_steps": 1}}, "one launch process"),
        ({"folds": 5, "behaviour": [{"test": "robustness", "perturb": ["typos"]}]}, {}, "no evaluate.behaviour"),
        (
            {"folds": 5, "cluster": "topic"},
            {"data": {"split": {"method": "grouped", "by": "author"}}},
            "evaluate.cluster author, which is data.split.by",
        ),
        ({"folds": 5}, {"data": {"split": {"method": "grouped", "by": "author"}}}, None),
        ({"folds": 5}, {"name": "x" * 55}, "a name of at most 54 characters"),
        ({"folds": 2}, {"data": {"max_rows": 80}}, "a data.max_rows with evaluate.folds that leaves train rows"),
        ({"folds": 2}, {"data": {"max_rows": 82}}, None),
    ],
)
def test_folds_are_refused_where_no_row_could_be_held_out_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evaluate: dict[str, Any],
    changes: dict[str, Any],
    expected: str | None,
) -> None:
    data = {"source": "files", "files": ["rows.jsonl"], "keep": ["topic"]} | changes.get("data", {})
    found = problems(tmp_path, monkeypatch, evaluate, **(changes | {"data": data}))
    assert found == [] if expected is None else len(found) == 1 and expected in found[0]


def test_given_splits_and_rewards_are_no_matter_of_folds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"validation_files": ["rows.jsonl"], "test_files": ["rows.jsonl"], "split": {"method": "given"}}
    data = {"source": "files", "files": ["rows.jsonl"]} | files
    assert "not given: every row is held out once" in problems(tmp_path, monkeypatch, {"folds": 5}, data=data)[0]
    assert problems(tmp_path, monkeypatch, {}, data=data) == []
    assert "which would be trained 6 times" in "".join(
        Evaluate(folds=5).incompatibilities_of_folds(
            RunConfig.model_validate(CLASSIFIER).data, "grpo", "x", processes=1
        )
    )


CLASSIFIER = {
    "name": "x",
    "task": "sequence-classification",
    "base": {"path": "tiny"},
    "data": {"source": "files", "files": ["rows.jsonl"], "keep": ["topic"]},
    "train": {"max_steps": 1},
    "gate": "gate.yaml",
}


def test_the_run_of_a_fold_is_the_run_but_for_its_name_and_what_only_the_whole_measures() -> None:
    run = RunConfig.model_validate(CLASSIFIER | {"evaluate": {"folds": 3, "baseline": True, "cluster": "topic"}})
    fold = run.fold(2)
    assert (fold.name, fold.evaluate.folds, fold.evaluate.baseline) == ("x-fold-2", None, False)
    whole = {"folds": 3, "baseline": True}
    again = fold.model_copy(update={"name": "x", "evaluate": fold.evaluate.model_copy(update=whole)})
    assert again == run


def test_what_decides_the_folds_is_a_key_of_its_own() -> None:
    keys = [Evaluate(folds=folds, cluster=cluster).key_of_folds() for folds in (2, 3) for cluster in (None, "topic")]
    assert len({*map(tuple, keys)}) == 4 and Evaluate(cluster="topic").key_of_folds() == []
