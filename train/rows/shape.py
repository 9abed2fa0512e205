"""What a row of each task looks like: one table of fields, and what is read off a row. A row is a plain dict, as it
lies in parquet."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

from infra.served_messages import said
from train.rows.conversation import check_conversation, check_tools
from train.rows.fields import (
    check_boolean,
    check_label,
    check_labels,
    check_number,
    check_tags,
    check_text,
    check_tokens,
    shorten,
)
from train.sources.source import Fault, Row, compact

Shape = Literal["label", "labels", "value", "tags", "chat", "completion", "text", "preference", "unpaired"]


def shape_of(task: str, problem: str, columns: set[str], *, judged: bool = False) -> Shape:
    """`columns`: of the first row that could be read, for a chat model's row shows by its fields what it is. `judged`:
    whether single answers may be trained on (train.preference.method kto)."""
    if task == "sequence-classification":
        by_problem: dict[str, Shape] = {"multi_label": "labels", "regression": "value"}
        return by_problem.get(problem, "label")
    if task in ("causal-lm", "grpo"):
        return (
            "chat"
            if "messages" in columns
            else "completion"
            if "prompt" in columns
            else "text"
            if "text" in columns and task == "causal-lm"
            else "chat"
        )
    if task == "token-classification":
        return "tags"
    return "unpaired" if judged and columns & JUDGED and "rejected" not in columns else "preference"


FIELDS: dict[Shape, dict[str, Callable[[Any], Any]]] = {
    "label": {"text": check_text, "label": check_label},
    "labels": {"text": check_text, "labels": check_labels},
    "value": {"text": check_text, "value": check_number},
    "tags": {"tokens": check_tokens, "tags": check_tags},
    "chat": {"messages": check_conversation},
    "completion": {"prompt": check_text, "completion": check_text},
    "text": {"text": check_text},
    "preference": {"messages": check_conversation, "rejected": check_text},
    "unpaired": {"messages": check_conversation, "desirable": check_boolean},
}
KEPT = "kept"  # a JSON object of the columns that data.keep names
PAIR = "text_pair"  # the second text of a pair, beside text
JUDGED = {"desirable", "label"}  # columns of which one says whether an answer is good
WITH_REFERENCE = {"chat", "completion", "preference", "unpaired"}


def has_pairs(shape: Shape, found: Row) -> bool:
    """Whether this row's label or value is that of two texts."""
    return shape in ("label", "labels", "value") and found.get(PAIR) is not None


def parse_row(found: Row, shape: Shape, allowed: frozenset[str] = frozenset(), *, pairs: bool = False) -> Row | Fault:
    """The row in its shape, or the first thing that is wrong with it. `allowed`: the labels or tags that may be; empty:
    any. `pairs`: whether every row has a second text."""
    if shape == "preference" and "messages" not in found and "chosen" in found:  # TRL's own columns
        found = found | {
            "messages": [
                {"role": "user", "content": found.get("prompt")},
                {"role": "assistant", "content": found["chosen"]},
            ]
        }
    if shape == "unpaired":
        found = as_unpaired(found)
    if not pairs and has_pairs(shape, found):
        return Fault("missing_field", "a text_pair, which the first row has not", "two texts in every row, or in none")
    row: Row = {}
    for name, check in fields_of(shape, pairs).items():
        value = check(found.get(name))
        if isinstance(value, Fault):
            return Fault(value.kind, f"{name}: {value.found}", value.expected)
        row[name] = value
    if "messages" in row and found.get("tools"):
        tools = check_tools(found["tools"])
        if isinstance(tools, Fault):
            return Fault(tools.kind, f"tools: {tools.found}", tools.expected)
        row |= {"tools": tools} if tools else {}
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
            expected_of(row) if reference is None else reference if isinstance(reference, str) else compact(reference)
        )
    return row


def as_unpaired(found: Row) -> Row:
    """TRL's own columns (prompt, completion, label) as ours."""
    turns = [
        {"role": "user", "content": found.get("prompt")},
        {"role": "assistant", "content": found.get("completion")},
    ]
    return {"messages": turns, "desirable": found.get("label")} | found


def fields_of(shape: Shape, pairs: bool) -> dict[str, Callable[[Any], Any]]:
    return FIELDS[shape] | ({PAIR: check_text} if pairs else {})


def labels_of(row: Row) -> list[str]:
    """Class names or tags of a row, as often as they occur."""
    return [row["label"]] if "label" in row else row.get("labels") or row.get("tags") or []


def answer_of(row: Row) -> str:
    """What is to be learnt, as text."""
    for name in ("label", "labels", "value", "tags", "completion"):
        if name in row:
            return row[name] if isinstance(row[name], str) else compact(row[name])
    return said(row["messages"][-1]) if "messages" in row else ""


def expected_of(row: Row) -> str:
    """The right answer as it is scored: the answer itself; one call by name and the values that each argument may
    have."""
    calls = row["messages"][-1].get("tool_calls") or [] if "messages" in row else []
    if len(calls) == 1 and not row["messages"][-1]["content"]:
        call = calls[0]["function"]
        return compact({"name": call["name"], "accepted": {name: [value] for name, value in call["arguments"].items()}})
    return answer_of(row)


def question_of(row: Row) -> str:
    """What is asked, as text: two rows with the same question and another answer contradict each other."""
    if "messages" in row:
        asked = [row["messages"][:-1], *([row["tools"]] if "tools" in row else [])]
        return json.dumps(asked if "tools" in row else asked[0], sort_keys=True, ensure_ascii=False)
    if PAIR in row:
        return compact([row["text"], row[PAIR]])
    return str(row.get("text") or row.get("prompt") or compact(row.get("tokens")))


def texts_of(row: Row) -> list[str]:
    """Every text that a person wrote."""
    turns = [said(turn) for turn in row.get("messages", [])]
    words = [" ".join(row["tokens"])] if "tokens" in row else []
    return [*turns, *(row[name] for name in ("text", PAIR, "prompt", "completion", "rejected") if name in row), *words]


def asked_of(row: Row) -> tuple[str, str]:
    """What near-duplicates are told by: the whole question, and what is asked beside the system's turns and the tools;
    an answer to nothing stands for its question. Of two texts, the shorter one must be alike too: one passage has many
    questions."""
    if PAIR in row:
        return "\n".join((row["text"], row[PAIR])), min(row["text"], row[PAIR], key=len)
    if "messages" not in row:
        text = texts_of(row)[0]
        return text, text
    turns = row["messages"][:-1]
    beside = "\n".join(said(turn) for turn in turns if turn["role"] != "system")
    whole = "\n".join([*([str(row["tools"])] if row.get("tools") else []), *map(said, turns)])
    whole = whole if whole.strip() else answer_of(row)
    return whole, beside if beside.strip() else whole


def arrow_schema(shape: Shape, keep: list[str] | None = None, *, tokens: bool = True, pairs: bool = False) -> Any:
    """The pyarrow schema of a split's parquet file; with a column KEPT where some of the source's columns are to
    stay."""
    import pyarrow

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    keys = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content")
    turns = pyarrow.list_(pyarrow.struct([*((key, text) for key in keys), ("train", pyarrow.bool_())]))
    types = {"labels": texts, "tokens": texts, "tags": texts, "messages": turns, "value": pyarrow.float64()}
    types["desirable"] = pyarrow.bool_()
    names = ["id", *fields_of(shape, pairs), *(["tools"] if "messages" in FIELDS[shape] else [])]
    names += [*(["reference"] if shape in WITH_REFERENCE else []), *([KEPT] if keep else [])]
    return pyarrow.schema([(name, types.get(name, text)) for name in names] + (token_columns(shape) if tokens else []))


def token_columns(shape: Shape) -> list[tuple[str, Any]]:
    """Name and pyarrow type of what tokenizing adds to a row of this shape."""
    import pyarrow

    ids, length = pyarrow.list_(pyarrow.int32()), ("length", pyarrow.int32())
    if shape == "preference":
        return [*((name, ids) for name in ("prompt_ids", "chosen_ids", "rejected_ids")), length]
    if shape == "unpaired":
        return [("prompt_ids", ids), ("chosen_ids", ids), length]
    if shape == "tags":
        return [("input_ids", ids), ("first_subwords", ids), length]
    generated = shape in ("chat", "completion", "text")
    return [("input_ids", ids), *([("loss_mask", pyarrow.list_(pyarrow.bool_()))] if generated else []), length]
