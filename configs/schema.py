"""RunConfig: one fine-tune, from one YAML. Defaults live here and nowhere else."""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


def stay_inside(path: str) -> str:
    """Refuses absolute paths and `..`: a config names only files of its own checkout."""
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("a path inside the checkout, relative, without '..'")
    return path


def must_exist(path: str, info: ValidationInfo) -> str:
    """Looks only when the loader passes the checkout's root: a manifest's copy is not looked up again."""
    if info.context and not os.path.exists(info.context["root"] / path):  # which, unlike Path.exists, takes a name too long for no
        raise ValueError("a file or folder that exists")
    return path


InsidePath = Annotated[str, AfterValidator(stay_inside)]
ExistingPath = Annotated[InsidePath, AfterValidator(must_exist)]
Task = Literal["sequence-classification", "causal-lm"]


class Section(BaseModel):
    """Unknown keys are refused; values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())


class BaseWeights(Section):
    """Where the base weights come from: an installed package that carries them, or a directory."""

    package: str | None = Field(None, description="an installed Python package that carries the weights")
    path: ExistingPath | None = Field(None, description="a directory of safetensors and tokenizer")

    @model_validator(mode="after")
    def exactly_one(self) -> BaseWeights:
        if (self.package is None) == (self.path is None):
            raise ValueError("exactly one of package or path")
        return self


class Data(Section):
    """Labelled rows and how they are split."""

    source: Literal["bfcl", "sentiment", "jsonl"] = Field(description="bfcl: function calls; sentiment: labelled sentences; jsonl: files of your own")
    files: list[ExistingPath] = Field(default_factory=list, description="for source jsonl")
    max_rows: int | None = Field(None, ge=10, le=100_000_000)
    max_tokens: int = Field(160, ge=8, le=131_072, description="rows longer than this (prompt and answer) are reported and left out")
    validation_rows: int = Field(40, ge=1)
    test_rows: int = Field(100, ge=1)
    seed: int = Field(17, ge=0, le=2**32 - 1)
    damage: Literal["none", "shuffle_answers"] = Field("none", description="spoil the training rows on purpose, to prove that the gate refuses")

    @model_validator(mode="after")
    def files_match_source(self) -> Data:
        if (self.source == "jsonl") != bool(self.files):
            raise ValueError("files exactly when source is jsonl")
        return self


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685)."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: int = Field(32, ge=1, le=4096)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


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
    lora: Lora = Lora()

    @model_validator(mode="after")
    def one_length(self) -> Train:
        if (self.epochs is None) == (self.max_steps is None):
            raise ValueError("exactly one of epochs or max_steps")
        return self


class Quantize(Section):
    """How the merged weights are compressed."""

    scheme: Literal["int8", "none"] = Field("int8", description="int8: W8A8, weights per channel, activations per token")
    compare_parent: bool = Field(False, description="also evaluate the unquantized parent, for the model card and the `quantization` figures")


class Serving(Section):
    """The vLLM arguments that evaluation and production share; they travel in the manifest."""

    max_model_len: int = Field(512, ge=16, le=1_048_576)
    max_num_seqs: int = Field(32, ge=1, le=4096)
    dtype: Literal["auto", "float32", "bfloat16"] = Field("float32", description="activations; auto: what vLLM picks")
    kv_cache_gib: int = Field(1, ge=1, le=4096)


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
