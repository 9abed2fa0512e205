"""Which slices a test row belongs to. Pure: a row and the config's slice definitions in, names out."""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable

from configs.errors import InputError
from configs.rows.expression import compiled
from configs.rows.tags import entities_of
from configs.run.slices import Slice
from configs.section import nearest
from eval.measure.rows import question_of
from eval.metrics.rows import Row

LONGEST_VALUE = 60  # characters of a column's value in a slice's name


def make_slicer(definitions: list[Slice], rows: Iterable[Row]) -> Callable[[Row], list[str]]:
    """The names of a row's slices. Goes over all rows once: for terciles, and so that a slice that fails does so before
    a server is asked.

    Raises InputError for a name that a row does not have, or an expression that fails on one.
    """
    lengths = array("i", (check(definitions, features_of(row), row["id"]) for row in rows))
    edges = {index: one.edges or terciles(lengths) for index, one in enumerate(definitions) if one.by == "length"}

    def names(row: Row) -> list[str]:
        features = features_of(row)
        return [name for index, one in enumerate(definitions) for name in names_of(one, features, edges.get(index, []))]

    return names


def check(definitions: list[Slice], features: Row, identity: str) -> int:
    """The row's length. Raises InputError where a slice cannot be made of these features."""
    for definition in definitions:
        missing = [name for name in definition.columns if name not in features]
        if missing:
            near = nearest(missing[0], features)
            expected = repr(near) if near else ", ".join(features)
            raise InputError(
                f"evaluate.slices: row {identity} has no {missing[0]!r}, expected {expected}",
                hint="name it in data.keep: tunegate prepare CONFIG",
            )
        try:
            names_of(definition, features, [])
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise InputError(
                f"evaluate.slices: {definition.where!r} fails on row {identity}: {error}",
                hint="tunegate check CONFIG",
            ) from error
    return int(features["length"])


def features_of(row: Row) -> Row:
    """What a slice may look at: length in words of the question, label (a list where there are many, or the types of
    entities), question, kept columns."""
    question = question_of(row)
    labels = row["label"] if "label" in row else list(row["labels"]) if "labels" in row else None
    if "tags" in row:
        labels = sorted({kind for kind, *_ in entities_of(row["tags"])})
    kept: Row = json.loads(row.get("kept") or "{}")
    return (
        kept | {"length": len(question.split()), "question": question} | ({} if labels is None else {"label": labels})
    )


def terciles(lengths: Iterable[int]) -> list[int]:
    """The longest of the lower and of the middle third; fewer where lengths are much alike."""
    ordered = sorted(lengths)
    edges = {ordered[(len(ordered) * third - 1) // 3] for third in (1, 2)} if ordered else set()
    return sorted(edge for edge in edges if edge < ordered[-1])


def names_of(definition: Slice, features: Row, edges: list[int]) -> list[str]:
    if definition.by == "length":
        return [name_of_length(features["length"], edges)] if edges else []
    if definition.by == "label":
        labels = features.get("label", [])
        return [f"label={label}" for label in ([labels] if isinstance(labels, str) else labels)]
    if definition.column is not None:
        return [f"{definition.column}={str(features[definition.column])[:LONGEST_VALUE]}"]
    return [str(definition.name)] if holds(str(definition.where), features) else []


def name_of_length(length: int, edges: list[int]) -> str:
    """`length<=20`, `20<length<=60` or `length>60`."""
    upper = next((edge for edge in edges if length <= edge), None)
    lower = max((edge for edge in edges if edge < length), default=None)
    if upper is None:
        return f"length>{lower}"
    return f"{lower}<length<={upper}" if lower is not None else f"length<={upper}"


def holds(expression: str, features: Row) -> bool:
    """Raises ValueError and its like where it fails on them."""
    return compiled(expression)(features)
