"""A record of JSON lines that is written here first and taken by a far side in order, whenever that is there."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.files.atomic import write_text

Line = dict[str, Any]
METRIC_LINES_A_BATCH = 50


@dataclass(frozen=True)
class Outbox:
    """folder/metrics.jsonl, how many bytes of it were taken (`delivered`), and the far side's name for it
    (`run_id`)."""

    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / "metrics.jsonl"

    @property
    def run_id(self) -> str | None:
        return read(self.folder / "run_id")

    def append(self, *lines: Line) -> None:
        """Stamped with the time in milliseconds. A line that a kill tore stays torn, and alone."""
        self.folder.mkdir(parents=True, exist_ok=True)
        torn = self.record.exists() and self.record.read_bytes()[-1:] not in (b"", b"\n")
        with self.record.open("a", encoding="utf8") as stream:
            stream.write("\n" if torn else "")
            stream.writelines(json.dumps({"time": int(time.time() * 1000)} | line) + "\n" for line in lines)

    def lines(self, offset: int = 0) -> Iterator[tuple[Line, int]]:
        """Each whole line after `offset` bytes, and the byte where it ends."""
        if not self.record.exists():
            return
        with self.record.open("rb") as stream:
            stream.seek(offset)
            for text in stream:
                if not text.endswith(b"\n"):
                    return  # being written just now
                offset += len(text)
                try:
                    yield json.loads(text), offset
                except ValueError:
                    continue

    def unfinished_key(self) -> str | None:
        """The key of the record's last run, if that has no status yet: it was killed, or goes on."""
        key = None
        for line, _ in self.lines():
            key = line["start"]["key"] if "start" in line else None if "status" in line or "resume" in line else key
        return key

    def logged(self) -> set[tuple[int, str]]:
        """Step and name of every metric of the record's last run."""
        found: set[tuple[int, str]] = set()
        for line, _ in self.lines():
            if "start" in line:
                found.clear()
            found.update((line["step"], name) for name in line.get("metrics", ()))
        return found

    def left(self) -> Iterator[tuple[Line, int]]:
        """What was not taken yet."""
        return self.lines(int(read(self.folder / "delivered") or 0))

    def batches(self) -> Iterator[tuple[list[Line], int]]:
        """What is left: neighbouring lines of metrics together, every other line alone; and the byte where each batch
        ends."""
        for metrics, group in itertools.groupby(self.left(), key=lambda found: "metrics" in found[0]):
            while batch := list(itertools.islice(group, METRIC_LINES_A_BATCH if metrics else 1)):
                yield [line for line, _ in batch], batch[-1][1]

    def taken(self, offset: int, run_id: str | None) -> None:
        if run_id:
            write_text(self.folder / "run_id", run_id)
        write_text(self.folder / "delivered", str(offset))


def read(path: Path) -> str | None:
    return path.read_text(encoding="utf8") if path.exists() else None
