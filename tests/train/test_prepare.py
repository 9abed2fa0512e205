"""Splits that stay apart, faults that are acted on, corruption that is real, and a second call that does nothing."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError, RefusedError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.prepared_rows import KINDS, of_kind
from tests.train.conftest import write_lines
from train.check_data import check_rows
from train.data import ingest
from train.data.fingerprint import fingerprint, fingerprint_of
from train.data.pipeline import require_labels
from train.data.prepared import read_card, read_split
from train.data.splits import SPLITS
from train.data.write_splits import shuffle_answers
from train.model.base import make_base
from train.prepare import prepare
from train.rows.shape import Shape

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


@given(st.lists(st.lists(st.sampled_from([0, 1, 127, 128, 255]), min_size=32, max_size=32).map(bytes), max_size=9))
def test_a_fingerprint_is_that_of_the_sorted_hashes_of_rows(hashes: list[bytes]) -> None:
    expected = "sha256:" + hashlib.sha256(b"".join(sorted(hashes))).hexdigest()
    assert fingerprint_of(bytearray(b"".join(hashes))) == expected


def test_tags_of_another_sentence_fit_the_words_they_are_put_on() -> None:
    rows: list[dict[str, Any]] = [{"tokens": ["a"] * size, "tags": ["B-X"] * size} for size in (1, 3, 5)]
    assert all(len(row["tags"]) == len(row["tokens"]) for row in shuffle_answers(rows, 1))


@pytest.mark.parametrize(
    ("shape", "train", "test", "good"),
    [
        ("label", "a", "a", False),
        ("label", "ab", "abc", False),
        ("label", "ab", "a", True),
        ("labels", "", "", False),
        ("labels", "ab", "ab", True),
        ("tags", "O", "O", False),
        ("tags", "Oa", "Oab", True),  # a rare tag may be in no train row
        ("text", "", "", True),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(shape: Shape, train: str, test: str, good: bool) -> None:
    with nullcontext() if good else pytest.raises(InputError, match="two labels or more"):
        require_labels(shape, {"train": set(train), "test": set(test)})


@pytest.mark.parametrize(("kind", "field"), [("tags", "tags"), ("many labels", "labels"), ("pairs", "label")])
def test_rows_that_all_say_the_same_are_refused_by_check_and_by_prepare(
    classifier: Callable[..., RunConfig], kind: str, field: str
) -> None:
    config = of_kind(classifier(), kind)
    made = KINDS[kind][3]
    same = {"tags": ["O"] * 4, "labels": [], "label": "good"}[field]
    Path("rows.jsonl").write_text("".join(json.dumps(made(index) | {field: same}) + "\n" for index in range(40)))
    with pytest.raises(InputError, match="two labels or more"):
        prepare(config, RunPaths.of("x"), make_base(config))
    with pytest.raises(InputError, match="two labels or more"):
        check_rows(config)


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


def test_judged_answers_are_not_taken_for_prepared_once_the_method_takes_pairs(
    chat: Callable[..., RunConfig], checkout: Path
) -> None:
    turns = [{"role": "user", "content": "film?"}, {"role": "assistant", "content": "good"}]
    rows = [{"messages": [turns[0] | {"content": f"film {one}?"}, turns[1]], "desirable": one % 2} for one in range(40)]
    write_lines(checkout / "rows.jsonl", rows)
    runs = [chat(task="dpo", train={"preference": {"method": method}}) for method in ("kto", "dpo")]
    prepare(runs[0], RunPaths.of("x"), make_base(runs[0]))
    with pytest.raises(RefusedError, match="rejected: nothing"):
        prepare(runs[1], RunPaths.of("x"), make_base(runs[1]))


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
