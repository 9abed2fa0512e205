"""What the race's table says of tokens."""

from __future__ import annotations

import pytest

from benchmarks.race.speed import same_tokens

pytestmark = pytest.mark.unit
OURS = [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [4, 5], "labels": [-100, 5]}]


@pytest.mark.parametrize(
    ("theirs", "same_ids", "same_mask", "loss"),
    [
        (OURS[::-1], 2, 2, 3),
        ([{"input_ids": [1, 2, 3], "labels": [-100, 2, -100]}, OURS[1]], 2, 1, 2),
        ([{"input_ids": [1, 2, 9], "labels": [-100, 2, 9]}, OURS[1]], 1, 1, 3),
    ],
)
def test_rows_are_ours_by_their_tokens_and_by_their_mask(
    theirs: list[dict[str, list[int]]], same_ids: int, same_mask: int, loss: int
) -> None:
    found = same_tokens(OURS, theirs)
    assert found == {"rows": 2, "tokens": 5, "loss": loss, "same_ids": same_ids, "same_mask": same_mask}
