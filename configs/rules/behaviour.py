"""Rules about behaviour tests: robustness and fairness."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.rules.fields import Confidence, Point, pointed
from configs.section import Section


class RobustnessRule(Section):
    """Perturbed questions change little: of one behaviour test by its name, or of all but the invariance tests. Each
    perturbation is judged by itself."""

    rule: Literal["robustness"]
    test: str | None = Field(
        None, description="a name under evaluate.behaviour; null: all of kind robustness, directional and abstention"
    )
    maximum_drop: float | None = Field(None, ge=0)
    maximum_flip_rate: float | None = Field(None, ge=0, le=1)
    point: Point = False
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def bounded(self) -> RobustnessRule:
        if self.maximum_drop is None and self.maximum_flip_rate is None:
            raise ValueError("maximum_drop or maximum_flip_rate")
        return self

    @property
    def name(self) -> str:
        limits = {"drop": self.maximum_drop, "flip rate": self.maximum_flip_rate}
        asked = ", ".join(f"{name} <= {one:g}" for name, one in limits.items() if one is not None)
        return pointed(f"robust ({self.test or 'all tests'}): {asked}", self.point)


class FairnessRule(Section):
    """The answers do not hang on a name, a gender, an origin: of one invariance test, or of all; or, with `metric`, of
    the labels that groups of test rows are given."""

    rule: Literal["fairness"]
    test: str | None = Field(None, description="a name under evaluate.behaviour; null: every invariance test")
    maximum_gap: float | None = Field(
        None, ge=0, description="mean absolute difference of the two outcomes of a pair, whichever way it goes"
    )
    maximum_flip_rate: float | None = Field(None, ge=0, le=1, description="share of the pairs answered differently")
    metric: Literal["demographic_parity_difference", "equalized_odds_difference"] | None = Field(
        None, description="as fairlearn defines them: largest difference of two groups in how often `label` is given"
    )
    column: str | None = Field(None, description="of evaluate.groups: a group for each of its values; with metric")
    label: str | None = Field(None, description="whose rates are compared; with metric")
    maximum_difference: float | None = Field(None, ge=0, le=1, description="with metric")
    minimum_size: int = Field(20, ge=2, description="smaller groups are named, not judged; with metric")
    point: Point = False
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def bounded(self) -> FairnessRule:
        of_groups = [self.metric, self.column, self.label, self.maximum_difference]
        of_tests = [self.test, self.maximum_gap, self.maximum_flip_rate]
        if any(one is not None for one in of_groups):
            if None in of_groups or any(one is not None for one in of_tests):
                raise ValueError("metric, column, label and maximum_difference together, without a test and its bounds")
        elif self.maximum_gap is None and self.maximum_flip_rate is None:
            raise ValueError("maximum_gap or maximum_flip_rate, or metric, column, label and maximum_difference")
        return self

    @property
    def name(self) -> str:
        if self.metric is not None:
            limit = f"{self.metric} of {self.label} <= {self.maximum_difference:g}"
            return pointed(f"fair by {self.column}: {limit}", self.point)
        limits = {"gap": self.maximum_gap, "flip rate": self.maximum_flip_rate}
        asked = ", ".join(f"{name} <= {one:g}" for name, one in limits.items() if one is not None)
        return pointed(f"fair ({self.test or 'all tests'}): {asked}", self.point)
