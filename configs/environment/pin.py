"""The pin: which release an environment's YAML names, read and rewritten with its comments kept."""

from __future__ import annotations

import os
import re
from pathlib import Path

from configs.errors import InputError


def pin(path: Path, reference: str) -> bool:
    """Rewrites the one `release:` line, comments and all else untouched. True if the file changed. Raises InputError without such a line."""
    text = path.read_text(encoding="utf8")
    pinned = pinned_text(text, reference, str(path))
    partial = path.with_name(path.name + ".partial")
    partial.write_text(pinned, encoding="utf8")
    os.replace(partial, path)
    return pinned != text


def pinned_text(text: str, reference: str, name: str) -> str:
    """The YAML with another release pinned; `name` is the file's, for the message. Raises InputError unless exactly one line starts with `release:`."""
    pinned, count = re.subn(r"(?m)^release:[^#\n]*?(\s*#.*)?$", lambda found: f"release: {reference}{found.group(1) or ''}", text)
    if count != 1:
        raise InputError(f"{name}: found {count} lines that start with `release:`, expected one", hint=f"tunegate check {name}")
    return pinned
