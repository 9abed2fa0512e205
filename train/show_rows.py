"""`tunegate check --show N`: rows as training will see them, what carries loss marked. Loads no torch."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import groupby, islice
from pathlib import Path
from typing import TypedDict

from configs.errors import InputError
from configs.read import read_run
from configs.run.config import RunConfig
from infra.terminal import show
from infra.tokenizer import Tokenizer, read_tokenizer
from train.check_data import tokenizer_here
from train.data.findings import Findings
from train.data.ingest import Ingest, open_ingest
from train.rows.mix import source_of_run
from train.rows.shape import answer_of
from train.sources.source import Row, Source
from train.tokens.encode import Tokens, length_of, rules_of
from train.tokens.tokenize import tokenize


class Run(TypedDict):
    """Consecutive tokens, as text, that all carry loss, or none of which does."""

    text: str
    tokens: int
    loss: bool


class ShownRow(TypedDict):
    """`runs` in their order; `answer`: what a row without a loss mask is to be answered with, the rejected one of a
    pair, or whether a judged answer is desirable."""

    id: str
    tokens: int
    runs: list[Run]
    answer: str


def show_rows(config: RunConfig, count: int) -> list[ShownRow]:
    """The first `count` rows that can be read and tokenized. Raises InputError where the base's tokenizer is not here,
    or no row can be read."""
    with tokenizer_here(config) as folder:
        if folder is None:
            raise InputError(f"{config.name}: the base's tokenizer is not here yet", hint="tunegate prepare CONFIG")
        return read_shown(config, folder, count)


def read_shown(config: RunConfig, folder: Path, count: int) -> list[ShownRow]:
    source = source_of_run(config)
    ingest = open_ingest(config, source, Findings(config.data.lint, io.StringIO()))
    rows = list(islice(readable(ingest, source), count))
    if not rows or ingest.shape is None:
        raise InputError(f"{config.name}: no row can be read", hint="tunegate check CONFIG --data")
    found, tokenizer = tokenize(rules_of(config, folder)(ingest.shape), rows), read_tokenizer(folder)
    return [shown(tokenizer, row, one) for row, one in zip(found.rows, found.tokens.to_pylist(), strict=True)]


def readable(ingest: Ingest, source: Source) -> Iterator[Row]:
    for batch in source.batches():
        for number, raw in zip(batch.numbers, batch.rows, strict=True):
            found = ingest.row(batch.file, number, raw, f"{batch.stem}-{number}")
            if found is not None:
                yield found[0]


def shown(tokenizer: Tokenizer, row: Row, tokens: Tokens) -> ShownRow:
    if "prompt_ids" in tokens:
        ids = [*tokens["prompt_ids"], *tokens["chosen_ids"]]
        mask = [False] * len(tokens["prompt_ids"]) + [True] * len(tokens["chosen_ids"])
        answer = f"rejected: {row['rejected']}" if "rejected" in row else f"desirable: {row['desirable']}"
    else:
        ids = list(tokens["input_ids"])
        mask = list(map(bool, tokens.get("loss_mask") or [False] * len(ids)))
        answer = "" if "loss_mask" in tokens else answer_of(row)
    runs: list[Run] = []
    for loss, group in groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1]):
        part = [token for token, _ in group]
        text = tokenizer.fast.decode(part, skip_special_tokens=False)
        runs.append({"text": text, "tokens": len(part), "loss": loss})
    return {"id": str(row["id"]), "tokens": length_of(tokens), "runs": runs, "answer": answer}


def print_rows(name: str, rows: list[ShownRow]) -> None:
    """What carries loss is green on a terminal, and stands in \u27e6 \u27e7 where there are no colours."""
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True, highlight=False)
    for row in rows:
        learnt = sum(run["tokens"] for run in row["runs"] if run["loss"])
        console.print(f"{name}: row {row['id']}, {row['tokens']} tokens, loss on {learnt}", style="bold", markup=False)
        text = Text()
        for run in row["runs"]:
            marked = run["text"] if console.color_system or not run["loss"] else f"\u27e6{run['text']}\u27e7"
            text.append(marked, "bold green" if run["loss"] else None)
        console.print(text)
        if row["answer"]:
            console.print(Text(row["answer"], "bold green"))


def show_files(paths: list[Path], overrides: list[str] | None, count: int, as_json: bool) -> None:
    """Of every run among these YAML files."""
    from configs.check import kind_of

    runs = [read_run(path, overrides) for path in paths if kind_of(path) is RunConfig]
    found = {run.name: show_rows(run, count) for run in runs}
    if as_json:
        show(found, True)
    for name, rows in found.items() if not as_json else []:
        print_rows(name, rows)
