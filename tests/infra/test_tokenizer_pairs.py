"""A pair of texts is one text whose tokens are those that the tokenizer itself makes of two."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from configs.release import Manifest
from infra.tokenizer import read_tokenizer, with_tokens

pytestmark = pytest.mark.unit


def write_tokenizer(folder: Path, special: list[str], single: str, pair: str) -> Tokenizer:
    """A tokenizer of words whose own marks stand as its template says."""
    vocabulary = {word: index for index, word in enumerate(["?", *special, "a", "b", "film", "good"])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    marks = [(token, vocabulary[token]) for token in special]
    made.post_processor = processors.TemplateProcessing(single, pair, marks)
    made.save(str(folder / "tokenizer.json"))
    return made


@pytest.mark.parametrize(
    ("special", "single", "pair", "separator"),
    [
        (["[CLS]", "[SEP]"], "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", "[SEP]"),
        (["<s>", "</s>"], "<s> $A </s>", "<s> $A </s> </s> $B </s>", "</s></s>"),
        (["<s>"], "<s> $A", "<s> $A $B", "\n"),
    ],
)
def test_two_texts_are_joined_by_what_the_tokenizer_puts_between_them(
    tmp_path: Path, special: list[str], single: str, pair: str, separator: str
) -> None:
    fast, tokenizer = write_tokenizer(tmp_path, special, single, pair), read_tokenizer(tmp_path)
    assert tokenizer.pair_separator == separator
    row = {"text": "good film", "text_pair": "a film", "label": "x"}
    text = tokenizer.classified_text(row)
    assert text == f"good film{separator}a film"
    assert tokenizer.ids(text) == fast.encode("good film", "a film").ids
    assert set(fast.encode(text).type_ids) == {0}, "one segment: vLLM's /classify knows no other"
    manifest = Manifest.model_construct(task="sequence-classification")  # type: ignore[call-arg]
    (asked,) = with_tokens(manifest, tmp_path, [row])
    assert asked["text"] == text and asked["text_pair"] is None
    alone, after = with_tokens(manifest, tmp_path, [{"text": "film"}, row])
    assert (alone["text"], after["text"]) == ("film", text), "whichever comes first"


def test_a_row_of_one_text_is_that_text(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, ["<s>"], "<s> $A", "<s> $A $B")
    for row in ({"text": "good film"}, {"text": "good film", "text_pair": None}):
        assert read_tokenizer(tmp_path).classified_text(row) == "good film"
