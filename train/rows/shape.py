"""What a row of each task looks like: one table of fields, and what is read off a row. A row is a plain dict, as it
lies in parquet."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from train.rows.conversation import check_conversation
from train.rows.fields import (
    check_label,
    check_labels,
    check_number,
    check_tags,
    check_text,
    check_tokens,
    shorten,
)
from train.sources.source import Fault, Row, compact

Shape = Literal["label", "labels", "value", "tags", "chat", "completion", "text", "preference"]


def shape_of(task: str, problem: str, columns: set[str]) -> Shape:
    """`columns`: of the first row that could be read, for a causal-lm row shows by its fields what it is."""
    if task == "sequence-classification":
        by_problem: dict[str, Shape] = {"multi_label": "labels", "regression": "value"}
        return by_problem.get(problem, "label")
    if task == "causal-lm":
        return (
            "chat"
            if "messages" in columns
            else "completion"
            if "prompt" in columns
            else "text"
            if "text" in columns
            else "chat"
        )
    return "tags" if task == "token-classification" else "preference"


FIELDS: dict[Shape, dict[str, Callable[[Any], Any]]] = {
    "label": {"text": check_text, "label": check_label},
    "labels": {"text": check_text, "labels": check_labels},
    "value": {"text": check_text, "value": check_number},
    "tags": {"tokens": check_tokens, "tags": check_tags},
    "chat": {"messages": check_conversation},
    "completion": {"prompt": check_text, "completion": check_text},
    "text": {"text": check_text},
    "preference": {"messages": check_conversation, "rejected": check_text},
}
KEPT = "kept"  # a JSON object of the columns that data.keep names
WITH_REFERENCE = {"chat", "completion", "preference"}


def parse_row(found: Row, shape: Shape, allowed: frozenset[str] = frozenset()) -> Row | Fault:
    """The row in its shape, or the first thing that is wrong with it. `allowed`: the labels or tags that may be; empty:
    any."""
    if shape == "preference" and "messages" not in found and "chosen" in found:  # TRL's own columns
        found = found | {
            "messages": [
                {"role": "user", "content": found.get("prompt")},
                {"role": "assistant", "content": found["chosen"]},
            ]
        }
    row: Row = {}
    for name, check in FIELDS[shape].items():
        value = check(found.get(name))
        if isinstance(value, Fault):
            return Fault(value.kind, f"{name}: {value.found}", value.expected)
        row[name] = value
    if shape == "tags" and len(row["tokens"]) != len(row["tags"]):
        return Fault("invalid_tag", f"{len(row['tags'])} tags for {len(row['tokens'])} tokens", "one tag a token")
    if shape == "preference" and row["rejected"] == answer_of(row):
        return Fault("identical_pair", "rejected is the chosen answer", "an answer that is worse")
    unknown = sorted(set(labels_of(row)) - allowed) if allowed else []
    if unknown:
        return Fault("unknown_label", shorten(", ".join(unknown)), f"one of {shorten(', '.join(sorted(allowed)))}")
    if shape in WITH_REFERENCE:
        reference = found.get("reference")
        row["reference"] = (
            answer_of(row) if reference is None else reference if isinstance(reference, str) else compact(reference)
        )
    return row


def labels_of(row: Row) -> list[str]:
    """Class names or tags of a row, as often as they occur."""
    return [row["label"]] if "label" in row else row.get("labels") or row.get("tags") or []


def answer_of(row: Row) -> str:
    """What is to be learnt, as text."""
    for name in ("label", "labels", "value", "tags", "completion"):
        if name in row:
            return row[name] if isinstance(row[name], str) else compact(row[name])
    return str(row["messages"][-1]["content"]) if "messages" in row else ""


def question_of(row: Row) -> str:
    """What is asked, as text: two rows with the same question and another answer contradict each other."""
    if "messages" in row:
        return json.dumps(row["messages"][:-1], sort_keys=True, ensure_ascii=False)
    return str(row.get("text") or row.get("prompt") or compact(row.get("tokens")))


def texts_of(row: Row) -> list[str]:
    """Every text that a person wrote."""
    turns = [turn["content"] for turn in row.get("messages", [])]
    words = [" ".join(row["tokens"])] if "tokens" in row else []
    return [*turns, *(row[name] for name in ("text", "prompt", "completion", "rejected") if name in row), *words]


def asked_of(row: Row) -> tuple[str, str]:
    """What near-duplicates are told by: the whole question, and what is asked beside the system's turns; an answer to
    nothing stands for its question."""
    if "messages" not in row:
        text = texts_of(row)[0]
        return text, text
    turns = row["messages"][:-1]
    whole, beside = (
        "\n".join(filter(None, map(text_of, part)))
        for part in (turns, [turn for turn in turns if turn["role"] != "system"])
    )
    whole = whole or answer_of(row)
    return whole, beside or whole


def text_of(turn: dict[str, Any]) -> str:
    """What a turn says, its tool calls too."""
    said = [turn.get("content"), turn.get("tool_calls")]
    return "\n".join(part if isinstance(part, str) else compact(part) for part in said if part)


def arrow_schema(shape: Shape, keep: list[str] | None = None) -> Any:
    """The pyarrow schema of a split's parquet file; with a column KEPT where some of the source's columns are to
    stay."""
    import pyarrow

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    turns = pyarrow.list_(pyarrow.struct([("role", text), ("content", text)]))
    types = {"labels": texts, "tokens": texts, "tags": texts, "messages": turns, "value": pyarrow.float64()}
    names = ["id", *FIELDS[shape], *(["reference"] if shape in WITH_REFERENCE else []), *([KEPT] if keep else [])]
    return pyarrow.schema([(name, types.get(name, text)) for name in names])
