"""What rows look like that lack our fields: a shape with a name, or columns that mean the same."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any

from configs.section import nearest
from train.rows.shape import FIELDS, JUDGED, Shape
from train.sources.source import Fault, Row

NAMES = {"openai": "OpenAI's files", "sharegpt": "ShareGPT", "alpaca": "Alpaca", "trl": "TRL"}
# What columns are called that hold a field of ours, the surest names first.
ALIASES: dict[str, tuple[str, ...]] = {
    "text": ("text", "sentence", "review", "body", "content", "comment", "tweet", "document", "message", "utterance",
             "description", "question", "query", "title", "input"),
    "label": ("label", "class", "category", "sentiment", "target", "intent", "topic", "stars", "rating", "y", "output"),
    "labels": ("labels", "categories", "classes", "topics", "label", "tags"),
    "value": ("value", "score", "rating", "stars", "similarity", "target", "label", "price", "y"),
    "tokens": ("tokens", "words", "token"),
    "tags": ("tags", "ner_tags", "labels", "ner", "pos_tags", "pos", "chunk", "entities", "tag"),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns"),
    "prompt": ("prompt", "question", "instruction", "query", "problem", "input", "context"),
    "completion": ("completion", "answer", "response", "output", "solution", "reply", "target"),
    "rejected": ("rejected", "worse", "bad", "negative"),
}  # fmt: skip
JUDGED_ALONE = "answers that are judged one by one want task dpo with train.preference.method: kto, and all rows so"
AS_CONVERSATION = 'beside conversations: data.template: {prompt: "{{ prompt }}", completion: "{{ completion }}"}'
WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+")


def advise(fault: Fault, row: Row, shape: Shape) -> Fault:
    """The fault with what helps: the key that would read such rows. `row`: as it was when its fields were looked
    for."""
    if fault.kind != "missing_field":
        return fault
    if shape == "preference" and row.keys() & JUDGED and "rejected" not in row:
        return replace(fault, expected=f"{fault.expected}; {JUDGED_ALONE}")
    known = known_shape(row) if shape not in ("label", "labels", "value", "tags") else None
    if known:
        advice = f"it looks like {NAMES[known]}: add data.format: {known}"
    else:
        missing = tuple(name for name in FIELDS[shape] if name not in row)
        advice = advise_columns(tuple(map(str, row)), missing, shape) if missing else ""
    return replace(fault, expected=f"{fault.expected}; {advice}") if advice else fault


def known_shape(row: Row) -> str | None:
    """The preset that reads such a row; None where none does, or none is needed."""
    for name in ("conversations", "conversation", "messages"):
        if is_turn(first(row.get(name)), "from", "value"):
            return "sharegpt"
    if is_turn(first(row.get("conversations") or row.get("conversation")), "role", "content"):
        return "sharegpt"
    if {"input", "preferred_output"} <= row.keys():
        return "openai"
    if {"instruction", "output"} <= row.keys() or {"instruction", "chosen", "rejected"} <= row.keys():
        return "alpaca"
    if {"prompt", "completion"} <= row.keys() and not isinstance(row["prompt"], str):
        return "trl"
    if {"chosen", "rejected"} <= row.keys() and "messages" not in row:
        return "trl"
    return None


def first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else None


def is_turn(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and value.keys() >= set(keys)


@lru_cache
def advise_columns(columns: tuple[str, ...], missing: tuple[str, ...], shape: Shape) -> str:
    """The `columns:` to write, else what columns there are."""
    wanted = [missing]
    if shape == "chat":
        wanted += [("prompt", "completion")]
    for fields in wanted:
        free = [column for column in columns if column not in FIELDS[shape]]
        found: dict[str, str] = {}
        for field in fields:
            column = column_for(field, free)
            if column is None:
                break
            found[field] = column
            free.remove(column)
        else:
            if all(ours == theirs for ours, theirs in found.items()):
                return AS_CONVERSATION
            return f"data.columns: {{{', '.join(f'{ours}: {theirs}' for ours, theirs in found.items())}}}?"
    return f"columns are {', '.join(columns)}: say under data.columns which is {' and '.join(missing)}"


def column_for(field: str, columns: list[str]) -> str | None:
    """The column that is called like the field or one of its other names, as a whole, as a word of it, or nearly."""
    names = ALIASES.get(field, (field,))
    for name in names:
        if whole := next((column for column in columns if column.lower() == name), None):
            return whole
    for name in names:
        if part := next((column for column in columns if name in words(column)), None):
            return part
    return nearest(field, columns, cutoff=0.7)


def words(column: str) -> list[str]:
    return [word.lower() for word in WORDS.findall(column)]
