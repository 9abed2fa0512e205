"""`tunegate check --data`: what `prepare` would find in the rows, before anything is made of them. Loads no torch."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from configs.paths import RunPaths
from configs.run.config import RunConfig
from train.data.findings import record_findings
from train.data.pipeline import inspect
from train.data.prepared import record_of
from train.rows.mix import read_rows
from train.tokens.encode import rules_of


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


def tokenizer_folder(config: RunConfig) -> Path | None:
    """The base that prepare made, else the folder that it will be made of; None where neither is here: making the base
    would load torch."""
    made = Path("build/base") / config.base.name
    given = [Path(config.base.path)] if config.base.path else []
    return next((folder for folder in (made, *given) if (folder / "tokenizer.json").exists()), None)


def check_rows(config: RunConfig) -> tuple[RowsReport, list[str]]:
    """A report for machines and the first findings of each kind as lines; all of them are listed in
    build/NAME/lint.jsonl.

    Tokens are counted only where the base's tokenizer is there already.
    """
    base, record = tokenizer_folder(config), record_of(RunPaths.of(config.name))
    with TemporaryDirectory() as folder, record_findings(config.data.lint, record) as findings:
        drawn = inspect(
            config,
            read_rows(config),
            Path(folder) / "rows.parquet",
            findings,
            rules_of(config.data, base) if base else None,
        )
    report: RowsReport = {
        "name": config.name,
        "rows": len(drawn.table.kept) + drawn.table.unread,
        "refused": findings.refused(),
        "findings": dict(findings.counts),
        "tokens": "tokens counted"
        if base
        else f"tokens not counted, for build/base/{config.base.name} is not made yet: tunegate prepare makes it",
        "listed_in": str(record),
        "examples": [vars(finding) for kind in findings.first for finding in findings.first[kind]],
    }
    return report, findings.lines()


def print_report(report: RowsReport, lines: list[str]) -> None:
    found = f"{report['rows']} rows read, {sum(report['findings'].values())} findings"
    print("\n".join([*lines, f"{report['name']}: {found}, {report['tokens']}"]))
