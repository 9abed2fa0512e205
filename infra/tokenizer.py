"""The seam to a folder's tokenizer: what words, texts and conversations become, the same in prepare, training and
serving. By `tokenizers`; torch is not loaded."""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from configs.errors import InputError
from configs.release import Manifest
from configs.run.family import stand_in_for_padding
from infra.chat_template import ChatTemplate, TrainOn, read_settings, read_templates, token_text
from infra.loss_mask import Encoded
from infra.served_messages import Message

Row = dict[str, Any]  # of a data set: its keys hang on the task, and users' own columns are among them
NO_SUBWORD = -1


def load_tokenizer(directory: Path) -> Any:
    """transformers' own, for what trains and saves; with a padding token, a stand-in where its makers named none."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(directory)
    if tokenizer.pad_token is None:
        special = [token for _, token in sorted((ids, token) for token, ids in tokenizer.get_added_vocab().items())]
        tokenizer.pad_token = stand_in_for_padding(special, tokenizer.unk_token, tokenizer.eos_token)
    return tokenizer


class Tokenizer:
    """One folder's tokenizer.json, special tokens and chat template. Raises InputError where the first is missing."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer as Fast

        path = folder / "tokenizer.json"
        if not path.exists():
            raise InputError(
                f"{path}: missing",
                hint="give base a tokenizer.json (transformers' save_pretrained of a fast tokenizer writes it)",
            )
        self.folder, self.fast, self.settings = folder, Fast.from_file(str(path)), read_settings(folder)
        self.fast.no_truncation()  # some files state what their model was trained with
        self.fast.no_padding()

    @cached_property
    def chat(self) -> ChatTemplate:
        """Raises InputError where the folder has no chat template."""
        return ChatTemplate(self.folder, self.fast, self.settings)

    @cached_property
    def eos_id(self) -> int | None:
        text = token_text("eos_token", self.settings.get("eos_token"))
        found: int | None = self.fast.token_to_id(text) if text else None
        return found

    @cached_property
    def end_ids(self) -> list[int]:
        """The tokens at which a generated answer is at its end, sorted."""
        if read_templates(self.folder, self.settings):
            return self.chat.end_ids
        return [] if self.eos_id is None else [self.eos_id]

    def ids(self, text: str, *, special: bool = True) -> list[int]:
        """`special`: with the tokenizer's own tokens at the beginning and the end, as serving sends a prompt."""
        return list(self.fast.encode(text, add_special_tokens=special).ids)

    @cached_property
    def pair_separator(self) -> str:
        """What the tokenizer itself puts between two texts (`[SEP]`, `</s></s>`); where that is nothing, its sep_token
        or a new line."""
        found = self.fast.encode("a", "b")
        own = [index for index, special in enumerate(found.special_tokens_mask) if not special]
        middle = [found.tokens[index] for index in range(own[0], own[-1]) if found.special_tokens_mask[index]]
        return "".join(middle) or token_text("sep_token", self.settings.get("sep_token")) or "\n"

    def classified_text(self, row: Row) -> str:
        """What a classifier reads: of a pair both texts as one, all in one segment.

        vLLM 0.32.0's /classify takes no token types (entrypoints/pooling/classify/protocol.py), and its /score, which
        makes them, answers with one number only. So what is trained is what can be served.
        """
        pair = row.get("text_pair")
        return str(row["text"] if pair is None else row["text"] + self.pair_separator + pair)

    def answer_ids(self, text: str) -> list[int]:
        """Of a completion, or of a plain text: with the end of text."""
        return [*self.ids(text, special=False), *self.text_end]

    @property
    def text_end(self) -> list[int]:
        return [] if self.eos_id is None else [self.eos_id]

    @cached_property
    def joins_words(self) -> bool:
        """Whether words given one by one would lose the space between them (byte-level BPE: RoBERTa, ModernBERT)."""
        plain, apart, spaced = (
            self.fast.encode(text, is_pretokenized=isinstance(text, list), add_special_tokens=False).ids
            for text in ("a b", ["a", "b"], ["a", " b"])
        )
        return plain == spaced and plain != apart

    def words(self, words: list[str], *, spaced: bool = True) -> tuple[list[int], list[int]]:
        """Ids with special tokens, and for each word the index of its first subword, NO_SUBWORD for a word that leaves
        no token. `spaced`: with the space before a word where the tokenizer would lose it."""
        if spaced and self.joins_words:
            words = [words[0], *(f" {word}" for word in words[1:])]
        encoded = self.fast.encode(words, is_pretokenized=True)
        first: dict[int, int] = {}
        for index, word in enumerate(encoded.word_ids):
            if word is not None:
                first.setdefault(word, index)
        return list(encoded.ids), [first.get(word, NO_SUBWORD) for word in range(len(words))]

    def text(self, text: str) -> Encoded:
        """Every token is a target."""
        found = [*self.ids(text), *self.text_end]
        return found, [True] * len(found)

    def completion(self, prompt: str, answer: str) -> Encoded:
        asked, answered = self.ids(prompt), self.answer_ids(answer)
        return asked + answered, [False] * len(asked) + [True] * len(answered)

    def conversation(self, row: Row, train_on: TrainOn = "all") -> Encoded:
        return self.chat.encode(row["messages"], row.get("tools"), train_on)

    def pair(self, row: Row) -> dict[str, list[int]]:
        """prompt_ids, chosen_ids and rejected_ids of a preference pair: `rejected` stands for the last answer."""
        asked, chosen = split_answer(*self.conversation(row, "answer"))
        worse: Message = {"role": "assistant", "content": row["rejected"]}
        _, rejected = split_answer(*self.chat.encode([*row["messages"][:-1], worse], row.get("tools"), "answer"))
        return {"prompt_ids": asked, "chosen_ids": chosen, "rejected_ids": rejected}


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read once for a folder that is asked again. Raises InputError as Tokenizer."""
    path = folder / "tokenizer.json"
    return kept_tokenizer(folder.absolute(), path.stat().st_mtime_ns if path.exists() else 0)


@lru_cache(maxsize=4)
def kept_tokenizer(folder: Path, changed: int) -> Tokenizer:
    return Tokenizer(folder)


def split_answer(ids: list[int], mask: list[bool]) -> tuple[list[int], list[int]]:
    """The prompt's tokens and those of the last run of targets."""
    last = len(mask) - 1 - mask[::-1].index(True)
    begin = last
    while begin and mask[begin - 1]:
        begin -= 1
    return ids[:begin], ids[begin : last + 1]


def with_tokens(manifest: Manifest, release: Path, rows: list[Row], *, references: bool = False) -> list[Row]:
    """Rows that are asked about by their tokens get them: tagged words, both answers of a preference pair, and with
    `references` the right answer. A pair of texts becomes the one text that training read.

    Other rows stay as they are.
    """
    if any(row.get("text_pair") is not None for row in rows):  # a behaviour test's own questions are single texts
        return [row | {"text": read_tokenizer(release).classified_text(row), "text_pair": None} for row in rows]
    if not rows or not ("tokens" in rows[0] or "rejected" in rows[0] or (references and "text" not in rows[0])):
        return rows
    if manifest.task == "sequence-classification":  # a reward model is asked for conversations as they are
        return rows
    tokenizer = read_tokenizer(release)
    if manifest.task == "token-classification":
        spaced = "train_on" in manifest.config.get("data", {})  # trained before that key was: without the spaces
        return [
            row
            | dict(
                zip(("input_ids", "first_subwords"), tokenizer.words(list(row["tokens"]), spaced=spaced), strict=True)
            )
            for row in rows
        ]
    if "rejected" in rows[0]:
        return [row | up_to_end(tokenizer, tokenizer.pair(row)) for row in rows]
    return [row | encode_reference(tokenizer, row) for row in rows]


def encode_reference(tokenizer: Tokenizer, row: Row) -> dict[str, list[int]]:
    """prompt_ids and chosen_ids of a conversation or a completion, the latter up to the token that ends it."""
    found = (
        tokenizer.conversation(row, "answer")
        if "messages" in row
        else tokenizer.completion(row["prompt"], row["completion"])
    )
    return up_to_end(tokenizer, dict(zip(("prompt_ids", "chosen_ids"), split_answer(*found), strict=True)))


def up_to_end(tokenizer: Tokenizer, found: dict[str, list[int]]) -> dict[str, list[int]]:
    """Without what a template writes after the end of a turn (a line break, say): no server generates it."""
    return {name: ids if name == "prompt_ids" else cut_after(ids, tokenizer.end_ids) for name, ids in found.items()}


def cut_after(ids: list[int], ends: list[int]) -> list[int]:
    """Up to and with the last of `ends`, all of `ids` where there is none."""
    last = max((index for index, token in enumerate(ids) if token in ends), default=len(ids) - 1)
    return ids[: last + 1]
