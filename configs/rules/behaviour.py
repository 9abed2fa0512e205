"""Rules about behaviour tests: robustness and fairness."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.section import Section


class RobustnessRule(Section):
    """Perturbed questions change little: of one behaviour test by its name, or of all but the invariance tests."""

    rule: Literal["robustness"]
    test: str | None = Field(
        None, description="a name under evaluate.behaviour; null: all of kind robustness, directional and abstention"
    )
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
        asked = ", ".join(f"{name} <= {one:g}" for name, one in limits.items() if one is not None)
        return f"robust ({self.test or 'all tests'}): {asked}"


class FairnessRule(Section):
    """The answers do not hang on a name, a gender, an origin: of one invariance test, or of all."""

    rule: Literal["fairness"]
    test: str | None = Field(None, description="a name under evaluate.behaviour; null: every invariance test")
    maximum_gap: float = Field(ge=0)

    @property
    def name(self) -> str:
        return f"fair ({self.test or 'all tests'}): gap <= {self.maximum_gap:g}"
