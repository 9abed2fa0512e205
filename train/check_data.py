"""`tunegate check --data`: what `prepare` would find in the rows, before anything is made of them. Loads no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict

from configs.data_card import RowsSummary
from configs.errors import RefusedError
from configs.paths import RunPaths
from configs.read import read_run
from configs.run.config import RunConfig
from infra.terminal import show
from train.data.compare import Difference, compare, figures_of, lines_of
from train.data.findings import record_findings
from train.data.pipeline import read_rows, rows_where, split_rows
from train.data.prepared import record_of
from train.data.splits import TRAIN, Drawn
from train.model.added_tokens import extend_tokenizer
from train.rows.mix import source_of_run
from train.tokens.encode import rules_of


class RowsReport(TypedDict):
    """`findings` by kind, `refused` those of them that would end prepare; `too_few`: why splits could not be drawn, as
    the faults left too few rows (likeness between rows is then not looked for); `differences`: from the rows of the
    release `against`; `tokens`: whether rows could be measured; `examples`: the first findings of each kind, all of
    which are in `listed_in`."""

    name: str
    rows: int
    refused: dict[str, int]
    too_few: str | None
    against: str | None
    differences: list[Difference]
    findings: dict[str, int]
    tokens: str
    listed_in: str
    examples: list[dict[str, Any]]


def tokenizer_folder(config: RunConfig) -> Path | None:
    """The base that prepare made, else the folder that it will be made of; None where neither is here: making the base
    would load torch."""
    given = [Path(config.base.path)] if config.base.path else []
    return next((folder for folder in (config.base.folder, *given) if (folder / "tokenizer.json").exists()), None)


@contextmanager
def tokenizer_here(config: RunConfig) -> Iterator[Path | None]:
    """The same, with base.add_tokens where there are some. Raises InputError where one is a token already."""
    plain = tokenizer_folder(config)
    if plain is None or not config.base.add_tokens:
        yield plain
        return
    with TemporaryDirectory() as folder:
        extend_tokenizer(plain, Path(folder), config.base.add_tokens)
        yield Path(folder)


def check_rows(config: RunConfig, against: tuple[str, RowsSummary] | None = None) -> tuple[RowsReport, list[str]]:
    """`against`: a release, and what the rows that it was trained on are like.

    A report for machines and the first findings of each kind as lines; all of them are listed in
    build/NAME/lint.jsonl.

    Tokens are counted only where the base's tokenizer is there already.
    """
    record = record_of(RunPaths.of(config.name))
    with (
        tokenizer_here(config) as base,
        TemporaryDirectory() as folder,
        record_findings(config.data.lint, record) as findings,
    ):
        rows, too_few, differences = Path(folder) / "rows.parquet", None, list[Difference]()
        rules = rules_of(config, base) if base else None
        source = source_of_run(config)
        table = read_rows(config, source, rows, findings, rules)
        try:
            drawn = split_rows(config, source, table, rows, findings)
            if against:
                differences = compare_rows(against[1], drawn, rows)
        except RefusedError as error:  # the faults themselves are shown below
            too_few = error.message.splitlines()[0]
    report: RowsReport = {
        "name": config.name,
        "rows": table.rows_read,
        "refused": findings.refused(),
        "too_few": too_few,
        "against": against[0] if against else None,
        "differences": differences,
        "findings": findings.by_kind(),
        "tokens": "tokens counted"
        if base
        else f"tokens not counted, for {config.base.folder} is not made yet: tunegate prepare makes it",
        "listed_in": str(record),
        "examples": [vars(finding) for first in findings.first.values() for finding in first],
    }
    compared = lines_of(against[0], against[1]["rows"], differences) if against and not too_few else []
    return report, [*findings.lines(), *compared]


def compare_rows(old: RowsSummary, drawn: Drawn, rows: Path) -> list[Difference]:
    """The train rows, as prepare would have them, with those of a release."""
    figures, names = figures_of(row for _, row in rows_where(rows, drawn.split == TRAIN))
    return compare(old, figures, drawn.sources(), names)


def print_report(report: RowsReport, lines: list[str]) -> None:
    found = f"{report['rows']} rows read, {sum(report['findings'].values())} findings"
    too_few = [report["too_few"]] if report["too_few"] else []
    print("\n".join([*lines, *too_few, f"{report['name']}: {found}, {report['tokens']}"]))


def check_files_rows(paths: list[Path], overrides: list[str] | None, against: str | None, as_json: bool) -> bool:
    """Of every run among these YAML files, all of them before the answer: whether none is refused. `against`: a release
    to hold the rows against."""
    from configs.check import kind_of
    from infra.lineage.rows import rows_of_release

    old = (against, rows_of_release(against)) if against else None
    found = [check_rows(read_run(path, overrides), old) for path in paths if kind_of(path) is RunConfig]
    if as_json:
        show([report for report, _ in found], True)
    for report, lines in found if not as_json else []:
        print_report(report, lines)
    return not any(report["refused"] or report["too_few"] for report, _ in found)
