"""Whether a gate's rules can be decided of what a run measures: told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.rules.cost import GoodputRule, LatencyRule, SizeRule
from configs.rules.fields import OF_ONE_LABEL, has_examples
from configs.rules.gate import GateConfig, Rule
from configs.rules.paired import DriftRule, NonInferiorRule, SuperiorRule
from configs.rules.quality import CalibrationRule, QuantizationRule, ThresholdRule
from configs.rules.slices import SliceMinimumRule
from configs.run.behaviour import name_of
from configs.run.config import SOURCE_LABELS, RunConfig
from configs.run.metrics import REPORTED, kinds_of
from configs.section import nearest

KINDS = {"robustness": ("robustness", "directional", "abstention"), "fairness": ("invariance",)}
PARENT = "quantize.compare_parent: true in the run"
BASELINE = "evaluate.baseline: true in the run"


class Misfit(NamedTuple):
    """A key of a rule, what stands there, and what would have to be."""

    rule: int
    key: str
    found: str
    expected: str


def misfits(rules: GateConfig, run: RunConfig) -> list[Misfit]:
    """Of all rules; empty where each can be decided."""
    return [Misfit(number, *one) for number, rule in enumerate(rules.rules) for one in problems_of(rule, run)]


def problems_of(rule: Rule, run: RunConfig) -> Iterator[tuple[str, str, str]]:
    match rule:
        case ThresholdRule():
            yield from metric_problems(rule.metric, run)
            if not rule.point and not has_examples(rule.metric):
                yield "metric", rule.metric, "point: true with it, for it is no mean over examples"
        case CalibrationRule():
            yield from metric_problems(rule.metric, run)
        case NonInferiorRule() | SuperiorRule() | SliceMinimumRule():
            yield from metric_problems(rule.metric, run)
            yield from reference_problems("reference", rule.reference, run)
            if isinstance(rule, SliceMinimumRule) and rule.metric.startswith("harness"):
                yield "metric", rule.metric, "a metric of the test rows: a harness task has no slices"
        case DriftRule():
            yield from metric_problems(rule.metric, run)
            yield from reference_problems("reference", rule.reference, run)
            ranges = {f"custom:{one.name}": one.range for one in run.evaluate.metrics}
            if ranges.get(rule.metric, (0, 0))[0] < 0:
                yield "metric", rule.metric, "one whose range begins at 0 or above: a ratio is of such means"
        case FairnessRule() if rule.metric is not None:
            if rule.column not in run.evaluate.groups:
                yield (
                    "column",
                    repr(rule.column),
                    suggestion(str(rule.column), run.evaluate.groups, "it in evaluate.groups"),
                )
            yield from label_problems("label", str(rule.label), run)
        case RobustnessRule() | FairnessRule():
            yield from behaviour_problems(rule, run)
        case QuantizationRule():
            yield from metric_problems(rule.metric, run) if rule.metric else ()
            yield from reference_problems("rule", "parent", run)
        case SizeRule():
            yield from reference_problems("relative_to", rule.relative_to, run)
        case LatencyRule() | GoodputRule():
            yield "rule", rule.rule, "no load test in a run's gate: name it in the gate: of an environment"
        case _:
            pass


def reference_problems(key: str, reference: str | None, run: RunConfig) -> Iterator[tuple[str, str, str]]:
    if reference == "base" and not run.evaluate.baseline:
        yield key, reference, BASELINE
    if reference == "parent" and not run.quantize.compare_parent:
        yield key, reference, PARENT


def behaviour_problems(rule: RobustnessRule | FairnessRule, run: RunConfig) -> Iterator[tuple[str, str, str]]:
    names = [name_of(test) for test in run.evaluate.behaviour if test.test in KINDS[rule.rule]]
    if rule.test is None and not names:
        yield "rule", rule.rule, f"a test of kind {' or '.join(KINDS[rule.rule])} in evaluate.behaviour of the run"
    if rule.test is not None and rule.test not in names:
        yield "test", repr(rule.test), suggestion(rule.test, names, "a test of that kind in evaluate.behaviour")


def metric_problems(metric: str, run: RunConfig) -> Iterator[tuple[str, str, str]]:
    if not has_examples(metric) and not run.quantize.compare_parent:
        yield "metric", metric, PARENT
    if not has_examples(metric):
        return
    settings, (source, _, name) = run.evaluate, metric.partition(":")
    if source == "custom":
        known = [f"custom:{one.name}" for one in settings.metrics]
        if metric not in known:
            yield "metric", repr(metric), suggestion(metric, known, "a metric of that name in evaluate.metrics")
    elif source.startswith("harness"):
        tasks = [one.task for one in settings.harness]
        asked = name.partition(":")[0] if source == "harness" else metric.removeprefix("harness_")
        if not any(asked == task or (source != "harness" and asked.startswith(f"{task}_")) for task in tasks):
            known = [f"harness:{task}:METRIC" for task in tasks]
            yield "metric", repr(metric), suggestion(metric, known, "that task in evaluate.harness")
    elif source in OF_ONE_LABEL:
        yield from label_problems(metric, name, run)
    elif source not in (known := measured(run)):
        yield "metric", repr(metric), suggestion(metric, known, f"a metric of task {run.task}")


def label_problems(metric: str, label: str, run: RunConfig) -> Iterator[tuple[str, str, str]]:
    kinds = {*kinds_of(run.task, run.problem)}
    if not kinds & {"label", "labels", "tags"}:
        yield "metric", repr(metric), f"a metric of task {run.task}, whose answers have no labels"
    labels = run.data.labels or SOURCE_LABELS.get(run.data.source, [])
    if kinds & {"label", "labels"} and labels and label not in labels:
        yield "metric", repr(metric), suggestion(label, labels, "one of the run's labels")


def measured(run: RunConfig) -> list[str]:
    """All that its rows and its config may give."""
    settings = run.evaluate
    names = list(dict.fromkeys(name for kind in kinds_of(run.task, run.problem) for name in REPORTED[kind]))
    lacking = {
        "valid_schema": settings.json_schema is None,
        "judge_score": settings.judge is None,
        "judge_missing": settings.judge is None,
        "judge_agreement": settings.judge is None or settings.judge.human is None,
        "perplexity": run.task == "grpo" and not settings.perplexity,
        "preference_accuracy": run.task not in ("dpo", "reward"),
        "preference_margin": run.task not in ("dpo", "reward"),
    }
    return [name for name in names if not lacking.get(name, False)]


def suggestion(name: str, known: list[str], otherwise: str) -> str:
    near = nearest(name, known)
    return f"{near!r}?" if near else f"{otherwise}{': ' + ', '.join(known) if known else ''}"
