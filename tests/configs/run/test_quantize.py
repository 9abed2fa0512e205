"""Quantize: what cannot be together is refused, and the group size divides every layer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.run.quantize import GROUP_SIZES, Prune, Quantize, choose_group_size

pytestmark = pytest.mark.unit
COLUMNS = st.sets(st.integers(1, 200).map(lambda count: 16 * count), min_size=1, max_size=4)
WRONG = [
    ({"algorithm": "awq"}, "scheme w4a16 with algorithm awq"),
    ({"scheme": "fp8", "algorithm": "gptq"}, "scheme int8 or w4a16 with algorithm gptq"),
    ({"scheme": "none", "algorithm": "gptq"}, "scheme int8 or w4a16 with algorithm gptq"),
    ({"group_size": 64}, "scheme w4a16 with group_size"),
    ({"scheme": "w4a16", "smoothquant": 0.5}, "scheme int8 with smoothquant"),
    ({"prune": {"structure": "2:4", "sparsity": 0.6}}, "sparsity 0.5 with structure 2:4"),
    ({"prune": {"structure": "2:4", "method": "magnitude"}}, "method wanda or sparsegpt with structure 2:4"),
]


@pytest.mark.parametrize(("keys", "why"), WRONG)
def test_a_combination_that_cannot_be_is_refused_for_its_one_reason(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Quantize.model_validate(keys)
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {why}"]


@pytest.mark.parametrize(
    ("keys", "needed"),
    [
        ({}, False),
        ({"scheme": "fp8"}, False),
        ({"prune": {"method": "magnitude"}}, False),
        ({"scheme": "w4a16", "algorithm": "awq"}, True),
        ({"smoothquant": 0.5}, True),
        ({"scheme": "none", "prune": {"method": "wanda"}}, True),
    ],
)
def test_data_is_looked_at_only_by_recipes_that_calibrate(keys: dict[str, Any], needed: bool) -> None:
    assert Quantize.model_validate(keys).needs_calibration is needed


@given(COLUMNS)
def test_the_chosen_group_size_is_the_largest_that_divides_every_layer(columns: set[int]) -> None:
    fitting = [size for size in GROUP_SIZES if not any(column % size for column in columns)]
    if fitting:
        assert choose_group_size(columns, None) == max(fitting)
    else:
        with pytest.raises(ValueError, match="scheme int8: none of the group sizes"):
            choose_group_size(columns, None)


@given(COLUMNS, st.sampled_from(GROUP_SIZES))
def test_a_given_group_size_is_kept_or_refused_with_those_that_fit(columns: set[int], wanted: int) -> None:
    try:
        assert choose_group_size(columns, wanted) == wanted and not any(column % wanted for column in columns)
    except ValueError as error:
        assert any(column % wanted for column in columns)
        assert all(not column % size for size in GROUP_SIZES for column in columns if f" {size} or" in str(error) or f"group_size {size}:" in str(error))


def test_smollm2_takes_64_and_minilm_128() -> None:
    assert choose_group_size({576, 1536}, None) == 64 and choose_group_size({384, 1536}, None) == 128
    with pytest.raises(ValueError, match="group_size 64 or 32: 128 does not divide the base's 576 and 1536 input columns"):
        choose_group_size({576, 1536}, 128)


@given(st.sampled_from(["magnitude", "wanda", "sparsegpt"]), st.floats(0.01, 0.99), st.integers(0, 100))
def test_unstructured_pruning_takes_any_share(method: Any, share: float, steps: int) -> None:
    assert Prune(method=method, sparsity=share, recovery_steps=steps).structure == "unstructured"
