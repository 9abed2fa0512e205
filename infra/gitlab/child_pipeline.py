"""Which fine-tune configs a merge request changes, and the child pipeline that trains, judges and reports just
those."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypedDict

from configs.errors import ExternalError, InputError
from configs.read import release_gate_of
from configs.rows.files import matches
from infra.dvc.inputs import named_files
from infra.git.command import git

Pin = Literal["pin", "choose", "prove"]
SMOKE = "smoke"
TEMPLATES = "infra/gitlab/child.yml"
# The data's way itself: a change of it is proven on the smoke config. `*` goes through folders.
CODE = (
    *("train/*", "eval/*", "serve/*", "infra/*", "configs/*.py", "requirements/*.txt"),
    *("dvc.yaml", "tunegate.py", "Makefile", "pyproject.toml", ".gitlab-ci.yml"),
)


@dataclass(frozen=True)
class Run:
    """What the plan asks of a RunConfig. `files`: its YAML, its gate and that of its environment, its own rows and
    weights, and what its evaluation names. `environment`: None where its YAML names no `production`."""

    name: str
    environment: str | None
    files: frozenset[str]


class Job(TypedDict):
    """One job of the child pipeline; `extends`: a machine and a kind of infra/gitlab/child.yml."""

    extends: list[str]
    variables: dict[str, str]
    needs: list[str]


def changed_since(base: str) -> list[str]:
    """Paths that differ between `base` and HEAD, of a renamed file both. Raises InputError where git does not know
    `base`."""
    try:
        found = git(
            Path.cwd(), "diff", "--name-only", "--no-renames", "-z", "--end-of-options", f"{base}^{{commit}}", "HEAD"
        )
    except ExternalError as error:
        raise InputError(
            f"git does not know {base!r}: {error.message}", hint='GIT_DEPTH: "0"   (or: git fetch origin COMMIT)'
        ) from None
    return [path for path in found.split("\0") if path]


def read_runs(folder: Path = Path("configs/finetune")) -> list[Run]:
    """Every config that stands. Raises ConfigError for the first that is wrong."""
    from configs.loader import load
    from configs.run.config import RunConfig

    found = []
    for path in sorted(folder.glob("*.yaml")):
        run = load(path, RunConfig)
        named_rows = [place for place in run.data.row_files if "://" not in place]
        rows = [*named_rows, *(path for place in named_rows for path in matches(place))]  # a pattern, and what it means
        gates = [run.gate, release_gate_of(run.production)]
        base = [run.base.path, f"{run.base.path}/*"] if run.base.path else []
        others = named_files(run.evaluate.model_dump(mode="json"))
        files = (path.as_posix(), *(gate for gate in gates if gate), *rows, *base, *others)
        found.append(Run(run.name, run.production, frozenset(map(str, files))))
    return found


def touched(changed: Iterable[str], runs: Iterable[Run]) -> dict[Run, Pin]:
    """Those whose YAML, gate or rows changed, and whether their release is pinned; the smoke config also for a change
    of the code, as a proof alone.

    A change of documents touches none. Two that want one environment are for a person to choose between.
    """
    paths = set(changed)
    own = [
        run
        for run in runs
        if paths & run.files or any(fnmatchcase(path, pattern) for path in paths for pattern in run.files)
    ]
    wanted = Counter(run.environment for run in own)

    def pin_of(run: Run) -> Pin:
        if run.environment is None:
            return "prove"
        return "pin" if wanted[run.environment] == 1 else "choose"

    found: dict[Run, Pin] = {run: pin_of(run) for run in own}
    if any(fnmatchcase(path, pattern) for path in paths for pattern in CODE):
        proven: dict[Run, Pin] = {run: "prove" for run in runs if run.name == SMOKE}
        found = proven | found
    return found


def reproducible(runs: Mapping[Run, Pin], known: Collection[str]) -> dict[Run, Pin]:
    """Those that dvc.yaml runs; what is left out there on purpose is said."""
    for run in runs:
        if run.name not in known:
            print(f"{run.name}: not in the pipeline (configs/dvc.yaml), so nothing is run for it", file=sys.stderr)
    return {run: pin for run, pin in runs.items() if run.name in known}


def pipeline(runs: Mapping[Run, Pin], production: str, staging: str) -> dict[str, Any]:
    """GitLab's YAML. `staging` goes with `production`: a release that is pinned there serves in `staging` first."""
    jobs: dict[str, Job | dict[str, str]] = {}
    for run, pin in runs.items():
        jobs |= jobs_of(
            run,
            pin,
            [run.environment, *([staging] if run.environment == production and staging else [])]
            if run.environment
            else [],
        )
    if not jobs:  # GitLab takes no pipeline without a job
        jobs = {"nothing changed": {"extends": ".nothing"}}
    return {"include": [{"local": TEMPLATES}], **jobs}


def write(path: Path, found: Mapping[str, object]) -> None:
    from ruamel.yaml import YAML

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf8") as stream:
        YAML().dump(found, stream)


def jobs_of(run: Run, pin: Pin, environments: list[str]) -> dict[str, Job]:
    """Without an environment there are no load rules to judge by, and nothing to pin in."""
    where = ".small" if run.name == SMOKE else ".large"
    train, evaluate, load = f"train {run.name}", f"evaluate {run.name}", f"load {run.name}"

    def job(kind: str, *needs: str, machine: str = ".small", **variables: str) -> Job:
        return {"extends": [machine, kind], "variables": {"CONFIG": run.name} | variables, "needs": list(needs)}

    found = {
        train: job(".train", machine=where),
        evaluate: job(".evaluate", train, machine=where),
    }
    if environments:
        found[load] = job(".load", train, evaluate, machine=where, ENVIRONMENT=environments[0])
    if pin != "prove":
        found[f"pin {run.name}"] = job(
            ".pin" if pin == "pin" else ".pin by hand", train, evaluate, load, ENVIRONMENTS=" ".join(environments)
        )
    return found
