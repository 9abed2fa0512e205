"""RunConfig: what it refuses and why, what it keeps, and that nothing at all makes it fall over."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.check import export
from configs.rows.data import Data
from configs.run.base import BaseWeights
from configs.run.config import RunConfig
from configs.run.evaluate import Evaluate, Parity
from configs.run.quantize import Quantize
from configs.run.serving import Serving
from configs.section import Section, stay_inside
from configs.training.lora import Lora
from configs.training.train import Train
from tests.paths import ROOT
from tests.support.run_yaml import GOOD, changed, checkout

__all__ = ["checkout"]
pytestmark = [pytest.mark.unit, pytest.mark.usefixtures("checkout")]
STALLS = "max_steps of at least (early_stopping_patience + 1) times eval_every_steps"
WRONG_COMBINATIONS = [
    ("base", {}, "exactly one of package, path, mlflow or hub"),
    ("base", {"package": "p", "path": "p"}, "exactly one of package, path, mlflow or hub"),
    ("train", {}, "exactly one of epochs or max_steps"),
    ("train", {"epochs": 1, "max_steps": 1}, "exactly one of epochs or max_steps"),
    ("data", {"source": "files"}, "files exactly when source is files"),
    ("data", {"source": "bfcl", "files": ["rows.jsonl"]}, "files exactly when source is files"),
    (
        "train",
        {"max_steps": 9, "schedule": "cosine_with_min_lr"},
        "min_learning_rate_ratio exactly when schedule is cosine_with_min_lr or warmup_stable_decay",
    ),
    (
        "train",
        {"max_steps": 9, "min_learning_rate_ratio": 0.1},
        "min_learning_rate_ratio exactly when schedule is cosine_with_min_lr or warmup_stable_decay",
    ),
    ("train", {"max_steps": 9, "decay_ratio": 0.1}, "decay_ratio exactly when schedule is warmup_stable_decay"),
    (
        "train",
        {"max_steps": 9, "schedule": "warmup_stable_decay", "min_learning_rate_ratio": 0.1, "decay_ratio": 0.99},
        "warmup_ratio and decay_ratio of at most 1 together",
    ),
    (
        "train",
        {"max_steps": 59, "eval_every_steps": 20, "early_stopping_patience": 2},
        STALLS,
    ),
    (
        "train",
        {"max_steps": 9, "attention": "flash_attention_2", "dtype": "float32"},
        "dtype auto, bfloat16 or float16 with attention flash_attention_2, which has no float32",
    ),
    ("train", {"max_steps": 5, "early_stopping_patience": 5}, STALLS),
    (
        "train",
        {"max_steps": 9, "best_by": "metric"},
        "train.best_by auto or loss with task causal-lm: validation writes no answers",
    ),
    (
        "train",
        {"max_steps": 9, "lora": {"loraplus_ratio": 4, "modules_to_save": ["lm_head"]}},
        "no train.lora.modules_to_save with train.lora.loraplus_ratio: its rates are those of A and B",
    ),
    ("train", {"max_steps": 9, "dtype": "float16"}, "a GPU with train.dtype float16"),
    ("train", {"max_steps": 9, "optimizer": "paged_adamw"}, "a GPU with train.optimizer paged_adamw"),
    ("train", {"max_steps": 9, "method": "qlora"}, "a GPU with train.method qlora"),
    ("train", {"max_steps": 9, "lora": {"initialization": "loftq"}}, "a GPU with train.lora.initialization loftq"),
    ("train", {"max_steps": 9, "compile": True}, "a GPU with train.compile true"),
    (
        "train",
        {"max_steps": 9, "activation_offload": True, "gradient_checkpointing": True},
        "a GPU with train.activation_offload true",
    ),
    (
        "train",
        {"max_steps": 9, "activation_offload": True},
        "gradient_checkpointing true with activation_offload: it says what of a layer is kept",
    ),
    ("train", {"max_steps": 9, "preference": {"method": "kto"}}, "train.preference.method only with task dpo"),
    ("train", {"max_steps": 9, "grpo": {"beta": 0.1}}, "train.grpo only with task grpo"),
    ("task", "sequence-classification", "task causal-lm or grpo with data.source bfcl"),
    ("data", {"source": "sentiment"}, "task sequence-classification with data.source sentiment"),
    ("data.max_tokens", 513, "serving.max_model_len of at least data.max_tokens"),
    ("serving", {"max_model_len": 159}, "serving.max_model_len of at least data.max_tokens"),
]
WRONG_VALUES: dict[str, list[Any]] = {
    "name": ["", "Demo", ".hidden", "a/b", "../a", "a b", "a" * 64, 3],
    "task": ["translation"],
    "data.max_rows": [9, 10**30, 1.5],
    "data.seed": [-1, 2**32],
    "data.test_rows": [0],
    "train.learning_rate": [0, 1.1, float("nan"), float("inf"), "fast"],
    "train.warmup_ratio": [-0.1, 1],
    "train.lora.rank": [0, 1025],
    "train.lora.dropout": [1],
    "quantize.scheme": ["int4"],
    "serving.kv_cache_gib": [0],
    "evaluate.parity.min_agreement": [-0.1, 1.1],
    "evaluate.parity.max_difference": [-0.1, float("nan")],
}
RIGHT_VALUES: dict[str, list[Any]] = {
    "name": ["a", "a" * 63, "calls-v1.2_b"],
    "data.max_tokens": [8, 512],
    "data.seed": [0, 2**32 - 1],
    "train.learning_rate": [1, 1e-9],
}


def validate(config: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(config, context={"root": Path(".")})


@pytest.mark.parametrize(("key", "value", "why"), WRONG_COMBINATIONS)
def test_a_combination_that_cannot_be_is_refused_for_its_one_reason(key: str, value: Any, why: str) -> None:
    with pytest.raises(ValidationError) as caught:
        validate(changed(key, value))
    assert [error["msg"] for error in caught.value.errors()] == [f"Value error, {why}"]


@pytest.mark.parametrize(
    ("packing", "refused"), [("auto", False), ("none", False), ("batch", True), ("sequence", True)]
)
def test_only_a_language_models_rows_are_packed(packing: str, refused: bool) -> None:
    found = GOOD | {
        "task": "sequence-classification",
        "data": {"source": "sentiment"},
        "train": {"max_steps": 4, "packing": packing},
    }
    if not refused:
        assert validate(found).train.packing == packing
        return
    with pytest.raises(ValidationError, match=r"train\.packing auto or none with task sequence-classification"):
        validate(found)


@pytest.mark.parametrize(
    ("task", "problem", "key"),
    [
        ("sequence-classification", "multi_label", "label_smoothing"),
        ("sequence-classification", "regression", "label_smoothing"),
        ("dpo", "single_label", "label_smoothing"),
        ("dpo", "single_label", "neftune_alpha"),
    ],
)
def test_what_a_tasks_loss_cannot_have_is_refused(task: str, problem: str, key: str) -> None:
    own = {"task": task, "problem": problem, "data": {"source": "files", "files": ["rows.jsonl"]}}
    with pytest.raises(ValidationError, match=f"train.{key}"):
        validate(GOOD | own | {"train": {"max_steps": 4, key: 0.1}})
    validate(GOOD | own | {"train": {"max_steps": 4}})


@pytest.mark.parametrize("task", ["causal-lm", "dpo", "reward", "sequence-classification", "token-classification"])
@pytest.mark.parametrize(("key", "value"), [("train_on", "last"), ("long", "chunk")])
def test_a_key_that_one_task_alone_reads_is_refused_with_the_others(task: str, key: str, value: str) -> None:
    config = GOOD | {"task": task, "data": {"source": "files", "files": ["rows.jsonl"], key: value}}
    if task == "causal-lm":
        assert getattr(validate(config).data, key) == value
        return
    with pytest.raises(ValidationError, match=f"data.{key} {value} only with task causal-lm"):
        validate(config)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG_VALUES.items() for value in values])
def test_a_value_out_of_bounds_is_refused_by_its_key(key: str, value: Any) -> None:
    with pytest.raises(ValidationError) as caught:
        validate(changed(key, value))
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [key]


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in RIGHT_VALUES.items() for value in values])
def test_the_bounds_themselves_are_good(key: str, value: Any) -> None:
    validate(changed(key, value))


@pytest.mark.parametrize("base", [{"package": "p"}, {"path": "p"}])
@pytest.mark.parametrize("length", [{"epochs": 0.5}, {"max_steps": 1}])
@pytest.mark.parametrize("task", ["causal-lm", "sequence-classification"])
def test_rows_of_ones_own_fit_either_task_base_and_length(
    base: dict[str, Any], length: dict[str, Any], task: str
) -> None:
    config = validate(
        GOOD | {"base": base, "train": length, "task": task, "data": {"source": "files", "files": ["rows.jsonl"]}}
    )
    assert config.model_dump(include={"train": set(length)}) == {"train": length}


@pytest.mark.parametrize("path", ["/etc/passwd", "../gate.yaml", "a/../../gate.yaml", "a/.."])
@pytest.mark.parametrize("key", ["gate", "base", "data"])
def test_paths_out_of_the_checkout_are_refused_before_they_are_looked_at(key: str, path: str) -> None:
    value = {"gate": path, "base": {"path": path}, "data": {"source": "files", "files": ["rows.jsonl", path]}}[key]
    with pytest.raises(ValidationError, match="a path inside the checkout"):
        validate(GOOD | {key: value})


@given(st.lists(st.sampled_from(["..", ".", "", "a", "b.yaml", "...", " .."]), max_size=6).map("/".join))
def test_a_path_that_is_let_through_stays_inside(path: str) -> None:
    if path.startswith("/") or ".." in path.split("/"):
        with pytest.raises(ValueError, match="inside the checkout"):
            stay_inside(path)
    else:
        assert os.path.normpath(f"/checkout/{stay_inside(path)}").startswith("/checkout")


def test_files_are_looked_for_in_a_checkout_and_not_in_a_copy_of_the_config_elsewhere() -> None:
    with pytest.raises(ValidationError, match="a file or folder that exists"):
        validate(changed("gate", "none.yaml"))
    assert RunConfig.model_validate(changed("gate", "none.yaml")).gate == "none.yaml"


@pytest.mark.parametrize("section", [RunConfig, BaseWeights, Data, Train, Lora, Quantize, Serving, Evaluate, Parity])
def test_every_section_refuses_keys_it_does_not_know(section: type[Section]) -> None:
    with pytest.raises(ValidationError) as caught:
        section.model_validate({"zzz": 1})
    assert ("extra_forbidden", ("zzz",)) in [(error["type"], error["loc"]) for error in caught.value.errors()]


def test_a_config_cannot_be_changed_once_read() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        validate(GOOD).train.max_steps = 5  # type: ignore[misc]


@given(st.floats(1e-9, 1), st.integers(1, 1024), st.integers(8, 512), st.sampled_from([None, 10, 10**8]))
def test_the_resolved_config_reads_back_as_itself(rate: float, rank: int, tokens: int, rows: int | None) -> None:
    train = {"max_steps": 4, "learning_rate": rate, "lora": {"rank": rank}}
    config = validate(GOOD | {"train": train, "data": {"source": "bfcl", "max_tokens": tokens, "max_rows": rows}})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config == validate(config.model_dump())


def test_the_schemas_that_editors_use_are_those_of_today(tmp_path: Path) -> None:
    export(tmp_path / "schema")
    written, shipped = (
        {path.name: path.read_bytes() for path in folder.iterdir()}
        for folder in (tmp_path / "schema", ROOT / "configs/schema")
    )
    assert written == shipped and written.keys() == {
        "run.json",
        "gate.json",
        "deploy.json",
        "verdict.json",
        "smoke.json",
    }


def test_a_task_that_vllm_cannot_serve_is_refused_with_what_can_be_done() -> None:
    with pytest.raises(ValidationError, match=r"causal-lm with data.format squad.*no model with a head"):
        RunConfig.model_validate(GOOD | {"task": "question-answering"})
