"""Which method fits which task: what cannot be merged, served or run is refused by `check`, with what was expected."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from configs.run.config import RunConfig
from configs.task import served_task
from configs.training.lora import Lora

pytestmark = pytest.mark.unit
SOURCES = {
    "bfcl": "causal-lm",
    "bfcl_preferences": "dpo",
    "sentiment": "sequence-classification",
    "ner_finance": "token-classification",
}
FILES = {"source": "files", "files": ["rows.jsonl"]}


def run(
    task: str = "causal-lm", data: dict[str, Any] | None = None, problem: str = "single_label", **train: Any
) -> RunConfig:
    """A config as a manifest's copy is read: no file is looked up."""
    sections = {
        "name": "x",
        "task": task,
        "problem": problem,
        "base": {"package": "p"},
        "data": data or FILES,
        "train": {"max_steps": 1} | train,
    }
    return RunConfig.model_validate(sections | {"gate": "gate.yaml"})


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"method": "full", "lora": {"rank": 8}}, "no train.lora with train.method full"),
    ({"method": "qlora", "lora": {"initialization": "pissa"}}, "a packed base cannot be changed"),
    ({"method": "qlora", "lora": {"initialization": "loftq"}}, "a packed base cannot be changed"),
    ({"task": "dpo", "lora": {"initialization": "pissa"}}, "its reference is the model with the adapter off"),
    ({"task": "dpo", "lora": {"bias": "all"}}, "its reference is the model with the adapter off"),
    ({"lora": {"dora": True, "initialization": "pissa"}}, "DoRA's magnitudes"),
    ({"task": "dpo", "lora": {"target_modules": ["q_proj", "lm_head"]}}, "without lm_head"),
    ({"task": "dpo", "lora": {"target_modules": ".*(q_proj|head)"}}, "without lm_head"),
    ({"lora": {"target_modules": "(q_proj"}}, "regular expressions that compile"),
    ({"lora": {"rank_pattern": {"q_proj": 0}}}, "ranks and alphas from 1 to 1024"),
    (
        {"optimizer": "adafactor", "lora": {"loraplus_ratio": 16}},
        "train.optimizer adamw with train.lora.loraplus_ratio",
    ),
    ({"problem": "multi_label"}, "problem multi_label only with task sequence-classification"),
    ({"problem": "regression", "task": "sequence-classification", "data": {"source": "sentiment"}}, "rows of your own"),
]


@pytest.mark.parametrize(("sections", "expected"), REFUSED)
def test_what_cannot_be_is_refused_with_what_was_expected(sections: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected.replace("(", r"\(")):
        run(**sections)


@pytest.mark.parametrize("source", SOURCES)
def test_a_source_has_its_own_task(source: str) -> None:
    assert run(SOURCES[source], {"source": source}).task == SOURCES[source]
    for task in set(SOURCES.values()) - {SOURCES[source]}:
        with pytest.raises(ValidationError, match=f"task {SOURCES[source]}( or .*)? with data.source {source}"):
            run(task, {"source": source})


def test_a_sources_rows_also_serve_the_tasks_that_learn_from_the_same_rows() -> None:
    assert run("reward", {"source": "bfcl_preferences"}).task == "reward"
    assert run("grpo", {"source": "bfcl"}, reward=[{"metric": "exact_match"}]).task == "grpo"


@pytest.mark.parametrize("task", SOURCES.values())
@pytest.mark.parametrize("method", ["lora", "qlora", "full"])
def test_every_task_has_every_method(task: str, method: str) -> None:
    config = run(task, method=method)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config, "as it is read back from a manifest"


def test_a_preference_run_is_served_as_a_chat_model() -> None:
    assert [served_task(task) for task in ("dpo", "causal-lm", "grpo", "token-classification", "reward")] == [
        "causal-lm",
        "causal-lm",
        "causal-lm",
        "token-classification",
        "sequence-classification",
    ]  # type: ignore[arg-type]  # task names


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_pattern_makes_it_fall_over(target: str, pattern: str) -> None:
    try:
        assert Lora(target_modules=target, rank_pattern={pattern: 4}).rank_pattern == {pattern: 4}
    except ValidationError as error:
        assert "regular expressions that compile" in str(error)
