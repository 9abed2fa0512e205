"""Rows tokenized in as many processes as there are cores, a window ahead of what is written, so memory stays flat. No
torch is loaded, neither here nor there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

from infra.chat_template import TemplateFault
from infra.processes import die_with
from infra.tokenizer import read_tokenizer
from train.rows.shape import Shape, texts_of, token_columns
from train.sources.source import Fault, Row
from train.tokens.encode import Rules, Tokens, encode, length_of, prompt_length
from train.tokens.long_rows import fit

if TYPE_CHECKING:
    from pyarrow import Table

NOTHING_LEARNT = Fault("no_target_tokens", "no turn that is learnt", "one that data.train_on and its own weight leave")
CHUNK = 2048  # rows of one piece of work
ALONE, ALONE_CHARACTERS = 4096, 2_000_000  # fewer rows, and shorter ones, are done with before a process has started


class Tokenized(NamedTuple):
    """`asked`: rows that were asked for. `tokens`: a pyarrow table of the token columns, a row for each of `rows`, of
    which `sources` says the index in what was asked; `prompts`: tokens before the first target; `faults`: rows that are
    not among them."""

    asked: int
    rows: list[Row]
    sources: list[int]
    tokens: Table
    prompts: list[int]
    faults: list[tuple[int, Fault]]


def tokenize(rules: Rules, rows: list[Row]) -> Tokenized:
    """Raises InputError where the folder holds no tokenizer.json, or no chat template although the rows are
    conversations."""
    tokenizer = read_tokenizer(rules.folder)
    kept: list[Row] = []
    sources: list[int] = []
    found: list[Tokens] = []
    faults: list[tuple[int, Fault]] = []
    for index, row in enumerate(rows):
        try:
            parts = fit(tokenizer, row, encode(tokenizer, rules, row), rules)
        except TemplateFault as error:
            faults.append((index, Fault("template_error", str(error), "turns that the chat template can render")))
            continue
        for part, tokens in parts:
            if True not in tokens.get("loss_mask", [True]):
                faults.append((index, NOTHING_LEARNT))
                continue
            kept.append(part)
            sources.append(index)
            found.append(tokens)
    return Tokenized(
        len(rows), kept, sources, as_table(rules.shape, found), [prompt_length(one) for one in found], faults
    )


def as_table(shape: Shape, found: list[Tokens]) -> Table:
    import pyarrow

    schema = pyarrow.schema(token_columns(shape))
    columns = {name: [tokens[name] for tokens in found] for name in schema.names if name != "length"}
    columns["length"] = [length_of(tokens) for tokens in found]  # type: ignore[misc]
    return pyarrow.table(
        [pyarrow.array(columns[name], type=schema.field(name).type) for name in schema.names], schema=schema
    )


def join(parts: list[Tokenized]) -> Tokenized:
    """Of consecutive pieces of one list of rows."""
    import pyarrow

    starts = list(accumulate((part.asked for part in parts), initial=0))
    return Tokenized(
        starts[-1],
        [row for part in parts for row in part.rows],
        [start + index for start, part in zip(starts, parts, strict=False) for index in part.sources],
        pyarrow.concat_tables([part.tokens for part in parts]),
        [length for part in parts for length in part.prompts],
        [(start + index, fault) for start, part in zip(starts, parts, strict=False) for index, fault in part.faults],
    )


Begun = list[Future[Tokenized]] | Tokenized


class Workers:
    """Processes that tokenize; started when there are rows enough to be worth it."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.pool = rules, None if cores() == 1 else self.unstarted()
        read_tokenizer(rules.folder)  # what is wrong with the folder is said here, and not by a process

    def unstarted(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(cores(), get_context("spawn"), initializer=start_worker, initargs=(os.getpid(),))

    def begin(self, rows: list[Row]) -> Begun:
        if self.pool is None or (len(rows) < ALONE and characters(rows, ALONE_CHARACTERS) < ALONE_CHARACTERS):
            return tokenize(self.rules, rows)
        size = min(CHUNK, -(-len(rows) // (4 * cores())))  # few rows that are long are work for all cores too
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        return [self.pool.submit(tokenize, self.rules, chunk) for chunk in chunks]

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)


@contextmanager
def workers(rules: Rules) -> Iterator[Workers]:
    found = Workers(rules)
    try:
        yield found
    finally:
        found.close()


def result(begun: Begun) -> Tokenized:
    return begun if isinstance(begun, Tokenized) else join([one.result() for one in begun])


def characters(rows: list[Row], most: int) -> int:
    """Of their texts, counted no further than `most`."""
    total = 0
    for row in rows:
        total += sum(map(len, texts_of(row)))
        if total >= most:
            break
    return total


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def start_worker(parent: int) -> None:
    import signal

    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends these
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there are as many processes as cores
