"""`evaluate.folds` through prepare: the rows of the release and of each fold's model, in files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths, fold_data
from configs.run.config import RunConfig
from infra.files.rows import read_rows
from tests.train.conftest import write_lines
from train.data.prepared import read_card, read_split, read_tokens
from train.model.base import make_base
from train.prepare import prepare

pytestmark = pytest.mark.unit
SPLITS = ("train", "validation", "test")


def ids(data: Path, split: str) -> list[str]:
    return sorted(row["id"] for row in read_rows(data / f"{split}.parquet"))


def made(config: RunConfig) -> RunPaths:
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    return paths


def test_every_row_is_a_test_row_once_and_the_release_is_trained_on_all(classifier: Callable[..., RunConfig]) -> None:
    config = classifier(evaluate={"folds": 4})
    paths = made(config)
    rows = ids(paths.data, "test")
    assert len(rows) == 40 and sorted([*ids(paths.data, "train"), *ids(paths.data, "validation")]) == rows
    assert len(ids(paths.data, "validation")) == 6, "data.test_rows is not drawn"
    held = []
    for number in range(1, 5):
        fold = fold_data(paths.data, number)
        parts = [ids(fold, name) for name in SPLITS]
        assert sorted(one for part in parts for one in part) == rows and [*map(len, parts)] == [24, 6, 10]
        labels = Counter(row["label"] for row in read_rows(fold / "test.parquet"))
        assert labels == {"good": 5, "bad": 5}, "equal shares of labels"
        held += parts[2]
        card = json.loads((fold / "data_card.json").read_text())
        assert card["labels"] == read_card(paths)["labels"] and card["fingerprint"] != read_card(paths)["fingerprint"]
    assert sorted(held) == rows
    assert read_card(paths)["splits"]["test"]["rows"] == 40 and read_card(paths).get("folds") == [10] * 4
    assert "By 4 folds, of 10, 10, 10, 10 rows" in (paths.data / "data_card.html").read_text()
    assert len(read_tokens(paths, "test")) == 40 and read_split(paths, "train")
    before = (paths.data / "data_card.json").stat().st_mtime_ns
    made(config)
    assert (paths.data / "data_card.json").stat().st_mtime_ns == before, "a second call does nothing"
    made(classifier(evaluate={"folds": 2}))
    assert not fold_data(paths.data, 3).exists() and len(ids(fold_data(paths.data, 2), "test")) == 20
    made(classifier())
    assert not (paths.data / "folds").exists() and len(ids(paths.data, "test")) == 10


@pytest.mark.parametrize("split", [{"method": "grouped", "by": "film"}, {"method": "stratified"}])
def test_what_rows_share_is_held_out_together(classifier: Callable[..., RunConfig], split: dict[str, Any]) -> None:
    """Where it is data.split.by, and where evaluate.cluster alone names it."""
    rows = [
        {"text": f"{'good' if place % 2 else 'bad'} film {place}", "label": place % 2, "film": place // 4}
        for place in range(40)
    ]
    write_lines(Path("rows.jsonl"), rows)
    labels = ["bad", "good"]
    paths = made(
        classifier(data={"split": split, "keep": ["film"], "labels": labels}, evaluate={"folds": 3, "cluster": "film"})
    )
    homes: dict[str, set[int]] = {}
    for number in range(1, 4):
        for row in read_rows(fold_data(paths.data, number) / "test.parquet"):
            homes.setdefault(json.loads(row["kept"])["film"], set()).add(number)
    assert len(homes) == 10 and all(len(one) == 1 for one in homes.values())


def test_corrupted_answers_are_those_of_the_folds_too(classifier: Callable[..., RunConfig]) -> None:
    paths = made(classifier(data={"corrupt": "shuffle_answers"}, evaluate={"folds": 2}))
    true = {row["id"]: row["label"] for row in read_split(paths, "test")}
    for number in (1, 2):
        fold = fold_data(paths.data, number)
        assert any(row["label"] != true[row["id"]] for row in read_rows(fold / "train.parquet"))
        assert all(row["label"] == true[row["id"]] for row in read_rows(fold / "test.parquet"))


def test_a_row_that_is_nearly_one_of_another_fold_leaks(classifier: Callable[..., RunConfig]) -> None:
    words = "one two three four five six seven eight nine ten"
    rows = [{"text": f"{'good' if place % 2 else 'bad'} film {place}", "label": "gb"[place % 2]} for place in range(40)]
    write_lines(Path("rows.jsonl"), [*rows, *({"text": f"{words} {one}", "label": "g"} for one in ("a", "b", "c"))])
    config = classifier(data={"lint": {"near_threshold": 0.75}}, evaluate={"folds": 20})
    with pytest.raises(RefusedError, match="leakage"):
        made(config)


@pytest.mark.parametrize(
    ("rows", "folds", "found"),
    [
        ([("good", 4), ("bad", 30)], 5, "found a label with 4 rows, expected 5 or more of each"),
        ([("good", 4), ("bad", 5)], 3, "found 9 usable rows, expected at least 11 for 3 folds"),
    ],
)
def test_too_few_rows_are_refused_with_what_helps(
    classifier: Callable[..., RunConfig], rows: list[tuple[str, int]], folds: int, found: str
) -> None:
    lines = [{"text": f"{label} film {place}", "label": label} for label, count in rows for place in range(count)]
    write_lines(Path("rows.jsonl"), lines)
    with pytest.raises(InputError, match=found) as caught:
        made(classifier(evaluate={"folds": folds}))
    assert "lower evaluate.folds" in str(caught.value)
