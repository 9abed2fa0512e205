"""Tiny random models of both families, made once and kept inside a working directory of the test's own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.run.config import RunConfig

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer() -> Any:
    """Byte-level, so that every text has tokens; ChatML turns."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["user assistant system good bad film"], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=CHAT_TEMPLATE
    )


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="session")
def tiny_gpt(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    ends: Any = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.pad_token_id,
    }
    shape: Any = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
    }
    model: Any = LlamaForCausalLM(
        LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=256, tie_word_embeddings=True, **shape, **ends)
    )
    target = tmp_path_factory.mktemp("weights") / "tiny-gpt"
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    shape: Any = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertModel(
        BertConfig(vocab_size=len(tokenizer), max_position_embeddings=256, pad_token_id=tokenizer.pad_token_id, **shape)
    )
    target = tmp_path_factory.mktemp("weights") / "tiny-bert"
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that stands for the checkout: build/ and base.path are below it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf8")


@pytest.fixture
def classifier(checkout: Path, tiny_bert: Path) -> Callable[..., RunConfig]:
    """A run over 40 labelled lines whose label a model can learn from one word."""
    shutil.copytree(tiny_bert, checkout / "tiny-bert")
    words = {"good": ("good", "fine"), "bad": ("bad", "poor")}
    write_lines(
        checkout / "rows.jsonl",
        [{"text": f"{words[label][index % 2]} film {index}", "label": label} for index in range(20) for label in words],
    )
    return lambda **changes: make_config("tiny-classifier", "sequence-classification", "tiny-bert", changes)


@pytest.fixture
def chat(checkout: Path, tiny_gpt: Path) -> Callable[..., RunConfig]:
    """A run over 40 one-turn conversations."""
    shutil.copytree(tiny_gpt, checkout / "tiny-gpt")
    turns = [
        [{"role": "user", "content": f"film {index}"}, {"role": "assistant", "content": f"good {index}"}]
        for index in range(40)
    ]
    write_lines(checkout / "rows.jsonl", [{"messages": messages} for messages in turns])
    return lambda **changes: make_config("tiny-chat", "causal-lm", "tiny-gpt", changes)


def make_config(name: str, task: str, base: str, changes: dict[str, Any]) -> RunConfig:
    """`changes` maps a section to the keys that differ."""
    sections: dict[str, Any] = {
        "name": name,
        "task": task,
        "base": {"path": base},
        "data": {"source": "files", "files": ["rows.jsonl"], "validation_rows": 6, "test_rows": 10},
        "train": {
            "max_steps": 4,
            "batch_size": 4,
            "eval_every_steps": 2,
            "learning_rate": 0.01,
            "lora": {"rank": 4, "alpha": 8},
        },
        "evaluate": {"max_new_tokens": 4, "parity": {"golden_prompts": 3}},
        "gate": "gate.yaml",
    }
    for key, value in changes.items():
        sections[key] = sections[key] | value if isinstance(sections.get(key), dict) else value
    return RunConfig.model_validate(sections)


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    """The tiny models gain nothing from more, and the suite shares its cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "2")
