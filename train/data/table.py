"""What is remembered of every row, in columns: hashes, lengths, where it was read."""

from __future__ import annotations

from collections import Counter
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from configs.rows.tags import TagScheme
from train.rows.shape import Shape, answer_of, question_of
from train.sources.source import Row, compact

if TYPE_CHECKING:
    from numpy.typing import NDArray


# Hashes of 64 bits: among 5 million rows two differing ones meet with a chance of one in a million.
COLUMNS = {
    "file": "int32", "number": "int32", "part": "int8", "identity": "uint64", "question": "uint64", "answer": "uint64",
    "length": "int32", "prompt_length": "int32", "group": "uint64", "time": "float64",
}  # fmt: skip


class RowTable:
    """Arrays of one length, a row each that could be read; 66 bytes a row. `kept` says which rows are still in, `tags`
    in which scheme they were tagged, `pairs` whether each has a second text."""

    def __init__(
        self,
        columns: dict[str, NDArray[Any]],
        files: list[str],
        shape: Shape,
        left_out: Counter[str],
        tags: TagScheme | None = None,
        pairs: bool = False,
    ) -> None:
        import numpy

        self.file, self.number, self.part = columns["file"], columns["number"], columns["part"]
        self.identity, self.question, self.answer = columns["identity"], columns["question"], columns["answer"]
        self.length, self.prompt_length = columns["length"], columns["prompt_length"]
        self.group, self.time = columns["group"], columns["time"]
        self.kept = numpy.ones(len(self.file), dtype=bool)
        self.files, self.shape, self.left_out = files, shape, left_out
        self.tags, self.pairs = tags, pairs
        self.unread = left_out.total()  # rows that are in none of the arrays

    @property
    def rows_read(self) -> int:
        return len(self.kept) + self.unread

    def where(self, row: int) -> tuple[str, int]:
        return self.files[self.file[row]], int(self.number[row])

    def location(self, row: int) -> str:
        return "{}:{}".format(*self.where(row))

    def rows_where(self, condition: NDArray[Any]) -> NDArray[Any]:
        import numpy

        return numpy.flatnonzero(condition)

    def leave_out(self, rows: NDArray[Any] | list[int], kind: str) -> None:
        """Each row is counted once, by the first reason for which it went."""
        self.left_out[kind] += int(self.kept[rows].sum())
        self.kept[rows] = False


def hash_text(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def hashes_of(row: Row) -> dict[str, int]:
    """What tells rows apart. Rows with one `question` and another `answer` contradict each other, those with both the
    same are one row twice.

    A preference pair's question is its prompt with both answers in whichever order, so that several rejected answers to
    one prompt are different rows, and a pair turned round contradicts.
    Where an answer is said to be desirable or not, it is part of the question.
    """
    asked, answered = hash_text(question_of(row)), hash_text(answer_of(row))
    if "rejected" in row:
        rejected = row["rejected"] if isinstance(row["rejected"], str) else compact(row["rejected"])
        asked = hash_text(f"{asked} {sorted((answered, hash_text(rejected)))}")
    if "desirable" in row:
        asked, answered = hash_text(f"{asked} {answered}"), int(row["desirable"])
    return {"identity": hash_text(row["id"]), "question": asked, "answer": answered}


def group_of(row: Row) -> int:
    """Rows of one group lie in one split: preferences about one prompt. 0: a row for itself."""
    return hash_text(question_of(row)) if "rejected" in row or "desirable" in row else 0
