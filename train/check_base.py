"""What `tunegate check` knows of each run's base and packages, as far as they lie here: no torch, nothing fetched."""

from __future__ import annotations

from pathlib import Path

from configs.check import kind_of
from configs.document import read_document
from configs.errors import Problem
from configs.read import read_run
from configs.run.config import RunConfig
from infra.reporters import not_installed
from train.model.limits import Limit, limits_here


def missing_packages(run: RunConfig) -> list[Limit]:
    """What training would end for as soon as it begins."""
    return [
        Limit("train.report_to", f"{name}, which is not installed", f"an installed package: pip install {name}")
        for name in not_installed(run)
    ]


def check_bases(paths: list[Path], overrides: list[str]) -> list[Problem]:
    """One problem for each thing that a run asks and its base or this machine cannot do, at the key's line.

    Raises InputError or RefusedError where what lies there is no base.
    """
    problems: list[Problem] = []
    for path in paths:
        if kind_of(path) is RunConfig:
            document = read_document(path, overrides)
            run = read_run(path, overrides)
            for limit in (*limits_here(run), *missing_packages(run)):
                file, line = document.file_and_line(tuple(limit.key.split(".")))
                problems.append(Problem(file, line, *limit))
    return problems
