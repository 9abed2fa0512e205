"""Calibration looks at the train split and at nothing else; the manifest says at what."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.release import verify_release
from configs.run.config import RunConfig
from train.data.fingerprint import fingerprint
from train.data.prepared import read_split, rows_at
from train.finetune import finetune
from train.model.base import make_base
from train.prepare import prepare
from train.quantize import quantize
from train.release.calibration import calibration_rows

pytestmark = pytest.mark.integration
Make = Callable[..., RunConfig]


class Silent:
    run_id = None

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...


def prepared(config: RunConfig) -> RunPaths:
    paths = RunPaths.of(config.name)
    prepare(config, paths, make_base(config))
    return paths


def test_rows_are_drawn_from_train_by_seed(chat: Make) -> None:
    recipe: dict[str, Any] = {"scheme": "w4a16", "algorithm": "gptq", "calibration_rows": 7}
    paths = prepared(chat(quantize=recipe))
    rows, again, other = (
        calibration_rows(chat(quantize=recipe | {"calibration_seed": seed}), paths) for seed in (1, 1, 2)
    )
    assert rows == again != other and len(set(rows)) == 7
    train = read_split(paths, "train")
    assert rows_at(paths, "train", rows) == [train[index] for index in rows], "in the order drawn"
    every = calibration_rows(chat(quantize=recipe | {"calibration_rows": 1000}), paths)
    assert sorted(every) == list(range(len(train)))
    assert calibration_rows(chat(quantize={"scheme": "w4a16"}), paths) == []


def test_no_row_but_trains_reaches_llmcompressor_and_the_manifest_says_which(
    chat: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen at the seam: every batch that any calibration is handed, the recovery's rows as well."""
    from train.release import prune, recipe

    config = chat(
        quantize={
            "scheme": "w4a16",
            "algorithm": "gptq",
            "calibration_rows": 9,
            "prune": {"method": "wanda", "recovery_steps": 1},
        }
    )
    paths, seen = prepared(config), list[list[int]]()
    real_run, real_recover = recipe.run, prune.recover

    def watched_run(model: Any, modifiers: list[Any], batches: Any) -> None:
        seen.extend(batch["input_ids"][0].tolist() for batch in batches)
        real_run(model, modifiers, batches)

    def watched_recover(model: Any, settings: Any, rows: list[dict[str, Any]], *rest: Any, **more: Any) -> None:
        seen.extend(row["input_ids"] for row in rows)
        real_recover(model, settings, rows, *rest, **more)

    for module in ("train.release.recipe", "train.release.prune"):
        monkeypatch.setattr(f"{module}.run", watched_run)
    monkeypatch.setattr("train.quantize.recover", watched_recover)
    finetune(config, paths, Silent())
    manifest = quantize(config, paths)
    tokenizer = tokenizer_of(paths)
    text = [tokenizer.decode(ids) for ids in seen]
    splits = {
        name: {row["messages"][0]["content"] + "<|im_end|>" for row in read_split(paths, name)}
        for name in ("train", "validation", "test")
    }
    assert len(seen) == 9 + 9 + len(splits["train"])
    assert all(any(question in line for question in splits["train"]) for line in text)
    assert not any(question in line for name in ("validation", "test") for question in splits[name] for line in text)
    stated = manifest.quantization["calibration"]
    assert stated["fingerprint"] == fingerprint(rows_at(paths, "train", calibration_rows(config, paths))) and (
        stated["rows"],
        stated["split"],
    ) == (9, "train")
    check_release(paths)


def tokenizer_of(paths: RunPaths) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(paths.data.parents[1] / "base" / "tiny-gpt")


def check_release(paths: RunPaths) -> None:
    """Pruned, recovered and quantized; its golden answers are its own pruned parent's."""
    manifest = verify_release(paths.release)
    assert manifest.quantization["prune"]["measured_sparsity"] == pytest.approx(0.5, abs=0.01)
    assert manifest.quantization["scheme"] == "w4a16" and manifest.quantization["group_size"] == 64
    golden = [json.loads(line) for line in (paths.release / "golden.jsonl").read_text().splitlines()]
    assert len(golden) == 3 and "Pruned" in (paths.release / "README.md").read_text()
