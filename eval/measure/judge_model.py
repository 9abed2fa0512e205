"""A judge model's scores of a release's answers, asked through any OpenAI-compatible URL. What it answered is kept
in judge.jsonl."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import InputError
from configs.metrics import MetricDefinition
from configs.rows.template import jinja_environment
from configs.run.judge import Judge
from configs.section import JsonObject
from eval.measure.answers import run_group
from eval.measure.digest import json_digest
from eval.measure.judge_answer import of_both_orders, read_score, response_format
from eval.measure.rows import draw, question_of
from eval.metrics.rows import Prediction, Row
from infra.files.atomic import write_text
from infra.terminal import waiting
from infra.vllm.answer import Answer
from infra.vllm.client import post

if TYPE_CHECKING:
    import httpx

FILE = "judge.jsonl"


@dataclass(frozen=True)
class JudgedAnswer:
    """One line of judge.jsonl. `judge`: digest of how it was asked; `score` is None where the answer held none.

    `id`: the row's; with `#second` where the row's answer was shown second, `#reference` where its reference was
    judged. `model`: what the server calls the one that answered.
    """

    id: str
    judge: str
    prompt: str
    answer: str
    score: float | None
    model: str | None = None


@dataclass(frozen=True)
class Judged:
    """A drawn row: the score of its answer; whether the judge gave its reference the score that a person gave, None
    where there is none, or the judge's could not be read."""

    score: float | None
    agrees: float | None = None


def judge_rows(
    settings: Judge, rows: Iterable[Row], answered: Callable[[int], Answer], folder: Path
) -> dict[str, Judged]:
    """By row id, for the drawn rows. What was answered to the same prompt in an earlier run is not asked again.

    Raises InputError where the key's variable is not set, or a person's score is no number, ExternalError where the
    judge does not answer.
    """
    drawn = draw(rows, settings.rows, settings.seed)
    humans = {str(row["id"]): human_score(settings, row) for _, row in drawn} if settings.human else {}
    prompts: dict[str, str] = {}
    for number, row in drawn:
        prompts |= prompts_of(settings, row, answered(number))
    digest, path = judge_digest(settings), folder / FILE
    kept = {one.id: one for one in read_lines(path) if one.judge == digest and prompts.get(one.id) == one.prompt}
    missing = {name: prompt for name, prompt in prompts.items() if name not in kept}
    write_lines(path, kept.values())
    if missing:
        key = read_api_key(settings)
        with waiting(f"{settings.model} judges {len(missing)} answers"):
            run_group(ask_judge(settings, digest, missing, kept, path, key))
    write_lines(path, (kept[name] for name in prompts))  # in the rows' order, whatever order they came in
    scores = {name: kept[name].score for name in prompts}
    return {str(row["id"]): judged_of(settings, str(row["id"]), scores, humans) for _, row in drawn}


def judged_of(settings: Judge, name: str, scores: dict[str, float | None], humans: dict[str, float | None]) -> Judged:
    if settings.pairwise:
        second = scores[f"{name}#second"]
        return Judged(of_both_orders(scores[name], None if second is None else 1 - second))
    human, machine = humans.get(name), scores.get(f"{name}#reference")
    return Judged(scores[name], None if human is None or machine is None else float(human == machine))


def human_score(settings: Judge, row: Row) -> float | None:
    """Of choices a person's word is its score. None where nobody scored the row."""
    kept = json.loads(row.get("kept") or "{}")
    said = kept.get(settings.human)
    if said is None or said == "":
        return None
    words = {word.casefold(): score for word, score in settings.words.items()}
    try:
        return words[str(said).casefold()] if str(said).casefold() in words else float(said)
    except ValueError as error:
        raise InputError(
            f"evaluate.judge.human: row {row['id']} has {said!r} in {settings.human}, expected a score",
            hint="tunegate check CONFIG --data",
        ) from error


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


def prompts_of(settings: Judge, row: Row, answer: Answer) -> dict[str, str]:
    """What it is asked about one row, by the id of a line of judge.jsonl."""
    name = str(row["id"])
    if settings.pairwise:
        reference = replace(answer, text=reference_of(row))
        return {
            name: pair_of(settings, row, answer, reference),
            f"{name}#second": pair_of(settings, row, reference, answer),
        }
    found = {name: prompt_of(settings, row, answer)}
    if settings.human and human_score(settings, row) is not None:
        found[f"{name}#reference"] = prompt_of(settings, row, replace(answer, text=reference_of(row)))
    return found


def prompt_of(settings: Judge, row: Row, answer: Answer) -> str:
    """The reference of a call is the JSON that it is held against."""
    seen = {"question": question_of(row), "answer": answer.text, "reference": reference_of(row)}
    return jinja_environment().from_string(settings.prompt).render(seen)


def pair_of(settings: Judge, row: Row, first: Answer, second: Answer) -> str:
    seen = {"question": question_of(row), "first": first.text, "second": second.text}
    return jinja_environment().from_string(settings.prompt).render(seen)


def reference_of(row: Row) -> str:
    return str(row.get("reference") or "")


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
                    answer, model = await ask_once(client, settings, prompt, key)
                    kept[name] = JudgedAnswer(name, digest, prompt, answer, read_score(settings, answer), model)
                    stream.write(json.dumps(asdict(kept[name])) + "\n")
                    stream.flush()

            await asyncio.gather(*(group.create_task(work()) for _ in range(settings.concurrency)))


async def ask_once(client: httpx.AsyncClient, settings: Judge, prompt: str, key: str | None) -> tuple[str, str | None]:
    """The answer, and which model gave it. An answer of another shape than OpenAI's is kept as it is: no score, and no
    end of the evaluation."""
    body: JsonObject = {
        "model": settings.model,
        "messages": [{"role": "user", "content": prompt}],
        "temperature": 0,
        "max_tokens": settings.max_tokens,
    }
    if settings.structured:
        body["response_format"] = response_format(settings)
    reply = await post(client, f"{settings.base_url}/chat/completions", body, key)
    try:
        return str(reply["choices"][0]["message"]["content"] or ""), str(reply.get("model") or settings.model)
    except (KeyError, IndexError, TypeError, AttributeError):
        return json.dumps(reply)[:1000], None


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


def scores_of(judged: dict[str, Judged], identity: str) -> Prediction:
    """The row's judge_score, and 1.0 in judge_missing where the judge gave none; not a number in a row that was not
    drawn. No columns without a judge."""
    if not judged:
        return {}
    if identity not in judged:
        return {"judge_score": math.nan, "judge_missing": math.nan, "judge_agreement": math.nan}
    score, agrees = judged[identity].score, judged[identity].agrees
    return {
        "judge_score": math.nan if score is None else score,
        "judge_missing": float(score is None),
        "judge_agreement": math.nan if agrees is None else agrees,
    }
