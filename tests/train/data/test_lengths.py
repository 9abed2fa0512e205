"""What prepare counts is what training sees, token for token, without transformers and without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from configs.errors import InputError
from train.data import lengths
from train.data.lengths import make_measure
from train.tasks.sft import encode_chat

pytestmark = pytest.mark.unit
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save_pretrained(folder)
    return folder


def chat(*contents: str) -> list[dict[str, str]]:
    roles = ["system", *["user", "assistant"] * len(contents)]
    return [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=3, max_size=3) | st.lists(TEXT, min_size=5, max_size=5))
def test_a_conversation_is_as_long_as_training_will_have_it(base: Path, tokenizer: Any, contents: list[str]) -> None:
    messages = chat(*contents)
    encoded = encode_chat(tokenizer, messages)
    assert make_measure(base, "chat")([{"messages": messages}]) == (
        [len(encoded["input_ids"])],
        [encoded["labels"].count(-100)],
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXT, min_size=1, max_size=4), TEXT)
def test_the_other_shapes_are_as_long_as_the_tokenizer_makes_them(
    base: Path, tokenizer: Any, words: list[str], other: str
) -> None:
    text = " ".join(words)
    ids, answer = (len(tokenizer(part)["input_ids"]) for part in (text, other))
    assert make_measure(base, "label")([{"text": text}]) == ([ids], [0])
    assert make_measure(base, "text")([{"text": text}]) == ([ids + 1], [0])
    assert make_measure(base, "tags")([{"tokens": words}]) == (
        [len(tokenizer(words, is_split_into_words=True)["input_ids"])],
        [0],
    )
    assert make_measure(base, "completion")([{"prompt": text, "completion": other}]) == ([ids + answer + 1], [ids])


def test_the_longer_answer_of_a_pair_counts(base: Path, tokenizer: Any) -> None:
    messages = chat("s", "q", "short")
    long = [*messages[:-1], {"role": "assistant", "content": "a much longer answer"}]
    rows = [{"messages": messages, "rejected": long[-1]["content"]}, {"messages": long, "rejected": "short"}]
    assert make_measure(base, "preference")(rows)[0] == [len(encode_chat(tokenizer, long)["input_ids"])] * 2


def test_many_rows_are_measured_in_chunks_and_in_order(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lengths, "CHUNK", 3)
    rows = [{"text": "x" * number} for number in range(1, 9)]
    assert make_measure(base, "label")(rows)[0] == [make_measure(base, "label")([row])[0][0] for row in rows]


def test_what_a_tokenizer_file_says_of_truncation_and_padding_does_not_count(base: Path, tmp_path: Path) -> None:
    from tokenizers import Tokenizer

    stated = Tokenizer.from_file(str(base / "tokenizer.json"))
    stated.enable_truncation(4)
    stated.enable_padding(length=4)
    stated.save(str(tmp_path / "tokenizer.json"))
    rows = [{"text": "a"}, {"text": "a long film, and then some"}]
    assert make_measure(tmp_path, "label")(rows) == make_measure(base, "label")(rows)


def test_a_chat_template_of_the_old_place_with_all_that_templates_use(base: Path, tmp_path: Path) -> None:
    turn = "{% generation %}{{ m | tojson }}{% endgeneration %}{% if loop.last %}{% break %}{% endif %}"
    template = "{{ bos_token }}{% for m in messages %}" + turn + "{% endfor %}"
    settings_file = {"chat_template": template, "bos_token": {"content": "<|im_start|>"}}
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings_file))
    render = lengths.load_chat_template(tmp_path)
    assert render([{"role": "user", "content": "zwölf"}]) == '<|im_start|>{"role": "user", "content": "zwölf"}'


def test_a_base_without_tokenizer_or_chat_template_is_an_input_error(base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tokenizer\.json: missing"):
        make_measure(tmp_path, "label")
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    with pytest.raises(InputError, match="no chat template"):
        make_measure(tmp_path, "chat")


def test_a_template_that_refuses_a_conversation_says_so(base: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{{ raise_exception('no system turn here') }}")
    with pytest.raises(InputError, match="no system turn here"):
        make_measure(tmp_path, "chat")([{"messages": chat("s", "q", "a")}])


def test_neither_check_nor_prepare_of_rows_loads_torch() -> None:
    code = "import sys, train.check_data, train.prepare, tokenizers, datasketch, pyarrow.parquet, fsspec; "
    code += "print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
