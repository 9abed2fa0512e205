"""The token columns of one row, by its shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from configs.run.config import RunConfig
from infra.chat_template import TrainOn
from infra.tokenizer import Tokenizer, split_answer
from train.rows.shape import Shape
from train.sources.source import Row

VERSION = 2  # of what is made of a row: another makes every data directory anew
Tokens = dict[str, list[int] | list[bool]]  # a column's part of one row


class Rules(NamedTuple):
    """What decides the tokens of a row, beside the row."""

    folder: Path
    shape: Shape
    train_on: TrainOn
    long: str
    max_tokens: int


def rules_of(config: RunConfig, folder: Path) -> Callable[[Shape], Rules]:
    """By the row's shape. What answers are rewarded for is the last turn, whatever is learnt elsewhere."""
    data = config.data
    train_on: TrainOn = "answer" if config.task == "grpo" else data.train_on
    return lambda shape: Rules(folder, shape, train_on, data.long, data.max_tokens)


def encode(tokenizer: Tokenizer, rules: Rules, row: Row) -> Tokens:
    """The token columns of one row but `length`."""
    shape = rules.shape
    if shape == "preference":
        return {**tokenizer.pair(row)}
    if shape == "unpaired":
        asked, answered = split_answer(*tokenizer.conversation(row, "answer"))
        return {"prompt_ids": asked, "chosen_ids": answered}
    if shape == "tags":
        ids, first = tokenizer.words(row["tokens"])
        return {"input_ids": ids, "first_subwords": first}
    if shape in ("label", "labels", "value"):
        return {"input_ids": tokenizer.ids(tokenizer.classified_text(row))}
    if shape == "chat":
        ids, mask = tokenizer.conversation(row, rules.train_on)
    elif shape == "completion":
        ids, mask = tokenizer.completion(row["prompt"], row["completion"])
    else:
        ids, mask = tokenizer.text(row["text"])
    return {"input_ids": ids, "loss_mask": mask}


def length_of(tokens: Tokens) -> int:
    """Of a pair its prompt and the longer answer."""
    if "prompt_ids" in tokens:
        return len(tokens["prompt_ids"]) + max(len(tokens["chosen_ids"]), len(tokens.get("rejected_ids", [])))
    return len(tokens["input_ids"])


def prompt_length(tokens: Tokens) -> int:
    """Tokens before the first that is a target; 0 where a row has no loss mask."""
    if "prompt_ids" in tokens:
        return len(tokens["prompt_ids"])
    mask = tokens.get("loss_mask", [True])
    return mask.index(True) if True in mask else len(mask)
