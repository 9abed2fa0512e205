"""`data.format`: rows in the shapes that other tools name, read as ours: `messages` (with `rejected` of a pair, with
`label` where one answer alone is judged), or `prompt` and `completion`.

openai: OpenAI's fine-tuning files, preferences too. sharegpt: as LLaMA-Factory and axolotl take it. alpaca: Stanford
Alpaca (Taori et al. 2023) with LLaMA-Factory's `system`, `history` and pairs. trl: the formats of TRL's documentation
("Dataset formats and types").
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

from train.rows.fields import kind_of, shorten
from train.sources.source import Fault, Row

Turn = dict[str, Any]
ROLES = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant",
    "model": "assistant", "bot": "assistant", "bing": "assistant", "bard": "assistant", "system": "system",
    "tool": "tool", "observation": "tool", "function_response": "tool", "function": "tool", "ipython": "tool",
}  # fmt: skip
CALL = ("function_call", "tool_call")
LOSS_KEYS = ("weight", "train", "name", "tool_call_id", "tool_calls")


def read_openai(row: Row) -> Row | Fault:
    """`messages`, `tools` (or `functions` and `function_call`, their older names); a preference has `input`,
    `preferred_output`, `non_preferred_output`."""
    if "preferred_output" in row and isinstance(row.get("input"), dict):
        given = row["input"]
        found = pair(given.get("messages"), row["preferred_output"], row.get("non_preferred_output"))
        return found if isinstance(found, Fault) else found | tools_of(given)
    turns = turns_of(row.get("messages"), "messages")
    return turns if isinstance(turns, Fault) else {"messages": list(map(modern, turns))} | tools_of(row)


def modern(turn: Turn) -> Turn:
    """`function_call` became `tool_calls`, the role `function` became `tool` (OpenAI, November 2023)."""
    if turn.get("role") == "function":
        turn = turn | {"role": "tool"}
    if isinstance(call := turn.get("function_call"), dict):
        rest = {key: value for key, value in turn.items() if key != "function_call"}
        turn = rest | {"tool_calls": [{"type": "function", "function": call}]}
    return turn


def tools_of(row: Row) -> Row:
    """`tools` as a list, where a file holds them as JSON text or as the older `functions` too."""
    tools = row.get("tools")
    if isinstance(tools, str):
        try:
            tools = json.loads(tools) if tools.strip() else None
        except ValueError:
            return {"tools": tools}
    if tools is None and isinstance(functions := row.get("functions"), list):
        tools = functions
    if not isinstance(tools, list) or not tools:
        return {}
    wrapped = [
        {"type": "function", "function": tool} if isinstance(tool, dict) and "function" not in tool else tool
        for tool in tools
    ]
    return {"tools": wrapped}


def read_sharegpt(row: Row) -> Row | Fault:
    """`conversations` of `from` and `value` (or of `role` and `content`), with `system` and `tools`; `chosen` and
    `rejected` of a pair, `kto_tag` of a judged answer."""
    name = next((name for name in ("conversations", "conversation", "messages") if row.get(name) is not None), None)
    found = turns_of(row.get(name or "conversations"), name or "conversations")
    if isinstance(found, Fault):
        return found
    turns = with_system(row, list(map(sharegpt_turn, found)))
    odd = next((turn["role"] for turn in turns if turn.get("role") not in ROLES.values()), None)
    if odd is not None:
        return Fault("missing_field", f"{name}: from {shorten(odd)}", "human, gpt, system, function_call, observation")
    if "chosen" in row and "rejected" in row:
        sides = [
            [sharegpt_turn(side)] if isinstance(side := row[key], dict) else side for key in ("chosen", "rejected")
        ]
        pair_found = pair(turns, *sides)
        return pair_found if isinstance(pair_found, Fault) else pair_found | tools_of(row)
    return {"messages": turns} | tools_of(row) | judged(row.get("kto_tag"))


def sharegpt_turn(turn: Turn) -> Turn:
    said_by = turn.get("from", turn.get("role"))
    value = turn.get("value", turn.get("content"))
    rest = {key: turn[key] for key in LOSS_KEYS if turn.get(key) is not None}
    if said_by in CALL:
        calls = calls_of(value)
        if calls is not None:
            return {"role": "assistant", "content": None, "tool_calls": calls} | rest
    return {"role": ROLES.get(str(said_by).lower(), said_by), "content": value} | rest


def calls_of(value: Any) -> list[Row] | None:
    """{"name", "arguments"} or a list of them, as JSON text; None where it is not that."""
    try:
        found = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return None
    calls = found if isinstance(found, list) else [found]
    if not calls or not all(isinstance(call, dict) and "name" in call for call in calls):
        return None
    return [
        {"type": "function", "function": {"name": call["name"], "arguments": call.get("arguments", {})}}
        for call in calls
    ]


def read_alpaca(row: Row) -> Row | Fault:
    """`instruction`, `input` (below it, where it says something) and `output`; `system`; `history` of [question,
    answer]; `chosen` and `rejected` instead of the output for a pair, `kto_tag` of a judged output."""
    texts = {name: row.get(name) for name in ("instruction", "input", "output", "system")}
    wrong = [name for name, text in texts.items() if text is not None and not isinstance(text, str)]
    if wrong:
        return Fault("missing_field", f"{wrong[0]}: {kind_of(texts[wrong[0]])}", "a text")
    if texts["instruction"] is None:
        return Fault("missing_field", f"instruction: nothing, columns {', '.join(map(str, row))}", "a text")
    asked = "\n".join(text for text in (texts["instruction"], texts["input"]) if text and text.strip())
    turns: list[Turn] = []
    history = row.get("history") or []
    if not isinstance(history, list) or not all(isinstance(one, list) and len(one) == 2 for one in history):
        return Fault("missing_field", f"history: {kind_of(history)}", "a list of [question, answer]")
    for question, answer in history:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    turns = with_system(row, [*turns, {"role": "user", "content": asked}])
    if "chosen" in row and "rejected" in row:
        return pair(turns, row["chosen"], row["rejected"])
    if texts["output"] is None:
        return Fault("missing_field", f"output: nothing, columns {', '.join(map(str, row))}", "a text")
    return {"messages": [*turns, {"role": "assistant", "content": texts["output"]}]} | judged(row.get("kto_tag"))


def with_system(row: Row, turns: list[Turn]) -> list[Turn]:
    """The column `system` as the first turn, where it says something and no turn does so already."""
    system = row.get("system")
    if not isinstance(system, str) or not system.strip() or (turns and turns[0].get("role") == "system"):
        return turns
    return [{"role": "system", "content": system}, *turns]


def judged(label: Any) -> Row:
    """KTO's row: one answer, and whether it is wanted."""
    return {} if label is None else {"label": label}


def is_trl(row: Row) -> bool:
    """Whether a row has TRL's columns where ours would hold texts or are not there: `chosen` beside `rejected`, or a
    prompt of turns."""
    if row.keys() & {"messages", "conversations", "conversation", "instruction"}:
        return False
    return ("chosen" in row and "rejected" in row) or isinstance(row.get("prompt"), list)


def read_trl(row: Row) -> Row | Fault:
    """`text`, `messages`, `prompt` and `completion`, `prompt` and `chosen` and `rejected` (the prompt may stand within
    both of them), `prompt` and `completion` and `label`; each as text or as turns."""
    tools = tools_of(row)
    if "chosen" in row or "rejected" in row:
        found = pair(row.get("prompt"), row.get("chosen"), row.get("rejected"))
        return found if isinstance(found, Fault) else found | tools
    if "messages" in row:
        return {"messages": row["messages"]} | tools
    if "prompt" in row and "completion" in row:
        label = judged(row.get("label"))
        if isinstance(row["prompt"], str) and not label:
            return {"prompt": row["prompt"], "completion": row["completion"]}
        turns, answer = (
            as_turns(row["prompt"], "user", "prompt"),
            as_turns(row["completion"], "assistant", "completion"),
        )
        if isinstance(turns, Fault) or isinstance(answer, Fault):
            return turns if isinstance(turns, Fault) else answer  # type: ignore[return-value]  # the other is the Fault
        return {"messages": [*turns, *answer]} | label | tools
    if "text" in row:
        return {"text": row["text"]}
    return Fault(
        "missing_field",
        f"columns {', '.join(map(str, row))}",
        "messages, prompt and completion, or chosen and rejected",
    )


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
    if isinstance(value, str) and value.lstrip()[:2] in ("[{", '{"'):
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    value = [value] if isinstance(value, dict) else value
    if not isinstance(value, list) or not all(isinstance(turn, dict) for turn in value):
        return Fault("missing_field", f"{name}: {kind_of(value)}", "a list of turns")
    return value


PRESETS: dict[str, Callable[[Row], Row | Fault]] = {
    "openai": read_openai,
    "sharegpt": read_sharegpt,
    "alpaca": read_alpaca,
    "trl": read_trl,
}
