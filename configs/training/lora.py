"""Lora: how the base weights are adapted."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from configs.section import Section

Method = Literal["lora", "qlora", "full"]
CHANGES_BASE = ("pissa", "loftq")


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685) and its variants, all by peft."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: int = Field(32, ge=1, le=4096)
    dropout: float = Field(0.0, ge=0, lt=1)
    bias: Literal["none", "all", "lora_only"] = Field(
        "none", description="which biases of the base are trained as well"
    )
    target_modules: str | list[str] = Field(
        "all-linear", description="all-linear, a list of module names, or one regular expression over full names"
    )
    rank_pattern: dict[str, int] = Field(
        default_factory=dict, description="module name or regular expression: its own rank"
    )
    alpha_pattern: dict[str, int] = Field(
        default_factory=dict, description="module name or regular expression: its own alpha"
    )
    modules_to_save: list[str] = Field(
        default_factory=list, description="modules trained whole beside the adapter, as embed_tokens or lm_head"
    )
    rslora: bool = Field(
        False, description="rank-stabilized scaling, alpha over the root of the rank (arXiv:2312.03732)"
    )
    dora: bool = Field(False, description="weight-decomposed adaptation (arXiv:2402.09353)")
    initialization: Literal["default", "gaussian", "pissa", "loftq"] = Field(
        "default",
        description="default: B is zero; pissa: principal components (arXiv:2404.02948); "
        "loftq: for a 4-bit base, GPU only (arXiv:2310.08659)",
    )
    loraplus_ratio: float | None = Field(
        None, ge=1, le=1000, description="LoRA+: how many times B's learning rate is A's (arXiv:2402.12354)"
    )

    @model_validator(mode="after")
    def patterns_are_sound(self) -> Lora:
        given = [self.target_modules] if isinstance(self.target_modules, str) else []
        for pattern in (*given, *self.rank_pattern, *self.alpha_pattern):
            try:
                re.compile(pattern)
            except re.error:
                raise ValueError(
                    "regular expressions that compile in target_modules, rank_pattern and alpha_pattern"
                ) from None
        if not all(1 <= rank <= 1024 for rank in (*self.rank_pattern.values(), *self.alpha_pattern.values())):
            raise ValueError("ranks and alphas from 1 to 1024 in rank_pattern and alpha_pattern")
        return self

    @model_validator(mode="after")
    def variants_fit(self) -> Lora:
        if self.dora and self.initialization in CHANGES_BASE:
            raise ValueError(
                "dora with initialization default or gaussian: DoRA's magnitudes are those of the unchanged base"
            )
        return self

    @property
    def reaches_head(self) -> bool:
        """Whether a GPT's output layer gets an adapter; all-linear leaves it out."""
        if isinstance(self.target_modules, str):
            return re.fullmatch(self.target_modules, "lm_head") is not None
        return "lm_head" in self.target_modules

    @property
    def largest_rank(self) -> int:
        return max([self.rank, *self.rank_pattern.values()])
