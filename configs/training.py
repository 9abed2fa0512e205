"""Train: how the adapter is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from configs.methods import Lora, Method, Preference
from configs.section import Section


class Train(Section):
    """How the adapter is trained."""

    learning_rate: float = Field(1e-3, gt=0, le=1)
    epochs: float | None = Field(None, gt=0, le=1000)
    max_steps: int | None = Field(None, ge=1, le=10_000_000)
    batch_size: int = Field(8, ge=1, le=65_536)
    gradient_accumulation_steps: int = Field(1, ge=1, le=65_536)
    eval_every_steps: int = Field(20, ge=1, description="validation loss, checkpoint; the best one is kept")
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    dtype: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto: bfloat16 where the hardware multiplies it fast, else float32")
    seed: int = Field(17, ge=0, le=2**32 - 1)
    method: Method = Field("lora", description="lora; qlora: over a 4-bit base, GPU only; full: every weight, the reference")
    lora: Lora = Lora()
    preference: Preference = Field(Preference(), description="for task dpo")

    @model_validator(mode="after")
    def one_length(self) -> Train:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("exactly one of epochs or max_steps")
        return self
