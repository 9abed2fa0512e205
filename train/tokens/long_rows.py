"""Rows of more than data.max_tokens: left as they are (and then a fault), cut to pieces, or shortened at the left.

What is cut is the row's own text, so that serving is asked with the very tokens that training saw.
"""

from __future__ import annotations

from collections.abc import Iterator

from infra.tokenizer import Tokenizer
from train.sources.source import Row
from train.tokens.encode import Rules, Tokens, encode, length_of

Part = tuple[Row, Tokens]


def fit(tokenizer: Tokenizer, row: Row, tokens: Tokens, rules: Rules) -> list[Part]:
    """The row with its tokens, or what data.long makes of one that is too long. Raises TemplateFault."""
    if rules.long == "refuse" or length_of(tokens) <= rules.max_tokens:
        return [(row, tokens)]
    if rules.long == "chunk":
        return list(chunks(tokenizer, row, rules)) if rules.shape == "text" else [(row, tokens)]
    if "messages" in row:
        return [with_fewer_turns(tokenizer, row, tokens, rules)]
    name = "prompt" if "prompt" in row else "text"
    return [with_less_text(tokenizer, row, name, tokens, rules)] if name in row else [(row, tokens)]


def chunks(tokenizer: Tokenizer, row: Row, rules: Rules) -> Iterator[Part]:
    """Consecutive pieces of a text, as long as they may be; the end of text follows the last alone."""
    text, start, number = str(row["text"]), 0, 0
    while start < len(text):
        end = longest(tokenizer, text, start, rules.max_tokens)
        ids = tokenizer.ids(text[start:end]) + (tokenizer.text_end if end == len(text) else [])
        yield (
            row | {"id": f"{row['id']}#{number}", "text": text[start:end]},
            {"input_ids": ids, "loss_mask": [True] * len(ids)},
        )
        start, number = end, number + 1


def longest(tokenizer: Tokenizer, text: str, start: int, room: int) -> int:
    """How far from `start` a piece of at most `room` tokens goes, in characters; at least one."""
    piece = text[start : start + 16 * room]  # a token is seldom longer
    offsets = tokenizer.fast.encode(piece, add_special_tokens=False).offsets
    count = min(len(offsets), room - len(tokenizer.ids("")) - len(tokenizer.text_end))
    while count > 1:
        end = len(piece) if count == len(offsets) else offsets[count - 1][1]
        rest = tokenizer.text_end if start + end == len(text) else []
        if len(tokenizer.ids(piece[:end])) + len(rest) <= room:
            return start + max(1, end)
        count -= 1
    return start + 1


def with_less_text(tokenizer: Tokenizer, row: Row, name: str, tokens: Tokens, rules: Rules) -> Part:
    """The end of a text or prompt, so much of it that the row fits; the row as it was where its answer alone does
    not."""
    text, over = str(row[name]), length_of(tokens) - rules.max_tokens
    offsets = tokenizer.fast.encode(text, add_special_tokens=False).offsets
    while over < len(offsets):
        shorter = row | {name: text[offsets[over][0] :]}
        found = encode(tokenizer, rules, shorter)
        if length_of(found) <= rules.max_tokens:
            return shorter, found
        over += 1
    return row, tokens


def with_fewer_turns(tokenizer: Tokenizer, row: Row, tokens: Tokens, rules: Rules) -> Part:
    """Without the oldest turns but the system's, from one user's turn to the next; the row as it was where the last
    question alone is too long."""
    messages = row["messages"]
    head = [turn for turn in messages[:1] if turn["role"] in ("system", "developer")]
    starts = [index for index, turn in enumerate(messages) if turn["role"] == "user" and index > len(head)]
    for start in starts:
        shorter = row | {"messages": [*head, *messages[start:]]}
        found = encode(tokenizer, rules, shorter)
        if length_of(found) <= rules.max_tokens:
            return shorter, found
    return row, tokens
