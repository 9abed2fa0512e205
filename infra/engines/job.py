"""A training that an engine runs: what names it, where it writes, how it stands."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.training.launch import Launch
from infra.files.atomic import write_text

FRONT_DOOR = Path(__file__).parents[2] / "tunegate.py"
ENDED, HEARTBEAT, LOG = "ended", "heartbeat", "log"
BEAT_SECONDS, MISSED_SECONDS = 5, 60

# gone: the engine knows of none, or its heartbeat is missed. unknown: it was not to be asked, which says nothing of the
# job: who takes a status that timed out for a death destroys what is healthy (skypilot#10123).
Kind = Literal["waiting", "running", "succeeded", "failed", "gone", "unknown"]


@dataclass(frozen=True)
class State:
    """`words`: the engine's own. `code`: with which a failed one ended, where that is known."""

    kind: Kind
    words: str = ""
    code: int | None = None


@dataclass(frozen=True)
class Job:
    """`token`: its name in the engine, written down before it is submitted. `folder`: absolute, as `checkpoints`; all
    nodes see it. `root`: where the command runs. `trial`: the folder of a sweep's trial, where it is one."""

    token: str
    folder: Path
    checkpoints: Path
    launch: Launch
    root: Path
    trial: Path | None = None

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def words(self) -> tuple[str, Path]:
        """Of the command that each node runs."""
        return ("trial", self.trial) if self.trial else ("train", self.config)

    @property
    def command(self) -> list[str]:
        verb, path = self.words
        return [sys.executable, str(FRONT_DOOR), verb, str(path)]

    @property
    def cpus(self) -> int | None:
        """Of each node; None where the YAML does not say it."""
        return self.launch.processes * self.launch.threads if self.launch.threads else None


def ended(job: Job) -> State | None:
    """As the job itself wrote it down, its last act."""
    try:
        code = int((job.folder / ENDED).read_text(encoding="utf8"))
    except (OSError, ValueError):
        return None
    return State("succeeded", "ended", 0) if code == 0 else State("failed", f"ended with {code}", code)


def seconds_since_heartbeat(job: Job) -> float | None:
    """By the clock of the file system on which both lie; None where there never was one."""
    now = job.folder / "now"
    try:
        write_text(now, "")
        return now.stat().st_mtime - (job.folder / HEARTBEAT).stat().st_mtime
    except OSError:
        return None


def missed(job: Job) -> bool:
    """No heartbeat for so long that the job is dead."""
    silent = seconds_since_heartbeat(job)
    return silent is None or silent > MISSED_SECONDS
