"""The memory and time plan: each part grows as its formula says, and the whole holds against a real training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.batches.collate import HEAD_ROWS
from train.estimate.duration import (
    START_SECONDS,
    TRAINING_START_SECONDS,
    Rates,
    evaluation_seconds,
    rates_of,
    training_seconds,
)
from train.estimate.memory import (
    activation_bytes,
    adapter_parameters,
    layer_bytes,
    logits_bytes,
    training_memory,
)
from train.estimate.model_shape import ModelShape
from train.estimate.row_figures import RowFigures
from train.estimate.workload import Computation, Workload

pytestmark = pytest.mark.unit
SMOLLM2 = ModelShape("decoder", 576, 1536, 30, 9, 3, 64, 49_152, 134_515_008, 269_030_016, 2, True)
MINILM = ModelShape("encoder", 384, 1536, 6, 12, 12, 32, 30_522, 22_713_728, 90_868_376, 4, True)
RATES = Rates(1e-5, 2e-5, 1e-4, 1e-5, 1e-4)


def load(**changes: Any) -> Workload:
    """`changes`: keys of RowFigures or of Computation."""
    rows: dict[str, Any] = {
        "longest": 128,
        "mean": 64.0,
        "shared_prefix": 0,
        "target_token_share": 0.25,
        "validation": 16,
        "test": 80,
        "padding": 0.0,
    }
    compute: dict[str, Any] = {
        "batch": 8,
        "accumulation": 1,
        "steps": 20,
        "eval_every": 10,
        "rank": 16,
        "adapted": True,
        "four_bit": False,
        "dtype": "bfloat16",
        "narrow_base": False,
        "checkpointing": False,
        "on_cpu": True,
        "fused_head": False,
    }
    assert changes.keys() <= rows.keys() | compute.keys()
    return Workload(
        RowFigures(**{name: changes.get(name, value) for name, value in rows.items()}),
        Computation(**{name: changes.get(name, value) for name, value in compute.items()}),
    )


@pytest.mark.parametrize(
    ("shape", "changes", "counted"),
    [
        (SMOLLM2, {"dtype": "float32"}, 42_732 - 9 * 4 - 2 * 4),
        (SMOLLM2, {"narrow_base": True}, 29_692 - 9 * 4 - 2 * 4 - 2 * 162_816 // 128),
        (MINILM, {"dtype": "float32"}, 37_264 - 4 * 4),
        (MINILM, {}, 58_000 - 4 * 4 - 2 * (1_769_472 + 110_592) // 128),
    ],
)
def test_a_layer_keeps_what_autograd_was_seen_to_keep(shape: ModelShape, changes: dict[str, Any], counted: int) -> None:
    """Counted with torch.autograd.graph.saved_tensors_hooks on 2 rows of 64 tokens, three layers less two: bytes a
    token, here without the norms' and the attention's one number a row of a matrix and without the bfloat16 copies of
    weights."""
    assert layer_bytes(shape, load(longest=64, **changes)) == counted


def test_an_adapter_is_as_large_as_peft_makes_it() -> None:
    assert adapter_parameters(SMOLLM2, 16) == 4_884_480  # print_trainable_parameters of peft 0.21.2


@given(
    st.integers(1, 64),
    st.integers(1, 2048),
    st.integers(1, 256),
    st.booleans(),
    st.sampled_from(["float32", "bfloat16"]),
)
def test_more_of_anything_never_takes_less(batch: int, longest: int, rank: int, narrow: bool, dtype: str) -> None:
    known = {"batch": batch, "longest": longest, "rank": rank, "dtype": dtype}
    known |= {"narrow_base": narrow and dtype == "bfloat16"}
    asked = load(**known)
    for shape in (SMOLLM2, MINILM):
        peak = training_memory(shape, asked)["peak"]
        assert all(value >= 0 for value in training_memory(shape, asked).values())
        assert peak <= training_memory(shape, asked.computed_with(batch=batch + 1))["peak"]
        assert peak <= training_memory(shape, load(**known | {"longest": longest + 1}))["peak"]
        assert peak <= training_memory(shape, asked.computed_with(rank=rank + 1))["peak"]


def test_the_peak_is_at_least_that_of_loading() -> None:
    memory = training_memory(SMOLLM2, load(batch=1, longest=1, dtype="float32"))
    assert memory["peak"] >= memory["weights"] + SMOLLM2.stored_bytes


def test_checkpointing_keeps_one_layer_and_the_others_inputs() -> None:
    kept, less = (activation_bytes(SMOLLM2, load(narrow_base=True, checkpointing=flag)) for flag in (False, True))
    assert less == kept // 30 + 8 * 128 * 30 * 576 * 2


def test_only_target_tokens_have_logits_and_a_classifier_has_none() -> None:
    assert (
        logits_bytes(SMOLLM2, load(target_token_share=0.5))
        == 2 * logits_bytes(SMOLLM2, load(target_token_share=0.25))
        > 0
    )
    assert logits_bytes(MINILM, load()) == 0


def test_a_fused_head_holds_the_logits_of_some_rows_at_most() -> None:
    fused = {"fused_head": True, "dtype": "float32"}
    assert logits_bytes(SMOLLM2, load(batch=64, **fused)) == 4 * HEAD_ROWS * SMOLLM2.vocabulary
    assert logits_bytes(SMOLLM2, load(batch=1, longest=8, **fused)) == 4 * 2 * SMOLLM2.vocabulary
    narrow = load(batch=64, fused_head=True, dtype="bfloat16")
    assert logits_bytes(SMOLLM2, narrow) == (2 + 4) * HEAD_ROWS * SMOLLM2.vocabulary, "multiplied in bfloat16 first"


def test_full_training_pays_for_every_weight() -> None:
    memory = training_memory(SMOLLM2, load(adapted=False, dtype="float32"))
    assert (memory["adapter"], memory["gradients"], memory["optimizer"]) == (
        0,
        4 * SMOLLM2.parameters,
        8 * SMOLLM2.parameters,
    )


def test_four_bits_are_an_eighth_of_float32_and_their_scales() -> None:
    four, full = (training_memory(SMOLLM2, load(four_bit=flag))["weights"] for flag in (True, False))
    assert four < full / 4 and four > SMOLLM2.linear_parameters / 2


def test_what_all_rows_begin_with_is_computed_once_a_micro_batch() -> None:
    assert load(shared_prefix=28).tokens == 28 + 8 * 100 and logits_bytes(
        SMOLLM2, load(shared_prefix=28)
    ) == logits_bytes(SMOLLM2, load())
    saved = training_seconds(SMOLLM2, load(), RATES) - training_seconds(SMOLLM2, load(shared_prefix=28), RATES)
    assert saved == pytest.approx((20 * 8 + 2 * 16 / 2) * 28 * 7 / 8 * (30 * 1e-5 + 2e-5))


def steps_seconds(asked: Workload) -> float:
    return training_seconds(SMOLLM2, asked, RATES) - TRAINING_START_SECONDS


def test_time_follows_steps_lengths_and_the_target_token_share() -> None:
    asked = load(validation=0)
    assert steps_seconds(asked) == pytest.approx(20 * 8 * 64 * (30 * 1e-5 + 2e-5 + 0.25e-4))
    assert steps_seconds(asked.computed_with(steps=40)) == pytest.approx(2 * steps_seconds(asked))
    assert steps_seconds(asked.computed_with(checkpointing=True)) == pytest.approx(
        20 * 8 * 64 * (45 * 1e-5 + 2e-5 + 0.25e-4)
    )
    assert steps_seconds(asked.computed_with(checkpointing=True, adapted=False)) == pytest.approx(
        20 * 8 * 64 * (40 * 1e-5 + 2e-5 + 0.25e-4)
    )


@pytest.mark.parametrize(("adapted", "share"), [(True, 1 / 2), (False, 1 / 3)])
def test_a_validation_row_costs_the_forward_share_of_a_trained_one(adapted: bool, share: float) -> None:
    asked = load(adapted=adapted, validation=0)
    row = steps_seconds(asked) / 160
    assert steps_seconds(replace(asked, rows=replace(asked.rows, validation=16))) - steps_seconds(
        asked
    ) == pytest.approx(2 * 16 * row * share)


def test_padding_is_computed_as_tokens_are() -> None:
    assert load(padding=0.2).row_tokens == 80.0
    more, known = (
        training_seconds(MINILM, load(padding=padding), RATES) - TRAINING_START_SECONDS for padding in (0.2, 0.0)
    )
    assert more == pytest.approx(1.25 * known)


def test_decoding_together_shares_the_reads_of_a_gpu_alone() -> None:
    alone, shared = (evaluation_seconds(SMOLLM2, load(), RATES, 48, 16, flag) for flag in (False, True))
    assert alone > shared > START_SECONDS
    assert evaluation_seconds(MINILM, load(), RATES, 48, 16, False) < START_SECONDS + 1


def test_a_gpu_of_twice_the_rate_takes_half_the_time() -> None:
    slow, fast = (
        training_seconds(SMOLLM2, load(), rates_of(SMOLLM2, load(), flops, 1e12)) - TRAINING_START_SECONDS
        for flops in (1e14, 2e14)
    )
    assert slow == pytest.approx(2 * fast)
