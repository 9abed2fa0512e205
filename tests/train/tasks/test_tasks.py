"""Every task from prepared rows to a release: trained, merged, quantized, with golden prompts that say what the model
says."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.release import verify_release
from configs.run.config import RunConfig
from configs.task import served_problem, served_task
from tests.support.prepared_rows import KINDS, of_kind, write_prepared
from train.finetune import finetune
from train.quantize import quantize

pytestmark = pytest.mark.unit
TRACKER = SimpleNamespace(run_id=None, log_metrics=lambda *_: None)
CONFIG = {
    "pairs": "BertForSequenceClassification",
    "rewards": "LlamaForSequenceClassification",
    "tags": "BertForTokenClassification",
    "many labels": "multi_label_classification",
    "numbers": "regression",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_ends_in_a_release_that_says_what_it_is(
    chat: Callable[..., RunConfig], classifier: Callable[..., RunConfig], checkout: Path, kind: str
) -> None:
    task, problem, shape, row, labels = KINDS[kind]
    config = of_kind((chat if task in ("causal-lm", "dpo", "reward") else classifier)(train={"max_steps": 6}), kind)
    paths = RunPaths.of("x")
    write_prepared(paths, Path(str(config.base.path)), shape, row, labels)
    record = finetune(config, paths, TRACKER)
    assert record["steps"] == 6 and all(math.isfinite(line["loss"]) for line in record["losses"])
    best, found = record["best_figure"], [line[record["best_by"]] for line in record["validation"]]  # type: ignore[literal-required]
    assert best == (max if record["best_by"] == "eval_entity_f1" else min)(found)
    quantize(config, paths)
    manifest = verify_release(paths.release)
    served: Any = task
    assert (manifest.task, manifest.problem, manifest.labels) == (
        served_task(served),
        served_problem(served, problem),  # type: ignore[arg-type]  # names of problems
        labels,
    )
    assert CONFIG.get(kind, "LlamaForCausalLM") in (paths.release / "config.json").read_text()
    golden = [json.loads(line) for line in (paths.release / "golden.jsonl").read_text().splitlines()]
    assert len(golden) == 3 and all(line["answer"].strip() or task == "causal-lm" for line in golden)
    asked = {
        "tags": "input_ids",
        "many labels": "probs",
        "numbers": "value",
        "pairs": "probs",
        "completions": "prompt",
        "texts": "prompt",
        "preferences": "messages",
        "rewards": "value",
    }
    assert all(asked[kind] in line for line in golden)
    if kind == "tags":
        assert all(set(line["answer"].split(" ")) <= set(labels) and len(line["confidences"]) == 4 for line in golden)
    if kind == "texts":
        assert all(row(24 + index)["text"].startswith(line["prompt"]) for index, line in enumerate(golden)), (
            "the first half of the text"
        )


@pytest.mark.parametrize(
    "section",
    [
        {"method": "full"},
        {"lora": {"rank": 4, "initialization": "pissa"}},
        {"lora": {"rank": 4, "dora": True, "loraplus_ratio": 8}},
    ],
)
def test_a_method_ends_in_the_same_kind_of_release(
    classifier: Callable[..., RunConfig], checkout: Path, section: dict[str, Any]
) -> None:
    document = classifier().model_dump()
    del document["train"]["lora"]
    config, paths = (
        of_kind(RunConfig.model_validate(document | {"train": document["train"] | section}), "tags"),
        RunPaths.of("x"),
    )
    write_prepared(paths, Path("tiny-bert"), *KINDS["tags"][2:])
    first = finetune(config, paths, TRACKER)
    assert len(first["losses"]) == 4 and finetune(config, paths, TRACKER) == first, "a finished training does nothing"
    manifest = quantize(config, paths)
    assert quantize(config, paths) == manifest == verify_release(paths.release)
    assert "BertForTokenClassification" in (paths.release / "config.json").read_text()
