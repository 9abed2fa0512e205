"""Which slices a test row belongs to. Pure: a row and the config's cuts in, names out."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from configs.errors import InputError
from configs.run.slices import Slice

Row = dict[str, Any]
LONGEST_VALUE = 60  # characters of a column's value in a slice's name


def make_slicer(cuts: list[Slice], rows: Iterable[Row]) -> Callable[[Row], list[str]]:
    """The names of a row's slices. Goes over all rows once: for terciles, and so that a slice that fails does so before a server is asked.

    Raises InputError for a name that a row does not have, or an expression that fails on one.
    """
    lengths = array("i", (check(cuts, features_of(row), row["id"]) for row in rows))
    edges = {index: cut.edges or terciles(lengths) for index, cut in enumerate(cuts) if cut.by == "length"}

    def names(row: Row) -> list[str]:
        features = features_of(row)
        return [name for index, cut in enumerate(cuts) for name in names_of(cut, features, edges.get(index, []))]

    return names


def check(cuts: list[Slice], features: Row, identity: str) -> int:
    """The row's length. Raises InputError where a cut cannot be made of these features."""
    for cut in cuts:
        missing = [name for name in cut.columns if name not in features]
        if missing:
            near = get_close_matches(missing[0], features, n=1)
            expected = repr(near[0]) if near else ", ".join(features)
            raise InputError(
                f"evaluate.slices: row {identity} has no {missing[0]!r}, expected {expected}", hint="name it in data.keep: tunegate prepare CONFIG"
            )
        try:
            names_of(cut, features, [])
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise InputError(f"evaluate.slices: {cut.where!r} fails on row {identity}: {error}", hint="tunegate check CONFIG") from error
    return int(features["length"])


def features_of(row: Row) -> Row:
    """What a slice may look at: length in words of the question, label (a list where there are many, or the types of entities), question, kept columns."""
    question = question_of(row)
    labels = row["label"] if "label" in row else list(row["labels"]) if "labels" in row else None
    if "tags" in row:
        labels = sorted({tag.split("-", 1)[-1] for tag in row["tags"] if tag != "O"})
    kept: Row = json.loads(row.get("kept") or "{}")
    return kept | {"length": len(question.split()), "question": question} | ({} if labels is None else {"label": labels})


def question_of(row: Row) -> str:
    """What is asked: of a conversation every turn but the system's and the last answer."""
    if "messages" in row:
        return "\n".join(turn["content"] for turn in list(row["messages"])[:-1] if turn["role"] != "system")
    return " ".join(row["tokens"]) if "tokens" in row else str(row["prompt"] if "prompt" in row else row["text"])


def terciles(lengths: Iterable[int]) -> list[int]:
    """The longest of the lower and of the middle third; fewer where lengths are much alike."""
    ordered = sorted(lengths)
    edges = {ordered[(len(ordered) * third - 1) // 3] for third in (1, 2)} if ordered else set()
    return sorted(edge for edge in edges if edge < ordered[-1])


def names_of(cut: Slice, features: Row, edges: list[int]) -> list[str]:
    if cut.by == "length":
        return [name_of_length(features["length"], edges)] if edges else []
    if cut.by == "label":
        labels = features.get("label", [])
        return [f"label={label}" for label in ([labels] if isinstance(labels, str) else labels)]
    if cut.column is not None:
        return [f"{cut.column}={str(features[cut.column])[:LONGEST_VALUE]}"]
    return [str(cut.name)] if holds(str(cut.where), features) else []


def name_of_length(length: int, edges: list[int]) -> str:
    """`length<=20`, `20<length<=60` or `length>60`."""
    upper = next((edge for edge in edges if length <= edge), None)
    lower = max((edge for edge in edges if edge < length), default=None)
    if upper is None:
        return f"length>{lower}"
    return f"{lower}<length<={upper}" if lower is not None else f"length<={upper}"


def holds(expression: str, features: Row) -> bool:
    """By simpleeval, without functions: an expression can reach nothing but these values. Raises ValueError and its like where it fails on them."""
    from simpleeval import EvalWithCompoundTypes, InvalidExpression

    try:
        return bool(EvalWithCompoundTypes(functions={}, names=features).eval(expression))
    except InvalidExpression as error:
        raise ValueError(error) from error
