"""Rows that cannot be prepared: the faults are shown, and what may stay is split as it must be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.train.test_prepare import append
from train.data.prepared import read_split
from train.data.splits import SPLITS
from train.model.base import make_base
from train.prepare import prepare

pytestmark = pytest.mark.unit
FAULTS: dict[str, dict[str, Any]] = {
    "missing_field": {"txt": "a fine film", "label": "good"},
    "empty_field": {"text": " ", "label": "good"},
    "unknown_label": {"text": "a fine film", "label": "grand"},
    "mojibake": {"text": "cafÃ©", "label": "good"},
    "too_long": {"text": "long " * 80, "label": "good"},
    "expectation": {"text": "a fine film", "label": "good", "year": 1},
}


@pytest.mark.parametrize("action", ["refuse", "drop"])
@pytest.mark.parametrize("kind", FAULTS)
def test_where_all_rows_are_at_fault_the_faults_are_shown(
    classifier: Callable[..., RunConfig], kind: str, action: str
) -> None:
    """And not only that too few are left."""
    row = {"year": 2020} | FAULTS[kind]
    Path("rows.jsonl").write_text("")
    append(*(row | {"id": str(number)} for number in range(40)))
    rules = [{"column": "year", "minimum": 1900, "action": action}]
    lint = {"duplicate": "keep", "conflicting_answer": "keep"} | ({} if kind == "expectation" else {kind: action})
    config = classifier(data={"lint": lint, "labels": ["good", "bad"], "max_tokens": 60, "expect": rules})
    with pytest.raises(RefusedError) as caught:
        prepare(config, RunPaths.of("x"), make_base(config))
    message = str(caught.value)
    assert f"rows.jsonl:1: {kind}: found" in message and f"rows.jsonl:5: {kind}" in message
    assert f"… and 35 more: {kind}" in message and "or say under" not in message
    assert f"40 {kind}" in message and (action == "refuse" or "found 0 usable rows, expected at least 17" in message)
    assert not RunPaths.of("x").data.exists()


def test_rows_that_would_be_too_few_without_their_faults_too_are_told_so(classifier: Callable[..., RunConfig]) -> None:
    config = classifier(data={"test_rows": 100, "lint": {"missing_field": "drop"}})
    append({"label": "good"})
    with pytest.raises(InputError, match="found 40 usable rows, expected at least 107") as caught:
        prepare(config, RunPaths.of("x"), make_base(config))
    message = str(caught.value)
    assert "of 41 read, 1 missing_field\n  rows.jsonl:41: missing_field" in message, "the faults are shown all the same"
    assert "lower data.test_rows" in message


def test_leakage_that_leaves_a_split_without_rows_is_shown(classifier: Callable[..., RunConfig]) -> None:
    Path("rows.jsonl").write_text("")
    append(*({"text": "the same film" + "!" * number, "label": "good"} for number in range(40)))
    config = classifier(data={"lint": {"leakage": "drop"}})
    with pytest.raises(RefusedError, match=r"'train': 0.*of 40 read, 30 leakage\n  rows.jsonl:\d+: leakage"):
        prepare(config, RunPaths.of("x"), make_base(config))


def preferences(*pairs: tuple[int, str, str]) -> list[dict[str, Any]]:
    return [{"prompt": f"film {number}?", "chosen": chosen, "rejected": bad} for number, chosen, bad in pairs]


def test_pairs_with_one_prompt_are_rows_of_their_own_and_lie_in_one_split(chat: Callable[..., RunConfig]) -> None:
    Path("rows.jsonl").write_text("")
    append(*preferences(*((number // 3, "good", f"bad {number % 3}") for number in range(90))))
    config, paths = chat(task="dpo"), RunPaths.of("x")
    card = prepare(config, paths, make_base(config))
    assert sum(part["rows"] for part in card["splits"].values()) == 90
    assert {row["kind"]: row["count"] for row in card["findings"] if row["count"]} == {}
    prompts = [{row["messages"][0]["content"] for row in read_split(paths, name)} for name in SPLITS]
    assert sum(map(len, prompts)) == 30 and [len(found) for found in prompts] == [24, 2, 4]


def test_a_pair_twice_is_a_duplicate_and_one_turned_round_contradicts(chat: Callable[..., RunConfig]) -> None:
    Path("rows.jsonl").write_text("")
    append(*preferences(*((number, "good", "bad") for number in range(40)), (1, "good", "bad"), (2, "bad", "good")))
    config = chat(task="dpo")
    with pytest.raises(RefusedError) as caught:
        prepare(config, RunPaths.of("x"), make_base(config))
    assert "rows.jsonl:41: duplicate: found the row of rows.jsonl:2" in str(caught.value)
    assert "rows.jsonl:42: conflicting_answer: found the question of rows.jsonl:3" in str(caught.value)


def test_what_breaks_an_expectation_is_dropped_and_counted_or_only_kept_in_mind(
    classifier: Callable[..., RunConfig],
) -> None:
    rules = [
        {"where": "length < 4 and label in ('good', 'bad')", "action": "drop"},
        {"where": "label == 'good'", "share": 0.9, "action": "keep"},
    ]
    config = classifier(data={"expect": rules})
    append({"text": "a very fine film", "label": "good"})
    card = prepare(config, RunPaths.of("x"), make_base(config))
    assert card["left_out"]["expectation"] == 1
    assert [row for row in card["findings"] if row["kind"] == "expectation"] == [
        {"kind": "expectation", "action": "drop", "count": 1},
        {"kind": "expectation", "action": "keep", "count": 1},
    ]


def test_the_card_says_what_the_train_rows_are_like(classifier: Callable[..., RunConfig]) -> None:
    config = classifier()
    card = prepare(config, RunPaths.of("x"), make_base(config))
    summary = card["summary"]
    assert summary["rows"] == card["splits"]["train"]["rows"] == sum(summary["vocabulary"])
    assert summary["labels"] == card["balance"]["train"] and summary["sources"] == {"rows.jsonl": 24}


@pytest.mark.parametrize("method", ["random", "grouped"])
def test_the_pieces_of_a_text_lie_in_one_split(chat: Callable[..., RunConfig], method: str) -> None:
    texts = [" ".join(f"film{number}x{place}" for place in range(1 + 20 * (number % 2))) for number in range(40)]
    Path("rows.jsonl").write_text("")
    append(*({"id": str(number), "text": text, "who": number // 2} for number, text in enumerate(texts)))
    split = {"method": method} | ({"by": "who"} if method == "grouped" else {})
    config = chat(data={"long": "chunk", "max_tokens": 60, "split": split}, train={"max_steps": 1})
    paths = RunPaths.of("x")
    prepare(config, paths, make_base(config))
    found = [{row["id"].split("#")[0] for row in read_split(paths, name)} for name in SPLITS]
    assert sum(len(read_split(paths, name)) for name in SPLITS) > 40
    assert sum(map(len, found)) == len(set().union(*found)), "each text in one split"
    assert method == "random" or sum(len({int(one) // 2 for one in part}) for part in found) == 20
