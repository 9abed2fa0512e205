"""A gate file: a list of rules."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from configs.digest import key_of
from configs.rules.behaviour import FairnessRule, RobustnessRule
from configs.rules.cost import GoodputRule, LatencyRule, SizeRule
from configs.rules.paired import DriftRule, NonInferiorRule, SuperiorRule
from configs.rules.quality import CalibrationRule, ParityRule, QuantizationRule, ThresholdRule
from configs.rules.slices import SliceMinimumRule
from configs.section import Section

Rule = Annotated[
    ThresholdRule | NonInferiorRule | SuperiorRule | DriftRule | SliceMinimumRule | CalibrationRule | RobustnessRule
    | FairnessRule | ParityRule | QuantizationRule | SizeRule | LatencyRule | GoodputRule,
    Field(discriminator="rule"),
]  # fmt: skip


class GateConfig(Section):
    """A gate file."""

    rules: list[Rule] = Field(min_length=1)

    @property
    def digest(self) -> str:
        """Of what it means: comments, order of keys and how a number is written do not count."""
        return f"sha256:{key_of(self.model_dump(mode='json'))}"
