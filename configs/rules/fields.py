"""The keys that several rules share, and what may stand in them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from configs.release import REFERENCE_PATTERN
from configs.run.metrics import METRICS
from configs.section import nearest


def check_example_metric(name: str) -> str:
    if name.partition(":")[0] not in METRICS:
        near = nearest(name, METRICS)
        raise ValueError(f"a metric of single examples{f', {near}' if near else ': one of ' + ', '.join(METRICS)}")
    return name


ExampleMetric = Annotated[
    str, AfterValidator(check_example_metric), Field(description="one of docs/evaluation.md, or f1:LABEL")
]


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
    low, high = METRICS[metric.partition(":")[0]].value_range
    if margin is not None and margin > high - low:
        raise ValueError(f"a margin of at most {high - low:g}: {metric} lies between {low:g} and {high:g}")


def bounds(minimum: float | None, maximum: float | None) -> str:
    parts = [f">= {minimum:g}"] if minimum is not None else []
    return " and ".join(parts + ([f"<= {maximum:g}"] if maximum is not None else []))
