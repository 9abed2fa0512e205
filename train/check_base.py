"""What `tunegate check` knows of each run's base and packages, as far as they lie here: no torch, nothing fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from configs.check import kind_of
from configs.document import read_document
from configs.errors import InputError, Problem
from configs.read import read_run
from configs.run.config import RunConfig
from configs.run.serving import Serving
from infra.files.atomic import read_json
from infra.reporters import not_installed
from train.estimate.devices import GIB
from train.estimate.release_memory import WIDTHS, released_bytes
from train.estimate.workload import find_shape
from train.model.limits import Limit, directory_here, limits_here

# Environment, serving, config.json, GiB of weights: why it does not fit.
Refusal = Callable[[str | None, Serving, Mapping[str, Any], float], str | None]


def missing_packages(run: RunConfig) -> list[Limit]:
    """What training would end for as soon as it begins."""
    return [
        Limit("train.report_to", f"{name}, which is not installed", f"an installed package: pip install {name}")
        for name in not_installed(run)
    ]


def not_servable(run: RunConfig, refusal: Refusal | None) -> list[Limit]:
    """Where its base lies here: with the weights that quantizing will leave of it."""
    base = directory_here(run.base)
    if refusal is None or run.production is None or base is None:
        return []
    try:
        shape = find_shape(run)
    except InputError:  # none that can be planned: the machine that is to serve will say
        return []
    weights = released_bytes(shape, run.quantize.scheme, WIDTHS.get(run.serving.dtype, 2))
    why = refusal(run.production, run.serving, read_json(base / "config.json") or {}, weights / GIB)
    return [Limit("serving", why, "what fits there")] if why else []


def check_bases(paths: list[Path], overrides: list[str], refusal: Refusal | None = None) -> list[Problem]:
    """One problem for each thing that a run asks and its base, this machine or the one that is to serve cannot do, at
    the key's line. `refusal`: why the GPUs of an environment hold no such model (serve/plan/stated.py).

    Raises InputError or RefusedError where what lies there is no base.
    """
    problems: list[Problem] = []
    for path in paths:
        if kind_of(path) is RunConfig:
            document = read_document(path, overrides)
            run = read_run(path, overrides)
            for limit in (*limits_here(run), *missing_packages(run), *not_servable(run, refusal)):
                file, line = document.file_and_line(tuple(limit.key.split(".")))
                problems.append(Problem(file, line, *limit))
    return problems
