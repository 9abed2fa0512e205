"""Train: how the weights are trained; Divergence: when training is given up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.run.lora import Lora, Method, Preference
from configs.section import Section

Schedule = Literal["linear", "cosine", "cosine_with_min_lr", "constant", "inverse_sqrt", "warmup_stable_decay"]
WITH_A_FLOOR = ("cosine_with_min_lr", "warmup_stable_decay")


class Divergence(Section):
    """A loss or gradient that is not a number always ends the training; so does a loss that explodes by this rule."""

    factor: float = Field(
        3.0, gt=1, le=1e6, description="exploded: above the run's first loss and above factor times the running median"
    )
    window: int = Field(20, ge=3, le=1000, description="steps of the running median")
    patience: int = Field(3, ge=1, le=1000, description="so many exploded steps in a row end the training")


class Train(Section):
    """How the weights are trained."""

    method: Method = Field(
        "lora", description="lora; qlora: over a 4-bit base, GPU only; full: every weight, the reference"
    )
    learning_rate: float = Field(1e-3, gt=0, le=1)
    epochs: float | None = Field(None, gt=0, le=1000)
    max_steps: int | None = Field(None, ge=1, le=10_000_000)
    batch_size: int = Field(
        8,
        ge=1,
        le=65_536,
        description="rows a micro-batch; halved by itself where memory runs out, the effective batch stays",
    )
    gradient_accumulation_steps: int = Field(
        1, ge=1, le=65_536, description="micro-batches a step: the effective batch is batch_size times this"
    )
    eval_every_steps: int = Field(20, ge=1, description="validation loss, checkpoint; the best one is kept")
    early_stopping_patience: int | None = Field(
        None, ge=1, le=1000, description="so many validations in a row without a new best end the training"
    )
    divergence: Divergence = Divergence()
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=1)
    max_grad_norm: float = Field(1.0, ge=0, le=1e6, description="gradients are clipped to this norm; 0: never")
    schedule: Schedule = "linear"
    min_learning_rate_ratio: float | None = Field(
        None, gt=0, lt=1, description="the floor of cosine_with_min_lr and warmup_stable_decay"
    )
    decay_ratio: float | None = Field(
        None, gt=0, le=1, description="share of the steps in which warmup_stable_decay decays"
    )
    optimizer: Literal["adamw", "adafactor"] = "adamw"
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the hardware multiplies it fast, else float32"
    )
    packing: Literal["auto", "none", "batch", "sequence"] = Field(
        "auto",
        description="causal-lm. batch: padding-free micro-batches; sequence: rows joined to sequences of up to "
        "data.max_tokens, which batch_size then counts; none: padded; auto: batch where the model's attention allows "
        "it. No row ever sees another",
    )
    length_grouping: bool = Field(True, description="padded batches of rows of like length: less padding")
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    liger: Literal["auto", "always", "never"] = Field(
        "auto", description="Liger kernels; auto: on a GPU where liger-kernel is installed"
    )
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, le=1e6)]] | None = Field(
        None,
        description="how much a class counts in the loss: balanced, by how rare it is; or class: weight, 1 where it is "
        "not named. Of many labels the weight of a row that has it; of tags a tag (B-PER) or a type (PER)",
    )
    seed: int = Field(17, ge=0, le=2**32 - 1)
    lora: Lora = Lora()
    preference: Preference = Field(Preference(), description="for task dpo")

    @model_validator(mode="after")
    def one_length(self) -> Train:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("exactly one of epochs or max_steps")
        return self

    @model_validator(mode="after")
    def schedule_has_its_keys(self) -> Train:
        if (self.min_learning_rate_ratio is not None) != (self.schedule in WITH_A_FLOOR):
            raise ValueError(f"min_learning_rate_ratio exactly when schedule is {' or '.join(WITH_A_FLOOR)}")
        if (self.decay_ratio is not None) != (self.schedule == "warmup_stable_decay"):
            raise ValueError("decay_ratio exactly when schedule is warmup_stable_decay")
        if self.decay_ratio and self.decay_ratio + self.warmup_ratio > 1:
            raise ValueError("warmup_ratio and decay_ratio of at most 1 together")
        return self

    @model_validator(mode="after")
    def stopping_can_happen(self) -> Train:
        patience = self.early_stopping_patience
        if patience and self.max_steps and (patience + 1) * self.eval_every_steps > self.max_steps:
            raise ValueError("max_steps of at least (early_stopping_patience + 1) times eval_every_steps")
        return self

    @model_validator(mode="after")
    def kernels_fit(self) -> Train:
        if self.attention == "flash_attention_2" and self.dtype == "float32":
            raise ValueError("dtype auto or bfloat16 with attention flash_attention_2, which has no float32")
        return self
