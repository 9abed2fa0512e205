"""Messages as a client sends them, and as vLLM 0.32.0 hands them to a chat template: one that writes a turn or a call
as JSON shows every key, in its place. tests/infra/test_chat_template_served.py holds this against vLLM's own server."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from configs.section import JsonObject

Message = dict[str, Any]  # role, content; tool_calls, tool_call_id, name, reasoning_content, train where there are some


def as_request(message: Message) -> Message:
    """As a client sends it, in OpenAI's format: a call's arguments are JSON in a text; thoughts are `reasoning`. A turn
    that is so already (of a golden prompt) stays as it is."""
    names = ("role", "content", "name", "tool_call_id", "reasoning")
    kept = {name: message[name] for name in names if message.get(name) is not None}
    if message.get("tool_calls"):
        kept["tool_calls"] = [call | {"function": with_text(call["function"])} for call in message["tool_calls"]]
    if message.get("reasoning_content") is not None:
        kept["reasoning"] = message["reasoning_content"]
    return kept


def said(message: Message) -> str:
    """What a turn says, as text: its content, then each of its calls as a JSON object."""
    calls = [call["function"] for call in message.get("tool_calls") or []]
    written = [json.dumps({"name": call["name"], "arguments": call["arguments"]}, ensure_ascii=False) for call in calls]
    return "\n".join([*([message["content"]] if message.get("content") else []), *written])


def with_text(function: JsonObject) -> JsonObject:
    arguments = function.get("arguments") or {}
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return function | {"arguments": text}


def as_served(messages: list[Message], template: str) -> list[Message]:
    """As vLLM's renderer hands them over (vllm/renderers/chat_utils.py:_parse_chat_message_content)."""
    in_parts = reads_parts(template)
    found = [served_message(message, in_parts) for message in messages]
    if any(message["role"] == "developer" for message in found) and not names_developer(template):
        return with_one_system_turn([system_turn(message) for message in found])
    return found


def served_message(message: Message, in_parts: bool) -> Message:
    role, content = message["role"], message.get("content")
    found: Message = {"role": role, "content": content or ""}
    if in_parts and role != "tool":
        found["content"] = [] if content is None else [{"type": "text", "text": content}]
    if role == "assistant":
        if message.get("tool_calls"):
            found["tool_calls"] = [served_call(call) for call in message["tool_calls"]]
        if message.get("reasoning_content") is not None:
            found |= dict.fromkeys(("reasoning", "reasoning_content"), message["reasoning_content"])
    kept = {"tool": ("tool_call_id", "name")}.get(role, ("name",))
    found |= {name: message[name] for name in kept if message.get(name) is not None}
    return found | ({"tools": None} if role == "developer" else {})


def served_call(call: JsonObject) -> JsonObject:
    """In the order of OpenAI's types, by which vLLM validates."""
    function = call["function"]
    known = {"id": call["id"]} if call.get("id") is not None else {}
    return known | {
        "function": {"arguments": function.get("arguments") or {}, "name": function["name"]},
        "type": "function",
    }


def served_tool(tool: JsonObject) -> JsonObject:
    """As vLLM's protocol writes it out: these keys in this order, null where there is none
    (vllm/entrypoints/generate/base/protocol.py:FunctionDefinition)."""
    function = tool["function"]
    kept = {name: function.get(name) for name in ("name", "description", "parameters")}
    return {
        "type": "function",
        "function": kept | {name: function[name] for name in ("strict",) if function.get(name) is not None},
    }


def names_developer(template: str) -> bool:
    return "'developer'" in template or '"developer"' in template


def system_turn(message: Message) -> Message:
    if message["role"] != "developer":
        return message
    return {name: value for name, value in message.items() if name != "tools"} | {"role": "system"}


def with_one_system_turn(messages: list[Message]) -> list[Message]:
    """All system turns as the first one, where one of them is not (hf.py:_consolidate_system_messages)."""
    places = [place for place, message in enumerate(messages) if message["role"] == "system"]
    if places in ([], [0]):
        return messages
    texts = [text_of(messages[place]["content"]) for place in places]
    whole = {"role": "system", "content": "\n\n".join(filter(None, texts))}
    return [whole, *(message for message in messages if message["role"] != "system")]


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "\n".join(part["text"] for part in content)


@lru_cache(maxsize=32)
def reads_parts(template: str) -> bool:
    """Whether the template has a loop over a message's content: vLLM then hands it lists of parts, whatever the request
    held (vllm/renderers/hf.py:_detect_content_format). In a macro, over what it is given of one."""
    from jinja2 import nodes
    from transformers.utils.chat_template_utils import _compile_jinja_template

    try:
        tree = _compile_jinja_template(template).environment.parse(template)
    except Exception:  # a template that cannot be read is refused where it is rendered
        return False
    given = {macro.name: parameters_given_content(macro, tree) for macro in tree.find_all(nodes.Macro)}
    inside = {id(loop): macro.name for macro in tree.find_all(nodes.Macro) for loop in macro.find_all(nodes.For)}
    for loop in tree.find_all(nodes.For):
        names = given[inside[id(loop)]] if id(loop) in inside else {"content"}
        if is_content(loop.iter) or (isinstance(loop.iter, nodes.Name) and loop.iter.name in names):
            return True
    return False


def parameters_given_content(macro: Any, tree: Any) -> set[str]:
    from jinja2 import nodes

    calls = [
        call for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name) and call.node.name == macro.name
    ]
    names = [parameter.name for parameter in macro.args]
    placed = {name for call in calls for name, value in zip(names, call.args, strict=False) if is_content(value)}
    return placed | {one.key for call in calls for one in call.kwargs if one.key in names and is_content(one.value)}


def is_content(node: Any) -> bool:
    """X.content or X['content'], through filters, tests and slices."""
    from jinja2 import nodes

    if isinstance(node, nodes.Filter | nodes.Test):
        return node.node is not None and is_content(node.node)
    if isinstance(node, nodes.Getitem):
        if isinstance(node.arg, nodes.Slice):
            return is_content(node.node)
        return isinstance(node.node, nodes.Name) and isinstance(node.arg, nodes.Const) and node.arg.value == "content"
    return isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.attr == "content"
