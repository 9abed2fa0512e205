"""The verdicts beside the bytes of a published release, one an environment: the newest in `gate`, its evaluation in
`eval`; those for other environments in judged/ENV/gate and judged/ENV/eval. An earlier tunegate left the first
alone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from configs.paths import RunPaths
from configs.section import NAME_PATTERN
from configs.verdict import Verdict
from infra.signing import signature_of

JUDGED = "judged"
VERDICT = Path("gate/verdict.json")
# Logs and the evaluation's cache of answers prove nothing that predictions.parquet does not.
LEFT_OUT = shutil.ignore_patterns("*.log", "answers-*.jsonl", "*.partial")


def verdict_path(target: Path, environment: str | None) -> Path:
    """Of the verdict for this environment; where there is none, of the newest, which says what it is for."""
    own = target / JUDGED / environment / VERDICT if environment else None
    return own if own and own.exists() else target / VERDICT


def read_verdict(target: Path) -> Verdict | None:
    """The newest."""
    path = target / VERDICT
    return Verdict.read(path) if path.exists() else None


def judged_for(target: Path) -> list[str]:
    """The environments that it has a verdict for, the newest first."""
    newest, others = environment_of(target), (target / JUDGED).glob("*")
    return [*([newest] if newest else []), *sorted(path.name for path in others if path.is_dir())]


def judgement_folders(target: Path) -> list[Path]:
    """Where each verdict lies with its evaluation, the newest first."""
    return [target, *sorted(path for path in (target / JUDGED).glob("*") if path.is_dir())]


def judged_folders(where: Path) -> list[Path]:
    """The verdict's folder and its evaluation's, as far as they are there."""
    return [folder for folder in (where / VERDICT.parent, where / "eval") if folder.is_dir()]


def environment_of(folder: Path) -> str | None:
    """Of the newest verdict; None where it is bound to none, or cannot be read."""
    try:
        verdict = read_verdict(folder)
    except ValueError:
        return None
    name = verdict.binding.environment if verdict and verdict.binding else None
    return name if name and re.fullmatch(NAME_PATTERN, name) else None


def is_judged_anew(paths: RunPaths, target: Path) -> bool:
    """For another environment, gate, champion or test set than what was published last."""
    published = target / VERDICT
    return not published.exists() or published.read_bytes() != (paths.root / VERDICT).read_bytes()


def put_judgement(paths: RunPaths, partial: Path) -> None:
    """A run's verdict and its evaluation into a copy of its publication: the one for the same environment goes, those
    for others stay."""
    before, now = environment_of(partial), environment_of(paths.root)
    both = (partial / paths.evaluation.name, partial / paths.gate.name)
    if now:
        shutil.rmtree(partial / JUDGED / now, ignore_errors=True)
    if before and before != now:
        kept = partial / JUDGED / before
        kept.mkdir(parents=True, exist_ok=True)
        for path in (*both, *map(signature_of, both)):
            if path.exists():
                path.rename(kept / path.name)
    for source, folder in zip((paths.evaluation, paths.gate), both, strict=True):
        shutil.rmtree(folder, ignore_errors=True)
        signature_of(folder).unlink(missing_ok=True)
        shutil.copytree(source, folder, ignore=LEFT_OUT)
