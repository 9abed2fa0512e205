"""What a judge model is held to answer, and how its answer is read. Nothing is guessed: what is not plainly a score is
missing, and counted."""

from __future__ import annotations

import json
import re

from configs.run.judge import Judge
from configs.section import JsonObject

SCORE_LINE = re.compile(r"[\s*_`\"']*score[\s*_`\"']*[:=][\s*_`\"']*(.+)", re.IGNORECASE)
FENCE = re.compile(r"^```(?:json)?\s*(.*?)\s*```$", re.DOTALL)
AROUND = " \t\r\n*_`\"'"


def response_format(settings: Judge) -> JsonObject:
    """OpenAI's `json_schema`: the reason first, so that the score follows from it."""
    kind: JsonObject = {"type": "number"} if settings.scale else {"type": "string", "enum": [*settings.words]}
    schema = {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "score": kind},
        "required": ["reason", "score"],
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "judgement", "strict": True, "schema": schema}}


def read_score(settings: Judge, answer: str) -> float | None:
    """Of a JSON object its `score`; of plain text the score alone, or a last line `score: ...`. `4/5` and `4 out of 5`
    are 4 on a scale to 5. None for anything else, prose with numbers or choices in it too."""
    stated = stated_score(answer)
    if stated is None:
        return None
    if settings.scale is None:
        return {word.casefold(): score for word, score in settings.words.items()}.get(stated.casefold())
    low, high = settings.scale
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?)(?:\s*(?:/|out of)\s*(\d+(?:\.\d+)?))?", stated)
    if found is None or (found[2] is not None and float(found[2]) != high):
        return None
    return float(found[1]) if low <= float(found[1]) <= high else None


def stated_score(answer: str) -> str | None:
    """As it is written, without what surrounds it."""
    text = answer.strip()
    fenced = FENCE.match(text)
    try:
        found = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        score = found.get("score")
        return None if isinstance(score, bool) or not isinstance(score, int | float | str) else str(score).strip()
    lines = [line for line in text.splitlines() if line.strip(AROUND)]
    if not lines:
        return None
    named = SCORE_LINE.fullmatch(lines[-1])
    if named is None and len(lines) > 1:
        return None
    return (named[1] if named else lines[0]).strip(AROUND).removesuffix(".").strip(AROUND)


def of_both_orders(shown_first: float | None, shown_second: float | None) -> float | None:
    """A verdict that hangs on who is shown first is none: a tie (Zheng 2023, arXiv:2306.05685, section 3.4)."""
    if shown_first is None or shown_second is None:
        return None
    return shown_first if shown_first == shown_second else 0.5
