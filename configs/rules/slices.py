"""The rule on every slice of the test rows."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.release import short
from configs.rules.fields import Confidence, Point, RankedMetric, Reference, bounds, check_margin, pointed
from configs.run.metrics import METRICS
from configs.section import Section


class SliceMinimumRule(Section):
    """Every slice at least `minimum`, or no worse than a reference by more than `margin`: shown of each to pass, and of
    one, corrected for how many were looked at, to fail."""

    rule: Literal["slice_minimum"]
    metric: RankedMetric
    slices: list[str] = Field(["*"], min_length=1, description="names or patterns, as in label=*")
    minimum: float | None = Field(None, description="of a metric where lower is better: the most it may be")
    reference: Reference | None = None
    margin: float | None = Field(None, ge=0, description="in the metric's own unit; with reference")
    minimum_size: int = Field(20, ge=2, description="smaller slices are named, not judged")
    point: Point = False
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
        known = METRICS.get(self.metric.partition(":")[0])
        better = known is None or known.higher_is_better  # the run says it of a metric of its own
        limits = bounds(self.minimum, None) if better else bounds(None, self.minimum)
        what = (
            limits if self.minimum is not None else f"non-inferior to {short(str(self.reference))} by {self.margin:g}"
        )
        return pointed(f"{self.metric} of {which} {what}", self.point)
