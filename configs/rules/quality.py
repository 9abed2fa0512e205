"""Rules: what a release must show. One YAML file is a list of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.rules.fields import Confidence, Figure, Point, RankedMetric, bounds, pointed, take_confident
from configs.section import Section


class ThresholdRule(Section):
    """An absolute bound on one metric, which its interval must keep to."""

    rule: Literal["threshold"]
    metric: Figure
    minimum: float | None = None
    maximum: float | None = None
    point: Point = False
    confidence: Confidence = 0.95

    @model_validator(mode="before")
    @classmethod
    def take_old_keys(cls, values: object) -> object:
        return take_confident(values)

    @model_validator(mode="after")
    def bounded(self) -> ThresholdRule:
        if self.minimum is None and self.maximum is None:
            raise ValueError("minimum or maximum")
        return self

    @property
    def name(self) -> str:
        return pointed(f"{self.metric} {bounds(self.minimum, self.maximum)}", self.point)


class CalibrationRule(Section):
    """Stated probabilities may be trusted."""

    rule: Literal["calibration"]
    metric: Literal["expected_calibration_error", "brier"] = "expected_calibration_error"
    maximum: float = Field(ge=0, le=1)
    point: Point = False
    confidence: Confidence = 0.95

    @model_validator(mode="before")
    @classmethod
    def take_old_keys(cls, values: object) -> object:
        return take_confident(values)

    @property
    def name(self) -> str:
        return pointed(f"{self.metric} {bounds(None, self.maximum)}", self.point)


class ParityRule(Section):
    """Served answers equal the trainer's own within the run's stated tolerance."""

    rule: Literal["parity"]

    @property
    def name(self) -> str:
        return "served answers match the trainer's own"


class QuantizationRule(Section):
    """The release answers as its own unquantized parent does (quantize.compare_parent: true)."""

    rule: Literal["quantization"]
    minimum_agreement: float | None = Field(None, ge=0, le=1, description="share of the test rows answered alike")
    maximum_kl_divergence: float | None = Field(None, ge=0, description="nats; of a GPT a lower bound")
    metric: RankedMetric | None = None
    maximum_drop: float | None = Field(None, ge=0, description="of `metric`, in its own unit")
    point: Point = False
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def bounded(self) -> QuantizationRule:
        if (self.metric is None) != (self.maximum_drop is None):
            raise ValueError("metric exactly with maximum_drop")
        if self.minimum_agreement is None and self.maximum_kl_divergence is None and self.metric is None:
            raise ValueError("minimum_agreement, maximum_kl_divergence or metric with maximum_drop")
        return self

    @property
    def name(self) -> str:
        parts = [f"agreement {bounds(self.minimum_agreement, None)}"] if self.minimum_agreement is not None else []
        parts += (
            [f"KL divergence {bounds(None, self.maximum_kl_divergence)}"]
            if self.maximum_kl_divergence is not None
            else []
        )
        parts += [f"{self.metric} drop {bounds(None, self.maximum_drop)}"] if self.metric is not None else []
        return pointed(f"quantization: {', '.join(parts)}", self.point)
