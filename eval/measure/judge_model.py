"""A judge model's scores of a release's answers, asked through any OpenAI-compatible URL. What it answered is kept
in judge.jsonl."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import InputError
from configs.metrics import MetricDefinition
from configs.rows.template import jinja_environment
from configs.run.judge import Judge
from eval.measure.answers import run_group
from eval.measure.digest import json_digest
from eval.measure.rows import draw, question_of
from eval.metrics.rows import Prediction, Row
from infra.files.atomic import write_text
from infra.terminal import waiting
from infra.vllm.answer import Answer
from infra.vllm.client import post

if TYPE_CHECKING:
    import httpx

FILE = "judge.jsonl"
NUMBER = r"-?\d+(?:\.\d+)?"


@dataclass(frozen=True)
class JudgedAnswer:
    """One line of judge.jsonl. `judge`: digest of how it was asked; `score` is None where the answer held none."""

    id: str
    judge: str
    prompt: str
    answer: str
    score: float | None


def judge_rows(
    settings: Judge, rows: Iterable[Row], answered: Callable[[int], Answer], folder: Path
) -> dict[str, JudgedAnswer]:
    """By row id, for the drawn rows. What was answered to the same prompt in an earlier run is not asked again.

    Raises InputError where the key's variable is not set, ExternalError where the judge does not answer.
    """
    drawn = draw(rows, settings.rows, settings.seed)
    prompts = {str(row["id"]): prompt_of(settings, row, answered(number)) for number, row in drawn}
    digest, path = judge_digest(settings), folder / FILE
    kept = {one.id: one for one in read_lines(path) if one.judge == digest and prompts.get(one.id) == one.prompt}
    missing = {name: prompt for name, prompt in prompts.items() if name not in kept}
    write_lines(path, kept.values())
    if missing:
        key = read_api_key(settings)
        with waiting(f"{settings.model} judges {len(missing)} answers"):
            run_group(ask_judge(settings, digest, missing, kept, path, key))
    scores = {name: kept[name] for name in prompts}
    write_lines(path, scores.values())  # in the rows' order, whatever order they came in
    return scores


def read_api_key(settings: Judge) -> str | None:
    if settings.api_key_variable is None:
        return None
    key = os.environ.get(settings.api_key_variable)
    if not key:
        name = settings.api_key_variable
        raise InputError(
            f"evaluate.judge: found no {name} in the environment, expected the judge's key", hint=f"export {name}=..."
        )
    return key


def of_judge(settings: Judge | None) -> dict[str, MetricDefinition]:
    """The range of judge_score is the scale's, or that of the choices."""
    if settings is None:
        return {}
    low, high = settings.range
    return {"judge_score": {"kind": "bounded", "low": low, "high": high, "higher_is_better": True}}


def judge_digest(settings: Judge) -> str:
    """Of what decides the judge's answers and how they are read."""
    asked = settings.model_dump(mode="json", exclude={"rows", "seed", "concurrency", "api_key_variable"})
    return json_digest(asked)[:12]


def prompt_of(settings: Judge, row: Row, answer: Answer) -> str:
    """The reference of a call is the JSON that it is held against."""
    seen = {"question": question_of(row), "answer": answer.text, "reference": str(row.get("reference") or "")}
    return jinja_environment().from_string(settings.prompt).render(seen)


async def ask_judge(
    settings: Judge, digest: str, prompts: dict[str, str], kept: dict[str, JudgedAnswer], path: Path, key: str | None
) -> None:
    """`kept` and the file gain each answer as it comes."""
    import httpx

    waiting = iter(prompts.items())
    async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:
        with path.open("a", encoding="utf8") as stream:

            async def work() -> None:
                for name, prompt in waiting:
                    answer = await ask_once(client, settings, prompt, key)
                    kept[name] = JudgedAnswer(name, digest, prompt, answer, read_score(settings, answer))
                    stream.write(json.dumps(asdict(kept[name])) + "\n")
                    stream.flush()

            await asyncio.gather(*(group.create_task(work()) for _ in range(settings.concurrency)))


async def ask_once(client: httpx.AsyncClient, settings: Judge, prompt: str, key: str | None) -> str:
    """An answer of another shape than OpenAI's is kept as it is: no score, and no end of the evaluation."""
    body = {
        "model": settings.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": settings.max_tokens,
    }
    reply = await post(client, f"{settings.base_url}/chat/completions", body, key)
    try:
        return str(reply["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError):
        return json.dumps(reply)[:1000]


def read_score(settings: Judge, answer: str) -> float | None:
    """The one choice that is named, or the number after the last `score`, or else the only number; `4/5` and `4 out of
    5` are 4. None for anything else."""
    if settings.choices is not None:
        words = re.compile(
            r"(?<!\w)(?:"
            + "|".join(re.escape(word) for word in sorted(settings.choices, key=len, reverse=True))
            + r")(?!\w)",
            re.IGNORECASE,
        )
        named = {word.casefold() for word in words.findall(answer)}
        return (
            {word.casefold(): score for word, score in settings.choices.items()}[named.pop()]
            if len(named) == 1
            else None
        )
    low, high = settings.scale or (-math.inf, math.inf)
    plain = re.sub(rf"(?:/|\bout of\b)\s*{NUMBER}", "", answer)
    stated = re.findall(rf"score\W{{0,4}}?\s*({NUMBER})", plain, re.IGNORECASE)[-1:] or re.findall(NUMBER, plain)
    return float(stated[0]) if len(stated) == 1 and low <= float(stated[0]) <= high else None


def read_lines(path: Path) -> list[JudgedAnswer]:
    """A line that a kill cut short is dropped."""
    lines: list[JudgedAnswer] = []
    for line in path.read_text(encoding="utf8").split("\n") if path.exists() else []:
        try:
            lines.append(JudgedAnswer(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return lines


def write_lines(path: Path, lines: Iterable[JudgedAnswer]) -> None:
    write_text(path, "".join(json.dumps(asdict(line)) + "\n" for line in lines))


def scores_of(judged: dict[str, JudgedAnswer], identity: str) -> Prediction:
    """The row's judge_score, and 1.0 in judge_missing where the judge gave none; not a number in a row that was not
    drawn. No columns without a judge."""
    if not judged:
        return {}
    if identity not in judged:
        return {"judge_score": math.nan, "judge_missing": math.nan}
    score = judged[identity].score
    return {"judge_score": math.nan if score is None else score, "judge_missing": float(score is None)}
