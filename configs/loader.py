"""Reads YAML into a typed config, or reports every problem at once with file, line, key, found, expected."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from configs.document import Document, Location, read_document, shown
from configs.errors import ConfigError, Problem
from configs.section import JsonObject, Section

Config = TypeVar("Config", bound=Section)
MOST_ROUNDS = 8
# Keys that had another name before, the new name or names after: an old one is refused with what to write.
RENAMED: dict[str, tuple[str, ...]] = {
    "data.damage": ("data.corrupt",),
    "data.lint.encoding_damage": ("data.lint.mojibake",),
    "data.lint.nothing_to_learn": ("data.lint.no_target_tokens", "data.lint.identical_pair"),
    "door": ("router",),
    "supervision.strikes": ("supervision.max_crashes",),
}


class Mistake(NamedTuple):
    """One error of pydantic's, at its place in the YAML. `is_there`: the whole of the location is written there."""

    location: Location
    is_there: bool
    kind: str
    message: str
    value: object


def load(path: Path, model: type[Config], overrides: list[str] | None = None) -> Config:
    """Validates `path` (with `section.key=value` overrides) as `model`. Raises ConfigError with all problems."""
    document = read_document(path, overrides or [])
    renamed = take_renamed(document, model)
    config, problems = validate(document, model)
    if config is None or renamed:
        raise ConfigError(renamed + problems, hint=f"tunegate check {path}")
    return config


def take_renamed(document: Document, model: type[Section]) -> list[Problem]:
    """One problem for each old key; its value goes to the new key, so that a mistake within it shows too."""
    problems: list[Problem] = []
    for old, new in RENAMED.items():
        location, replacement = tuple(old.split(".")), tuple(new[0].split("."))
        section: Any = document.values
        for part in location[:-1]:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or location[-1] not in section:
            continue
        if replacement[-1] not in fields_at(model, replacement[:-1]):  # a key of another kind of YAML
            continue
        section.setdefault(replacement[-1], section.pop(location[-1]))
        file, line = document.file_and_line(location) if location in document.lines else ("--set", None)
        problems.append(Problem(file, line, old, "a renamed key", " or ".join(new)))
        for place in moved(document.overridden, location):
            document.overridden.add(replacement + place)
        for place in moved(document.lines, location):
            document.lines.setdefault(replacement + place, document.lines[location + place])
    return problems


def moved(places: Iterable[Location], section: Location) -> list[Location]:
    """What follows `section` in those that lie in it."""
    return [place[len(section) :] for place in places if place[: len(section)] == section]


def validate(document: Document, model: type[Config]) -> tuple[Config | None, list[Problem]]:
    """The config, or every problem.

    A rule over a section is asked only where each value in it is good, so a mistake hides others behind it. Hence in
    rounds: what was wrong is taken out, and the rest is asked again.

        task: dpo                   # found in round 2: not with data.source bfcl
        data: {source: bfcl}
        train: {max_steps: many}    # found in round 1: not a number
    """
    problems: list[Problem] = []
    rest, told, taken = copy.deepcopy(document.values), set[tuple[Location, str, str]](), list[Location]()
    for _ in range(MOST_ROUNDS):
        config, mistakes = ask(model, rest, document)
        if config is not None:
            return (None, problems) if problems else (config, [])
        fresh = [one for one in mistakes if (one.location, one.kind, one.message) not in told]
        told |= {(one.location, one.kind, one.message) for one in fresh}
        fresh = [one for one in fresh if not is_consequence(one, taken)]
        problems += [describe(one, model, document) for one in fresh]
        taken += [one.location for one in fresh if one.kind != "extra_forbidden"]
        removed = [remove(rest, one.location) for one in reversed(fresh)]  # all of them; items of a list from behind
        if not any(removed):
            break
    return None, problems


def ask(model: type[Config], values: JsonObject, document: Document) -> tuple[Config | None, list[Mistake]]:
    """One round: the config or the mistakes in it."""
    try:
        return model.model_validate(values, context={"root": Path(".")}), []
    except ValidationError as error:
        return None, [
            Mistake(*find_location(document.values, one["loc"]), one["type"], one["msg"], one["input"])
            for one in error.errors()
        ]


def find_location(values: Any, location: Location) -> tuple[Location, bool]:
    """`location` without the union tags that pydantic puts into it, and whether the whole of it stands in `values`:
    ("strategy", "canary", "steps", 0) is strategy.steps.0."""
    found: list[str | int] = []
    for position, part in enumerate(location):
        if has(values, part):
            values = values[part]
            found.append(part)
        elif position == len(location) - 1 and isinstance(values, dict | list):
            return (*found, part), False
    return tuple(found), True


def has(values: Any, part: str | int) -> bool:
    if isinstance(values, list):
        return isinstance(part, int) and part < len(values)
    return isinstance(values, dict) and part in values


def is_consequence(mistake: Mistake, taken: list[Location]) -> bool:
    """Whether it only shows since wrong values were taken out: not a mistake of its own."""
    if mistake.kind == "missing":
        return mistake.is_there
    within = any(other[: len(mistake.location)] == mistake.location for other in taken)
    return isinstance(mistake.value, dict | list | BaseModel) and within


def remove(values: Any, location: Location) -> bool:
    """Takes the value at `location` out; False where there is none (a rule over a section has no value of its own)."""
    for part in location[:-1]:
        if not has(values, part):
            return False
        values = values[part]
    if not location or not has(values, location[-1]) or isinstance(values[location[-1]], dict):
        return False
    del values[location[-1]]
    return True


def describe(mistake: Mistake, model: type[Section], document: Document) -> Problem:
    file, line = document.file_and_line(mistake.location)
    found, expected = WORDS.get(mistake.kind, describe_value)(mistake, model)
    return Problem(file, line, ".".join(map(str, mistake.location)), found, expected)


def describe_unknown(mistake: Mistake, model: type[Section]) -> tuple[str, str]:
    *section, key = mistake.location
    known = fields_at(model, tuple(section))
    near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f"an unknown key {str(key)!r}", f"{near[0]!r}?" if near else "one of " + ", ".join(known)


def describe_missing(mistake: Mistake, model: type[Section]) -> tuple[str, str]:
    return "nothing", "a value, for it has no default"


def describe_rule(mistake: Mistake, model: type[Section]) -> tuple[str, str]:
    """Of a rule that we wrote: its message says what is expected."""
    found, expected = describe_value(mistake, model)
    return found if isinstance(mistake.value, str) else "a combination that cannot be", expected


def describe_value(mistake: Mistake, model: type[Section]) -> tuple[str, str]:
    expected = mistake.message.removeprefix("Value error, ").removeprefix("Input should be ")
    if not mistake.is_there:
        return "nothing", expected
    return "a section" if isinstance(mistake.value, dict) else shown(mistake.value), expected


# Found and expected, by pydantic's type of error.
WORDS: dict[str, Callable[[Mistake, type[Section]], tuple[str, str]]] = {
    "extra_forbidden": describe_unknown,
    "missing": describe_missing,
    "value_error": describe_rule,
}


def fields_at(model: Any, location: Location) -> list[str]:
    """The keys allowed at `location` below `model`, unions and lists looked through."""
    candidates = [model]
    for part in location:
        if isinstance(part, str):
            candidates = [
                found
                for candidate in candidates
                if part in candidate.model_fields
                for found in sections_in(candidate.model_fields[part].annotation)
            ]
    return sorted({name for candidate in candidates for name in candidate.model_fields})


def sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in sections_in(argument)]
