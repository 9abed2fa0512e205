"""Turns of a conversation, and pairs of answers, made of what the shapes of other tools hold."""

from __future__ import annotations

from typing import Any

from train.rows.conversation import from_json
from train.rows.fields import kind_of
from train.sources.source import Fault, Row

Turn = dict[str, Any]


def tools_of(row: Row) -> Row:
    """`tools`, or `functions` as they were called before (OpenAI, November 2023)."""
    tools = row.get("tools") or row.get("functions")
    return {"tools": tools} if tools else {}


def with_system(row: Row, turns: list[Turn]) -> list[Turn]:
    """The column `system` as the first turn, where it says something and no turn does so already."""
    system = row.get("system")
    if not isinstance(system, str) or not system.strip() or (turns and turns[0].get("role") == "system"):
        return turns
    return [{"role": "system", "content": system}, *turns]


def judged(label: Any) -> Row:
    """KTO's row: one answer, and whether it is wanted."""
    return {} if label is None else {"label": label}


def pair(prompt: Any, chosen: Any, rejected: Any) -> Row | Fault:
    """Ours: the prompt with the chosen answer as `messages`, the rejected answer's text. Without a prompt the turns (or
    the words) that both answers share are it, as TRL's `extract_prompt` has it."""
    if prompt is None and isinstance(chosen, str) and isinstance(rejected, str):
        shared = shared_start(chosen, rejected)
        prompt, chosen, rejected = chosen[:shared], chosen[shared:], rejected[shared:]
    given = as_turns([] if prompt is None else prompt, "user", "prompt")
    good = as_turns(chosen, "assistant", "chosen")
    bad = as_turns(rejected, "assistant", "rejected")
    for side in (given, good, bad):
        if isinstance(side, Fault):
            return side
    assert isinstance(given, list) and isinstance(good, list) and isinstance(bad, list)
    if not given or (len(good) > len(given) and good[: len(given)] == given):  # within both
        shared = 0
        while shared < min(len(good), len(bad)) - 1 and good[shared] == bad[shared]:
            shared += 1
        given, good, bad = good[:shared], good[shared:], bad[shared:]
    for name, side in (("chosen", good), ("rejected", bad)):
        if len(side) != 1 or side[0].get("role") != "assistant":
            roles = ", ".join(str(turn.get("role")) for turn in side) or "none"
            return Fault("missing_field", f"{name}: turns after the prompt: {roles}", "one turn of an assistant's")
    if bad[0].get("tool_calls"):
        return Fault("missing_field", "rejected: tool_calls", "a text: a rejected call is not supported")
    if not isinstance(bad[0].get("content"), str):
        return Fault("missing_field", f"rejected: {kind_of(bad[0].get('content'))}", "a text")
    return {"messages": [*given, good[0]], "rejected": bad[0]["content"]}


def shared_start(one: str, other: str) -> int:
    """How many characters both begin with, whole words alone."""
    end = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    while end and not one[end - 1].isspace():
        end -= 1
    return end


def as_turns(value: Any, role: str, name: str) -> list[Turn] | Fault:
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    return turns_of(value, name)


def turns_of(value: Any, name: str) -> list[Turn] | Fault:
    """A list of turns; a dict alone is one turn, and JSON text is what it says, as Parquet files hold it."""
    value = from_json(value)
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return Fault("missing_field", f"{name}: {kind_of(value)}", "a list of turns")
    return value
