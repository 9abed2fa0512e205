"""Rows of every task as `prepare` leaves them, small enough for the tiny models to learn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.data.ingest import Window
from train.rows.shape import Shape, arrow_schema
from train.tokens.encode import Rules
from train.tokens.tokenize import tokenize

Row = dict[str, Any]


def tagged(index: int) -> Row:
    return {"tokens": ["film", "by", ("Ann", "Bob")[index % 2], str(index)], "tags": ["O", "O", "B-PER", "I-PER"]}


def many_labels(index: int) -> Row:
    return {"text": f"film {index} " + " ".join(("good", "bad")[: index % 3]), "labels": ["bad", "good"][: index % 3]}


def numbered(index: int) -> Row:
    return {"text": "good " * (index % 5) + "film", "value": float(index % 5)}


def paired(index: int) -> Row:
    """The second text decides."""
    found = index // 2 % 2
    return {
        "text": f"{('good', 'bad')[index % 2]} film {index}",
        "text_pair": ("good film", "bad film")[found],
        "label": ("good", "bad")[found],
    }


def completion(index: int) -> Row:
    return {"prompt": f"film {index}:", "completion": " good", "reference": " good"}


def text(index: int) -> Row:
    return {"text": f"good film {index} is a good film"}


def preference(index: int) -> Row:
    turns = [{"role": "user", "content": f"film {index}"}, {"role": "assistant", "content": "good"}]
    return {"messages": turns, "rejected": "bad bad", "reference": "good"}


# task, problem, shape, rows, labels
KINDS: dict[str, tuple[str, str, Shape, Callable[[int], Row], list[str]]] = {
    "tags": ("token-classification", "single_label", "tags", tagged, ["O", "B-PER", "I-PER"]),
    "many labels": ("sequence-classification", "multi_label", "labels", many_labels, ["bad", "good"]),
    "numbers": ("sequence-classification", "regression", "value", numbered, []),
    "pairs": ("sequence-classification", "single_label", "label", paired, ["bad", "good"]),
    "completions": ("causal-lm", "single_label", "completion", completion, []),
    "texts": ("causal-lm", "single_label", "text", text, []),
    "preferences": ("dpo", "single_label", "preference", preference, []),
    "rewards": ("reward", "single_label", "preference", preference, []),
}


def rules_for(shape: Shape, folder: Path) -> Rules:
    return Rules(folder, shape, "all", "refuse", 1000)


def with_tokens(folder: Path, shape: Shape, rows: list[Row]) -> list[Row]:
    """The rows with their token columns, made as prepare makes them by the tokenizer in `folder`."""
    found = tokenize(rules_for(shape, folder), rows)
    assert not found.faults
    return [row | tokens for row, tokens in zip(rows, found.tokens.to_pylist(), strict=True)]


def write_rows(path: Path, folder: Path, shape: Shape, rows: list[Row]) -> None:
    """A split's file."""
    import pyarrow.parquet

    table = Window(rows, {}, tokenize(rules_for(shape, folder), rows).tokens).table(
        arrow_schema(shape, pairs="text_pair" in rows[0])
    )
    pyarrow.parquet.write_table(table, path)


def write_prepared(paths: RunPaths, folder: Path, shape: Shape, row: Callable[[int], Row], labels: list[str]) -> None:
    """24 train rows, 6 for validation and 6 for the test, and the card's keys that later stages read."""
    paths.data.mkdir(parents=True)
    rows = [{"id": str(index), **row(index)} for index in range(36)]
    for name, part in (("train", rows[:24]), ("validation", rows[24:30]), ("test", rows[30:])):
        write_rows(paths.data / f"{name}.parquet", folder, shape, part)
    card: Row = {
        "source": "made up",
        "licence": "none",
        "corrupt": "none",
        "fingerprint": "sha256:all",
        "test_fingerprint": "sha256:test",
        "labels": labels,
    }
    card |= {
        "splits": {name: {"rows": size} for name, size in (("train", 24), ("validation", 6), ("test", 6))},
        "left_out": {},
    }
    (paths.data / "data_card.json").write_text(json.dumps(card), encoding="utf8")


def of_kind(config: RunConfig, kind: str) -> RunConfig:
    """`config` with the kind's task and problem."""
    task, problem = KINDS[kind][:2]
    return RunConfig.model_validate(config.model_dump() | {"task": task, "problem": problem})
