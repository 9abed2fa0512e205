"""A word's tag stands at its first subword, however the tokenizer cuts the word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.errors import RefusedError
from configs.release import Manifest
from configs.run.config import RunConfig
from infra.tokenizer import NO_SUBWORD, Tokenizer, with_tokens
from tests.support.prepared_rows import of_kind
from train.batches.collate import IGNORED, tag_targets
from train.model.heads import new_model

pytestmark = pytest.mark.unit
LABELS = ["O", "B-PER", "I-PER"]
WORD = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
TAGGED = st.lists(st.tuples(WORD, st.sampled_from(LABELS)), min_size=1, max_size=12)


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """BERT's way: lower case, no control characters, pieces after the first marked, and special tokens at both ends."""
    from tokenizers import Tokenizer as Fast
    from tokenizers import models, normalizers, pre_tokenizers, processors
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
    tokenizer = Fast(models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder = tmp_path_factory.mktemp("wordpiece")
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    return Tokenizer(folder)


@given(TAGGED)
def test_every_word_with_tokens_has_one_learned_place_and_it_holds_its_tag(
    wordpiece: Tokenizer, pairs: list[tuple[str, str]]
) -> None:
    words, tags = [word for word, _ in pairs], [tag for _, tag in pairs]
    ids, first = wordpiece.words(words)
    targets = tag_targets({"input_ids": ids, "first_subwords": first, "tags": tags}, LABELS)
    assert len(targets) == len(ids)
    kept = [(index, tag) for index, tag in zip(first, tags, strict=True) if index != NO_SUBWORD]
    assert [LABELS[label] for label in targets if label != IGNORED] == [tag for _, tag in kept], (
        "in order, none lost, none twice"
    )
    assert all(targets[index] == LABELS.index(tag) for index, tag in kept)
    assert targets[0] == targets[-1] == IGNORED, "special tokens are not learned"


@given(st.lists(WORD, min_size=1, max_size=8))
def test_the_first_subwords_rise_and_a_words_own_tokens_follow_it(wordpiece: Tokenizer, words: list[str]) -> None:
    ids, first = wordpiece.words(words)
    there = [index for index in first if index != NO_SUBWORD]
    assert there == sorted(set(there)) and all(0 < index < len(ids) - 1 for index in there)
    for word, index in zip(words, first, strict=True):
        alone = wordpiece.ids(word, special=False)
        assert alone == ([] if index == NO_SUBWORD else ids[index : index + len(alone)])


def test_a_word_of_many_pieces_and_one_of_none(wordpiece: Tokenizer) -> None:
    ids, first = wordpiece.words(["Acmecorp", "\u200b\u0000", "x-y"])
    assert [wordpiece.fast.id_to_token(token) for token in ids] == ["[CLS]", "acme", "##corp", "x", "-", "y", "[SEP]"]
    assert first == [1, NO_SUBWORD, 3]


def test_a_tokenizer_of_bytes_is_aligned_too_and_keeps_the_space_before_a_word(tokenizer: Any, tmp_path: Path) -> None:
    """RoBERTa and ModernBERT: words given one by one would lose it, and with it the tokens that they learnt."""
    tokenizer.save_pretrained(tmp_path)
    words, ours = ["good", "fílm", "x"], Tokenizer(tmp_path)
    ids, first = ours.words(words)
    assert ids == ours.ids("good fílm x"), "as in a sentence"
    found = [ours.fast.decode(ids[start:end]) for start, end in zip(first, [*first[1:], None], strict=True)]
    assert first[0] == 0 and [one.strip() for one in found] == words
    before, _ = ours.words(words, spaced=False)
    assert ours.fast.decode(before) == "goodfílmx", "as an earlier version trained"


def manifest_of(task: str) -> Manifest:
    """As much of one as is read here."""
    fields: Any = {"task": task, "config": {}}
    return Manifest.model_construct(**fields)


def test_rows_to_ask_about_carry_the_tokens_that_training_made(wordpiece: Tokenizer, tmp_path: Path) -> None:
    row = {"id": "1", "tokens": ["Acmecorp", "x"], "tags": ["B-PER", "O"]}
    (asked,) = with_tokens(manifest_of("token-classification"), wordpiece.folder, [row])
    assert asked["input_ids"] == wordpiece.words(["Acmecorp", "x"])[0] and asked["first_subwords"] == [1, 3]
    others = with_tokens(manifest_of("causal-lm"), tmp_path / "none", [{"prompt": "x"}])
    assert others == [{"prompt": "x"}], "others need no tokenizer"


def test_an_architecture_that_vllm_has_no_tagger_for_is_refused_before_training(
    tiny_gpt: Path, classifier: Callable[..., RunConfig]
) -> None:
    config = of_kind(classifier(), "tags")
    with pytest.raises(RefusedError, match=r"vLLM 0\.32\.0 serves for token-classification"):
        new_model(config, tiny_gpt, LABELS)
    assert new_model(config, Path("tiny-bert"), LABELS).config.id2label == dict(enumerate(LABELS))
