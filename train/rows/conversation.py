"""What a conversation must be."""

from __future__ import annotations

from typing import Any

from train.rows.fields import empty, kind_of, shorten
from train.sources.source import Fault


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
