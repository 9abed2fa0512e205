"""Raw rows in, three parquet files and a data card out: rendered, deduplicated, measured, split by seed."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

from configs.data import Data
from configs.errors import InputError
from configs.paths import RunPaths
from configs.release import read_manifest
from configs.schema import RunConfig
from train.atomic import key_of, new_directory, read_json, write_json
from train.sources import Row, read_source

SPLITS = ("train", "validation", "test")


def prepare(config: RunConfig, paths: RunPaths, base_directory: Path) -> dict[str, Any]:
    """The data card. A second call with the same inputs does nothing.

    Raises InputError where the data is missing or too small, ConfigError naming every bad line.
    """
    source = read_source(config)
    key = key_of(config.task, config.data.model_dump(), read_manifest(base_directory).digest, fingerprint(source.rows))
    finished = read_json(paths.data / "data_card.json")
    if finished and finished.get("key") == key and all((paths.data / f"{name}.parquet").exists() for name in SPLITS):
        return finished
    rows, left_out = leave_out(source.rows, config, base_directory)
    splits = split_rows(rows, config.data)
    if config.data.damage == "shuffle_answers":
        splits["train"] = shuffle_answers(splits["train"], config.data.seed)
    labels = sorted({row["label"] for row in rows if "label" in row})
    check_labels(splits["train"], labels)
    card = {
        "source": source.name,
        "licence": source.licence,
        "damage": config.data.damage,
        "fingerprint": fingerprint([row | {"split": name} for name, part in splits.items() for row in part]),
        "test_fingerprint": fingerprint(splits["test"]),
        "labels": labels,
        "splits": {name: {"rows": len(part), "sha256": fingerprint(part)} for name, part in splits.items()},
        "left_out": source.left_out | left_out,
        "key": key,
    }
    write_splits(paths, splits, card)
    return card


def fingerprint(rows: list[Row]) -> str:
    """sha256 over the sorted canonical rows: order does not count, every character does."""
    lines = sorted(json.dumps(row, sort_keys=True, ensure_ascii=False) for row in rows)
    return "sha256:" + hashlib.sha256("\n".join(lines).encode()).hexdigest()


def leave_out(rows: list[Row], config: RunConfig, base_directory: Path) -> tuple[list[Row], dict[str, int]]:
    """Rows to keep, and how many were left out by reason. One question stays in one split: a repeated one is dropped."""
    reasons: Counter[str] = Counter(duplicate=0, conflicting_answer=0, too_long=0)
    answers: dict[str, str] = {}
    kept: list[Row] = []
    lengths = measure_rows(rows, config, base_directory)
    for row, length in zip(rows, lengths, strict=True):
        question, answer = question_of(row), answer_of(row)
        if question in answers:
            reasons["duplicate" if answers[question] == answer else "conflicting_answer"] += 1
            continue
        answers[question] = answer
        if length > config.data.max_tokens:
            reasons["too_long"] += 1
        else:
            kept.append(row)
    return kept, dict(reasons)


def question_of(row: Row) -> str:
    return str(row["text"]) if "text" in row else json.dumps(row["messages"][:-1], sort_keys=True, ensure_ascii=False)


def answer_of(row: Row) -> str:
    return str(row["label"]) if "label" in row else str(row["messages"][-1]["content"])


def measure_rows(rows: list[Row], config: RunConfig, base_directory: Path) -> list[int]:
    """Tokens of each row, prompt and answer together, as training sees them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base_directory)
    if config.task == "sequence-classification":
        return [len(ids) for ids in tokenizer([row["text"] for row in rows], truncation=False, verbose=False)["input_ids"]]
    from train.sft import encode_chat

    return [len(encoded["input_ids"]) for encoded in (encode_chat(tokenizer, row["messages"]) for row in rows)]


def split_rows(rows: list[Row], data: Data) -> dict[str, list[Row]]:
    """Test rows are drawn first, so that runs which differ only in max_rows are judged on the same ones."""
    needed = data.test_rows + data.validation_rows + 1
    drawn = random.Random(data.seed).sample(sorted(rows, key=lambda row: str(row["id"])), len(rows))[: data.max_rows]
    if len(drawn) < needed:
        hint = "lower data.test_rows or data.validation_rows, or raise data.max_tokens or data.max_rows"
        raise InputError(f"data: found {len(drawn)} usable rows, expected at least {needed}", hint=hint)
    test, rest = drawn[: data.test_rows], drawn[data.test_rows :]
    return {"train": rest[data.validation_rows :], "validation": rest[: data.validation_rows], "test": test}


def shuffle_answers(rows: list[Row], seed: int) -> list[Row]:
    """Each answer to another row's question: what was asked no longer decides what is taught."""
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    givers = dict(zip(order, order[1:] + order[:1], strict=True))
    return [with_answer(row, rows[givers[index]]) for index, row in enumerate(rows)]


def with_answer(row: Row, giver: Row) -> Row:
    if "label" in row:
        return row | {"label": giver["label"]}
    return row | {"messages": [*row["messages"][:-1], giver["messages"][-1]], "reference": giver["reference"]}


def check_labels(rows: list[Row], labels: list[str]) -> None:
    missing = sorted(set(labels) - {row["label"] for row in rows}) if labels else []
    if missing or len(labels) == 1:
        found = f"data: labels {labels}, of which the train rows lack {missing}; expected two labels or more, each with train rows"
        raise InputError(found, hint="give more rows of each label")


def write_splits(paths: RunPaths, splits: dict[str, list[Row]], card: dict[str, Any]) -> None:
    import pandas

    with new_directory(paths.data) as partial:
        for name, part in splits.items():
            pandas.DataFrame(part).to_parquet(partial / f"{name}.parquet", index=False)
        write_json(partial / "data_card.json", card)


def read_split(paths: RunPaths, name: str) -> list[Row]:
    """The rows of one split, as prepare wrote them. Raises InputError where it has not."""
    import pyarrow.parquet

    path = paths.data / f"{name}.parquet"
    if not path.exists():
        raise InputError(f"{path}: missing", hint="tunegate prepare CONFIG")
    rows: list[Row] = pyarrow.parquet.read_table(path).to_pylist()
    return rows


def read_card(paths: RunPaths) -> dict[str, Any]:
    card = read_json(paths.data / "data_card.json")
    if card is None:
        raise InputError(f"{paths.data}/data_card.json: missing", hint="tunegate prepare CONFIG")
    return card
