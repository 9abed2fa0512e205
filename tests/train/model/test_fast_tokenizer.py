"""One way to read text: what rows are tokenized by is what transformers, and so vLLM, makes of the folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from configs.errors import InputError
from infra.tokenizer import Tokenizer, load_tokenizer
from tests.support.tiny_families import BERT, LLAMA3, ROBERTA, TinyTokenizer, make_tokenizer
from train.model.fast_tokenizer import settle_tokenizer

pytestmark = pytest.mark.unit
TEXT = " Two  words, Ünïcode"


def saved(folder: Path, tokenizer: TinyTokenizer, model_type: str, **settings: object) -> Path:
    make_tokenizer(tokenizer).save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    said = json.loads((folder / "tokenizer_config.json").read_text()) | settings
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize(
    ("tokenizer", "model_type", "named"),
    [
        (LLAMA3, "llama", "LlamaTokenizerFast"),  # as DeepSeek's distilled Llamas say
        (LLAMA3, "llama", "LlamaTokenizer"),
        (BERT, "bert", "BertTokenizer"),
        (ROBERTA, "roberta", "RobertaTokenizerFast"),
        (LLAMA3, "llama", "PreTrainedTokenizerFast"),
    ],
)
def test_transformers_reads_text_as_the_file_does(
    tmp_path: Path, tokenizer: TinyTokenizer, model_type: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Tokenizer(saved(tmp_path, tokenizer, model_type, tokenizer_class=named)).ids(TEXT)
    unsettled = load_tokenizer(tmp_path)(TEXT)["input_ids"]
    settle_tokenizer(tmp_path)
    assert load_tokenizer(tmp_path)(TEXT)["input_ids"] == before == Tokenizer(tmp_path).ids(TEXT)
    told = "reads text otherwise than its tokenizer.json" in capsys.readouterr().err
    assert told == (unsettled != before)


def test_some_class_does_read_text_otherwise(tmp_path: Path) -> None:
    """Else the test above shows nothing."""
    folder = saved(tmp_path, LLAMA3, "llama", tokenizer_class="LlamaTokenizerFast")
    assert load_tokenizer(folder)(TEXT)["input_ids"] != Tokenizer(folder).ids(TEXT)


def test_a_tokenizer_that_is_slow_only_gets_a_fast_form(tmp_path: Path) -> None:
    """A BERT of old: vocab.txt and no tokenizer.json."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood\nbad\n")
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    settle_tokenizer(tmp_path)
    assert Tokenizer(tmp_path).ids("good") == [2, 5, 3]


@pytest.mark.parametrize(
    ("files", "model_type"), [({"spiece.model": b"none"}, "albert"), ({"tokenizer.json": b"{}"}, "bert")]
)
def test_a_tokenizer_that_no_library_reads_is_said(tmp_path: Path, files: dict[str, bytes], model_type: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    with pytest.raises(InputError, match="a tokenizer that transformers cannot load"):
        settle_tokenizer(tmp_path)
