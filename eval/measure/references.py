"""The releases that a gate compares with: measured on this run's rows, by this run's questions, and never twice."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from configs.environment.config import DeployConfig
from configs.loader import load
from configs.release import REFERENCE_PATTERN, read_manifest
from configs.rules.gate import GateConfig
from configs.run.config import RunConfig
from configs.task import served_problem, served_task
from eval.measure import cache
from eval.measure.cache import evaluation_key
from infra.dvc.releases import find, folder_of
from infra.terminal import waiting

CHAMPION = "champion"


def measure_references(
    config: RunConfig,
    dataset: str,
    production: DeployConfig,
    target: Path,
    measure: Callable[[Path, Path], object],
) -> None:
    """Into `target`/champion, and `target`/NAME@DIGEST12 for a release that a rule names; what no rule asks for is
    taken away.

    What was measured anywhere is known by its digest, so the release itself is fetched only where it has to be served.
    Raises InputError for a release that was not published, ExternalError where it cannot be fetched.
    """
    wanted = references_of(load(Path(production.release_gate or config.gate), GateConfig), production.release)
    for folder in target.iterdir():
        if folder.is_dir() and (folder.name == CHAMPION or "@" in folder.name) and folder.name not in wanted:
            shutil.rmtree(folder)
    for name, reference in wanted.items():
        digest = reference.partition("@")[2]
        # Where it was evaluated by folds of these very rows, its answers are those of models that had not seen them.
        ways = (True, False) if config.evaluate.folds else (False,)
        keys = [evaluation_key(digest, dataset, config, by_folds) for by_folds in ways]
        if any(cache.get(key, target / name, reference, probed=False) is not None for key in keys):
            continue
        with waiting(f"{reference} is fetched"):
            release = find(reference) / "release"
        reason = why_incompatible(config, release)
        if reason:
            sys.stderr.write(f"{reference} is not measured on these rows: {reason}\n")
            shutil.rmtree(target / name, ignore_errors=True)
        else:
            measure(release, target / name)


def references_of(rules: GateConfig, champion: str | None) -> dict[str, str]:
    """Folder name to NAME@sha256:DIGEST, of what some rule compares with."""
    named = {str(value) for rule in rules.rules for value in rule.model_dump().values() if isinstance(value, str)}
    found = {CHAMPION: champion} if champion is not None and CHAMPION in named else {}
    return found | {folder_of(name).name: name for name in sorted(named) if re.fullmatch(REFERENCE_PATTERN, name)}


def why_incompatible(config: RunConfig, release: Path) -> str | None:
    """Why this release cannot answer this run's rows; None where it can. The gate then says that it has no evidence."""
    theirs = read_manifest(release)
    if (theirs.task, theirs.problem) != (served_task(config.task), served_problem(config.task, config.problem)):
        ours = f"{served_task(config.task)} ({served_problem(config.task, config.problem)})"
        return f"it is a {theirs.task} model ({theirs.problem}), this run's is {ours}"
    return None
