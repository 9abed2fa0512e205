"""What a conversation must be, in the words of OpenAI's format; what people write besides is brought to it."""

from __future__ import annotations

import json
from typing import Any

from train.rows.fields import empty, kind_of, shorten
from train.sources.source import Fault

ROLES = ("system", "developer", "user", "assistant", "tool")
TURNS = "a list of turns, each with role and content"


def check_conversation(value: Any) -> Any:
    """The turns as they are kept, or a Fault.

    A turn keeps `role`, `content` (null only beside calls) and, where there are some, `name`, `tool_calls`,
    `tool_call_id`, `reasoning_content` (or vLLM's `reasoning`) and `train`: whether an assistant's turn is a target. A
    system turn without text is no turn.
    """
    turns = from_json(value)
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
        return Fault("missing_field", kind_of(value), TURNS)
    roles = [turn["role"] for turn in turns]
    if not all(role in ROLES for role in roles):
        return Fault("missing_field", f"roles {shorten(roles)}", ", ".join(ROLES))
    found = []
    for number, turn in enumerate(turns, 1):
        kept = check_turn(turn)
        if isinstance(kept, Fault):
            return Fault(kept.kind, f"turn {number} ({turn['role']}): {kept.found}", kept.expected)
        if kept["role"] not in ("system", "developer") or not empty(kept["content"]):
            found.append(kept)
    if len(found) < 2 or found[-1]["role"] != "assistant":
        return Fault("missing_field", f"roles {shorten(roles)}", "two turns or more, the last one an assistant's")
    if not any(turn.get("train", True) for turn in found if turn["role"] == "assistant"):
        return Fault("no_target_tokens", "every assistant turn with weight 0 or train false", "one that is learnt")
    return with_ids(found)


def with_ids(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each call with an id, and each answer with that of its call where it names none: vLLM takes no call without one.

    Nine letters and digits: what Mistral's templates ask for.
    """
    number, open_calls = 0, list[str]()
    for turn in turns:
        for call in turn.get("tool_calls", []):
            call["id"] = call.get("id") or f"call{(number := number + 1):05d}"
            open_calls.append(call["id"])
        if turn["role"] == "tool" and open_calls:
            answered = turn.setdefault("tool_call_id", open_calls[0])
            open_calls = [one for one in open_calls if one != answered]
    return turns


def check_turn(turn: dict[str, Any]) -> Any:
    role, content, calls = turn["role"], text_of(turn.get("content")), check_calls(turn)
    target = check_target(turn)
    for part in (content, calls, target):
        if isinstance(part, Fault):
            return part
    if content is None and not calls:
        return Fault("missing_field", "no content", "a text, or a list of text parts; null only beside tool_calls")
    if content is not None and empty(content) and not calls and role in ("user", "assistant"):
        return Fault("empty_field", repr(content), "a text with a character that shows")
    kept = {"role": role, "content": None if content is not None and calls and empty(content) else content}
    if calls:
        kept["tool_calls"] = calls
    said = {"reasoning_content": turn.get("reasoning")} | {name: one for name, one in turn.items() if one is not None}
    for name in ("name", "tool_call_id", "reasoning_content"):
        if isinstance(said.get(name), str) and said[name]:
            kept[name] = said[name]
    return kept if target else kept | {"train": False}


def check_target(turn: dict[str, Any]) -> bool | Fault:
    """`weight` of 0 or 1 (OpenAI) and `train` or `training` (axolotl) of an assistant's turn; nothing said is a
    target."""
    said = {name: turn[name] for name in ("weight", "train", "training") if turn.get(name) is not None}
    odd = next((name for name, value in said.items() if value not in (0, 1)), None)
    if odd:
        return Fault("missing_field", f"{odd} {kind_of(said[odd])}", "weight 0 or 1, train true or false")
    if turn["role"] != "assistant":
        wanted = [name for name in said if name != "weight" and said[name]]
        return Fault("missing_field", f"{wanted[0]} true", "loss on assistant turns alone") if wanted else True
    return all(said.values())


def text_of(content: Any) -> Any:
    """A text, or None; text parts are joined by line breaks, as vLLM does (vllm/renderers/chat_utils.py)."""
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list):
        return Fault("missing_field", kind_of(content), "a text, or a list of text parts")
    texts = []
    for part in content:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        if not isinstance(text, str) or kind not in ("text", "input_text", "output_text"):
            return Fault("missing_field", f"a part {shorten(part)}", "text parts: images and sounds are not trained on")
        texts.append(text)
    return "\n".join(texts)


def check_calls(turn: dict[str, Any]) -> Any:
    """`tool_calls`, or the older `function_call`, each with a name and an object of arguments."""
    old = turn.get("function_call")
    calls = from_json(turn.get("tool_calls")) or ([{"function": from_json(old)}] if old else [])
    if not calls:
        return []
    if turn["role"] != "assistant" or not isinstance(calls, list):
        return Fault("missing_field", f"tool_calls {kind_of(calls)}", "a list of calls in an assistant's turn")
    found = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        arguments = from_json(function.get("arguments")) if isinstance(function, dict) else None
        if not isinstance(name, str) or not name or not isinstance(arguments if arguments else {}, dict):
            return Fault(
                "missing_field", f"a call {shorten(call)}", "function with name, and arguments as a JSON object"
            )
        known = {"id": call["id"]} if isinstance(call.get("id"), str) and call["id"] else {}
        found.append(known | {"type": "function", "function": {"name": name, "arguments": arguments or {}}})
    return found


def check_tools(value: Any) -> Any:
    """Tools as OpenAI writes them ({type: function, function: …}), or bare functions; a JSON text of such a list."""
    tools = from_json(value)
    if not tools:
        return []
    found = []
    for tool in tools if isinstance(tools, list) else [tools]:
        function = tool.get("function", tool) if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            return Fault("missing_field", f"a tool {shorten(tool)}", "type function, and function with a name")
        found.append(
            {"type": "function", "function": {name: part for name, part in function.items() if part is not None}}
        )
    return found


def from_json(value: Any) -> Any:
    """A column may hold JSON as text; any other text stays one."""
    if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
