"""Conversations to text and tokens by a model's own chat template, as vLLM renders them, and which tokens are targets.

transformers renders (utils/chat_template_utils.py), `tokenizers` encodes; torch is not loaded. What vLLM 0.32.0 hands
to the template is handed here too (served_messages.py).
"""

from __future__ import annotations

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from configs.errors import InputError
from configs.section import JsonObject
from infra.loss_mask import Encoded, Spans, encode_spans
from infra.served_messages import Message, as_served, served_tool

TrainOn = Literal["all", "last", "answer"]  # answer: the last turn, learnt or not

GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")
PROBE = "\u0001"  # no template trims it, no text has it


class TemplateFault(ValueError):
    """A template refuses a conversation, or leaves out what it says."""


class ChatTemplate:
    """The chat template of one tokenizer folder. `tokenizer`: of `tokenizers`."""

    def __init__(self, folder: Path, tokenizer: Any, settings: JsonObject) -> None:
        self.tokenizer = tokenizer
        self.templates = read_templates(folder, settings)
        self.tokens = {name: text for name, value in settings.items() if (text := token_text(name, value))}
        if not self.templates:
            raise InputError(
                f"{folder}: found no chat template, and the rows are conversations",
                hint="take an instruction-tuned base, or data.template.chat=false",
            )

    def template(self, tools: object) -> str:
        """As transformers chooses among several (tokenization_utils_base.py:get_chat_template)."""
        names = ("tool_use", "default") if tools else ("default",)
        return next(
            (self.templates[name] for name in names if name in self.templates), next(iter(self.templates.values()))
        )

    def render(
        self, messages: list[Message], tools: list[JsonObject] | None = None, *, ask: bool = False, marks: bool = False
    ) -> tuple[str, Spans]:
        """The text, and with `marks` where its `{% generation %}` blocks stand, in characters. `ask`: with the words
        that begin an answer. Raises TemplateFault."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        special: Any = self.tokens
        template = self.template(tools)
        try:
            found: Any = render_jinja_template(
                conversations=[as_served(messages, template)],
                tools=[served_tool(tool) for tool in tools] if tools else None,
                chat_template=template,
                add_generation_prompt=ask,
                return_assistant_tokens_mask=marks,
                **special,
            )
        except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
            raise TemplateFault(f"the chat template refuses it: {' '.join(str(error).split())[:160]}") from error
        texts, spans = found
        return texts[0], spans[0] if spans else []

    def prompt_ids(self, messages: list[Message], tools: list[JsonObject] | None = None) -> list[int]:
        """The tokens that a server makes of these turns before it answers."""
        return list(self.tokenizer.encode(self.render(messages, tools, ask=True)[0], add_special_tokens=False).ids)

    @cached_property
    def end(self) -> str:
        """The text of the token that ends an assistant's turn: the first special token after an answer; without one
        the end of text, which serving stops at in any case."""
        special = sorted(
            (token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special), key=len
        )
        for turns in ([{"role": "user", "content": "a"}], []):
            try:
                text, _ = self.render([*turns, {"role": "assistant", "content": PROBE}])
            except TemplateFault:
                continue
            after = text.rpartition(PROBE)[2]
            found = [(place, -len(token), token) for token in special if token and (place := after.find(token)) >= 0]
            if found:
                return str(min(found)[2])
        return self.tokens.get("eos_token", "")

    @cached_property
    def end_ids(self) -> list[int]:
        """The ids at which an answer is at its end: the turn's end and the end of text, sorted."""
        texts = {self.end, self.tokens.get("eos_token", "")} - {""}
        return sorted(found for text in texts if (found := self.tokenizer.token_to_id(text)) is not None)

    def encode(
        self, messages: list[Message], tools: list[JsonObject] | None = None, train_on: TrainOn = "all"
    ) -> Encoded:
        """Token ids of the whole conversation and its loss mask: the assistant's turns (`last`: the last alone) but
        those with `train` false, from where the model begins to write to the end of the turn. `answer`: the last turn,
        whatever its `train`, for that is what is compared, rewarded or asked for.

        A token that lies across a target's beginning is taken apart, for a server's prompt ends there. Raises
        TemplateFault where the template refuses the turns, leaves out their tools, or hides where a turn begins.
        """
        text, spans = self.targets(messages, tools, train_on)
        return encode_spans(self.tokenizer, text, spans)

    def targets(self, messages: list[Message], tools: list[JsonObject] | None, train_on: TrainOn) -> tuple[str, Spans]:
        """The text of the whole conversation and its targets in characters, [start, end), in their order."""
        turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
        learnt = turns if train_on == "answer" else [index for index in turns if is_target(messages[index])]
        wanted = [index for index in learnt if train_on == "all" or index == turns[-1]]
        marked = bool(GENERATION.search(self.template(tools)))
        text, blocks = self.render(messages, tools, marks=marked)
        missing = [name for name in names_of(messages, tools) if name not in text]
        if missing:
            raise TemplateFault(f"the chat template leaves out {', '.join(missing[:3])}: it knows no tools")
        reasoning = messages[-1].get("reasoning_content") or ""
        if str(reasoning).strip() not in text:
            raise TemplateFault("the chat template leaves out the last turn's reasoning_content")
        if blocks and wanted == turns:
            return text, blocks
        if len(blocks) == len(turns):
            return text, [block for index, block in zip(turns, blocks, strict=True) if index in wanted]
        found = [self.span(text, messages, tools, index) for index in wanted]
        if wanted and wanted[-1] == len(messages) - 1:
            text, found[-1] = self.last_turn(text, messages, tools, found[-1])
        spans = [span for span in found if span is not None]
        if len(spans) < len(found):
            turn = wanted[found.index(None)] + 1
            raise TemplateFault(f"the chat template renders turn {turn} otherwise once others follow it")
        return text, spans

    def span(
        self, text: str, messages: list[Message], tools: list[JsonObject] | None, index: int
    ) -> tuple[int, int] | None:
        """Where the turn's target stands in `text`: after the words that ask for it, as far as the whole turn goes;
        None where these words do not stand before it."""
        try:
            asked, _ = self.render(messages[:index], tools, ask=True)
            whole, _ = self.render(messages[: index + 1], tools)
        except TemplateFault:
            return self.altered(text, messages, tools, index)
        if not text.startswith(asked):
            return self.altered(text, messages, tools, index)
        if text.startswith(whole) and len(whole) > len(asked):
            return len(asked), len(whole)
        return self.up_to_end(text, len(asked))

    def altered(
        self, text: str, messages: list[Message], tools: list[JsonObject] | None, index: int
    ) -> tuple[int, int] | None:
        """Where the text changes when the turn's content does."""
        if not messages[index].get("content") or messages[index].get("tool_calls"):
            return None
        other, _ = self.render([*messages[:index], messages[index] | {"content": PROBE}, *messages[index + 1 :]], tools)
        place = other.find(PROBE)
        return self.up_to_end(text, place) if place >= 0 and text[:place] == other[:place] else None

    def up_to_end(self, text: str, start: int) -> tuple[int, int] | None:
        """With the white space after it, which no other turn begins with."""
        end = text.find(self.end, start) if self.end else -1
        if end < 0:
            return None
        rest = text[end + len(self.end) :]
        return start, end + len(self.end) + len(rest) - len(rest.lstrip())

    def last_turn(
        self, text: str, messages: list[Message], tools: list[JsonObject] | None, span: tuple[int, int] | None
    ) -> tuple[str, tuple[int, int] | None]:
        """The last turn follows the very prompt that a server makes, also where the template renders it otherwise (one
        that asks for `<think>`, say), and it has an end."""
        asked, _ = self.render(messages[:-1], tools, ask=True)
        said = str(messages[-1].get("content") or "").strip()
        if span is None or not text.startswith(asked) or said not in text[span[0] :]:
            if not said or messages[-1].get("tool_calls"):
                return text, None
            opened = next((tag for tag in ("<think>",) if asked.rstrip().endswith(tag) and said.startswith(tag)), "")
            answer = said.removeprefix(opened).lstrip("\n") if opened else said
            return asked + answer + self.end, (len(asked), len(asked) + len(answer) + len(self.end))
        if self.end and self.end not in text[span[0] :]:
            text += self.end
        return text, (span[0], len(text))


def is_target(message: Message) -> bool:
    return bool(message.get("train", True))


def names_of(messages: list[Message], tools: list[JsonObject] | None) -> list[str]:
    """What must stand in the text where rows have tools: their names, and those that are called."""
    called = [call["function"]["name"] for message in messages for call in message.get("tool_calls") or []]
    return list(dict.fromkeys([*(tool["function"]["name"] for tool in tools or []), *called]))


def read_templates(folder: Path, settings: JsonObject) -> dict[str, str]:
    """By name, from wherever transformers keeps them: chat_template.jinja and additional_chat_templates/, or in
    tokenizer_config.json, one text or a list."""
    file, more = folder / "chat_template.jinja", folder / "additional_chat_templates"
    found = settings.get("chat_template")
    named = {str(one["name"]): str(one["template"]) for one in found} if isinstance(found, list) else {}
    if isinstance(found, str):
        named["default"] = found
    if file.exists():
        named["default"] = file.read_text(encoding="utf8")
    return named | {one.stem: one.read_text(encoding="utf8") for one in sorted(more.glob("*.jinja"))}


def token_text(name: str, value: object) -> str | None:
    """Of a special token as tokenizer_config.json has it; None where `name` is no such key."""
    text = value.get("content") if isinstance(value, dict) else value
    return str(text) if name.endswith("_token") and isinstance(text, str) and text else None


def read_settings(folder: Path) -> JsonObject:
    """tokenizer_config.json over special_tokens_map.json."""
    found: JsonObject = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        try:
            found |= json.loads((folder / name).read_text(encoding="utf8"))
        except (OSError, ValueError):
            continue
    return found
