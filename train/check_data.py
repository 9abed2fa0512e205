"""`tunegate check --data`: what `prepare` would find in the rows, before anything is made of them. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.data.findings import record_findings
from train.data.lengths import make_measure
from train.data.pipeline import inspect
from train.data.prepared import record_of
from train.rows.mix import read_rows


class RowsReport(TypedDict):
    """`findings` by kind, `refused` those of them that would end prepare; `tokens`: whether rows could be measured;
    `examples`: the first findings of each kind, all of which are in `listed_in`."""

    name: str
    rows: int
    refused: dict[str, int]
    findings: dict[str, int]
    tokens: str
    listed_in: str
    examples: list[dict[str, Any]]


def check_rows(config: RunConfig) -> tuple[RowsReport, list[str]]:
    """A report for machines and the first findings of each kind as lines; all of them are listed in
    build/NAME/lint.jsonl.

    Tokens are counted only where the base's tokenizer is there already, for making the base would load torch.
    """
    base, record = Path("build/base") / config.base.name, record_of(RunPaths.of(config.name))
    measured = (base / "tokenizer.json").exists()
    with TemporaryDirectory() as folder, record_findings(config.data.lint, record) as findings:
        drawn = inspect(
            config,
            read_rows(config),
            Path(folder) / "rows.parquet",
            findings,
            (lambda shape: make_measure(base, shape)) if measured else None,
        )
    report: RowsReport = {
        "name": config.name,
        "rows": len(drawn.table.kept) + drawn.table.unread,
        "refused": findings.refused(),
        "findings": dict(findings.counts),
        "tokens": "tokens counted"
        if measured
        else f"tokens not counted, for {base} is not made yet: tunegate prepare makes it",
        "listed_in": str(record),
        "examples": [vars(finding) for kind in findings.first for finding in findings.first[kind]],
    }
    return report, findings.lines()


def print_report(report: RowsReport, lines: list[str]) -> None:
    found = f"{report['rows']} rows read, {sum(report['findings'].values())} findings"
    print("\n".join([*lines, f"{report['name']}: {found}, {report['tokens']}"]))
