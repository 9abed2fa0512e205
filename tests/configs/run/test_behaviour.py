"""Behaviour tests and harness tasks as YAML holds them: what is refused before anything runs, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from configs.errors import ConfigError
from configs.loader import load
from configs.run.behaviour import WORDS, BehaviourTest, HarnessTask, Invariance, slots_in
from configs.run.config import RunConfig

pytestmark = pytest.mark.unit
ADAPTER: TypeAdapter[Any] = TypeAdapter(BehaviourTest)
PEOPLE = {"a": ["Ann", "Eve"], "b": ["Bob", "Tom"]}
TEMPLATES = {"test": "invariance", "templates": ["{name} is here."], "groups": PEOPLE}
SWAP = {"test": "invariance", "swap": [["he", "she"]]}
MORE = {"test": "directional", "direction": "up", "append": ["Great."]}
SILENCE = {"test": "abstention", "prompts": ["?!"]}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"test": "robustness", "perturb": []}, "at least 1 item"),
        ({"test": "robustness", "perturb": ["typo"]}, "'typos', 'case', 'whitespace', 'punctuation' or 'truncation'"),
        ({"test": "robustness", "perturb": ["case"], "rate": 1.5}, "less than or equal to 1"),
        ({"test": "robust"}, "'robustness', 'invariance', 'directional', 'abstention'"),
        ({"test": "invariance"}, "templates or swap"),
        (TEMPLATES | SWAP, "templates or swap"),
        ({"test": "invariance", "templates": ["{name}"]}, "two or more"),
        (TEMPLATES | {"groups": {"a": ["Ann"], "b": ["Bob", "Tom"]}}, "as many words as the others"),
        (TEMPLATES | {"groups": {"a": [], "b": []}}, "as many words as the others"),
        (TEMPLATES | {"templates": ["nobody is here."]}, "one slot that is not in fill"),
        (TEMPLATES | {"templates": ["{name} is in {city}."]}, "one slot that is not in fill"),
        (TEMPLATES | {"templates": ["{name} is here.", "{who} is here."]}, "the same one slot"),
        (TEMPLATES | {"templates": ["{name is here."]}, "a template with slots"),
        (TEMPLATES | {"templates": ["{name.__class__}"]}, "plain names"),
        (TEMPLATES | {"pattern": "("}, "a regular expression"),
        (SWAP | {"fill": {"a": ["b"]}}, "only with templates"),
        (SWAP | {"swap": [["her", "his"], ["her", "him"]]}, "each word once"),
        (SWAP | {"swap": [["he", "He"]]}, "each word once"),
        (SWAP | {"sides": ["x", "x"]}, "two names"),
        ({"test": "directional", "direction": "up"}, "append, prepend or pairs"),
        (SILENCE, "pattern or confidence_below"),
        (SILENCE | {"pattern": "no", "confidence_below": 0.5}, "pattern or confidence_below"),
        (SILENCE | {"prompts": [" "], "pattern": "no"}, "match pattern"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_what_was_expected(section: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError) as error:
        ADAPTER.validate_python(section)
    assert expected in str(error.value)


CLASSIFIER, NUMBERS, TAGGER, GPT = (
    ("sequence-classification", "single_label"),
    ("sequence-classification", "regression"),
    ("token-classification",),
    ("causal-lm",),
)


@pytest.mark.parametrize(
    ("task", "section", "expected"),
    [
        (CLASSIFIER, {"test": "robustness", "perturb": ["whitespace", "truncation"]}, None),
        (TAGGER, {"test": "robustness", "perturb": ["typos", "case"]}, None),
        (TAGGER, {"test": "robustness", "perturb": ["typos", "whitespace"]}, "not whitespace"),
        (CLASSIFIER, TEMPLATES, "label with templates"),
        (CLASSIFIER, TEMPLATES | {"label": "good"}, None),
        (CLASSIFIER, TEMPLATES | {"label": "god"}, "label one of bad, good, not 'god'"),
        (CLASSIFIER, TEMPLATES | {"label": "good", "pattern": "x"}, "no pattern"),
        (GPT, TEMPLATES | {"pattern": "yes", "system": "Say yes."}, None),
        (GPT, TEMPLATES, "pattern with templates"),
        (GPT, TEMPLATES | {"pattern": "yes", "label": "good"}, "no label with task causal-lm"),
        (NUMBERS, TEMPLATES, None),
        (NUMBERS, TEMPLATES | {"label": "good"}, "no label"),
        (TAGGER, TEMPLATES, "swap, not templates"),
        (TAGGER, SWAP, None),
        (TAGGER, SWAP | {"swap": [["New York", "Rome"]]}, "single words"),
        (CLASSIFIER, MORE, "label: whose probability"),
        (NUMBERS, MORE, None),
        (GPT, MORE, "no directional test"),
        (GPT, SILENCE | {"pattern": "cannot"}, None),
        (GPT, SILENCE | {"confidence_below": 0.5}, "pattern with task causal-lm"),
        (CLASSIFIER, SILENCE | {"confidence_below": 0.5}, None),
        (CLASSIFIER, SILENCE | {"confidence_below": 0.5, "system": "Be good."}, "no system"),
        (NUMBERS, SILENCE | {"confidence_below": 0.5}, "no abstention test"),
    ],
)
def test_a_test_must_suit_the_task(task: tuple[str, ...], section: dict[str, Any], expected: str | None) -> None:
    found = ADAPTER.validate_python(section).incompatibilities(task[0], (*task, "single_label")[1], ["bad", "good"])
    assert found == [] if expected is None else any(expected in one for one in found), found


def run_of(tmp_path: Path, evaluate: str, task: str = "sequence-classification") -> RunConfig:
    path = tmp_path / "run.yaml"
    source = "sentiment" if task == "sequence-classification" else "bfcl"
    path.write_text(
        f"name: run\ntask: {task}\nbase: {{package: x}}\ndata: {{source: {source}}}\n"
        f"train: {{max_steps: 1}}\ngate: run.yaml\nevaluate: {evaluate}\n"
    )
    return load(path, RunConfig)


@pytest.mark.parametrize(
    ("evaluate", "expected"),
    [
        (
            "{behaviour: [{test: invariance, templates: ['{name}.'], groups: names, label: god}]}",
            "label one of negative, positive, not 'god'",
        ),
        (
            "{behaviour: [{test: robustness, perturb: [case]}, {test: robustness, perturb: [typos]}]}",
            "a name of its own",
        ),
        ("{harness: [{task: hellaswag}]}", "only with task causal-lm, dpo"),
        (
            "{judge: {base_url: 'http://127.0.0.1:1/v1', model: m, prompt: '{{ answer }}', scale: [1, 5]}}",
            "only with task causal-lm, dpo",
        ),
    ],
)
def test_a_run_says_what_its_tests_should_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluate: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        run_of(Path("."), evaluate)
    assert expected in str(error.value)


def test_a_run_with_every_kind_of_test_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tests = ["{test: robustness, perturb: [typos]}", "{test: robustness, name: shout, perturb: [case], rate: 1}"]
    tests += [
        "{test: invariance, templates: ['{name}.'], groups: names, label: positive}",
        "{test: invariance, name: swapped, swap: [[he, she]]}",
    ]
    tests += [
        "{test: directional, direction: up, label: positive, append: [Great.]}",
        "{test: abstention, prompts: [qwerty], confidence_below: 0.6}",
    ]
    assert [test.test for test in run_of(Path("."), f"{{behaviour: [{', '.join(tests)}]}}").evaluate.behaviour] == [
        "robustness", "robustness", "invariance", "invariance", "directional", "abstention",
    ]  # fmt: skip
    assert run_of(Path("."), "{harness: [{task: a}, {task: b}]}", "causal-lm").evaluate.harness[1].task == "b"
    with pytest.raises(ConfigError, match="each task once"):
        run_of(Path("."), "{harness: [{task: a}, {task: a}]}", "causal-lm")


@pytest.mark.parametrize("task", ["a,b", "--tasks", "a b", "", "../x"])
def test_a_harness_task_is_one_name(task: str) -> None:
    with pytest.raises(ValidationError):
        HarnessTask(task=task)


@pytest.mark.parametrize("groups", WORDS)
def test_our_short_lists_can_be_paired(groups: str) -> None:
    test = Invariance.model_validate(
        {"test": "invariance", "templates": ["{one} of {two}"], "groups": groups, "fill": {"two": ["us"]}}
    )
    assert (
        test.slot == "one"
        and len(test.words) >= 2
        and len({word for words in test.words.values() for word in words}) == sum(map(len, test.words.values()))
    )


@given(st.text())
def test_any_template_is_read_or_refused(text: str) -> None:
    try:
        slots = slots_in(text)
    except ValueError as error:
        assert "a template" in str(error)
    else:
        text.format_map(dict.fromkeys(slots, "word"))


def test_a_wrong_perturbation_is_one_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as error:
        run_of(Path("."), "{behaviour: [{test: robustness, perturb: [typo]}]}")
    assert [problem.key for problem in error.value.problems] == ["evaluate.behaviour.0.perturb.0"], (
        "not also a list that its removal left empty"
    )
