"""Rules: what a release must show. One YAML file is a list of them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.section import Section


class ThresholdRule(Section):
    """An absolute bound on one metric."""

    rule: Literal["threshold"]
    metric: str
    minimum: float | None = None
    maximum: float | None = None

    @model_validator(mode="after")
    def bounded(self) -> ThresholdRule:
        if self.minimum is None and self.maximum is None:
            raise ValueError("minimum or maximum")
        return self

    @property
    def name(self) -> str:
        bounds = [f">= {self.minimum:g}"] if self.minimum is not None else []
        bounds += [f"<= {self.maximum:g}"] if self.maximum is not None else []
        return f"{self.metric} {' and '.join(bounds)}"


class NonInferiorRule(Section):
    """Not worse than the reference by more than `margin`, paired on the same examples."""

    rule: Literal["non_inferior_to"]
    reference: Literal["champion", "base", "parent"] = Field("champion", description="what serves, the untuned weights, or the unquantized release")
    metric: str
    margin: float = Field(ge=0, le=1)
    confidence: float = Field(0.95, gt=0.5, lt=1, description="of the two-sided interval of the paired difference")

    @property
    def name(self) -> str:
        return f"{self.metric} non-inferior to {self.reference} by {self.margin:g}"


class ParityRule(Section):
    """Served answers equal the trainer's own within the run's stated tolerance."""

    rule: Literal["parity"]

    @property
    def name(self) -> str:
        return "served answers match the trainer's own"


class LoadRule(Section):
    """A bound on a figure of the load test (time_to_first_token_p95_ms, error_rate, ...)."""

    rule: Literal["load"]
    metric: str
    maximum: float | None = None
    minimum: float | None = None

    @property
    def name(self) -> str:
        bounds = [f">= {self.minimum:g}"] if self.minimum is not None else []
        bounds += [f"<= {self.maximum:g}"] if self.maximum is not None else []
        return f"load {self.metric} {' and '.join(bounds)}"


Rule = Annotated[ThresholdRule | NonInferiorRule | ParityRule | LoadRule, Field(discriminator="rule")]


class GateConfig(Section):
    """A gate file."""

    rules: list[Rule] = Field(min_length=1)
