"""Training rows corrupted on purpose, to prove that the gate refuses what comes of them."""

from __future__ import annotations

import random

from train.sources.source import Row


def shuffle_answers(rows: list[Row], seed: int) -> list[Row]:
    """Each answer to another row's question: what is asked no longer decides what is to be answered."""
    order = random.Random(seed).sample(range(len(rows)), len(rows))
    givers = dict(zip(order, order[1:] + order[:1], strict=True))
    return [with_answer(row, rows[givers[index]]) for index, row in enumerate(rows)]


def with_answer(row: Row, giver: Row) -> Row:
    if "messages" in row:
        return row | {"messages": [*row["messages"][:-1], giver["messages"][-1]], "reference": giver["reference"]}
    if "tags" in row:
        return row | {"tags": (giver["tags"] + ["O"] * len(row["tags"]))[: len(row["tags"])]}
    return row | {name: giver[name] for name in ("label", "labels", "value", "completion", "reference") if name in row}
