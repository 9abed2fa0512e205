"""What a data section refuses, before any row is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.rows.data import Data
from configs.rows.files import SUFFIXES, URL_SCHEMES, suffix_format

pytestmark = pytest.mark.unit
GIVEN = {"files": ["a.jsonl"], "validation_files": ["a.jsonl"], "test_files": ["a.jsonl"], "split": {"method": "given"}}
HUB = {"source": "hub", "hub_id": "owner/set", "revision": "0" * 40}
TEMPLATE = {"prompt": "{{ a }}", "completion": "{{ b }}"}


def data(root: Path | None = None, **changes: Any) -> Data:
    return Data.model_validate(
        {"source": "files", "files": ["a.jsonl"]} | changes, context={"root": root} if root else None
    )


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"files": []}, "files exactly when source is files"),
        ({"source": "sentiment"}, "files exactly when source is files"),
        (HUB | {"files": [], "revision": None}, "hub_id and revision exactly when source is hub"),
        ({"hub_id": "owner/set"}, "hub_id and revision exactly when source is hub"),
        (HUB | {"files": [], "revision": "main"}, "should match pattern"),
        ({"validation_files": ["a.jsonl"]}, "validation_files and test_files exactly when split.method is given"),
        (GIVEN | {"test_files": []}, "validation_files and test_files exactly when split.method is given"),
        ({"split": {"method": "grouped"}}, "by exactly when method is grouped or temporal"),
        ({"split": {"by": "who"}}, "by exactly when method is grouped or temporal"),
        ({"source": "bfcl", "files": [], "columns": {"text": "x"}}, "only with source files or hub"),
        ({"source": "bfcl", "files": [], "template": TEMPLATE}, "only with source files or hub"),
        ({"files": ["a.doc"]}, "files that end in"),
        ({"lint": {"unreadable": "keep"}}, "Input should be"),
        ({"lint": {"imbalance": "drop"}}, "Input should be"),
        ({"files": ["file:///etc/passwd"]}, "a path inside the checkout, or one URL of s3"),
        ({"files": ["local://x.jsonl"]}, "a path inside the checkout, or one URL"),
        ({"files": ["simplecache::s3://bucket/x.jsonl"]}, "a path inside the checkout, or one URL"),
        ({"files": ["s3://bucket/x.jsonl::file:///etc/passwd"]}, "a path inside the checkout, or one URL"),
        ({"files": ["../*.jsonl"]}, "a path inside the checkout"),
        ({"files": ["/data/rows.jsonl"]}, "a path inside the checkout"),
    ],
)
def test_what_cannot_be_is_refused_with_what_was_expected(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        data(**changes)


PARTS = [{"name": "one", "files": ["a.jsonl"]}, {"name": "two", "files": ["b.csv"], "format": "alpaca"}]
HUB_PART = {"name": "three", "source": "hub", "hub_id": "owner/set", "revision": "0" * 40}
MIX = {"source": "mix", "files": []}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"format": "jsonl"}, "a renamed key, file_format: jsonl"),
        ({"format": "chatml"}, "'openai', 'sharegpt', 'alpaca', 'trl' or 'squad'"),
        ({"format": "alpaca", "template": TEMPLATE}, "format or template, not both"),
        ({"source": "sentiment", "files": [], "format": "alpaca"}, "only with source files or hub"),
        ({"hub_config": "x"}, "hub_config and hub_split only with source hub"),
        (HUB | {"files": [], "split": {"method": "given"}}, "exactly when split.method is given"),
        (HUB | {"files": [], "hub_split": {"test": "t"}}, "exactly when split.method is given"),
        (MIX | {"mix": PARTS[:1]}, "two parts or more in mix exactly when source is mix"),
        ({"mix": PARTS}, "two parts or more in mix exactly when source is mix"),
        (MIX | {"mix": [PARTS[0], PARTS[0]]}, "names in mix that differ"),
        (MIX | {"mix": [PARTS[0] | {"weight": 1}, PARTS[1]]}, "a weight in each part of mix, or in none"),
        (MIX | {"mix": [PARTS[0], PARTS[1] | {"files": []}]}, "mix.two: files exactly when source is files"),
        (MIX | {"mix": [PARTS[0], HUB_PART | {"hub_split": {}}]}, "mix.three: hub_split the name of one split"),
        (MIX | {"mix": [PARTS[0], PARTS[1] | {"files": ["x.doc"]}]}, "mix.two: files that end in"),
        (MIX | {"mix": PARTS, "columns": {"text": "x"}}, "only with source files or hub"),
        (MIX | {"mix": PARTS, "split": {"method": "given"}}, "split.method given only with source files or hub"),
        (MIX | {"mix": [PARTS[0], PARTS[1] | {"weight": 0}]}, "greater than 0"),
    ],
)
def test_shapes_and_mixtures_that_cannot_be_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        data(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        GIVEN,
        HUB | {"files": []},
        HUB | {"files": [], "hub_config": "x", "hub_split": {"validation": "dev"}, "split": {"method": "given"}},
        MIX | {"mix": [*PARTS, HUB_PART], "keep": ["source"]},
        {"format": "sharegpt", "columns": {"conversations": "dialog"}},
        {"files": ["a.doc"], "file_format": "csv"},
        {"files": ["s3://bucket/*.parquet", "https://host/x.csv.gz"]},
    ],
)
def test_what_can_be_is_let_through(changes: dict[str, Any]) -> None:
    assert data(**changes)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(
        ValidationError, match=r"files exactly when.*hub_id and revision.*validation_files and test_files"
    ):
        data(files=[], hub_id="x", test_files=["a.jsonl"])


def test_patterns_and_paths_are_looked_for_in_a_checkout(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "rows[1].csv").touch()
    assert data(tmp_path, files=["rows[1].csv"]).row_files == ["rows[1].csv"]
    assert data(tmp_path, files=["*.jsonl", "a.jsonl", "s3://bucket/none.jsonl"])
    for place, why in (("*.tsv", "a pattern that some file matches"), ("b.jsonl", "a file or folder that exists")):
        with pytest.raises(ValidationError, match=why):
            data(tmp_path, files=[place])


@given(
    st.sampled_from([*SUFFIXES, *map(str.upper, SUFFIXES), ".doc"]),
    st.sampled_from(["", ".gz", ".bz2", ".xz", ".zst", ".GZ"]),
    st.sampled_from(["", "s3://b/", "dir.csv/"]),
)
def test_a_suffix_says_the_format_behind_any_compression(suffix: str, packed: str, folder: str) -> None:
    assert suffix_format(f"{folder}rows{suffix}{packed}") == SUFFIXES.get(suffix.lower())


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_url_of_another_scheme_is_let_through(scheme: str, rest: str) -> None:
    try:
        data(files=[f"{scheme}://{rest}"], file_format="jsonl")
    except ValidationError:
        return
    assert scheme in URL_SCHEMES and "::" not in rest


@pytest.mark.parametrize(
    ("task", "problem", "changes", "why"),
    [
        (
            "sequence-classification",
            "single_label",
            {"template": TEMPLATE},
            "data.template and data.format only with a task that writes text or judges it",
        ),
        ("dpo", "single_label", {"template": TEMPLATE}, "data.template.rejected exactly with task dpo or reward"),
        (
            "causal-lm",
            "single_label",
            {"template": TEMPLATE | {"rejected": "{{ c }}"}},
            "data.template.rejected exactly with task dpo or reward",
        ),
        (
            "dpo",
            "single_label",
            {"template": TEMPLATE | {"rejected": "{{ c }}", "chat": False}},
            "data.template.chat true with task dpo or reward",
        ),
        (
            "causal-lm",
            "single_label",
            {"split": {"method": "stratified"}},
            "data.split.method stratified only with labels",
        ),
        ("sequence-classification", "regression", {"labels": ["a"]}, "data.labels only with labels or tags"),
    ],
)
def test_rows_that_do_not_suit_the_task_are_refused(task: str, problem: str, changes: dict[str, Any], why: str) -> None:
    assert len(found := data(**changes).incompatibilities(task, problem)) == 1 and found[0].startswith(why)


@pytest.mark.parametrize("task", ["sequence-classification", "token-classification", "causal-lm", "dpo"])
def test_plain_rows_suit_every_task(task: str) -> None:
    assert data().incompatibilities(task, "single_label") == []
