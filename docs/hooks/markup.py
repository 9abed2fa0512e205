"""Text of ours as Markdown that says it and nothing else: what comes from code may hold any sign."""

from __future__ import annotations

import html

SPECIAL = {ord(sign): f"&#{ord(sign)};" for sign in "*_[]`|\\{}~#$"}


def text(value: object) -> str:
    """One line, every sign that HTML, Markdown or a table would read replaced by its entity."""
    return html.escape(" ".join(str(value).split())).replace("&#x27;", "'").translate(SPECIAL | {ord("#"): "#"})


def code(value: object) -> str:
    return f"<code>{text(value)}</code>"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Cells are Markdown already."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])
