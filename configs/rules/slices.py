"""The rule on every slice of the test rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.release import short
from configs.rules.fields import Confidence, ExampleMetric, Reference, bounds, check_margin
from configs.run.metrics import METRICS
from configs.section import Section


class SliceMinimumRule(Section):
    """Every slice at least `minimum`, or no worse than a reference by more than `margin`. A slice shown to be worse
    (Holm over all slices) fails."""

    rule: Literal["slice_minimum"]
    metric: ExampleMetric
    slices: list[str] = Field(["*"], min_length=1, description="names or patterns, as in label=*")
    minimum: float | None = Field(None, description="of a metric where lower is better: the most it may be")
    reference: Reference | None = None
    margin: float | None = Field(None, ge=0, description="in the metric's own unit; with reference")
    minimum_size: int = Field(20, ge=2, description="smaller slices are named, not judged")
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def one_kind(self) -> SliceMinimumRule:
        if (self.minimum is None) == (self.reference is None) or (self.margin is None) != (self.reference is None):
            raise ValueError("minimum, or reference with margin")
        check_margin(self.metric, self.margin)
        return self

    @property
    def name(self) -> str:
        which = "every slice" if self.slices == ["*"] else f"slices {', '.join(self.slices)}"
        better = METRICS[self.metric.partition(":")[0]].higher_is_better
        limits = bounds(self.minimum, None) if better else bounds(None, self.minimum)
        what = (
            limits if self.minimum is not None else f"non-inferior to {short(str(self.reference))} by {self.margin:g}"
        )
        return f"{self.metric} of {which} {what}"
