"""Rows in the formats of TRL's documentation ("Dataset formats and types")."""

from __future__ import annotations

from train.rows.turns import as_turns, judged, pair, tools_of
from train.sources.source import Fault, Row


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
