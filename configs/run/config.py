"""RunConfig: one fine-tune, from one YAML. Defaults live in its sections and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationInfo, field_validator, model_validator

from configs.rows.data import Data
from configs.run.base import BaseWeights, input_columns, read_config
from configs.run.behaviour import incompatibilities as behaviour_incompatibilities
from configs.run.evaluate import Evaluate
from configs.run.family import Kind, kind_of, kind_of_task, uncompressed, unserved
from configs.run.quantize import Quantize, choose_group_size
from configs.run.servability import adapter_refusal, device_here, gpu_defaults, parser_refusal, refusal, refusal_here
from configs.run.serving import Serving
from configs.run.sweep import Sweep, check_search
from configs.section import NAME_PATTERN, ExistingPath, Section
from configs.task import Problem, Task, served_task, writes_text
from configs.training.defaults import default_learning_rate
from configs.training.launch import Launch
from configs.training.lora import CHANGES_BASE, Lora
from configs.training.reward import Grpo
from configs.training.train import Train

SOURCE_TASKS: dict[str, tuple[Task, ...]] = {
    "bfcl": ("causal-lm", "grpo"),
    "bfcl_preferences": ("dpo", "reward"),
    "sentiment": ("sequence-classification",),
    "ner_finance": ("token-classification",),
}

# Of tasks that transformers trains: what can be done instead, and why (vllm/model_executor/models/registry.py).
UNSERVED_TASKS = {
    "question-answering": "causal-lm with data.format squad, which answers in the text's words, or "
    "token-classification with the answer's words tagged: vLLM serves no model with a head for question answering"
}
SOURCE_LABELS = {"sentiment": ["negative", "positive"]}


class RunConfig(Section):
    """One fine-tune: data to release to verdict."""

    name: str = Field(pattern=NAME_PATTERN, description="names build/NAME and the release")
    task: Task
    problem: Problem = Field(
        "single_label", description="of sequence-classification: one class, any number of classes, or one number"
    )
    base: BaseWeights
    data: Data
    train: Train
    launch: Launch = Launch()
    sweep: Sweep | None = Field(None, description="for tunegate sweep; the other commands leave it alone")
    quantize: Quantize = Quantize()
    serving: Serving = Serving()
    evaluate: Evaluate = Evaluate()
    gate: ExistingPath = Field(description="a gate file: the rules a release must pass")
    production: str | None = Field(
        None,
        description="the environment under configs/deploy that its releases are judged for: by its release_gate, "
        "against what serves there. null: by `gate`, and what compares with the champion is open",
    )
    experiment: str = "tunegate"

    @field_validator("task", mode="before")
    @classmethod
    def task_is_served(cls, value: object) -> object:
        if isinstance(value, str) and value in UNSERVED_TASKS:
            raise ValueError(UNSERVED_TASKS[value])
        return value

    @model_validator(mode="after")
    def resolve_defaults(self, info: ValidationInfo) -> RunConfig:
        """Past fields_set: what was not given stays so, for a sweep's trial of another method."""
        settings, split = self.train, self.data.split
        if settings.learning_rate is None:
            rate = default_learning_rate(self.task, settings.method, settings.preference.method)
            resolved = settings.model_copy()
            resolved.__dict__["learning_rate"] = rate
            self.__dict__["train"] = resolved
        if self.evaluate.cluster is None and split.method == "grouped":
            clustered = self.evaluate.model_copy()
            clustered.__dict__["cluster"] = split.by
            self.__dict__["evaluate"] = clustered
        if self.serving.device == "cuda" or (
            info.context and self.serving.device == "auto" and device_here() == "cuda"
        ):
            root = Path(info.context["root"]) if info.context else None
            found = read_config(self.base, root) if root else None
            kind = self.kind(root) if root else kind_of_task(self.task)
            served, smaller = gpu_defaults(self.serving, self.quantize, kind, found)
            self.__dict__ |= {"serving": served, "quantize": smaller}
        return self

    @model_validator(mode="after")
    def task_fits_data(self) -> RunConfig:
        wanted = SOURCE_TASKS.get(self.data.source)
        if wanted and self.task not in wanted:
            raise ValueError(f"task {' or '.join(wanted)} with data.source {self.data.source}")
        if self.problem != "single_label" and (self.task != "sequence-classification" or wanted):
            raise ValueError(f"problem {self.problem} only with task sequence-classification and rows of your own")
        reasons = self.data.incompatibilities(self.task, self.problem) + self.evaluate.incompatibilities(
            self.task, self.problem, self.data.kept
        )
        labels = self.data.labels or SOURCE_LABELS.get(self.data.source, [])
        reasons += behaviour_incompatibilities(
            self.evaluate.behaviour,
            self.evaluate.harness,
            self.evaluate.judge is not None,
            self.task,
            self.problem,
            labels,
        )
        reasons += self.evaluate.incompatibilities_of_folds(self.data, self.task, self.name, self.launch.world_size)
        if reasons:
            raise ValueError("; ".join(reasons))
        if self.data.max_tokens > self.serving.max_model_len:
            raise ValueError("serving.max_model_len of at least data.max_tokens")
        if self.serving.tool_parser and not writes_text(self.task):
            raise ValueError(f"no serving.tool_parser with task {self.task}: it writes no text")
        if self.serving.reasoning_parser and not writes_text(self.task):
            raise ValueError(f"no serving.reasoning_parser with task {self.task}: it writes no text")
        labelled = self.task == "token-classification" or (
            self.task == "sequence-classification" and self.problem != "regression"
        )
        if self.train.class_weights is not None and not labelled:
            raise ValueError("train.class_weights only with labels or tags")
        if isinstance(self.train.class_weights, dict) and labels and self.task == "sequence-classification":
            unknown = sorted(self.train.class_weights.keys() - set(labels))
            if unknown:
                raise ValueError(f"train.class_weights of labels in data.labels, which lacks {', '.join(unknown)}")
        if self.train.best_by == "metric" and self.task not in ("sequence-classification", "token-classification"):
            raise ValueError(f"train.best_by auto or loss with task {self.task}: validation writes no answers")
        if self.train.packing in ("batch", "sequence") and self.task != "causal-lm":
            raise ValueError(f"train.packing auto or none with task {self.task}")
        return self

    @model_validator(mode="after")
    def method_fits_task(self) -> RunConfig:
        method, lora = self.train.method, self.train.lora
        if method == "full" and lora != Lora():
            raise ValueError("no train.lora with train.method full: it has no adapter")
        if lora.loraplus_ratio is not None and self.train.optimizer != "adamw":
            raise ValueError("train.optimizer adamw with train.lora.loraplus_ratio")
        if method == "qlora" and lora.initialization in CHANGES_BASE:
            raise ValueError(
                "train.lora.initialization default or gaussian with train.method qlora: a packed base cannot be changed"
            )
        if lora.loraplus_ratio is not None and lora.modules_to_save:
            raise ValueError(
                "no train.lora.modules_to_save with train.lora.loraplus_ratio: its rates are those of A and B"
            )
        if self.quantize.scheme == "adapter" and (lora.modules_to_save or self.base.add_tokens):
            raise ValueError(
                "no train.lora.modules_to_save and no base.add_tokens with quantize.scheme adapter: "
                "vLLM loads A and B alone"
            )
        if self.quantize.scheme == "adapter" and (reason := adapter_refusal(self.task, method, lora)):
            raise ValueError(reason)
        if self.adapter_off_is_reference and (lora.bias != "none" or lora.initialization in CHANGES_BASE):
            raise ValueError(
                f"train.lora.bias none and initialization default or gaussian with task {self.task}: "
                "its reference is the model with the adapter off"
            )
        if self.task in ("dpo", "grpo") and method != "full" and lora.reaches_head:
            raise ValueError(
                f"train.lora.target_modules without lm_head with task {self.task}: TRL multiplies by its weights "
                "directly, so an adapter there would not be trained"
            )
        return self

    @model_validator(mode="after")
    def regularization_fits_task(self) -> RunConfig:
        classes = self.task == "sequence-classification" and self.problem == "single_label"
        if self.train.label_smoothing and not (classes or self.task in ("token-classification", "causal-lm")):
            raise ValueError("train.label_smoothing of 0 but for one class, tags and texts")
        supervised = self.task in ("causal-lm", "sequence-classification", "token-classification")
        if self.base.add_tokens and not supervised:
            raise ValueError(f"no base.add_tokens with task {self.task}: add them where the answers are learnt")
        if self.train.neftune_alpha and not supervised:
            raise ValueError(f"no train.neftune_alpha with task {self.task}: its reference would be noisy too")
        return self

    @model_validator(mode="after")
    def rewards_can_be_given(self) -> RunConfig:
        settings, names = self.train, [one.metric for one in self.train.reward]
        answers = settings.batch_size * settings.gradient_accumulation_steps
        rules = {
            "train.reward exactly with task grpo": bool(names) == (self.task == "grpo"),
            "train.grpo only with task grpo": self.task == "grpo" or settings.grpo == Grpo(),
            "train.preference.method only with task dpo": self.task == "dpo" or settings.preference.method == "dpo",
            "train.reward with each metric once": len(set(names)) == len(names),
            "evaluate.json_schema with train.reward valid_schema": "valid_schema" not in names
            or self.evaluate.json_schema is not None,
            "evaluate.judge with train.reward judge_score": "judge_score" not in names
            or (self.evaluate.judge is not None and not self.evaluate.judge.pairwise),
        }
        if self.task == "grpo":
            each = settings.grpo.generations
            rules |= {
                f"train.batch_size times gradient_accumulation_steps a multiple of train.grpo.generations ({each}): "
                "they count answers": answers % each == 0,
                "one launch process and no sweep with task grpo": self.launch.world_size == 1 and not self.sweep,
            }
        if broken := [expected for expected, holds in rules.items() if not holds]:
            raise ValueError("; ".join(broken))
        return self

    @model_validator(mode="after")
    def reward_model_can_be_judged(self) -> RunConfig:
        if self.task != "reward":
            return self
        prune, evaluate = self.quantize.prune, self.evaluate
        rules = {
            "no evaluate.behaviour with task reward: it answers with a number alone": not evaluate.behaviour,
            "evaluate.baseline false with task reward: the base has no head that says a number": not evaluate.baseline,
            "no quantize.prune.recovery_steps with task reward": not (prune and prune.recovery_steps),
        }
        if broken := [expected for expected, holds in rules.items() if not holds]:
            raise ValueError("; ".join(broken))
        return self

    def fold(self, number: int) -> RunConfig:
        """The run of fold `number`, from 1: this one but for its name and what only the whole is measured for."""
        evaluate = self.evaluate.model_copy(update={"folds": None, "baseline": False})
        return self.model_copy(update={"name": f"{self.name}-fold-{number}", "evaluate": evaluate, "sweep": None})

    @property
    def answers_a_prompt(self) -> int:
        """Rows of a batch that are made of one row of the data."""
        return self.train.grpo.generations if self.task == "grpo" else 1

    @property
    def adapter_off_is_reference(self) -> bool:
        """Whether training is held to the model that it began as, which is the one without the adapter."""
        held = {"dpo": self.train.preference.has_reference, "grpo": self.train.grpo.beta > 0}
        return held.get(self.task, False) and self.train.method != "full"

    @property
    def least_rows(self) -> int:
        """Rows that a process must have at a time."""
        return self.train.preference.least_rows if self.task == "dpo" else 1

    @model_validator(mode="after")
    def search_and_launch_fit(self) -> RunConfig:
        if self.train.batch_size % self.launch.world_size:
            raise ValueError("train.batch_size a multiple of launch.processes x launch.nodes")
        if self.train.batch_size < self.launch.world_size * self.least_rows:
            raise ValueError(
                f"train.batch_size of at least {self.least_rows} for each process with train.preference.method kto, "
                "which judges an answer by those beside it"
            )
        if reasons := self.launch.incompatibilities(self.task, self.train, bool(self.base.add_tokens)):
            raise ValueError("; ".join(reasons))
        if self.launch.engine != "local" and self.evaluate.folds:
            raise ValueError("launch.engine local with evaluate.folds, whose trainings are many")
        if self.sweep and self.launch.world_size > 1:
            raise ValueError("one launch process with a sweep, whose trials take one process each (sweep.parallel)")
        if self.sweep:
            check_search(self, self.sweep)
        return self

    @model_validator(mode="after")
    def release_can_be_made_and_served(self, info: ValidationInfo) -> RunConfig:
        """Looks at the machine and the base only when the loader passes the checkout's root: a manifest's copy is not
        judged again."""
        if not info.context:
            return self
        device = device_here() if self.serving.device == "auto" else self.serving.device
        root = Path(info.context["root"])
        if device == "cpu" and self.train.needs_gpu:
            raise ValueError(f"a GPU with {' and '.join(self.train.needs_gpu)}")
        if (
            (reason := self.base_refusal(read_config(self.base, root)))
            or (reason := refusal(self.kind(root), self.quantize, self.serving.dtype, device))
            or (reason := parser_refusal(self.serving.tool_parser, self.serving.reasoning_parser))
        ):
            raise ValueError(reason)
        if self.task == "grpo" and self.train.grpo.generate == "vllm" and device_here() == "cpu":
            raise ValueError("train.grpo.generate transformers on a machine without a GPU")
        if self.serving.device == "auto" and device == "cpu" and (reason := refusal_here(self.quantize)):
            raise ValueError(reason)
        columns = input_columns(self.base, root) if self.quantize.scheme == "w4a16" else None
        if columns:
            choose_group_size(columns, self.quantize.group_size)
        return self

    def base_refusal(self, found: dict[str, Any] | None) -> str | None:
        """What is expected instead of this base, by its config.json; None where it serves, or is not here yet."""
        if not found or "model_type" not in found:
            return None
        return unserved(found, served_task(self.task)) or uncompressed(found, self.quantize)

    def kind(self, root: Path) -> Kind:
        """GPT-type or BERT-type: of the base where it is here to be read, else of the task."""
        found = read_config(self.base, root)
        return kind_of(found) if found and "model_type" in found else kind_of_task(self.task)
