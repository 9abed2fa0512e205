"""Splits that stay apart, faults that are acted on, corruption that is real, and a second call that does nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.data import ingest
from train.data.corruption import shuffle_answers
from train.data.fingerprint import fingerprint, fingerprint_of
from train.data.prepared import read_card, read_split
from train.data.splits import SPLITS
from train.data.write_splits import check_labels
from train.model.base import make_base
from train.prepare import prepare

pytestmark = pytest.mark.unit


def labelled(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{index:03}", "text": f"text {index}", "label": "ab"[index % 2]} for index in range(count)]


def chats(count: int) -> list[dict[str, Any]]:
    return [
        {
            "id": str(index),
            "messages": [{"role": "user", "content": f"q{index}"}, {"role": "assistant", "content": f"a{index}"}],
            "reference": f"a{index}",
        }
        for index in range(count)
    ]


def append(*rows: dict[str, Any]) -> None:
    with Path("rows.jsonl").open("a", encoding="utf8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in rows)


@given(st.integers(min_value=2, max_value=60), st.integers(0, 2**32 - 1))
def test_no_row_keeps_its_own_answer_and_no_answer_is_lost(count: int, seed: int) -> None:
    rows = chats(count)
    corrupted = shuffle_answers(rows, seed)
    assert [row["id"] for row in corrupted] == [row["id"] for row in rows]
    assert [row["messages"][:-1] for row in corrupted] == [row["messages"][:-1] for row in rows]
    assert all(one["messages"][-1] != other["messages"][-1] for one, other in zip(rows, corrupted, strict=True))
    assert sorted(row["reference"] for row in corrupted) == sorted(row["reference"] for row in rows)
    assert all(row["messages"][-1]["content"] == row["reference"] for row in corrupted)


def test_shuffling_labels_keeps_the_texts_and_the_rows_given() -> None:
    rows = labelled(20)
    corrupted = shuffle_answers(rows, 3)
    assert [row["text"] for row in corrupted] == [row["text"] for row in rows]
    assert Counter(row["label"] for row in corrupted) == Counter(row["label"] for row in rows)
    assert rows == labelled(20), "the rows passed in are not touched"


@given(st.permutations(labelled(8)))
def test_a_fingerprint_does_not_depend_on_order(rows: list[dict[str, Any]]) -> None:
    assert fingerprint(rows) == fingerprint(labelled(8))


@given(st.integers(0, 7), st.sampled_from(["id", "text", "label"]))
def test_a_fingerprint_depends_on_every_character(index: int, key: str) -> None:
    rows = labelled(8)
    rows[index] = rows[index] | {key: rows[index][key] + " "}
    assert fingerprint(rows) != fingerprint(labelled(8))


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=9), st.integers(1, 4))
def test_a_fingerprint_does_not_depend_on_the_windows_in_which_rows_were_written(
    hashes: list[bytes], size: int
) -> None:
    windows = [b"".join(hashes[start : start + size]) for start in range(0, len(hashes), size)]
    assert fingerprint_of(windows) == fingerprint_of(sorted(hashes, reverse=True))


def test_tags_of_another_sentence_fit_the_words_they_are_put_on() -> None:
    rows: list[dict[str, Any]] = [{"tokens": ["a"] * size, "tags": ["B-X"] * size} for size in (1, 3, 5)]
    assert all(len(row["tags"]) == len(row["tokens"]) for row in shuffle_answers(rows, 1))


@pytest.mark.parametrize(("train", "labels"), [({"a": 1}, ["a"]), ({"a": 1, "b": 1}, ["a", "b", "c"])])
def test_a_label_without_train_rows_is_refused(train: dict[str, int], labels: list[str]) -> None:
    with pytest.raises(InputError, match="two labels or more"):
        check_labels({"train": train}, labels)


def test_faults_are_refused_by_default_and_nothing_is_written(classifier: Callable[..., RunConfig]) -> None:
    config, paths = classifier(data={"max_tokens": 30}), RunPaths.of("x")
    append(
        {"text": "good film 0", "label": "good"},
        {"text": "fine film 1", "label": "bad"},
        {"text": "long " * 40, "label": "bad"},
        {"text": "no label"},
    )
    with pytest.raises(RefusedError) as caught:
        prepare(config, paths, make_base(config))
    for place in (
        "rows.jsonl:41: duplicate",
        "rows.jsonl:42: conflicting_answer",
        "rows.jsonl:43: too_long",
        "rows.jsonl:44: missing_field",
    ):
        assert place in str(caught.value)
    assert not paths.data.exists()
    assert len((paths.root / "lint.jsonl").read_text().splitlines()) == 4


def test_what_the_config_drops_is_left_out_and_counted_once(classifier: Callable[..., RunConfig]) -> None:
    lint = dict.fromkeys(("duplicate", "conflicting_answer", "too_long", "missing_field", "repeated_id"), "drop")
    config, paths = classifier(data={"max_tokens": 30, "lint": lint}), RunPaths.of("x")
    append(
        {"text": "long " * 40, "label": "bad"},
        {"text": "long " * 40, "label": "bad"},
        {"text": "good film 0", "label": "bad"},
        {"text": "no label"},
    )
    card = prepare(config, paths, make_base(config))
    assert {kind: count for kind, count in card["left_out"].items() if count} == {
        "too_long": 1,
        "duplicate": 1,
        "conflicting_answer": 1,
        "missing_field": 1,
    }
    assert sum(part["rows"] for part in card["splits"].values()) == 40


def test_leakage_that_is_dropped_leaves_the_held_out_rows_whole(classifier: Callable[..., RunConfig]) -> None:
    config, paths = classifier(data={"lint": {"leakage": "drop"}}), RunPaths.of("x")
    append(
        *(
            {"text": f"{word}, FILM: {number}", "label": label}
            for number in range(20)
            for label, word in (("good", ("good", "fine")[number % 2]),)
        )
    )
    card = prepare(config, paths, make_base(config))
    assert (card["splits"]["test"]["rows"], card["left_out"]["leakage"] > 0) == (10, True)
    assert (
        card["splits"]["train"]["rows"] == 60 - 10 - card["splits"]["validation"]["rows"] - card["left_out"]["leakage"]
    )


def test_small_windows_write_the_same_rows(
    classifier: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is held at a time decides the order of train rows alone."""
    config = classifier()
    whole = prepare(config, RunPaths.of("whole"), make_base(config))
    monkeypatch.setattr(ingest, "WINDOW", 7)
    windowed = prepare(config, RunPaths.of("windowed"), make_base(config))
    assert all(whole[key] == windowed[key] for key in ("fingerprint", "splits", "balance", "lengths"))


def test_a_task_with_prompts_of_ones_own_template(chat: Callable[..., RunConfig]) -> None:
    Path("rows.jsonl").write_text(
        "".join(json.dumps({"q": f"film {number}?", "a": f"good {number}"}) + "\n" for number in range(40))
    )
    config, paths = (
        chat(data={"template": {"prompt": "{{ q }}", "completion": "{{ a }}", "chat": False}}),
        RunPaths.of("x"),
    )
    prepare(config, paths, make_base(config))
    row = read_split(paths, "test")[0]
    assert row.keys() == {"id", "prompt", "completion", "reference"} and row["reference"] == row["completion"]


def test_prepare_writes_three_splits_and_a_card_that_fits_them(classifier: Callable[..., RunConfig]) -> None:
    config, paths = classifier(), RunPaths.of("x")
    card = prepare(config, paths, make_base(config))
    splits = {name: read_split(paths, name) for name in SPLITS}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 24, "validation": 6, "test": 10}
    assert card == read_card(paths)
    assert card["labels"] == ["bad", "good"]
    assert card["test_fingerprint"] == fingerprint(splits["test"])
    assert all(
        card["splits"][name] == {"rows": len(rows), "sha256": fingerprint(rows)} for name, rows in splits.items()
    )


def test_a_second_prepare_does_nothing_and_new_rows_are_seen(
    classifier: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, paths = classifier(), RunPaths.of("x")
    first = prepare(config, paths, make_base(config))
    written = (paths.data / "train.parquet").stat().st_mtime_ns
    assert prepare(config, paths, make_base(config)) == first
    assert (paths.data / "train.parquet").stat().st_mtime_ns == written
    with Path("rows.jsonl").open("a") as stream:
        stream.write('{"text": "one more film", "label": "good"}\n')
    assert prepare(config, paths, make_base(config))["fingerprint"] != first["fingerprint"]


def test_a_lost_split_is_written_again(classifier: Callable[..., RunConfig]) -> None:
    config, paths = classifier(), RunPaths.of("x")
    prepare(config, paths, make_base(config))
    (paths.data / "test.parquet").unlink()
    prepare(config, paths, make_base(config))
    assert len(read_split(paths, "test")) == 10


def test_corruption_changes_train_rows_and_leaves_the_held_out_rows_alone(chat: Callable[..., RunConfig]) -> None:
    whole, corrupted = chat(), chat(data={"corrupt": "shuffle_answers"})
    prepare(whole, RunPaths.of("whole"), make_base(whole))
    card = prepare(corrupted, RunPaths.of("corrupted"), make_base(corrupted))
    assert card["corrupt"] == "shuffle_answers"
    assert card["test_fingerprint"] == read_card(RunPaths.of("whole"))["test_fingerprint"]
    assert read_split(RunPaths.of("corrupted"), "validation") == read_split(RunPaths.of("whole"), "validation")
    pairs = zip(read_split(RunPaths.of("whole"), "train"), read_split(RunPaths.of("corrupted"), "train"), strict=True)
    assert all(
        one["messages"][0] == other["messages"][0] and one["messages"][1] != other["messages"][1]
        for one, other in pairs
    )


def test_before_prepare_the_command_is_named(checkout: Path) -> None:
    with pytest.raises(InputError, match="tunegate prepare"):
        read_split(RunPaths.of("x"), "train")
    with pytest.raises(InputError, match="tunegate prepare"):
        read_card(RunPaths.of("x"))


def test_columns_that_are_to_stay_lie_in_each_row_and_in_its_fingerprint(classifier: Callable[..., RunConfig]) -> None:
    paths, marks = RunPaths.of("x"), set()
    given = [json.loads(line) for line in Path("rows.jsonl").read_text().splitlines()]
    for keep, topic in (([], "travel"), (["topic", "year"], "travel"), (["topic", "year"], "sports")):
        Path("rows.jsonl").write_text("".join(json.dumps(row | {"topic": topic, "year": 2026}) + "\n" for row in given))
        config = classifier(data={"keep": keep})
        marks.add(prepare(config, paths, make_base(config))["test_fingerprint"])
        row = read_split(paths, "test")[0]
        assert ("kept" in row) == bool(keep) and (not keep or json.loads(row["kept"]) == {"topic": topic, "year": 2026})
    assert len(marks) == 3, "what slices are cut by belongs to the data"
    append({"text": "a fine film without", "label": "good", "topics": "travel", "year": 2026})
    with pytest.raises(
        RefusedError,
        match=r"rows.jsonl:41: missing_field: found no column topic among text, label, topics, year, expected topics",
    ):
        prepare(config, paths, make_base(config))


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


def test_too_few_rows_without_a_fault_are_too_few(classifier: Callable[..., RunConfig]) -> None:
    config = classifier(data={"test_rows": 100, "lint": {"missing_field": "drop"}})
    append({"label": "good"})
    with pytest.raises(InputError, match="found 40 usable rows, expected at least 107"):
        prepare(config, RunPaths.of("x"), make_base(config))


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
