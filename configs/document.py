"""A YAML file as it is written: its values, the line of each, and what `--set` puts over them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import ConfigError, Problem
from configs.section import JsonObject

Location = tuple[str | int, ...]
LONGEST_FILE_BYTES = 1_000_000
MOST_VALUES = 100_000
YAML_SLIPS = (ValueError, LookupError, TypeError, AttributeError, RecursionError)  # what ruamel lets through of its own


@dataclass
class Document:
    """`lines`: of every key and item, from 1. `overridden`: the locations that `--set` gave."""

    path: Path
    values: JsonObject
    lines: dict[Location, int]
    overridden: set[Location]

    def file_and_line(self, location: Location) -> tuple[str, int | None]:
        """Where it is written, or else the section that it belongs to; `--set` and no line where that gave it."""
        if location in self.overridden:
            return "--set", None
        written = (location[:end] for end in range(len(location), 0, -1))
        return str(self.path), next((self.lines[place] for place in written if place in self.lines), None)


def read_document(path: Path, overrides: list[str]) -> Document:
    """Raises ConfigError where it cannot be read, or an override is none."""
    values, lines = read_yaml(path)
    return Document(path, values, lines, apply_overrides(values, overrides))


def read_yaml(path: Path) -> tuple[JsonObject, dict[Location, int]]:
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


def apply_overrides(raw: JsonObject, overrides: list[str]) -> set[Location]:
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


def shorten(text: str, longest: int = 60) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def shown(value: Any) -> str:
    try:
        return shorten(repr(value))
    except ValueError:  # Python prints no integer of more than 4300 digits
        return "a number of thousands of digits"
