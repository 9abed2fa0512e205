"""Raw rows in, three parquet files and a data card out: checked, tokenized, split by seed. Memory stays flat, whatever
the number of rows."""

from __future__ import annotations

from pathlib import Path

from configs.data_card import DataCard, read_data_card
from configs.digest import key_of
from configs.paths import RunPaths, fold_data
from configs.release import read_manifest
from configs.rows.data import Data
from configs.run.config import RunConfig
from infra.files.atomic import new_directory, write_json, write_text
from infra.tokenizer import read_tokenizer
from train.data.data_card import write_page
from train.data.findings import Findings, record_findings
from train.data.folds import split_by_fold
from train.data.ingest import may_be_judged
from train.data.pipeline import enough, read_rows, split_rows
from train.data.prepared import record_of
from train.data.splits import SPLITS, Drawn
from train.data.write_splits import describe, write_splits
from train.rows.mix import source_of_run
from train.sources.source import Source
from train.tokens.encode import VERSION, Rules, rules_of

WRITTEN = (*(f"{name}.parquet" for name in SPLITS), "data_card.json", "data_card.html")


def prepare(config: RunConfig, paths: RunPaths, base_directory: Path) -> DataCard:
    """The data card. A second call with the same inputs does nothing.

    Raises InputError where the data is missing or too small, RefusedError naming the rows that the lint refuses.
    """
    source = source_of_run(config)
    key = key_of(
        config.task,
        config.problem,
        config.data.model_dump(),
        read_manifest(base_directory).digest,
        source.identity(),
        may_be_judged(config),
        VERSION,
        *(["kept"] if config.data.kept != config.data.keep else []),  # such rows lacked it before
        *config.evaluate.key_of_folds(),
    )
    finished = read_data_card(paths)
    if finished and finished.get("key") == key and all((paths.data / name).exists() for name in WRITTEN):
        return finished
    with new_directory(paths.data) as partial, record_findings(config.data.lint, record_of(paths)) as findings:
        rows, rules = partial / "rows.parquet", rules_of(config, base_directory)
        table = read_rows(config, source, rows, findings, rules)
        findings.refuse(enough(table, config))
        drawn = split_rows(config, source, table, rows, findings)
        findings.refuse()
        card, *_ = (
            write_data(config, source, one, findings, key, rows, rules(one.table.shape), base_directory, folder)
            for one, folder in folders(drawn, config.data, partial)
        )
        rows.unlink()
        write_text(partial / "data_card.html", write_page(config.name, card, findings.lines()))
    return card


def folders(drawn: Drawn, data: Data, folder: Path) -> list[tuple[Drawn, Path]]:
    """What is written where: the release's rows, and in folds/1 and so on those of each fold's model."""
    if drawn.fold is None:
        return [(drawn, folder)]
    whole, folds = split_by_fold(drawn, data)
    return [(whole, folder), *((one, fold_data(folder, number)) for number, one in enumerate(folds, 1))]


def write_data(
    config: RunConfig,
    source: Source,
    drawn: Drawn,
    findings: Findings,
    key: str,
    rows: Path,
    rules: Rules,
    base_directory: Path,
    folder: Path,
) -> DataCard:
    """The three splits of `rows`, and their card."""
    folder.mkdir(parents=True, exist_ok=True)
    written = write_splits(rows, drawn, config.data, folder, rules)
    card = describe(config, source, drawn, written, findings, key)
    if drawn.table.pairs:
        card["pair_separator"] = read_tokenizer(base_directory).pair_separator
    if drawn.fold is not None:
        card["folds"] = [int((drawn.fold == number).sum()) for number in range(int(drawn.fold.max()) + 1)]
    write_json(folder / "data_card.json", card)
    return card
