"""How often a training is started again.

python -m infra.engines.restarts JOB_FOLDER CHECKPOINTS ALLOWED   # exit code 0: once more; 1: no
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from infra.files.atomic import read_json, write_json


@dataclass(frozen=True)
class Attempts:
    """`step`: the newest checkpoint when it last started; `without_progress`: starts since then that brought no newer
    one. Endless restarts are the alternative (kubeflow/trainer#3779)."""

    step: int = 0
    without_progress: int = 0

    def after(self, step: int) -> Attempts:
        """It failed, and `step` is the newest checkpoint now."""
        return Attempts(step, 0) if step > self.step else Attempts(self.step, self.without_progress + 1)


def newest_step(checkpoints: Path) -> int:
    """Of the whole checkpoints, which hold the file `complete`; 0 where there is none."""
    names = (path.parent.name.removeprefix("checkpoint-") for path in checkpoints.glob("checkpoint-*/complete"))
    return max(map(int, names), default=0)


def once_more(folder: Path, checkpoints: Path, allowed: int) -> bool:
    """Counts this failure in folder/attempts.json, which outlives a node."""
    found = read_json(folder / "attempts.json") or {}
    attempts = Attempts(found.get("step", 0), found.get("without_progress", 0)).after(newest_step(checkpoints))
    write_json(folder / "attempts.json", {"step": attempts.step, "without_progress": attempts.without_progress})
    return attempts.without_progress <= allowed


if __name__ == "__main__":
    sys.exit(not once_more(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
