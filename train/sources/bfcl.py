"""Berkeley Function-Calling Leaderboard v4: questions with gold calls, and preference pairs made of them."""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from configs.errors import InputError
from train.sources.source import Batch, Row, Source, compact, packaged

BFCL_FILES = ("BFCL_v4_simple_python.json", "BFCL_v4_live_simple.json")
INSTRUCTION = "Answer with one JSON function call."


def read_bfcl() -> Source:
    """One function and one call per question."""
    try:
        distribution = metadata.distribution("bfcl-eval")
    except metadata.PackageNotFoundError:
        raise InputError("data.source bfcl: package bfcl-eval is not installed", hint="make setup") from None
    folder = Path(str(distribution.locate_file("bfcl_eval/data")))
    batches, unanswerable = [], 0
    for name in BFCL_FILES:
        questions, answers = read_lines(folder / name), read_lines(folder / "possible_answer" / name)
        gold = {answer["id"]: answer["ground_truth"][0] for answer in answers}
        kept = [
            (number, question)
            for number, question in enumerate(questions, 1)
            if is_answerable(gold.get(question["id"]))
        ]
        unanswerable += len(questions) - len(kept)
        batches.append(
            Batch(
                name,
                "",
                [number for number, _ in kept],
                [render_call(question, gold[question["id"]]) for _, question in kept],
                name,
            )
        )
    return packaged(
        f"bfcl-eval {distribution.version}: {', '.join(BFCL_FILES)}",
        "Apache-2.0",
        batches,
        {"no_accepted_answer": unanswerable},
    )


def is_answerable(gold: Any) -> bool:
    """A few rows of BFCL accept no value at all for some argument: no answer could be right."""
    if isinstance(gold, dict):
        return all(is_answerable(value) for value in gold.values())
    return gold is not None and gold != []


def read_lines(path: Path) -> list[Any]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf8").split("\n") if line.strip()]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="make setup") from error


def render_call(question: Row, gold: dict[str, dict[str, list[Any]]]) -> Row:
    """A chat row: signatures in the system turn, the call as compact JSON in the assistant's."""
    turns = question["question"][0]
    given = [turn["content"] for turn in turns if turn["role"] == "system"]
    system = "\n".join([*given, INSTRUCTION, *(signature(function) for function in question["function"])])
    ((name, accepted),) = gold.items()
    call = compact({"name": name, "arguments": choose_arguments(accepted)})
    messages = [
        {"role": "system", "content": system},
        *(turn for turn in turns if turn["role"] != "system"),
        {"role": "assistant", "content": call},
    ]
    return {"id": question["id"], "messages": messages, "reference": compact({"name": name, "accepted": accepted})}


def signature(function: Row) -> str:
    """`name(argument: type, optional?: type)`: a tenth of the tokens of the JSON schema."""
    parameters = function["parameters"]
    required = set(parameters.get("required", []))
    arguments = (
        f"{name}{'' if name in required else '?'}: {type_name(schema)}"
        for name, schema in parameters.get("properties", {}).items()
    )
    return f"{function['name']}({', '.join(arguments)})"


def type_name(schema: Row) -> str:
    if "enum" in schema:
        return "|".join(str(value) for value in schema["enum"])
    inner = schema.get("items", {}).get("type")
    return f"{schema['type']}[{inner}]" if inner else str(schema["type"])


def choose_arguments(accepted: dict[str, list[Any]]) -> Row:
    """The first accepted value of each argument; one that may be left out (BFCL writes "") is left out."""
    return {name: choose(values[0]) for name, values in accepted.items() if "" not in values}


def choose(value: Any) -> Any:
    """Inside a dict BFCL lists the accepted values of each key."""
    if isinstance(value, dict):
        return {
            key: choose(inner[0]) if isinstance(inner, list) else inner
            for key, inner in value.items()
            if not (isinstance(inner, list) and "" in inner)
        }
    return [choose(inner) for inner in value] if isinstance(value, list) else value


def read_bfcl_preferences(seed: int) -> Source:
    """The gold call as the chosen answer, beside it one that is wrong in one way. Derived: no person preferred
    anything."""
    source = read_bfcl()
    batches = list(source.batches())
    rows = [row for batch in batches for row in batch.rows if isinstance(row, dict)]
    calls = [json.loads(row["messages"][-1]["content"]) for row in rows]
    values: defaultdict[str, list[str]] = defaultdict(list)
    for call in calls:
        for name, value in call["arguments"].items():
            if isinstance(value, str):
                values[name].append(value)
    names = sorted({call["name"] for call in calls})
    paired = iter(
        [
            row | {"rejected": compact(corrupt_call(row, call, names, values, seed))}
            for row, call in zip(rows, calls, strict=True)
        ]
    )
    batches = [replace(batch, rows=[next(paired) for _ in batch.rows]) for batch in batches]
    return packaged(
        f"preference pairs derived from {source.name}, seed {seed}", source.licence, batches, source.left_out
    )


def corrupt_call(row: Row, call: Row, names: list[str], values: dict[str, list[str]], seed: int) -> Row:
    """The call with another value of the same type, without a required argument, or of another function; never one that
    is accepted."""
    rng = random.Random(f"{seed}:{row['id']}")
    accepted = json.loads(row["reference"])["accepted"]
    arguments = call["arguments"]
    changed = [
        arguments | {name: value}
        for name, old in arguments.items()
        for value in other_values(name, old, values, rng)
        if is_wrong(value, accepted[name])
    ]
    dropped = [
        {key: value for key, value in arguments.items() if key != name}
        for name in arguments
        if "" not in accepted[name]
    ]
    other_name = rng.choice([name for name in names if name != call["name"]])
    choices = [{"name": call["name"], "arguments": rng.choice(wrong)} for wrong in (changed, dropped) if wrong]
    return rng.choice([*choices, {"name": other_name, "arguments": arguments}])


def other_values(name: str, value: Any, values: dict[str, list[str]], rng: random.Random) -> Iterator[Any]:
    """Plausible ones: what other questions say for an argument of this name, a neighbouring number, the other truth, a
    list cut short."""
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + rng.choice([-2, -1, 1, 2, 10])
    elif isinstance(value, str):
        others = [other for other in values.get(name, []) if other != value]
        if others:
            yield rng.choice(others)
    elif isinstance(value, list) and value:
        yield value[:-1]


def is_wrong(value: Any, accepted: list[Any]) -> bool:
    """Stricter than the evaluation's own match: what differs from an accepted value only in case or punctuation is not
    wrong enough."""
    return plain(value) not in {plain(choose(other)) for other in accepted} and value not in accepted


def plain(value: Any) -> str:
    return re.sub(r"[^0-9a-z]", "", compact(value).lower())
