"""Every method of preference tuning learns the better answer, from the same pairs, and KTO from single answers too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.paths import RunPaths
from configs.run.config import RunConfig
from tests.support.prepared_rows import with_tokens
from train.loop.arguments import schedule_arguments, trainer_arguments
from train.rows.shape import Shape
from train.tasks.preference import build_preference_trainer

pytestmark = pytest.mark.unit


def pair(index: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": f"film {index}"}, {"role": "assistant", "content": "good"}]
    return {"id": str(index), "messages": turns, "rejected": "bad bad", "reference": "good"}


def single(index: int) -> dict[str, Any]:
    good = index % 2 == 0
    turns = [
        {"role": "user", "content": f"film {index}"},
        {"role": "assistant", "content": "good" if good else "bad bad"},
    ]
    return {"id": str(index), "messages": turns, "desirable": good, "reference": "good"}


def trainer_over(config: RunConfig, row: Callable[[int], dict[str, Any]], steps: int) -> Any:
    from datasets import Dataset

    arguments = trainer_arguments(config, RunPaths.of("x"), 4) | schedule_arguments(config.train, steps)
    shape: Shape = "preference" if row is pair else "unpaired"
    found = Dataset.from_list(with_tokens(Path("tiny-gpt"), shape, [row(index) for index in range(8)]))
    return build_preference_trainer(config, Path("tiny-gpt"), found, found.select(range(4)), **arguments)


def margin(trainer: Any) -> float:
    """ln p(good) - ln p(bad bad) after a prompt that was in no row."""
    import torch

    from infra.tokenizer import read_tokenizer

    found = read_tokenizer(Path("tiny-gpt")).pair(pair(99))

    def likelihood(answer: list[int]) -> float:
        ids = torch.tensor([found["prompt_ids"] + answer])
        with torch.inference_mode():
            logs = trainer.model(input_ids=ids).logits[0].float().log_softmax(-1)
        start = len(found["prompt_ids"])
        return float(sum(logs[start + at - 1, token] for at, token in enumerate(answer)))

    trainer.model.eval()
    return likelihood(found["chosen_ids"]) - likelihood(found["rejected_ids"])


METHODS = ("dpo", "orpo", "cpo", "simpo", "kto")
CASES = [(method, pair) for method in METHODS] + [("kto", single)]


@pytest.mark.parametrize("adapted", ["lora", "full"])
@pytest.mark.parametrize(("method", "row"), CASES, ids=lambda value: getattr(value, "__name__", value))
def test_each_method_makes_the_better_answer_likelier(
    chat: Callable[..., RunConfig], method: str, row: Callable[[int], dict[str, Any]], adapted: str
) -> None:
    section: dict[str, Any] = {"max_steps": 6, "method": adapted, "preference": {"method": method}}
    section |= {"lora": {"rank": 4, "alpha": 8} if adapted == "lora" else {}}
    trainer = trainer_over(chat(task="dpo", train=section), row, 6)
    before = margin(trainer)
    trainer.train()
    assert margin(trainer) > before + 0.5
    logged = [line for line in trainer.state.log_history if "eval_loss" in line]
    assert len(logged) == 3, "it was validated on the house's schedule"
    assert list(getattr(trainer.model, "peft_config", {"default": None})) == ["default"], "no second adapter to keep"
