"""Examples of the harness as samples: those that a metric is the mean of, and no others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from eval.measure.harness_samples import read_harness_samples

pytestmark = pytest.mark.unit


def write(folder: Path, subtask: str, rows: list[dict[str, Any]]) -> Path:
    path = folder / f"samples_{subtask}_2026-11-27T00-00-00.jsonl"
    lines = [{"doc_id": place, "doc_hash": "abcdef0123", "filter": "none", **row} for place, row in enumerate(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_a_metric_that_is_a_mean_has_samples_and_says_what_it_is(tmp_path: Path) -> None:
    rows = [
        {"metrics": ["acc", "f1", "word_perplexity"], "acc": float(i < 3), "f1": i / 4, "word_perplexity": [1, 2]}
        for i in range(4)
    ]
    results = {
        "results": {"task": {"acc,none": 0.75, "acc_stderr,none": 0.1, "f1,none": 0.375, "word_perplexity,none": 9.0}},
        "higher_is_better": {"task": {"acc": True, "f1": False}},
    }
    samples, definitions = read_harness_samples(results, [write(tmp_path, "task", rows)], "task")
    assert {one.metric for one in samples} == {"acc", "f1"} and {one.source for one in samples} == {"harness:task"}
    assert [one.value for one in samples if one.metric == "acc"] == [1, 1, 1, 0]
    assert len({one.id for one in samples}) == 4
    assert definitions == {
        "harness:task:acc": {"kind": "binary", "low": 0.0, "high": 1.0, "higher_is_better": True},
        "harness:task:f1": {"kind": "bounded", "low": 0.0, "high": 1.0, "higher_is_better": False},
    }


def test_the_acc_of_truthfulqas_second_task_is_a_share_of_probability(tmp_path: Path) -> None:
    rows = [{"metrics": ["acc"], "acc": value} for value in (0.25, 0.75, 1.0)]
    parts = {name: {"acc,none": 2 / 3} for name in ("truthfulqa", "truthfulqa_mc2")}
    files = [write(tmp_path, "truthfulqa_mc2", rows)]
    samples, definitions = read_harness_samples({"results": parts}, files, "truthfulqa")
    assert {one.metric for one in samples} == {"acc", "truthfulqa_mc2_acc"} and len(samples) == 6
    assert {one["kind"] for one in definitions.values()} == {"bounded"}


def test_a_figure_that_is_no_mean_of_its_examples_is_not_paired(tmp_path: Path) -> None:
    """As where the harness weighs, or counts from 0 to 100: an interval of these rows would be of something else."""
    rows = [{"metrics": ["acc", "em"], "acc": 1.0, "em": 50.0} for _ in range(4)]
    results = {"results": {"task": {"acc,none": 0.5, "em,none": 50.0}}}
    assert read_harness_samples(results, [write(tmp_path, "task", rows)], "task") == ([], {})


def test_filters_and_the_parts_of_a_group_have_names_of_their_own(tmp_path: Path) -> None:
    strict, loose = ({"filter": name, "metrics": ["exact_match"]} for name in ("strict-match", "flexible"))
    one = write(tmp_path, "part_one", [strict | {"exact_match": 1.0}, loose | {"exact_match": 1.0}])
    two = write(tmp_path, "part_two", [strict | {"exact_match": 0.0}])
    results = {
        "results": {
            "group": {"exact_match,strict-match": 0.5},
            "part_one": {"exact_match,strict-match": 1.0, "exact_match,flexible": 1.0},
            "part_two": {"exact_match,strict-match": 0.0},
        }
    }
    samples, definitions = read_harness_samples(results, [one, two], "group")
    assert {*definitions} == {
        "harness:group:exact_match_strict_match",
        "harness:group:part_one_exact_match_strict_match",
        "harness:group:part_one_exact_match_flexible",
        "harness:group:part_two_exact_match_strict_match",
    }
    whole = [sample for sample in samples if sample.metric == "exact_match_strict_match"]
    assert sorted(sample.value for sample in whole) == [0.0, 1.0] and len({sample.id for sample in whole}) == 2
