"""Rules: what a release must show. One YAML file is a list of them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from configs.environment.config import REFERENCE_PATTERN
from configs.rules.cost import GoodputRule, LatencyRule, SizeRule, bounds
from configs.run.evaluate import METRICS
from configs.section import Section


def of_examples(name: str) -> str:
    if name.partition(":")[0] not in METRICS:
        near = get_close_matches(name, METRICS, n=1)
        raise ValueError(f"a metric of single examples{f', {near[0]}' if near else ': one of ' + ', '.join(METRICS)}")
    return name


ExampleMetric = Annotated[str, AfterValidator(of_examples), Field(description="one of docs/evaluation.md, or f1:LABEL")]
Reference = Annotated[
    Literal["champion", "base", "parent"] | Annotated[str, Field(pattern=REFERENCE_PATTERN)],
    Field(description="what serves, the untuned weights, the unquantized release, or any NAME@sha256:DIGEST"),
]
Confidence = Annotated[float, Field(gt=0.5, lt=1, description="of the two-sided interval; the gate spends half of the rest: 0.95 is a one-sided 2.5%")]


def check_margin(metric: str, margin: float | None) -> None:
    if margin is not None and margin > 1 and METRICS[metric.partition(":")[0]].unit_interval:
        raise ValueError(f"a margin of at most 1: {metric} lies between 0 and 1")


def short(reference: str) -> str:
    """A digest by its first twelve digits."""
    name, _, digest = reference.partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name


class ThresholdRule(Section):
    """An absolute bound on one metric, which its point estimate must meet; `confident`: its whole interval."""

    rule: Literal["threshold"]
    metric: str
    minimum: float | None = None
    maximum: float | None = None
    confident: bool = Field(False, description="the interval, not only the figure, must lie inside; what spans the bound is inconclusive")
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def bounded(self) -> ThresholdRule:
        if self.minimum is None and self.maximum is None:
            raise ValueError("minimum or maximum")
        if self.confident:
            of_examples(self.metric)
        return self

    @property
    def name(self) -> str:
        return f"{self.metric} {bounds(self.minimum, self.maximum)}{' confidently' if self.confident else ''}"


class NonInferiorRule(Section):
    """Not worse than the reference by more than `margin`, paired on the same examples."""

    rule: Literal["non_inferior_to"]
    reference: Reference = "champion"
    metric: ExampleMetric
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
    metric: ExampleMetric
    margin: float = Field(0.0, ge=0, description="in the metric's own unit")
    confidence: Confidence = 0.95

    @model_validator(mode="after")
    def in_unit(self) -> SuperiorRule:
        check_margin(self.metric, self.margin)
        return self

    @property
    def name(self) -> str:
        return f"{self.metric} superior to {short(self.reference)}{f' by {self.margin:g}' if self.margin else ''}"


class SliceMinimumRule(Section):
    """Every slice at least `minimum`, or no worse than a reference by more than `margin`. A slice shown to be worse (Holm over all slices) fails."""

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
        what = limits if self.minimum is not None else f"non-inferior to {short(str(self.reference))} by {self.margin:g}"
        return f"{self.metric} of {which} {what}"


class CalibrationRule(Section):
    """Stated probabilities may be trusted."""

    rule: Literal["calibration"]
    metric: Literal["expected_calibration_error", "brier"] = "expected_calibration_error"
    maximum: float = Field(ge=0, le=1)
    confident: bool = Field(False, description="the interval, not only the figure, must lie below")
    confidence: Confidence = 0.95

    @property
    def name(self) -> str:
        return f"{self.metric} {bounds(None, self.maximum)}{' confidently' if self.confident else ''}"


class RobustnessRule(Section):
    """Spoilt questions change little: of one behaviour test by its name, or of every one but the invariance tests."""

    rule: Literal["robustness"]
    test: str | None = Field(None, description="a name under evaluate.behaviour; null: all of kind robustness, directional and abstention")
    maximum_drop: float | None = Field(None, ge=0)
    maximum_flip_rate: float | None = Field(None, ge=0, le=1)

    @model_validator(mode="after")
    def bounded(self) -> RobustnessRule:
        if self.maximum_drop is None and self.maximum_flip_rate is None:
            raise ValueError("maximum_drop or maximum_flip_rate")
        return self

    @property
    def name(self) -> str:
        limits = {"drop": self.maximum_drop, "flip rate": self.maximum_flip_rate}
        return f"robust ({self.test or 'all tests'}): {', '.join(f'{name} <= {one:g}' for name, one in limits.items() if one is not None)}"


class FairnessRule(Section):
    """The answers do not hang on a name, a gender, an origin: of one invariance test, or of all."""

    rule: Literal["fairness"]
    test: str | None = Field(None, description="a name under evaluate.behaviour; null: every invariance test")
    maximum_gap: float = Field(ge=0)

    @property
    def name(self) -> str:
        return f"fair ({self.test or 'all tests'}): gap <= {self.maximum_gap:g}"


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
    metric: ExampleMetric | None = None
    maximum_drop: float | None = Field(None, ge=0, description="of `metric`, in its own unit")

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
        parts += [f"KL divergence {bounds(None, self.maximum_kl_divergence)}"] if self.maximum_kl_divergence is not None else []
        parts += [f"{self.metric} drop {bounds(None, self.maximum_drop)}"] if self.metric is not None else []
        return f"quantization: {', '.join(parts)}"


Rule = Annotated[
    ThresholdRule | NonInferiorRule | SuperiorRule | SliceMinimumRule | CalibrationRule | RobustnessRule | FairnessRule | ParityRule | QuantizationRule
    | SizeRule | LatencyRule | GoodputRule,
    Field(discriminator="rule"),
]  # fmt: skip


class GateConfig(Section):
    """A gate file."""

    rules: list[Rule] = Field(min_length=1)
