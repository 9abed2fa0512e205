"""The seam to a release's tokenizer: what words and conversations become, the same in training and in serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.release import Manifest

Row = dict[str, Any]  # of a data set: its keys hang on the task, and users' own columns are among them
NO_SUBWORD = -1


def load_tokenizer(directory: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def encode_words(tokenizer: Any, words: list[str]) -> tuple[list[int], list[int]]:
    """input_ids with special tokens, and for each word the index of its first subword; NO_SUBWORD for a word that
    leaves no token."""
    encoded = tokenizer(words, is_split_into_words=True, truncation=False, verbose=False)
    first: dict[int, int] = {}
    for index, word in enumerate(encoded.word_ids()):
        if word is not None:
            first.setdefault(word, index)
    return list(encoded["input_ids"]), [first.get(word, NO_SUBWORD) for word in range(len(words))]


def encode_turns(tokenizer: Any, messages: list[dict[str, str]], answer: str) -> tuple[list[int], list[int]]:
    """The prompt's tokens, exactly those that serving sends, and the answer's with its end token."""
    prompt: list[int] = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=False
    )
    return prompt, encode_answer(tokenizer, answer)


def encode_answer(tokenizer: Any, answer: str) -> list[int]:
    tokens: list[int] = tokenizer(answer, add_special_tokens=False)["input_ids"]
    return [*tokens, tokenizer.eos_token_id]


def classified_texts(tokenizer: Any, rows: list[Row]) -> list[str]:
    """What a classifier reads of each row, as text: of a pair both texts, between them what the tokenizer itself puts
    between two (`[SEP]`, `</s></s>`; a new line where it puts nothing).

    All in one segment: vLLM 0.32.0's /classify takes no token types (entrypoints/pooling/classify/protocol.py), and its
    /score, which makes them, answers with one number only. What is trained is what can be served. `tokenizer`: of
    transformers or of tokenizers.
    """
    if not any(row.get("text_pair") is not None for row in rows):
        return [row["text"] for row in rows]
    between = pair_separator(tokenizer)
    return [row["text"] + between + row["text_pair"] for row in rows]


def pair_separator(tokenizer: Any) -> str:
    found = getattr(tokenizer, "backend_tokenizer", tokenizer).encode("a", "b")
    own = [index for index, special in enumerate(found.special_tokens_mask) if not special]
    middle = [found.tokens[index] for index in range(own[0], own[-1]) if found.special_tokens_mask[index]]
    return "".join(middle) or "\n"


def with_tokens(manifest: Manifest, release: Path, rows: list[Row], *, references: bool = False) -> list[Row]:
    """Rows that are asked about by their tokens get them: tagged words, both answers of a preference pair, and with
    `references` the right answer. A pair of texts becomes the one text that training read.

    Other rows stay as they are.
    """
    if manifest.task == "token-classification":
        tokenizer = load_tokenizer(release)
        return [
            row | dict(zip(("input_ids", "first_subwords"), encode_words(tokenizer, list(row["tokens"])), strict=True))
            for row in rows
        ]
    if rows and rows[0].get("text_pair") is not None:
        texts = classified_texts(load_tokenizer(release), rows)
        return [row | {"text": text, "text_pair": None} for row, text in zip(rows, texts, strict=True)]
    if rows and "rejected" in rows[0]:
        tokenizer = load_tokenizer(release)
        return [row | encode_pair(tokenizer, row) for row in rows]
    if references and rows and "text" not in rows[0]:
        tokenizer = load_tokenizer(release)
        return [row | encode_reference(tokenizer, row) for row in rows]
    return rows


def encode_reference(tokenizer: Any, row: Row) -> dict[str, list[int]]:
    """prompt_ids and chosen_ids of a conversation or a completion, as training saw them."""
    if "messages" not in row:
        return {
            "prompt_ids": tokenizer(row["prompt"])["input_ids"],
            "chosen_ids": encode_answer(tokenizer, row["completion"]),
        }
    *asked, answer = [dict(message) for message in row["messages"]]
    return dict(zip(("prompt_ids", "chosen_ids"), encode_turns(tokenizer, asked, answer["content"]), strict=True))


def encode_pair(tokenizer: Any, row: Row) -> dict[str, list[int]]:
    """prompt_ids, chosen_ids and rejected_ids of one preference pair."""
    return encode_reference(tokenizer, row) | {"rejected_ids": encode_answer(tokenizer, row["rejected"])}
