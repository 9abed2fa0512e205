"""Calibration rows: drawn by seed from the train split and from no other, encoded as training saw them."""

from __future__ import annotations

import random
from typing import Any

from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.batches.collate import ModelInputs
from train.batches.dataset import EncodedRow
from train.data.fingerprint import fingerprint
from train.data.prepared import read_split
from train.release.facts import CalibrationFacts
from train.sources.source import Row


def calibration_rows(config: RunConfig, paths: RunPaths) -> list[Row]:
    """`quantize.calibration_rows` of the train split, all of it where it has fewer; none where the recipe needs no
    data."""
    settings = config.quantize
    if not settings.needs_calibration:
        return []
    rows = read_split(paths, "train")
    return random.Random(settings.calibration_seed).sample(rows, min(settings.calibration_rows, len(rows)))


def describe(config: RunConfig, rows: list[Row]) -> CalibrationFacts:
    """What the manifest says of them."""
    return {
        "split": "train",
        "rows": len(rows),
        "seed": config.quantize.calibration_seed,
        "fingerprint": fingerprint(rows),
    }


def encode(config: RunConfig, tokenizer: Any, rows: list[Row], labels: list[str]) -> list[EncodedRow]:
    """input_ids and labels of each row, as its trainer makes them; of a preference pair the chosen answer."""
    from train.tasks.classifier import encode_rows
    from train.tasks.sft import encode_row
    from train.tasks.tagger import encode_tags

    if config.task == "sequence-classification":
        return encode_rows(tokenizer, rows, labels)
    if config.task == "token-classification":
        return [encode_tags(tokenizer, row, labels) for row in rows]
    return [encode_row(tokenizer, row) for row in rows]


def loader(encoded: list[EncodedRow]) -> Any:
    """One row a batch, so that no padding is looked at."""
    import torch
    from datasets import Dataset
    from torch.utils.data import DataLoader

    def collate(batch: list[EncodedRow]) -> ModelInputs:
        ids = torch.tensor([batch[0]["input_ids"]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    return DataLoader(Dataset.from_list(encoded), batch_size=1, shuffle=False, collate_fn=collate)
