"""A gate that a run could never pass is refused before anything is trained."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from statistics import NormalDist
from typing import Any, get_args

import pytest
import yaml

from configs.check import check_files
from configs.loader import load
from configs.read import release_gate_of
from configs.rules.fit import misfits
from configs.rules.gate import GateConfig
from configs.rules.paired import NonInferiorRule
from configs.run.config import RunConfig
from configs.task import Task
from eval.statistics.looks import confidence_at

pytestmark = pytest.mark.unit
SECTIONS: dict[str, Any] = {
    "name": "run",
    "task": "sequence-classification",
    "base": {"path": "tiny"},
    "data": {"source": "files", "files": ["rows.jsonl"], "labels": ["fine", "toxic"]},
    "train": {"max_steps": 1},
    "gate": "gate.yaml",
}
TESTS = [
    {"test": "robustness", "name": "typing", "perturb": ["typos"]},
    {
        "test": "invariance",
        "name": "people",
        "templates": ["I met {who}."],
        "groups": {"a": ["Ann"], "b": ["Bob"]},
        "label": "fine",
    },
]
CHAT: dict[str, Any] = {"task": "causal-lm", "data": {"source": "files", "files": ["rows.jsonl"]}}
GROUPS = {
    "rule": "fairness",
    "metric": "equalized_odds_difference",
    "column": "gender",
    "label": "toxic",
    "maximum_difference": 0.1,
}
GROUPED = {"data": SECTIONS["data"] | {"keep": ["gender"]}, "evaluate": {"groups": ["gender"]}}
HARNESS = {"harness": [{"task": "gsm8k"}]}


def found(rule: dict[str, Any], **sections: Any) -> list[str]:
    run = RunConfig.model_validate(SECTIONS | sections)
    rules = GateConfig.model_validate({"rules": [rule]})
    return [f"{one.key}: {one.found}, {one.expected}" for one in misfits(rules, run)]


@pytest.mark.parametrize(
    ("rule", "sections"),
    [
        ({"rule": "threshold", "metric": "recall:toxic", "minimum": 0.5}, {}),
        ({"rule": "threshold", "metric": "macro_f1", "minimum": 0.5}, {}),
        ({"rule": "calibration", "maximum": 0.1}, {}),
        ({"rule": "robustness", "test": "typing", "maximum_drop": 0.1}, {"evaluate": {"behaviour": TESTS}}),
        ({"rule": "fairness", "maximum_gap": 0.1}, {"evaluate": {"behaviour": TESTS}}),
        (
            {"rule": "non_inferior_to", "metric": "accuracy", "margin": 0, "reference": "base"},
            {"evaluate": {"baseline": True}},
        ),
        (
            {"rule": "threshold", "metric": "size_ratio", "maximum": 1, "point": True},
            {"quantize": {"compare_parent": True}},
        ),
        (
            {"rule": "non_inferior_to", "metric": "harness:gsm8k:exact_match", "margin": 0.1},
            CHAT | {"evaluate": HARNESS},
        ),
        ({"rule": "threshold", "metric": "harness_gsm8k_exact_match", "minimum": 0}, CHAT | {"evaluate": HARNESS}),
        ({"rule": "parity"}, {}),
        ({"rule": "drift", "metric": "answer_tokens", "maximum_ratio": 1.5}, CHAT),
        ({"rule": "non_inferior_to", "metric": "refusal_rate", "margin": 0.05}, CHAT),
        ({"rule": "drift", "metric": "latency_seconds", "maximum_ratio": 2}, {}),
        ({"rule": "threshold", "metric": "prompt_tokens", "maximum": 100}, {}),
        (GROUPS, GROUPED),
    ],
)
def test_what_the_run_measures_may_be_asked_for(rule: dict[str, Any], sections: dict[str, Any]) -> None:
    assert found(rule, **sections) == []


@pytest.mark.parametrize(
    ("rule", "sections", "expected"),
    [
        (
            {"rule": "threshold", "metric": "exact_match", "minimum": 0.5},
            {},
            "a metric of task sequence-classification",
        ),
        ({"rule": "threshold", "metric": "recall:toxik", "minimum": 0.5}, {}, "'toxic'?"),
        ({"rule": "threshold", "metric": "f1:x", "minimum": 0.5}, CHAT, "no labels"),
        ({"rule": "threshold", "metric": "custom:polite", "minimum": 0.5}, {}, "evaluate.metrics"),
        ({"rule": "threshold", "metric": "size_ratio", "maximum": 1}, {}, "compare_parent: true"),
        (
            {"rule": "threshold", "metric": "size_ratio", "maximum": 1},
            {"quantize": {"compare_parent": True}},
            "point: true",
        ),
        ({"rule": "threshold", "metric": "judge_score", "minimum": 1}, CHAT, "a metric of task causal-lm"),
        ({"rule": "superior_to", "metric": "accuracy", "reference": "base"}, {}, "evaluate.baseline: true"),
        ({"rule": "quantization", "minimum_agreement": 0.9}, {}, "compare_parent: true"),
        ({"rule": "size", "relative_to": "parent", "maximum_ratio": 1}, {}, "compare_parent: true"),
        ({"rule": "robustness", "maximum_drop": 0.1}, {}, "evaluate.behaviour"),
        ({"rule": "robustness", "test": "typnig", "maximum_drop": 1}, {"evaluate": {"behaviour": TESTS}}, "'typing'?"),
        ({"rule": "fairness", "test": "typing", "maximum_gap": 1}, {"evaluate": {"behaviour": TESTS}}, "people"),
        (
            {"rule": "non_inferior_to", "metric": "harness:gms8k:acc", "margin": 0},
            CHAT | {"evaluate": HARNESS},
            "harness:gsm8k:METRIC",
        ),
        (
            {"rule": "slice_minimum", "metric": "harness:gsm8k:acc", "minimum": 0},
            CHAT | {"evaluate": HARNESS},
            "no slices",
        ),
        ({"rule": "latency", "metric": "latency_p95_ms", "maximum": 9}, {}, "an environment"),
        (GROUPS, {}, "it in evaluate.groups"),
        (GROUPS | {"column": "gendre"}, GROUPED, "'gender'?"),
        (GROUPS | {"label": "toxix"}, GROUPED, "'toxic'?"),
        ({"rule": "drift", "metric": "answer_tokens", "maximum_ratio": 2}, {}, "'prompt_tokens'?"),
        (
            {"rule": "drift", "metric": "answer_tokens", "maximum_ratio": 2, "reference": "base"},
            CHAT,
            "evaluate.baseline: true",
        ),
    ],
)
def test_what_it_does_not_measure_is_told_with_what_would_have_to_be(
    rule: dict[str, Any], sections: dict[str, Any], expected: str
) -> None:
    told = found(rule, **sections)
    assert told and expected in told[0]


def test_check_names_the_gate_file_the_line_and_the_rule_of_every_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("{}")
    Path("tiny").mkdir()
    Path("run.yaml").write_text(
        "name: run\ntask: sequence-classification\nbase: {path: tiny}\n"
        "data: {source: files, files: [rows.jsonl]}\ntrain: {max_steps: 1}\ngate: gate.yaml\n"
    )
    Path("gate.yaml").write_text(
        "rules:\n  - {rule: threshold, metric: exact_match, minimum: 0.5}\n  - {rule: parity}\n"
        "  - {rule: fairness, maximum_gap: 0.1}\n"
    )
    problems = check_files([Path("run.yaml")], [])
    assert [(one.file, one.line) for one in problems] == [("gate.yaml", 2), ("gate.yaml", 4)]
    assert "exact_match >= 0.5" in problems[0].key and "fair (all tests)" in problems[1].key


@pytest.mark.parametrize("task", get_args(Task))
def test_the_smoke_gate_is_one_that_a_run_of_any_task_can_pass(task: Task) -> None:
    rules = GateConfig.model_validate(yaml.safe_load(Path("configs/gates/smoke.yaml").read_text(encoding="utf8")))
    data = SECTIONS["data"] if task == "sequence-classification" else CHAT["data"]
    train = {"max_steps": 1} | ({"reward": [{"metric": "exact_match"}]} if task == "grpo" else {})
    run = RunConfig.model_validate(SECTIONS | {"task": task, "data": data, "train": train})
    assert rules.rules and misfits(rules, run) == []


def test_the_safety_gate_fits_a_run_as_the_docs_write_it_and_the_harness_has_its_figures() -> None:
    """The tasks are those of the pinned harness, each with the metric that the gate names."""
    (example,) = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", Path("docs/gate.md").read_text(encoding="utf8"), re.DOTALL)
        if "configs/gates/safety.yaml" in block
    ]
    sections = yaml.safe_load(example)
    rules = GateConfig.model_validate(yaml.safe_load(Path(sections["gate"]).read_text(encoding="utf8")))
    run = RunConfig.model_validate(SECTIONS | CHAT | sections)
    assert misfits(rules, run) == []
    without = run.model_copy(update={"evaluate": run.evaluate.model_copy(update={"harness": [], "baseline": False})})
    assert len({one.rule for one in misfits(rules, without)}) == 4
    metrics = [str(getattr(one, "metric", None)).split(":") for one in rules.rules]
    named = {parts[1]: parts[2] for parts in metrics if parts[0] == "harness"}
    tasks = Path(str(importlib.metadata.distribution("lm_eval").locate_file("lm_eval/tasks")))
    assert {*named} == {one.task for one in run.evaluate.harness}
    for task, metric in named.items():
        (path,) = tasks.rglob(f"{task}.yaml")
        assert f"task: {task}\n" in (text := path.read_text(encoding="utf8")) and f"- metric: {metric}\n" in text


def test_every_shipped_run_can_be_decided_by_its_gate() -> None:
    paths = sorted(Path("configs/finetune").glob("*.yaml"))
    assert len(paths) >= 6 and [str(one) for one in check_files(paths, [])] == []


@pytest.mark.parametrize(
    ("run", "gate"),
    [
        *((path.stem, None) for path in sorted(Path("configs/finetune").glob("*.yaml"))),
        ("calls-v2", "configs/gates/forgetting.yaml"),  # as benchmarks/eval/judged.py asks it
    ],
)
def test_a_copy_of_the_champion_passes_by_the_rows_of_the_shipped_run(run: str, gate: str | None) -> None:
    """Of rows that are all alike, right or wrong, the interval at the first look still reaches z^2 / (n + z^2) down
    (Tango 1998, no row that differs): a margin within it passes nothing but what is better."""
    config = load(Path(f"configs/finetune/{run}.yaml"), RunConfig)
    rows = config.data.test_rows
    z = NormalDist().inv_cdf(1 - (1 - confidence_at(0.95, 1)) / 2)
    for rule in load(Path(gate or release_gate_of(config.production) or config.gate), GateConfig).rules:
        if isinstance(rule, NonInferiorRule) and ":" not in rule.metric and rule.margin:
            assert rule.margin > z**2 / (rows + z**2), rule.name
