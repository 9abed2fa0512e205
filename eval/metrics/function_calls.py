"""Function-call match by syntax tree, after BFCL's ast_checker (Berkeley Function-Calling Leaderboard, Apache-2.0)."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CallMatch:
    """0.0 or 1.0 each; exact implies name."""

    valid_json: float
    name_match: float
    exact_match: float


def match_call(answer: str, reference: str) -> CallMatch:
    """Compares an answer with `{"name", "accepted": {argument: [values]}}`; other references match as text. Never
    raises."""
    try:
        gold = json.loads(reference)
    except ValueError:
        gold = None
    valid = float(is_json(answer))
    if not isinstance(gold, dict) or "accepted" not in gold:
        same = float(answer.strip() == reference.strip())
        return CallMatch(valid, same, same)
    try:
        call = parse_call(answer)
        named = call is not None and call[0] == gold["name"]
        exact = named and call is not None and arguments_match(call[1], gold["accepted"])
    except (RecursionError, OverflowError, TypeError, ValueError):
        named = exact = False
    return CallMatch(valid, float(named), float(exact))


def is_json(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def parse_call(text: str) -> tuple[str, dict[str, object]] | None:
    """A JSON object with name and arguments, or one Python call with keyword arguments; None for anything else."""
    try:
        found = json.loads(text)
        arguments = found.get("arguments", found.get("parameters", {})) if isinstance(found, dict) else None
        return (str(found["name"]), arguments) if isinstance(arguments, dict) and "name" in found else None
    except (ValueError, RecursionError):
        return parse_python_call(text)


def parse_python_call(text: str) -> tuple[str, dict[str, object]] | None:
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
            return None
        return ast.unparse(node.func), {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def arguments_match(found: Mapping[str, object], accepted: Mapping[str, list[Any]]) -> bool:
    if found.keys() - accepted.keys():
        return False
    return all(
        any(value_matches(found[name], value) for value in values) if name in found else "" in values
        for name, values in accepted.items()
    )


def value_matches(found: Any, wanted: Any) -> bool:
    """`wanted` is one accepted value; within a dict, BFCL lists the accepted values of each key."""
    if isinstance(found, bool) or isinstance(wanted, bool):
        return type(found) is type(wanted) and bool(found == wanted)
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(found, str) and isinstance(wanted, str):
        return standardize_string(found) == standardize_string(wanted)
    if isinstance(found, dict) and isinstance(wanted, dict):
        return arguments_match(
            found, {key: value if isinstance(value, list) else [value] for key, value in wanted.items()}
        )
    if isinstance(found, list | tuple) and isinstance(wanted, list | tuple):
        return len(found) == len(wanted) and all(
            value_matches(one, other) for one, other in zip(found, wanted, strict=True)
        )
    return found is None and wanted is None


def standardize_string(text: str) -> str:
    """BFCL ast_checker.standardize_string: punctuation and spaces do not decide."""
    return re.sub(r"[ \,\.\/\-\_\*\^]", "", text).lower().replace("'", '"')
