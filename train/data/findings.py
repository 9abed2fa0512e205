"""What the checks of rows found: how often, the first of each kind, and what is done about it."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TextIO

from configs.data_card import FindingCount
from configs.errors import RefusedError
from configs.rows.lint import Lint
from train.sources.source import Fault

SHOWN = 5  # findings of a kind that a message lists; all of them are in lint.jsonl
OF_ALL_ROWS = ("imbalance", "label_variants")  # no single row is at fault, so none can be dropped
WITHOUT_ACTION = {"rare_share", "near_threshold", "near_sample"}  # keys of data.lint that are no kinds


@dataclass(frozen=True)
class Finding:
    """One fault. `row` counts from 1 as the file does (a line, or a row of a table); None is the whole data set."""

    file: str
    row: int | None
    kind: str
    found: str
    expected: str
    action: str

    def __str__(self) -> str:
        location = f"{self.file}:{self.row}" if self.row else self.file
        return f"{location}: {self.kind}: found {self.found}, expected {self.expected}"


@dataclass
class Findings:
    """Written as they are found, for there may be millions; the first of each kind are kept to be shown."""

    lint: Lint
    stream: TextIO
    counts: Counter[str] = field(default_factory=Counter)
    first: defaultdict[str, list[Finding]] = field(default_factory=lambda: defaultdict(list))

    def add(self, file: str, row: int | None, fault: Fault) -> bool:
        """True if the row may stay."""
        finding = Finding(file, row, fault.kind, fault.found, fault.expected, self.action(fault.kind))
        self.stream.write(json.dumps(asdict(finding), ensure_ascii=False) + "\n")
        self.counts[fault.kind] += 1
        if self.counts[fault.kind] <= SHOWN:
            self.first[fault.kind].append(finding)
        return finding.action == "keep"

    def action(self, kind: str) -> str:
        return str(getattr(self.lint, kind))

    def table(self) -> list[FindingCount]:
        """Every kind that is looked for, those without a finding too."""
        kinds = [name for name in Lint.model_fields if name not in WITHOUT_ACTION and self.action(name) != "ignore"]
        return [{"kind": kind, "action": self.action(kind), "count": self.counts[kind]} for kind in kinds]

    def lines(self) -> list[str]:
        return [line for kind in self.first for line in (*map(str, self.first[kind]), *self.more(kind))]

    def more(self, kind: str) -> list[str]:
        rest = self.counts[kind] - len(self.first[kind])
        return [f"… and {rest} more: {kind}"] if rest else []

    def refused(self) -> dict[str, int]:
        return {kind: count for kind, count in self.counts.items() if self.action(kind) == "refuse"}

    def refuse(self, record: Path) -> None:
        """Raises RefusedError if any finding's action is to refuse."""
        refused = self.refused()
        if not refused:
            return
        counts = ", ".join(f"{count} {kind}" for kind, count in refused.items())
        listed = "\n".join(f"  {line}" for kind in refused for line in (*map(str, self.first[kind]), *self.more(kind)))
        actions = ", ".join(f"{kind}: {'keep' if kind in OF_ALL_ROWS else 'drop'}" for kind in refused)
        raise RefusedError(
            f"data: {counts}\n{listed}",
            hint=f"correct the rows (all are listed in {record}), or say under data: lint: {{{actions}}}",
        )


@contextmanager
def record_findings(lint: Lint, record: Path) -> Iterator[Findings]:
    """Findings whose list takes the place of `record` when the block ends, well or not."""
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_name(record.name + ".partial")
    try:
        with partial.open("w", encoding="utf8") as stream:
            yield Findings(lint, stream)
    finally:
        os.replace(partial, record)
