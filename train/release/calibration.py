"""Calibration rows: drawn by seed from the train split and from no other, their tokens as training saw them."""

from __future__ import annotations

import random
from typing import Any

from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.batches.collate import ModelInputs
from train.batches.dataset import EncodedRow
from train.data.fingerprint import fingerprint
from train.data.prepared import count_rows, read_tokens, rows_at
from train.release.facts import CalibrationFacts


def calibration_rows(config: RunConfig, paths: RunPaths) -> list[int]:
    """Indices of `quantize.calibration_rows` rows of the train split, of all where it has fewer; none where the recipe
    needs no data."""
    settings = config.quantize
    if not settings.needs_calibration:
        return []
    count = count_rows(paths, "train")
    return random.Random(settings.calibration_seed).sample(range(count), min(settings.calibration_rows, count))


def describe(config: RunConfig, paths: RunPaths, rows: list[int]) -> CalibrationFacts:
    """What the manifest says of them."""
    return {
        "split": "train",
        "rows": len(rows),
        "seed": config.quantize.calibration_seed,
        "fingerprint": fingerprint(rows_at(paths, "train", rows)),
    }


def encoded(paths: RunPaths, rows: list[int] | None = None) -> list[EncodedRow]:
    """The tokens of these rows of the train split, or of all; of a preference pair the chosen answer's."""
    return [one_answer(row) for row in read_tokens(paths, "train", rows)]


def one_answer(row: EncodedRow) -> EncodedRow:
    if "chosen_ids" not in row:
        return row
    asked, chosen = row["prompt_ids"], row["chosen_ids"]
    return {"input_ids": asked + chosen, "loss_mask": [False] * len(asked) + [True] * len(chosen)}


def loader(rows: list[EncodedRow]) -> Any:
    """One row a batch, so that no padding is looked at."""
    import torch
    from datasets import Dataset
    from torch.utils.data import DataLoader

    def collate(batch: list[EncodedRow]) -> ModelInputs:
        ids = torch.tensor([batch[0]["input_ids"]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return DataLoader(
        Dataset.from_list([{"input_ids": row["input_ids"]} for row in rows]),
        batch_size=1,
        shuffle=False,
        collate_fn=collate,
    )
