"""The keys that several rules share, and what may stand in them."""

from __future__ import annotations

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from configs.release import REFERENCE_PATTERN
from configs.run.metrics import METRICS
from configs.section import nearest

OF_ONE_LABEL = ("precision", "recall", "f1")
ELSEWHERE = re.compile(r"(harness[:_]|custom:).+")  # what only the run's config can tell
# Figures of metrics.json that are made of no examples: they have no interval.
OF_THE_WHOLE_RUN = (
    "parent_agreement", "parent_kl_divergence", "size_ratio", "speed_ratio", "tokens_per_second",
    "parent_tokens_per_second",
)  # fmt: skip


def check_example_metric(name: str) -> str:
    base, _, label = name.partition(":")
    if ELSEWHERE.fullmatch(name):
        return name
    if base not in METRICS:
        near = nearest(base, METRICS)
        expected = f", {near}" if near else ": one of " + ", ".join(METRICS)
        raise ValueError(f"a metric of single examples{expected}, harness:TASK:METRIC or custom:NAME")
    if bool(label) != (base in OF_ONE_LABEL):
        raise ValueError(f"{base} without a label" if label else f"{base}:LABEL, which names the label it is of")
    return name


def check_figure(name: str) -> str:
    """As above, or a figure of the whole run."""
    compared = name.removeprefix("parent_").removesuffix("_change")
    return name if name in OF_THE_WHOLE_RUN else check_example_metric(compared) and name


def check_better_side(name: str) -> str:
    known = METRICS.get(name)
    if known is not None and known.higher_is_better is None:
        raise ValueError(f"a metric of which one side is better; {name} is held to a reference's by `rule: drift`")
    return name


def check_ratio(name: str) -> str:
    """A ratio is of means that are never below 0."""
    known = METRICS.get(name.partition(":")[0])
    if known is not None and (known.kind == "whole" or known.value_range[0] < 0):
        raise ValueError("a mean over examples that is never below 0, as answer_tokens")
    return name


def has_examples(name: str) -> bool:
    """Whether an interval can be made of what was measured."""
    return not (name in OF_THE_WHOLE_RUN or name.startswith("parent_") or name.endswith("_change"))


NAMES = "one of docs/evaluation.md, f1:LABEL, harness:TASK:METRIC or custom:NAME of evaluate.metrics"
ExampleMetric = Annotated[str, AfterValidator(check_example_metric), Field(description=NAMES)]
RankedMetric = Annotated[ExampleMetric, AfterValidator(check_better_side)]
RatioMetric = Annotated[ExampleMetric, AfterValidator(check_ratio)]
Figure = Annotated[
    str, AfterValidator(check_figure), Field(description=f"{NAMES}; or a figure of metrics.json, with point")
]
Point = Annotated[
    bool,
    Field(
        description="decide by the figure as it was measured, not by its interval: chance decides too, "
        "and every report says so"
    ),
]


def take_confident(values: object) -> object:
    """`confident` of tunegate 0.1: `true` is what every rule is since, `false` is `point: true`."""
    if not isinstance(values, dict) or "confident" not in values:
        return values
    kept = {name: value for name, value in values.items() if name != "confident"}
    return kept | ({"point": True} if values["confident"] is False else {})


def pointed(name: str, point: bool) -> str:
    return f"{name} (point figure)" if point else name


Reference = Annotated[
    Literal["champion", "base", "parent"] | Annotated[str, Field(pattern=REFERENCE_PATTERN)],
    Field(description="what serves, the untuned weights, the unquantized release, or any NAME@sha256:DIGEST"),
]


Confidence = Annotated[
    float,
    Field(
        gt=0.5,
        lt=1,
        description="of the two-sided interval; the gate spends half of the rest: 0.95 is a one-sided 2.5%",
    ),
]


def check_margin(metric: str, margin: float | None) -> None:
    """Of a metric whose range is known here: the harness' and the run's own are not."""
    known = METRICS.get(metric.partition(":")[0])
    low, high = known.value_range if known is not None else (-math.inf, math.inf)
    if margin is not None and margin > high - low:
        raise ValueError(f"a margin of at most {high - low:g}: {metric} lies between {low:g} and {high:g}")


def bounds(minimum: float | None, maximum: float | None) -> str:
    parts = [f">= {minimum:g}"] if minimum is not None else []
    return " and ".join(parts + ([f"<= {maximum:g}"] if maximum is not None else []))
