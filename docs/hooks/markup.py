"""Text of ours as Markdown that says it and nothing else: what comes from code may hold any sign."""

from __future__ import annotations

import html
import re

SPECIAL = {ord(sign): f"&#{ord(sign)};" for sign in "*_[]`|\\{}~$"}


def text(value: object) -> str:
    """One line, every sign that HTML, Markdown or a table would read replaced by its entity."""
    return html.escape(" ".join(str(value).split())).replace("&#x27;", "'").translate(SPECIAL)


def prose(value: object) -> str:
    """As `text`, but what stands between two backticks is code."""
    parts = re.split("`([^`]+)`", str(value))
    return "".join(code(part) if place % 2 else text_between(part) for place, part in enumerate(parts))


def text_between(part: str) -> str:
    """The spaces at both ends are those of the sentence around it."""
    return " " * part[:1].isspace() + text(part) + " " * (part[-1:].isspace() and bool(part.strip()))


def code(value: object) -> str:
    return f"<code>{text(value)}</code>"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Cells are Markdown already."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
