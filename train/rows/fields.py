"""What each field of a row must be; a check returns the value as it is kept, or a Fault."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from train.sources.source import Fault

INVISIBLE = re.compile(r"[\s\u200b-\u200f\ufeff]*")
TAG = re.compile(r"[BIOESLU]-\S+|[^\s-]\S*")  # BIO and its kin, or IO with bare names


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
    if isinstance(value, list) and all(isinstance(item, str) and TAG.fullmatch(item) for item in value):
        return value
    odd = (
        [item for item in value if not (isinstance(item, str) and TAG.fullmatch(item))]
        if isinstance(value, list)
        else value
    )
    return Fault("invalid_tag", shorten(odd), "a list of tags such as O, B-PER, I-PER")


def first_fault(found: Any) -> Any:
    return next((item for item in found if isinstance(item, Fault)), found) if isinstance(found, list) else found


def kind_of(value: Any) -> str:
    return "nothing" if value is None else f"{type(value).__name__} {shorten(value)}"


def shorten(value: Any, longest: int = 60) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else text[: longest - 1] + "…"
