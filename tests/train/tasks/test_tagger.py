"""A word's tag stands at its first subword, however the tokenizer cuts the word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import RefusedError
from configs.release import Manifest
from infra.tokenizer import NO_SUBWORD, encode_words, with_tokens
from train.batches.collate import IGNORED
from train.model.heads import load_tagger
from train.tasks.tagger import encode_tags

pytestmark = pytest.mark.unit
LABELS = ["O", "B-PER", "I-PER"]
WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TAGGED = st.lists(st.tuples(WORD, st.sampled_from(LABELS)), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def wordpiece() -> Any:
    """BERT's way: lower case, no control characters, pieces after the first marked, and special tokens at both ends."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *"abcdefghijklmnopqrstuvwxyz-.",
        *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"),
        "acme",
        "##corp",
    ]
    tokenizer = Tokenizer(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


@given(TAGGED)
def test_every_word_with_tokens_has_one_learned_place_and_it_holds_its_tag(
    wordpiece: Any, pairs: list[tuple[str, str]]
) -> None:
    words, tags = [word for word, _ in pairs], [tag for _, tag in pairs]
    encoded = encode_tags(wordpiece, {"tokens": words, "tags": tags}, LABELS)
    ids, first = encode_words(wordpiece, words)
    assert encoded["input_ids"] == ids and len(encoded["labels"]) == len(ids) == len(encoded["attention_mask"])
    kept = [(index, tag) for index, tag in zip(first, tags, strict=True) if index != NO_SUBWORD]
    assert [LABELS[label] for label in encoded["labels"] if label != IGNORED] == [tag for _, tag in kept], (
        "in order, none lost, none twice"
    )
    assert all(encoded["labels"][index] == LABELS.index(tag) for index, tag in kept)
    assert encoded["labels"][0] == encoded["labels"][-1] == IGNORED, "special tokens are not learned"


@given(st.lists(WORD, min_size=1, max_size=8))
def test_the_first_subwords_rise_and_a_words_own_tokens_follow_it(wordpiece: Any, words: list[str]) -> None:
    ids, first = encode_words(wordpiece, words)
    there = [index for index in first if index != NO_SUBWORD]
    assert there == sorted(set(there)) and all(0 < index < len(ids) - 1 for index in there)
    for word, index in zip(words, first, strict=True):
        alone = wordpiece(word, add_special_tokens=False)["input_ids"]
        assert alone == ([] if index == NO_SUBWORD else ids[index : index + len(alone)])


def test_a_word_of_many_pieces_and_one_of_none(wordpiece: Any) -> None:
    ids, first = encode_words(wordpiece, ["Acmecorp", "\u200b\u0000", "x-y"])
    assert wordpiece.convert_ids_to_tokens(ids) == ["[CLS]", "acme", "##corp", "x", "-", "y", "[SEP]"]
    assert first == [1, NO_SUBWORD, 3]


def test_a_tokenizer_of_bytes_is_aligned_too(tokenizer: Any) -> None:
    words = ["good", "fílm", "x"]
    ids, first = encode_words(tokenizer, words)
    assert (
        first[0] == 0
        and [tokenizer.decode(ids[start:end]) for start, end in zip(first, [*first[1:], None], strict=True)] == words
    )


def manifest_of(task: str) -> Manifest:
    """As much of one as is read here."""
    fields: Any = {"task": task}
    return Manifest.model_construct(**fields)


def test_rows_to_ask_about_carry_the_tokens_that_training_made(wordpiece: Any, tmp_path: Path) -> None:
    wordpiece.save_pretrained(tmp_path)
    row = {"id": "1", "tokens": ["Acmecorp", "x"], "tags": ["B-PER", "O"]}
    (asked,) = with_tokens(manifest_of("token-classification"), tmp_path, [row])
    assert asked["input_ids"] == encode_tags(wordpiece, row, LABELS)["input_ids"] and asked["first_subwords"] == [1, 3]
    others = with_tokens(manifest_of("causal-lm"), tmp_path / "none", [{"prompt": "x"}])
    assert others == [{"prompt": "x"}], "others need no tokenizer"


def test_an_architecture_that_vllm_has_no_tagger_for_is_refused_before_training(
    tiny_gpt: Path, tiny_bert: Path
) -> None:
    with pytest.raises(RefusedError, match="found a LlamaForTokenClassification, expected one that vLLM serves"):
        load_tagger(tiny_gpt, LABELS)
    assert load_tagger(tiny_bert, LABELS).config.id2label == dict(enumerate(LABELS))
