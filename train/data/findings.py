"""What the checks of rows found: how often, the first of each kind, and what is done about it."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
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
EXPECTATION = "expectation"  # a kind without a key of data.lint: each line of data.expect has an action of its own


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
    """Written as they are found, for there may be millions; the first of each kind and action are kept to be shown."""

    lint: Lint
    stream: TextIO
    record: Path = Path("lint.jsonl")
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: defaultdict[tuple[str, str], list[Finding]] = field(default_factory=lambda: defaultdict(list))

    def add(self, file: str, row: int | None, fault: Fault, action: str | None = None) -> bool:
        """True if the row may stay. `action`: where it is not the one that data.lint has for the kind."""
        finding = Finding(file, row, fault.kind, fault.found, fault.expected, action or self.action(fault.kind))
        self.stream.write(json.dumps(asdict(finding), ensure_ascii=False) + "\n")
        key = finding.kind, finding.action
        self.counts[key] += 1
        if self.counts[key] <= SHOWN:
            self.first[key].append(finding)
        return finding.action == "keep"

    def action(self, kind: str) -> str:
        return str(getattr(self.lint, kind))

    def table(self) -> list[FindingCount]:
        """Every kind that is looked for, those without a finding too; broken expectations by what was done."""
        kinds = [name for name in Lint.model_fields if name not in WITHOUT_ACTION and self.action(name) != "ignore"]
        keys = [(kind, self.action(kind)) for kind in kinds] + [key for key in self.counts if key[0] == EXPECTATION]
        return [{"kind": kind, "action": action, "count": self.counts[kind, action]} for kind, action in keys]

    def by_kind(self, *actions: str) -> dict[str, int]:
        """How many there are of each kind; only those with one of `actions`, where some are given."""
        found: Counter[str] = Counter()
        for (kind, action), count in self.counts.items():
            if not actions or action in actions:
                found[kind] += count
        return dict(found)

    def lines(self, *actions: str) -> list[str]:
        """The first of each kind, and how many more there are."""
        keys = [key for key in self.first if not actions or key[1] in actions]
        return [line for key in keys for line in (*map(str, self.first[key]), *self.more(key))]

    def more(self, key: tuple[str, str]) -> list[str]:
        rest = self.counts[key] - len(self.first[key])
        return [f"… and {rest} more: {key[0]}"] if rest else []

    def refused(self) -> dict[str, int]:
        return self.by_kind("refuse")

    def refuse(self, droppable: bool = True) -> None:
        """Raises RefusedError if any finding's action is to refuse. `droppable`: enough rows are left without those at
        fault, so that to drop them would help."""
        refused = self.refused()
        if refused:
            raise self.refusal(count_kinds(refused), "refuse", settle=refused if droppable else {})

    def refusal(self, head: str, *actions: str, settle: Collection[str] = ()) -> RefusedError:
        """What is wrong in one line, then the first findings with one of `actions`; the hint offers other actions for
        the kinds in `settle`."""
        listed = "".join(f"\n  {line}" for line in self.lines(*actions))
        hint = f"correct the rows (all are listed in {self.record})"
        return RefusedError(f"data: {head}{listed}", hint=", or say under ".join([hint, *other_actions(settle)]))


def count_kinds(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def other_actions(kinds: Collection[str]) -> list[str]:
    """What to write so that faults of these kinds refuse nothing."""
    by_key = ", ".join(f"{kind}: {'keep' if kind in OF_ALL_ROWS else 'drop'}" for kind in kinds if kind != EXPECTATION)
    found = [f"data: lint: {{{by_key}}}"] if by_key else []
    return [*found, "data: expect: another action"] if EXPECTATION in kinds else found


@contextmanager
def record_findings(lint: Lint, record: Path) -> Iterator[Findings]:
    """Findings whose list takes the place of `record` when the block ends, well or not."""
    record.parent.mkdir(parents=True, exist_ok=True)
    partial = record.with_name(record.name + ".partial")
    try:
        with partial.open("w", encoding="utf8") as stream:
            yield Findings(lint, stream, record)
    finally:
        os.replace(partial, record)
