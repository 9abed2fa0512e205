"""RunConfig: one fine-tune, from one YAML. Defaults live in its sections and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, model_validator

from configs.compression import Quantize, choose_group_size
from configs.data import Data
from configs.section import NAME_PATTERN, ExistingPath, Section
from configs.servability import device_here, family_of, refusal
from configs.shape import input_columns
from configs.training import Train
from configs.weights import BaseWeights

Task = Literal["sequence-classification", "causal-lm"]


class Serving(Section):
    """The vLLM arguments that evaluation and production share; they travel in the manifest."""

    max_model_len: int = Field(512, ge=16, le=1_048_576)
    max_num_seqs: int = Field(32, ge=1, le=4096)
    dtype: Literal["auto", "float32", "bfloat16"] = Field("float32", description="activations; auto: what vLLM picks")
    kv_cache_gib: int = Field(1, ge=1, le=4096)
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the release will be served; auto: on a machine like this one")


class Parity(Section):
    """How near the served answers must be to the trainer's own on the golden prompts."""

    golden_prompts: int = Field(8, ge=1, le=256)
    min_agreement: float = Field(0.75, ge=0, le=1, description="share of golden prompts answered alike (same label, same greedy text)")
    max_difference: float = Field(
        0.1, ge=0, description="largest mean absolute difference of probabilities (classifier) or first-token log-probabilities (GPT)"
    )


class Evaluate(Section):
    """What is measured, through vLLM."""

    max_new_tokens: int = Field(96, ge=1, le=65_536)
    concurrency: int = Field(16, ge=1, le=1024)
    baseline: bool = Field(False, description="also measure the untuned base weights")
    parity: Parity = Parity()


class RunConfig(Section):
    """One fine-tune: data to release to verdict."""

    name: str = Field(pattern=NAME_PATTERN, description="names build/NAME and the release")
    task: Task
    base: BaseWeights
    data: Data
    train: Train
    quantize: Quantize = Quantize()
    serving: Serving = Serving()
    evaluate: Evaluate = Evaluate()
    gate: ExistingPath = Field(description="a gate file: the rules a release must pass")
    production: str = Field("local", description="the environment under configs/deploy whose pinned release is the champion")
    experiment: str = "tunegate"

    @model_validator(mode="after")
    def task_fits_data(self) -> RunConfig:
        if self.data.source == "bfcl" and self.task != "causal-lm":
            raise ValueError("task causal-lm with data.source bfcl")
        if self.data.source == "sentiment" and self.task != "sequence-classification":
            raise ValueError("task sequence-classification with data.source sentiment")
        if self.data.max_tokens > self.serving.max_model_len:
            raise ValueError("serving.max_model_len of at least data.max_tokens")
        return self

    @model_validator(mode="after")
    def release_can_be_made_and_served(self, info: ValidationInfo) -> RunConfig:
        """Looks at the machine and the base only when the loader passes the checkout's root: a manifest's copy is not judged again."""
        if not info.context:
            return self
        device = device_here() if self.serving.device == "auto" else self.serving.device
        if reason := refusal(family_of(self.task), self.quantize, self.serving.dtype, device):
            raise ValueError(reason)
        columns = input_columns(self.base, Path(info.context["root"])) if self.quantize.scheme == "w4a16" else None
        if columns:
            choose_group_size(columns, self.quantize.group_size)
        return self
