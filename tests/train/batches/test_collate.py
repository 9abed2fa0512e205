"""Every row once before any comes again, like beside like, and rows end to end that never see each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import InputError
from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.run.train import Train
from train.batches.collate import IGNORED, flatten, pack, pad
from train.batches.dataset import encode, open_splits
from train.batches.order import RowSchedule, measure_lengths, order_rows, total_steps
from train.layers.attention import attend_by_row, register, use_attention
from train.prepare import prepare

pytestmark = pytest.mark.unit
LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=120).map(numpy.array)


@pytest.mark.parametrize(
    ("section", "rows", "steps"),
    [
        ({"max_steps": 7}, 1000, 7),
        ({"epochs": 1, "batch_size": 8}, 16, 2),
        ({"epochs": 1, "batch_size": 8}, 17, 3),
        ({"epochs": 2.5, "batch_size": 10}, 40, 10),
        ({"epochs": 3, "batch_size": 8}, 12, 5),
        ({"epochs": 1, "batch_size": 4, "gradient_accumulation_steps": 3}, 25, 3),
        ({"epochs": 0.01, "batch_size": 8}, 8, 1),
        ({"epochs": 0.7, "batch_size": 1}, 10, 7),
    ],
)
def test_steps_of_a_training(section: dict[str, Any], rows: int, steps: int) -> None:
    assert total_steps(Train.model_validate(section), rows) == steps


@given(st.floats(0.1, 20), st.integers(1, 64), st.integers(1, 8), st.integers(1, 5000))
def test_steps_cover_every_epoch_and_not_one_batch_more(
    epochs: float, batch: int, accumulation: int, rows: int
) -> None:
    section = Train(epochs=epochs, batch_size=batch, gradient_accumulation_steps=accumulation)
    seen = total_steps(section, rows) * batch * accumulation
    assert rows * epochs - 1e-6 <= seen < max(rows * epochs, 1) + batch * accumulation


@given(LENGTHS, st.integers(1, 40), st.integers(1, 16), st.integers(0, 2**32 - 1), st.booleans())
def test_no_row_comes_again_before_every_row_has_come(
    lengths: Any, steps: int, batch: int, seed: int, grouped: bool
) -> None:
    order = order_rows(lengths, steps, batch, seed, grouped)
    assert len(order) == steps * batch
    counts = Counter(order.tolist())
    rounds = steps * batch // len(lengths)
    assert all(rounds <= counts[row] <= rounds + 1 for row in range(len(lengths)))


@given(LENGTHS, st.integers(1, 40), st.integers(1, 16), st.integers(0, 99), st.booleans())
def test_the_order_hangs_on_the_seed_alone_and_the_largest_batch_comes_first(
    lengths: Any, steps: int, batch: int, seed: int, grouped: bool
) -> None:
    order = order_rows(lengths, steps, batch, seed, grouped)
    assert order.tolist() == order_rows(lengths, steps, batch, seed, grouped).tolist()
    totals = lengths[order.reshape(steps, batch)].sum(axis=1)
    assert totals[0] == totals.max()


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = numpy.random.default_rng(0).integers(1, 200, size=4000)
    grouped, mixed = (
        RowSchedule(lengths[order_rows(lengths, 500, 8, 1, flag)], 8, 500, True, row_count=len(lengths)).padding_share
        for flag in (True, False)
    )
    assert grouped < 0.05 < 0.35 < mixed
    order = order_rows(lengths, 500, 8, 1, True).reshape(500, 8)
    means = lengths[order].mean(axis=1)
    assert abs(numpy.corrcoef(means, numpy.arange(500))[0, 1]) < 0.15, (
        "short batches and long ones come mixed, not in descending order"
    )


def test_another_seed_is_another_order() -> None:
    lengths = numpy.full(100, 7)
    assert order_rows(lengths, 10, 10, 1, False).tolist() != order_rows(lengths, 10, 10, 2, False).tolist()


def test_the_plan_counts_real_tokens_and_padding() -> None:
    schedule = RowSchedule(numpy.array([4, 2, 3, 3, 1, 1]), micro_batch=2, steps=3, padded=True, row_count=4)
    assert (schedule.real_tokens(0, 3), schedule.real_tokens(1, 2)) == (14, 6)
    assert schedule.padding_share == pytest.approx(2 / 16)
    assert RowSchedule(schedule.lengths, 2, 3, padded=False, row_count=4).padding_share == 0.0


def row(*tokens: int, taught: int) -> dict[str, list[int]]:
    return {"input_ids": list(tokens), "labels": [IGNORED] * (len(tokens) - taught) + list(tokens[-taught:])}


def test_logits_are_wanted_only_where_the_next_token_is_taught() -> None:
    batch = flatten([row(5, 6, 7, taught=1), row(8, 9, taught=2)])
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]] and batch["position_ids"].tolist() == [[0, 1, 2, 0, 1]]
    assert batch["logits_to_keep"].tolist() == [1, 3] and batch["shift_labels"].tolist() == [[7, 9]], (
        "8 follows another row's end: nothing foretells it"
    )
    assert batch["cu_seq_lens_q"].tolist() == [0, 3, 5] and batch["max_length_q"] == 3


ROWS = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=12), min_size=1, max_size=5)


def test_a_beginning_that_all_rows_share_lies_there_once() -> None:
    batch = flatten([row(1, 2, 3, 5, 6, taught=1), row(1, 2, 3, 8, taught=1), row(1, 2, 3, 5, 7, taught=2)], share=True)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 5, 6, 3, 8, 3, 5, 7]], (
        "3 foretells what is taught in the second row: it is each row's own"
    )
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 2, 3, 2, 3, 4]] and batch["cu_seq_lens_q"].tolist() == [
        2,
        5,
        7,
        10,
    ]
    assert batch["shift_labels"].tolist() == [[6, 8, 5, 7]] and batch["logits_to_keep"].tolist() == [3, 5, 7, 8]


@given(ROWS, ROWS, st.data())
def test_whatever_rows_share_each_is_whole_and_teaches_the_same(
    heads: list[list[int]], tails: list[list[int]], data: st.DataObject
) -> None:
    rows = [row(*heads[0], *ids, taught=data.draw(st.integers(1, len(heads[0]) + len(ids)))) for ids in tails]
    batch = flatten(rows, share=True)
    ids, bounds = batch["input_ids"][0].tolist(), batch["cu_seq_lens_q"].tolist()
    assert [ids[: bounds[0]] + ids[start:end] for start, end in pairwise(bounds)] == [one["input_ids"] for one in rows]
    assert batch["shift_labels"].tolist() == flatten(rows)["shift_labels"].tolist()
    assert [ids[place + 1] for place in batch["logits_to_keep"].tolist()] == batch["shift_labels"][0].tolist()


@given(ROWS, st.data())
def test_flattened_rows_teach_what_each_row_teaches_alone(tokens: list[list[int]], data: st.DataObject) -> None:
    rows = [row(*ids, taught=data.draw(st.integers(1, len(ids)))) for ids in tokens]
    batch = flatten(rows)
    alone = [token for ids in rows for token in ids["labels"][1:] if token != IGNORED]
    assert batch["shift_labels"][0].tolist() == alone
    assert all(
        position + 1 not in batch["cu_seq_lens_q"].tolist()[:-1] for position in batch["logits_to_keep"].tolist()
    )


@pytest.fixture(scope="module")
def packed_rows() -> list[dict[str, Any]]:
    """Rows of several lengths, one of which is two rows packed into one."""
    generator = numpy.random.default_rng(3)
    rows = [
        row(*generator.integers(3, 290, size=size).tolist(), taught=taught)
        for size, taught in ((9, 4), (17, 3), (5, 5), (30, 8))
    ]
    joined = {name: rows[0][name] + rows[1][name] for name in ("input_ids", "labels")} | {"seq_lengths": [9, 17]}
    return [joined, *rows[2:]]


def load_gpt(directory: Path, attention: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation=attention).train()


def loss_and_gradient(model: Any, batch: dict[str, Any], items: int) -> tuple[float, Any]:
    model.zero_grad()
    loss = model(**batch, num_items_in_batch=items).loss
    loss.backward()
    return loss.item(), model.model.layers[0].self_attn.q_proj.weight.grad.clone()


@pytest.mark.parametrize("attention", ["by row", "sdpa", "eager"])
def test_loss_and_gradient_of_rows_end_to_end_are_those_of_the_rows_alone(
    tiny_gpt: Path, packed_rows: list[dict[str, Any]], attention: str
) -> None:
    import torch

    alone = [{"input_ids": ids, "labels": labels} for joined in packed_rows for ids, labels in split(joined)]
    items = sum(label != IGNORED for ids in alone for label in ids["labels"][1:])
    plain = load_gpt(tiny_gpt, "eager")
    expected = [
        loss_and_gradient(plain, {name: torch.tensor([values]) for name, values in ids.items()}, items) for ids in alone
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


def test_a_shared_beginning_changes_neither_loss_nor_gradient(tiny_gpt: Path) -> None:
    import torch

    generator, beginning = numpy.random.default_rng(5), [7, 8, 9, 10, 11, 12]
    rows = [
        row(*beginning, *generator.integers(3, 250, size=size).tolist(), taught=taught)
        for size, taught in ((9, 4), (17, 3), (5, 4), (30, 8))
    ]
    batches, model = (flatten(rows, share=share) for share in (False, True)), load_gpt(tiny_gpt, register())
    (loss, gradient), (shared_loss, shared_gradient) = (loss_and_gradient(model, batch, 15) for batch in batches)
    assert shared_loss == pytest.approx(loss, rel=1e-5) and torch.allclose(gradient, shared_gradient, atol=1e-6)
    assert flatten(rows, share=True)["input_ids"].numel() == flatten(rows)["input_ids"].numel() - 3 * len(beginning)


def split(joined: dict[str, Any]) -> list[tuple[list[int], list[int]]]:
    bounds = numpy.cumsum(joined.get("seq_lengths") or [len(joined["input_ids"])])[:-1]
    return [
        (ids.tolist(), labels.tolist())
        for ids, labels in zip(*(numpy.split(joined[name], bounds) for name in ("input_ids", "labels")), strict=True)
    ]


@pytest.mark.parametrize("attention", ["by row", "sdpa"])
def test_no_row_sees_the_row_before_it(tiny_gpt: Path, attention: str) -> None:
    """Another row in front must not move one logit. The same two rows as one do move them: the test can see a leak."""
    import torch

    model = load_gpt(tiny_gpt, register() if attention == "by row" else attention).eval()
    seen, one, other = row(5, 6, 7, 8, taught=4), row(20, 21, 22, taught=3), row(90, 91, 92, taught=3)
    with torch.no_grad():
        after_one, after_other = (model(**flatten([first, seen])).logits[0, -3:] for first in (one, other))
        leaking = [
            model(**flatten([{name: first[name] + seen[name] for name in first}])).logits[0, -3:]
            for first in (one, other)
        ]
    assert torch.equal(after_one, after_other)
    assert not torch.allclose(leaking[0], leaking[1], atol=1e-4)


def test_attention_by_row_without_bounds_is_an_error_not_a_leak() -> None:
    with pytest.raises(ValueError, match="cu_seq_lens_q"):
        attend_by_row(None, None, None, None, None)


def test_a_model_with_a_sliding_window_is_padded_unless_packing_is_asked_for() -> None:
    from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig

    shape = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "vocab_size": 32,
    }
    window, full = (
        AutoModelForCausalLM.from_config(made)
        for made in (MistralConfig(sliding_window=8, **shape), LlamaConfig(**shape))
    )
    assert use_attention(full, Train(max_steps=1)) == "shared" and full.config._attn_implementation == "sdpa_by_row"
    assert (
        use_attention(full, Train(max_steps=1, packing="none")) == "padded"
        and full.config._attn_implementation == "sdpa"
    )
    assert (
        use_attention(full, Train(max_steps=1, attention="eager")) == "flattened"
        and full.config._attn_implementation == "eager"
    )
    assert use_attention(window, Train(max_steps=1)) == "padded" and window.config._attn_implementation == "sdpa"
    with pytest.raises(InputError, match="sliding window"):
        use_attention(window, Train(max_steps=1, packing="sequence"))


def test_packing_keeps_every_token_and_fills_its_sequences() -> None:
    from datasets import Dataset

    rows = [row(*range(1, size + 1), taught=size) for size in (30, 9, 21, 12, 3, 28)]
    packed = pack(Dataset.from_list(rows), 33)
    assert sorted(length for found in packed for length in found["seq_lengths"]) == [3, 9, 12, 21, 28, 30]
    assert len(packed) == 4 and all(sum(found["seq_lengths"]) == len(found["input_ids"]) <= 33 for found in packed)
    assert measure_lengths(packed).tolist() == [len(found["input_ids"]) for found in packed]


def test_lengths_count_all_columns_of_ids() -> None:
    from datasets import Dataset

    rows = Dataset.from_dict(
        {"prompt_ids": [[1, 2], [3]], "chosen_ids": [[1], [2, 3]], "rejected_ids": [[], [1]], "note": ["a", "b"]}
    )
    assert measure_lengths(rows).tolist() == [3, 4]
    assert measure_lengths(rows.select([1, 0, 1])).tolist() == [4, 3, 4]


def test_splits_are_mapped_from_disk_and_leave_nothing_behind(chat: Callable[..., RunConfig]) -> None:
    from train.model.base import make_base

    config = chat()
    paths = RunPaths.of(config.name)
    with pytest.raises(InputError, match="tunegate prepare"), open_splits(paths):
        pass
    prepare(config, paths, make_base(config))
    stale = paths.root / ".cache.999999999.partial"
    stale.mkdir()
    with open_splits(paths) as (rows, validation):
        assert (len(rows), len(validation)) == (24, 6) and not stale.exists(), "what a killed run left is cleared"
        encoded = encode(rows, lambda found: [{"input_ids": [1] * len(each["messages"])} for each in found])
        assert encoded.column_names == ["input_ids"] and encoded[3] == {"input_ids": [1, 1]}
        assert (
            all(Path(file["filename"]).exists() for file in (*rows.cache_files, *encoded.cache_files))
            and encoded.cache_files
        )
    assert not list(paths.root.glob(".cache*"))
