"""What a training answer is rewarded for: the gate's own metrics, one answer at a time. `tunegate.py` hands it to
`train`, which does not know `eval`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from configs.run.config import RunConfig
from configs.run.judge import Judge
from configs.run.metrics import METRICS
from eval.measure.answers import run_group
from eval.measure.judge_answer import read_score
from eval.measure.judge_model import ask_once, prompt_of, read_api_key
from eval.metrics.generation import score_answer
from eval.metrics.rows import Row
from infra.vllm.answer import Answer

if TYPE_CHECKING:
    import httpx

Scores = dict[str, list[float | None]]  # by metric, a value an answer; None where it says nothing of one


def make_rewards(config: RunConfig) -> Callable[[list[Row], list[str]], Scores] | None:
    """Of rows and an answer to each; None where the run learns from no reward.

    Raises InputError where the judge's key is not set; what is made raises ExternalError where the judge does not
    answer.
    """
    wanted = config.train.reward
    if not wanted:
        return None
    judge = config.evaluate.judge if any(one.metric == "judge_score" for one in wanted) else None
    key, kept = (read_api_key(judge) if judge else None), dict[str, float | None]()

    def rewards(rows: list[Row], answers: list[str]) -> Scores:
        found = [score(config, row, answer) for row, answer in zip(rows, answers, strict=True)]
        if judge is not None:
            prompts = [prompt_of(judge, row, as_answer(answer)) for row, answer in zip(rows, answers, strict=True)]
            missing = [*dict.fromkeys(prompt for prompt in prompts if prompt not in kept)]
            if missing:
                run_group(judge_all(judge, missing, kept, key))
            found = [one | {"judge_score": kept[prompt]} for one, prompt in zip(found, prompts, strict=True)]
        return {
            one.metric: [columns.get(METRICS[one.metric].per_example or one.metric) for columns in found]
            for one in wanted
        }

    return rewards


def score(config: RunConfig, row: Row, answer: str) -> dict[str, Any]:
    """As `evaluate` scores it: every column of one answer."""
    return {**score_answer(row["reference"], as_answer(answer), config.evaluate)}


def as_answer(text: str) -> Answer:
    """An answer that no server gave."""
    return Answer(text, None, None, None, 0.0, 0)


async def judge_all(judge: Judge, prompts: list[str], kept: dict[str, float | None], key: str | None) -> None:
    """`kept` gains a score a prompt."""
    import httpx

    waiting = iter(prompts)
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:

        async def work(client: httpx.AsyncClient) -> None:
            for prompt in waiting:
                answer, _ = await ask_once(client, judge, prompt, key)
                kept[prompt] = read_score(judge, answer)

        for _ in range(judge.concurrency):
            group.create_task(work(client))
