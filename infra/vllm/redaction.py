"""Texts without what names a person or grants access: e-mail addresses, telephone and card numbers, keys. Standard
library only: it runs inside vLLM.

Every pattern is bounded, so that a megabyte without a match is read once and not a thousand times. What stands in for a
finding is its kind.
"""

from __future__ import annotations

import re
from typing import Any

PATTERNS = {
    "email": r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}",
    "key": (
        r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[^-]{0,10000}(?:-----END [A-Z ]{0,20}PRIVATE KEY-----)?"
        r"|\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{16,200}|\bgh[pousr]_[A-Za-z0-9]{20,255}|\bglpat-[\w-]{20,64}"
        r"|\bAKIA[0-9A-Z]{16}\b|\bxox[abprs]-[\w-]{10,255}|\beyJ[\w-]{8,4000}\.[\w-]{8,4000}\.[\w-]{0,1000}"
        r"|\b[Bb]earer\s{1,4}[\w.~+/-]{16,1000}"
    ),
    "card": r"(?<![\d.])\d(?:[ -]?\d){12,18}(?![\d.])",
    "phone": (
        r"(?<![\w.])(?!\d{4}-\d{2}-\d{2})(?:\+\d{8,15}|(?:\+\d{1,3}[ .-]?)?(?:\(\d{1,4}\)[ .-]?)?"
        r"\d{2,4}(?:[ .-]\d{2,4}){2,4})(?!\w)"
    ),
}  # fmt: skip
MOST_DEEP = 64


def is_card(digits: str) -> bool:
    """The check digit of ISO/IEC 7812 (Luhn): most numbers of this length are none."""
    doubled = [int(one) * (1 + place % 2) for place, one in enumerate(reversed(re.sub(r"\D", "", digits)))]
    return sum(one - 9 if one > 9 else one for one in doubled) % 10 == 0


def redact_text(text: str, patterns: dict[str, re.Pattern[str]]) -> tuple[str, int]:
    """The text and how much was taken out of it."""
    found = 0

    def replace(kind: str, match: re.Match[str]) -> str:
        nonlocal found
        if kind == "card" and not is_card(match[0]):
            return match[0]
        found += 1
        return f"[{kind}]"

    for kind, pattern in patterns.items():
        # a lambda's default has no type
        text = pattern.sub(lambda match, kind=kind: replace(kind, match), text)  # type: ignore[misc]
    return text, found


def redact(value: Any, patterns: dict[str, re.Pattern[str]], depth: int = 0) -> tuple[Any, int]:
    """Every text in a JSON value; the names of its keys stay. Raises ValueError for one that is too deep to be read."""
    if depth > MOST_DEEP:
        raise ValueError("too deep")
    if isinstance(value, str):
        return redact_text(value, patterns)
    if isinstance(value, list):
        parts = [redact(one, patterns, depth + 1) for one in value]
        return [one for one, _ in parts], sum(count for _, count in parts)
    if isinstance(value, dict):
        named = {name: redact(one, patterns, depth + 1) for name, one in value.items()}
        return {name: one for name, (one, _) in named.items()}, sum(count for _, count in named.values())
    return value, 0


def compiled(further: dict[str, str]) -> dict[str, re.Pattern[str]]:
    return {kind: re.compile(pattern) for kind, pattern in (PATTERNS | further).items()}
