"""Group relative policy optimization (Shao et al. 2024, arXiv:2402.03300): the model answers each prompt several times,
and what is rewarded more than its siblings is made likelier."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from configs.errors import RefusedError
from configs.run.config import RunConfig
from configs.training.reward import Reward
from infra.files.rows import TOKENS, from_columns
from infra.tokenizer import split_answer
from train.batches.dataset import EncodedRow, derive
from train.model.adapter import use_loraplus_optimizer
from train.sources.source import Row
from train.tasks.trl_arguments import model_arguments

Scores = dict[str, list[float | None]]  # by metric, a value an answer; None where it says nothing of one
Rewards = Callable[[list[Row], list[str]], Scores]  # of rows and an answer to each; from `eval`, by tunegate.py


def build_grpo_trainer(
    config: RunConfig, base: Path, train_rows: Any, validation_rows: Any, rewards: Rewards, **arguments: Any
) -> Any:
    """A TRL GRPOTrainer over the prompts' tokens, in the order of the rows. `arguments`: of TrainingArguments.

    Its validation loss is minus the mean reward of the greedy answers, which are what is served: so the best checkpoint
    and early stopping mean here what they mean everywhere. Raises RefusedError where vLLM is asked for and is not
    there.
    """
    from trl import GRPOConfig  # type: ignore[attr-defined]  # lazy exports

    settings = config.train.grpo
    require_vllm(config)
    model = model_arguments(config, base)
    rows, validation = (derive(part, prompt_of) for part in (train_rows, validation_rows))
    trainer = trainer_class()(
        args=GRPOConfig(
            **arguments,
            remove_unused_columns=False,
            shuffle_dataset=False,  # the rows come in the order of train/batches/order.py
            num_generations=settings.generations,
            num_generations_eval=1,
            max_completion_length=config.evaluate.max_new_tokens,
            temperature=settings.temperature,
            beta=settings.beta,
            loss_type=settings.loss,
            use_vllm=settings.generate == "vllm",
            vllm_mode="colocate",
            vllm_max_model_length=config.data.max_tokens + config.evaluate.max_new_tokens,
        ),
        reward_funcs=[weighted_sum(config.train.reward, rewards)],
        train_dataset=rows,
        eval_dataset=validation,
        **model,
    )
    trainer.score = rewards
    trainer.rewarded = config.train.reward
    return use_loraplus_optimizer(trainer, config)


def require_vllm(config: RunConfig) -> None:
    from importlib.util import find_spec

    if config.train.grpo.generate == "vllm" and find_spec("vllm") is None:
        raise RefusedError(
            "train.grpo.generate vllm: found no package vllm beside torch in the training's environment",
            hint="--set train.grpo.generate=transformers",
        )


def prompt_of(row: EncodedRow) -> list[EncodedRow]:
    """The tokens before the answer, exactly those that serving sends, and the row itself for those who reward its
    answers."""
    prompt, _ = split_answer(row["input_ids"], row["loss_mask"])
    content = from_columns({name: value for name, value in row.items() if name not in TOKENS})
    return [{"prompt": prompt, "length": len(prompt), "row": json.dumps(content, ensure_ascii=False)}]


def weighted_sum(wanted: list[Reward], rewards: Rewards) -> Callable[..., list[float | None]]:
    """A reward function as TRL calls it, with a column `row`; each metric's mean is logged beside their sum."""

    def reward(completions: list[str], row: list[str], log_metric: Callable[[str, float], None], **_: Any) -> Any:
        scores = rewards([json.loads(one) for one in row], completions)
        for name, mean in means(scores).items():
            log_metric(name, mean)
        return combine(wanted, scores)

    return reward


def combine(wanted: list[Reward], scores: Scores) -> list[float | None]:
    """The sum of weight times metric of each answer, a missing one for 0; None where all are missing."""
    weights = [one.weight for one in wanted]
    return [
        None
        if all(value is None for value in values)
        else sum(weight * (value or 0.0) for weight, value in zip(weights, values, strict=True))
        for values in zip(*(scores[one.metric] for one in wanted), strict=True)
    ]


def means(scores: Scores) -> dict[str, float]:
    known = {name: [value for value in values if value is not None] for name, values in scores.items()}
    return {name: sum(values) / len(values) for name, values in known.items() if values}


def trainer_class() -> Any:
    from transformers import GenerationConfig
    from trl import GRPOTrainer  # type: ignore[attr-defined]  # lazy exports

    class AnswerTrainer(GRPOTrainer):
        score: Rewards
        rewarded: list[Reward]

        def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
            """TRL would render them; they are tokens already."""
            return prompts, None, {}

        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            """One greedy answer to each row, every row counted once."""
            trainer: Any = self
            trainer.model.eval()
            scores: Scores = {one.metric: [] for one in self.rewarded}
            with self.answering_greedily():
                for rows in trainer.eval_dataset.iter(self.args.per_device_eval_batch_size):
                    ids, _logs = trainer._generate_single_turn(rows["prompt"], None, {}, 1)
                    answers = trainer.processing_class.batch_decode(ids, skip_special_tokens=True)
                    for name, values in self.score([json.loads(row) for row in rows["row"]], answers).items():
                        scores[name] += values
            given = [value or 0.0 for value in combine(self.rewarded, scores)]
            reward = sum(given) / len(given)
            metrics = {"eval_loss": -reward, "eval_reward": reward}
            metrics |= {f"eval_{name}": mean for name, mean in means(scores).items()}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            return metrics

        @contextmanager
        def answering_greedily(self) -> Iterator[None]:
            """As a release is asked; by transformers also where vLLM answers in training, for its sampling is fixed."""
            before = {
                name: getattr(self, name, None) for name in ("generation_config", "generation_kwargs", "use_vllm")
            }
            tokenizer: Any = self.processing_class
            greedy: dict[str, Any] = {
                "max_new_tokens": self.max_completion_length,
                "do_sample": False,
                "pad_token_id": tokenizer.pad_token_id,
                "eos_token_id": self.eos_token_ids,
            }
            self.generation_config = GenerationConfig(**greedy)  # type: ignore[no-untyped-call]
            self.generation_kwargs, self.use_vllm = greedy, False
            try:
                yield
            finally:
                for name, value in before.items():
                    setattr(self, name, value)

    return AnswerTrainer
