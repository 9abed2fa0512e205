"""The answers to all rows, on disk as they come: a killed evaluation asks for none of them again, and none is held in
memory."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import TunegateError
from configs.release import Manifest
from configs.run.evaluate import Evaluate
from eval.measure.rows import BATCH_ROWS
from eval.metrics.rows import Row
from infra.terminal import telling
from infra.tokenizer import with_tokens
from infra.vllm.answer import Answer
from infra.vllm.client import ask

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.progress import Progress


@dataclass(frozen=True)
class Answers:
    """One JSON line an answer, in the order in which they came. Remembered of each row: its id, and where its line
    begins (-1: not answered)."""

    path: Path
    ids: Any
    offsets: NDArray[Any]

    @classmethod
    def open(cls, path: Path, ids: Any) -> Answers:
        """What an earlier run left. A line cut short by a kill is dropped, and the file is rewritten without it."""
        import numpy

        answers = cls(path, ids, numpy.full(len(ids), -1, dtype="int64"))
        partial = path.with_name(path.name + ".partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as kept:
            for number, line in answers.whole_lines():
                answers.offsets[number] = kept.tell()
                kept.write(line)
        os.replace(partial, path)
        return answers

    def whole_lines(self) -> Iterator[tuple[int, bytes]]:
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            for line in stream:
                try:
                    number, identity, _ = read_line(line)
                    known = line.endswith(b"\n") and self.ids[number].as_py() == identity
                except (ValueError, KeyError, TypeError, IndexError):
                    continue
                if known:
                    yield number, line

    def missing(self, rows: Iterable[Row]) -> Iterator[tuple[int, Row]]:
        """The rows that have no answer yet, each with its number."""
        return ((number, row) for number, row in enumerate(rows) if self.offsets[number] < 0)

    def count(self) -> int:
        return int((self.offsets >= 0).sum())

    def in_order(self) -> Iterator[Answer]:
        """The answer to each row, in the rows' order."""
        with self.path.open("rb") as stream:
            for offset in self.offsets:
                stream.seek(offset)
                yield read_line(stream.readline())[2]

    def at(self, number: int) -> Answer:
        """The answer to one row."""
        with self.path.open("rb") as stream:
            stream.seek(self.offsets[number])
            return read_line(stream.readline())[2]


def write_line(number: int, identity: str, answer: Answer) -> bytes:
    return (json.dumps({"row": number, "id": identity, "answer": asdict(answer)}) + "\n").encode()


def read_line(line: bytes) -> tuple[int, str, Answer]:
    """The row's number, its id and its answer."""
    found = json.loads(line)
    return int(found["row"]), found["id"], Answer(**found["answer"])


def ask_all(
    base_url: str,
    served_name: str,
    manifest: Manifest,
    rows: Iterable[tuple[int, Row]],
    answers: Answers,
    settings: Evaluate,
) -> None:
    """Asks `rows`, of which each comes with its number."""
    run_group(ask_rows(base_url, served_name, manifest, rows, answers, settings))


def run_group(work: Coroutine[Any, Any, None]) -> None:
    """Unwraps the task group: the first failure is the one to report."""
    try:
        asyncio.run(work)
    except* TunegateError as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        failure = first
    else:
        return
    raise failure


@contextmanager
def show_progress(answers: Answers) -> Iterator[Progress]:
    """On stderr: a bar on a terminal, else how many rows are answered, every 30 s."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with (
        telling(lambda: f"{answers.count()} of {len(answers.ids)} rows are answered"),
        Progress(console=console) as progress,
    ):
        yield progress


async def ask_rows(
    base_url: str,
    served_name: str,
    manifest: Manifest,
    rows: Iterable[tuple[int, Row]],
    answers: Answers,
    settings: Evaluate,
) -> None:
    """As many workers as requests may be in flight share one iterator: a row is read when a place is free, and its
    answer is on disk before the next."""
    import httpx

    unasked = iter(rows)
    with show_progress(answers) as progress, answers.path.open("ab") as stream:
        bar = progress.add_task(f"evaluate {manifest.name}", total=len(answers.ids), completed=answers.count())
        async with httpx.AsyncClient() as client, asyncio.TaskGroup() as group:

            async def work() -> None:
                for number, row in unasked:
                    answer = await ask(
                        client, base_url, served_name, manifest, row, max_new_tokens=settings.max_new_tokens
                    )
                    answers.offsets[number] = stream.tell()
                    stream.write(write_line(number, row["id"], answer))
                    stream.flush()
                    progress.advance(bar)

            for _ in range(settings.concurrency):
                group.create_task(work())


def encoded(
    manifest: Manifest, release: Path, rows: Iterable[tuple[int, Row]], references: bool
) -> Iterator[tuple[int, Row]]:
    """Numbered rows with the tokens that they are asked by, BATCH_ROWS at a time."""
    numbered = iter(rows)
    while chunk := list(islice(numbered, BATCH_ROWS)):
        numbers, found = zip(*chunk, strict=True)
        yield from zip(numbers, with_tokens(manifest, release, list(found), references=references), strict=True)
