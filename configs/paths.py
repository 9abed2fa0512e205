"""Where each stage of a run reads and writes: rooms meet here, through files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunPaths:
    """build/NAME and its folders."""

    root: Path

    @classmethod
    def of(cls, name: str) -> RunPaths:
        return cls(Path("build") / name)

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def trained(self) -> Path:
        """What training left: an adapter, or with method full a whole model."""
        return self.root / "trained"

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def parent(self) -> Path:
        """The merged, unquantized model, kept only when quantize.compare_parent asks for it."""
        return self.root / "parent"

    @property
    def evaluation(self) -> Path:
        return self.root / "eval"

    def fold(self, number: int) -> RunPaths:
        """Of the model that has not seen the rows of fold `number`, from 1: paths of its own (evaluate.folds). They are
        no output of the pipeline; the fold's rows are `prepare`'s, in data/folds."""
        return RunPaths(self.root / "folds" / str(number))

    @property
    def gate(self) -> Path:
        return self.root / "gate"


def fold_data(data: Path, number: int) -> Path:
    """The rows of fold `number`, from 1, in the folder of a run's data."""
    return data / "folds" / str(number)
