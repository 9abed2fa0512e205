"""A model that is rewarded by the gate's own metrics learns to be rewarded; a killed run goes on to the very bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from configs.training.reward import Reward
from eval.measure.rewards import make_rewards
from tests.support.prepared_rows import with_tokens
from train.loop.arguments import trainer_arguments
from train.loop.trainer import build_trainer, schedule_rows
from train.tasks.grpo import combine, means

pytestmark = pytest.mark.unit


def row(index: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"film {index}"}, {"role": "assistant", "content": "good good"}]
    return {"id": str(index), "messages": turns, "reference": "good good"}


def trainer_over(config: RunConfig, micro_batch: int) -> Any:
    from datasets import Dataset

    rows = with_tokens(Path("tiny-gpt"), "chat", [row(index) for index in range(12)])
    found = Dataset.from_list(rows)
    rewards = make_rewards(config)
    arguments = trainer_arguments(config, RunPaths.of("x"), micro_batch)
    trainer = build_trainer(config, Path("tiny-gpt"), [], found, found.select(range(5)), rewards, **arguments)
    schedule_rows(trainer, config, None)
    return trainer


LEARNS = {
    "batch_size": 32,
    "learning_rate": 0.02,
    "reward": [{"metric": "sentence_chrf", "weight": 0.01}],
    "grpo": {"generations": 8},
}


def test_the_answers_become_what_the_metric_asks_for(chat: Callable[..., RunConfig]) -> None:
    # every weight: a random model's tied head is too small for an adapter below it to be sure of a token
    section = LEARNS | {"max_steps": 16, "eval_every_steps": 8, "method": "full", "lora": {}}
    trainer = trainer_over(chat(task="grpo", train=section, evaluate={"max_new_tokens": 4}), 16)
    trainer.train()
    drawn = [line["reward"] for line in trainer.state.log_history if "reward" in line]
    asked = [line for line in trainer.state.log_history if "eval_reward" in line]
    assert len(drawn) == 16 and sum(drawn[-4:]) > 5 * sum(drawn[:4]), "sampled answers: better than at first"
    assert len(asked) == 2 and all(line["eval_loss"] == -line["eval_reward"] for line in asked)
    assert asked[-1]["eval_sentence_chrf"] == pytest.approx(100 * asked[-1]["eval_reward"]), "the gate's own figure"
    assert trainer.state.best_metric == min(line["eval_loss"] for line in asked), "the best checkpoint is by reward"


def test_a_killed_run_goes_on_to_the_very_weights(chat: Callable[..., RunConfig]) -> None:
    import torch

    config = chat(task="grpo", train=LEARNS | {"max_steps": 4, "batch_size": 16}, evaluate={"max_new_tokens": 4})
    whole = trainer_over(config, 8)
    whole.train()
    resumed = trainer_over(config, 8)
    resumed.train(resume_from_checkpoint=str(RunPaths.of("x").checkpoints / "checkpoint-2"))
    for (name, one), (_, other) in zip(whole.model.named_parameters(), resumed.model.named_parameters(), strict=True):
        assert torch.equal(one, other), name


@pytest.mark.parametrize("micro_batch", [4, 16])
def test_each_step_takes_its_prompts_whole_whatever_fits_at_a_time(
    chat: Callable[..., RunConfig], micro_batch: int
) -> None:
    config = chat(task="grpo", train=LEARNS | {"max_steps": 3, "batch_size": 16}, evaluate={"max_new_tokens": 2})
    trainer = trainer_over(config, micro_batch)
    assert len(trainer.train_dataset) == 3 * 2, "two prompts a step, eight answers to each"
    batches = [[row["row"] for row in batch] for batch in trainer.get_train_dataloader()]
    each_step = 16 // micro_batch
    assert len(batches) == 3 * each_step
    for step in range(3):
        drawn = batches[step * each_step]
        assert len(drawn) == 16 and len(set(drawn[:8])) == len(set(drawn[8:])) == 1 and drawn[0] != drawn[8]


def test_a_reward_sums_what_is_known_and_is_none_where_nothing_is() -> None:
    wanted = [Reward(metric="exact_match"), Reward(metric="valid_json", weight=0.5)]
    scores = {"exact_match": [1.0, None, 0.0, None], "valid_json": [1.0, 1.0, None, None]}
    assert combine(wanted, scores) == [1.5, 0.5, 0.0, None]
    assert means(scores) == {"exact_match": 0.5, "valid_json": 1.0}
