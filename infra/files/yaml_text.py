"""Objects as YAML that every reader of YAML 1.1 and 1.2 reads alike: kubectl's, Helm's and Python's differ in what is a
number, a date or a truth value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from configs.section import JsonObject

PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9./_-]*")
NO_WORDS = {"y", "yes", "n", "no", "true", "false", "on", "off", "null", "inf", "nan"}
WIDTH = 10_000  # a line is not broken: what is compared by lines stays in one


def as_yaml(thing: JsonObject) -> str:
    """Keys in the order that they have; every text quoted that some reader could take for something else."""
    return as_documents([thing]).removeprefix("---\n")


def as_documents(things: Sequence[JsonObject]) -> str:
    import yaml

    class Writer(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def write_text(writer: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        is_plain = PLAIN.fullmatch(text) and text.lower() not in NO_WORDS
        style = None if is_plain else "|" if is_block(text) else '"'
        return writer.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Writer.add_representer(str, write_text)
    return yaml.dump_all(
        things, Dumper=Writer, sort_keys=False, width=WIDTH, allow_unicode=False, explicit_start=True, indent=2
    )


def is_block(text: str) -> bool:
    """Lines of plain characters, none of which ends with a space."""
    lines = text.split("\n")
    return len(lines) > 2 and lines[-1] == "" and all(is_line(line) for line in lines)


def is_line(line: str) -> bool:
    return line.isascii() and line.isprintable() and line == line.rstrip()
