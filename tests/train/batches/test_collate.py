"""Rows of a padding-free batch that never see each other, and predict what each predicts alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.batches.collate import IGNORED, ModelInputs, flatten, labels_of, pack, pad, pad_classes, pad_tags
from train.batches.order import measure_lengths
from train.layers.attention import register

pytestmark = pytest.mark.unit


def row(*tokens: int, targets: int) -> dict[str, list[Any]]:
    return {"input_ids": list(tokens), "loss_mask": [False] * (len(tokens) - targets) + [True] * targets}


def test_logits_are_wanted_only_where_the_next_token_is_a_target() -> None:
    batch = flatten([row(5, 6, 7, targets=1), row(8, 9, targets=2)])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]] and batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["logits_to_keep"].tolist() == [1, 3] and batch["shift_labels"].tolist() == [[7, 9]], (
        "8 follows another row's end: nothing predicts it"
    )
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5] and batch["max_length_q"] == 3


EXAMPLE = [
    {"input_ids": [1, 2, 3, 4], "loss_mask": [False, False, True, True]},
    {"input_ids": [1, 2, 5, 6], "loss_mask": [False, False, True, True]},
]


@pytest.mark.parametrize(
    ("share", "ids", "positions", "kept", "bounds", "longest"),
    [
        (False, [1, 2, 3, 4, 1, 2, 5, 6], [0, 1, 2, 3, 0, 1, 2, 3], [1, 2, 5, 6], [0, 4, 8], 4),
        (True, [1, 2, 3, 4, 2, 5, 6], [0, 1, 2, 3, 1, 2, 3], [1, 2, 4, 5], [1, 4, 7], 3),
    ],
)
def test_the_example_of_the_docstring_is_what_comes_out(
    share: bool, ids: list[int], positions: list[int], kept: list[int], bounds: list[int], longest: int
) -> None:
    batch = flatten(EXAMPLE, share)
    found = {name: batch[name].tolist() for name in ("input_ids", "position_ids", "shift_labels", "labels")}
    assert found == {
        "input_ids": [ids],
        "position_ids": [positions],
        "shift_labels": [[3, 4, 5, 6]],
        "labels": [[3, 4, 5, 6]],
    }
    assert (batch["logits_to_keep"].tolist(), batch["cu_seq_lens_q"].tolist()) == (kept, bounds)
    assert batch["cu_seq_lens_k"].tolist() == bounds and batch["max_length_q"] == batch["max_length_k"] == longest


ROWS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=12), min_size=1, max_size=5)


def test_a_prefix_that_all_rows_share_lies_there_once() -> None:
    batch = flatten(
        [row(1, 2, 3, 5, 6, targets=1), row(1, 2, 3, 8, targets=1), row(1, 2, 3, 5, 7, targets=2)], share=True
    )
    assert batch["input_ids"].tolist() == [[1, 2, 3, 5, 6, 3, 8, 3, 5, 7]], (
        "3 predicts a target in the second row: it is each row's own"
    )
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3, 2, 3, 4]] and batch["cu_seq_lens_q"].tolist() == [
        2,
        5,
        7,
        10,
    ]
    assert batch["shift_labels"].tolist() == [[6, 8, 5, 7]] and batch["logits_to_keep"].tolist() == [3, 5, 7, 8]


@given(ROWS, ROWS, st.data())
def test_whatever_rows_share_each_is_whole_and_predicts_the_same(
    heads: list[list[int]], tails: list[list[int]], data: st.DataObject
) -> None:
    rows = [row(*heads[0], *ids, targets=data.draw(st.integers(1, len(heads[0]) + len(ids)))) for ids in tails]
    batch = flatten(rows, share=True)
    ids, bounds = batch["input_ids"][0].tolist(), batch["cu_seq_lens_q"].tolist()
    assert [ids[: bounds[0]] + ids[start:end] for start, end in pairwise(bounds)] == [one["input_ids"] for one in rows]
    assert batch["shift_labels"].tolist() == flatten(rows)["shift_labels"].tolist()
    assert [ids[place + 1] for place in batch["logits_to_keep"].tolist()] == batch["shift_labels"][0].tolist()


@given(ROWS, st.data())
def test_flattened_rows_predict_what_each_row_predicts_alone(tokens: list[list[int]], data: st.DataObject) -> None:
    rows = [row(*ids, targets=data.draw(st.integers(1, len(ids)))) for ids in tokens]
    batch = flatten(rows)
    alone = [token for ids in rows for token in labels_of(ids)[1:] if token != IGNORED]
    assert batch["shift_labels"][0].tolist() == alone
    assert all(
        position + 1 not in batch["cu_seq_lens_q"].tolist()[:-1] for position in batch["logits_to_keep"].tolist()
    )


@pytest.fixture(scope="module")
def packed_rows() -> list[dict[str, Any]]:
    """Rows of several lengths, one of which is two rows packed into one."""
    generator = numpy.random.default_rng(3)
    rows = [
        row(*generator.integers(3, 290, size=size).tolist(), targets=targets)
        for size, targets in ((9, 4), (17, 3), (5, 5), (30, 8))
    ]
    joined = {name: rows[0][name] + rows[1][name] for name in ("input_ids", "loss_mask")} | {"seq_lengths": [9, 17]}
    return [joined, *rows[2:]]


def load_gpt(directory: Path, attention: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation=attention).train()


def loss_and_gradient(model: Any, batch: ModelInputs, items: int) -> tuple[float, Any]:
    model.zero_grad()
    loss = model(**batch, num_items_in_batch=items).loss
    loss.backward()
    return loss.item(), model.model.layers[0].self_attn.q_proj.weight.grad.clone()


@pytest.mark.parametrize("attention", ["by row", "sdpa", "eager"])
def test_loss_and_gradient_of_a_padding_free_batch_are_those_of_the_rows_alone(
    tiny_gpt: Path, packed_rows: list[dict[str, Any]], attention: str
) -> None:
    import torch

    alone = [{"input_ids": ids, "loss_mask": mask} for joined in packed_rows for ids, mask in split(joined)]
    items = sum(label != IGNORED for ids in alone for label in labels_of(ids)[1:])
    plain = load_gpt(tiny_gpt, "eager")
    expected = [
        loss_and_gradient(plain, {name: torch.tensor([ids]) for name, ids in named.items()}, items)
        for named in ({"input_ids": one["input_ids"], "labels": labels_of(one)} for one in alone)
    ]
    loss, gradient = loss_and_gradient(
        load_gpt(tiny_gpt, register() if attention == "by row" else attention), flatten(packed_rows), items
    )
    assert loss == pytest.approx(sum(loss for loss, _ in expected), rel=1e-5)
    assert torch.allclose(gradient, sum(part for _, part in expected), atol=1e-6)
    padded, padded_gradient = loss_and_gradient(load_gpt(tiny_gpt, "sdpa"), pad(alone, pad_token_id=0), items)
    assert loss == pytest.approx(padded, rel=1e-5) and torch.allclose(gradient, padded_gradient, atol=1e-6), (
        "the padded batch is the same quantity"
    )


def test_a_shared_prefix_changes_neither_loss_nor_gradient(tiny_gpt: Path) -> None:
    import torch

    generator, prefix = numpy.random.default_rng(5), [7, 8, 9, 10, 11, 12]
    rows = [
        row(*prefix, *generator.integers(3, 250, size=size).tolist(), targets=targets)
        for size, targets in ((9, 4), (17, 3), (5, 4), (30, 8))
    ]
    batches, model = (flatten(rows, share=share) for share in (False, True)), load_gpt(tiny_gpt, register())
    (loss, gradient), (shared_loss, shared_gradient) = (loss_and_gradient(model, batch, 15) for batch in batches)
    assert shared_loss == pytest.approx(loss, rel=1e-5) and torch.allclose(gradient, shared_gradient, atol=1e-6)
    assert flatten(rows, share=True)["input_ids"].numel() == flatten(rows)["input_ids"].numel() - 3 * len(prefix)


def split(joined: dict[str, Any]) -> list[tuple[list[int], list[bool]]]:
    bounds = numpy.cumsum(joined.get("seq_lengths") or [len(joined["input_ids"])])[:-1]
    return [
        (ids.tolist(), mask.tolist())
        for ids, mask in zip(*(numpy.split(joined[name], bounds) for name in ("input_ids", "loss_mask")), strict=True)
    ]


@pytest.mark.parametrize("attention", ["by row", "sdpa"])
def test_no_row_sees_the_row_before_it(tiny_gpt: Path, attention: str) -> None:
    """Another row in front must not move one logit. The same two rows as one do move them: the test can see a leak."""
    import torch

    model = load_gpt(tiny_gpt, register() if attention == "by row" else attention).eval()
    seen, one, other = row(5, 6, 7, 8, targets=4), row(20, 21, 22, targets=3), row(90, 91, 92, targets=3)
    with torch.no_grad():
        after_one, after_other = (model(**flatten([first, seen])).logits[0, -3:] for first in (one, other))
        leaking = [
            model(**flatten([{name: first[name] + seen[name] for name in first}])).logits[0, -3:]
            for first in (one, other)
        ]
    assert torch.equal(after_one, after_other)
    assert not torch.allclose(leaking[0], leaking[1], atol=1e-4)


def test_packing_keeps_every_token_and_fills_its_sequences() -> None:
    from datasets import Dataset

    rows = [row(*range(1, size + 1), targets=size) for size in (30, 9, 21, 12, 3, 28)]
    packed = pack(Dataset.from_list(rows), 33)
    assert sorted(length for found in packed for length in found["seq_lengths"]) == [3, 9, 12, 21, 28, 30]
    assert len(packed) == 4 and all(sum(found["seq_lengths"]) == len(found["input_ids"]) <= 33 for found in packed)
    assert measure_lengths(packed).tolist() == [len(found["input_ids"]) for found in packed]


def test_class_indices_follow_the_order_of_the_labels() -> None:
    rows = [{"input_ids": [5, 6, 7], "label": "good"}, {"input_ids": [5], "label": "bad"}]
    batch = {name: value.tolist() for name, value in pad_classes(rows, 9, ["bad", "good"]).items()}
    assert batch == {"input_ids": [[5, 6, 7], [5, 9, 9]], "attention_mask": [[1, 1, 1], [1, 0, 0]], "labels": [1, 0]}


@pytest.mark.parametrize(
    ("row", "target"), [({"labels": ["b"]}, [0.0, 1.0]), ({"labels": []}, [0.0, 0.0]), ({"value": 2.5}, 2.5)]
)
def test_many_labels_are_a_number_each_and_a_value_is_itself(row: dict[str, Any], target: Any) -> None:
    assert pad_classes([row | {"input_ids": [1]}], 0, ["a", "b"])["labels"].tolist() == [target]


def test_a_tag_stands_at_its_words_first_subword_and_nowhere_else() -> None:
    row = {"input_ids": [1, 5, 6, 7, 2], "first_subwords": [1, -1, 3], "tags": ["B-PER", "O", "O"]}
    batch = pad_tags([row, {"input_ids": [1, 2], "first_subwords": [], "tags": []}], 0, ["O", "B-PER"])
    assert batch["labels"].tolist() == [[IGNORED, 1, IGNORED, 0, IGNORED], [IGNORED] * 5]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 0, 0, 0]]
