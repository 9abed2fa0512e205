"""Train: how the weights are trained; Divergence: when training is given up."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.section import Section
from configs.training.lora import Lora, Method
from configs.training.preference import Preference
from configs.training.reward import Grpo, Reward

Schedule = Literal["linear", "cosine", "cosine_with_min_lr", "constant", "inverse_sqrt", "warmup_stable_decay"]
VALIDATIONS = 12  # of a training whose YAML does not say how many steps lie between them
BITSANDBYTES = ("adamw_8bit", "paged_adamw", "paged_adamw_8bit")  # optimizers of that package
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
    learning_rate: float | None = Field(
        None, gt=0, le=1, description="default: by task and method (configs/training/defaults.py)"
    )
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
    eval_every_steps: int | None = Field(
        None, ge=1, description=f"steps from one validation to the next; default: {VALIDATIONS} in the whole training"
    )
    save_every_steps: int | None = Field(
        None,
        ge=1,
        description="steps from one checkpoint to the next, from which a killed training goes on; default: at each "
        "validation. The best one is saved whenever it is found",
    )
    best_by: Literal["auto", "loss", "metric"] = Field(
        "auto",
        description="which checkpoint is kept, and what early stopping looks at. loss: validation loss; metric: entity "
        "F1 of tags, macro F1 of classes, micro F1 of many labels, mean absolute error of numbers; auto: metric for "
        "tags and with class_weights, else loss",
    )
    accept_constant: bool = Field(
        False, description="go on with a model that is no better on the validation rows than one constant answer"
    )
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
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw", "paged_adamw_8bit", "adafactor"] = Field(
        "adamw",
        description="8bit, paged: by bitsandbytes (arXiv:2110.02861; arXiv:2305.14314, section 3), GPU only",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="auto: bfloat16 where the hardware multiplies it fast, else float32; float16: scaled, for a GPU "
        "that has no bfloat16",
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the target that is spread over all tokens, classes or tags while training "
        "(arXiv:1512.00567); validation's loss is the plain one",
    )
    neftune_alpha: float | None = Field(
        None, gt=0, le=1000, description="uniform noise on the embeddings while training, as 5 (arXiv:2310.05914)"
    )
    packing: Literal["auto", "none", "batch", "sequence"] = Field(
        "auto",
        description="causal-lm. batch: padding-free micro-batches; sequence: rows joined to sequences of up to "
        "data.max_tokens, which batch_size then counts; none: padded; auto: batch where the model's attention allows "
        "it. No row ever sees another",
    )
    length_grouping: bool = Field(True, description="padded batches of rows of like length: less padding")
    gradient_checkpointing: bool = Field(False, description="less memory, about a third more time")
    activation_offload: bool = Field(
        False,
        description="with gradient_checkpointing: what is kept of each layer waits in the host's memory, GPU only",
    )
    compile: bool = Field(
        False,
        description="torch.compile of each layer: minutes at the start, faster steps in a long training; GPU only",
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    liger: Literal["auto", "always", "never"] = Field(
        "auto", description="Liger kernels; auto: on a GPU where liger-kernel is installed"
    )
    class_weights: Literal["balanced"] | dict[str, Annotated[float, Field(gt=0, le=1e6)]] | None = Field(
        None,
        description="how much a class counts in the loss: balanced, by how rare it is; or class: weight, 1 where it is "
        "not named. Of many labels the weight of a row that has it; of tags a tag (B-PER) or a type (PER)",
    )
    report_to: list[Literal["tensorboard", "wandb"]] = Field(
        default_factory=list, description="beside MLflow: event files, or Weights & Biases (offline by default)"
    )
    seed: int = Field(17, ge=0, le=2**32 - 1)
    lora: Lora = Lora()
    preference: Preference = Field(Preference(), description="for task dpo")
    reward: list[Reward] = Field(
        default_factory=list, description="for task grpo: metrics of evaluate, each with its weight"
    )
    grpo: Grpo = Field(Grpo(), description="for task grpo")

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
        if patience and self.max_steps and (patience + 1) * self.eval_interval(self.max_steps) > self.max_steps:
            raise ValueError("max_steps of at least (early_stopping_patience + 1) times eval_every_steps")
        return self

    def eval_interval(self, steps: int) -> int:
        """Steps from one validation to the next in a training of `steps`."""
        return min(self.eval_every_steps or max(1, steps // VALIDATIONS), steps)

    def save_interval(self, steps: int) -> int:
        """Steps from one checkpoint to the next."""
        return min(self.save_every_steps or self.eval_interval(steps), steps)

    @model_validator(mode="after")
    def kernels_fit(self) -> Train:
        if self.attention == "flash_attention_2" and self.dtype == "float32":
            raise ValueError("dtype auto, bfloat16 or float16 with attention flash_attention_2, which has no float32")
        return self

    @model_validator(mode="after")
    def offload_has_something_to_offload(self) -> Train:
        if self.activation_offload and not self.gradient_checkpointing:
            raise ValueError("gradient_checkpointing true with activation_offload: it says what of a layer is kept")
        return self

    @property
    def needs_gpu(self) -> list[str]:
        """The keys whose value no CPU can have, as `train.method qlora`."""
        return [
            f"train.{key} {value}"
            for key, value, gpu_only in (
                ("method", self.method, self.method == "qlora"),
                ("lora.initialization", self.lora.initialization, self.lora.initialization == "loftq"),
                ("optimizer", self.optimizer, self.optimizer in BITSANDBYTES),
                ("dtype", self.dtype, self.dtype == "float16"),
                ("attention", self.attention, self.attention == "flash_attention_2"),
                ("activation_offload", "true", self.activation_offload),
                ("compile", "true", self.compile),
            )
            if gpu_only
        ]
