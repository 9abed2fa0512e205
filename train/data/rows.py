"""What a row of each task looks like: one table of fields, and for each field what it must be. A row is a plain dict,
as it lies in parquet."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Literal

from train.sources.source import Fault, Row, compact

Shape = Literal["label", "labels", "value", "tags", "chat", "completion", "text", "preference"]
INVISIBLE = re.compile(r"[\s\u200b-\u200f\ufeff]*")
TAG = re.compile(r"[BIOESLU]-\S+|[^\s-]\S*")  # BIO and its kin, or IO with bare names


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


def empty(text: str) -> bool:
    return INVISIBLE.fullmatch(text) is not None


def check_text(value: Any) -> Any:
    if not isinstance(value, str):
        return Fault("missing_field", kind_of(value), "a text")
    return Fault("empty_field", repr(value), "a text with a character that shows") if empty(value) else value


def check_label(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else check_text(value)


def check_labels(value: Any) -> Any:
    """A list of labels, each once; it may be empty."""
    found = (
        [check_label(item) for item in value]
        if isinstance(value, list)
        else Fault("missing_field", kind_of(value), "a list of labels")
    )
    return (
        sorted(set(found))
        if isinstance(found, list) and all(isinstance(item, str) for item in found)
        else first_fault(found)
    )


def check_number(value: Any) -> Any:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    return number if math.isfinite(number) else Fault("missing_field", kind_of(value), "a finite number")


def check_tokens(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return Fault("missing_field", kind_of(value), "a list of words, not empty")
    return first_fault([check_text(item) for item in value])


def check_tags(value: Any) -> Any:
    if isinstance(value, list) and all(isinstance(item, str) and TAG.fullmatch(item) for item in value):
        return value
    odd = (
        [item for item in value if not (isinstance(item, str) and TAG.fullmatch(item))]
        if isinstance(value, list)
        else value
    )
    return Fault("invalid_tag", shorten(odd), "a list of tags such as O, B-PER, I-PER")


def check_conversation(value: Any) -> Any:
    if not isinstance(value, list) or not all(
        isinstance(turn, dict) and turn.keys() >= {"role", "content"} for turn in value
    ):
        return Fault("missing_field", kind_of(value), "a list of turns, each with role and content")
    roles = [turn["role"] for turn in value]
    if not all(isinstance(turn["content"], str) for turn in value) or len(roles) < 2 or roles[-1] != "assistant":
        return Fault(
            "missing_field",
            f"roles {shorten(roles)}",
            "texts of system, user and assistant, the last one an assistant's",
        )
    if not all(role in ("system", "user", "assistant") for role in roles):
        return Fault("missing_field", f"roles {shorten(roles)}", "system, user, assistant")
    blank = next((number for number, turn in enumerate(value, 1) if empty(turn["content"])), None)
    if blank:
        return Fault(
            "empty_field", f"turn {blank} ({roles[blank - 1]}) without text", "a text with a character that shows"
        )
    return [{"role": turn["role"], "content": turn["content"]} for turn in value]


def first_fault(found: Any) -> Any:
    return next((item for item in found if isinstance(item, Fault)), found) if isinstance(found, list) else found


def kind_of(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {shorten(value)}"


def shorten(value: Any, longest: int = 60) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else text[: longest - 1] + "…"


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


def words_asked(row: Row) -> str:
    """What near-duplicates are told by: the question without the system's turn, which many rows share."""
    if "messages" in row:
        return "\n".join(turn["content"] for turn in row["messages"][:-1] if turn["role"] != "system")
    return texts_of(row)[0]


def arrow_schema(shape: Shape, keep: list[str] | None = None) -> Any:
    """The pyarrow schema of a split's parquet file; with a column KEPT where some of the source's columns are to
    stay."""
    import pyarrow

    text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
    turns = pyarrow.list_(pyarrow.struct([("role", text), ("content", text)]))
    types = {"labels": texts, "tokens": texts, "tags": texts, "messages": turns, "value": pyarrow.float64()}
    names = ["id", *FIELDS[shape], *(["reference"] if shape in WITH_REFERENCE else []), *([KEPT] if keep else [])]
    return pyarrow.schema([(name, types.get(name, text)) for name in names])
