"""`data.format`: rows in the shapes that other tools name, read as ours: `messages` (with `rejected` of a pair, with
`label` where one answer alone is judged), or `prompt` and `completion`.

openai: OpenAI's fine-tuning files, preferences too. sharegpt: as LLaMA-Factory and axolotl take it. alpaca: Stanford
Alpaca (Taori et al. 2023) with LLaMA-Factory's `system`, `history` and pairs. trl: the formats of TRL's documentation
("Dataset formats and types").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from train.rows.conversation import from_json
from train.rows.fields import kind_of, shorten
from train.rows.squad import read_squad
from train.rows.trl import read_trl
from train.rows.turns import Turn, judged, pair, tools_of, turns_of, with_system
from train.sources.source import Fault, Row

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
    """The role `function` became `tool`."""
    return turn | {"role": "tool"} if turn.get("role") == "function" else turn


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
    found = from_json(value)
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


PRESETS: dict[str, Callable[[Row], Row | Fault]] = {
    "openai": read_openai,
    "sharegpt": read_sharegpt,
    "alpaca": read_alpaca,
    "trl": read_trl,
    "squad": read_squad,
}
