"""Sweep: which hyperparameters are searched, how, and that each value searched is one the schema takes."""

from __future__ import annotations

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from configs.section import Section

Config = TypeVar("Config", bound=Section)
Scalar = bool | int | float | str | None
KeyPath = tuple[str | int, ...]
MOST_COMBINATIONS = (
    1024  # checked one by one; a bigger space is checked key by key, and a trial that is refused is skipped
)


class Parameter(Section):
    """A range, or a list of values."""

    low: int | float | None = None
    high: int | float | None = None
    log: bool = Field(False, description="draw evenly on the logarithm, as for a learning rate")
    choices: list[Scalar] | None = Field(None, max_length=1000)

    @model_validator(mode="after")
    def range_or_choices(self) -> Parameter:
        if bool(self.choices) == (self.low is not None) or (self.low is None) != (self.high is None):
            raise ValueError("either choices, or low and high")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError("low below high")
        if self.log and not (self.low or 0) > 0:
            raise ValueError("low above 0 with log")
        return self

    def values(self) -> Iterator[tuple[KeyPath, Scalar]]:
        """Each choice, or both ends: the schema's own limits are ranges, so what holds at both ends holds between
        them."""
        if not self.choices:
            yield from ((("low",), self.low), (("high",), self.high))
        else:
            yield from ((("choices", index), value) for index, value in enumerate(self.choices))


class Sweep(Section):
    """A search for the hyperparameters with the lowest validation loss, by Optuna (Akiba et al. 2019,
    arXiv:1907.10902)."""

    trials: int = Field(20, ge=1, le=100_000, description="trainings; raise it and the sweep goes on where it ended")
    parallel: int = Field(
        1,
        ge=1,
        le=1024,
        description="trials drawn together and trained at once, each in a process with its share of the cores, or with "
        "a GPU; with tpe or median another number is another search",
    )
    parameters: dict[str, Parameter] = Field(
        min_length=1, description="dotted key below train, as train.lora.rank, and what to try"
    )
    sampler: Literal["tpe", "random", "grid"] = Field(
        "tpe", description="grid: every combination of choices, at most `trials` of them"
    )
    pruner: Literal["median", "none"] = Field(
        "median", description="median: stop a trial whose best validation loss so far is worse than the others' median"
    )
    startup_trials: int = Field(
        5, ge=1, le=100_000, description="trials drawn at random and never pruned, before tpe and median go by them"
    )
    metric: Literal["validation_loss"] = "validation_loss"
    seed: int = Field(17, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def grid_of_choices(self) -> Sweep:
        if self.sampler == "grid" and not all(parameter.choices for parameter in self.parameters.values()):
            raise ValueError("choices for every parameter with sampler grid")
        return self


def check_search(config: Section, sweep: Sweep) -> None:
    """Raises pydantic's ValidationError, placed at the key or value that `config` cannot take; all of them at once."""
    known = [key for key in leaf_types(type(config)) if key.startswith("train.")]
    problems = unknown_keys(sweep, known) + refused_values(
        config, {key: found for key, found in sweep.parameters.items() if key in known}
    )
    if problems := problems or refused_combinations(config, sweep):
        raise ValidationError.from_exception_data("sweep", problems)


def unknown_keys(sweep: Sweep, known: list[str]) -> list[InitErrorDetails]:
    return [problem((key,), key, nearest(key, known)) for key in sweep.parameters if key not in known]


def nearest(key: str, known: list[str]) -> str:
    found = difflib.get_close_matches(key, known, n=1, cutoff=0.5) if key.startswith("train") else []
    return (
        f"{found[0]!r}?"
        if found
        else "a key below train, as train.learning_rate: trials share one data set and are compared by validation loss"
    )


def refused_values(config: Section, parameters: dict[str, Parameter]) -> list[InitErrorDetails]:
    values = [((key, *path), key, value) for key, parameter in parameters.items() for path, value in parameter.values()]
    reasons = [(path, value, refusal(config, {key: value})) for path, key, value in values]
    return [problem(path, value, reason) for path, value, reason in reasons if reason]


def refused_combinations(config: Section, sweep: Sweep) -> list[InitErrorDetails]:
    """The first combination of ends and choices that cannot be, if there are few enough to look at each."""
    options = [[value for _, value in parameter.values()] for parameter in sweep.parameters.values()]
    if math.prod(map(len, options)) > MOST_COMBINATIONS:
        return []
    for values in itertools.product(*options):
        together = dict(zip(sweep.parameters, values, strict=True))
        if reason := refusal(config, together):
            return [problem((), ", ".join(f"{key}={value}" for key, value in together.items()), reason)]
    return []


def refusal(config: Section, values: Mapping[str, Scalar]) -> str | None:
    """Why the schema refuses these values, in its own words; None where it takes them."""
    try:
        with_values(config, values)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return None


def problem(path: KeyPath, found: Any, expected: str) -> InitErrorDetails:
    kind = PydanticCustomError("search_value", "{expected}", {"expected": expected})
    return InitErrorDetails(type=kind, loc=("sweep", "parameters", *path), input=found)


def with_values(config: Config, values: Mapping[str, Scalar]) -> Config:
    """`config` of one trial: dotted keys set, no sweep of its own. Raises pydantic's ValidationError."""
    # what was not given may hang on what a trial sets; but for what hangs on the device alone
    raw = config.model_dump(exclude_unset=True) | {"sweep": None}
    raw |= config.model_dump(include={"serving", "quantize"})
    for key, value in values.items():
        *sections, last = key.split(".")
        target = raw
        for section in sections:
            target = target.setdefault(section, {})
        target[last] = value
    return type(config).model_validate(raw)


def leaf_types(model: type[BaseModel], prefix: str = "") -> dict[str, tuple[Any, ...]]:
    """Dotted key to the types that it takes, sections looked through."""
    leaves: dict[str, tuple[Any, ...]] = {}
    for name, field in model.model_fields.items():
        types = get_args(field.annotation) or (field.annotation,)
        sections = [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]
        inner = [leaf_types(section, f"{prefix}{name}.") for section in sections]
        leaves |= {key: kinds for found in inner for key, kinds in found.items()} or {f"{prefix}{name}": types}
    return leaves
