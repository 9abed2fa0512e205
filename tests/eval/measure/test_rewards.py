"""A reward is the very figure that the gate would have of the answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.errors import InputError
from configs.run.config import RunConfig
from eval.measure.rewards import make_rewards
from tests.configs.training.test_lora import FILES
from tests.support.fake_openai import Fake, serving

pytestmark = pytest.mark.unit
CALL = json.dumps({"name": "f", "accepted": {"x": [1, 2]}})
TURNS = [{"role": "user", "content": "which?"}, {"role": "assistant", "content": "this one"}]
ROW = {"id": "1", "messages": TURNS, "reference": "this one"}


def config(*metrics: str, train: dict[str, Any] | None = None, **evaluate: Any) -> RunConfig:
    sections = {
        "name": "x",
        "task": "grpo",
        "base": {"package": "p"},
        "data": FILES,
        "train": {"max_steps": 1, "reward": [{"metric": metric} for metric in metrics]} | (train or {}),
    }
    return RunConfig.model_validate(sections | {"evaluate": evaluate, "gate": "gate.yaml"})


@pytest.mark.parametrize(
    ("metric", "reference", "answers", "wanted"),
    [
        ("exact_match", "this one", ["this  one", "this one!", ""], [1.0, 0.0, 0.0]),
        ("exact_match", CALL, ["f(x=2)", '{"name": "f", "arguments": {"x": 1}}', "f(x=3)", "f("], [1.0, 1.0, 0.0, 0.0]),
        ("name_match", CALL, ["f(x=3)", "g(x=1)"], [1.0, 0.0]),
        ("name_match", "no call", ["f(x=3)"], [None]),
        ("field_f1", '{"a": 1, "b": 2}', ['{"a": 1, "b": 2}', '{"a": 1}', "{"], [1.0, pytest.approx(2 / 3), 0.0]),
        ("token_f1", "this one", ["This one.", "that one", ""], [1.0, 0.5, 0.0]),
        ("sentence_chrf", "this one", ["this one", "zzz"], [pytest.approx(100), 0.0]),
    ],
)
def test_a_metric_says_of_an_answer_what_the_gate_says(
    metric: str, reference: str, answers: list[str], wanted: list[Any]
) -> None:
    rewards = make_rewards(config(metric))
    assert rewards is not None
    assert rewards([ROW | {"reference": reference}] * len(answers), answers) == {metric: wanted}


def test_a_schema_and_a_match_are_rewarded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("schema.json").write_text('{"type": "object", "required": ["a"]}', encoding="utf8")
    rewards = make_rewards(config("valid_schema", "exact_match", json_schema="schema.json"))
    assert rewards is not None
    found = rewards([ROW | {"reference": '{"a": 1}'}] * 3, ['{"a": 1}', '{"a": 2}', '{"b": 1}'])
    assert found == {"valid_schema": [1.0, 1.0, 0.0], "exact_match": [1.0, 0.0, 0.0]}


def test_a_judge_scores_each_answer_once_and_its_silence_is_no_score() -> None:
    def says(body: dict[str, Any]) -> list[str]:
        asked = body["messages"][0]["content"]
        return ["4"] if asked.endswith("this one") else ["I", " cannot", " say"]

    with serving(Fake(answer=says)) as fake:
        judge = {
            "base_url": f"{fake.base_url}/v1",
            "model": "m",
            "prompt": "{{ question }} {{ answer }}",
            "scale": [1, 5],
        }
        rewards = make_rewards(config("judge_score", judge=judge))
        assert rewards is not None
        assert rewards([ROW] * 3, ["this one", "that one", "this one"]) == {"judge_score": [4.0, None, 4.0]}
        assert len(fake.bodies) == 2, "the same answer to the same question is asked about once"
        assert rewards([ROW], ["this one"]) == {"judge_score": [4.0]} and len(fake.bodies) == 2


def test_a_judges_key_is_missed_before_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    judge = {"base_url": "https://judge.example/v1", "model": "m", "prompt": "{{ answer }}", "scale": [1, 5]}
    with pytest.raises(InputError, match="JUDGE_KEY"):
        make_rewards(config("judge_score", judge=judge | {"api_key_variable": "JUDGE_KEY"}))


REFUSED: list[tuple[tuple[str, ...], dict[str, Any], str]] = [
    ((), {}, "train.reward exactly with task grpo"),
    (("exact_match", "exact_match"), {}, "train.reward with each metric once"),
    (("valid_schema",), {}, "evaluate.json_schema with train.reward valid_schema"),
    (("judge_score",), {}, "evaluate.judge with train.reward judge_score"),
    (("accuracy",), {}, "'exact_match'"),
    (("exact_match",), {"batch_size": 12}, r"a multiple of train.grpo.generations \(8\): they count answers"),
    (("exact_match",), {"batch_size": 4, "grpo": {"generations": 1}}, "greater than or equal to 2"),
    (("exact_match",), {"packing": "sequence"}, "train.packing auto or none"),
    (
        ("exact_match",),
        {"grpo": {"beta": 0.1}, "lora": {"initialization": "pissa"}},
        "its reference is the model with the adapter off",
    ),
]


@pytest.mark.parametrize(("metrics", "train", "expected"), REFUSED)
def test_a_reward_that_cannot_be_given_is_refused(
    metrics: tuple[str, ...], train: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ValidationError, match=expected):
        config(*metrics, train=train)


def test_other_tasks_have_no_reward() -> None:
    raw = config("exact_match").model_dump() | {"task": "causal-lm"}
    with pytest.raises(ValidationError, match=r"train.reward exactly with task grpo"):
        RunConfig.model_validate(raw)
    assert make_rewards(RunConfig.model_validate(raw | {"train": {"max_steps": 1}})) is None
