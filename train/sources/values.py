"""Values of typed columns, turned to what JSON can hold."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

Decoder = Callable[[Any], Any]


def plain(value: Any) -> Any:
    """Dates and times as ISO 8601 text, spans in seconds, decimals as numbers, bytes as the text that they are in
    UTF-8. What is none of these (bytes of a picture) stays, for a check of the field to refuse."""
    if type(value).__module__ == "numpy":
        return plain(value.tolist())
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return str(value) if type(value).__module__ == "uuid" else value


def class_names(feature: Any) -> Decoder | None:
    """What turns the numbers of a feature of `datasets` into the names of their classes, within lists and structs too;
    None where it has none. `feature`: as its JSON says it, {"names": [...], "_type": "ClassLabel"}."""
    if isinstance(feature, list):
        return of_list(class_names(feature[0])) if feature else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names") or []
        return (lambda value: name_of(value, names)) if names else None
    if "feature" in feature and "_type" in feature:
        return of_list(class_names(feature["feature"]))
    if "_type" in feature:
        return None
    within = {key: decode for key, inner in feature.items() if (decode := class_names(inner))}
    return of_struct(within) if within else None


def name_of(value: Any, names: list[str]) -> Any:
    """-1 stands for no label, as test splits have it."""
    if not isinstance(value, int) or isinstance(value, bool) or value >= len(names):
        return value
    return names[value] if value >= 0 else None


def of_list(decode: Decoder | None) -> Decoder | None:
    """Also of a struct of lists, as a `Sequence` of structs is stored."""
    if decode is None:
        return None
    return lambda value: [decode(inner) for inner in value] if isinstance(value, list) else decode(value)


def of_struct(within: dict[str, Decoder]) -> Decoder:
    def decode(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return value | {key: apply(value[key]) for key, apply in within.items() if key in value}

    return decode
