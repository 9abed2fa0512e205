"""Reads YAML into a typed config, or reports every problem at once with file, line, key, found, expected."""

from __future__ import annotations

import copy
import difflib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from configs.errors import ConfigError, Problem
from configs.section import Section

Config = TypeVar("Config", bound=Section)
Location = tuple[str | int, ...]
LONGEST_FILE_BYTES = 1_000_000
MOST_VALUES = 100_000
# Keys that had another name before, the new name or names after: an old one is refused with what to write.
RENAMED: dict[str, tuple[str, ...]] = {
    "data.damage": ("data.corrupt",),
    "data.lint.encoding_damage": ("data.lint.mojibake",),
    "data.lint.nothing_to_learn": ("data.lint.no_target_tokens", "data.lint.identical_pair"),
    "door": ("router",),
    "supervision.strikes": ("supervision.max_crashes",),
}
YAML_SLIPS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # what ruamel lets through of its own


def load(path: Path, model: type[Config], overrides: list[str] | None = None) -> Config:
    """Validates `path` (with `section.key=value` overrides) as `model`. Raises ConfigError with all problems."""
    raw, lines = read_yaml(path)
    overridden = apply_overrides(raw, overrides or [])
    renamed = take_renamed(raw, model, path, lines, overridden)
    config, problems = validate(raw, model, path, lines, overridden)
    if config is None or renamed:
        raise ConfigError(renamed + problems, hint=f"tunegate check {path}")
    return config


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """The plain mapping in `path` and the line of every key."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    def broken(line: int | None, found: str, expected: str = "a YAML mapping of keys and values") -> ConfigError:
        return ConfigError([Problem(str(path), line, "", found, expected)])

    try:
        if path.stat().st_size > LONGEST_FILE_BYTES:
            raise broken(None, f"{path.stat().st_size} bytes", f"at most {LONGEST_FILE_BYTES}")
        text = path.read_text(encoding="utf8")
        lines = line_numbers(YAML(typ="safe", pure=True).compose(text), (), {})
        document = plain(YAML(typ="safe", pure=True).load(text))
    except OSError as error:
        raise broken(None, (error.strerror or str(error)).lower(), "a readable YAML file") from None
    except UnicodeDecodeError:
        raise broken(None, "bytes that are not UTF-8", "a YAML file in UTF-8") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark
        raise broken(
            mark.line + 1 if mark else None, " ".join(str(error.problem).split()).removeprefix("found "), "valid YAML"
        ) from None
    except (YAMLError, *YAML_SLIPS) as error:
        raise broken(None, shorten(" ".join(str(error).split())), "valid YAML") from None
    if document is None:
        raise broken(None, "an empty file")
    if not isinstance(document, dict):
        raise broken(1, f"a {type(document).__name__}")
    return document, lines


def line_numbers(node: Any, location: Location, lines: dict[Location, int]) -> dict[Location, int]:
    """Where each key and item stands (1-based), aliases followed. Raises ValueError where they multiply past all
    use."""
    if len(lines) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES} values, each alias counted where it is used")
    if node is not None and not isinstance(node.value, str):
        pairs = node.value if node.id == "mapping" else enumerate(node.value)
        for key, value in pairs:
            place = (*location, key if isinstance(key, int) else str(key.value))
            lines[place] = (value if isinstance(key, int) else key).start_mark.line + 1
            line_numbers(value, place, lines)
    return lines


def plain(value: Any) -> Any:
    """`value` with dates, bytes and sets as text: what a config may hold, JSON can."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def apply_overrides(raw: dict[str, Any], overrides: list[str]) -> set[Location]:
    """Writes `a.b=value` into `raw`, the value read as YAML; returns the places touched."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    touched: set[Location] = set()
    for override in overrides:
        key, separator, text = override.partition("=")
        parts = tuple(key.split("."))
        if not separator or not all(parts):
            raise ConfigError(
                [Problem("--set", None, "", repr(override), "section.key=value, as in train.learning_rate=1e-4")]
            )
        target: Any = raw
        for part in parts[:-1]:
            target = target.setdefault(part, {}) if isinstance(target, dict) else None
        if not isinstance(target, dict):
            raise ConfigError([Problem("--set", None, key, "a key below a plain value", "a section")])
        try:
            target[parts[-1]] = plain(YAML(typ="safe", pure=True).load(text))
        except (YAMLError, *YAML_SLIPS):
            raise ConfigError(
                [Problem("--set", None, key, shorten(repr(text)), "a value written as in YAML")]
            ) from None
        touched.add(parts)
    return touched


def take_renamed(
    raw: dict[str, Any], model: type[Config], path: Path, lines: dict[Location, int], overridden: set[Location]
) -> list[Problem]:
    """One problem for each old key; its value goes to the new key, so that a mistake within it shows too."""
    problems: list[Problem] = []
    for old, new in RENAMED.items():
        location, replacement = tuple(old.split(".")), tuple(new[0].split("."))
        section: Any = raw
        for part in location[:-1]:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or location[-1] not in section:
            continue
        if replacement[-1] not in fields_at(model, replacement[:-1]):  # a key of another kind of YAML
            continue
        section.setdefault(replacement[-1], section.pop(location[-1]))
        for place in [place for place in overridden if place[: len(location)] == location]:
            overridden.add(replacement + place[len(location) :])
        for place in [place for place in lines if place[: len(location)] == location]:
            lines.setdefault(replacement + place[len(location) :], lines[place])
        file, line = (str(path), lines[location]) if location in lines else ("--set", None)
        problems.append(Problem(file, line, old, "a renamed key", " or ".join(new)))
    return problems


def validate(
    raw: dict[str, Any], model: type[Config], path: Path, lines: dict[Location, int], overridden: set[Location]
) -> tuple[Config | None, list[Problem]]:
    """Validates, takes out what was wrong and validates again, so that no mistake hides another."""
    problems: list[Problem] = []
    rest, seen, taken = copy.deepcopy(raw), set[tuple[Location, str]](), list[Location]()
    for _ in range(8):
        try:
            config = model.model_validate(rest, context={"root": Path(".")})
        except ValidationError as error:
            fresh = [detail for detail in error.errors() if (detail["loc"], detail["type"]) not in seen]
            seen |= {(detail["loc"], detail["type"]) for detail in fresh}
            fresh = [detail for detail in fresh if not caused_by_removal(detail, raw, taken)]
            taken += [real_location(raw, detail["loc"])[0] for detail in fresh if detail["type"] != "extra_forbidden"]
            problems += [describe(detail, model, raw, path, lines, overridden) for detail in fresh]
            removed = [remove(rest, detail["loc"]) for detail in fresh]  # every one of them, not up to the first
            if not any(removed):
                break
        else:
            return (config, []) if not problems else (None, problems)
    return None, problems


def caused_by_removal(detail: ErrorDetails, raw: dict[str, Any], taken: list[Location]) -> bool:
    """Whether the problem only shows since wrong values were taken out: not a second mistake."""
    location, there = real_location(raw, detail["loc"])
    if detail["type"] == "missing":
        return there
    return isinstance(detail["input"], dict | list | BaseModel) and any(
        other[: len(location)] == location for other in taken
    )


def real_location(raw: Any, location: Location) -> tuple[Location, bool]:
    """`location` without the union tags pydantic adds, and whether the whole of it stands in `raw`."""
    real: list[str | int] = []
    for position, part in enumerate(location):
        if (
            (part in raw)
            if isinstance(raw, dict)
            else (isinstance(raw, list) and isinstance(part, int) and part < len(raw))
        ):
            raw = raw[part]
        elif position < len(location) - 1 or not isinstance(raw, dict | list):
            continue
        else:
            return (*real, part), False
        real.append(part)
    return tuple(real), True


def remove(raw: Any, location: Location) -> bool:
    """Takes the leaf at `location` out; False where there was none (a whole section's own rule)."""
    real, there = real_location(raw, location)
    if not there or not real:
        return False
    for part in real[:-1]:
        raw = raw[part]
    if isinstance(raw[real[-1]], dict):
        return False
    del raw[real[-1]]
    return True


def describe(
    detail: ErrorDetails,
    model: type[BaseModel],
    raw: dict[str, Any],
    path: Path,
    lines: dict[Location, int],
    overridden: set[Location],
) -> Problem:
    location, there = real_location(raw, detail["loc"])
    line = next((lines[location[:end]] for end in range(len(location), 0, -1) if location[:end] in lines), None)
    file = "--set" if location in overridden else str(path)
    key = ".".join(str(part) for part in location)
    found = "nothing" if not there else "a section" if isinstance(detail["input"], dict) else shown(detail["input"])
    expected = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if detail["type"] == "extra_forbidden":
        known = fields_at(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        found, expected = (
            f"an unknown key {str(location[-1])!r}",
            f"{near[0]!r}?" if near else "one of " + ", ".join(sorted(known)),
        )
    elif detail["type"] == "missing":
        found, expected = "nothing", "a value, for it has no default"
    elif detail["type"] == "value_error" and not isinstance(detail["input"], str):
        found = "a combination that cannot be"
    return Problem(file, None if file == "--set" else line, key, found, expected)


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


def shorten(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def shown(value: Any) -> str:
    try:
        return shorten(repr(value))
    except ValueError:  # Python prints no integer of more than 4300 digits
        return "a number of thousands of digits"
