"""Rules that compare with another release on the same examples."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.release import short
from configs.rules.fields import Confidence, RankedMetric, RatioMetric, Reference, check_margin
from configs.section import Section


class NonInferiorRule(Section):
    """Not worse than the reference by more than `margin`, paired on the same examples."""

    rule: Literal["non_inferior_to"]
    reference: Reference = "champion"
    metric: RankedMetric
    margin: float = Field(ge=0, description="in the metric's own unit")
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def in_unit(self) -> NonInferiorRule:
        check_margin(self.metric, self.margin)
        return self

    @property
    def name(self) -> str:
        return f"{self.metric} non-inferior to {short(self.reference)} by {self.margin:g}"


class SuperiorRule(Section):
    """Better than the reference by more than `margin`, paired on the same examples."""

    rule: Literal["superior_to"]
    reference: Reference = "champion"
    metric: RankedMetric
    margin: float = Field(0.0, ge=0, description="in the metric's own unit")
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def in_unit(self) -> SuperiorRule:
        check_margin(self.metric, self.margin)
        return self

    @property
    def name(self) -> str:
        return f"{self.metric} superior to {short(self.reference)}{f' by {self.margin:g}' if self.margin else ''}"


class DriftRule(Section):
    """The mean is neither much more nor much less than the reference's, paired on the same examples: for what is better
    neither way, as the length of answers."""

    rule: Literal["drift"]
    reference: Reference = "champion"
    metric: RatioMetric
    maximum_ratio: float = Field(gt=1, description="release by reference, or reference by release; 2: half to twice")
    confidence: Confidence = 0.95

    @property
    def name(self) -> str:
        return f"{self.metric} within {self.maximum_ratio:g} times {short(self.reference)}'s, either way"
