"""Training records: one that training wrote, and none."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.paths import RunPaths
from configs.training_record import read_training_record

pytestmark = pytest.mark.unit
# As f94eda2 wrote it.
RECORD = """{
  "losses": [{"step": 1, "loss": 0.7}, {"step": 2, "loss": 0.5}],
  "validation": [{"eval_loss": 0.6, "eval_accuracy": 0.7, "step": 2}],
  "steps": 2, "epochs": 0.2, "best_step": 2, "best_validation_loss": 0.6, "resumed_from_step": null,
  "seconds": 8.1, "real_tokens": 900, "padding_share": 0.02, "tokens_per_second": 120.5, "dtype": "float32",
  "key": "ab", "threads": 1, "micro_batch": 16, "processes": [{"rank": 0, "pid": 7}], "tracking_run_id": "cd"
}"""


@pytest.fixture
def paths(tmp_path: Path) -> RunPaths:
    found = RunPaths(tmp_path)
    found.trained.mkdir()
    return found


def test_a_record_is_read_as_it_was_written(paths: RunPaths) -> None:
    (paths.trained / "training.json").write_text(RECORD)
    record = read_training_record(paths)
    assert record and (record["best_step"], record["validation"][0]["eval_accuracy"], record["tracking_run_id"]) == (
        2,
        0.7,
        "cd",
    )


@pytest.mark.parametrize("text", [None, "", "[1]"])
def test_what_is_no_record_is_none(paths: RunPaths, text: str | None) -> None:
    if text is not None:
        (paths.trained / "training.json").write_text(text)
    assert read_training_record(paths) is None
