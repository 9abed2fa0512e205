"""Several sources as one: each read in its own shape, its name with each row, its share as the weights say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from configs.errors import InputError
from configs.run.config import RunConfig
from train.data.findings import record_findings
from train.data.mixture import count_parts
from train.data.pipeline import read_rows, split_rows
from train.data.splits import TRAIN, Drawn
from train.rows.mix import source_of_run
from train.sources.source import Source

pytestmark = pytest.mark.unit
ALPACA = {"name": "alpaca", "files": ["alpaca.jsonl"], "format": "alpaca"}
SHARED = {"name": "shared", "files": ["shared.json"], "format": "sharegpt", "columns": {"conversations": "dialog"}}
QUESTIONS = {
    "name": "questions",
    "files": ["questions.csv"],
    "template": {"prompt": "{{ question }}", "completion": "{{ answer }}"},
}


@pytest.fixture
def rows(checkout: Path) -> None:
    alpaca = [{"instruction": f"Say {n}.", "input": None, "output": f"{n} said"} for n in range(60)]
    turns = [[{"from": "human", "value": f"Tell {n}!"}, {"from": "gpt", "value": f"{n} told"}] for n in range(30)]
    Path("alpaca.jsonl").write_text("".join(json.dumps(row) + "\n" for row in alpaca))
    Path("shared.json").write_text(json.dumps([{"dialog": turn, "language": "en"} for turn in turns]))
    Path("questions.csv").write_text("question;answer\n" + "".join(f"Ask {n}?;{n} asked\n" for n in range(90)))


def mixed(*parts: dict[str, Any], **data: Any) -> RunConfig:
    sections = {"name": "x", "task": "causal-lm", "base": {"path": "b"}, "train": {"epochs": 1}, "gate": "g"}
    lint = {"lint": {"near_duplicate": "keep", "leakage": "keep"}}
    keys = {"source": "mix", "mix": list(parts), "test_rows": 10, "validation_rows": 5, "split": {}} | lint
    return RunConfig.model_validate(sections | {"data": keys | data})


def prepared(config: RunConfig) -> tuple[dict[str, dict[str, int]], Drawn, list[Any]]:
    """Rows by part and split, what was drawn, and the train rows."""
    source: Source = source_of_run(config)
    with record_findings(config.data.lint, Path("lint.jsonl")) as findings:
        table = read_rows(config, source, Path("rows.parquet"), findings, None)
        drawn = split_rows(config, source, table, Path("rows.parquet"), findings)
    rows = pyarrow.parquet.read_table("rows.parquet").to_pylist()
    train = [row for row, split in zip(rows, drawn.split, strict=True) if split == TRAIN]
    return count_parts(drawn.table, drawn.split, config.data, source), drawn, train


def totals(counts: dict[str, dict[str, int]]) -> dict[str, int]:
    return {name: sum(by_split.values()) for name, by_split in counts.items()}


def test_each_part_is_read_in_its_own_shape_and_all_rows_are_counted(rows: None) -> None:
    counts, _, train = prepared(mixed(ALPACA, SHARED, QUESTIONS, keep=["source"]))
    assert totals(counts) == {"alpaca": 60, "shared": 30, "questions": 90}
    assert {len(row["messages"]) for row in train} == {2}
    by_source = {json.loads(row["kept"])["source"] for row in train}
    assert by_source == {"alpaca", "shared", "questions"} and len({row["id"] for row in train}) == 165


def test_weights_are_shares_and_what_is_beyond_them_is_counted(rows: None) -> None:
    weighed = [part | {"weight": weight} for part, weight in ((ALPACA, 1), (SHARED, 1), (QUESTIONS, 2))]
    counts, drawn, _ = prepared(mixed(*weighed))
    assert totals(counts) == {"alpaca": 30, "shared": 30, "questions": 60}
    for by_split, share in zip(counts.values(), (1 / 4, 1 / 4, 1 / 2), strict=True):
        assert abs(by_split["train"] / 105 - share) < 0.02
    assert drawn.table.left_out["beyond_weight"] == 60


def test_max_rows_keeps_the_shares(rows: None) -> None:
    counts, _, _ = prepared(mixed(ALPACA | {"weight": 1}, QUESTIONS | {"weight": 1}, max_rows=40))
    assert totals(counts) == {"alpaca": 20, "questions": 20}


def test_the_same_seed_draws_the_same_rows(rows: None) -> None:
    config = mixed(ALPACA | {"weight": 1}, QUESTIONS | {"weight": 3})
    assert prepared(config)[2] == prepared(config)[2]


def test_a_column_of_ones_own_called_source_is_not_overwritten(rows: None) -> None:
    Path("own.jsonl").write_text(
        "".join(json.dumps({"text": f"a text, no {n}", "source": "mine"}) + "\n" for n in range(20))
    )
    Path("more.txt").write_text("".join(f"another text, no {n}\n" for n in range(20)))
    parts = {"name": "own", "files": ["own.jsonl"]}, {"name": "more", "files": ["more.txt"]}
    train = prepared(mixed(*parts, keep=["source"]))[2]
    assert {json.loads(row["kept"])["source"] for row in train} == {"mine", "more"}


@pytest.mark.parametrize("shape", [{}, {"columns": {"id": "number"}}, {"format": "alpaca"}])
def test_parts_that_count_their_rows_alike_have_ids_of_their_own(rows: None, shape: dict[str, Any]) -> None:
    for name in ("one", "two"):
        own = [{"id": n, "number": n, "instruction": f"{name} {n}", "output": f"{n}"} for n in range(20)]
        alike = own if shape.get("format") else [row | {"text": f"{name} says {row['id']}"} for row in own]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in alike))
    parts = [{"name": name, "files": [f"{name}.jsonl"]} | shape for name in ("one", "two")]
    _, drawn, train = prepared(mixed(*parts))
    assert drawn.table.left_out["repeated_id"] == 0
    assert {row["id"] for row in train} <= {f"{name}-{n}" for name in ("one", "two") for n in range(20)}


def test_a_file_in_two_parts_is_refused(rows: None) -> None:
    with pytest.raises(InputError, match=r"alpaca\.jsonl is in alpaca and in again"):
        prepared(mixed(ALPACA, ALPACA | {"name": "again", "files": ["*.jsonl"]}))


def test_a_part_changes_the_identity_of_all(rows: None) -> None:
    config = mixed(ALPACA, QUESTIONS)
    before = source_of_run(config).identity()
    Path("questions.csv").write_text("question,answer\na,b\n")
    assert source_of_run(config).identity() != before
