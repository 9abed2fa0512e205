"""What each field of a row must be; a check returns the value as it is kept, or a Fault."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from train.sources.source import Fault, Row

INVISIBLE = re.compile(r"[\s\u200b-\u200f\ufeff]*")
NUMBER = re.compile(r"[0-9]{1,9}")
DATE = re.compile(r"\d{4}-\d\d-\d\d(?!\d)")  # ISO 8601, as dates and times of typed columns are read
TAG = re.compile(r"[^\s-]\S*")


def empty(text: str) -> bool:
    return INVISIBLE.fullmatch(text) is not None


def check_text(value: Any) -> Any:
    if not isinstance(value, str):
        return Fault("missing_field", kind_of(value), "a text")
    return Fault("empty_field", repr(value), "a text with a character that shows") if empty(value) else value


def check_label(value: Any) -> Any:
    """A name, or an integer, a whole float or a truth value, which are kept as text: 3, 3, true."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, float):
        return Fault("missing_field", kind_of(value), "a name or a whole number; of numbers: problem regression")
    if isinstance(value, str) and DATE.match(value):
        return Fault("missing_field", kind_of(value), "a name: each date would be a label of its own")
    if isinstance(value, list | dict):
        return Fault("missing_field", kind_of(value), "one label; of lists of labels: problem multi_label")
    return check_text(value)


def names_of_numbers(names: Sequence[str]) -> dict[str, str]:
    """What `data.labels` calls each number, and of two names the truth values; nothing where a name is itself a number,
    for it then is the name that is meant."""
    if any(NUMBER.fullmatch(name) for name in names):
        return {}
    by_number = {str(number): name for number, name in enumerate(names)}
    truths = {"false": names[0], "true": names[1], "False": names[0], "True": names[1]} if len(names) == 2 else {}
    return {number: name for number, name in (by_number | truths).items() if number not in names}


def with_names(found: Row, names: Mapping[str, str]) -> Row:
    """The row with names where its label, labels or tags are numbers, also numbers as text: a CSV has nothing else."""

    def name(value: Any) -> Any:
        label = check_label(value)
        return names.get(label, value) if isinstance(label, str) else value

    many = {field: list(map(name, found[field])) for field in ("labels", "tags") if isinstance(found.get(field), list)}
    return found | many | ({"label": name(found["label"])} if "label" in found else {})


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


def check_boolean(value: Any) -> Any:
    """As JSON and Parquet hold it, or as CSV spells it."""
    spelled = {"true": True, "false": False, "1": True, "0": False}
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    found = spelled.get(value.strip().lower()) if isinstance(value, str) else None
    return Fault("missing_field", kind_of(value), "true or false") if found is None else found


def check_tokens(value: Any) -> Any:
    if not isinstance(value, list) or not value:
        return Fault("missing_field", kind_of(value), "a list of words, not empty")
    return first_fault([check_text(item) for item in value])


def check_tags(value: Any) -> Any:
    if not isinstance(value, list):
        return Fault("invalid_tag", kind_of(value), "a list of tags such as O, B-PER, I-PER")
    odd = [item for item in value if not (isinstance(item, str) and TAG.fullmatch(item))]
    if odd and all(isinstance(item, int) for item in odd):
        return Fault("invalid_tag", f"numbers: {shorten(odd)}", "tags by name, or their names in order in data.labels")
    return Fault("invalid_tag", shorten(odd), "a list of tags such as O, B-PER, I-PER") if odd else value


def first_fault(found: Any) -> Any:
    return next((item for item in found if isinstance(item, Fault)), found) if isinstance(found, list) else found


def kind_of(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {shorten(value)}"


def shorten(value: Any, longest: int = 60) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else text[: longest - 1] + "…"
