"""Preference pairs are tokenised as serving sends them, and the reference is the model that training began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.prepared_rows import with_tokens
from train.loop.arguments import schedule_arguments, trainer_arguments
from train.tasks.dpo import build_dpo_trainer

pytestmark = pytest.mark.unit
PAIR = {
    "id": "1",
    "messages": [{"role": "user", "content": "film?"}, {"role": "assistant", "content": "good"}],
    "rejected": "a bad one",
    "reference": "good",
}


def test_both_answers_follow_the_prompt_that_serving_sends_and_end(tiny_gpt: Path, tokenizer: Any) -> None:
    (pair,), (chat,) = (with_tokens(tiny_gpt, shape, [PAIR]) for shape in ("preference", "chat"))
    assert pair["prompt_ids"] + pair["chosen_ids"] == chat["input_ids"]
    assert tokenizer.decode(pair["rejected_ids"]) == "a bad one<|im_end|>\n"
    assert pair["length"] == len(pair["prompt_ids"] + pair["rejected_ids"]), "the longer of both"


@pytest.fixture
def rows(tiny_gpt: Path) -> list[dict[str, Any]]:
    turns = [
        [{"role": "user", "content": f"film {index}"}, {"role": "assistant", "content": "good"}] for index in range(8)
    ]
    found = [
        {"id": str(index), "messages": messages, "rejected": "bad", "reference": "good"}
        for index, messages in enumerate(turns)
    ]
    ids = ("prompt_ids", "chosen_ids", "rejected_ids", "length")
    return [{name: row[name] for name in ids} for row in with_tokens(tiny_gpt, "preference", found)]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_prefers_the_chosen_answers_and_starts_at_the_reference(
    chat: Callable[..., RunConfig], rows: list[dict[str, Any]], method: str
) -> None:
    from datasets import Dataset

    section = {"max_steps": 6, "method": method} | (
        {"lora": {"rank": 4, "alpha": 8}} if method == "lora" else {"lora": {}}
    )
    config = chat(task="dpo", train=section)
    arguments = trainer_arguments(config, RunPaths.of("x"), 4) | schedule_arguments(config.train, 6)
    trainer = build_dpo_trainer(
        config, Path("tiny-gpt"), Dataset.from_list(rows), Dataset.from_list(rows[:4]), **arguments
    )
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    margins = [line["rewards/margins"] for line in trainer.state.log_history if "rewards/margins" in line]
    assert losses[0] == pytest.approx(0.6931, abs=2e-3), "log 2: at the start policy and reference are one"
    assert losses[-1] < losses[0] and margins[-1] > margins[0]
    assert list(getattr(trainer.model, "peft_config", {"default": None})) == ["default"], "no second adapter to keep"
