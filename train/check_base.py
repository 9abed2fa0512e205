"""What `tunegate check` knows of each run's base, as far as its files lie here: no torch, nothing fetched."""

from __future__ import annotations

from pathlib import Path

from configs.check import kind_of
from configs.document import read_document
from configs.errors import Problem
from configs.read import read_run
from configs.run.config import RunConfig
from train.model.limits import limits_here


def check_bases(paths: list[Path], overrides: list[str]) -> list[Problem]:
    """One problem for each thing that a run asks and its base cannot do, at the key's line. Raises InputError or
    RefusedError where what lies there is no base."""
    problems: list[Problem] = []
    for path in paths:
        if kind_of(path) is RunConfig:
            document = read_document(path, overrides)
            for limit in limits_here(read_run(path, overrides)):
                file, line = document.file_and_line(tuple(limit.key.split(".")))
                problems.append(Problem(file, line, *limit))
    return problems
