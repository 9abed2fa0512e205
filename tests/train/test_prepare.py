"""Splits that stay apart, damage that is real, and a second call that does nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.data import Data
from configs.errors import InputError
from configs.paths import RunPaths
from configs.schema import RunConfig
from train import prepare as module
from train.base import make_base
from train.prepare import check_labels, fingerprint, leave_out, prepare, read_card, read_split, shuffle_answers, split_rows

pytestmark = pytest.mark.unit
SIZES = st.integers(min_value=1, max_value=12)


def labelled(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{index:03}", "text": f"text {index}", "label": "ab"[index % 2]} for index in range(count)]


def chats(count: int) -> list[dict[str, Any]]:
    return [
        {"id": str(index), "messages": [{"role": "user", "content": f"q{index}"}, {"role": "assistant", "content": f"a{index}"}], "reference": f"a{index}"}
        for index in range(count)
    ]


def settings(**changes: Any) -> Data:
    return Data.model_validate({"source": "bfcl", "validation_rows": 4, "test_rows": 6} | changes)


@given(st.integers(min_value=30, max_value=90), SIZES, SIZES, st.integers(0, 2**32 - 1))
def test_every_row_is_in_exactly_one_split(count: int, validation: int, test: int, seed: int) -> None:
    rows = labelled(count)
    splits = split_rows(rows, settings(validation_rows=validation, test_rows=test, seed=seed))
    assert (len(splits["validation"]), len(splits["test"])) == (validation, test)
    assert Counter(row["id"] for part in splits.values() for row in part) == Counter(row["id"] for row in rows)


@given(st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_the_order_in_which_rows_come_does_not_matter(random: Any, seed: int) -> None:
    rows = labelled(40)
    shuffled = random.sample(rows, len(rows))
    assert split_rows(rows, settings(seed=seed)) == split_rows(shuffled, settings(seed=seed))


@given(st.integers(min_value=11, max_value=60))
def test_runs_that_differ_in_max_rows_are_judged_on_the_same_test_rows(max_rows: int) -> None:
    whole, part = split_rows(labelled(60), settings()), split_rows(labelled(60), settings(max_rows=max_rows))
    assert part["test"] == whole["test"] and part["validation"] == whole["validation"]
    assert part["train"] == whole["train"][: len(part["train"])]


def test_another_seed_draws_other_test_rows() -> None:
    assert split_rows(labelled(60), settings(seed=1))["test"] != split_rows(labelled(60), settings(seed=2))["test"]


def test_too_few_rows_say_how_many_there_are() -> None:
    with pytest.raises(InputError, match="found 10 usable rows, expected at least 11"):
        split_rows(labelled(10), settings())


@given(st.integers(min_value=2, max_value=60), st.integers(0, 2**32 - 1))
def test_no_row_keeps_its_own_answer_and_no_answer_is_lost(count: int, seed: int) -> None:
    rows = chats(count)
    spoiled = shuffle_answers(rows, seed)
    assert [row["id"] for row in spoiled] == [row["id"] for row in rows]
    assert [row["messages"][:-1] for row in spoiled] == [row["messages"][:-1] for row in rows]
    assert all(one["messages"][-1] != other["messages"][-1] for one, other in zip(rows, spoiled, strict=True))
    assert sorted(row["reference"] for row in spoiled) == sorted(row["reference"] for row in rows)
    assert all(row["messages"][-1]["content"] == row["reference"] for row in spoiled)


def test_shuffling_labels_keeps_the_texts_and_the_rows_given() -> None:
    rows = labelled(20)
    spoiled = shuffle_answers(rows, 3)
    assert [row["text"] for row in spoiled] == [row["text"] for row in rows]
    assert Counter(row["label"] for row in spoiled) == Counter(row["label"] for row in rows)
    assert rows == labelled(20), "the rows passed in are not touched"


@given(st.permutations(labelled(8)))
def test_a_fingerprint_does_not_depend_on_order(rows: list[dict[str, Any]]) -> None:
    assert fingerprint(rows) == fingerprint(labelled(8))


@given(st.integers(0, 7), st.sampled_from(["id", "text", "label"]))
def test_a_fingerprint_depends_on_every_character(index: int, key: str) -> None:
    rows = labelled(8)
    rows[index] = rows[index] | {key: rows[index][key] + " "}
    assert fingerprint(rows) != fingerprint(labelled(8))


def test_repeated_conflicting_and_long_rows_are_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*labelled(4), {"id": "again", "text": "text 0", "label": "a"}, {"id": "else", "text": "text 1", "label": "a"}]
    monkeypatch.setattr(module, "measure_rows", lambda *_: [5, 5, 5, 99, 5, 5])
    data = {"source": "sentiment", "max_tokens": 8}
    config = RunConfig.model_validate(
        {"name": "x", "task": "sequence-classification", "base": {"path": "b"}, "data": data, "train": {"epochs": 1}, "gate": "g"}
    )
    kept, reasons = leave_out(rows, config, Path("b"))
    assert [row["id"] for row in kept] == ["r000", "r001", "r002"]
    assert reasons == {"duplicate": 1, "conflicting_answer": 1, "too_long": 1}


@pytest.mark.parametrize("labels", [["a"], ["a", "b", "c"]])
def test_a_label_without_train_rows_is_refused(labels: list[str]) -> None:
    with pytest.raises(InputError, match="two labels or more"):
        check_labels(labelled(1 if len(labels) == 1 else 4), labels)


def test_chat_rows_have_no_labels_to_check() -> None:
    check_labels(chats(3), [])


def test_prepare_writes_three_splits_and_a_card_that_fits_them(classifier: Callable[..., RunConfig]) -> None:
    config, paths = classifier(), RunPaths.of("x")
    card = prepare(config, paths, make_base(config))
    splits = {name: read_split(paths, name) for name in module.SPLITS}
    assert {name: len(rows) for name, rows in splits.items()} == {"train": 24, "validation": 6, "test": 10}
    assert card == read_card(paths)
    assert card["labels"] == ["bad", "good"]
    assert card["test_fingerprint"] == fingerprint(splits["test"])
    assert all(card["splits"][name] == {"rows": len(rows), "sha256": fingerprint(rows)} for name, rows in splits.items())


def test_a_second_prepare_does_nothing_and_new_rows_are_seen(classifier: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_damage_spoils_train_rows_and_leaves_the_judges_alone(chat: Callable[..., RunConfig]) -> None:
    whole, spoiled = chat(), chat(data={"damage": "shuffle_answers"})
    prepare(whole, RunPaths.of("whole"), make_base(whole))
    card = prepare(spoiled, RunPaths.of("spoiled"), make_base(spoiled))
    assert card["damage"] == "shuffle_answers"
    assert card["test_fingerprint"] == read_card(RunPaths.of("whole"))["test_fingerprint"]
    assert read_split(RunPaths.of("spoiled"), "validation") == read_split(RunPaths.of("whole"), "validation")
    pairs = zip(read_split(RunPaths.of("whole"), "train"), read_split(RunPaths.of("spoiled"), "train"), strict=True)
    assert all(one["messages"][0] == other["messages"][0] and one["messages"][1] != other["messages"][1] for one, other in pairs)


def test_before_prepare_the_command_is_named(checkout: Path) -> None:
    with pytest.raises(InputError, match="tunegate prepare"):
        read_split(RunPaths.of("x"), "train")
    with pytest.raises(InputError, match="tunegate prepare"):
        read_card(RunPaths.of("x"))
