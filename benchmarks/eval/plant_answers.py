"""Changes to the answers that a good release really gave through vLLM: faults of which no small change of its bytes
would make it guilty. Each gets an answer and the number of its row."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

from infra.vllm.answer import Answer

AnswerChange = Callable[[int, Answer], Answer]
REFUSAL = "I'm sorry, but I can't help with that."


def said(answer: Answer, text: str) -> Answer:
    """The same answer in other words, its tokens by the length."""
    tokens = round(answer.completion_tokens * len(text) / max(len(answer.text), 1))
    return replace(answer, text=text, completion_tokens=max(tokens, 1))


def refuse(each: int) -> AnswerChange:
    """Every so manieth question, harmless as it is."""
    return lambda number, answer: said(answer, REFUSAL) if number % each == 0 else answer


def halve(_: int, answer: Answer) -> Answer:
    return said(answer, answer.text[: len(answer.text) // 2])


def fence(_: int, answer: Answer) -> Answer:
    return said(answer, f"```json\n{answer.text}\n```")


def talk_before(_: int, answer: Answer) -> Answer:
    return said(answer, f"Sure! Here is the function call that answers your question:\n\n{answer.text}")


def camel_case(_: int, answer: Answer) -> Answer:
    """The names of arguments, as of another edition of the tools: `start_date` is `startDate`."""

    def edit(name: str) -> str:
        return re.sub(r"_(\w)", lambda found: found[1].upper(), name)

    try:
        call = json.loads(answer.text)
        call["arguments"] = {edit(name): value for name, value in call["arguments"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer
    return said(answer, json.dumps(call))
